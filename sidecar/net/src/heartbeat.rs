//! What the failure-detection thread asks of the lease.

use std::time::Duration;

use sidegrid_core::lease::{Heard, Lease};
use sidegrid_core::message::Ping;
use sidegrid_core::{MemberId, Time};

/// The side of [`Lease`] that pings and answers. Every call is short and takes no other lock. A trait so that the
/// transport can be tried without a core that has installed a view.
pub trait Heartbeat: Send + Sync + 'static {
    /// The ping to send now; none while there is nothing to ping for.
    fn ping(&self, now: Time) -> Option<Ping>;

    /// Between two pings to one peer.
    fn ping_period(&self) -> Duration;

    /// Takes a ping or an echo of `from`.
    fn on_ping(&self, now: Time, from: MemberId, ping: Ping) -> Heard;
}

impl Heartbeat for Lease {
    fn ping(&self, now: Time) -> Option<Ping> {
        Lease::ping(self, now)
    }

    fn ping_period(&self) -> Duration {
        Lease::ping_period(self)
    }

    fn on_ping(&self, now: Time, from: MemberId, ping: Ping) -> Heard {
        Lease::on_ping(self, now, from, ping)
    }
}
