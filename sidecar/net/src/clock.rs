//! Clocks of this machine. Nothing else in the crate reads one.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};
use sidegrid_core::Time;

/// The local clock that the protocol's times are readings of.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// `CLOCK_BOOTTIME`: counts on while the machine is suspended, so that a lease does not outlive a suspend.
    #[must_use]
    pub fn boottime() -> Clock {
        Clock(Arc::new(|| {
            let now = clock_gettime(ClockId::Boottime);
            let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
            let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
            Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
        }))
    }

    /// Another source of readings, which must never go back.
    pub fn from_fn(read: impl Fn() -> Time + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(read))
    }

    /// A reading. Cheap: no system call on Linux.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The calendar's reading in nanoseconds since 1970: what platforms date the ends of containers by. Compared with the
/// same machine's alone.
#[must_use]
pub fn calendar_nanos() -> u64 {
    let since = calendar().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The calendar time. No protocol rule compares it between machines.
#[expect(clippy::disallowed_methods, reason = "certificates and ends of containers are dated by the calendar")]
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

/// The calendar's reading in seconds since 1970, as certificates are dated.
pub(crate) fn seconds_since_1970() -> i64 {
    let since = calendar().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_forward_from_boot() {
        let clock = Clock::boottime();
        let first = clock.now();
        assert!(first > Time::ZERO);
        assert!(clock.now() >= first);
    }
}
