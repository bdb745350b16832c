//! Becoming primary: collect, send again, serve (M-1, M-2).

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::Data;
use super::group::{AppliedWrite, Phase, Primary};
use crate::event::Notice;
use crate::ids::{GroupId, MemberId, Version};
use crate::message::{Message, RememberedResult, Write};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage};

/// What an owner answers to a collection.
pub(super) struct Collected {
    pub(super) above: Version,
    pub(super) stable: Version,
    pub(super) writes: Vec<Write>,
    pub(super) results: Vec<RememberedResult>,
}

impl<S: Storage> Data<S> {
    /// Begins, or under a newer view begins again, the promotion of this node in a group.
    pub(super) fn promote(&mut self, cx: &mut StepContext<'_>, index: usize) {
        let Some(view) = self.view.clone() else { return };
        let group = self.groups[index].id;
        let others = |ids: &[MemberId]| ids.iter().copied().filter(|id| *id != cx.me).collect::<BTreeSet<_>>();
        let awaited = if cx.bug(Bug::NoCollect) { BTreeSet::new() } else { others(&view.owners(group)) };
        let dropped = others(&view.dropped(group));
        let mut replicas: SmallVec<[MemberId; 4]> = others(&view.owners(group)).into_iter().collect();
        replicas.extend(view.incoming(group).iter().map(|(id, _)| *id));
        let phase = Phase::Collecting { awaited, newest: BTreeMap::new(), results: BTreeMap::new() };
        if cx.bug(Bug::CountersBeginAgain) {
            self.groups[index].counter = self.groups[index].stable.counter;
        }
        let mut primary = Primary::new(replicas, dropped, phase);
        primary.waits_since = Some(cx.now);
        primary.asks.begin(cx.now);
        self.groups[index].role = super::group::Role::Primary(Box::new(primary));
        self.ask_collections(cx, index);
        self.collected_all(cx, group);
    }

    fn ask_collections(&self, cx: &mut StepContext<'_>, index: usize) {
        let (group, above) = (self.groups[index].id, self.groups[index].stable);
        let awaited: Vec<MemberId> = self.groups[index].primary().map(|p| p.awaited().collect()).unwrap_or_default();
        for to in awaited {
            cx.send(to, Message::Collect { group, above });
        }
    }

    /// Asks again what was not answered. An answer may be long, so each wait is double the one before.
    pub(super) fn resend_promotions(&mut self, cx: &mut StepContext<'_>) {
        let first = cx.limits.resend * 2;
        for index in 0..self.groups.len() {
            let Some(primary) = self.groups[index].primary_mut() else { continue };
            if primary.awaited().next().is_some() && primary.asks.is_due(cx.now, first) {
                self.ask_collections(cx, index);
            }
        }
    }

    /// A question to this peer, or its answer, may have been lost with a connection.
    pub(super) fn ask_collections_of(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        for g in &self.groups {
            if g.primary().is_some_and(|p| p.awaited().any(|id| id == peer)) {
                cx.send(peer, Message::Collect { group: g.id, above: g.stable });
            }
        }
    }

    /// The peer has installed our view: a collection sent before may have been lost on it.
    pub(super) fn after_install_of(&mut self, cx: &mut StepContext<'_>, index: usize, peer: MemberId) {
        let group = self.groups[index].id;
        let above = self.groups[index].stable;
        let Some(primary) = self.groups[index].primary_mut() else { return };
        if primary.dropped.remove(&peer) {
            self.after_dropped(cx, group);
        } else if primary.awaited().any(|id| id == peer) {
            cx.send(peer, Message::Collect { group, above });
        }
    }

    fn after_dropped(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let Some(primary) = self.groups[group.index()].primary_mut() else { return };
        if !primary.dropped.is_empty() {
            return;
        }
        if primary.is_serving() {
            primary.waits_since = None;
        }
        let waiting: Vec<u64> = primary.pending.keys().copied().collect();
        for counter in waiting {
            self.settle(cx, group, Some(counter));
        }
        self.collected_all(cx, group);
    }

