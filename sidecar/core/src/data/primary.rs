//! The primary: decides operations, orders writes, has every copy hold them, and releases answers.

use smallvec::SmallVec;

use super::group::{AppliedWrite, Group, Pending, Role, Waiter};
use super::intake::intake_bytes;
use super::owner::write_of;
use super::result_budget::hash_of_key;
use super::results::ResultLookup;
use super::transfer::result_bytes;
use super::{Asker, Data};
use crate::evaluate::{Decision, decide};
use crate::event::Notice;
use crate::ids::{GroupId, MemberId, Version};
use crate::message::{Message, RememberedKey, RememberedResult};
use crate::operation::{Applied, Idempotency, Operation, OperationId, OperationKind, Outcome, Refusal, RefusalReason};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Removal, Storage, StoredEntry};

impl<S: Storage> Data<S> {
    /// Takes an attempt of an operation, from this node's entry or another's. It is answered now, later, or, when the
    /// same operation is already under way for the same asker, by that.
    pub(crate) fn admit(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        id: OperationId,
        attempt: u32,
        over_below: u64,
        operation: Operation,
    ) {
        let asker = Asker { from, id, attempt };
        let key = CacheKey { cache: operation.cache, key: operation.key.clone() };
        let Some(group) = self.group_of(&key) else {
            self.refuse(cx, None, asker, RefusalReason::NoOwner);
            return;
        };
        if operation.kind.is_read() {
            self.admit_read(cx, group, asker, &key, operation);
            return;
        }
        match self.groups[group.index()].primary() {
            None => return self.refuse(cx, None, asker, RefusalReason::NoOwner),
            // Before it serves in this view, nothing was or is applied in it.
            Some(primary) if !primary.is_serving() => {
                return self.refuse(cx, Some(group), asker, RefusalReason::Rebalancing);
            }
            Some(_) => {}
        }
        self.with_results(group, |results| results.over_below(id.origin, over_below, cx.now));
        match self.known(cx, group, asker, operation.idempotency) {
            ResultLookup::New => self.admit_write(cx, group, asker, &key, operation),
            ResultLookup::Mismatch if cx.bug(Bug::KeysForgotten) => {
                self.admit_write(cx, group, asker, &key, operation);
            }
            ResultLookup::Pending(counter, outcome) => self.join_waiters(group, counter, asker, outcome),
            ResultLookup::Applied(outcome) | ResultLookup::Decided(outcome) => self.release(cx, group, asker, outcome),
            ResultLookup::Refused => self.refuse(cx, None, asker, RefusalReason::Rebalancing),
            ResultLookup::Over if cx.bug(Bug::StragglersApplied) => self.admit_write(cx, group, asker, &key, operation),
            ResultLookup::Over => self.refuse(cx, None, asker, RefusalReason::UnknownOperation),
            ResultLookup::Mismatch => self.refuse(cx, None, asker, RefusalReason::IdempotencyMismatch),
            ResultLookup::Forgotten => {
                let refusal = Refusal { reason: RefusalReason::UnknownOperation, applied: Applied::Unknown };
                self.conclude(cx, asker, Err(refusal));
            }
        }
    }

    fn known(
        &self,
        cx: &StepContext<'_>,
        group: GroupId,
        asker: Asker,
        idempotency: Option<Idempotency>,
    ) -> ResultLookup {
        let group = &self.groups[group.index()];
        let is_pending = |counter| group.primary().is_some_and(|p| p.pending.get(&counter).is_some_and(|w| !w.done));
        if cx.bug(Bug::RetriesApplyAgain) {
            return ResultLookup::New;
        }
        group.results.look_up(asker.id, asker.attempt, idempotency, cx.limits.keyed_result_life, is_pending)
    }

    /// A repeated attempt of a pending operation is answered with the first one's result; each asker once.
    fn join_waiters(&mut self, group: GroupId, counter: u64, asker: Asker, outcome: Outcome) {
        let Some(pending) = self.groups[group.index()].primary_mut().and_then(|p| p.pending.get_mut(&counter)) else {
            return;
        };
        let same = |w: &Waiter| matches!(w, Waiter::Tell(a, _) if a.id == asker.id && a.from == asker.from);
        if let Some(Waiter::Tell(waiting, _)) = pending.waiters.iter_mut().find(|w| same(w)) {
            waiting.attempt = asker.attempt.max(waiting.attempt);
        } else {
            pending.waiters.push(Waiter::Tell(asker, outcome));
        }
    }

