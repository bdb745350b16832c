//! The store of one member: every group's records behind a lock of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use sidegrid_core::storage::{CacheKey, Fullness, Margin, Record, Removal, Storage};
use sidegrid_core::{CacheId, GroupId, Time, Version};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::account::{Account, Figures};
use crate::eviction::{MOST_GROUPS, Place};
use crate::evictor::Evictor;
use crate::settings::{CacheBounds, StoreSettings};
use crate::shard::{Incoming, Outgoing, Shard};
use crate::slot::{NONE, Slot};

/// Victims that a call tries beyond those it may name, since some may be busy.
const MORE_TRIES: usize = 16;

/// The store of one member, shared as `Arc<Store>`.
///
/// Values are copied on their way in, into one allocation with their key, so that a value that is a slice of a larger
/// buffer does not keep it. A deadline of [`Time::NEVER`] is kept as none. No call blocks for longer than another
/// call's own work.
#[derive(Debug)]
pub struct Store {
    groups: Box<[RwLock<Shard>]>,
    caches: Box<[Cache]>,
    seed: u64,
}

/// One cache, over all groups.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) account: Account,
    /// The eviction policy's clock at its last admission.
    clock: AtomicU32,
    /// None when nothing is ever evicted.
    evictor: Option<Mutex<Evictor>>,
}

impl Cache {
    fn new(bounds: CacheBounds) -> Cache {
        let evictor = bounds.evicts().then(|| Mutex::new(Evictor::new(bounds.policy)));
        Cache { account: Account::new(bounds), clock: AtomicU32::new(0), evictor }
    }

    /// Gives a new entry a ticket.
    fn admit(&self, shard: &mut Shard, place: Place, hash: u32) {
        if let Some(evictor) = &self.evictor {
            let mut evictor = evictor.lock();
            let ticket = evictor.admit(place, hash);
            self.clock.store(evictor.clock(), Ordering::Relaxed);
            shard.set_ticket(place.slot, ticket);
        }
    }

    /// Ends an entry's ticket, if it has one.
    fn dismiss(&self, ticket: u32) {
        if ticket != NONE
            && let Some(evictor) = &self.evictor
        {
            evictor.lock().remove(ticket);
        }
    }

    fn leave_mark(&self, slot: &Slot) {
        if self.evictor.is_some() {
            slot.mark.leave(self.clock.load(Ordering::Relaxed));
        }
    }
}

impl Store {
    /// An empty store.
    ///
    /// # Panics
    /// With more than 2²⁷ groups or 2¹⁶ caches.
    #[must_use]
    pub fn new(settings: StoreSettings) -> Store {
        assert!(settings.groups <= MOST_GROUPS, "at most 2^27 groups");
        assert!(settings.caches.len() <= 1 << 16, "at most 2^16 caches");
        Store {
            groups: (0..settings.groups).map(|_| RwLock::default()).collect(),
            caches: settings.caches.into_iter().map(Cache::new).collect(),
            seed: settings.seed,
        }
    }

    /// What this member holds of a cache; zeros for a cache that it does not have.
    #[must_use]
    pub fn figures(&self, cache: CacheId) -> Figures {
        self.caches.get(usize::from(cache.0)).map_or_else(Figures::default, |cache| cache.account.figures())
    }

    /// Records of a group, tombstones included.
    #[must_use]
    pub fn records(&self, group: GroupId) -> usize {
        self.groups.get(group.index()).map_or(0, |shard| shard.read().len())
    }

