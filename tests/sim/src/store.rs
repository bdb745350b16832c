//! A small store of ordered maps: the same calls give the same answers in the same order, whatever the machine.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sidegrid_core::storage::{CacheKey, Record, Removal, Storage};
use sidegrid_core::{CacheId, GroupId, Time, Version};

/// A store whose order of keys is their own.
#[derive(Debug)]
pub(crate) struct MapStore {
    /// Most live entries of a cache before it names victims; none: no bound.
    max_entries: Option<usize>,
    groups: Mutex<Vec<BTreeMap<CacheKey, Record>>>,
}

impl MapStore {
    /// An empty store.
    pub(crate) fn new(groups: usize, max_entries: Option<usize>) -> MapStore {
        MapStore { max_entries, groups: Mutex::new(vec![BTreeMap::new(); groups]) }
    }

    fn groups(&self) -> MutexGuard<'_, Vec<BTreeMap<CacheKey, Record>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All records of a group, in key order.
    pub(crate) fn records(&self, group: GroupId) -> Vec<(CacheKey, Record)> {
        self.groups()[group.index()].iter().map(|(k, r)| (k.clone(), r.clone())).collect()
    }

    /// Number of records, tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.groups().iter().map(BTreeMap::len).sum()
    }
}

impl Storage for MapStore {
    fn get(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.peek(group, key)
    }

    fn peek(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.groups()[group.index()].get(key).cloned()
    }

    fn put(&self, group: GroupId, key: &CacheKey, record: Record) {
        self.groups()[group.index()].insert(key.clone(), record);
    }

    fn forget(&self, group: GroupId, key: &CacheKey, version: Version) {
        let mut groups = self.groups();
        let records = &mut groups[group.index()];
        if records.get(key).is_some_and(|r| r.version == version) {
            records.remove(key);
        }
    }

    fn clear(&self, group: GroupId) {
        self.groups()[group.index()].clear();
    }

    fn keys(&self, group: GroupId) -> Vec<CacheKey> {
        self.groups()[group.index()].keys().cloned().collect()
    }

    fn expired(&self, group: GroupId, now: Time, max: usize) -> Vec<Removal> {
        let groups = self.groups();
        let due = groups[group.index()].iter().filter_map(|(key, record)| {
            let deadline = record.entry.as_ref()?.deadline.filter(|d| *d <= now)?;
            Some((deadline, Removal { group, key: key.clone(), version: record.version }))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(deadline, _)| *deadline);
        due.into_iter().take(max).map(|(_, removal)| removal).collect()
    }

    fn victims(&self, cache: CacheId, _now: Time, max: usize) -> Vec<Removal> {
        let Some(bound) = self.max_entries else { return Vec::new() };
        let groups = self.groups();
        let mut live: Vec<Removal> = Vec::new();
        for (index, records) in (0u32..).zip(groups.iter()) {
            let entries = records.iter().filter(|(key, record)| key.cache == cache && record.entry.is_some());
            live.extend(entries.map(|(key, record)| Removal {
                group: GroupId(index),
                key: key.clone(),
                version: record.version,
            }));
        }
        let over = live.len().saturating_sub(bound);
        live.sort_by_key(|removal| removal.version);
        live.truncate(over.min(max));
        live
    }

    fn is_full(&self, _cache: CacheId, _key_and_value_bytes: usize) -> bool {
        false
    }
}
