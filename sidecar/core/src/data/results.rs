//! Remembered results of operations, so that a retry applies once (O-1, O-2). Bounded: results of an origin's own ids go
//! when the origin says that it is over with them, results of apps' idempotency keys by number.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::MemberId;
use crate::limits::Limits;
use crate::message::RememberedResult;
use crate::operation::{OperationId, Outcome};
use crate::time::Time;

/// Entries whose ids are remembered in one group at most; the one that was silent longest goes first.
const ORIGINS: usize = 1_024;

/// What is known of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResultLookup {
    /// Nothing: decide it.
    New,
    /// Its write is ordered and not stable yet; the counter of that write.
    Pending(u64, Outcome),
    /// It was applied, with this result.
    Applied(Outcome),
    /// It was decided without a write, with this result.
    Decided(Outcome),
    /// This attempt was refused before, and stays refused.
    Refused,
    /// Its origin is over with it.
    Over,
}

#[derive(Debug, Default)]
pub(super) struct Results {
    origins: BTreeMap<MemberId, Session>,
    keyed: BTreeMap<u128, RememberedResult>,
    /// Oldest first, with when each came to be known here.
    keyed_order: VecDeque<(u128, Time)>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Session {
    over_below: u64,
    used: u64,
    applied: BTreeMap<u64, RememberedResult>,
    /// Decided without a write, here alone: valid while this node is the primary in this view.
    /// With the counter of the write that it was decided on, which may be pending still.
    decided: BTreeMap<u64, (u64, Outcome)>,
    /// Highest attempt refused, here alone.
    refused: BTreeMap<u64, u32>,
}

impl Results {
    pub(super) fn len(&self) -> usize {
        let of = |s: &Session| s.applied.len() + s.decided.len() + s.refused.len();
        self.origins.values().map(of).sum::<usize>() + self.keyed.len()
    }

    fn session(&mut self, origin: MemberId) -> &mut Session {
        self.clock += 1;
        let clock = self.clock;
        if !self.origins.contains_key(&origin) && self.origins.len() >= ORIGINS {
            let oldest = self.origins.iter().min_by_key(|(_, s)| s.used).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.origins.remove(&oldest);
            }
        }
        let session = self.origins.entry(origin).or_default();
        session.used = clock;
        session
    }

    /// The origin is over with everything below this.
    pub(super) fn over_below(&mut self, origin: MemberId, below: u64) {
        let session = self.session(origin);
        if below > session.over_below {
            session.over_below = below;
            session.applied = session.applied.split_off(&below);
            session.decided = session.decided.split_off(&below);
            session.refused = session.refused.split_off(&below);
        }
    }

    /// Below which the origin has said that it is over with its operations.
    pub(super) fn known_over(&self, origin: MemberId) -> u64 {
        self.origins.get(&origin).map_or(0, |s| s.over_below)
    }

    /// What is known of an attempt. `stable` is the counter up to which writes are stable or answered.
    pub(super) fn look_up(
        &self,
        id: OperationId,
        attempt: u32,
        idempotency: Option<u128>,
        is_pending: impl Fn(u64) -> bool,
    ) -> ResultLookup {
        let known = |r: &RememberedResult| match is_pending(r.version.counter) {
            true => ResultLookup::Pending(r.version.counter, r.outcome.clone()),
            false => ResultLookup::Applied(r.outcome.clone()),
        };
        if let Some(session) = self.origins.get(&id.origin) {
            if id.sequence < session.over_below {
                return ResultLookup::Over;
            }
            if let Some(result) = session.applied.get(&id.sequence) {
                return known(result);
            }
            if let Some((on, outcome)) = session.decided.get(&id.sequence) {
                return match is_pending(*on) {
                    true => ResultLookup::Pending(*on, outcome.clone()),
                    false => ResultLookup::Decided(outcome.clone()),
                };
            }
            if session.refused.get(&id.sequence).is_some_and(|refused| attempt <= *refused) {
                return ResultLookup::Refused;
            }
        }
        idempotency.and_then(|key| self.keyed.get(&key)).map_or(ResultLookup::New, known)
    }

    /// A write with this result was applied to this copy.
    pub(super) fn applied(&mut self, result: &RememberedResult, limits: &Limits, now: Time) {
        self.over_below(result.id.origin, result.over_below);
        let session = self.session(result.id.origin);
        if result.id.sequence >= session.over_below {
            session.applied.insert(result.id.sequence, result.clone());
        }
        let Some(key) = result.idempotency else { return };
        if self.keyed.insert(key, result.clone()).is_none() {
            self.keyed_order.push_back((key, now));
        }
        while self.keyed_order.len() > limits.keyed_results_per_group {
            self.forget_oldest_keyed();
        }
    }

    fn forget_oldest_keyed(&mut self) {
        if let Some((old, _)) = self.keyed_order.pop_front() {
            self.keyed.remove(&old);
        }
    }

    /// Whether the results of idempotency keys fill their room and none is old enough to go: one more would make a
    /// retry within the promised time apply twice.
    pub(super) fn keyed_full(&mut self, limits: &Limits, now: Time) -> bool {
        while self.keyed_order.front().is_some_and(|(_, at)| now.since(*at) >= limits.keyed_result_life) {
            self.forget_oldest_keyed();
        }
        self.keyed_order.len() >= limits.keyed_results_per_group
    }

    /// An attempt was decided without a write, on what the write with counter `on` left.
    pub(super) fn decided(&mut self, id: OperationId, on: u64, outcome: &Outcome) {
        let session = self.session(id.origin);
        if id.sequence >= session.over_below {
            session.decided.insert(id.sequence, (on, outcome.clone()));
        }
    }

    /// An attempt was refused: it stays refused, however often it comes (O-3).
    pub(super) fn refused(&mut self, id: OperationId, attempt: u32) {
        let session = self.session(id.origin);
        if id.sequence >= session.over_below {
            let refused = session.refused.entry(id.sequence).or_default();
            *refused = attempt.max(*refused);
        }
    }

    /// What was decided and refused here alone is void in another view.
    pub(super) fn new_view(&mut self) {
        for session in self.origins.values_mut() {
            session.decided.clear();
            session.refused.clear();
        }
    }

    /// Results of writes above a counter.
    pub(super) fn above(&self, counter: u64) -> Vec<RememberedResult> {
        let by_id = self.origins.values().flat_map(|s| s.applied.values());
        let keyed = self.keyed.values();
        let mut above: Vec<_> = by_id.chain(keyed).filter(|r| r.version.counter > counter).cloned().collect();
        above.sort_unstable_by_key(|r| r.version.counter);
        above.dedup_by_key(|r| r.version.counter);
        above
    }

    /// The results of writes up to a counter, for a new copy: those above it come with their writes, and without its
    /// write no result may be remembered.
    pub(super) fn up_to(&self, counter: u64) -> Vec<RememberedResult> {
        let by_id = self.origins.values().flat_map(|s| s.applied.values());
        let keyed = self.keyed_order.iter().filter_map(|(key, _)| self.keyed.get(key));
        by_id.chain(keyed).filter(|r| r.version.counter <= counter).cloned().collect()
    }
}
