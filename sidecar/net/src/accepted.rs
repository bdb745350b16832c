//! Connections that others dialed.
//!
//! A data connection is read and, when its dialer is nobody that we have a standing connection to (a client, a joiner
//! that is not yet a peer), also written: so whoever introduced itself is answered, even if it listens nowhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sidegrid_core::MemberId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::connection::{Connection, welcome};
use crate::context::MeshContext;
use crate::counters::Plane;
use crate::limits::NetLimits;
use crate::outbox::Outbox;
use crate::{data, failure_detection};

/// The newest accepted connection of each sender, by plane. Bounded by [`NetLimits::connections`].
#[derive(Debug, Default)]
pub(crate) struct AcceptedTable {
    planes: [Mutex<HashMap<MemberId, Arc<Accepted>>>; 2],
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What it shall write.
    pub(crate) outbox: Outbox,
    replaced: CancellationToken,
    ended: CancellationToken,
}

impl AcceptedTable {
    /// The data connection that this sender dialed.
    pub(crate) fn data_of(&self, id: MemberId) -> Option<Arc<Accepted>> {
        self.plane(Plane::Data).get(&id).cloned()
    }

    /// All data connections.
    pub(crate) fn all_data(&self) -> Vec<Arc<Accepted>> {
        self.plane(Plane::Data).values().cloned().collect()
    }

    fn plane(&self, plane: Plane) -> MutexGuard<'_, HashMap<MemberId, Arc<Accepted>>> {
        self.planes[plane as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of the sender's older connection; the older one, to be closed first, is given back.
    fn enter(&self, plane: Plane, id: MemberId, limits: &NetLimits) -> (Arc<Accepted>, Option<Arc<Accepted>>) {
        let accepted = Arc::new(Accepted {
            outbox: Outbox::new(limits),
            replaced: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let older = self.plane(plane).insert(id, Arc::clone(&accepted));
        (accepted, older)
    }

    fn leave(&self, plane: Plane, id: MemberId, accepted: &Arc<Accepted>) {
        let mut table = self.plane(plane);
        if table.get(&id).is_some_and(|newest| Arc::ptr_eq(newest, accepted)) {
            table.remove(&id);
        }
    }
}

/// Accepts connections of one plane.
pub(crate) async fn accept(context: Arc<MeshContext>, plane: Plane, listener: TcpListener, tasks: TaskTracker) {
    let handshakes = Arc::new(Semaphore::new(context.limits.handshakes));
    let places = Arc::new(Semaphore::new(context.limits.connections));
    loop {
        // While too many strangers are at the door the next ones wait in the backlog.
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    context.count(plane).refused_at_limit();
                    continue;
                };
                let context = Arc::clone(&context);
                tasks.spawn(async move {
                    let serving = serve(&context, plane, tcp, handshake);
                    context.stop.run_until_cancelled(serving).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely; the connection stays in the backlog.
                tracing::debug!(%plane, "can't accept: {error}");
                context.count(plane).failed("accept-failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Before accepting again after a fault.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn serve(context: &MeshContext, plane: Plane, tcp: TcpStream, handshake: OwnedSemaphorePermit) {
    let welcomed = welcome(context, plane, tcp).await;
    drop(handshake);
    let connection = match welcomed {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%plane, reason = error.reason(), "refused a connection: {error}");
            context.count(plane).failed(error.reason());
            return;
        }
    };
    context.count(plane).accepted();
    let id = connection.peer;
    let (accepted, older) = context.accepted.enter(plane, id, &context.limits);
    let _entered = Entered { context, plane, id, accepted: &accepted, _ended: accepted.ended.clone().drop_guard() };
    let serving = async {
        if let Some(older) = older {
            older.replaced.cancel();
            older.ended.cancelled().await;
        }
        use_until_end(context, plane, connection, &accepted).await;
    };
    accepted.replaced.run_until_cancelled(serving).await;
}

async fn use_until_end(context: &MeshContext, plane: Plane, connection: Connection, accepted: &Accepted) {
    let id = connection.peer;
    let ended = match plane {
        Plane::Data => data::run(context, connection, &accepted.outbox).await,
        Plane::FailureDetection => failure_detection::run_accepted(context, connection).await,
    };
    tracing::debug!(peer = %id, %plane, reason = ended.reason(), "accepted connection ended: {ended}");
    context.count(plane).failed(ended.reason());
}

/// A place in the table for as long as this lives, also when its task is dropped.
struct Entered<'a> {
    context: &'a MeshContext,
    plane: Plane,
    id: MemberId,
    accepted: &'a Arc<Accepted>,
    _ended: DropGuard,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.context.accepted.leave(self.plane, self.id, self.accepted);
    }
}
