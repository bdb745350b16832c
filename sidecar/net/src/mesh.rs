//! The mesh.

use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::member::Member;
use sidegrid_core::message::Envelope;
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::heartbeat::Heartbeat;
use crate::limits::NetLimits;
use crate::listeners::Listeners;
use crate::tls::{TlsConfig, TlsMode};

/// What a mesh is made from.
pub struct MeshSettings {
    /// The cluster; a peer of another one is refused.
    pub cluster: ClusterUid,
    /// This incarnation, as its hello introduces it.
    pub me: Member,
    /// How connections are secured.
    pub tls: TlsMode,
    /// Bounds.
    pub limits: NetLimits,
    /// Lease and promise: `core.lease()`.
    pub lease: Arc<dyn Heartbeat>,
    /// The local clock.
    pub clock: Clock,
    /// Figures; one for all incarnations of the process.
    pub counters: Arc<Counters>,
}

/// What comes in.
#[derive(Debug)]
pub enum Inbound {
    /// A message of a sender whose identity was checked.
    Envelope {
        /// The sender.
        from: MemberId,
        /// The message.
        envelope: Envelope,
        /// The frame's share of [`NetLimits::inbound_bytes`]; drop it once the core has taken the message.
        held: Held,
    },
    /// A ping or echo showed this. At most the newest of each peer waits.
    Heard {
        /// The peer.
        from: MemberId,
        /// The view that it has installed.
        view: ViewNumber,
        /// Newest view that it is confirmed past.
        confirmed_past: ViewNumber,
    },
    /// A peer's established connection ended and a fresh dial failed too, not through a fault of our own.
    Unreachable(MemberId),
    /// Both outgoing connections to the peer stand; said again after each reconnection.
    Reached(MemberId),
}

/// A received frame's share of the inbound bound.
#[derive(Debug)]
pub struct Held {
    _permit: OwnedSemaphorePermit,
}

/// One incarnation's connections.
#[derive(Debug)]
pub struct Mesh {}

impl Mesh {
    /// Starts to accept and to keep connections.
    ///
    /// # Errors
    /// When the sockets or the failure-detection thread can't be set up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        _settings: MeshSettings,
        _listeners: &Listeners,
        _inbound: mpsc::Sender<Inbound>,
    ) -> Result<Mesh, NetError> {
        unreachable!()
    }

    /// Sends; never blocks. A frame that can't go is dropped and counted.
    pub fn send(&self, _to: MemberId, _envelope: &Envelope) {}

    /// Keeps connections to these peers, on both ports, and to no others.
    pub fn set_peers(&self, _peers: Vec<Member>) {}

    /// Pings every peer at once.
    pub fn ping_now(&self) {}

    /// Uses another certificate for connections made from now on.
    pub fn set_tls(&self, _tls: TlsConfig) {}

    /// Waits until everything queued has been handed to the kernel, at most `patience`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn flush(&self, _patience: Duration) {}

    /// Waits until a part that must run for as long as the mesh has ended by itself; gives its name.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn failed(&self) -> &'static str {
        unreachable!()
    }

    /// Closes everything: no connection and no thread is left when it returns.
    ///
    /// # Cancel safety
    /// Closing goes on when the future is dropped.
    pub async fn stop(self) {}
}

/// Why a mesh can't start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A socket can't be used.
    #[error("can't use a listening socket: {0}")]
    Listener(std::io::Error),
    /// The failure-detection thread can't be started.
    #[error("can't start the failure-detection thread: {0}")]
    Thread(std::io::Error),
}

impl NetError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            NetError::Listener(_) => "listener",
            NetError::Thread(_) => "thread",
        }
    }
}
