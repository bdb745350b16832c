//! Many threads on one store: every read is whole, and the sums are right when all have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use sidegrid_core::operation::{OperationKind, Outcome};
use sidegrid_core::storage::{CacheKey, Record, Storage, StoredEntry};
use sidegrid_core::{CacheId, GroupId, Time, Version, ViewNumber};
use sidegrid_store::{CacheBounds, Figures, LocalCache, Policy, Store, StoreSettings};

const POLICIES: [Policy; 3] = [Policy::S3Fifo, Policy::Lru, Policy::WTinyLfu];
const GROUPS: u32 = 4;
const KEYS: u64 = 400;

/// A generator of numbers good enough to mix operations.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn key(n: u64) -> (GroupId, CacheKey) {
    let key = CacheKey { cache: CacheId(0), key: Bytes::from(format!("key-{n}")) };
    (GroupId((n % u64::from(GROUPS)) as u32), key)
}

/// The value tells its key and version, so that a torn read would show.
fn record(n: u64, counter: u64) -> Record {
    let version = Version { view: ViewNumber(1), counter };
    let value = Bytes::from(format!("{n}:{counter}").repeat(1 + (counter % 7) as usize));
    let deadline = counter.is_multiple_of(3).then(|| Time::from_nanos(counter));
    let entry = StoredEntry { value, content_type: None, etag: version, deadline, written: Time::ZERO };
    Record { version, entry: Some(entry) }
}

fn write(store: &Store, seed: u64) {
    let mut state = seed;
    for counter in 1..8_000 {
        let n = next(&mut state) % KEYS;
        let (group, key) = key(n);
        match next(&mut state) % 100 {
            0..60 => store.put(group, &key, record(n, counter)),
            60..75 => {
                store.put(group, &key, Record { version: record(n, counter).version, entry: None });
            }
            75..90 => {
                if let Some(held) = store.peek(group, &key) {
                    store.forget(group, &key, held.version);
                }
            }
            90..98 => {
                for victim in store.victims(CacheId(0), Time::from_nanos(counter), 8) {
                    store.forget(victim.group, &victim.key, victim.version);
                }
            }
            98 => {
                for due in store.expired(group, Time::from_nanos(counter), 8) {
                    store.forget(due.group, &due.key, due.version);
                }
            }
            _ => {
                if n.is_multiple_of(16) {
                    store.clear(group);
                }
            }
        }
    }
}

fn read(store: &Store, seed: u64, ended: &AtomicBool) {
    let mut state = seed;
    while !ended.load(Ordering::Relaxed) {
        let n = next(&mut state) % KEYS;
        let (group, key) = key(n);
        if let Some(Record { version, entry: Some(entry) }) = store.get(group, &key) {
            assert_eq!(Some(&entry), record(n, version.counter).entry.as_ref());
        }
    }
}

#[test]
fn reads_are_whole_and_sums_right() {
    for policy in POLICIES {
        let bounds = CacheBounds { max_entries: Some(150), policy, ..CacheBounds::default() };
        let settings = StoreSettings { groups: GROUPS as usize, caches: vec![bounds], seed: 5 };
        let store = Arc::new(Store::new(settings));
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|n| {
                    scope.spawn({
                        let store = &store;
                        move || write(store, n + 1)
                    })
                })
                .collect();
            for n in 0..2 {
                let (store, ended) = (&store, &ended);
                scope.spawn(move || read(store, n + 100, ended));
            }
            let results: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            ended.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
        let mut want = Figures { bytes: store.figures(CacheId(0)).bytes, ..Figures::default() };
        for group in (0..GROUPS).map(GroupId) {
            for key in store.keys(group) {
                let held = store.peek(group, &key).expect("it was listed");
                want.entries += u64::from(held.entry.is_some());
                want.tombstones += u64::from(held.entry.is_none());
            }
        }
        assert_eq!(store.figures(CacheId(0)), want);
        // The policy knows exactly the entries that are left: it names all of them, each once.
        let over = Store::victims(&store, CacheId(0), Time::NEVER, usize::MAX);
        assert_eq!(over.len() as u64, want.entries.saturating_sub(150));
        (0..GROUPS).for_each(|group| store.clear(GroupId(group)));
        assert_eq!(store.figures(CacheId(0)), Figures::default());
    }
}

#[test]
fn local_counters_are_exact_and_bounds_hold() {
    for policy in POLICIES {
        let bounds = CacheBounds { max_entries: Some(100), policy, ..CacheBounds::default() };
        let (counters, churn) = (LocalCache::new(CacheBounds::default(), 4, 1), LocalCache::new(bounds, 4, 1));
        let add = OperationKind::Increment { by: 1, initial: 0, ttl: None };
        thread::scope(|scope| {
            for thread in 0..4u64 {
                let (counters, churn, add) = (&counters, &churn, &add);
                scope.spawn(move || {
                    let mut state = thread;
                    for _ in 0..3_000 {
                        let n = next(&mut state);
                        assert!(counters.execute(&key(n % 10).1.key, add, Time::ZERO).is_ok());
                        assert!(churn.execute(&key(n % 1_000).1.key, add, Time::ZERO).is_ok());
                        assert!(churn.execute(&key(n % 50).1.key, &OperationKind::Get, Time::ZERO).is_ok());
                    }
                });
            }
        });
        let count = |n| match counters.execute(&key(n).1.key, &add, Time::ZERO) {
            Ok(Outcome::Counter { value, .. }) => value - 1,
            other => panic!("{other:?}"),
        };
        assert_eq!((0..10).map(count).sum::<i64>(), 12_000);
        let figures = churn.figures();
        assert!(figures.held.entries <= 100, "{policy:?}: {figures:?}");
        assert_eq!(figures.stores, 12_000);
        assert_eq!(figures.hits + figures.misses, 12_000);
    }
}
