//! How often hashes were seen lately: a count-min sketch of four-bit counters that age by halving.

const ROWS: [u32; 4] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
/// Sixteen counters of four bits.
const COUNTERS: u32 = 16;
const MOST: u64 = 15;
const LOW_BITS: u64 = 0x7777_7777_7777_7777;
/// Counts per entry before all are halved.
const SAMPLE: usize = 10;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Sketch {
    words: Vec<u64>,
    added: usize,
}

impl Default for Sketch {
    fn default() -> Self {
        Sketch { words: vec![0; 8], added: 0 }
    }
}

impl Sketch {
    /// Makes room to tell this many entries apart. Estimates stay as they are.
    pub(crate) fn fit(&mut self, entries: usize) {
        while self.words.len() < entries {
            // Both halves of the doubled table answer what the one answered.
            self.words.extend_from_within(..);
        }
    }

    /// Counts a hash this many times.
    pub(crate) fn add(&mut self, hash: u32, times: u32) {
        let mut added = false;
        for row in ROWS {
            let (word, shift) = self.counter(hash, row);
            let count = (self.words[word] >> shift) & MOST;
            let more = u64::from(times).min(MOST - count);
            self.words[word] += more << shift;
            added |= more > 0;
        }
        if added {
            self.added += times as usize;
        }
        if self.added >= SAMPLE * self.words.len() {
            self.added /= 2;
            self.words.iter_mut().for_each(|word| *word = (*word >> 1) & LOW_BITS);
        }
    }

    /// About how often a hash was counted lately, 0 to 15; never too little.
    pub(crate) fn estimate(&self, hash: u32) -> u64 {
        let count = |row| {
            let (word, shift) = self.counter(hash, row);
            (self.words[word] >> shift) & MOST
        };
        ROWS.into_iter().map(count).min().unwrap_or(0)
    }

    fn counter(&self, hash: u32, row: u32) -> (usize, u32) {
        let mut mixed = (hash ^ row).wrapping_mul(row);
        mixed ^= mixed >> 15;
        mixed = mixed.wrapping_mul(0x2c1b_3c6d);
        mixed ^= mixed >> 12;
        // The counter within the word comes from bits that no table of real size picks the word with.
        ((mixed as usize) & (self.words.len() - 1), (mixed >> 28) % COUNTERS * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_hashes_stand_out_also_after_growth_and_ageing() {
        let mut sketch = Sketch::default();
        sketch.fit(256);
        for round in 0..8u32 {
            (0..16u32).for_each(|hot| sketch.add(hot.wrapping_mul(0x9e37_79b1), 1));
            (0..64u32).for_each(|cold| sketch.add((1_000 + round * 64 + cold).wrapping_mul(0x85eb_ca77), 1));
        }
        sketch.fit(1_000);
        let hot = (0..16u32).filter(|n| sketch.estimate(n.wrapping_mul(0x9e37_79b1)) >= 6).count();
        let cold = (0..512u32).filter(|n| sketch.estimate((1_000 + n).wrapping_mul(0x85eb_ca77)) >= 6).count();
        assert_eq!(hot, 16);
        assert!(cold < 10, "{cold} of 512 cold ones seem hot");
        (0..20_000u32).for_each(|n| sketch.add(n.wrapping_mul(0x85eb_ca77).rotate_left(9), 1));
        assert!((0..16u32).all(|n| sketch.estimate(n.wrapping_mul(0x9e37_79b1)) < 15));
    }
}
