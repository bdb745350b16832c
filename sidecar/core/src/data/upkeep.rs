//! Expiry and eviction: removals that the primary orders (E-1, E-3). They keep pace with what comes in (E-4): each write that
//! finds a cache over its bound orders removals, each turn goes on with a bounded number, and the next turn comes at once
//! while there are more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Data;
use crate::ids::{CacheId, GroupId, MemberId};
use crate::message::{Eviction, Message};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Fullness, Removal, Storage};
use crate::time::Time;

/// Between two turns while there is more to do, and between two looks for what expires.
const NEXT: Duration = Duration::from_millis(1);
const PERIOD: Duration = Duration::from_millis(5);
/// A group whose expired entries can't be removed now is looked at again after this.
const LATER: Duration = Duration::from_millis(50);
/// Entries of one group that expire in a turn before the next group's: none starves another.
const SLICE: usize = 64;

/// What is to be removed, and when.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Groups with deadlines, by the first of them or when they are looked at again.
    due: BTreeSet<(Time, GroupId)>,
    due_of: BTreeMap<GroupId, Time>,
    /// Removals to ask other primaries for.
    elsewhere: BTreeMap<MemberId, Vec<Eviction>>,
    /// Cache that the next turn begins with.
    first_cache: usize,
    /// Not before this.
    next_at: Time,
    /// There is more to do than waits for a deadline.
    busy: bool,
}

impl Upkeep {
    /// An entry of the group expires then.
    pub(super) fn expires(&mut self, group: GroupId, at: Time) {
        let known = self.due_of.get(&group).copied();
        if known.is_none_or(|known| at < known) {
            self.look_again(group, Some(at));
        }
    }

    fn look_again(&mut self, group: GroupId, at: Option<Time>) {
        if let Some(known) = self.due_of.remove(&group) {
            self.due.remove(&(known, group));
        }
        if let Some(at) = at {
            self.due_of.insert(group, at);
            self.due.insert((at, group));
        }
    }

    /// Something is over its bound.
    pub(super) fn soon(&mut self, now: Time) {
        if !self.busy {
            self.busy = true;
            self.next_at = now + NEXT;
        }
    }

    /// When it is next due.
    pub(super) fn next_turn(&self) -> Option<Time> {
        let first = self.due.first().map(|(at, _)| (*at).max(self.next_at));
        if self.busy { Some(self.next_at) } else { first }
    }
}

impl<S: Storage> Data<S> {
    /// Orders the removal of expired entries of the groups led here, and of entries over a bound: led here at once,
    /// led elsewhere through their primary.
    pub(super) fn order_removals(&mut self, cx: &mut StepContext<'_>) {
        let seldom = cx.bug(Bug::RoomNotLookedFor);
        let most = if seldom { 256 } else { cx.limits.removals_per_turn };
        let expired = self.expire(cx, most);
        let caches = self.cache_class.len();
        let mut left = most;
        for n in 0..caches {
            let cache = (self.upkeep.first_cache + n) % caches;
            let cache = CacheId(u16::try_from(cache).unwrap_or(u16::MAX));
            left -= self.evict(cx, cache, left);
        }
        self.upkeep.first_cache = (self.upkeep.first_cache + 1) % caches.max(1);
        for (to, evictions) in std::mem::take(&mut self.upkeep.elsewhere) {
            cx.send(to, Message::Evict(evictions));
        }
        // More is done at once only after something was done: what can't be removed now is waited for.
        let over = (0..caches)
            .any(|cache| self.store.fullness_now(CacheId(u16::try_from(cache).unwrap_or(u16::MAX))) >= Fullness::Over);
        self.upkeep.busy = expired >= most || left == 0 || (over && left < most);
        self.upkeep.next_at = cx.now + if self.upkeep.busy { NEXT } else { PERIOD };
        if seldom {
            (self.upkeep.busy, self.upkeep.next_at) = (false, cx.now + LATER);
        }
    }

    /// Removes up to `most` expired entries, the longest expired groups first. Gives how many there were.
    fn expire(&mut self, cx: &mut StepContext<'_>, most: usize) -> usize {
        let mut found = 0;
        while let Some((at, group)) = self.upkeep.due.first().copied() {
            if at > cx.now || found >= most {
                break;
            }
            if self.group(group).and_then(super::group::Group::primary).is_none() {
                self.upkeep.look_again(group, None);
                continue;
            }
            if !self.serves(group, cx.now) {
                self.upkeep.look_again(group, Some(cx.now + LATER));
                continue;
            }
            let expired = self.store.expired(group, cx.now, SLICE.min(most - found));
            let removed = expired.iter().filter(|removal| self.remove_in_order(cx, removal, true)).count();
            found += expired.len();
            let next = self.store.next_deadline(group);
            let is_blocked = removed < expired.len();
            // One that has more goes behind the others that are due.
            let next = next.map(|next| next.max(if is_blocked { cx.now + LATER } else { cx.now }));
            self.upkeep.look_again(group, next);
        }
        found
    }

    /// Orders up to `most` removals of a cache that is over its bounds, and gives their number. Those that other
    /// members lead go out with the next turn.
    pub(super) fn evict(&mut self, cx: &mut StepContext<'_>, cache: CacheId, most: usize) -> usize {
        let Some(view) = self.view.clone() else { return 0 };
        let victims = self.store.victims(cache, cx.now, most);
        let count = victims.len();
        for victim in victims {
            match view.primary(victim.group) {
                Some(primary) if primary == cx.me => {
                    self.remove_in_order(cx, &victim, false);
                }
                Some(_) if cx.bug(Bug::EvictsByItself) => {
                    self.apply(victim.group, &victim.key, victim.version, None);
                }
                Some(primary) => self.upkeep.elsewhere.entry(primary).or_default().push(Eviction {
                    group: victim.group,
                    cache,
                    key: victim.key.key,
                    version: victim.version,
                }),
                None => {}
            }
        }
        count
    }

    /// Another member is over its bound.
    pub(super) fn on_evict(&mut self, cx: &mut StepContext<'_>, evictions: Vec<Eviction>) {
        let groups = self.groups.len();
        for e in evictions.into_iter().filter(|e| e.group.index() < groups) {
            let key = CacheKey { cache: e.cache, key: e.key };
            self.remove_in_order(cx, &Removal { group: e.group, key, version: e.version }, false);
        }
    }
}
