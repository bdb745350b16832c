//! The mesh: one incarnation's connections.
//!
//! Each side dials its own connections, one for each peer and port, and sends on them; what it accepts it reads. Who
//! is no peer, a client or a joiner, is answered on the connection that it dialed itself. Frames may be lost, repeated
//! or reordered around a reconnection: the protocol above takes that into account.

use std::fmt;
use std::sync::{Arc, Once, RwLock};
use std::time::Duration;

use sidegrid_core::member::Member;
use sidegrid_core::message::Envelope;
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accepted::{AcceptedTable, accept};
use crate::clock::Clock;
use crate::codec::{counted, encode_envelope};
use crate::context::MeshContext;
use crate::counters::{Counters, Dropped, Plane};
use crate::failure_detection::Thread;
use crate::heartbeat::Heartbeat;
use crate::limits::NetLimits;
use crate::listeners::Listeners;
use crate::peers::{Peers, keep_links};
use crate::reports::Reports;
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
#[expect(clippy::large_enum_variant, reason = "nearly all that comes in are envelopes; a box for each would cost more")]
pub enum Inbound {
    /// A message of a sender whose identity was checked.
    Envelope {
        /// The sender.
        from: MemberId,
        /// The message.
        envelope: Envelope,
        /// The frame's share of [`NetLimits::inbound_bytes`]; drop it once the core has taken the message.
        held: InboundPermit,
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

/// One incarnation's connections. Dropping it closes them as [`Mesh::stop`] does, without waiting.
pub struct Mesh {
    context: Arc<MeshContext>,
    tasks: TaskTracker,
    pings: Option<Thread>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("me", &self.context.me.id).finish_non_exhaustive()
    }
}

impl Mesh {
    /// Starts to accept and to keep connections; what comes in goes to `inbound`. Without listeners (a client that
    /// nobody dials) it only dials.
    ///
    /// # Errors
    /// When the sockets or the failure-detection thread can't be set up.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        settings: MeshSettings,
        listeners: Option<&Listeners>,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Mesh, NetError> {
        let handle = |plane| listeners.map(|l| l.handle(plane)).transpose().map_err(NetError::Listener);
        let data = handle(Plane::Data)?.map(TcpListener::from_std).transpose().map_err(NetError::Listener)?;
        let failure_detection = handle(Plane::FailureDetection)?;
        if matches!(settings.tls, TlsMode::Disabled) {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| tracing::warn!("TLS is disabled: whoever reaches the ports can read and write"));
        }
        let context = Arc::new(MeshContext {
            cluster: settings.cluster,
            me: settings.me,
            limits: settings.limits,
            lease: settings.lease,
            clock: settings.clock,
            counters: settings.counters,
            peers: Peers::default(),
            accepted: AcceptedTable::default(),
            reports: Reports::default(),
            inbound,
            inbound_bytes: Arc::new(Semaphore::new(settings.limits.inbound_bytes)),
            ping_now: watch::Sender::new(0),
            stop: CancellationToken::new(),
            failed: watch::Sender::new(None),
            tls: RwLock::new(settings.tls),
        });
        let pings = Thread::start(Arc::clone(&context), failure_detection).map_err(NetError::Thread)?;
        let tasks = TaskTracker::new();
        let spawn = |name: &'static str, part: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let context = Arc::clone(&context);
            tasks.spawn(async move { context.critical(name, part).await });
        };
        if let Some(data) = data {
            spawn("accept", Box::pin(accept(Arc::clone(&context), Plane::Data, data, tasks.clone())));
        }
        spawn("links", Box::pin(keep_links(Arc::clone(&context), Plane::Data, tasks.clone())));
        let telling = Arc::clone(&context);
        spawn("reports", Box::pin(async move { telling.reports.tell(&telling.inbound).await }));
        Ok(Mesh { context, tasks, pings: Some(pings) })
    }

    /// Sends to a peer, or to whoever has dialed us. Never blocks: a frame that can't be queued is dropped and counted.
    pub fn send(&self, to: MemberId, envelope: &Envelope) {
        let context = &self.context;
        let peer = context.peers.get(to);
        // A connection of our own that stands, else theirs, else what we are about to dial.
        let own = peer.as_ref().filter(|peer| peer.stands(Plane::Data));
        let theirs = if own.is_some() { None } else { context.accepted.data_of(to) };
        let outbox = match (own.or(peer.as_ref()), &theirs) {
            (_, Some(theirs)) => &theirs.outbox,
            (Some(peer), None) => &peer.outbox,
            (None, None) => return context.counters.drop_frames(Dropped::NoRoute, 1),
        };
        let frame = encode_envelope(envelope);
        if counted(&frame) > context.limits.frame_bytes {
            tracing::error!(peer = %to, bytes = frame.len(), "a message is larger than any frame may be");
            context.counters.drop_frames(Dropped::TooLarge, 1);
        } else if !outbox.push(frame) {
            context.counters.drop_frames(Dropped::QueueFull, 1);
        }
    }

    /// Keeps connections to these peers, on both ports, and to no others. This incarnation itself is left out.
    pub fn set_peers(&self, peers: Vec<Member>) {
        self.context.peers.set(self.context.me.id, peers, &self.context.limits);
    }

    /// Pings every peer at once.
    pub fn ping_now(&self) {
        self.context.ping_now.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Uses another certificate for connections made from now on; those that stand go on.
    pub fn set_tls(&self, tls: TlsConfig) {
        self.context.set_tls(TlsMode::Mutual(tls));
    }

    /// Waits until everything queued on standing connections has been handed to the kernel, at most `patience`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn flush(&self, patience: Duration) {
        let flushing = async {
            for peer in self.context.peers.all() {
                if peer.stands(Plane::Data) {
                    peer.outbox.drained().await;
                }
            }
            for accepted in self.context.accepted.all_data() {
                accepted.outbox.drained().await;
            }
        };
        if tokio::time::timeout(patience, flushing).await.is_err() {
            tracing::debug!("not everything could be sent in time");
        }
    }

    /// Waits until a part that must run for as long as the mesh has ended by itself; gives its name. The mesh is of no
    /// use then.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn failed(&self) -> &'static str {
        let mut failed = self.context.failed.subscribe();
        // The sender lives as long as the mesh.
        let name = failed.wait_for(Option::is_some).await.ok().and_then(|name| *name);
        name.unwrap_or("mesh")
    }

    /// Closes everything: no connection, task or thread is left when it returns, and the listeners are free for the
    /// next mesh.
    ///
    /// # Cancel safety
    /// Closing goes on when the future is dropped.
    pub async fn stop(mut self) {
        self.context.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(pings) = self.pings.take() {
            pings.ended().await;
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.stop.cancel();
    }
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
