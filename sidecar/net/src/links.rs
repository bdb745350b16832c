//! How connections to peers are dialed and kept up.

use std::collections::BTreeMap;
use std::sync::Arc;

use sidegrid_core::{Backoff, MemberId};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, ConnectionError, dial};
use crate::counters::Dropped;
use crate::mesh_state::MeshState;
use crate::peers::Peer;
use crate::plane::Plane;
use crate::{data, pings};

/// Keeps one connection of this plane to each peer, for as long as it is one.
pub(crate) async fn keep_links(mesh: Arc<MeshState>, plane: Plane, tasks: TaskTracker) {
    let mut changed = mesh.peers.changes();
    changed.mark_changed();
    let mut kept: BTreeMap<MemberId, Arc<Peer>> = BTreeMap::new();
    while changed.changed().await.is_ok() {
        let mut next = BTreeMap::new();
        for peer in mesh.peers.all() {
            let id = peer.member.id;
            let running = kept.get(&id).is_some_and(|old| Arc::ptr_eq(old, &peer));
            if !running {
                let (mesh, peer) = (Arc::clone(&mesh), Arc::clone(&peer));
                tasks.spawn(async move {
                    let link = peer.dropped.run_until_cancelled(keep_link(&mesh, &peer, plane));
                    mesh.stop.run_until_cancelled(link).await;
                });
            }
            next.insert(id, peer);
        }
        kept = next;
    }
}

/// Dials one peer, again and again.
async fn keep_link(mesh: &MeshState, peer: &Peer, plane: Plane) {
    let limits = &mesh.limits;
    let id = peer.member.id;
    let mut backoff = Backoff::new(limits.redial_min, limits.redial_max, seed(mesh, peer, plane));
    // A connection that stood has ended, and it is not yet reported that the peer can't be reached.
    let mut lost = false;
    loop {
        match dial(mesh, plane, &peer.member).await {
            Ok(connection) => {
                mesh.count(plane).dialed();
                let began = Instant::now();
                let ended = serve(mesh, peer, plane, connection).await;
                tracing::debug!(peer = %id, %plane, reason = ended.reason(), "connection ended: {ended}");
                mesh.count(plane).failed(ended.reason());
                lost = true;
                // One that ended right after it stood must not be redialed in a tight loop.
                if began.elapsed() >= limits.redial_max {
                    backoff.reset();
                    continue;
                }
            }
            Err(error) => {
                tracing::debug!(peer = %id, %plane, reason = error.reason(), "dial failed: {error}");
                mesh.count(plane).failed(error.reason());
                if plane == Plane::Data {
                    mesh.counters.drop_frames(Dropped::Unreachable, peer.outbox.clear());
                }
                if lost && error.shows_absence() && !mesh.own_certificate_is_out_of_date() {
                    lost = false;
                    mesh.reports.unreachable(id, plane);
                }
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Differs between any two links, so that members that lost the same peer don't dial it together.
fn seed(mesh: &MeshState, peer: &Peer, plane: Plane) -> u64 {
    mesh.me.id.0.rotate_left(1) ^ peer.member.id.0 ^ plane as u64
}

/// Uses a connection until it ends.
async fn serve(mesh: &MeshState, peer: &Peer, plane: Plane, connection: Connection) -> ConnectionError {
    let _standing = Standing::begin(mesh, peer, plane);
    match plane {
        Plane::Data => data::run(mesh, connection, &peer.outbox).await,
        Plane::FailureDetection => pings::run_dialed(mesh, peer, connection).await,
    }
}

/// A connection stands for as long as this lives, also when its task is dropped.
struct Standing<'a> {
    mesh: &'a MeshState,
    peer: &'a Peer,
    plane: Plane,
}

impl<'a> Standing<'a> {
    fn begin(mesh: &'a MeshState, peer: &'a Peer, plane: Plane) -> Standing<'a> {
        let both = peer.set_standing(plane, true);
        mesh.reports.connected(peer.member.id, plane, both);
        Standing { mesh, peer, plane }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.peer.set_standing(self.plane, false);
        if self.plane == Plane::Data {
            // The core sends it again on the next connection; both would be twice as much.
            self.mesh.counters.drop_frames(Dropped::ConnectionLost, self.peer.outbox.connection_ended());
        }
    }
}
