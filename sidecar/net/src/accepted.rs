//! Which connections that others dialed stand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sidegrid_core::MemberId;
use tokio_util::sync::CancellationToken;

use crate::limits::NetLimits;
use crate::outbox::Outbox;
use crate::plane::Plane;

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
    /// A newer connection of the same sender takes its place.
    pub(crate) replaced: CancellationToken,
    /// It is closed.
    pub(crate) ended: CancellationToken,
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
    pub(crate) fn enter(
        &self,
        plane: Plane,
        id: MemberId,
        limits: &NetLimits,
    ) -> (Arc<Accepted>, Option<Arc<Accepted>>) {
        let accepted = Arc::new(Accepted {
            outbox: Outbox::new(id, limits),
            replaced: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let older = self.plane(plane).insert(id, Arc::clone(&accepted));
        (accepted, older)
    }

    /// Gives up the place, unless a newer connection has it.
    pub(crate) fn leave(&self, plane: Plane, id: MemberId, accepted: &Arc<Accepted>) {
        let mut table = self.plane(plane);
        if table.get(&id).is_some_and(|newest| Arc::ptr_eq(newest, accepted)) {
            table.remove(&id);
        }
    }
}
