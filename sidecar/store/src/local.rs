//! A cache that only this node sees: decided under the lock of a part of it, expiring and evicting by itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use sidegrid_core::evaluate::{Decision, decide};
use sidegrid_core::operation::{OperationKind, Outcome};
use sidegrid_core::storage::{Record, StoredEntry};
use sidegrid_core::{CacheId, Time, Version, ViewNumber};
use thiserror::Error;

use crate::account::Figures;
use crate::settings::{CacheBounds, StoreSettings};
use crate::shard::{Incoming, Outgoing, Shard};
use crate::store::Store;

/// The only cache of the store below.
const CACHE: CacheId = CacheId(0);

/// The cache has no room for the value: it refuses rather than evicts, or the value alone is over the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the cache has no room for this value")]
pub struct Full;

impl Full {
    /// A stable label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        "full"
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        false
    }
}

/// What a local cache holds and has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalFigures {
    /// What it holds.
    pub held: Figures,
    /// Reads that found an entry.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Writes of a value or of a time to live.
    pub stores: u64,
    /// Entries deleted by the app.
    pub removes: u64,
    /// Entries given up for room.
    pub evictions: u64,
    /// Entries removed or replaced after their deadline.
    pub expirations: u64,
}

/// A cache that only this node sees. Every call is short and does no IO; any number of threads may call.
#[derive(Debug)]
pub struct LocalCache {
    store: Store,
    counters: Box<[Counters]>,
    /// Stands for the view in versions: tells the `ETag`s of two runs of the process apart.
    run: ViewNumber,
    version: AtomicU64,
    evictions: AtomicU64,
    /// Shard that a sweep begins with.
    swept: AtomicUsize,
}

/// Of one shard, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    stores: AtomicU64,
    removes: AtomicU64,
    expirations: AtomicU64,
}