    pub(super) fn refuse(
        &mut self,
        cx: &mut StepContext<'_>,
        group: Option<GroupId>,
        asker: Asker,
        reason: RefusalReason,
    ) {
        if let Some(group) = group {
            self.with_results(group, |results| results.refused(asker.id, asker.attempt, cx.now));
        }
        self.conclude(cx, asker, Err(Refusal { reason, applied: Applied::No }));
    }

    pub(super) fn wait_on(&mut self, group: GroupId, counter: u64, waiter: Waiter) {
        if let Some(pending) = self.groups[group.index()].primary_mut().and_then(|p| p.pending.get_mut(&counter)) {
            pending.waiters.push(waiter);
        }
    }

    /// Decides a write that is not known yet, on the newest version of its key.
    fn admit_write(
        &mut self,
        cx: &mut StepContext<'_>,
        group: GroupId,
        asker: Asker,
        key: &CacheKey,
        operation: Operation,
    ) {
        let window_full = (!self.links_admit(cx, group, &operation)).then_some(RefusalReason::Overloaded);
        let results_full = operation.idempotency.is_some() && self.results_are_full(group, key, hash_of_key(&key.key));
        let results_full = results_full.then_some(RefusalReason::ResultsFull);
        let reason = self.cannot_order(cx, group).or(results_full).or(window_full);
        if let Some(reason) = reason {
            self.refuse(cx, Some(group), asker, reason);
            return;
        }
        self.make_room(cx, key.cache, key.key.len() + operation.kind.value_bytes());
        let newest = self.store.peek(group, key).and_then(|r| r.entry);
        let expired = newest.as_ref().is_some_and(|e| e.is_expired(cx.now));
        let current = newest.as_ref().filter(|_| !expired);
        let version = Version { view: cx.view, counter: self.groups[group.index()].counter + 1 };
        match decide(&operation.kind, current, version, cx.now) {
            Decision::Answer(outcome) => {
                let dirty = self.groups[group.index()].primary().and_then(|p| p.dirty.get(key));
                let last = dirty.and_then(|chain| chain.back().copied());
                let on = if expired { version.counter } else { last.unwrap_or(0) };
                self.with_results(group, |results| results.decided(asker.id, on, &outcome, cx.now));
                match last {
                    // "Absent" rests on the removal, also where what has expired is not stable itself: a copy that got
                    // it late goes on showing it until the removal is there (E-2).
                    _ if expired => {
                        self.order(cx, group, key, None, None, Waiter::Tell(asker, outcome));
                        self.removed(cx, key, true);
                    }
                    // It was decided on a write that is not stable: the answer must not be out before that write is.
                    Some(counter) => self.wait_on(group, counter, Waiter::Tell(asker, outcome)),
                    None => self.release(cx, group, asker, outcome),
                }
            }
            Decision::Write { entry, outcome } => {
                if let Some(entry) = &entry
                    && let Some(reason) = self.lacks_room(cx, group, key, entry, newest.as_ref())
                {
                    self.refuse(cx, Some(group), asker, reason);
                    return;
                }
                let over_below = self.groups[group.index()].results.known_over(asker.id.origin);
                let result = remembered(asker.id, over_below, &operation, version, &outcome);
                self.order(cx, group, key, entry, Some(result), Waiter::Tell(asker, outcome));
            }
        }
    }

    /// Why no write can be ordered now.
    pub(super) fn cannot_order(&self, cx: &StepContext<'_>, group: GroupId) -> Option<RefusalReason> {
        let primary = self.groups[group.index()].primary()?;
        if !self.has_lease(cx.now) {
            return Some(RefusalReason::NoLease);
        }
        // One more may be as large as a value; all together must fit one message of a promotion.
        let full = primary.pending.len() >= cx.limits.pending_writes_per_group
            || primary.pending_bytes >= cx.limits.pending_bytes_per_group;
        (full || self.pending_bytes >= cx.limits.pending_bytes).then_some(RefusalReason::Overloaded)
    }

