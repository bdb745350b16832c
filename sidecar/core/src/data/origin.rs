//! The origin: takes this node's app's operations to whoever decides them, again if need be, and brings the answers
//! back (O-1, O-2, O-3).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;

use super::Data;
use super::window::Window;
use crate::event::{Effect, Ticket};
use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::limits::Limits;
use crate::member::Locality;
use crate::message::Message;
use crate::operation::{Answer, Applied, Operation, OperationId, Refusal, RefusalReason};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage};
use crate::time::Time;
use crate::view::View;

/// This node's own operations under way.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    next_sequence: u64,
    operations: BTreeMap<u64, Outgoing>,
    /// Sequences due for another attempt, by when.
    due: BTreeMap<(Time, u64), ()>,
    /// Members that are suspected: asked last.
    avoid: BTreeSet<MemberId>,
    /// What was forwarded to each primary and not answered.
    forwarded: BTreeMap<MemberId, Forwarded>,
}

/// Writes forwarded to one primary. Their answers come once the write is stable, so the way there is about half of it.
#[derive(Debug)]
struct Forwarded {
    window: Window,
    bytes: usize,
    writes: usize,
}

impl Forwarded {
    fn admits(&self, limits: &Limits, bytes: usize) -> bool {
        self.writes < limits.window_writes && self.window.admits(self.bytes, bytes)
    }
}

/// A write's share of what is forwarded to a primary.
#[derive(Clone, Copy, Debug)]
struct Share {
    to: MemberId,
    bytes: usize,
    since: Time,
    /// Sent more than once: how long its answer took can't be told.
    again: bool,
}

#[derive(Debug)]
struct Outgoing {
    ticket: Ticket,
    operation: Operation,
    group: GroupId,
    deadline: Time,
    attempts: u32,
    /// Attempts whose fate is not known: to whom, in which view.
    open: SmallVec<[(MemberId, ViewNumber); 2]>,
    /// Copies asked so far: a read is not sent to one again before all were.
    asked: SmallVec<[MemberId; 2]>,
    last_refusal: RefusalReason,
    retry_at: Time,
    backoff: Duration,
    share: Option<Share>,
    /// When the app asked.
    asked_at: Time,
}

const FIRST_BACKOFF: Duration = Duration::from_millis(4);
/// Attempts of a read that follow each other without waiting.
const ASK_ELSEWHERE: u32 = 3;
const READ_PATIENCE: Duration = Duration::from_millis(20);
/// What is tried again at a bound, and how often in all: within some 60 ms.
const SMALL_BYTES: usize = 4 << 10;
const SMALL_TRIES: u32 = 5;
const LAST_BACKOFF: Duration = Duration::from_millis(100);

impl Origin {
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn next_turn(&self) -> Option<Time> {
        self.due.first_key_value().map(|((at, _), ())| *at)
    }

    fn over_below(&self) -> u64 {
        self.operations.first_key_value().map_or(self.next_sequence, |(sequence, _)| *sequence)
    }

