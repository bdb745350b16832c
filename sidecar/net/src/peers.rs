//! Whom we keep connections to, and how those are kept up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sidegrid_core::MemberId;
use sidegrid_core::member::Member;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, ConnectionError, dial};
use crate::context::MeshContext;
use crate::counters::{Dropped, Plane};
use crate::limits::NetLimits;
use crate::outbox::Outbox;
use crate::{data, failure_detection};

/// A peer and the state of our own connections to it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Who and where.
    pub(crate) member: Member,
    /// What its data connection shall write.
    pub(crate) outbox: Outbox,
    /// It shall be pinged at once.
    pub(crate) ping_back: Notify,
    standing: Mutex<[bool; 2]>,
    dropped: CancellationToken,
}

impl Peer {
    fn new(member: Member, limits: &NetLimits) -> Peer {
        Peer {
            member,
            outbox: Outbox::new(limits),
            ping_back: Notify::new(),
            standing: Mutex::default(),
            dropped: CancellationToken::new(),
        }
    }

    /// Whether our connection of this plane stands.
    pub(crate) fn stands(&self, plane: Plane) -> bool {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)[plane as usize]
    }

    /// Notes that it stands or not; true when both do now and did not before.
    fn set_standing(&self, plane: Plane, stands: bool) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *standing;
        standing[plane as usize] = stands;
        *standing == [true; 2] && before != *standing
    }
}

/// The set of peers.
#[derive(Debug)]
pub(crate) struct Peers {
    map: RwLock<BTreeMap<MemberId, Arc<Peer>>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Peers { map: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    /// The peer with this id.
    pub(crate) fn get(&self, id: MemberId) -> Option<Arc<Peer>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All peers.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Replaces the set. Connections to those who stay at the same addresses stay too.
    pub(crate) fn set(&self, me: MemberId, members: Vec<Member>, limits: &NetLimits) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *map);
        for member in members {
            if member.id == me {
                continue;
            }
            let kept = old.remove(&member.id).filter(|peer| {
                let stays = peer.member.data_address == member.data_address
                    && peer.member.failure_detection_address == member.failure_detection_address;
                if !stays {
                    peer.dropped.cancel();
                }
                stays
            });
            map.insert(member.id, kept.unwrap_or_else(|| Arc::new(Peer::new(member, limits))));
        }
        drop(map);
        for peer in old.into_values() {
            peer.dropped.cancel();
        }
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// Keeps one connection of this plane to each peer, for as long as it is one.
pub(crate) async fn keep_links(context: Arc<MeshContext>, plane: Plane, tasks: TaskTracker) {
    let mut changed = context.peers.changed.subscribe();
    changed.mark_changed();
    let mut kept: BTreeMap<MemberId, Arc<Peer>> = BTreeMap::new();
    while changed.changed().await.is_ok() {
        let mut next = BTreeMap::new();
        for peer in context.peers.all() {
            let id = peer.member.id;
            let running = kept.get(&id).is_some_and(|old| Arc::ptr_eq(old, &peer));
            if !running {
                let (context, peer) = (Arc::clone(&context), Arc::clone(&peer));
                tasks.spawn(async move {
                    let link = peer.dropped.run_until_cancelled(keep_link(&context, &peer, plane));
                    context.stop.run_until_cancelled(link).await;
                });
            }
            next.insert(id, peer);
        }
        kept = next;
    }
}

/// Dials one peer, again and again.
async fn keep_link(context: &MeshContext, peer: &Peer, plane: Plane) {
    let limits = &context.limits;
    let id = peer.member.id;
    let mut backoff = Backoff::new(limits);
    // A connection that stood has ended, and it is not yet told that the peer can't be reached.
    let mut lost = false;
    loop {
        match dial(context, plane, &peer.member).await {
            Ok(connection) => {
                context.count(plane).dialed();
                let began = Instant::now();
                let ended = serve(context, peer, plane, connection).await;
                tracing::debug!(peer = %id, %plane, reason = ended.reason(), "connection ended: {ended}");
                context.count(plane).failed(ended.reason());
                lost = true;
                // One that ended right after it stood must not be redialed in a tight loop.
                if began.elapsed() >= limits.redial_max {
                    backoff = Backoff::new(limits);
                    continue;
                }
            }
            Err(error) => {
                tracing::debug!(peer = %id, %plane, reason = error.reason(), "dial failed: {error}");
                context.count(plane).failed(error.reason());
                if plane == Plane::Data {
                    context.counters.drop_frames(Dropped::Unreachable, peer.outbox.clear());
                }
                if lost && error.shows_absence() {
                    lost = false;
                    context.reports.unreachable(id);
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Uses a connection until it ends.
async fn serve(context: &MeshContext, peer: &Peer, plane: Plane, connection: Connection) -> ConnectionError {
    let _standing = Standing::begin(context, peer, plane);
    match plane {
        Plane::Data => data::run(context, connection, &peer.outbox).await,
        Plane::FailureDetection => failure_detection::run_dialed(context, peer, connection).await,
    }
}

/// A connection stands for as long as this lives, also when its task is dropped.
struct Standing<'a> {
    peer: &'a Peer,
    plane: Plane,
}

impl<'a> Standing<'a> {
    fn begin(context: &MeshContext, peer: &'a Peer, plane: Plane) -> Standing<'a> {
        if peer.set_standing(plane, true) {
            context.reports.reached(peer.member.id);
        }
        Standing { peer, plane }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.peer.set_standing(self.plane, false);
    }
}

/// Waits that double between two bounds.
#[derive(Debug)]
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    fn new(limits: &NetLimits) -> Backoff {
        Backoff { next: limits.redial_min, max: limits.redial_max }
    }

    fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.max);
        wait
    }
}
