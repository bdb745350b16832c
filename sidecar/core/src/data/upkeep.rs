//! Expiry and eviction: removals that the primary orders (E-1, E-3).

use std::collections::BTreeMap;

use super::Data;
use crate::ids::{CacheId, MemberId};
use crate::message::{Eviction, Message};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Removal, Storage};

impl<S: Storage> Data<S> {
    /// Orders the removal of expired entries of the groups led here, and of entries over a bound: led here at once,
    /// led elsewhere through their primary.
    pub(super) fn order_removals(&mut self, cx: &mut StepContext<'_>) {
        let mut room = cx.limits.removals_per_turn;
        for index in 0..self.groups.len() {
            let group = self.groups[index].id;
            if room == 0 || !self.serves(group, cx.now) {
                continue;
            }
            let expired = self.store.expired(group, cx.now, room);
            room -= expired.len();
            for removal in expired {
                self.remove_in_order(cx, &removal, true);
            }
        }
        self.evict(cx);
    }

    fn evict(&mut self, cx: &mut StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        let mut elsewhere: BTreeMap<MemberId, Vec<Eviction>> = BTreeMap::new();
        for cache in 0..self.cache_class.len() {
            let cache = CacheId(u16::try_from(cache).unwrap_or(u16::MAX));
            for victim in self.store.victims(cache, cx.now, cx.limits.removals_per_turn) {
                match view.primary(victim.group) {
                    Some(primary) if primary == cx.me => self.remove_in_order(cx, &victim, false),
                    Some(_) if cx.bug(Bug::EvictsByItself) => {
                        self.apply(victim.group, &victim.key, victim.version, None);
                    }
                    Some(primary) => elsewhere.entry(primary).or_default().push(Eviction {
                        group: victim.group,
                        cache,
                        key: victim.key.key,
                        version: victim.version,
                    }),
                    None => {}
                }
            }
        }
        for (to, evictions) in elsewhere {
            cx.send(to, Message::Evict(evictions));
        }
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
