//! The simplest store: a map. It neither bounds nor orders anything.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sidegrid_core::storage::{CacheKey, Record, Removal, Storage};
use sidegrid_core::{CacheId, GroupId, Time, Version};

#[derive(Debug, Default)]
pub(crate) struct Map(Mutex<BTreeMap<(GroupId, CacheKey), Record>>);

impl Storage for Map {
    fn get(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.peek(group, key)
    }

    fn peek(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.0.lock().unwrap().get(&(group, key.clone())).cloned()
    }

    fn put(&self, group: GroupId, key: &CacheKey, record: Record) {
        self.0.lock().unwrap().insert((group, key.clone()), record);
    }

    fn forget(&self, group: GroupId, key: &CacheKey, version: Version) {
        let mut records = self.0.lock().unwrap();
        if records.get(&(group, key.clone())).is_some_and(|r| r.version == version) {
            records.remove(&(group, key.clone()));
        }
    }

    fn clear(&self, group: GroupId) {
        self.0.lock().unwrap().retain(|(g, _), _| *g != group);
    }

    fn keys(&self, group: GroupId) -> Vec<CacheKey> {
        self.0.lock().unwrap().keys().filter(|(g, _)| *g == group).map(|(_, key)| key.clone()).collect()
    }

    fn expired(&self, group: GroupId, now: Time, max: usize) -> Vec<Removal> {
        let records = self.0.lock().unwrap();
        let due =
            records.iter().filter(|((g, _), r)| *g == group && r.entry.as_ref().is_some_and(|e| e.is_expired(now)));
        due.take(max).map(|((g, key), r)| Removal { group: *g, key: key.clone(), version: r.version }).collect()
    }

    fn victims(&self, _: CacheId, _: Time, _: usize) -> Vec<Removal> {
        Vec::new()
    }

    fn is_full(&self, _: CacheId, _: usize) -> bool {
        false
    }
}