    /// The full hash of a key; the index keeps its lower half.
    pub(crate) fn hash(&self, cache: CacheId, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed.wrapping_add(u64::from(cache.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(crate) fn groups(&self) -> &[RwLock<Shard>] {
        &self.groups
    }

    /// # Panics
    /// For a cache that the store was not made with.
    pub(crate) fn cache(&self, cache: CacheId) -> &Cache {
        &self.caches[usize::from(cache.0)]
    }

    /// Looks a record up; counts as a use if `uses`.
    pub(crate) fn look_up(&self, group: usize, cache: CacheId, key: &[u8], hash: u32, uses: bool) -> Option<Outgoing> {
        let shard = self.groups.get(group)?.read();
        let slot = shard.find(hash, cache, key)?;
        if uses {
            self.caches.get(usize::from(cache.0))?.leave_mark(shard.slot(slot));
        }
        shard.take_out(slot)
    }

    /// Puts a record in place of the key's, under the group's lock.
    pub(crate) fn put_in(&self, shard: &mut Shard, group: usize, key: (CacheId, &[u8]), hash: u32, incoming: Incoming) {
        let cache = self.cache(key.0);
        let is_value = !incoming.is_tombstone();
        let slot = match shard.find(hash, key.0, key.1) {
            Some(slot) => {
                if let Some(cost) = cache.account.cost(shard.slot(slot)) {
                    cache.account.subtract(cost);
                }
                shard.replace(slot, incoming);
                slot
            }
            None => shard.insert(hash, incoming),
        };
        if let Some(cost) = cache.account.cost(shard.slot(slot)) {
            cache.account.add(cost);
        }
        let place = Place { group: u32::try_from(group).unwrap_or(NONE), slot };
        match (is_value, shard.slot(slot).ticket) {
            (true, NONE) => cache.admit(shard, place, hash),
            (true, ticket) => {
                cache.leave_mark(shard.slot(slot));
                if shard.slot(slot).mark.take_named()
                    && let Some(evictor) = &cache.evictor
                {
                    evictor.lock().renew(ticket, hash);
                }
            }
            (false, ticket) => {
                cache.dismiss(ticket);
                shard.set_ticket(slot, NONE);
            }
        }
    }

    /// Drops the record in a slot, under the group's lock.
    pub(crate) fn remove_in(&self, shard: &mut Shard, slot: u32) {
        let Some(cache) = shard.slot(slot).data.as_ref().map(|data| self.cache(data.cache())) else { return };
        if let Some(cost) = cache.account.cost(shard.slot(slot)) {
            cache.account.subtract(cost);
        }
        cache.dismiss(shard.slot(slot).ticket);
        shard.remove(slot);
    }

    /// Drops up to `max` entries, one after the other, while the cache is over its bounds. Gives their number.
    pub(crate) fn evict(&self, cache: CacheId, max: usize) -> u64 {
        let cache = self.cache(cache);
        let Some(evictor) = &cache.evictor else { return 0 };
        let mut evicted = 0;
        for _ in 0..max {
            if !cache.account.is_over(0, 0) {
                break;
            }
            // The eviction lock is given back before the group's is taken: see the lock order.
            let Some((ticket, place)) = evictor.lock().choose(&self.groups) else { break };
            let mut shard = self.groups[place.group as usize].write();
            if shard.ticketed(place.slot, ticket).is_some() {
                self.remove_in(&mut shard, place.slot);
                evicted += 1;
            }
        }
        evicted
    }

    /// The removal of a chosen victim, now marked as named, and its bytes; none while its group is being written.
    fn name(&self, account: &Account, ticket: u32, place: Place) -> Option<(Removal, u64)> {
        let shard = self.groups[place.group as usize].try_read()?;
        let slot = shard.ticketed(place.slot, ticket)?;
        slot.mark.set_named();
        Some((removal_of(place.group, slot)?, account.cost(slot)?.bytes))
    }
}

fn removal_of(group: u32, slot: &Slot) -> Option<Removal> {
    let data = slot.data.as_ref()?;
    let key = CacheKey { cache: data.cache(), key: Bytes::copy_from_slice(data.key()) };
    Some(Removal { group: GroupId(group), key, version: slot.version })
}

/// Groups and caches that the store was not made with hold nothing, and nothing can be put there.
impl Storage for Store {
    fn get(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        let hash = self.hash(key.cache, &key.key) as u32;
        self.look_up(group.index(), key.cache, &key.key, hash, true).map(Outgoing::into_record)
    }

    fn peek(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        let hash = self.hash(key.cache, &key.key) as u32;
        self.look_up(group.index(), key.cache, &key.key, hash, false).map(Outgoing::into_record)
    }

    /// # Panics
    /// For a group or cache that the store was not made with: an acknowledged write must not vanish in silence.
    fn put(&self, group: GroupId, key: &CacheKey, record: Record) {
        let incoming = Incoming::new(key.cache, &key.key, record);
        let hash = self.hash(key.cache, &key.key) as u32;
        let mut shard = self.groups[group.index()].write();
        self.put_in(&mut shard, group.index(), (key.cache, &key.key), hash, incoming);
    }

    fn forget(&self, group: GroupId, key: &CacheKey, version: Version) {
        let hash = self.hash(key.cache, &key.key) as u32;
        let Some(shard) = self.groups.get(group.index()) else { return };
        let mut shard = shard.write();
        if let Some(slot) = shard.find(hash, key.cache, &key.key)
            && shard.slot(slot).version == version
        {
            self.remove_in(&mut shard, slot);
        }
    }

    fn clear(&self, group: GroupId) {
        let Some(shard) = self.groups.get(group.index()) else { return };
        let records = std::mem::take(&mut *shard.write());
        // Their tickets are theirs until they are given back here, whatever is put into the group meanwhile.
        for slot in records.into_used() {
            let Some(cache) = slot.data.as_ref().map(|data| self.cache(data.cache())) else { continue };
            if let Some(cost) = cache.account.cost(&slot) {
                cache.account.subtract(cost);
            }
            cache.dismiss(slot.ticket);
        }
    }

    fn keys(&self, group: GroupId) -> Vec<CacheKey> {
        let Some(shard) = self.groups.get(group.index()) else { return Vec::new() };
        let shard = shard.read();
        let mut keys = Vec::with_capacity(shard.len());
        keys.extend(shard.used().filter_map(|slot| removal_of(group.0, slot)).map(|removal| removal.key));
        keys
    }

    fn expired(&self, group: GroupId, now: Time, max: usize) -> Vec<Removal> {
        let Some(shard) = self.groups.get(group.index()) else { return Vec::new() };
        let shard = shard.read();
        shard.due(now, max).into_iter().filter_map(|slot| removal_of(group.0, shard.slot(slot))).collect()
    }

    fn victims(&self, cache: CacheId, now: Time, max: usize) -> Vec<Removal> {
        let Some(cache) = self.caches.get(usize::from(cache.0)) else { return Vec::new() };
        let Some(evictor) = &cache.evictor else { return Vec::new() };
        let mut removals = Vec::new();
        // Most calls find nothing to do, and need no lock to see it.
        if !cache.account.is_over(0, 0) {
            return removals;
        }
        let mut evictor = evictor.lock();
        evictor.lapse(now);
        for _ in 0..max.saturating_add(MORE_TRIES) {
            let (leaving, bytes) = evictor.leaving();
            if removals.len() >= max || evictor.names_enough() || !cache.account.is_over(leaving, bytes) {
                break;
            }
            let Some((ticket, place)) = evictor.choose(&self.groups) else { break };
            match self.name(&cache.account, ticket, place) {
                Some((removal, bytes)) => {
                    evictor.name(ticket, bytes, now);
                    removals.push(removal);
                }
                None => evictor.keep(ticket, 0),
            }
        }
        removals
    }

    fn next_deadline(&self, group: GroupId) -> Option<Time> {
        self.groups.get(group.index())?.read().next_deadline()
    }

    fn fullness(&self, cache: CacheId, key_and_value_bytes: usize, replaced: Option<usize>) -> Fullness {
        let account = self.caches.get(usize::from(cache.0)).map(|cache| &cache.account);
        account.map_or(Fullness::Within, |account| account.fullness(key_and_value_bytes, replaced))
    }

    fn fullness_now(&self, cache: CacheId) -> Fullness {
        self.caches.get(usize::from(cache.0)).map_or(Fullness::Within, |cache| cache.account.fullness_now())
    }

    fn charge(&self, cache: CacheId, bytes: i64) {
        if let Some(cache) = self.caches.get(usize::from(cache.0)) {
            cache.account.charge(bytes);
        }
    }

    fn results_budget(&self, cache: CacheId) -> u64 {
        self.caches.get(usize::from(cache.0)).map_or(0, |cache| cache.account.results_budget())
    }

    fn margin(&self, cache: CacheId) -> Margin {
        self.caches.get(usize::from(cache.0)).map_or_else(Margin::default, |cache| cache.account.margin())
    }
}
