//! How much may be outstanding to one peer, found from how long what was sent took to be acknowledged.

use std::time::Duration;

use crate::limits::Limits;

/// By how many times of what was acknowledged late the window shrinks at most.
const SHRINKS_BY: usize = 4;

/// A bound in bytes that holds the delay on the way to a peer near a target, as TCP Vegas does: it grows while it is
/// in use and answers come early, and shrinks to what the peer took within the target when they come late.
#[derive(Clone, Debug)]
pub(super) struct Window {
    bytes: usize,
    /// Smoothed time from sending to acknowledgement; none before the first.
    delay: Option<Duration>,
}

impl Window {
    pub(super) fn new(limits: &Limits) -> Window {
        Window { bytes: limits.window_start_bytes, delay: None }
    }

    /// Whether `more` bytes may follow `outstanding` ones. One write of any size may always be outstanding alone.
    pub(super) fn admits(&self, outstanding: usize, more: usize) -> bool {
        outstanding == 0 || outstanding.saturating_add(more) <= self.bytes
    }

    /// Something of `bytes` was acknowledged `delay` after it was sent, when `outstanding` bytes were.
    pub(super) fn acknowledged(&mut self, limits: &Limits, delay: Duration, bytes: usize, outstanding: usize) {
        self.took(delay);
        let target = limits.window_delay;
        if delay > target {
            // What left within `delay` was `outstanding`; within the target a part of that would have. Each
            // acknowledgement goes a part of the way there, so that one late answer changes little.
            let fits = scaled(outstanding, target, delay).max(limits.window_least_bytes);
            if fits < self.bytes {
                self.bytes -= (self.bytes - fits).min(bytes.saturating_mul(SHRINKS_BY));
            }
        } else if delay < target / 2 && outstanding >= self.bytes / 2 {
            self.bytes = (self.bytes + bytes).min(limits.window_most_bytes);
        }
    }

    /// Something was acknowledged at most `delay` after it was sent: which of two sendings that was can't be told.
    pub(super) fn took(&mut self, delay: Duration) {
        self.delay = Some(self.delay.map_or(delay, |before| (before * 7 + delay) / 8));
    }

    /// How long an answer is waited for before what was sent is thought lost.
    pub(super) fn patience(&self, limits: &Limits) -> Duration {
        (limits.resend * 2).max(self.delay.unwrap_or_default() * 2)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn scaled(bytes: usize, part: Duration, whole: Duration) -> usize {
    let nanos = |d: Duration| d.as_nanos().max(1);
    usize::try_from(bytes as u128 * nanos(part) / nanos(whole)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: usize = 256 << 10;

    /// Runs a link of so many bytes a second with always one value more to send than fits; gives the window at the end
    /// and the longest delay of the second half.
    fn drive(bytes_per_second: u64) -> (usize, Duration) {
        let limits = Limits::default();
        let mut window = Window::new(&limits);
        let mut wire = std::collections::VecDeque::new();
        let (mut free_at, mut outstanding, mut worst) = (Duration::ZERO, 0, Duration::ZERO);
        let mut now = Duration::ZERO;
        let each = Duration::from_nanos(VALUE as u64 * 1_000_000_000 / bytes_per_second);
        for round in 0..2_000 {
            while window.admits(outstanding, VALUE) {
                outstanding += VALUE;
                free_at = free_at.max(now) + each;
                wire.push_back((now, free_at));
            }
            let (sent, arrives) = wire.pop_front().unwrap();
            now = arrives;
            window.acknowledged(&limits, now - sent, VALUE, outstanding);
            outstanding -= VALUE;
            if round >= 1_000 {
                worst = worst.max(now - sent);
            }
        }
        (window.bytes(), worst)
    }

    /// B-1: a slow link queues for no more than about the target, a fast one is kept full.
    #[test]
    fn the_queue_on_a_link_lasts_no_longer_than_the_target() {
        let target = Limits::default().window_delay;
        for megabytes in [5, 20, 100, 1_000] {
            let (bytes, delay) = drive(megabytes * 1_000_000);
            assert!(delay <= target * 3 / 2, "{megabytes} MB/s: {delay:?}");
            // The slowest takes one value in half the target: two would queue for longer than that.
            assert!(
                bytes >= if megabytes > 5 { 2 * VALUE } else { VALUE },
                "{megabytes} MB/s: a window of {bytes} bytes leaves the link idle"
            );
        }
    }
}
