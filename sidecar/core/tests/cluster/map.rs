//! The simplest store: a map. With bounds it evicts what was put first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use sidegrid_core::storage::{CacheKey, Fullness, Margin, Record, Removal, Storage};
use sidegrid_core::{CacheId, GroupId, Time, Version};

/// How long a victim is not named again.
const NAMED_FOR: Duration = Duration::from_millis(250);

type Place = (GroupId, CacheKey);

#[derive(Debug, Default)]
pub(crate) struct Map(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    bounds: Bounds,
    records: BTreeMap<Place, (Record, u64)>,
    /// Entries, oldest first.
    order: BTreeMap<u64, Place>,
    deadlines: BTreeSet<(GroupId, Time, CacheKey)>,
    named: BTreeMap<u64, Time>,
    named_bytes: u64,
    bytes: u64,
    next: u64,
    most: Held,
    results: i64,
}

/// Bounds of the one cache.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) entries: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

/// Entries and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Records {
    fn held(&self) -> Held {
        Held { entries: self.order.len() as u64, bytes: self.bytes }
    }

    fn remove(&mut self, place: &Place) {
        let Some((record, at)) = self.records.remove(place) else { return };
        if let Some(entry) = &record.entry {
            self.order.remove(&at);
            self.bytes -= size(&place.1, entry.value.len());
            if self.named.remove(&at).is_some() {
                self.named_bytes -= size(&place.1, entry.value.len());
            }
            if let Some(deadline) = entry.deadline {
                self.deadlines.remove(&(place.0, deadline, place.1.clone()));
            }
        }
    }

    fn insert(&mut self, place: Place, record: Record) {
        self.remove(&place);
        self.next += 1;
        let at = self.next;
        if let Some(entry) = &record.entry {
            self.order.insert(at, place.clone());
            self.bytes += size(&place.1, entry.value.len());
            if let Some(deadline) = entry.deadline {
                self.deadlines.insert((place.0, deadline, place.1.clone()));
            }
        }
        self.records.insert(place, (record, at));
        let held = self.held();
        self.most = Held { entries: self.most.entries.max(held.entries), bytes: self.most.bytes.max(held.bytes) };
    }

    fn fullness(&self, entries: u64, bytes: u64) -> Fullness {
        let margin = self.margin();
        let of = |held: u64, more: u64, most: Option<u64>, margin: Option<u64>| match (most, margin) {
            (Some(most), Some(margin)) => match held + more {
                sum if more > 0 && sum > most + margin => Fullness::PastMargin,
                sum if sum > most + margin / 2 => Fullness::Pressed,
                sum if sum > most => Fullness::Over,
                sum if sum >= most - most / 4 => Fullness::Near,
                _ => Fullness::Within,
            },
            _ => Fullness::Within,
        };
        let held = self.held();
        let of_entries = of(held.entries, entries, self.bounds.entries, margin.entries);
        of_entries.max(of(held.bytes, bytes, self.bounds.bytes, margin.bytes))
    }

    fn margin(&self) -> Margin {
        Margin {
            entries: self.bounds.entries.map(|most| (most / 10).max(64)),
            bytes: self.bounds.bytes.map(|most| (most / 10).max(4 << 20)),
            rejects: false,
        }
    }
}

impl Map {
    pub(crate) fn bounded(bounds: Bounds) -> Map {
        Map(Mutex::new(Records { bounds, ..Records::default() }))
    }

    /// Bytes of remembered results.
    pub(crate) fn results(&self) -> i64 {
        self.0.lock().unwrap().results
    }

    /// What it holds, and the most that it ever held.
    pub(crate) fn held(&self) -> (Held, Held) {
        let records = self.0.lock().unwrap();
        (records.held(), records.most)
    }
}

fn size(key: &CacheKey, value: usize) -> u64 {
    (key.key.len() + value + 100) as u64
}

impl Storage for Map {
    fn get(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.peek(group, key)
    }

    fn peek(&self, group: GroupId, key: &CacheKey) -> Option<Record> {
        self.0.lock().unwrap().records.get(&(group, key.clone())).map(|(record, _)| record.clone())
    }

