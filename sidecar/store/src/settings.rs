//! What a store is made from.

use sidegrid_core::storage::Margin;

use crate::packed;
use crate::slot::Slot;

/// What a [`crate::Store`] is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Number of replica groups; a `GroupId` is an index below it.
    pub groups: usize,
    /// Bounds of each cache; a `CacheId` is an index into this.
    pub caches: Vec<CacheBounds>,
    /// Seeds the hash of keys. Random in production, so that nobody can choose keys that collide.
    pub seed: u64,
}

/// Bounds of one cache on this member, over all of its groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheBounds {
    /// Most entries; none: unbounded. Tombstones are not entries.
    pub max_entries: Option<u64>,
    /// Most bytes of keys, values and their overhead; none: unbounded.
    pub max_bytes: Option<u64>,
    /// What happens at a bound.
    pub when_full: WhenFull,
    /// What is given up first, when entries are evicted.
    pub policy: Policy,
}

/// What happens when a cache is at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Other entries make room.
    #[default]
    Evict,
    /// The new entry is refused.
    Reject,
}

/// Which entries are given up first. Their hit ratios are compared in `tests/hit_ratio.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// S3-FIFO: three queues, scan-resistant, the cheapest to keep.
    #[default]
    S3Fifo,
    /// Least recently used, to the resolution of one insertion.
    Lru,
    /// W-TinyLFU: an admission window before a segmented main space, and a frequency sketch between them.
    WTinyLfu,
}

/// What an allocator keeps beside each block: one word in the usual ones.
const BLOCK: usize = 8;
/// Strong and weak count before the bytes of an `Arc<[u8]>`.
const COUNTS: usize = 16;
/// Hash index: four bytes and a control byte a bucket, between 7/16 and 7/8 full.
const INDEX: usize = 8;
/// Deadline heap: four bytes a place, between half and all of them in use.
const DEADLINE: usize = 6;

impl CacheBounds {
    /// How many bytes of results of operations with an `Idempotency-Key` are remembered at most, or, where that keeps one
    /// key from using it up for others, twice as many: a quarter of the bound on bytes, or 64 MiB without one.
    #[must_use]
    pub fn results_budget(&self) -> u64 {
        self.max_bytes.map_or(64 << 20, |most| (most / 4).min(64 << 20))
    }

    /// By how much the bounds may be passed while evictions follow what comes in: a tenth; of bounds so small that a few
    /// values make that up, a quarter, up to 64 entries and 4 MiB.
    #[must_use]
    pub fn margin(&self) -> Margin {
        Margin {
            entries: self.max_entries.map(|most| (most / 10).max((most / 4).clamp(4, 64))),
            bytes: self.max_bytes.map(|most| (most / 10).max((most / 4).min(4 << 20))),
            rejects: self.when_full == WhenFull::Reject,
        }
    }

    /// Whether entries are evicted to keep the bounds.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.when_full == WhenFull::Evict && (self.max_entries.is_some() || self.max_bytes.is_some())
    }

    /// Bytes that an entry is counted with beyond its key and value: what the store allocates for it, averaged over
    /// the growth of its tables, with one word of the allocator's for its block. An entry whose time to live was
    /// touched takes 16 more; so does each byte of a content type, in a group that holds more than 64 different ones.
    #[must_use]
    pub const fn overhead(&self) -> usize {
        let eviction = match (self.when_full, self.policy) {
            (WhenFull::Reject, _) => 0,
            _ if self.max_entries.is_none() && self.max_bytes.is_none() => 0,
            // A queue's node, and 4 to 8 bytes of ghost table, made at the first eviction.
            (_, Policy::S3Fifo) => 16 + 6,
            // A node, and a place in a B-tree of 16-byte elements.
            (_, Policy::Lru) => 16 + 27,
            // A node, and 8 to 16 bytes of sketch.
            (_, Policy::WTinyLfu) => 16 + 12,
        };
        self.tombstone_overhead() + DEADLINE + eviction
    }

    /// Bytes that a tombstone is counted with beyond its key.
    #[must_use]
    pub const fn tombstone_overhead(&self) -> usize {
        size_of::<Slot>() + packed::HEADER + COUNTS + BLOCK + INDEX
    }
}
