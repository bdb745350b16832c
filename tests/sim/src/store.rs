//! The store that ships, as a simulated node has it.

use sidegrid_core::GroupId;
use sidegrid_core::storage::{CacheKey, Record, Storage};
use sidegrid_store::{CacheBounds, Policy, Store, StoreSettings, WhenFull};

use crate::profile::Profile;

/// An empty store; the same seed gives the same order of keys.
pub(crate) fn new_store(profile: &Profile, groups: usize, seed: u64) -> Store {
    let policy = [Policy::S3Fifo, Policy::Lru, Policy::WTinyLfu][(seed % 3) as usize];
    let bounds = CacheBounds {
        max_entries: profile.max_entries.map(|most| most as u64),
        max_bytes: None,
        when_full: WhenFull::Evict,
        policy,
    };
    Store::new(StoreSettings { groups, caches: vec![bounds; profile.caches.len()], seed })
}

/// All records of a group.
pub(crate) fn records(store: &Store, group: GroupId) -> Vec<(CacheKey, Record)> {
    let keys = store.keys(group).into_iter();
    keys.filter_map(|key| store.peek(group, &key).map(|record| (key, record))).collect()
}

/// Number of records in all groups, tombstones included.
pub(crate) fn record_count(store: &Store, groups: usize) -> usize {
    (0u32..).take(groups).map(|group| store.records(GroupId(group))).sum()
}
