//! How much more may come into each cache: bounds that are kept here and at the other copies (E-4).
//!
//! A primary sees its own store. What the others hold it learns only when they say so, and until then what it has sent
//! may pass their bounds. So near a bound only a part of the margin may be under way from each primary, and a copy that is
//! over its bound by half the margin says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Data;
use super::group::{Group, Role};
use crate::ids::{CacheId, GroupId, MemberId};
use crate::message::Message;
use crate::operation::RefusalReason;
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Fullness, Storage, StoredEntry};
use crate::time::Time;

/// How often a copy repeats that it is full, and how long that counts.
const REPEAT: Duration = Duration::from_millis(100);
const COUNTS_FOR: Duration = Duration::from_millis(400);
/// What an entry takes besides key and value, about.
const ENTRY_OVERHEAD: usize = 128;
/// Victims looked for with one write: more than it brings, and more for large ones, which displace many small.
const VICTIMS_PER_WRITE: usize = 4;
const BYTES_PER_VICTIM: usize = 256;
const MOST_VICTIMS_PER_WRITE: usize = 64;

/// What is under way into each cache, and which copies are full.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Entries ordered here and not stable yet, and their bytes, by cache.
    under_way: BTreeMap<CacheId, (u64, u64)>,
    /// Members that lead groups of which this one holds a copy.
    primaries: BTreeSet<MemberId>,
    /// Caches that these were told are full here, and when.
    said: BTreeSet<CacheId>,
    said_at: Time,
    /// Caches that other copies have said to be full there.
    full: BTreeMap<MemberId, (BTreeSet<CacheId>, Time)>,
}

impl Intake {
    /// Counts a pending write; the number is given back with [`Intake::settled`].
    pub(super) fn ordered(&mut self, cache: CacheId, bytes: usize) {
        let sum = self.under_way.entry(cache).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes as u64);
    }

    pub(super) fn settled(&mut self, cache: CacheId, bytes: usize) {
        if let Some(sum) = self.under_way.get_mut(&cache) {
            *sum = (sum.0 - 1, sum.1 - bytes as u64);
        }
    }

    fn is_full_at(&self, peer: MemberId, cache: CacheId, now: Time) -> bool {
        let told = self.full.get(&peer).filter(|(_, at)| now.since(*at) < COUNTS_FOR);
        told.is_some_and(|(caches, _)| caches.contains(&cache))
    }
}

/// Bytes of a new entry as they are counted on their way; 0 for a removal, which brings nothing.
pub(super) fn intake_bytes(key: &CacheKey, entry: Option<&StoredEntry>) -> usize {
    entry.map_or(0, |entry| key.key.len() + entry.value.len() + ENTRY_OVERHEAD)
}

impl<S: Storage> Data<S> {
    /// Under a new view: counts what is pending still, and whom to tell of full caches.
    pub(super) fn renew_intake(&mut self, cx: &StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        let follows = |g: &&Group| matches!(g.role, Role::Owner | Role::Incoming(_));
        let primaries = self.groups.iter().filter(follows).filter_map(|g| view.primary(g.id));
        let primaries = primaries.filter(|id| *id != cx.me).collect();
        self.intake = Intake { primaries, ..Intake::default() };
        for pending in self.groups.iter().filter_map(Group::primary).flat_map(|p| p.pending.values()) {
            if pending.intake_bytes > 0 {
                self.intake.ordered(pending.key.cache, pending.intake_bytes);
            }
        }
    }