impl LocalCache {
    /// An empty cache in this many parts with a lock each (at least one; a few per thread is plenty). `seed` is random
    /// in production: it seeds the hash of keys and tells the `ETag`s of two runs apart.
    #[must_use]
    pub fn new(bounds: CacheBounds, shards: usize, seed: u64) -> LocalCache {
        let shards = shards.max(1);
        LocalCache {
            store: Store::new(StoreSettings { groups: shards, caches: vec![bounds], seed }),
            counters: (0..shards).map(|_| Counters::default()).collect(),
            // Not the seed itself, which nobody outside should learn; never zero, which means no view.
            run: ViewNumber((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) + 1),
            version: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// Decides one operation and applies it at once. After a write, entries are evicted until the bounds hold again.
    ///
    /// # Errors
    /// [`Full`] when the value has no room; nothing was applied.
    pub fn execute(&self, key: &Bytes, kind: &OperationKind, now: Time) -> Result<Outcome, Full> {
        let hash = self.store.hash(CACHE, key);
        // The upper half picks the shard, the lower one the place in it.
        let shard = (((hash >> 32) * self.counters.len() as u64) >> 32) as usize;
        let hash = hash as u32;
        if kind.is_read() {
            return Ok(self.read(shard, key, hash, kind, now));
        }
        let mut locked = self.store.groups()[shard].write();
        let outcome = self.write(&mut locked, shard, key, hash, kind, now)?;
        drop(locked);
        let evicted = self.store.evict(CACHE, usize::MAX);
        if evicted > 0 {
            self.evictions.fetch_add(evicted, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    fn read(&self, shard: usize, key: &Bytes, hash: u32, kind: &OperationKind, now: Time) -> Outcome {
        let found = self.store.look_up(shard, CACHE, key, hash, true).and_then(|found| alive(found, now));
        let counters = &self.counters[shard];
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        match decide(kind, found.as_ref(), Version::ZERO, now) {
            Decision::Answer(outcome) | Decision::Write { outcome, .. } => outcome,
        }
    }

    fn write(
        &self,
        locked: &mut Shard,
        shard: usize,
        key: &Bytes,
        hash: u32,
        kind: &OperationKind,
        now: Time,
    ) -> Result<Outcome, Full> {
        let counters = &self.counters[shard];
        let slot = locked.find(hash, CACHE, key);
        let current = slot.and_then(|slot| locked.take_out(slot)).and_then(|found| alive(found, now));
        let version = Version { view: self.run, counter: self.version.fetch_add(1, Ordering::Relaxed) + 1 };
        let (entry, outcome) = match decide(kind, current.as_ref(), version, now) {
            Decision::Answer(outcome) => return Ok(outcome),
            Decision::Write { entry, outcome } => (entry, outcome),
        };
        match entry {
            Some(entry) => {
                self.check_room(locked, slot, key.len() + entry.value.len())?;
                let incoming = Incoming::new(CACHE, key, Record { version, entry: Some(entry) });
                self.store.put_in(locked, shard, (CACHE, key), hash, incoming);
                counters.stores.fetch_add(1, Ordering::Relaxed);
                if slot.is_some() && current.is_none() {
                    counters.expirations.fetch_add(1, Ordering::Relaxed);
                }
            }
            None => {
                if let Some(slot) = slot {
                    self.store.remove_in(locked, slot);
                }
                counters.removes.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(outcome)
    }

    /// Writes of several shards at once may each find the last room: a bound that refuses is exact but for these.
    fn check_room(&self, locked: &Shard, slot: Option<u32>, key_and_value_bytes: usize) -> Result<(), Full> {
        let account = &self.store.cache(CACHE).account;
        let is_full = match slot.and_then(|slot| account.cost(locked.slot(slot))) {
            Some(replaced) => account.has_no_room_to_replace(key_and_value_bytes, replaced.bytes),
            None => account.is_full(key_and_value_bytes),
        };
        if is_full { Err(Full) } else { Ok(()) }
    }

    /// Removes up to `max` entries whose deadline has passed, and gives their number. Less than `max` means that
    /// there are no more.
    pub fn sweep(&self, now: Time, max: usize) -> usize {
        let shards = self.counters.len();
        let first = self.swept.load(Ordering::Relaxed);
        let mut removed = 0;
        for shard in (0..shards).map(|n| (first + n) % shards) {
            if removed >= max {
                self.swept.store(shard, Ordering::Relaxed);
                break;
            }
            let mut locked = self.store.groups()[shard].write();
            let due = locked.due(now, max - removed);
            for &slot in &due {
                self.store.remove_in(&mut locked, slot);
            }
            self.counters[shard].expirations.fetch_add(due.len() as u64, Ordering::Relaxed);
            removed += due.len();
        }
        removed
    }

    /// Counts bytes of remembered results in the cache's, or, below zero, no longer. Entries make room for them.
    pub fn charge(&self, bytes: i64) {
        self.store.cache(CACHE).account.charge(bytes);
        let evicted = self.store.evict(CACHE, usize::MAX);
        self.evictions.fetch_add(evicted, Ordering::Relaxed);
    }

    /// How many bytes of remembered results there should be at most.
    #[must_use]
    pub fn results_budget(&self) -> u64 {
        self.store.cache(CACHE).account.results_budget()
    }

    /// What it holds and has done. Each figure is exact; while others work, two may be of different moments.
    #[must_use]
    pub fn figures(&self) -> LocalFigures {
        let sum = |counter: fn(&Counters) -> &AtomicU64| {
            self.counters.iter().map(|counters| counter(counters).load(Ordering::Relaxed)).sum()
        };
        LocalFigures {
            held: self.store.figures(CACHE),
            hits: sum(|counters| &counters.hits),
            misses: sum(|counters| &counters.misses),
            stores: sum(|counters| &counters.stores),
            removes: sum(|counters| &counters.removes),
            evictions: self.evictions.load(Ordering::Relaxed),
            expirations: sum(|counters| &counters.expirations),
        }
    }
}

/// The entry, unless it is expired.
fn alive(found: Outgoing, now: Time) -> Option<StoredEntry> {
    found.into_record().entry.filter(|entry| !entry.is_expired(now))
}
