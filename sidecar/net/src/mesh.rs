//! The mesh: one incarnation's connections.
//!
//! Each side dials its own connections, one for each peer and port, and sends on them; what it accepts it reads. Who
//! is no peer, a client or a joiner, is answered on the connection that it dialed itself. Frames may be lost, repeated
//! or reordered around a reconnection: the protocol above takes that into account.

use std::fmt;
use std::sync::{Arc, Once, RwLock};
use std::time::Duration;

use sidegrid_core::member::Member;
use sidegrid_core::message::{Envelope, MessageClass};
use sidegrid_core::{ClusterUid, MemberId};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::accept;
use crate::accepted::AcceptedTable;
use crate::clock::Clock;
use crate::codec::{counted, encode_envelope};
use crate::counters::{Counters, Dropped};
use crate::failure_detection::Thread;
use crate::heartbeat::Heartbeat;
use crate::inbound::Inbound;
use crate::limits::NetLimits;
use crate::links::keep_links;
use crate::listeners::Listeners;
use crate::mesh_state::MeshState;
use crate::peers::Peers;
use crate::plane::Plane;
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

/// One incarnation's connections. Dropping it closes them as [`Mesh::stop`] does, without waiting.
pub struct Mesh {
    state: Arc<MeshState>,
    tasks: TaskTracker,
    pings: Option<Thread>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("me", &self.state.me.id).finish_non_exhaustive()
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
            WARNED.call_once(|| tracing::warn!("TLS is disabled: anybody who reaches the ports can read and write"));
        }
        let state = Arc::new(MeshState {
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
        let pings = Thread::start(Arc::clone(&state), failure_detection).map_err(NetError::Thread)?;
        let tasks = TaskTracker::new();
        let spawn = |name: &'static str, part: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let state = Arc::clone(&state);
            tasks.spawn(async move { state.critical(name, part).await });
        };
        if let Some(data) = data {
            spawn("accept", Box::pin(accept(Arc::clone(&state), Plane::Data, data, tasks.clone())));
        }
        spawn("links", Box::pin(keep_links(Arc::clone(&state), Plane::Data, tasks.clone())));
        let reporting = Arc::clone(&state);
        spawn("reports", Box::pin(async move { reporting.reports.pass_on(&reporting.inbound).await }));
        Ok(Mesh { state, tasks, pings: Some(pings) })
    }

    /// Sends to a peer, or to a sender that has dialed us: control messages ahead of data. Never blocks: a frame that
    /// can't be queued is dropped, counted and logged.
    pub fn send(&self, to: MemberId, envelope: &Envelope) {
        let state = &self.state;
        let peer = state.peers.get(to);
        // A connection of our own that stands, else theirs, else what we are about to dial.
        let own = peer.as_ref().filter(|peer| peer.stands(Plane::Data));
        let theirs = if own.is_some() { None } else { state.accepted.data_of(to) };
        let outbox = match (own.or(peer.as_ref()), &theirs) {
            (_, Some(theirs)) => &theirs.outbox,
            (Some(peer), None) => &peer.outbox,
            (None, None) => return state.counters.drop_frames(Dropped::NoRoute, 1),
        };
        let frame = encode_envelope(envelope);
        if counted(&frame) > state.limits.frame_bytes {
            tracing::error!(peer = %to, bytes = frame.len(), "a message is larger than any frame may be");
            state.counters.drop_frames(Dropped::TooLarge, 1);
            return;
        }
        let class = envelope.message.class();
        if !outbox.push(class, frame) {
            let dropped = match class {
                MessageClass::Control => Dropped::ControlQueueFull,
                MessageClass::Data => Dropped::QueueFull,
            };
            state.counters.drop_frames(dropped, 1);
        }
    }

    /// Keeps connections to these peers, on both ports, and to no others. This incarnation itself is left out.
    pub fn set_peers(&self, peers: Vec<Member>) {
        self.state.peers.set(self.state.me.id, peers, &self.state.limits);
    }

    /// Pings every peer at once.
    pub fn ping_now(&self) {
        self.state.ping_now.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Uses another certificate for connections made from now on; those that stand go on.
    pub fn set_tls(&self, tls: TlsConfig) {
        self.state.set_tls(TlsMode::Mutual(tls));
    }

    /// Waits until everything queued on standing connections has been handed to the kernel, at most `patience`.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn flush(&self, patience: Duration) {
        let flushing = async {
            for peer in self.state.peers.all() {
                if peer.stands(Plane::Data) {
                    peer.outbox.drained().await;
                }
            }
            for accepted in self.state.accepted.all_data() {
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
        let mut failed = self.state.failed.subscribe();
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
        self.state.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(pings) = self.pings.take() {
            pings.ended().await;
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.state.stop.cancel();
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
