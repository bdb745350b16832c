//! One replica group as this node holds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::Asker;
use super::results::Results;
use super::transfer::{Filling, Sending};
use crate::ids::{GroupId, MemberId, Version, ViewNumber};
use crate::message::{RememberedResult, Write};
use crate::operation::{Operation, Outcome};
use crate::storage::{CacheKey, StoredEntry};
use crate::time::Time;

/// State of one group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) role: Role,
    /// Everything up to here is stable; its counter is what counts.
    pub(super) stable: Version,
    /// Highest counter seen (W-4).
    pub(super) counter: u64,
    /// Records above the watermark.
    pub(super) recent: BTreeMap<u64, (Version, CacheKey)>,
    /// Stable tombstones not forgotten yet.
    pub(super) tombstones: BTreeMap<u64, (Version, CacheKey)>,
    pub(super) results: Results,
    /// The watermark at the last look for writes that nobody called stable.
    pub(super) looked_at: u64,
    /// The view in which the copy held here last started empty.
    pub(super) empty_since: ViewNumber,
    /// The view in which the primary that this copy follows took the role.
    pub(super) primary_since: ViewNumber,
}

/// What this node is in a group.
#[derive(Debug)]
pub(super) enum Role {
    /// Nothing.
    None,
    /// Holds an in-sync copy and is not the primary.
    Owner,
    /// Holds a copy that is being filled.
    Incoming(Filling),
    /// Held an in-sync copy in an incarnation that is over, and keeps it while the group is vacant (V-9).
    Kept,
    /// Orders the writes.
    Primary(Box<Primary>),
}

/// The primary's state.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) phase: Phase,
    /// Owners and incoming members but itself: all must hold a write (W-1).
    pub(super) replicas: SmallVec<[MemberId; 4]>,
    /// Members dropped from the group that have not installed the view yet (D-1).
    pub(super) dropped: BTreeSet<MemberId>,
    /// Since when an answer to a collection or an installation is awaited.
    pub(super) waits_since: Option<Time>,
    /// When it is asked for again, and after which wait once more.
    pub(super) asks: Retry,
    /// Writes not acknowledged by all, or behind such a one, by counter.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Their bytes.
    pub(super) pending_bytes: usize,
    /// For each key with pending writes, their counters in order.
    pub(super) dirty: BTreeMap<CacheKey, VecDeque<u64>>,
    /// Answers held back while there is no lease.
    pub(super) parked: Vec<(Asker, Outcome)>,
    pub(super) sending: BTreeMap<MemberId, Sending>,
}

/// How far a primary's promotion has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Asking the other owners for what lies above the watermark (M-1).
    Collecting {
        awaited: BTreeSet<MemberId>,
        newest: BTreeMap<CacheKey, Write>,
        results: BTreeMap<u64, RememberedResult>,
    },
    /// Having every copy acknowledge what was collected (M-2).
    Resending { count: usize },
    /// Serving.
    Serving,
}

/// A write that is ordered and not yet stable.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) version: Version,
    pub(super) key: CacheKey,
    /// Who has not acknowledged it.
    pub(super) missing: SmallVec<[MemberId; 4]>,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
    /// The entry before this write, shown to readers until the write is stable; only the first of a key's pending
    /// writes is looked at.
    pub(super) before: Option<StoredEntry>,
    /// What it writes; none: a tombstone.
    pub(super) entry: Option<StoredEntry>,
    pub(super) results: Vec<RememberedResult>,
    pub(super) bytes: usize,
    /// What it brings into its cache; 0 for a removal.
    pub(super) intake_bytes: usize,
    /// What it takes in a message, about.
    pub(super) wire_bytes: usize,
    /// Acknowledged and answered; stays until everything before it is.
    pub(super) done: bool,
}

/// A write that was applied here, with what goes with it.
pub(super) struct AppliedWrite {
    pub(super) version: Version,
    pub(super) key: CacheKey,
    pub(super) entry: Option<StoredEntry>,
    pub(super) before: Option<StoredEntry>,
    pub(super) results: Vec<RememberedResult>,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

/// A wait that doubles with each repetition of the same question.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    asked: Time,
    repeated: u32,
}

impl Retry {
    /// Asked for the first time, or again after something that gives hope of an answer.
    pub(super) fn begin(&mut self, now: Time) {
        *self = Retry { asked: now, repeated: 0 };
    }

    /// Whether it is time to ask again, which then counts as asked.
    pub(super) fn is_due(&mut self, now: Time, first: Duration) -> bool {
        let due = now.since(self.asked) >= first * (1 << self.repeated.min(4));
        if due {
            *self = Retry { asked: now, repeated: self.repeated + 1 };
        }
        due
    }
}

/// What happens once a write is stable.
#[derive(Clone, Debug)]
pub(super) enum Waiter {
    /// Somebody is told this.
    Tell(Asker, Outcome),
    /// Somebody's operation is decided again.
    Again(Asker, Operation),
}

impl Group {
    pub(super) fn new(id: GroupId) -> Group {
        Group {
            id,
            role: Role::None,
            stable: Version::ZERO,
            counter: 0,
            recent: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            results: Results::default(),
            looked_at: 0,
            empty_since: ViewNumber::NONE,
            primary_since: ViewNumber::NONE,
        }
    }

    /// Forgets everything: the copy starts again from nothing.
    pub(super) fn reset(&mut self) {
        assert!(self.results.bytes_are_none(), "results that are counted would be lost");
        *self = Group::new(self.id);
    }

    pub(super) fn primary(&self) -> Option<&Primary> {
        match &self.role {
            Role::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    pub(super) fn primary_mut(&mut self) -> Option<&mut Primary> {
        match &mut self.role {
            Role::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.primary().is_some_and(Primary::is_serving)
    }

    /// Whether no copy is being filled or sent, no promotion runs, and no write or answer waits.
    pub(super) fn is_quiet(&self) -> bool {
        match &self.role {
            Role::None | Role::Owner | Role::Kept => true,
            Role::Incoming(_) => false,
            Role::Primary(p) => {
                let waits = !p.pending.is_empty() || !p.dropped.is_empty() || !p.parked.is_empty();
                p.is_serving() && !waits && p.sending.is_empty()
            }
        }
    }

    /// Whether this node holds a copy that gets every write.
    pub(super) fn holds_copy(&self) -> bool {
        !matches!(self.role, Role::None)
    }
}

impl Primary {
    pub(super) fn new(replicas: SmallVec<[MemberId; 4]>, dropped: BTreeSet<MemberId>, phase: Phase) -> Primary {
        Primary {
            phase,
            replicas,
            dropped,
            waits_since: None,
            asks: Retry::default(),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            dirty: BTreeMap::new(),
            parked: Vec::new(),
            sending: BTreeMap::new(),
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Members whose answer to a collection, or installation of the view, is awaited.
    pub(super) fn awaited(&self) -> impl Iterator<Item = MemberId> + '_ {
        let collecting = match &self.phase {
            Phase::Collecting { awaited, .. } => Some(awaited),
            _ => None,
        };
        collecting.into_iter().flatten().chain(&self.dropped).copied()
    }
}