    /// Whether every copy of the group can be sent this write soon. Removals and what a promotion sends again are ordered
    /// all the same, and wait for their turn.
    fn links_admit(&self, cx: &StepContext<'_>, group: GroupId, operation: &Operation) -> bool {
        let Some(primary) = self.groups[group.index()].primary() else { return true };
        let bytes = operation.key.len() + operation.kind.value_bytes();
        primary.replicas.iter().all(|peer| self.links.admits(&cx.limits, *peer, bytes))
    }

    /// Orders a write of the group: gives it the next version, applies it here, and sends it to every other copy
    /// (W-1, W-4).
    pub(super) fn order(
        &mut self,
        cx: &mut StepContext<'_>,
        group: GroupId,
        key: &CacheKey,
        entry: Option<StoredEntry>,
        result: Option<RememberedResult>,
        waiter: Waiter,
    ) {
        self.order_waited(cx, group, key, entry, result, SmallVec::from_iter([waiter]));
    }

    fn order_waited(
        &mut self,
        cx: &mut StepContext<'_>,
        group: GroupId,
        key: &CacheKey,
        entry: Option<StoredEntry>,
        result: Option<RememberedResult>,
        waiters: SmallVec<[Waiter; 1]>,
    ) {
        let version = Version { view: cx.view, counter: self.groups[group.index()].counter + 1 };
        let before = self.store.peek(group, key).and_then(|r| r.entry);
        self.apply(group, key, version, entry.clone());
        if let Some(result) = &result {
            self.with_results(group, |results| results.applied(result, &cx.limits, cx.now));
        }
        // Who holds this write and not an earlier pending one of its key must know that one's result all the same.
        let mut results = self.covered_results(group, key);
        results.extend(result);
        let held = AppliedWrite { version, key: key.clone(), entry, before, results, waiters };
        self.hold(cx, group, held);
    }

    fn covered_results(&self, group: GroupId, key: &CacheKey) -> Vec<RememberedResult> {
        let Some(primary) = self.groups[group.index()].primary() else { return Vec::new() };
        let chain = primary.dirty.get(key).into_iter().flatten();
        let pending = chain.filter_map(|counter| primary.pending.get(counter));
        pending.flat_map(|p| p.results.iter().filter(|r| r.version == p.version)).cloned().collect()
    }

    /// Makes an applied write pending and sends it to every copy.
    pub(super) fn hold(&mut self, cx: &mut StepContext<'_>, group: GroupId, held: AppliedWrite) {
        let Some(primary) = self.groups[group.index()].primary_mut() else { return };
        let counter = held.version.counter;
        let value_bytes = |e: &Option<StoredEntry>| e.as_ref().map_or(0, |e| e.value.len());
        let results: usize = held.results.iter().map(result_bytes).sum();
        let intake_bytes = intake_bytes(&held.key, held.entry.as_ref());
        if intake_bytes > 0 {
            self.intake.ordered(held.key.cache, intake_bytes);
        }
        let wire_bytes = held.key.key.len() + value_bytes(&held.entry) + results;
        let bytes = wire_bytes + value_bytes(&held.before);
        let replicas = primary.replicas.clone();
        for &to in &replicas {
            self.links.add(&cx.limits, to, (group, counter), wire_bytes, cx.now);
        }
        primary.dirty.entry(held.key.clone()).or_default().push_back(counter);
        let pending = Pending {
            version: held.version,
            key: held.key,
            missing: replicas.clone(),
            waiters: held.waiters,
            before: held.before,
            entry: held.entry,
            results: held.results,
            bytes,
            intake_bytes,
            wire_bytes,
            done: false,
        };
        primary.pending.insert(counter, pending);
        primary.pending_bytes += bytes;
        self.pending_bytes += bytes;
        for to in replicas {
            self.send_due(cx, to);
        }
        self.settle(cx, group, Some(counter));
    }

    /// A copy holds these writes.
    pub(super) fn on_replicated(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        group: GroupId,
        versions: &[Version],
    ) {
        for version in versions {
            let Some(primary) = self.groups.get_mut(group.index()).and_then(Group::primary_mut) else { return };
            let Some(pending) = primary.pending.get_mut(&version.counter).filter(|p| p.version == *version) else {
                continue;
            };
            pending.missing.retain(|id| *id != from);
            self.links.acknowledged(&cx.limits, from, (group, version.counter), cx.now);
            self.settle(cx, group, Some(version.counter));
        }
        self.send_due(cx, from);
    }

