//! A growing array in blocks: no element moves once there are many, and at most one block is partly unused.

use std::ops::{Index, IndexMut};

/// A growing array in blocks of `N` elements.
#[derive(Debug)]
pub(crate) struct Chunks<T, const N: usize> {
    blocks: Vec<Vec<T>>,
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Self {
        Chunks { blocks: Vec::new() }
    }
}

impl<T, const N: usize> Chunks<T, N> {
    /// Appends; the first block grows by doubling, so that a short array stays small.
    ///
    /// # Panics
    /// At 2³² − 1 elements, which is no index any more.
    pub(crate) fn push(&mut self, element: T) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == N) {
            let room = if self.blocks.is_empty() { 0 } else { N };
            self.blocks.push(Vec::with_capacity(room));
        }
        let before = (self.blocks.len() - 1) * N;
        let block = self.blocks.last_mut().expect("one was just made if there was none");
        if block.len() == block.capacity() {
            block.reserve_exact(block.len().max(2).min(N - block.len()));
        }
        block.push(element);
        let index = u32::try_from(before + block.len() - 1).expect("an index has 32 bits");
        assert!(index != u32::MAX, "the last index means none");
        index
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.blocks.get(index as usize / N)?.get(index as usize % N)
    }

    /// All elements, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }

    /// Takes all elements, in order.
    pub(crate) fn into_elements(self) -> impl Iterator<Item = T> {
        self.blocks.into_iter().flatten()
    }
}

impl<T, const N: usize> Index<u32> for Chunks<T, N> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        &self.blocks[index as usize / N][index as usize % N]
    }
}

impl<T, const N: usize> IndexMut<u32> for Chunks<T, N> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.blocks[index as usize / N][index as usize % N]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_index_over_blocks() {
        let mut chunks: Chunks<u32, 8> = Chunks::default();
        for n in 0..100 {
            assert_eq!(chunks.push(n * 3), n);
        }
        assert!((0..100).all(|n| chunks[n] == n * 3));
        assert_eq!(chunks.get(100), None);
        assert_eq!(chunks.iter().count(), 100);
        assert!(chunks.blocks.iter().all(|block| block.capacity() == 8), "no block is larger than said");
    }
}
