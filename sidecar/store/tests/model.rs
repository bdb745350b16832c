//! The store against a plain map, one random operation after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sidegrid_core::storage::{CacheKey, Record, Removal, Storage, StoredEntry};
use sidegrid_core::{CacheId, GroupId, Time, Version, ViewNumber};
use sidegrid_store::{CacheBounds, Figures, Policy, Store, StoreSettings};

const GROUPS: u32 = 2;
const CACHES: u16 = 3;

fn bounds(cache: CacheId) -> CacheBounds {
    match cache.0 {
        0 => CacheBounds { max_entries: Some(5), ..CacheBounds::default() },
        1 => CacheBounds { max_bytes: Some(2_000), policy: Policy::WTinyLfu, ..CacheBounds::default() },
        _ => CacheBounds::default(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Value { key: u8, size: usize, ttl: Option<u64>, content_type: Option<u8>, touched: bool },
    Tombstone { key: u8 },
    Forget { key: u8, right_version: bool },
    Clear,
    Get { key: u8 },
    Victims { max: usize },
    Sleep { millis: u64 },
}

fn step() -> impl Strategy<Value = (u32, u16, Step)> {
    // More keys than a group's table has content types, so that it overflows at times.
    let key = 0..90u8;
    let few_or_many = prop_oneof![0..4u8, key];
    let key = few_or_many;
    let kind = prop_oneof![
        8 => (key.clone(), 0..200usize, prop::option::of(0..3_000u64), prop::option::of(0..80u8), any::<bool>())
            .prop_map(|(key, size, ttl, content_type, touched)| Step::Value { key, size, ttl, content_type, touched }),
        3 => key.clone().prop_map(|key| Step::Tombstone { key }),
        3 => (key.clone(), any::<bool>()).prop_map(|(key, right_version)| Step::Forget { key, right_version }),
        4 => key.prop_map(|key| Step::Get { key }),
        2 => (0..4usize).prop_map(|max| Step::Victims { max }),
        2 => (0..1_500u64).prop_map(|millis| Step::Sleep { millis }),
        1 => Just(Step::Clear),
    ];
    (0..GROUPS, 0..CACHES, kind)
}

type Model = BTreeMap<(u32, CacheKey), Record>;

struct Pair {
    store: Store,
    model: Model,
    now: Time,
    counter: u64,
    /// Named victims: until when, and with which version.
    named: BTreeMap<(u32, CacheKey), (Time, Version)>,
}

impl Pair {
    fn new() -> Pair {
        let caches = (0..CACHES).map(|cache| bounds(CacheId(cache))).collect();
        let store = Store::new(StoreSettings { groups: GROUPS as usize, caches, seed: 7 });
        Pair { store, model: Model::new(), now: Time::from_nanos(1), counter: 0, named: BTreeMap::new() }
    }

    fn apply(&mut self, group: u32, cache: u16, step: Step) {
        let key_of = |key: u8| CacheKey { cache: CacheId(cache), key: Bytes::from(format!("key-{key}")) };
        self.counter += 1;
        let version = Version { view: ViewNumber(3), counter: self.counter };
        match step {
            Step::Value { key, size, ttl, content_type, touched } => {
                let entry = StoredEntry {
                    value: Bytes::from(vec![key; size]),
                    content_type: content_type.map(|n| Arc::from(format!("x/{n}"))),
                    etag: if touched { Version { counter: 0, ..version } } else { version },
                    deadline: ttl.map(|ttl| self.now + Duration::from_millis(ttl)),
                    written: self.now,
                };
                self.put(group, key_of(key), Record { version, entry: Some(entry) });
            }
            Step::Tombstone { key } => self.put(group, key_of(key), Record { version, entry: None }),
            Step::Forget { key, right_version } => self.forget(group, &key_of(key), right_version),
            Step::Clear => {
                self.store.clear(GroupId(group));
                self.model.retain(|(of, _), _| *of != group);
            }
            Step::Get { key } => {
                let key = key_of(key);
                let want = self.model.get(&(group, key.clone())).cloned();
                assert_eq!(self.store.get(GroupId(group), &key), want);
            }
            Step::Victims { max } => self.victims(CacheId(cache), max),
            Step::Sleep { millis } => self.now = self.now + Duration::from_millis(millis),
        }
    }

    fn put(&mut self, group: u32, key: CacheKey, record: Record) {
        self.store.put(GroupId(group), &key, record.clone());
        self.model.insert((group, key), record);
    }

    fn forget(&mut self, group: u32, key: &CacheKey, right_version: bool) {
        let at = (group, key.clone());
        let held = self.model.get(&at).map_or(Version::ZERO, |record| record.version);
        let asked = if right_version { held } else { Version { view: ViewNumber(99), ..held } };
        self.store.forget(GroupId(group), key, asked);
        if right_version {
            self.model.remove(&at);
        }
    }

    /// Each victim is there with that version, and none is named twice within a quarter of a second while it stays as it is.
    fn victims(&mut self, cache: CacheId, max: usize) {
        let over = self.is_over(cache);
        let victims = self.store.victims(cache, self.now, max);
        assert!(victims.len() <= max);
        assert!(over || victims.is_empty(), "victims of a cache within its bounds");
        for Removal { group, key, version } in victims {
            assert_eq!(key.cache, cache);
            let at = (group.0, key);
            let held = self.model.get(&at).expect("a victim is there");
            assert!(held.version == version && held.entry.is_some());
            let named = self.named.insert(at, (self.now + Duration::from_millis(250), version));
            assert!(named.is_none_or(|(until, of)| until <= self.now || of != version), "named twice");
        }
    }

    fn is_over(&self, cache: CacheId) -> bool {
        let entries = self.model.iter().filter(|((_, key), record)| key.cache == cache && record.entry.is_some());
        let (count, bytes) = entries.fold((0, 0), |(n, sum), ((_, key), record)| (n + 1, sum + cost(key, record)));
        let CacheBounds { max_entries, max_bytes, .. } = bounds(cache);
        max_entries.is_some_and(|most| count > most) || max_bytes.is_some_and(|most| bytes > most)
    }

    fn check(&self) {
        for group in 0..GROUPS {
            let of_group = || self.model.iter().filter(move |((of, _), _)| *of == group);
            let want: BTreeSet<&CacheKey> = of_group().map(|((_, key), _)| key).collect();
            let keys = self.store.keys(GroupId(group));
            assert_eq!(keys.len(), self.store.records(GroupId(group)));
            assert_eq!(keys.iter().collect::<BTreeSet<_>>(), want);
            assert_eq!(keys.len(), want.len());

            let mut due: Vec<Time> = of_group()
                .filter_map(|(_, record)| record.entry.as_ref()?.deadline)
                .filter(|d| *d <= self.now)
                .collect();
            due.sort();
            let expired = self.store.expired(GroupId(group), self.now, 5);
            let deadlines: Vec<Time> = expired.iter().map(|removal| self.deadline(removal)).collect();
            due.truncate(5);
            assert_eq!(deadlines, due, "soonest first, none missing");
            let different: BTreeSet<_> = expired.iter().map(|removal| &removal.key).collect();
            assert_eq!(different.len(), expired.len());
        }
        for ((group, key), record) in &self.model {
            assert_eq!(self.store.peek(GroupId(*group), key).as_ref(), Some(record));
        }
        for cache in (0..CACHES).map(CacheId) {
            let mut want = Figures::default();
            for ((_, key), record) in self.model.iter().filter(|((_, key), _)| key.cache == cache) {
                want.entries += u64::from(record.entry.is_some());
                want.tombstones += u64::from(record.entry.is_none());
                want.bytes += cost(key, record);
            }
            let mut figures = self.store.figures(cache);
            // Whether a content type is held in the group's table depends on the order of writes.
            let inline_types = figures.bytes.saturating_sub(want.bytes);
            assert!(inline_types <= 100 * want.entries.saturating_sub(64), "{figures:?}, not {want:?}");
            figures.bytes -= inline_types;
            assert_eq!(figures, want);
        }
    }

    fn deadline(&self, removal: &Removal) -> Time {
        let record = &self.model[&(removal.group.0, removal.key.clone())];
        assert_eq!(record.version, removal.version);
        record.entry.as_ref().and_then(|entry| entry.deadline).expect("it expired")
    }
}

fn cost(key: &CacheKey, record: &Record) -> u64 {
    let bounds = bounds(key.cache);
    let bytes = match &record.entry {
        None => bounds.tombstone_overhead(),
        Some(entry) => bounds.overhead() + entry.value.len() + if entry.etag == record.version { 0 } else { 16 },
    };
    (bytes + key.key.len()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every call answers as the map does, and the figures are its sums, to the byte. (E-1, E-3: the store itself
    /// removes nothing; it names what has expired and what should go.)
    #[test]
    fn the_store_is_a_map(steps in prop::collection::vec(step(), 1..250)) {
        let mut pair = Pair::new();
        for (group, cache, step) in steps {
            pair.apply(group, cache, step);
            pair.check();
        }
        for group in 0..GROUPS {
            pair.store.clear(GroupId(group));
        }
        for cache in 0..CACHES {
            prop_assert_eq!(pair.store.figures(CacheId(cache)), Figures::default());
        }
    }
}

/// More different content types in one group than its table takes: the others are kept in their records.
#[test]
fn every_content_type_comes_back() {
    let mut pair = Pair::new();
    for round in 0..3u8 {
        for key in 0..200u8 {
            let content_type = Some(key.wrapping_mul(3).wrapping_add(round));
            pair.apply(0, 2, Step::Value { key, size: 3, ttl: None, content_type, touched: round == 1 });
        }
        for key in 0..200u8 {
            pair.apply(0, 2, Step::Get { key });
        }
    }
}
