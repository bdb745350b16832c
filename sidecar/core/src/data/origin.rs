//! The origin: takes this node's app's operations to whoever decides them, again if need be, and brings the answers
//! back (O-1, O-2, O-3).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;

use super::Data;
use crate::event::{Effect, Ticket};
use crate::ids::{GroupId, MemberId, ViewNumber};
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
}

const FIRST_BACKOFF: Duration = Duration::from_millis(4);
/// Attempts of a read that follow each other without waiting.
const ASK_ELSEWHERE: u32 = 3;
const READ_PATIENCE: Duration = Duration::from_millis(20);
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
        let (Some(group), Some(_)) = (data.group_of(&key), view) else {
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
        let sequence = self.next_sequence;
        self.next_sequence += 1;
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
        };
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
            _ => cx.limits.resend * attempt.min(10),
        };
        schedule(&mut self.due, outgoing, sequence, (cx.now + wait).min(outgoing.deadline));
        let Some(target) = target else { return };
        if write && !outgoing.open.contains(&(target, cx.view)) {
            outgoing.open.push((target, cx.view));
        }
        let operation = outgoing.operation.clone();
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
        outgoing.last_refusal = refusal.reason;
        if !refusal.reason.is_retryable() {
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
        if let Some(outgoing) = self.operations.remove(&sequence) {
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
    pub(crate) fn on_view(&mut self, cx: &StepContext<'_>) {
        for (sequence, outgoing) in &mut self.operations {
            outgoing.backoff = FIRST_BACKOFF;
            let at = cx.now.min(outgoing.deadline);
            schedule(&mut self.due, outgoing, *sequence, at);
        }
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
