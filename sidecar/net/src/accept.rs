//! Accepting connections that others dial, and serving them.
//!
//! A data connection is read and, when its dialer is nobody that we have a standing connection to (a client, a joiner
//! that is not yet a peer), also written: so whoever introduced itself is answered, even if it listens nowhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::MemberId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use crate::accepted::Accepted;
use crate::connection::{Connection, welcome};
use crate::handshakes::{HandshakePermit, Handshakes};
use crate::mesh_state::MeshState;
use crate::plane::Plane;
use crate::{data, pings};

/// Accepts connections of one plane. Never waits for a handshake: one connection more than there may be is closed at
/// once, so that a flood can't fill the kernel's backlog, where honest dialers would wait behind it.
pub(crate) async fn accept(mesh: Arc<MeshState>, plane: Plane, listener: TcpListener, tasks: TaskTracker) {
    let handshakes = Handshakes::new(&mesh.limits);
    let places = Arc::new(Semaphore::new(mesh.limits.connections));
    let mut refusals = Refusals::default();
    loop {
        let (tcp, source) = match listener.accept().await {
            Ok((tcp, from)) => (tcp, from.ip()),
            Err(error) => {
                // Out of file descriptors, most likely; the connection stays in the backlog.
                tracing::debug!(%plane, "can't accept: {error}");
                mesh.count(plane).failed("accept-failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(handshake) = handshakes.admit(source, Instant::now()) else {
            mesh.count(plane).failed("too-many-handshakes");
            refusals.note(plane, source);
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            mesh.count(plane).refused_at_limit();
            continue;
        };
        let mesh = Arc::clone(&mesh);
        tasks.spawn(async move {
            let serving = serve(&mesh, plane, tcp, handshake);
            mesh.stop.run_until_cancelled(serving).await;
            drop(place);
        });
    }
}

/// Before accepting again after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often refused handshakes are logged.
const REFUSALS_LOGGED: Duration = Duration::from_secs(10);
/// What failed in the handshake keeps its permit for so long from its start: garbage at high speed stays cheap.
const FAILED_HANDSHAKE: Duration = Duration::from_millis(250);

/// Logs handshakes that were refused, now and then.
#[derive(Default)]
struct Refusals {
    count: u64,
    logged: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, plane: Plane, source: IpAddr) {
        self.count += 1;
        let now = Instant::now();
        if self.logged.is_none_or(|at| now - at >= REFUSALS_LOGGED) {
            tracing::warn!(%plane, %source, refused = self.count, "too many connections are in their handshake");
            *self = Refusals { count: 0, logged: Some(now) };
        }
    }
}

async fn serve(mesh: &MeshState, plane: Plane, tcp: TcpStream, handshake: HandshakePermit) {
    let began = Instant::now();
    let displaced = handshake.displaced();
    let Some(welcomed) = displaced.run_until_cancelled(welcome(mesh, plane, tcp)).await else {
        mesh.count(plane).failed("displaced-in-handshake");
        return;
    };
    let connection = match welcomed {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%plane, reason = error.reason(), "refused a connection: {error}");
            mesh.count(plane).failed(error.reason());
            displaced.run_until_cancelled(sleep_until(began + FAILED_HANDSHAKE)).await;
            return;
        }
    };
    drop(handshake);
    mesh.count(plane).accepted();
    let id = connection.peer;
    let (accepted, older) = mesh.accepted.enter(plane, id, &mesh.limits);
    let _entered = Entered { mesh, plane, id, accepted: &accepted, _ended: accepted.ended.clone().drop_guard() };
    let serving = async {
        if let Some(older) = older {
            older.replaced.cancel();
            older.ended.cancelled().await;
        }
        use_until_end(mesh, plane, connection, &accepted).await;
    };
    accepted.replaced.run_until_cancelled(serving).await;
}

async fn use_until_end(mesh: &MeshState, plane: Plane, connection: Connection, accepted: &Accepted) {
    let id = connection.peer;
    let ended = match plane {
        Plane::Data => data::run(mesh, connection, &accepted.outbox).await,
        Plane::FailureDetection => pings::run_accepted(mesh, connection).await,
    };
    tracing::debug!(peer = %id, %plane, reason = ended.reason(), "accepted connection ended: {ended}");
    mesh.count(plane).failed(ended.reason());
}

/// A place in the table for as long as this lives, also when its task is dropped.
struct Entered<'a> {
    mesh: &'a MeshState,
    plane: Plane,
    id: MemberId,
    accepted: &'a Arc<Accepted>,
    _ended: DropGuard,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.mesh.accepted.leave(self.plane, self.id, self.accepted);
    }
}