    /// Why there is no room for an entry.
    pub(super) fn lacks_room(
        &self,
        cx: &StepContext<'_>,
        group: GroupId,
        key: &CacheKey,
        entry: &StoredEntry,
        replaced: Option<&StoredEntry>,
    ) -> Option<RefusalReason> {
        if cx.bug(Bug::RoomNotLookedFor) {
            return None;
        }
        let bytes = key.key.len() + entry.value.len();
        let replaced = replaced.map(|entry| key.key.len() + entry.value.len());
        let fullness = self.store.fullness(key.cache, bytes, replaced);
        match fullness {
            Fullness::Refuses => return Some(RefusalReason::Full),
            Fullness::PastMargin => return Some(RefusalReason::Overloaded),
            _ => {}
        }
        if replaced.is_some_and(|replaced| bytes <= replaced) {
            return None;
        }
        let replicas = self.groups[group.index()].primary().map(|p| p.replicas.clone()).unwrap_or_default();
        let margin = self.store.margin(key.cache);
        if replicas.iter().any(|peer| self.intake.is_full_at(*peer, key.cache, cx.now)) {
            return Some(if margin.rejects { RefusalReason::Full } else { RefusalReason::Overloaded });
        }
        if replicas.is_empty() || fullness < Fullness::Near {
            return None;
        }
        // Each of the other members may send a copy its part of half the margin; the other half is what it says it by.
        let senders = self.view.as_ref().map_or(1, |v| v.members.len().saturating_sub(1)).max(1) as u64;
        let (entries, under_way) = self.intake.under_way.get(&key.cache).copied().unwrap_or_default();
        let sum = under_way + (bytes + ENTRY_OVERHEAD) as u64;
        let too_many = margin.entries.is_some_and(|most| entries >= most / 2 / senders);
        let too_large = margin.bytes.is_some_and(|most| sum > most / 2 / senders);
        (entries > 0 && (too_many || too_large)).then_some(RefusalReason::Overloaded)
    }

    /// Orders the removal of what an entry of this many bytes displaces, as far as one write may. To be called before the
    /// write is decided: a removal takes a version, and may be of the same key.
    pub(super) fn make_room(&mut self, cx: &mut StepContext<'_>, cache: CacheId, bytes: usize) {
        let fullness = self.store.fullness(cache, bytes, None);
        if cx.bug(Bug::RoomNotLookedFor) || fullness < Fullness::Over || fullness == Fullness::Refuses {
            return;
        }
        let most = (VICTIMS_PER_WRITE + bytes / BYTES_PER_VICTIM).min(MOST_VICTIMS_PER_WRITE);
        self.evict(cx, cache, most);
        self.upkeep.soon(cx.now);
    }

    /// A copy got entries: says at once when a cache is full here, and sees to removals.
    pub(super) fn took_in(&mut self, cx: &mut StepContext<'_>, caches: &BTreeSet<CacheId>) {
        let mut news = false;
        for cache in caches {
            let fullness = self.store.fullness_now(*cache);
            if fullness >= Fullness::Over && !cx.bug(Bug::RoomNotLookedFor) {
                self.upkeep.soon(cx.now);
            }
            news |= fullness >= Fullness::Pressed && self.intake.said.insert(*cache);
        }
        if news {
            self.say_full(cx);
        }
    }

    /// Looks at every cache again, and repeats what is full while something is.
    pub(super) fn review_fullness(&mut self, cx: &mut StepContext<'_>) {
        let caches = (0..self.cache_class.len()).map(|cache| CacheId(u16::try_from(cache).unwrap_or(u16::MAX)));
        let full: BTreeSet<CacheId> =
            caches.filter(|cache| self.store.fullness_now(*cache) >= Fullness::Pressed).collect();
        let repeat = !full.is_empty() && cx.now.since(self.intake.said_at) >= REPEAT;
        if full != self.intake.said || repeat {
            self.intake.said = full;
            self.say_full(cx);
        }
    }

    fn say_full(&mut self, cx: &mut StepContext<'_>) {
        self.intake.said_at = cx.now;
        for to in &self.intake.primaries {
            cx.send(*to, Message::Full(self.intake.said.iter().copied().collect()));
        }
    }

    /// A copy says which caches are full there.
    pub(super) fn on_full(&mut self, cx: &StepContext<'_>, from: MemberId, caches: Vec<CacheId>) {
        if self.view.as_ref().is_some_and(|view| view.contains(from)) {
            self.intake.full.insert(from, (caches.into_iter().collect(), cx.now));
        }
    }
}
