//! Hashes of entries given up lately: as many as the cache has entries, four bytes each, in sets of four.

/// Entries a set.
const WAYS: usize = 4;
/// Steps that the age of a ghost is told in; a ghost older than all of them has gone.
const STEPS: usize = 128;

/// Hashes of entries given up lately. Says "yes" wrongly for about one in ten thousand.
#[derive(Debug, Default)]
pub(crate) struct Ghosts {
    /// Upper half: upper half of the hash; lower half: step of entry, never 0. Zero: empty.
    sets: Vec<[u32; WAYS]>,
    /// Ghosts that are remembered at least until as many others came.
    capacity: usize,
    step: u16,
    in_step: usize,
}

impl Ghosts {
    /// Remembers a hash, for about as many further ones as there are `live` entries.
    pub(crate) fn insert(&mut self, hash: u32, live: usize) {
        self.fit(live);
        self.in_step += 1;
        if self.in_step >= self.capacity.div_ceil(STEPS) {
            self.in_step = 0;
            self.step = self.step.wrapping_add(1).max(1);
        }
        let step = self.step;
        let set = self.set(hash);
        let oldest = (0..WAYS).max_by_key(|&way| if set[way] == 0 { u16::MAX } else { age(step, set[way]) });
        set[oldest.unwrap_or(0)] = (hash & 0xffff_0000) | u32::from(step);
    }

    /// Whether a hash is remembered; it no longer is.
    pub(crate) fn take(&mut self, hash: u32) -> bool {
        if self.sets.is_empty() {
            return false;
        }
        let step = self.step;
        let oldest = self.capacity.div_ceil(self.capacity.div_ceil(STEPS));
        let is_it =
            |cell: &u32| *cell != 0 && (*cell ^ hash) & 0xffff_0000 == 0 && usize::from(age(step, *cell)) <= oldest;
        let set = self.set(hash);
        match set.iter().position(is_it) {
            Some(way) => {
                set[way] = 0;
                true
            }
            None => false,
        }
    }

    fn set(&mut self, hash: u32) -> &mut [u32; WAYS] {
        let mask = self.sets.len() - 1;
        &mut self.sets[hash as usize & mask]
    }

    /// Makes the table anew, empty, when the cache has become much larger or smaller than it was made for.
    fn fit(&mut self, live: usize) {
        let live = live.max(WAYS);
        if live > self.capacity + self.capacity / 2 || live < self.capacity / 4 {
            self.capacity = live;
            self.step = 1;
            self.sets = vec![[0; WAYS]; (live / WAYS).next_power_of_two()];
        }
    }
}

fn age(step: u16, cell: u32) -> u16 {
    step.wrapping_sub((cell & 0xffff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> u32 {
        n.wrapping_mul(0x9e37_79b1) ^ n.wrapping_mul(0x85eb_ca6b).rotate_right(15)
    }

    #[test]
    fn the_latest_are_remembered_and_old_ones_go() {
        let mut ghosts = Ghosts::default();
        (0..10_000).for_each(|n| ghosts.insert(hash(n), 1_000));
        let kept = (9_100..10_000).filter(|&n| ghosts.take(hash(n))).count();
        assert!(kept > 800, "of the last 900: {kept}");
        let old = (0..8_900).filter(|&n| ghosts.take(hash(n))).count();
        assert!(old < 50, "of 8,900 old ones: {old}");
        assert!((9_100..10_000).all(|n| !ghosts.take(hash(n))), "each is taken once");
    }
}
