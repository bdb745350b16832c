//! The read gate: what lets another thread answer a read from this member's own copy.
//!
//! The core writes it, the failure-detection thread extends the lease in it, and readers on any thread consult it
//! twice: before they look into the store and again before they release what they found (L-5, R-1).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{GroupId, Version};
use crate::operation::EntryView;
use crate::storage::{CacheKey, Record, Storage};
use crate::time::Time;

/// Whether and what this member may answer by itself.
#[derive(Debug)]
pub struct Gate {
    lease_until: AtomicU64,
    groups: Box<[GroupGate]>,
}

#[derive(Debug, Default)]
struct GroupGate {
    /// Number of the view under which this member is an owner with a settled copy; 0: it may not answer.
    open_in: AtomicU64,
    /// Counter up to which every write is stable.
    stable: AtomicU64,
}

/// What a read by the gate comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateRead {
    /// A clean copy.
    Found(EntryView),
    /// Cleanly absent.
    Absent,
    /// The gate can't tell: ask the core.
    AskCore,
}

impl Gate {
    /// A closed gate for this many groups.
    #[must_use]
    pub fn new(groups: usize) -> Gate {
        Gate { lease_until: AtomicU64::new(0), groups: (0..groups).map(|_| GroupGate::default()).collect() }
    }

    /// Whether the lease holds at `now`.
    #[must_use]
    pub fn has_lease(&self, now: Time) -> bool {
        now.as_nanos() < self.lease_until.load(Ordering::SeqCst)
    }

    /// The reading at which the lease runs out.
    #[must_use]
    pub fn lease_until(&self) -> Time {
        Time::from_nanos(self.lease_until.load(Ordering::SeqCst))
    }

    pub(crate) fn set_lease(&self, until: Time) {
        self.lease_until.store(until.as_nanos(), Ordering::SeqCst);
    }

    pub(crate) fn close_all(&self) {
        for group in &self.groups {
            group.open_in.store(0, Ordering::SeqCst);
        }
    }

    pub(crate) fn open(&self, group: GroupId, view: u64, stable: Version) {
        let gate = &self.groups[group.index()];
        gate.stable.store(stable.counter, Ordering::SeqCst);
        gate.open_in.store(view, Ordering::SeqCst);
    }

    pub(crate) fn set_stable(&self, group: GroupId, stable: Version) {
        self.groups[group.index()].stable.store(stable.counter, Ordering::SeqCst);
    }

    /// Reads a key of this member's own copy, if it may answer: lease and role hold before and after, the copy is
    /// clean, and its deadline has not passed (R-1, R-2, E-2). `clock` is read twice.
    pub fn read(&self, store: &impl Storage, group: GroupId, key: &CacheKey, clock: impl Fn() -> Time) -> GateRead {
        let Some(gate) = self.groups.get(group.index()) else { return GateRead::AskCore };
        let role = gate.open_in.load(Ordering::SeqCst);
        if role == 0 || !self.has_lease(clock()) {
            return GateRead::AskCore;
        }
        let record = store.get(group, key);
        let stable = gate.stable.load(Ordering::SeqCst);
        let now = clock();
        let read = match record {
            None => GateRead::Absent,
            Some(Record { version, .. }) if version.counter > stable => GateRead::AskCore,
            Some(Record { entry: None, .. }) => GateRead::Absent,
            Some(Record { entry: Some(entry), .. }) if entry.is_expired(now) => GateRead::AskCore,
            Some(Record { entry: Some(entry), .. }) => GateRead::Found(crate::evaluate::view_of(&entry, now)),
        };
        // Released only while lease and role still are what admitted it.
        if gate.open_in.load(Ordering::SeqCst) != role || !self.has_lease(now) {
            return GateRead::AskCore;
        }
        read
    }
}
