//! Waits between tries of whatever keeps failing.

use std::time::Duration;

/// Waits that double from a first one to a longest one, each shortened at random by up to half, so that those who
/// failed together don't try again together ("equal jitter").
///
/// Deterministic: the same seed gives the same waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    state: u64,
}

impl Backoff {
    /// Waits from `first` to `longest`; what is given as zero counts as one millisecond, and `longest` as no less than
    /// `first`. `seed` should differ between those who may fail together.
    #[must_use]
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Backoff {
        let first = if first.is_zero() { Duration::from_millis(1) } else { first };
        Backoff { first, longest: longest.max(first), next: first, state: seed }
    }

    /// How long to wait before the next try: at least half and at most the whole of the present step.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.longest);
        let half = step / 2;
        let rest = u64::try_from((step - half).as_nanos()).unwrap_or(u64::MAX);
        // The upper half of a product is a fraction of `rest`.
        let part = (u128::from(rest) * u128::from(self.random())) >> 64;
        half + Duration::from_nanos(u64::try_from(part).unwrap_or(rest))
    }

    /// A try has succeeded: the next wait is a first one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// SplitMix64 (Steele and others 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(500);

    #[test]
    fn waits_double_to_the_longest_and_begin_again_after_a_reset() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(FIRST, LONGEST, seed);
            for _ in 0..2 {
                let mut step = FIRST;
                for _ in 0..70 {
                    let wait = backoff.next_wait();
                    assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
                    step = (step * 2).min(LONGEST);
                }
                backoff.reset();
            }
        }
    }

    #[test]
    fn those_with_other_seeds_wait_otherwise_and_with_the_same_seed_alike() {
        let waits = |seed| {
            let mut backoff = Backoff::new(FIRST, LONGEST, seed);
            std::iter::from_fn(|| Some(backoff.next_wait())).take(8).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        let firsts: std::collections::BTreeSet<Duration> = (0..100).map(|seed| waits(seed)[0]).collect();
        assert!(firsts.len() > 90, "{}", firsts.len());
    }

    #[test]
    fn bounds_that_make_no_sense_are_mended() {
        let mut zero = Backoff::new(Duration::ZERO, Duration::ZERO, 1);
        assert!(zero.next_wait() >= Duration::from_micros(500));
        let mut turned = Backoff::new(LONGEST, FIRST, 1);
        assert!(turned.next_wait() >= LONGEST / 2);
        let mut immense = Backoff::new(Duration::MAX, Duration::MAX, 1);
        assert!(immense.next_wait() >= Duration::MAX / 4);
    }
}
