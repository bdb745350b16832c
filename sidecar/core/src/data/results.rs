//! Remembered results of operations, so that a retry applies once (O-1, O-2, O-4).
//!
//! A result is kept for its operation's own id until the origin says that it is over with it, and for an app's
//! `Idempotency-Key` for a time, at every copy. Its bytes are counted in its cache's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{CacheId, MemberId};
use crate::limits::Limits;
use crate::message::RememberedResult;
use crate::operation::{Idempotency, OperationId, Outcome};
use crate::time::Time;

/// Origins whose ids are remembered in one group at most; the one that was silent longest goes first.
const ORIGINS: usize = 1_024;
/// An origin that has sent nothing for this long waits for no answer: no operation may take that long.
const SESSION_LIFE: Duration = Duration::from_secs(11 * 60);
/// What a result takes here without a value: itself, and its places in the tables.
const RESULT_BYTES: usize = size_of::<Remembered>() + 96;

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
    /// Its key was first used so long ago that its result may be forgotten.
    Forgotten,
    /// Its key was used for another operation.
    Mismatch,
}

/// Place of a result's write in the group's order: counter, then view.
type Place = (u64, u64);

/// All results of one group.
///
/// Invariants: each of `remembered` is named by a session, by `keyed` or by both, and nothing else is named; `keyed_order` has
/// those of `keyed`; `bytes` and `by_entry` are the sums.
#[derive(Debug, Default)]
pub(super) struct Results {
    remembered: BTreeMap<Place, Remembered>,
    origins: BTreeMap<MemberId, Session>,
    keyed: BTreeMap<u128, Place>,
    /// Oldest first, with when each was applied.
    keyed_order: BTreeMap<(Time, Place), u128>,
    /// Bytes by cache, and of results with a key by cache and entry.
    bytes: BTreeMap<CacheId, usize>,
    by_entry: BTreeMap<(CacheId, u64), usize>,
    /// What was added to `bytes` and not taken yet by [`Results::take_changes`].
    changes: BTreeMap<CacheId, i64>,
}

#[derive(Debug)]
struct Remembered {
    result: RememberedResult,
    /// When it was applied, as a reading of this node's clock.
    since: Time,
    bytes: usize,
    by_id: bool,
    by_key: bool,
}

#[derive(Debug, Default)]
struct Session {
    over_below: u64,
    used: Time,
    applied: BTreeMap<u64, Place>,
    /// Decided without a write, here alone: valid while this node is the primary in this view.
    /// With the counter of the write that it was decided on, which may be pending still.
    decided: BTreeMap<u64, (u64, Outcome)>,
    /// Highest attempt refused, here alone.
    refused: BTreeMap<u64, u32>,
}

impl Results {
    pub(super) fn len(&self) -> usize {
        let of = |s: &Session| s.decided.len() + s.refused.len();
        self.origins.values().map(of).sum::<usize>() + self.remembered.len()
    }

    /// Bytes held for one cache.
    pub(super) fn bytes_of(&self, cache: CacheId) -> usize {
        self.bytes.get(&cache).copied().unwrap_or(0)
    }

    /// Bytes held with keys for one entry, which is named by its hash.
    pub(super) fn bytes_of_entry(&self, cache: CacheId, entry: u64) -> usize {
        self.by_entry.get(&(cache, entry)).copied().unwrap_or(0)
    }

    /// What the bytes of each cache have changed by since the last call.
    pub(super) fn take_changes(&mut self) -> BTreeMap<CacheId, i64> {
        std::mem::take(&mut self.changes)
    }

    /// Whether nothing is held, and nothing is left to count.
    pub(super) fn bytes_are_none(&self) -> bool {
        self.remembered.is_empty() && self.changes.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut changes = std::mem::take(&mut self.changes);
        for (cache, bytes) in bytes {
            *changes.entry(cache).or_default() -= signed(bytes);
        }
        *self = Results { changes, ..Results::default() };
    }

    fn count(&mut self, result: &RememberedResult, bytes: i64) {
        let add = |sum: &mut usize| *sum = usize::try_from(signed(*sum) + bytes).unwrap_or(0);
        add(self.bytes.entry(result.cache).or_default());
        *self.changes.entry(result.cache).or_default() += bytes;
        if let Some(key) = &result.idempotency {
            let sum = self.by_entry.entry((result.cache, key.entry)).or_default();
            add(sum);
            if *sum == 0 {
                self.by_entry.remove(&(result.cache, key.entry));
            }
        }
    }

    /// One of the two names of a result is gone; without any it goes too.
    fn unname(&mut self, place: Place, unname: impl FnOnce(&mut Remembered)) {
        let Some(remembered) = self.remembered.get_mut(&place) else { return };
        unname(remembered);
        if !remembered.by_id
            && !remembered.by_key
            && let Some(gone) = self.remembered.remove(&place)
        {
            self.count(&gone.result, -signed(gone.bytes));
        }
    }

