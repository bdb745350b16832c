//! What all remembered results of a cache may take (O-1, B-1): counted in the cache's bytes, and shared so that no key and
//! no group can use it up for others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Data;
use super::results::Results;
use crate::ids::{CacheId, GroupId};
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage};
use crate::time::Time;

/// How often results are looked through for those whose time is over, and origins for those that have gone.
const PRUNE: Duration = Duration::from_secs(1);
const PRUNE_SESSIONS: Duration = Duration::from_secs(60);
/// What one entry may always take while the cache's budget is passed and not passed twice.
const SMALL_SHARE: usize = 4 << 10;

/// Bytes of remembered results by cache, over all groups.
#[derive(Debug, Default)]
pub(super) struct ResultBudget {
    bytes: BTreeMap<CacheId, i64>,
    pruned: Time,
    sessions_pruned: Time,
}

impl<S: Storage> Data<S> {
    /// Works on a group's results, and counts what changed.
    pub(super) fn with_results<R>(&mut self, group: GroupId, work: impl FnOnce(&mut Results) -> R) -> R {
        let results = &mut self.groups[group.index()].results;
        let worked = work(results);
        for (cache, change) in results.take_changes() {
            if change != 0 {
                *self.result_budget.bytes.entry(cache).or_default() += change;
                self.store.charge(cache, change);
            }
        }
        worked
    }

    /// Whether the result of one more operation with a key may not be remembered: it must then not be applied, since its
    /// retry would apply it again.
    ///
    /// One entry may take a quarter of its cache's budget. While the budget is passed, an entry that takes little of it
    /// still gets its share, and so does a group that has less than its part, up to twice the budget.
    pub(super) fn results_are_full(&self, group: GroupId, key: &CacheKey, entry: u64) -> bool {
        let budget = self.store.results_budget(key.cache);
        let total = self.result_budget.bytes.get(&key.cache).copied().unwrap_or(0).max(0).cast_unsigned();
        let results = &self.groups[group.index()].results;
        let of_entry = results.bytes_of_entry(key.cache, entry);
        if total >= budget.saturating_mul(2) || of_entry as u64 >= budget / 4 {
            return true;
        }
        let part = budget / (self.segments.max(1)) as u64;
        total >= budget && of_entry >= SMALL_SHARE && results.bytes_of(key.cache) as u64 >= part
    }

    /// Forgets what was remembered for its time, at every copy.
    pub(super) fn prune_results(&mut self, cx: &StepContext<'_>) {
        if cx.now.since(self.result_budget.pruned) < PRUNE {
            return;
        }
        self.result_budget.pruned = cx.now;
        let sessions = cx.now.since(self.result_budget.sessions_pruned) >= PRUNE_SESSIONS;
        if sessions {
            self.result_budget.sessions_pruned = cx.now;
        }
        for index in 0..self.groups.len() {
            let group = self.groups[index].id;
            self.with_results(group, |results| {
                results.prune_keyed(&cx.limits, cx.now);
                if sessions {
                    results.prune_sessions(cx.now);
                }
            });
        }
    }

    /// Bytes of remembered results of all caches.
    pub(super) fn result_bytes(&self) -> usize {
        usize::try_from(self.result_budget.bytes.values().sum::<i64>()).unwrap_or(0)
    }
}

/// Tells the entries of a cache apart, for their shares of its budget of results.
pub(super) fn hash_of_key(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}
