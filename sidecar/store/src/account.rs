//! What one cache holds on this member, over all groups.

use std::sync::atomic::{AtomicU64, Ordering};

use sidegrid_core::storage::{Fullness, Margin};

use crate::settings::{CacheBounds, WhenFull};
use crate::slot::Slot;

/// Figures of one cache on this member. Each is exact; while writes go on, two may be of different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Values, expired ones that are not removed yet included.
    pub entries: u64,
    /// Bytes of keys, values and overhead, tombstones and remembered results included.
    pub bytes: u64,
    /// Tombstones.
    pub tombstones: u64,
}

/// Running sums of one cache.
#[derive(Debug, Default)]
pub(crate) struct Account {
    bounds: CacheBounds,
    entries: AtomicU64,
    entry_bytes: AtomicU64,
    tombstones: AtomicU64,
    tombstone_bytes: AtomicU64,
    /// Bytes of remembered results.
    result_bytes: AtomicU64,
}

/// What one record is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    is_tombstone: bool,
    pub(crate) bytes: u64,
}

impl Account {
    pub(crate) fn new(bounds: CacheBounds) -> Account {
        Account { bounds, ..Account::default() }
    }

    /// What the record in a slot is counted as; none for a free one.
    pub(crate) fn cost(&self, slot: &Slot) -> Option<Cost> {
        let data = slot.data.as_ref()?;
        let is_tombstone = data.is_tombstone();
        let overhead = if is_tombstone { self.bounds.tombstone_overhead() } else { self.bounds.overhead() };
        // The header is in both.
        Some(Cost { is_tombstone, bytes: (overhead + data.len() - crate::packed::HEADER) as u64 })
    }

    pub(crate) fn add(&self, cost: Cost) {
        let (records, bytes) = self.sums(cost);
        records.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(cost.bytes, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, cost: Cost) {
        let (records, bytes) = self.sums(cost);
        records.fetch_sub(1, Ordering::Relaxed);
        bytes.fetch_sub(cost.bytes, Ordering::Relaxed);
    }

    fn sums(&self, cost: Cost) -> (&AtomicU64, &AtomicU64) {
        if cost.is_tombstone { (&self.tombstones, &self.tombstone_bytes) } else { (&self.entries, &self.entry_bytes) }
    }

    /// Whether the entries are over a bound, not counting `leaving` entries of `leaving_bytes`.
    ///
    /// Tombstones are left out: giving up entries because of them would only make more of them.
    pub(crate) fn is_over(&self, leaving: u64, leaving_bytes: u64) -> bool {
        let over = |held: &AtomicU64, leaving, most: Option<u64>| {
            most.is_some_and(|most| load(held) > most.saturating_add(leaving))
        };
        over(&self.entries, leaving, self.bounds.max_entries)
            || over(&self.entry_bytes, leaving_bytes, self.bounds.max_bytes.map(|most| self.without_results(most)))
    }

    /// Whether a new entry of this many bytes (key and value) has no room: never, in a cache that evicts, unless it
    /// could not be kept even alone.
    pub(crate) fn is_full(&self, key_and_value_bytes: usize) -> bool {
        self.fullness(key_and_value_bytes, None) == Fullness::Refuses
    }

    /// Whether a record that grows from `replaced` bytes, overhead included, to this many has no room.
    pub(crate) fn has_no_room_to_replace(&self, key_and_value_bytes: usize, replaced: u64) -> bool {
        self.fullness_with(0, self.with_overhead(key_and_value_bytes), replaced) == Fullness::Refuses
    }

    /// See [`sidegrid_core::storage::Storage::fullness`].
    pub(crate) fn fullness(&self, key_and_value_bytes: usize, replaced: Option<usize>) -> Fullness {
        let replaced_bytes = replaced.map_or(0, |bytes| self.with_overhead(bytes));
        self.fullness_with(u64::from(replaced.is_none()), self.with_overhead(key_and_value_bytes), replaced_bytes)
    }

    /// See [`sidegrid_core::storage::Storage::fullness_now`].
    pub(crate) fn fullness_now(&self) -> Fullness {
        self.fullness_with(0, 0, 0)
    }

    /// Counts bytes of remembered results, or, below zero, no longer.
    pub(crate) fn charge(&self, bytes: i64) {
        if bytes >= 0 {
            self.result_bytes.fetch_add(bytes.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.result_bytes.fetch_sub(bytes.unsigned_abs(), Ordering::Relaxed);
        }
    }

    /// How many bytes of remembered results there should be at most.
    pub(crate) fn results_budget(&self) -> u64 {
        self.bounds.results_budget()
    }

    /// What a bound on bytes leaves for entries: results take at most half of it away.
    fn without_results(&self, most: u64) -> u64 {
        most - load(&self.result_bytes).min(most / 2)
    }

    fn with_overhead(&self, key_and_value_bytes: usize) -> u64 {
        (key_and_value_bytes + self.bounds.overhead()) as u64
    }

    fn fullness_with(&self, entries: u64, bytes: u64, replaced: u64) -> Fullness {
        if self.bounds.max_bytes.is_some_and(|most| bytes > most) {
            return Fullness::Refuses;
        }
        let margin = self.bounds.margin();
        let rejects = self.bounds.when_full == WhenFull::Reject;
        let tombstones = if rejects { load(&self.tombstone_bytes) } else { 0 };
        let grows = bytes.saturating_sub(replaced);
        let most_bytes = self.bounds.max_bytes.map(|most| self.without_results(most));
        let of_entries = fullness_of(load(&self.entries), entries, self.bounds.max_entries, margin.entries, rejects);
        let of_bytes = fullness_of(load(&self.entry_bytes) + tombstones, grows, most_bytes, margin.bytes, rejects);
        of_entries.max(of_bytes)
    }

    /// By how much the bounds may be passed.
    pub(crate) fn margin(&self) -> Margin {
        self.bounds.margin()
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            entries: load(&self.entries),
            bytes: load(&self.entry_bytes) + load(&self.tombstone_bytes) + load(&self.result_bytes),
            tombstones: load(&self.tombstones),
        }
    }
}

fn load(sum: &AtomicU64) -> u64 {
    sum.load(Ordering::Relaxed)
}

/// `held` and `more` of something against its bound.
fn fullness_of(held: u64, more: u64, most: Option<u64>, margin: Option<u64>, rejects: bool) -> Fullness {
    let (Some(most), Some(margin)) = (most, margin) else { return Fullness::Within };
    let sum = held.saturating_add(more);
    if rejects {
        return match () {
            () if more > 0 && sum > most => Fullness::Refuses,
            () if sum >= most => Fullness::Pressed,
            () if sum >= most - most / 4 => Fullness::Near,
            () => Fullness::Within,
        };
    }
    // What takes no room is refused none.
    if more > 0 && sum > most.saturating_add(margin) {
        Fullness::PastMargin
    } else if sum > most.saturating_add(margin / 2) {
        Fullness::Pressed
    } else if sum > most {
        Fullness::Over
    } else if sum >= most - most / 4 {
        Fullness::Near
    } else {
        Fullness::Within
    }
}
