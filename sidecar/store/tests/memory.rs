//! What is counted against what is allocated. One test alone in its process, so that the allocator counts nothing else.

use std::alloc::System;

use bytes::Bytes;
use sidegrid_core::storage::{CacheKey, Record, Storage, StoredEntry};
use sidegrid_core::{CacheId, GroupId, SegmentId, Time, Version, ViewNumber};
use sidegrid_store::{CacheBounds, Figures, Policy, Store, StoreSettings, WhenFull};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ENTRIES: u64 = 100_000;
const SEGMENTS: u16 = 256;

/// Bytes and blocks held now that were not held when the region began.
fn held(region: &Region<'_, System>) -> (u64, u64) {
    let stats = region.change();
    // Both sums include what reallocations grew and shrank by.
    let bytes = stats.bytes_allocated as i64 - stats.bytes_deallocated as i64;
    (bytes.max(0) as u64, stats.allocations.saturating_sub(stats.deallocations) as u64)
}

fn put(store: &Store, n: u64, size: usize, ttl: bool) {
    let key = Bytes::from(format!("session:{n:08}"));
    let version = Version { view: ViewNumber(1), counter: n + 1 };
    // A slice of a larger buffer, as from a frame: the rest of that must not stay.
    let value = Bytes::from(vec![b'x'; 4 * size]).slice(size..2 * size);
    let content_type = Some("application/json".into());
    let deadline = ttl.then(|| Time::from_nanos(1_000_000_000 + n));
    let entry = StoredEntry { value, content_type, etag: version, deadline, written: Time::ZERO };
    let group = GroupId::new(0, SegmentId::of(&key, SEGMENTS), SEGMENTS);
    store.put(group, &CacheKey { cache: CacheId(0), key }, Record { version, entry: Some(entry) });
}

#[test]
fn what_is_counted_is_what_is_allocated() {
    let bounded = CacheBounds { max_entries: Some(ENTRIES), ..CacheBounds::default() };
    let cases = [
        ("unbounded, no ttl", CacheBounds::default(), 100, false),
        ("rejecting, ttl", CacheBounds { when_full: WhenFull::Reject, ..bounded }, 100, true),
        ("S3-FIFO, ttl", bounded, 100, true),
        ("LRU, ttl", CacheBounds { policy: Policy::Lru, ..bounded }, 100, true),
        ("W-TinyLFU, ttl", CacheBounds { policy: Policy::WTinyLfu, ..bounded }, 100, true),
        ("S3-FIFO, ttl, 1,000 bytes", bounded, 1_000, true),
    ];
    for (name, bounds, size, ttl) in cases {
        let settings = StoreSettings { groups: usize::from(SEGMENTS), caches: vec![bounds], seed: 3 };
        let store = Store::new(settings);
        let region = Region::new(ALLOCATOR);
        (0..ENTRIES).for_each(|n| put(&store, n, size, ttl));
        // Over the bound by a tenth and back, so that the policy makes all that it keeps.
        (ENTRIES..ENTRIES * 11 / 10).for_each(|n| put(&store, n, size, ttl));
        loop {
            let victims = store.victims(CacheId(0), Time::ZERO, 256);
            if victims.is_empty() {
                break;
            }
            victims.iter().for_each(|victim| store.forget(victim.group, &victim.key, victim.version));
        }
        let (bytes, blocks) = held(&region);
        let Figures { entries, bytes: counted, .. } = store.figures(CacheId(0));
        let per_entry = bytes as f64 / entries as f64;
        println!(
            "{name}: {entries} entries, {per_entry:.1} bytes allocated each in {:.2} blocks, {:.1} counted ({} overhead)",
            blocks as f64 / entries as f64,
            counted as f64 / entries as f64,
            bounds.overhead()
        );
        let ratio = counted as f64 / bytes as f64;
        assert!((0.85..=1.15).contains(&ratio), "{name}: counted / allocated = {ratio:.3}");

        (0..usize::from(SEGMENTS)).for_each(|group| store.clear(GroupId(group as u32)));
        assert_eq!(store.figures(CacheId(0)), Figures::default());
        let (left, _) = held(&region);
        println!("{name}: {left} bytes stay after clear");
        // What a policy remembers of keys that have gone is kept.
        assert!(left < bytes / 16, "{name}: {left} of {bytes} bytes stay after clear");
    }
}
