//! A local cache decides, expires, evicts and refuses by itself.

use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::Time;
use sidegrid_core::operation::{Condition, OperationKind, Outcome};
use sidegrid_store::{CacheBounds, Figures, Full, LocalCache, Policy, WhenFull};

fn key(n: u32) -> Bytes {
    Bytes::from(format!("key-{n}"))
}

fn put(value: impl Into<Bytes>, ttl: Option<Duration>) -> OperationKind {
    let (value, condition) = (value.into(), Condition::Always);
    OperationKind::Put { value, content_type: Some("a/b".into()), ttl, condition, return_previous: false }
}

fn get(cache: &LocalCache, n: u32, now: Time) -> Option<Bytes> {
    match cache.execute(&key(n), &OperationKind::Get, now) {
        Ok(Outcome::Found(entry)) => Some(entry.value),
        Ok(Outcome::Absent) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn operations_are_decided_and_counted() {
    let cache = LocalCache::new(CacheBounds::default(), 4, 11);
    let now = Time::from_nanos(1);
    let Ok(Outcome::Stored { created: true, etag, .. }) = cache.execute(&key(1), &put("one", None), now) else {
        panic!("not stored")
    };
    assert_eq!(get(&cache, 1, now).as_deref(), Some(&b"one"[..]));
    assert_eq!(get(&cache, 2, now), None);
    let swap = |etag| OperationKind::Put {
        value: "two".into(),
        content_type: None,
        ttl: None,
        condition: Condition::Matches([etag].into_iter().collect()),
        return_previous: true,
    };
    let Ok(Outcome::Stored { created: false, previous: Some(previous), .. }) = cache.execute(&key(1), &swap(etag), now)
    else {
        panic!("not swapped")
    };
    assert_eq!((&previous.value[..], previous.content_type.as_deref()), (&b"one"[..], Some("a/b")));
    assert!(matches!(cache.execute(&key(1), &swap(etag), now), Ok(Outcome::ConditionFailed { current: Some(_) })));
    let delete = OperationKind::Delete { condition: Condition::Always, return_previous: false };
    assert_eq!(cache.execute(&key(1), &delete, now), Ok(Outcome::Deleted { previous: None }));
    assert_eq!(cache.execute(&key(1), &delete, now), Ok(Outcome::Absent));
    let figures = cache.figures();
    assert_eq!(figures.held, Figures::default(), "no tombstone stays");
    assert_eq!((figures.hits, figures.misses, figures.stores, figures.removes), (1, 1, 2, 1));
}

/// An `ETag` of a run that ended must not match anything of the next one.
#[test]
fn etags_of_two_runs_differ() {
    let etag = |seed| {
        let cache = LocalCache::new(CacheBounds::default(), 1, seed);
        match cache.execute(&key(1), &put("v", None), Time::ZERO) {
            Ok(Outcome::Stored { etag, .. }) => etag,
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(etag(1), etag(2));
    assert_eq!(etag(3), etag(3));
}

#[test]
fn expired_entries_are_absent_and_swept() {
    let cache = LocalCache::new(CacheBounds::default(), 4, 11);
    let start = Time::from_nanos(1);
    for n in 0..100 {
        let ttl = Duration::from_secs(u64::from(n) + 1);
        assert!(cache.execute(&key(n), &put("v", Some(ttl)), start).is_ok());
    }
    let later = start + Duration::from_secs(50);
    assert_eq!((get(&cache, 49, later), get(&cache, 50, later)), (None, Some("v".into())));
    let create = OperationKind::Put {
        value: "new".into(),
        content_type: None,
        ttl: None,
        condition: Condition::Absent,
        return_previous: true,
    };
    assert!(matches!(
        cache.execute(&key(0), &create, later),
        Ok(Outcome::Stored { created: true, previous: None, .. })
    ));
    assert_eq!((cache.sweep(later, 20), cache.sweep(later, 20), cache.sweep(later, 20)), (20, 20, 9));
    let figures = cache.figures();
    assert_eq!((figures.held.entries, figures.expirations), (51, 50));
}

#[test]
fn bounds_hold_after_each_write() {
    for policy in [Policy::S3Fifo, Policy::Lru, Policy::WTinyLfu] {
        let bounds = CacheBounds { max_entries: Some(50), max_bytes: Some(20_000), policy, ..CacheBounds::default() };
        let cache = LocalCache::new(bounds, 4, 11);
        for n in 0..500u32 {
            let size = (n as usize * 37) % 1_500;
            assert!(cache.execute(&key(n), &put(vec![0; size], None), Time::ZERO).is_ok());
            let held = cache.figures().held;
            assert!(held.entries <= 50 && held.bytes <= 20_000, "{policy:?}: {held:?}");
        }
        let figures = cache.figures();
        assert_eq!(figures.evictions, 500 - figures.held.entries);
        assert!(figures.held.entries > 5);
        let too_large = put(vec![0; 20_000], None);
        assert_eq!(cache.execute(&key(1), &too_large, Time::ZERO), Err(Full));
        assert_eq!(cache.figures().held, figures.held, "a value that never fits pushes nothing out");
    }
}

#[test]
fn a_rejecting_cache_refuses_and_applies_nothing() {
    let bounds = CacheBounds { max_entries: Some(3), when_full: WhenFull::Reject, ..CacheBounds::default() };
    let cache = LocalCache::new(bounds, 4, 11);
    for n in 0..3 {
        assert!(cache.execute(&key(n), &put("v", None), Time::ZERO).is_ok());
    }
    assert_eq!(cache.execute(&key(3), &put("v", None), Time::ZERO), Err(Full));
    assert_eq!(get(&cache, 3, Time::ZERO), None);
    assert!(cache.execute(&key(2), &put("a longer one", None), Time::ZERO).is_ok(), "replacing needs no new place");
    let delete = OperationKind::Delete { condition: Condition::Always, return_previous: false };
    assert!(cache.execute(&key(2), &delete, Time::ZERO).is_ok());
    assert!(cache.execute(&key(3), &put("v", None), Time::ZERO).is_ok());
    let figures = cache.figures();
    assert_eq!((figures.held.entries, figures.evictions), (3, 0));
    assert_eq!((Full.reason(), Full.is_retryable()), ("full", false));
}
