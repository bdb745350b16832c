//! What a mesh hands to its driver.

use std::fmt;

use sidegrid_core::message::Envelope;
use sidegrid_core::{MemberId, ViewNumber};
use tokio::sync::OwnedSemaphorePermit;

use crate::plane::Plane;

/// What comes in.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all that comes in are envelopes; a box for each would cost more")]
pub enum Inbound {
    /// A message of a sender whose identity was checked.
    Envelope {
        /// The sender.
        from: MemberId,
        /// The message.
        envelope: Envelope,
        /// The frame's share of [`NetLimits::inbound_bytes`](crate::NetLimits::inbound_bytes); drop it once the core has
        /// taken the message.
        held: InboundPermit,
    },
    /// A ping or echo showed this. At most the newest of each peer waits. It says nothing of the data port.
    Heard {
        /// The peer.
        from: MemberId,
        /// The view that it has installed.
        view: ViewNumber,
        /// Newest view that it is confirmed past.
        confirmed_past: ViewNumber,
    },
    /// A connection to this port of the peer had stood and ended, and a fresh dial failed too, not through an error of
    /// our own. Holds until [`Inbound::Connected`] with the same port.
    Unreachable {
        /// The peer.
        peer: MemberId,
        /// The port.
        plane: Plane,
    },
    /// A new connection to this port of the peer stands. Messages that an earlier one had taken and that the peer has
    /// not answered are lost: those of [`MessageClass::Data`](sidegrid_core::message::MessageClass::Data) that still
    /// waited were dropped with it.
    Connected {
        /// The peer.
        peer: MemberId,
        /// The port.
        plane: Plane,
    },
    /// Both outgoing connections to the peer stand; said again after each reconnection.
    Reached(MemberId),
}

/// A received frame's share of the inbound bound.
pub struct InboundPermit {
    _permit: OwnedSemaphorePermit,
}

impl InboundPermit {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> InboundPermit {
        InboundPermit { _permit: permit }
    }
}

impl fmt::Debug for InboundPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InboundPermit")
    }
}
