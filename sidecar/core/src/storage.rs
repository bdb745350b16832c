//! What the core asks of a store. `sidegrid-store` is the one that ships.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{CacheId, GroupId, Version};
use crate::time::Time;

/// A key of one cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// Which cache.
    pub cache: CacheId,
    /// The app's key.
    pub key: Bytes,
}

/// One stored record: a value, or the tombstone of a removed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Place of the write that made this record in its group's order.
    pub version: Version,
    /// The value; none for a tombstone.
    pub entry: Option<StoredEntry>,
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The bytes.
    pub value: Bytes,
    /// As given with them.
    pub content_type: Option<Arc<str>>,
    /// Version of the write that set the value; a touch leaves it.
    pub etag: Version,
    /// Local reading after which the entry is expired; none: never.
    pub deadline: Option<Time>,
    /// Local reading when the value reached this store.
    pub written: Time,
}

impl StoredEntry {
    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        self.deadline.is_some_and(|d| d <= now)
    }
}

/// A key that should be removed, and the version that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its group.
    pub group: GroupId,
    /// Its key.
    pub key: CacheKey,
    /// Removed only while this is still its version.
    pub version: Version,
}

/// How far a cache is from its bounds, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// Well within its bounds, or without any.
    Within,
    /// Within its bounds, and so near to them that what is under way to it may pass them.
    Near,
    /// Over a bound: removals are due.
    Over,
    /// Over a bound by half the margin, or, in a cache that refuses, at it: others must send no more.
    Pressed,
    /// Over a bound by more than the margin: nothing more is taken until removals have caught up.
    PastMargin,
    /// It refuses rather than evicts and has no room, or the record could not be kept even alone.
    Refuses,
}

/// By how much a cache may pass its bounds while removals follow; none: no such bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// Entries.
    pub entries: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// At its bound the cache refuses rather than evicts.
    pub rejects: bool,
}

/// The store of one member. Shared between the core, which alone writes, and readers on other threads; every call is
/// short, takes no lock across another call, and does no IO.
pub trait Storage: Send + Sync + 'static {
    /// The record of a key: value or tombstone. Expired entries are returned. Counts as a use for eviction.
    fn get(&self, group: GroupId, key: &CacheKey) -> Option<Record>;

    /// The record of a key, without counting as a use.
    fn peek(&self, group: GroupId, key: &CacheKey) -> Option<Record>;

    /// Replaces the key's record whatever its version; the caller has compared.
    fn put(&self, group: GroupId, key: &CacheKey, record: Record);

    /// Drops the key's record, tombstone or value, if it still has `version`.
    fn forget(&self, group: GroupId, key: &CacheKey, version: Version);

    /// Drops every record of a group.
    fn clear(&self, group: GroupId);

    /// All keys of a group, tombstones included, in any order: the work list of a state transfer.
    fn keys(&self, group: GroupId) -> Vec<CacheKey>;

    /// Up to `max` entries of a group whose deadline has passed, soonest first, without scanning the others. They
    /// stay until they are removed or replaced.
    fn expired(&self, group: GroupId, now: Time, max: usize) -> Vec<Removal>;

    /// Up to `max` entries that the eviction policy would give up to bring the cache back under its bounds; empty
    /// while it is under them. An entry named once is not named again for a while, so that a removal under way is
    /// not asked twice.
    fn victims(&self, cache: CacheId, now: Time, max: usize) -> Vec<Removal>;

    /// When the first entry of a group that has a deadline expires.
    fn next_deadline(&self, group: GroupId) -> Option<Time>;

    /// How full a cache would be with a record of this size (key and value) in place of one of `replaced` bytes, or, with
    /// none, beside what it holds.
    fn fullness(&self, cache: CacheId, key_and_value_bytes: usize, replaced: Option<usize>) -> Fullness;

    /// How full a cache is now.
    fn fullness_now(&self, cache: CacheId) -> Fullness;

    /// Counts bytes of remembered results in a cache's, or, below zero, no longer.
    fn charge(&self, cache: CacheId, bytes: i64);

    /// How many bytes of remembered results a cache should take at most.
    fn results_budget(&self, cache: CacheId) -> u64;

    /// By how many entries and bytes a cache may pass its bounds for a moment.
    fn margin(&self, cache: CacheId) -> Margin;
}
