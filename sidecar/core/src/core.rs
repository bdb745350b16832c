//! The core: one owner of all protocol state.

use std::sync::Arc;

use crate::document::Agreed;
use crate::event::{Effects, Event};
use crate::fault::Bugs;
use crate::gate::Gate;
use crate::lease::Lease;
use crate::limits::Limits;
use crate::member::Member;
use crate::storage::Storage;
use crate::time::Time;

/// What a core is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This incarnation.
    pub me: Member,
    /// Whether this incarnation holds what makes its platform identity exclusive (P-1).
    pub exclusive: bool,
    /// Whether to become a member; a client only forwards.
    pub joins: bool,
    /// What this node's own settings say that all must agree on; must match the document's.
    pub agreed: Agreed,
    /// The cluster to create when the registry is empty; none: wait for whoever is told to create it.
    pub creates: Option<crate::ids::ClusterUid>,
    /// An incarnation that ran before in this same process and is over.
    pub formerly: Option<crate::ids::MemberId>,
    /// Bounds.
    pub limits: Limits,
    /// Seeds backoff and tie-breaks.
    pub seed: u64,
    /// None in production.
    pub bugs: Bugs,
}

/// One incarnation's protocol state.
#[derive(Debug)]
pub struct Core<S: Storage> {
    gate: Arc<Gate>,
    lease: Arc<Lease>,
    #[expect(dead_code)]
    store: Arc<S>,
}

impl<S: Storage> Core<S> {
    /// A core that knows no view yet. Its store must be empty.
    pub fn new(_setup: Setup, _store: Arc<S>, _now: Time) -> Core<S> {
        unreachable!()
    }

    /// Takes one event. Deterministic: the same events at the same times have the same effects.
    pub fn step(&mut self, _now: Time, _event: Event, _effects: &mut Effects) {}

    /// When [`Event::Tick`] is next due, if nothing else happens before.
    #[must_use]
    pub fn next_turn(&self, now: Time) -> Time {
        now
    }

    /// The read gate, for readers on other threads.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Lease and promise, for the failure-detection thread.
    #[must_use]
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }

    /// What people and metrics are shown. Built on each call; cheap enough for a few times a second.
    #[must_use]
    pub fn snapshot(&self, _now: Time) -> crate::snapshot::Snapshot {
        unreachable!()
    }
}