    /// Takes an operation of the app.
    pub(crate) fn submit<S: Storage>(
        &mut self,
        cx: &mut StepContext<'_>,
        data: &mut Data<S>,
        here: &Locality,
        ticket: Ticket,
        operation: Operation,
        deadline: Time,
    ) {
        let key = CacheKey { cache: operation.cache, key: operation.key.clone() };
        let view = data.view.clone().filter(|v| !v.members.is_empty());
        // A vacant group has nobody who could decide (V-9): the app hears so at once.
        let group = data.group_of(&key).filter(|g| view.as_ref().is_some_and(|v| v.primary(*g).is_some()));
        let Some(group) = group else {
            refuse(cx, ticket, RefusalReason::NoOwner, Applied::No);
            return;
        };
        let window = self.next_sequence.saturating_sub(self.over_below());
        let most = cx.limits.operations_in_flight;
        let full = self.operations.len() >= most || window >= 4 * most as u64;
        if full && !cx.bug(Bug::NoBoundOnOperations) {
            refuse(cx, ticket, RefusalReason::Overloaded, Applied::No);
            return;
        }
        let outgoing = Outgoing {
            ticket,
            operation,
            group,
            deadline,
            attempts: 0,
            open: SmallVec::new(),
            asked: SmallVec::new(),
            last_refusal: RefusalReason::Timeout,
            retry_at: cx.now,
            backoff: FIRST_BACKOFF,
            share: None,
            asked_at: cx.now,
        };
        if let Some(to) = data.view.as_ref().and_then(|v| v.primary(group)).filter(|to| *to != cx.me)
            && !outgoing.operation.kind.is_read()
            && self.forwarded.get(&to).is_some_and(|f| !f.admits(&cx.limits, wire_bytes(&outgoing.operation)))
        {
            refuse(cx, ticket, RefusalReason::Overloaded, Applied::No);
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.operations.insert(sequence, outgoing);
        self.attempt(cx, data, here, sequence);
        self.take_answers(cx, data);
    }

    /// Sends an operation to whoever should decide it now.
    fn attempt<S: Storage>(&mut self, cx: &mut StepContext<'_>, data: &mut Data<S>, here: &Locality, sequence: u64) {
        let over_below = self.over_below();
        let Some(outgoing) = self.operations.get_mut(&sequence) else { return };
        let Some(view) = data.view.clone() else { return };
        let id = OperationId { origin: cx.me, sequence };
        outgoing.attempts += 1;
        let attempt = outgoing.attempts;
        let write = !outgoing.operation.kind.is_read();
        let target = if write {
            view.primary(outgoing.group)
        } else {
            copy_to_ask(&view, outgoing.group, cx.me, here, &self.avoid, &mut outgoing.asked)
        };
        let wait = match target {
            Some(id) if id == cx.me => LAST_BACKOFF,
            // A read is asked of another copy soon; a write has only the one primary.
            _ if !write => READ_PATIENCE * attempt.min(5),
            Some(to) => {
                let known = self.forwarded.get(&to).map(|f| f.window.patience(&cx.limits));
                2 * known.unwrap_or(cx.limits.resend * 2) * (1 << (attempt - 1).min(4))
            }
            None => cx.limits.resend,
        };
        schedule(&mut self.due, outgoing, sequence, (cx.now + wait).min(outgoing.deadline));
        let Some(target) = target else {
            outgoing.last_refusal = RefusalReason::NoOwner;
            return;
        };
        if write && target != cx.me {
            share_in(&mut self.forwarded, cx, outgoing, target);
        }
        if write && !outgoing.open.contains(&(target, cx.view)) {
            outgoing.open.push((target, cx.view));
        }
        let mut operation = outgoing.operation.clone();
        if let Some(age) = operation.idempotency.as_mut().and_then(|i| i.age.as_mut()) {
            *age += cx.now.since(outgoing.asked_at);
        }
        if target == cx.me {
            data.admit(cx, target, id, attempt, over_below, operation);
        } else {
            cx.send(target, Message::Forward { id, attempt, over_below, operation });
        }
    }

    /// Takes the answers that this node itself gave to its origin.
    pub(crate) fn take_answers<S: Storage>(&mut self, cx: &mut StepContext<'_>, data: &mut Data<S>) {
        for (id, attempt, result) in data.take_answers() {
            self.on_answer(cx, cx.me, cx.view, id, attempt, result);
        }
    }

    /// An attempt was answered by `from`, which was in `view`.
    pub(crate) fn on_answer(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        view: ViewNumber,
        id: OperationId,
        attempt: u32,
        result: Result<Answer, Refusal>,
    ) {
        if id.origin != cx.me {
            return;
        }
        let Some(outgoing) = self.operations.get_mut(&id.sequence) else { return };
        let refusal = match result {
            Ok(answer) => {
                if let Some(share) = outgoing.share.filter(|s| s.to == from && !s.again)
                    && let Some(forwarded) = self.forwarded.get_mut(&from)
                {
                    let took = cx.now.since(share.since) / 2;
                    forwarded.window.acknowledged(&cx.limits, took, share.bytes, forwarded.bytes);
                }
                let ticket = outgoing.ticket;
                self.finish(id.sequence);
                cx.effects.push(Effect::Reply { ticket, result: Ok(answer) });
                return;
            }
            Err(refusal) => refusal,
        };
        // Only the latest attempt speaks for all that went to the same owner in the same view.
        if attempt != outgoing.attempts {
            return;
        }
        if refusal.applied == Applied::No {
            outgoing.open.retain(|open| *open != (from, view));
        }
        // That a copy can't answer a read by itself is not why the read fails in the end.
        if !(outgoing.operation.kind.is_read() && refusal.reason == RefusalReason::NoOwner) {
            outgoing.last_refusal = refusal.reason;
        }
        // At a bound the app is told at once, or after a few tries with what is small: carrying a value there again and
        // again would only add to the load. It goes on only to learn what became of an attempt whose fate is not known.
        let is_small = outgoing.operation.kind.value_bytes() <= SMALL_BYTES && outgoing.attempts < SMALL_TRIES;
        let is_full = match refusal.reason {
            RefusalReason::Overloaded => !is_small,
            reason => reason == RefusalReason::ResultsFull,
        };
        let at_bound = is_full && outgoing.open.is_empty();
        if at_bound || !refusal.reason.is_retryable() {
            let applied = if outgoing.open.is_empty() { refusal.applied } else { Applied::Unknown };
            let ticket = outgoing.ticket;
            self.finish(id.sequence);
            refuse(cx, ticket, refusal.reason, applied);
            return;
        }
        // A copy that can't answer by itself says so at once: another is asked without waiting.
        let elsewhere = outgoing.operation.kind.is_read()
            && refusal.reason == RefusalReason::NoOwner
            && outgoing.attempts < ASK_ELSEWHERE;
        let wait = if elsewhere { Duration::ZERO } else { outgoing.backoff };
        let at = (cx.now + wait).min(outgoing.deadline);
        outgoing.backoff = (outgoing.backoff * 2).min(LAST_BACKOFF);
        schedule(&mut self.due, outgoing, id.sequence, at);
    }

    fn finish(&mut self, sequence: u64) {
        if let Some(mut outgoing) = self.operations.remove(&sequence) {
            give_back(&mut self.forwarded, &mut outgoing);
            self.due.remove(&(outgoing.retry_at, sequence));
        }
    }

    /// Tries again what is due, and gives up what is past its deadline.
    pub(crate) fn on_tick<S: Storage>(&mut self, cx: &mut StepContext<'_>, data: &mut Data<S>, here: &Locality) {
        while let Some((&(at, sequence), ())) = self.due.first_key_value() {
            if at > cx.now {
                break;
            }
            self.due.remove(&(at, sequence));
            let Some(outgoing) = self.operations.get(&sequence) else { continue };
            if outgoing.deadline > cx.now {
                self.attempt(cx, data, here, sequence);
                continue;
            }
            let sure = outgoing.open.is_empty() || cx.bug(Bug::RefusedMeansNo);
            let applied = if sure { Applied::No } else { Applied::Unknown };
            let (ticket, reason) = (outgoing.ticket, outgoing.last_refusal);
            self.finish(sequence);
            refuse(cx, ticket, reason, applied);
        }
        self.take_answers(cx, data);
    }

    /// Nothing can be decided any more: whoever waits is told so.
    pub(crate) fn abandon(&mut self, cx: &mut StepContext<'_>, reason: RefusalReason) {
        self.due.clear();
        self.forwarded.clear();
        for outgoing in std::mem::take(&mut self.operations).into_values() {
            let applied = if outgoing.open.is_empty() { Applied::No } else { Applied::Unknown };
            refuse(cx, outgoing.ticket, reason, applied);
        }
    }

    /// Members suspected now.
    pub(crate) fn avoid(&mut self, suspected: impl Iterator<Item = MemberId>) {
        self.avoid.clear();
        self.avoid.extend(suspected);
    }

    /// A new view: whoever decides may be another now.
    pub(crate) fn on_view(&mut self, cx: &StepContext<'_>, view: &View) {
        for (sequence, outgoing) in &mut self.operations {
            give_back(&mut self.forwarded, outgoing);
            outgoing.backoff = FIRST_BACKOFF;
            let at = cx.now.min(outgoing.deadline);
            schedule(&mut self.due, outgoing, *sequence, at);
        }
        self.forwarded.retain(|to, _| view.contains(*to));
    }

    /// What was forwarded to this peer may be lost with a connection.
    pub(crate) fn on_connected(&mut self, cx: &StepContext<'_>, peer: MemberId) {
        for (sequence, outgoing) in &mut self.operations {
            if outgoing.share.is_some_and(|share| share.to == peer) || outgoing.asked.last() == Some(&peer) {
                let at = cx.now.min(outgoing.deadline);
                schedule(&mut self.due, outgoing, *sequence, at);
            }
        }
    }
}

fn wire_bytes(operation: &Operation) -> usize {
    operation.key.len() + operation.kind.value_bytes() + 96
}

/// Counts a write among those forwarded to a primary, until it is answered.
fn share_in(
    forwarded: &mut BTreeMap<MemberId, Forwarded>,
    cx: &StepContext<'_>,
    outgoing: &mut Outgoing,
    to: MemberId,
) {
    if let Some(share) = outgoing.share.as_mut().filter(|share| share.to == to) {
        share.again = true;
        return;
    }
    give_back(forwarded, outgoing);
    let bytes = wire_bytes(&outgoing.operation);
    let target =
        forwarded.entry(to).or_insert_with(|| Forwarded { window: Window::new(&cx.limits), bytes: 0, writes: 0 });
    target.bytes += bytes;
    target.writes += 1;
    outgoing.share = Some(Share { to, bytes, since: cx.now, again: false });
}

fn give_back(forwarded: &mut BTreeMap<MemberId, Forwarded>, outgoing: &mut Outgoing) {
    if let Some(share) = outgoing.share.take()
        && let Some(target) = forwarded.get_mut(&share.to)
    {
        target.bytes -= share.bytes;
        target.writes -= 1;
    }
}

fn schedule(due: &mut BTreeMap<(Time, u64), ()>, outgoing: &mut Outgoing, sequence: u64, at: Time) {
    due.remove(&(outgoing.retry_at, sequence));
    outgoing.retry_at = at;
    due.insert((at, sequence), ());
}

fn refuse(cx: &mut StepContext<'_>, ticket: Ticket, reason: RefusalReason, applied: Applied) {
    cx.effects.push(Effect::Reply { ticket, result: Err(Refusal { reason, applied }) });
}

/// The copy to ask a read of: this node if it is an owner, else the nearest owner; then, since that copy may not be clean
/// or its member may be gone, the primary; then the others in turn. Suspected members come last, and nobody is asked
/// again before all were.
fn copy_to_ask(
    view: &View,
    group: GroupId,
    me: MemberId,
    here: &Locality,
    avoid: &BTreeSet<MemberId>,
    asked: &mut SmallVec<[MemberId; 2]>,
) -> Option<MemberId> {
    let primary = view.primary(group)?;
    let owners = view.owners(group);
    if owners.iter().all(|id| asked.contains(id)) {
        asked.clear();
    }
    let again = !asked.is_empty();
    let nearness = |id: &MemberId| view.member(*id).map_or(0, |m| m.locality.nearness(here));
    // In an order that differs between origins, so that load spreads.
    let spread = |id: &MemberId| id.0 ^ me.0.rotate_left(group.0 % 64);
    let rank =
        |id: &MemberId| (avoid.contains(id), again && *id != primary, *id != me, Reverse(nearness(id)), spread(id));
    let chosen = owners.into_iter().filter(|id| !asked.contains(id)).min_by_key(rank)?;
    asked.push(chosen);
    Some(chosen)
}
