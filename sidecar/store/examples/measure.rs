//! Prints nanoseconds per get and put, by one thread and by several. `cargo run --release -p sidegrid-store --example
//! measure`. No benchmark: a look at the order of size.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures and prints")]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sidegrid_core::storage::{CacheKey, Record, Storage, StoredEntry};
use sidegrid_core::{CacheId, GroupId, SegmentId, Time, Version, ViewNumber};
use sidegrid_store::{CacheBounds, Policy, Store, StoreSettings};

const ENTRIES: usize = 100_000;
const ROUNDS: usize = 10;
const SEGMENTS: u16 = 256;

fn main() {
    measure_large();
    let keys: Vec<(GroupId, CacheKey)> = (0..ENTRIES)
        .map(|n| {
            let key = Bytes::from(format!("session:{n:08}"));
            let group = GroupId::new(0, SegmentId::of(&key, SEGMENTS), SEGMENTS);
            (group, CacheKey { cache: CacheId(0), key })
        })
        .collect();
    for policy in [Policy::S3Fifo, Policy::Lru, Policy::WTinyLfu] {
        let bounds = CacheBounds { max_entries: Some(ENTRIES as u64), policy, ..CacheBounds::default() };
        let store = Store::new(StoreSettings { groups: usize::from(SEGMENTS), caches: vec![bounds], seed: 3 });
        let insert = timed(1, || put_all(&store, &keys, 0));
        let replace = timed(ROUNDS, || put_all(&store, &keys, 1));
        let get = timed(ROUNDS, || get_all(&store, &keys));
        let hot = timed(ROUNDS, || get_all(&store, &vec![keys[7].clone(); ENTRIES]));
        let threads = timed(ROUNDS, || {
            thread::scope(|scope| {
                (0..2).for_each(|_| drop(scope.spawn(|| get_all(&store, &keys))));
            });
        });
        println!(
            "{policy:?}: insert {insert} ns, replace {replace} ns, get {get} ns, of one key {hot} ns, \
             2 threads {threads} ns each"
        );
    }
}

/// A large value is copied once on its way in.
fn measure_large() {
    const PUTS: u32 = 200;
    let store = Store::new(StoreSettings { groups: 1, caches: vec![CacheBounds::default()], seed: 3 });
    let key = CacheKey { cache: CacheId(0), key: Bytes::from_static(b"large") };
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    let start = Instant::now();
    for _ in 0..PUTS {
        let entry = StoredEntry {
            value: value.clone(),
            content_type: None,
            etag: Version::ZERO,
            deadline: None,
            written: Time::ZERO,
        };
        store.put(GroupId(0), &key, Record { version: Version::ZERO, entry: Some(entry) });
    }
    println!("put of 1 MiB: {} us", (start.elapsed() / PUTS).as_micros());
}

fn timed(rounds: usize, mut work: impl FnMut()) -> u128 {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    Duration::as_nanos(&start.elapsed()) / (rounds * ENTRIES) as u128
}

fn put_all(store: &Store, keys: &[(GroupId, CacheKey)], counter: u64) {
    let value = Bytes::from_static(&[b'x'; 100]);
    for (group, key) in keys {
        let version = Version { view: ViewNumber(1), counter };
        let deadline = Some(Time::from_nanos(1_000_000 + counter));
        let entry =
            StoredEntry { value: value.clone(), content_type: None, etag: version, deadline, written: Time::ZERO };
        store.put(*group, key, Record { version, entry: Some(entry) });
    }
}

fn get_all(store: &Store, keys: &[(GroupId, CacheKey)]) {
    for (group, key) in keys {
        black_box(store.get(*group, black_box(key)));
    }
}