    fn session(&mut self, origin: MemberId, now: Time) -> &mut Session {
        if !self.origins.contains_key(&origin) && self.origins.len() >= ORIGINS {
            let oldest = self.origins.iter().min_by_key(|(_, s)| s.used).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.end_session(oldest);
            }
        }
        let session = self.origins.entry(origin).or_default();
        session.used = now;
        session
    }

    fn end_session(&mut self, origin: MemberId) {
        let session = self.origins.remove(&origin).unwrap_or_default();
        for place in session.applied.into_values() {
            self.unname(place, |r| r.by_id = false);
        }
    }

    /// The origin is over with everything below this.
    pub(super) fn over_below(&mut self, origin: MemberId, below: u64, now: Time) {
        let session = self.session(origin, now);
        if below <= session.over_below {
            return;
        }
        session.over_below = below;
        session.decided = session.decided.split_off(&below);
        session.refused = session.refused.split_off(&below);
        let kept = session.applied.split_off(&below);
        let over = std::mem::replace(&mut session.applied, kept);
        for place in over.into_values() {
            self.unname(place, |r| r.by_id = false);
        }
    }

    /// Below which the origin has said that it is over with its operations.
    pub(super) fn known_over(&self, origin: MemberId) -> u64 {
        self.origins.get(&origin).map_or(0, |s| s.over_below)
    }

    /// What is known of an attempt. `is_pending` says of the counter of a write whether it is not stable yet.
    pub(super) fn look_up(
        &self,
        id: OperationId,
        attempt: u32,
        idempotency: Option<Idempotency>,
        life: Duration,
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
            if let Some(remembered) = session.applied.get(&id.sequence).and_then(|p| self.remembered.get(p)) {
                return known(&remembered.result);
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
        let Some(asked) = idempotency else { return ResultLookup::New };
        match self.keyed.get(&asked.key).and_then(|p| self.remembered.get(p)) {
            Some(r) if r.result.idempotency.is_some_and(|k| k.fingerprint != asked.fingerprint) => {
                ResultLookup::Mismatch
            }
            Some(r) => known(&r.result),
            // Remembered for `life` from when it was applied, which was not before the key's first use (O-4).
            None if asked.age.is_some_and(|age| age >= life) => ResultLookup::Forgotten,
            None => ResultLookup::New,
        }
    }

    /// A write with this result was applied to this copy.
    pub(super) fn applied(&mut self, result: &RememberedResult, limits: &Limits, now: Time) {
        self.over_below(result.id.origin, result.over_below, now);
        let place = (result.version.counter, result.version.view.0);
        if self.remembered.contains_key(&place) {
            return;
        }
        let by_key = result.idempotency.filter(|_| result.age < limits.keyed_result_life);
        let session = self.session(result.id.origin, now);
        let by_id = result.id.sequence >= session.over_below;
        if !by_id && by_key.is_none() {
            return;
        }
        // Of two results of one operation the later holds: a write that was lost with its view was applied again.
        let before = by_id.then(|| session.applied.insert(result.id.sequence, place)).flatten();
        if let Some(before) = before {
            self.unname(before, |r| r.by_id = false);
        }
        let since = Time::from_nanos(now.as_nanos().saturating_sub(nanos(result.age)));
        if let Some(key) = by_key {
            if let Some(before) = self.keyed.insert(key.key, place) {
                self.forget_order(before);
                self.unname(before, |r| r.by_key = false);
            }
            self.keyed_order.insert((since, place), key.key);
        }
        let bytes = RESULT_BYTES + value_bytes(&result.outcome);
        self.count(result, signed(bytes));
        let by_key = by_key.is_some();
        self.remembered.insert(place, Remembered { result: result.clone(), since, bytes, by_id, by_key });
    }

    fn forget_order(&mut self, place: Place) {
        if let Some(remembered) = self.remembered.get(&place) {
            self.keyed_order.remove(&(remembered.since, place));
        }
    }

    /// Forgets the results of keys that were remembered for their time.
    pub(super) fn prune_keyed(&mut self, limits: &Limits, now: Time) {
        while let Some((&(since, place), &key)) = self.keyed_order.first_key_value() {
            if now.since(since) < limits.keyed_result_life {
                break;
            }
            self.keyed_order.remove(&(since, place));
            self.keyed.remove(&key);
            self.unname(place, |r| r.by_key = false);
        }
    }

    /// Forgets origins that wait for nothing any more.
    pub(super) fn prune_sessions(&mut self, now: Time) {
        let gone = self.origins.iter().filter(|(_, s)| now.since(s.used) >= SESSION_LIFE).map(|(id, _)| *id);
        for origin in gone.collect::<Vec<_>>() {
            self.end_session(origin);
        }
    }

    /// An attempt was decided without a write, on what the write with counter `on` left.
    pub(super) fn decided(&mut self, id: OperationId, on: u64, outcome: &Outcome, now: Time) {
        let session = self.session(id.origin, now);
        if id.sequence >= session.over_below {
            session.decided.insert(id.sequence, (on, outcome.clone()));
        }
    }

    /// An attempt was refused: it stays refused, however often it comes (O-3).
    pub(super) fn refused(&mut self, id: OperationId, attempt: u32, now: Time) {
        let session = self.session(id.origin, now);
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

    /// Results of writes above a counter, in order, as they travel.
    pub(super) fn above(&self, counter: u64, now: Time) -> Vec<RememberedResult> {
        self.remembered.range((counter + 1, 0)..).map(|(_, r)| aged(r, now)).collect()
    }

    /// The results of writes up to a counter, for a new copy: those above it come with their writes, and without its
    /// write no result may be remembered.
    pub(super) fn up_to(&self, counter: u64, now: Time) -> Vec<RememberedResult> {
        self.remembered.range(..=(counter, u64::MAX)).map(|(_, r)| aged(r, now)).collect()
    }
}

fn aged(remembered: &Remembered, now: Time) -> RememberedResult {
    RememberedResult { age: now.since(remembered.since), ..remembered.result.clone() }
}

/// Bytes of the value that a result gives back.
pub(super) fn value_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Stored { previous, .. } | Outcome::Deleted { previous } => {
            previous.as_ref().map_or(0, |entry| entry.value.len())
        }
        _ => 0,
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