    /// Releases what has become stable: a write once every copy holds it and its key's earlier writes are released;
    /// then moves the watermark over everything that is.
    pub(super) fn settle(&mut self, cx: &mut StepContext<'_>, group: GroupId, touched: Option<u64>) {
        let mut next = touched;
        while let Some(counter) = next.take() {
            let Some((key, waiters)) = self.take_done(cx, group, counter) else { break };
            for waiter in waiters {
                match waiter {
                    Waiter::Tell(asker, outcome) => self.release(cx, group, asker, outcome),
                    Waiter::Again(asker, operation) => self.admit_read(cx, group, asker, &key, operation),
                }
            }
            let primary = self.groups[group.index()].primary();
            next = primary.and_then(|p| p.dirty.get(&key)).and_then(|chain| chain.front().copied());
        }
        self.move_watermark(cx, group);
    }

    /// If the write is the first of its key and every copy holds it: takes it as done.
    fn take_done(
        &mut self,
        cx: &StepContext<'_>,
        group: GroupId,
        counter: u64,
    ) -> Option<(CacheKey, SmallVec<[Waiter; 1]>)> {
        let incoming = self.view.as_ref().map(|v| v.incoming(group)).unwrap_or_default();
        let primary = self.groups[group.index()].primary_mut()?;
        let skips_incoming = cx.bug(Bug::IncomingSkipped);
        let held_up = !primary.dropped.is_empty() && !cx.bug(Bug::DroppedNotAwaited);
        let pending = primary.pending.get_mut(&counter)?;
        let missing = |id: &&MemberId| !(skips_incoming && incoming.iter().any(|(i, _)| i == *id));
        if held_up || pending.done || pending.missing.iter().any(|id| missing(&id)) {
            return None;
        }
        let chain = primary.dirty.get_mut(&pending.key)?;
        if chain.front() != Some(&counter) {
            return None;
        }
        chain.pop_front();
        if chain.is_empty() {
            primary.dirty.remove(&pending.key);
        }
        pending.done = true;
        pending.before = None;
        Some((pending.key.clone(), std::mem::take(&mut pending.waiters)))
    }

    fn move_watermark(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let Some(primary) = self.groups[group.index()].primary_mut() else { return };
        let mut stable = None;
        while let Some(first) = primary.pending.first_entry() {
            // One that was done under an earlier view may be on its way to a copy that is new in this one.
            if !first.get().done || !first.get().missing.is_empty() {
                break;
            }
            let pending = first.remove();
            self.pending_bytes = self.pending_bytes.saturating_sub(pending.bytes);
            if pending.intake_bytes > 0 {
                self.intake.settled(pending.key.cache, pending.intake_bytes);
            }
            primary.pending_bytes = primary.pending_bytes.saturating_sub(pending.bytes);
            stable = Some(pending.version);
        }
        let empty = primary.pending.is_empty();
        if let Some(stable) = stable {
            self.advance_stable(group, stable);
            self.stable_due.insert(group);
            self.stable_at.get_or_insert(cx.now + cx.limits.stable_delay);
        }
        if empty {
            self.promoted(cx, group);
        }
    }

    /// Answers, if lease and role still hold (L-5); without lease the answer is kept until it is back or the role goes.
    fn release(&mut self, cx: &mut StepContext<'_>, group: GroupId, asker: Asker, outcome: Outcome) {
        if self.has_lease(cx.now) || cx.bug(Bug::NoReleaseCheck) {
            self.answer(cx, asker, outcome);
        } else if let Some(primary) = self.groups[group.index()].primary_mut()
            && primary.parked.len() < cx.limits.pending_writes_per_group
        {
            primary.parked.push((asker, outcome));
        }
    }

    pub(super) fn release_parked(&mut self, cx: &mut StepContext<'_>) {
        if !self.has_lease(cx.now) {
            return;
        }
        for index in 0..self.groups.len() {
            let parked = self.groups[index].primary_mut().map(|p| std::mem::take(&mut p.parked)).unwrap_or_default();
            for (asker, outcome) in parked {
                self.answer(cx, asker, outcome);
            }
        }
    }

    /// Sends a peer what the window to it has room for.
    fn send_due(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        while let Some((group, counter)) = self.links.take_due(peer, cx.now) {
            let g = &self.groups[group.index()];
            let Some(pending) = g.primary().and_then(|p| p.pending.get(&counter)) else { continue };
            let (version, results) = (pending.version, pending.results.clone());
            let write = write_of(&pending.key, version, pending.entry.as_ref(), results, cx.now);
            cx.send(peer, Message::Replicate { group, writes: vec![write], stable: g.stable });
        }
    }

