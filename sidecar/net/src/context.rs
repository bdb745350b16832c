//! What all connections of one mesh share.

use std::sync::{Arc, PoisonError, RwLock};

use sidegrid_core::ClusterUid;
use sidegrid_core::member::Member;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accepted::AcceptedTable;
use crate::clock::Clock;
use crate::codec::{FORMAT, Hello, OLDEST_FORMAT};
use crate::counters::{Counters, Plane, PlaneCounters};
use crate::heartbeat::Heartbeat;
use crate::limits::NetLimits;
use crate::mesh::Inbound;
use crate::peers::Peers;
use crate::reports::Reports;
use crate::tls::TlsMode;

/// One for each mesh.
pub(crate) struct MeshContext {
    pub(crate) cluster: ClusterUid,
    pub(crate) me: Member,
    pub(crate) limits: NetLimits,
    pub(crate) lease: Arc<dyn Heartbeat>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) peers: Peers,
    pub(crate) accepted: AcceptedTable,
    pub(crate) reports: Reports,
    pub(crate) inbound: mpsc::Sender<Inbound>,
    /// Bytes of received frames that may still be taken in.
    pub(crate) inbound_bytes: Arc<Semaphore>,
    /// Changes whenever every peer shall be pinged at once.
    pub(crate) ping_now: watch::Sender<u64>,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
    /// Name of a critical part that ended by itself.
    pub(crate) failed: watch::Sender<Option<&'static str>>,
    pub(crate) tls: RwLock<TlsMode>,
}

impl MeshContext {
    /// How a connection made now is secured.
    pub(crate) fn tls(&self) -> TlsMode {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_tls(&self, tls: TlsMode) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Our introduction on a connection of this plane.
    pub(crate) fn hello(&self, plane: Plane) -> Hello {
        Hello { formats: (OLDEST_FORMAT, FORMAT), cluster: self.cluster, plane, member: self.me.clone() }
    }

    pub(crate) fn count(&self, plane: Plane) -> &PlaneCounters {
        self.counters.plane(plane)
    }

    /// Runs a part that must run for as long as the mesh: when it ends by itself or panics, the mesh says so.
    pub(crate) async fn critical(&self, name: &'static str, part: impl Future<Output = ()>) {
        let _guard = Critical { context: self, name };
        self.stop.run_until_cancelled(part).await;
    }
}

struct Critical<'a> {
    context: &'a MeshContext,
    name: &'static str,
}

impl Drop for Critical<'_> {
    fn drop(&mut self) {
        if !self.context.stop.is_cancelled() {
            tracing::error!(part = self.name, "a part of the transport ended by itself");
            self.context.failed.send_replace(Some(self.name));
        }
    }
}
