//! Virtual time: one global axis that nobody in the grid sees, and a local clock for each node.

use std::time::Duration;

use sidegrid_core::Time;

/// Nanoseconds on the axis that only the simulator sees.
pub(crate) type Instant = u64;

/// A microsecond.
pub(crate) const US: u64 = 1_000;
/// A millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// A second.
pub(crate) const SEC: u64 = 1_000_000_000;

/// Largest deviation of a clock's rate, in millionths: two clocks then differ by less than a tenth.
pub(crate) const MAX_RATE_PPM: i64 = 45_000;

/// A machine's own clock: it starts anywhere and runs a little too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: u64,
    rate_ppm: i64,
}

impl Clock {
    /// A clock that shows `offset` at the start and gains `rate_ppm` millionths.
    pub(crate) fn new(offset: u64, rate_ppm: i64) -> Clock {
        Clock { offset, rate_ppm: rate_ppm.clamp(-MAX_RATE_PPM, MAX_RATE_PPM) }
    }

    /// What the clock shows at a global instant.
    pub(crate) fn local(&self, at: Instant) -> Time {
        let drift = i128::from(at) * i128::from(self.rate_ppm) / 1_000_000;
        let reading = i128::from(self.offset) + i128::from(at) + drift;
        Time::from_nanos(u64::try_from(reading).unwrap_or(0))
    }

    /// The first global instant at which the clock shows at least `reading`.
    pub(crate) fn global(&self, reading: Time) -> Instant {
        if reading == Time::NEVER {
            return Instant::MAX;
        }
        let Some(elapsed) = reading.as_nanos().checked_sub(self.offset) else { return 0 };
        let rate = u128::from((1_000_000 + self.rate_ppm).unsigned_abs());
        let mut at = u64::try_from(u128::from(elapsed) * 1_000_000 / rate).unwrap_or(Instant::MAX);
        while self.local(at) < reading {
            at += 1;
        }
        at
    }

    /// How long a local span takes globally.
    pub(crate) fn span(&self, local: Duration) -> u64 {
        let rate = u128::from((1_000_000 + self.rate_ppm).unsigned_abs());
        u64::try_from(local.as_nanos() * 1_000_000 / rate).unwrap_or(u64::MAX)
    }
}

/// The shortest that a local span can take globally, on the fastest clock allowed.
pub(crate) fn shortest(local: Duration) -> u64 {
    Clock::new(0, MAX_RATE_PPM).span(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_is_the_first_instant_that_shows_the_reading() {
        for rate in [-MAX_RATE_PPM, -17, 0, 3, MAX_RATE_PPM] {
            let clock = Clock::new(5 * SEC, rate);
            for reading in [5 * SEC, 5 * SEC + 1, 17 * SEC + 12_345, 90 * SEC] {
                let at = clock.global(Time::from_nanos(reading));
                assert!(clock.local(at) >= Time::from_nanos(reading));
                assert!(at == 0 || clock.local(at - 1) < Time::from_nanos(reading));
            }
        }
    }

    #[test]
    fn two_clocks_differ_by_less_than_a_tenth() {
        let fast = Clock::new(0, 1_000_000).local(1000 * SEC).as_nanos();
        let slow = Clock::new(0, -1_000_000).local(1000 * SEC).as_nanos();
        assert!(fast * 10 < slow * 11);
    }
}
