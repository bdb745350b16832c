//! The records of one group.

use std::sync::Arc;

use hashbrown::HashTable;
use sidegrid_core::storage::{Record, StoredEntry};
use sidegrid_core::{CacheId, Time, Version};

use crate::chunks::Chunks;
use crate::content_types::ContentTypes;
use crate::deadlines::Deadlines;
use crate::packed::Packed;
use crate::slot::{Mark, NONE, Slot};

/// The slots of one group.
pub(crate) type Slots = Chunks<Slot, 32>;

/// The records of one group: a hash index of slots, and a heap of those that have a deadline.
#[derive(Debug)]
pub(crate) struct Shard {
    index: HashTable<u32>,
    slots: Slots,
    /// First free slot; each names the next in its `hash`.
    free: u32,
    deadlines: Deadlines,
    types: ContentTypes,
}

impl Default for Shard {
    fn default() -> Self {
        Shard {
            index: HashTable::new(),
            slots: Slots::default(),
            free: NONE,
            deadlines: Deadlines::default(),
            types: ContentTypes::default(),
        }
    }
}

/// A record on its way in: packed before the lock is taken.
#[derive(Debug)]
pub(crate) struct Incoming {
    data: Packed,
    version: Version,
    /// Of a value.
    entry: Option<StoredEntry>,
}

impl Incoming {
    pub(crate) fn new(cache: CacheId, key: &[u8], record: Record) -> Incoming {
        let data = match &record.entry {
            Some(entry) => Packed::value(cache, key, record.version, entry, None),
            None => Packed::tombstone(cache, key),
        };
        Incoming { data, version: record.version, entry: record.entry }
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.entry.is_none()
    }
}

/// A record on its way out: made into a [`Record`] after the lock is given back.
#[derive(Debug)]
pub(crate) struct Outgoing {
    data: Packed,
    content_type: Option<Arc<str>>,
    version: Version,
    deadline: Time,
    written: Time,
}

impl Outgoing {
    pub(crate) fn into_record(self) -> Record {
        let version = self.version;
        if self.data.is_tombstone() {
            return Record { version, entry: None };
        }
        let entry = StoredEntry {
            content_type: self.content_type.or_else(|| self.data.inline_type()),
            etag: self.data.etag().unwrap_or(version),
            deadline: (self.deadline != Time::NEVER).then_some(self.deadline),
            written: self.written,
            value: self.data.into_value(),
        };
        Record { version, entry: Some(entry) }
    }
}

impl Shard {
    /// The slot of a key.
    pub(crate) fn find(&self, hash: u32, cache: CacheId, key: &[u8]) -> Option<u32> {
        let is_it = |&slot: &u32| {
            let slot = &self.slots[slot];
            slot.hash == hash && slot.data.as_ref().is_some_and(|data| data.is_of(cache, key))
        };
        self.index.find(spread(hash), is_it).copied()
    }

    /// A slot in use.
    pub(crate) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot]
    }

    /// The slot, if it still is the one of that ticket.
    pub(crate) fn ticketed(&self, slot: u32, ticket: u32) -> Option<&Slot> {
        self.slots.get(slot).filter(|slot| slot.ticket == ticket && slot.data.is_some())
    }

    pub(crate) fn set_ticket(&mut self, slot: u32, ticket: u32) {
        self.slots[slot].ticket = ticket;
    }

    /// The record in a slot in use.
    pub(crate) fn take_out(&self, slot: u32) -> Option<Outgoing> {
        let slot = &self.slots[slot];
        let data = slot.data.clone()?;
        let content_type = self.types.text(data.type_number());
        Some(Outgoing { data, content_type, version: slot.version, deadline: slot.deadline, written: slot.written })
    }

    /// Puts a record of a key that has none into a slot without a ticket.
    pub(crate) fn insert(&mut self, hash: u32, incoming: Incoming) -> u32 {
        let empty = Slot {
            data: None,
            version: Version::ZERO,
            deadline: Time::NEVER,
            written: Time::ZERO,
            hash,
            ticket: NONE,
            due: NONE,
            mark: Mark::default(),
        };
        let slot = if self.free == NONE {
            self.slots.push(empty)
        } else {
            let slot = self.free;
            self.free = self.slots[slot].hash;
            self.slots[slot] = empty;
            slot
        };
        self.fill(slot, incoming);
        let slots = &self.slots;
        self.index.insert_unique(spread(hash), slot, |&slot| spread(slots[slot].hash));
        slot
    }

    /// Puts another record of the same key into a slot; its ticket and mark stay.
    pub(crate) fn replace(&mut self, slot: u32, incoming: Incoming) {
        self.deadlines.remove(&mut self.slots, slot);
        if let Some(old) = self.slots[slot].data.take() {
            self.types.release(old.type_number());
        }
        self.fill(slot, incoming);
    }

    fn fill(&mut self, slot: u32, incoming: Incoming) {
        let Incoming { mut data, version, entry } = incoming;
        if let Some(text) = entry.as_ref().and_then(|entry| entry.content_type.as_ref()) {
            match self.types.hold(text) {
                Some(number) => data.set_type(number),
                // Rare: more different texts in one group than the table takes.
                None => data = packed_with_type(&data, version, entry.as_ref(), text),
            }
        }
        let place = &mut self.slots[slot];
        place.data = Some(data);
        place.version = version;
        place.deadline = entry.as_ref().and_then(|entry| entry.deadline).unwrap_or(Time::NEVER);
        place.written = entry.map_or(Time::ZERO, |entry| entry.written);
        if place.deadline != Time::NEVER {
            self.deadlines.insert(&mut self.slots, slot);
        }
    }

    /// Empties a slot in use. The last one gives all memory back.
    pub(crate) fn remove(&mut self, slot: u32) {
        self.deadlines.remove(&mut self.slots, slot);
        let place = &mut self.slots[slot];
        let hash = std::mem::replace(&mut place.hash, self.free);
        place.ticket = NONE;
        if let Some(data) = place.data.take() {
            self.types.release(data.type_number());
        }
        self.free = slot;
        if let Ok(found) = self.index.find_entry(spread(hash), |&other| other == slot) {
            found.remove();
        }
        if self.index.is_empty() {
            *self = Shard::default();
        }
    }

    /// Slots in use, in any order.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.data.is_some())
    }

    /// Takes the slots in use, in any order.
    pub(crate) fn into_used(self) -> impl Iterator<Item = Slot> {
        self.slots.into_elements().filter(|slot| slot.data.is_some())
    }

    /// Records held.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The soonest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.next(&self.slots)
    }

    /// Up to `max` slots whose deadline is at or before `now`, soonest first.
    pub(crate) fn due(&self, now: Time, max: usize) -> Vec<u32> {
        self.deadlines.due(&self.slots, now, max)
    }
}

fn packed_with_type(data: &Packed, version: Version, entry: Option<&StoredEntry>, text: &str) -> Packed {
    match entry {
        Some(entry) => Packed::value(data.cache(), data.key(), version, entry, Some(text)),
        None => data.clone(),
    }
}

/// The index looks at the lowest and at the highest bits of 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