    fn put(&self, group: GroupId, key: &CacheKey, record: Record) {
        self.0.lock().unwrap().insert((group, key.clone()), record);
    }

    fn forget(&self, group: GroupId, key: &CacheKey, version: Version) {
        let mut records = self.0.lock().unwrap();
        let place = (group, key.clone());
        if records.records.get(&place).is_some_and(|(r, _)| r.version == version) {
            records.remove(&place);
        }
    }

    fn clear(&self, group: GroupId) {
        let mut records = self.0.lock().unwrap();
        let places: Vec<Place> = records.records.keys().filter(|(g, _)| *g == group).cloned().collect();
        places.iter().for_each(|place| records.remove(place));
    }

    fn keys(&self, group: GroupId) -> Vec<CacheKey> {
        let records = self.0.lock().unwrap();
        records.records.keys().filter(|(g, _)| *g == group).map(|(_, key)| key.clone()).collect()
    }

    fn expired(&self, group: GroupId, now: Time, max: usize) -> Vec<Removal> {
        let records = self.0.lock().unwrap();
        let first = CacheKey { cache: CacheId(0), key: bytes::Bytes::new() };
        let due =
            records.deadlines.range((group, Time::ZERO, first)..).take_while(|(g, at, _)| *g == group && *at <= now);
        due.take(max)
            .map(|(group, _, key)| {
                let version = records.records[&(*group, key.clone())].0.version;
                Removal { group: *group, key: key.clone(), version }
            })
            .collect()
    }

    fn victims(&self, _: CacheId, now: Time, max: usize) -> Vec<Removal> {
        let mut guard = self.0.lock().unwrap();
        let records = &mut *guard;
        let lapsed: Vec<u64> = records.named.iter().filter(|(_, until)| **until <= now).map(|(at, _)| *at).collect();
        for at in lapsed {
            records.named.remove(&at);
            let place = &records.order[&at];
            let value = records.records[place].0.entry.as_ref().map_or(0, |e| e.value.len());
            records.named_bytes -= size(&place.1, value);
        }
        let mut victims = Vec::new();
        for (at, place) in &records.order {
            let (entries, bytes) = (records.order.len() - records.named.len(), records.bytes - records.named_bytes);
            let over = records.bounds.entries.is_some_and(|most| entries as u64 > most)
                || records.bounds.bytes.is_some_and(|most| bytes > most);
            if !over || victims.len() >= max {
                break;
            }
            if records.named.contains_key(at) {
                continue;
            }
            let record = &records.records[place].0;
            records.named.insert(*at, now + NAMED_FOR);
            records.named_bytes += size(&place.1, record.entry.as_ref().map_or(0, |e| e.value.len()));
            victims.push(Removal { group: place.0, key: place.1.clone(), version: record.version });
        }
        victims
    }

    fn next_deadline(&self, group: GroupId) -> Option<Time> {
        let records = self.0.lock().unwrap();
        let first = CacheKey { cache: CacheId(0), key: bytes::Bytes::new() };
        records.deadlines.range((group, Time::ZERO, first)..).next().filter(|(g, ..)| *g == group).map(|(_, at, _)| *at)
    }

    fn fullness(&self, _: CacheId, key_and_value_bytes: usize, replaced: Option<usize>) -> Fullness {
        let more = (key_and_value_bytes + 100).saturating_sub(replaced.map_or(0, |bytes| bytes + 100));
        self.0.lock().unwrap().fullness(u64::from(replaced.is_none()), more as u64)
    }

    fn fullness_now(&self, _: CacheId) -> Fullness {
        self.0.lock().unwrap().fullness(0, 0)
    }

    fn charge(&self, _: CacheId, bytes: i64) {
        let mut records = self.0.lock().unwrap();
        records.results += bytes;
        assert!(records.results >= 0, "more was given back than was counted");
    }

    fn results_budget(&self, _: CacheId) -> u64 {
        1 << 20
    }

    fn margin(&self, _: CacheId) -> Margin {
        self.0.lock().unwrap().margin()
    }
}
