//! Which entries a store names when a cache is over its bounds, and when it says that a cache is full.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::storage::{CacheKey, Fullness, Record, Removal, Storage, StoredEntry};
use sidegrid_core::{CacheId, GroupId, Time, Version, ViewNumber};
use sidegrid_store::{CacheBounds, Policy, Store, StoreSettings, WhenFull};

const POLICIES: [Policy; 3] = [Policy::S3Fifo, Policy::Lru, Policy::WTinyLfu];

fn store(bounds: CacheBounds) -> Store {
    Store::new(StoreSettings { groups: 4, caches: vec![bounds], seed: 1 })
}

fn key(n: u32) -> CacheKey {
    CacheKey { cache: CacheId(0), key: Bytes::from(format!("{n:08}")) }
}

fn group(n: u32) -> GroupId {
    GroupId(n % 4)
}

fn put(store: &Store, n: u32, size: usize) {
    let version = Version { view: ViewNumber(1), counter: u64::from(n) + 1 };
    let value = Bytes::from(vec![0; size]);
    let entry = StoredEntry { value, content_type: None, etag: version, deadline: None, written: Time::ZERO };
    store.put(group(n), &key(n), Record { version, entry: Some(entry) });
}

fn remove(store: &Store, victims: &[Removal]) {
    for victim in victims {
        store.put(victim.group, &victim.key, Record { version: victim.version, entry: None });
    }
}

fn entries(policy: Policy, most: u64) -> CacheBounds {
    CacheBounds { max_entries: Some(most), policy, ..CacheBounds::default() }
}

/// E-3: a victim is named for whoever is its primary, of any group, and stays until that one removes it.
#[test]
fn just_enough_are_named_once_and_again_when_nothing_came_of_it() {
    for policy in POLICIES {
        let store = store(entries(policy, 100));
        (0..110).for_each(|n| put(&store, n, 10));
        let start = Time::from_nanos(5);
        let first = store.victims(CacheId(0), start, 6);
        let second = store.victims(CacheId(0), start, 100);
        assert_eq!((first.len(), second.len()), (6, 4), "{policy:?}: ten are too many");
        let named: BTreeSet<_> = first.iter().chain(&second).map(|victim| victim.key.clone()).collect();
        assert_eq!(named.len(), 10);
        assert!(store.victims(CacheId(0), start + Duration::from_millis(240), 100).is_empty());
        assert_eq!(store.figures(CacheId(0)).entries, 110, "naming removes nothing");

        remove(&store, &first);
        assert!(store.victims(CacheId(0), start + Duration::from_millis(240), 100).is_empty());
        let again = store.victims(CacheId(0), start + Duration::from_millis(251), 100);
        assert_eq!(again.len(), 4, "{policy:?}: nobody removed the four");
        let left: BTreeSet<_> = (0..4).map(GroupId).flat_map(|group| store.keys(group)).collect();
        let gone: BTreeSet<_> = first.iter().map(|victim| victim.key.clone()).collect();
        assert!(again.iter().all(|victim| left.contains(&victim.key) && !gone.contains(&victim.key)));
    }
}

#[test]
fn a_new_value_takes_the_name_away() {
    for policy in POLICIES {
        let store = store(entries(policy, 100));
        (0..101).for_each(|n| put(&store, n, 10));
        let [victim] = &store.victims(CacheId(0), Time::ZERO, 9)[..] else { panic!("one is too many") };
        put(&store, victim.key.key.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')), 11);
        let next = store.victims(CacheId(0), Time::ZERO, 9);
        assert_eq!(next.len(), 1, "{policy:?}: one is still too many");
    }
}

/// B-1: however many are too many, a bounded number is named at a time.
#[test]
fn no_more_are_named_at_once_than_the_table_holds() {
    let store = store(entries(Policy::S3Fifo, 0));
    (0..6_000).for_each(|n| put(&store, n, 0));
    assert_eq!(store.victims(CacheId(0), Time::ZERO, usize::MAX).len(), 4_096);
    assert!(store.victims(CacheId(0), Time::ZERO, usize::MAX).is_empty());
    let later = Time::ZERO + Duration::from_secs(2);
    assert_eq!(store.victims(CacheId(0), later, usize::MAX).len(), 4_096);
}

#[test]
fn tombstones_never_push_values_out() {
    for policy in POLICIES {
        let bounds = CacheBounds { max_bytes: Some(50_000), policy, ..CacheBounds::default() };
        let store = store(bounds);
        (0..1_000).for_each(|n| put(&store, n, 10));
        let mut rounds = 0;
        loop {
            let victims = store.victims(CacheId(0), Time::ZERO, 64);
            if victims.is_empty() {
                break;
            }
            remove(&store, &victims);
            rounds += 1;
        }
        let left = store.figures(CacheId(0)).entries;
        let room = 50_000 / (bounds.overhead() as u64 + 8 + 10);
        assert_eq!(left, room, "{policy:?}: after {rounds} rounds");
    }
}

#[test]
fn used_entries_outlive_unused_ones() {
    for policy in POLICIES {
        let store = store(entries(policy, 1_000));
        for n in 0..5_000 {
            put(&store, n, 10);
            (0..50).for_each(|hot| {
                store.get(group(hot), &key(hot));
            });
            remove(&store, &store.victims(CacheId(0), Time::ZERO, 8));
        }
        let kept = (0..50).filter(|&hot| store.peek(group(hot), &key(hot)).is_some_and(|r| r.entry.is_some())).count();
        assert_eq!(kept, 50, "{policy:?}");
        assert_eq!(store.figures(CacheId(0)).entries, 1_000);
    }
}

#[test]
fn only_a_cache_that_rejects_is_full() {
    let rejecting = CacheBounds {
        max_entries: Some(10),
        max_bytes: Some(10_000),
        when_full: WhenFull::Reject,
        ..CacheBounds::default()
    };
    let store_of = |bounds| {
        let store = store(bounds);
        (0..9).for_each(|n| put(&store, n, 10));
        store
    };
    let store = store_of(rejecting);
    let held = store.figures(CacheId(0)).bytes as usize;
    let room = 10_000 - held - rejecting.overhead();
    assert!(!is_full(&store, room) && is_full(&store, room + 1), "bytes, to one");
    put(&store, 9, 10);
    assert!(is_full(&store, 1), "entries");
    put(&store, 10, 10);
    assert!(store.victims(CacheId(0), Time::ZERO, 9).is_empty(), "it evicts nothing");

    let evicting = store_of(CacheBounds { when_full: WhenFull::Evict, ..rejecting });
    (9..20).for_each(|n| put(&evicting, n, 10));
    assert!(!is_full(&evicting, 5_000));
    assert!(is_full(&evicting, 10_000), "it could not be kept even alone");
}

fn is_full(store: &Store, key_and_value_bytes: usize) -> bool {
    store.fullness(CacheId(0), key_and_value_bytes, None) == Fullness::Refuses
}