    pub(super) fn on_collected(&mut self, cx: &mut StepContext<'_>, from: MemberId, group: GroupId, got: Collected) {
        let Some(g) = self.groups.get_mut(group.index()) else { return };
        let known = g.stable;
        self.links.progressed(from, cx.now);
        let Some(primary) = g.primary_mut() else { return };
        if primary.dropped.remove(&from) {
            self.after_dropped(cx, group);
            return;
        }
        let Phase::Collecting { awaited, newest, results } = &mut primary.phase else { return };
        if got.above.counter > known.counter || !awaited.remove(&from) {
            return;
        }
        for write in got.writes {
            let key = CacheKey { cache: write.cache, key: write.key.clone() };
            if newest.get(&key).is_none_or(|held| held.version < write.version) {
                newest.insert(key, write);
            }
        }
        results.extend(got.results.into_iter().map(|r| (r.version.counter, r)));
        // What one owner knows to be stable is stable: every owner of now held it then.
        self.advance_stable(group, got.stable);
        self.collected_all(cx, group);
    }

    /// Everything is collected and every dropped owner has installed the view: takes the newest of each key, and has
    /// every copy acknowledge it.
    fn collected_all(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let g = &mut self.groups[group.index()];
        let stable = g.stable.counter;
        let Some(primary) = g.primary_mut() else { return };
        let dropped = !primary.dropped.is_empty() && !cx.bug(Bug::OldPrimaryNotAwaited);
        let Phase::Collecting { awaited, newest, results } = &mut primary.phase else { return };
        if !awaited.is_empty() || dropped {
            return;
        }
        let (newest, results) = (std::mem::take(newest), std::mem::take(results));
        primary.phase = Phase::Resending { count: 0 };
        primary.waits_since = None;
        for (_, write) in newest {
            if write.version.counter > stable {
                self.take_write(cx, group, &write);
            }
        }
        for result in results.values() {
            self.with_results(group, |results| results.applied(result, &cx.limits, cx.now));
        }
        self.resend_recent(cx, group);
    }

    /// Sends what is above the watermark, in order, to every owner and incoming member (M-2). Results of writes that
    /// newer ones of their keys cover travel with the first.
    fn resend_recent(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let g = &self.groups[group.index()];
        let mut results: BTreeMap<u64, RememberedResult> =
            g.results.above(g.stable.counter, cx.now).into_iter().map(|r| (r.version.counter, r)).collect();
        let mut writes: Vec<AppliedWrite> = Vec::new();
        for (counter, (version, key)) in &g.recent {
            let Some(record) = self.store.peek(group, key).filter(|r| r.version == *version) else { continue };
            let own = results.remove(counter).into_iter().collect();
            writes.push(AppliedWrite {
                version: *version,
                key: key.clone(),
                entry: record.entry,
                before: None,
                results: own,
                waiters: SmallVec::new(),
            });
        }
        if let Some(first) = writes.first_mut() {
            first.results.extend(results.into_values());
        }
        let count = writes.len();
        if cx.bug(Bug::NoResend) {
            writes.clear();
        }
        if let Some(primary) = self.groups[group.index()].primary_mut() {
            primary.phase = Phase::Resending { count };
        }
        for held in writes {
            self.hold(cx, group, held);
        }
        self.promoted(cx, group);
    }

    /// Nothing is pending: a primary that was sending again begins to serve.
    pub(super) fn promoted(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let g = &mut self.groups[group.index()];
        let last = g.recent.last_key_value().map(|(_, (version, _))| *version);
        let counter = g.counter;
        let Some(primary) = g.primary_mut() else { return };
        let Phase::Resending { count } = primary.phase else { return };
        if !primary.pending.is_empty() {
            return;
        }
        primary.phase = Phase::Serving;
        let stable = Version { view: last.map_or(cx.view, |v| v.view), counter };
        self.advance_stable(group, stable);
        let stable = self.groups[group.index()].stable;
        self.gate.open(group, cx.view.0, stable);
        if let Some(deadline) = self.store.next_deadline(group) {
            self.upkeep.expires(group, deadline);
        }
        self.stable_due.insert(group);
        self.stable_at.get_or_insert(cx.now + cx.limits.stable_delay);
        cx.notice(Notice::Promoted { group, resent: count });
    }
}