    pub(super) fn send_all_due(&mut self, cx: &mut StepContext<'_>) {
        for peer in self.links.waiting() {
            self.send_due(cx, peer);
        }
    }

    /// Sends again what seems lost.
    pub(super) fn send_lost(&mut self, cx: &mut StepContext<'_>) {
        self.links.note_lost(&cx.limits, cx.now, cx.bug(Bug::SendsAgainAtOnce));
        self.send_all_due(cx);
    }

    /// What a member has not acknowledged goes to it: it has only now installed this view.
    pub(crate) fn on_installed(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        self.links.begin_again(peer, cx.now);
        self.send_due(cx, peer);
        for index in 0..self.groups.len() {
            if self.groups[index].primary().is_some() {
                self.after_install_of(cx, index, peer);
            }
        }
    }

    /// What was sent on the connection before may be lost.
    pub(crate) fn on_connected(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        self.links.reconnected(peer, cx.now);
        self.send_due(cx, peer);
        self.ask_collections_of(cx, peer);
        self.pull_again_from(cx, peer);
    }

    /// Under a new view every copy of it must acknowledge what is pending (W-1).
    pub(super) fn renew_pending(&mut self, cx: &mut StepContext<'_>, index: usize) {
        let group = self.groups[index].id;
        let Role::Primary(primary) = &mut self.groups[index].role else { return };
        for (counter, pending) in &mut primary.pending {
            pending.missing = primary.replicas.clone();
            for &peer in &pending.missing {
                self.links.add(&cx.limits, peer, (group, *counter), pending.wire_bytes, cx.now);
            }
        }
    }

    /// Tells the other copies how far each group is stable.
    pub(super) fn tell_stable(&mut self, cx: &mut StepContext<'_>) {
        if self.stable_at.is_none_or(|at| at > cx.now) {
            return;
        }
        self.stable_at = None;
        let mut marks: std::collections::BTreeMap<MemberId, Vec<(GroupId, Version)>> =
            std::collections::BTreeMap::new();
        for group in std::mem::take(&mut self.stable_due) {
            let g = &self.groups[group.index()];
            for &replica in g.primary().iter().flat_map(|p| &p.replicas) {
                marks.entry(replica).or_default().push((group, g.stable));
            }
        }
        for (to, marks) in marks {
            cx.send(to, Message::Stable(marks));
        }
    }

    /// Removes an entry in order, if its version still is the one seen, for expiry or eviction (E-1).
    /// Gives whether it did.
    pub(super) fn remove_in_order(&mut self, cx: &mut StepContext<'_>, removal: &Removal, expired: bool) -> bool {
        let group = removal.group;
        let serves = self.serves(group, cx.now) && self.cannot_order(cx, group).is_none();
        let dirty = self.groups[group.index()].primary().is_some_and(|p| p.dirty.contains_key(&removal.key));
        let record = self.store.peek(group, &removal.key);
        let same = record.is_some_and(|r| r.version == removal.version && r.entry.is_some());
        let removes = serves && !dirty && same;
        if removes && cx.bug(Bug::RemovalsNotOrdered) {
            self.apply(group, &removal.key, removal.version, None);
        } else if removes {
            self.order_waited(cx, group, &removal.key, None, None, SmallVec::new());
            self.removed(cx, &removal.key, expired);
        }
        removes
    }

    pub(super) fn removed(&self, cx: &mut StepContext<'_>, key: &CacheKey, expired: bool) {
        cx.notice(Notice::Removed { cache: key.cache, expired });
    }
}

fn remembered(
    id: OperationId,
    over_below: u64,
    operation: &Operation,
    version: Version,
    outcome: &Outcome,
) -> RememberedResult {
    debug_assert!(!matches!(operation.kind, OperationKind::Get));
    let entry = hash_of_key(&operation.key);
    let idempotency = operation.idempotency.map(|i| RememberedKey { key: i.key, fingerprint: i.fingerprint, entry });
    let (cache, age) = (operation.cache, std::time::Duration::ZERO);
    RememberedResult { id, cache, idempotency, age, over_below, version, outcome: outcome.clone() }
}
