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

    /// Whether a cache that refuses rather than evicts has no room for a new record of this size (key and value).
    fn is_full(&self, cache: CacheId, key_and_value_bytes: usize) -> bool;
}
