//! What all tasks of one mesh share: settings, tables and the channels out. It knows none of the tasks.

use std::sync::{Arc, PoisonError, RwLock};

use sidegrid_core::ClusterUid;
use sidegrid_core::member::Member;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::accepted::AcceptedTable;
use crate::clock::Clock;
use crate::codec::{FORMAT, Hello, OLDEST_FORMAT};
use crate::counters::{Counters, PlaneCounters};
use crate::heartbeat::Heartbeat;
use crate::inbound::Inbound;
use crate::limits::NetLimits;
use crate::peers::Peers;
use crate::plane::Plane;
use crate::reports::Reports;
use crate::tls::TlsMode;

/// One for each mesh.
pub(crate) struct MeshState {
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

impl MeshState {
    /// How a connection made now is secured.
    pub(crate) fn tls(&self) -> TlsMode {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_tls(&self, tls: TlsMode) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Whether certificates are used and our own is not valid by this machine's calendar: what then fails says nothing of
    /// a peer.
    pub(crate) fn own_certificate_is_out_of_date(&self) -> bool {
        matches!(&*self.tls.read().unwrap_or_else(PoisonError::into_inner), TlsMode::Mutual(tls) if !tls.is_in_date())
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
        let _guard = Critical { state: self, name };
        self.stop.run_until_cancelled(part).await;
    }
}

struct Critical<'a> {
    state: &'a MeshState,
    name: &'static str,
}

impl Drop for Critical<'_> {
    fn drop(&mut self) {
        if !self.state.stop.is_cancelled() {
            tracing::error!(part = self.name, "a part of the transport ended by itself");
            self.state.failed.send_replace(Some(self.name));
        }
    }
}
