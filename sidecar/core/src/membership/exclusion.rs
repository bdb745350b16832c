//! Proposing an exclusion: read, votes, promises waited out, swap (V-1 … V-10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Aged, Membership, Now, Task};
use crate::document::{Document, DocumentVersion, UnsealedView};
use crate::event::{Notice, RegistryCall};
use crate::ids::MemberId;
use crate::message::{Message, WaitsFor};
use crate::placement::{self, Change};
use crate::planted_bug::Bug;
use crate::sealing::{self, Verdict};
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::View;

/// An exclusion under way.
#[derive(Debug)]
pub(super) struct Exclusion {
    stage: Stage,
    suspects: BTreeSet<MemberId>,
    round: u64,
    /// The document that the votes are bound to.
    document: Option<Arc<Document>>,
    read_at: Time,
    /// Until when each voter's promises to each suspect run, by this node's clock.
    votes: BTreeMap<MemberId, BTreeMap<MemberId, Time>>,
    asked_at: Time,
    /// A swap was sent: from then on only its outcome ends this.
    sent: Option<Arc<Document>>,
}

/// A round that has not succeeded by then reads the registry again: its ballot may have been voided, or proofs stored.
const READ_AGAIN: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    Voting,
    Swapping,
    /// The swap's answer was lost: reading what became of it (G-2).
    Resolving,
}

impl Exclusion {
    /// Whose pings the proposer itself must not answer.
    pub(super) fn blocked(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.suspects.iter().copied().filter(|_| self.document.is_some())
    }

    /// The document that the swap puts in.
    pub(super) fn into_sent(self) -> Option<Arc<Document>> {
        self.sent
    }

    /// What it waits for, with these members to vote.
    pub(super) fn waits_for(&self, voters: &BTreeSet<MemberId>) -> WaitsFor {
        match self.stage {
            Stage::Reading | Stage::Swapping | Stage::Resolving => WaitsFor::Registry,
            Stage::Voting if voters.iter().all(|v| self.votes.contains_key(v)) => WaitsFor::Promises,
            Stage::Voting => WaitsFor::Votes,
        }
    }

    pub(super) fn suspects(&self) -> &BTreeSet<MemberId> {
        &self.suspects
    }

    fn version(&self) -> Option<DocumentVersion> {
        self.document.as_ref().map(|d| d.version())
    }
}

impl Membership {
    /// Starts, goes on with or gives up an exclusion, as suspicions call for.
    pub(super) fn tick_exclusion(&mut self, cx: &mut StepContext<'_>) {
        let proposes = self.coordinator(cx.now) == Some(cx.me) || cx.bug(Bug::EveryoneProposes);
        let mut wanted = if proposes { self.links.chosen().clone() } else { BTreeSet::new() };
        if cx.bug(Bug::EveryoneProposes) {
            wanted.remove(&cx.me);
        }
        assert!(!wanted.contains(&cx.me), "nobody proposes its own exclusion");
        let idle = matches!(self.task, Task::Idle);
        if idle && wanted.is_empty() {
            self.blocked_by = None;
        } else if idle && self.registry.is_free(cx.now) {
            self.start_exclusion(cx, wanted);
        } else if let Task::Exclude(exclusion) = &self.task
            && exclusion.stage == Stage::Voting
        {
            let stale = cx.now.since(exclusion.read_at) >= READ_AGAIN;
            if exclusion.suspects == wanted && !stale {
                self.ask_votes(cx);
                self.try_swap(cx);
            } else {
                self.restart_round(cx, wanted);
            }
        }
    }

    fn wait_for(&mut self, cx: &mut StepContext<'_>, reason: WaitsFor) {
        if self.blocked_by != Some(reason) {
            self.blocked_by = Some(reason);
            cx.notice(Notice::ExclusionWaits { reason: reason.as_str() });
        }
    }

    fn start_exclusion(&mut self, cx: &mut StepContext<'_>, suspects: BTreeSet<MemberId>) {
        self.round += 1;
        let exclusion = Exclusion {
            stage: Stage::Reading,
            suspects,
            round: self.round,
            document: None,
            read_at: cx.now,
            votes: BTreeMap::new(),
            asked_at: Time::ZERO,
            sent: None,
        };
        self.task = Task::Exclude(Box::new(exclusion));
        if cx.bug(Bug::RegistryNotRead)
            && let Some(known) = self.document.clone()
        {
            return self.on_exclusion_read(cx, known);
        }
        self.begin_call(cx, RegistryCall::Read);
    }

    /// The registry was read (V-7) and shows our view: asks for votes, unless they can't suffice.
    pub(super) fn on_exclusion_read(&mut self, cx: &mut StepContext<'_>, document: Arc<Document>) {
        let Task::Exclude(exclusion) = &self.task else { return };
        if exclusion.stage == Stage::Resolving {
            self.swap_again(cx, document);
            return;
        }
        let suspects = exclusion.suspects.clone();
        if let Verdict::Minority { .. } = self.judge(&document, &suspects)
            && !cx.bug(Bug::NoHalfRule)
        {
            self.wait_for(cx, WaitsFor::Majority);
            self.task = Task::Idle;
            self.registry.retry_at = cx.now + Duration::from_millis(200);
            return;
        }
        let own = self.lease.block(&suspects.iter().copied().collect::<Vec<_>>(), cx.now);
        let own = own.into_iter().map(|(id, left)| (id, cx.now + left)).collect();
        let Task::Exclude(exclusion) = &mut self.task else { return };
        exclusion.stage = Stage::Voting;
        exclusion.document = Some(document);
        exclusion.read_at = cx.now;
        exclusion.votes.insert(cx.me, own);
        self.ask_votes(cx);
        self.try_swap(cx);
    }

    pub(super) fn voters(&self, suspects: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
        let view = self.view.as_ref();
        let goes = |id: &MemberId| suspects.contains(id) || self.stopped.contains(id) || self.standing_released(*id);
        view.map(|v| v.ids().filter(|id| !goes(id)).collect()).unwrap_or_default()
    }

    fn judge(&self, document: &Document, suspects: &BTreeSet<MemberId>) -> Verdict {
        let voters = self.voters(suspects);
        let members: Vec<MemberId> = document.view.ids().collect();
        let older = document.unsealed.iter().map(|u| (u.number, u.members.as_slice()));
        let older: Vec<_> = if self.setup.bugs.has(Bug::UnsealedIgnored) { Vec::new() } else { older.collect() };
        let views = std::iter::once((document.view.number, members.as_slice())).chain(older);
        sealing::judge(views, &voters, &Now(self))
    }

    fn ask_votes(&mut self, cx: &mut StepContext<'_>) {
        let Task::Exclude(exclusion) = &self.task else { return };
        if cx.now.since(exclusion.asked_at) < cx.limits.resend {
            return;
        }
        let Some(version) = exclusion.version() else { return };
        let silent: Vec<MemberId> =
            self.voters(&exclusion.suspects).into_iter().filter(|v| !exclusion.votes.contains_key(v)).collect();
        let (round, suspects) = (exclusion.round, exclusion.suspects.iter().copied().collect::<Vec<_>>());
        for voter in silent {
            cx.send(voter, Message::VoteRequest { version, round, suspects: suspects.clone() });
        }
        if let Task::Exclude(exclusion) = &mut self.task {
            exclusion.asked_at = cx.now;
        }
    }

    pub(super) fn on_vote(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        version: DocumentVersion,
        round: u64,
        promises: &[(MemberId, Duration)],
    ) {
        let Task::Exclude(exclusion) = &mut self.task else { return };
        let other = exclusion.version() != Some(version) || exclusion.round != round;
        if exclusion.stage != Stage::Voting || (other && !cx.bug(Bug::VotesOfAnyRound)) {
            return;
        }
        // A repeated answer counts from when it came: never earlier than what it says.
        let until = promises.iter().map(|(id, left)| (*id, cx.now + *left)).collect();
        exclusion.votes.entry(from).or_insert(until);
        self.try_swap(cx);
    }

    /// Suspicions changed before a swap was sent: gives the votes back and starts the round again (V-3, V-4).
    fn restart_round(&mut self, cx: &mut StepContext<'_>, wanted: BTreeSet<MemberId>) {
        let Task::Exclude(exclusion) = &self.task else { return };
        let grown = exclusion.suspects.is_subset(&wanted);
        let (version, round) = (exclusion.version(), exclusion.round);
        let asked: Vec<MemberId> = self.view.iter().flat_map(|v| v.ids()).filter(|id| *id != cx.me).collect();
        self.task = Task::Idle;
        if !grown && let Some(version) = version {
            for voter in asked {
                cx.send(voter, Message::VoteRelease { version, round });
            }
        }
        self.unblock();
        if !wanted.is_empty() {
            self.start_exclusion(cx, wanted);
        }
    }

    /// All voters have voted: swaps once every promise has run out (V-6).
    fn try_swap(&mut self, cx: &mut StepContext<'_>) {
        let Task::Exclude(exclusion) = &self.task else { return };
        let Some(document) = exclusion.document.clone() else { return };
        let voters = self.voters(&exclusion.suspects);
        let all = voters.iter().all(|v| exclusion.votes.contains_key(v)) || cx.bug(Bug::VotesNotAwaited);
        if exclusion.stage != Stage::Voting || !all {
            return;
        }
        let needs_dead = match self.judge(&document, &exclusion.suspects) {
            Verdict::Allowed { needs_dead } => needs_dead,
            Verdict::Minority { .. } if cx.bug(Bug::NoHalfRule) => BTreeSet::new(),
            Verdict::Minority { .. } => {
                self.wait_for(cx, WaitsFor::Majority);
                return;
            }
        };
        let promises = exclusion.votes.values().flatten();
        let given = promises.filter(|(suspect, _)| !self.dead.contains_key(suspect)).map(|(_, until)| *until);
        let waited = needs_dead.iter().filter(|_| !cx.bug(Bug::ProofEndsPromises));
        let proofs = waited.filter_map(|d| Some(self.dead.get(d)?.learned + self.timing.promise()));
        let until = given.chain(proofs).max().unwrap_or(Time::ZERO);
        if until > cx.now && !cx.bug(Bug::PromisesNotWaited) {
            return;
        }
        self.swap_exclusion(cx, &document);
    }

    fn swap_exclusion(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>) {
        let Task::Exclude(exclusion) = &mut self.task else { return };
        exclusion.stage = Stage::Swapping;
        let mut remove = exclusion.suspects.clone();
        // Whoever has released has ended as a member too (C-4).
        remove.extend(document.view.ids().filter(|id| *id != cx.me && self.standing_released(*id)));
        let change = Change { remove, leaving: self.leaving_now(), exclusion: true, ..Change::default() };
        let began = self.links.first_suspicion().unwrap_or(cx.now);
        let next = placement::next_view(&document.view, &change);
        self.change_began = Some(began);
        let next = Arc::new(self.next_document(document, next, cx.now));
        assert!(next.view.contains(cx.me), "a proposer stays in the view that it proposes");
        if let Task::Exclude(exclusion) = &mut self.task {
            exclusion.sent = Some(Arc::clone(&next));
            exclusion.document = Some(Arc::clone(document));
        }
        self.begin_call(cx, RegistryCall::Swap { expected: document.expected(), next });
    }

    /// The document after a change to `view`: what is still unsealed, and the proofs that still matter.
    pub(super) fn next_document(&self, document: &Document, view: View, now: Time) -> Document {
        let left = UnsealedView { number: document.view.number, members: document.view.ids().collect() };
        let candidates = document.unsealed.iter().cloned().chain([left]);
        let unsealed = sealing::unsealed(candidates.filter(|u| !u.members.is_empty()), &Aged(self, now));
        let mut proofs = document.proofs.clone();
        let said = self.dead.iter().filter(|(_, death)| death.proof.is_of_members());
        proofs.extend(said.map(|(id, death)| (*id, death.proof)));
        // Those who have just gone too: the registry sees by their proofs that they may (G-5).
        let counted = |id: &MemberId| document.view.contains(*id) || unsealed.iter().any(|u| u.members.contains(id));
        proofs.retain(|id, _| view.contains(*id) || counted(id));
        let before = document.departed.iter().chain(&document.view.members);
        let departed = before.filter(|m| !view.contains(m.id) && counted(&m.id)).cloned().collect();
        let vacant = document.vacant_after(&view);
        Document { revision: document.revision + 1, view, unsealed, departed, proofs, vacant, ..document.clone() }
    }

    /// The swap lost a race, or its answer was lost and the registry still shows the old document: the votes hold
    /// while view and ballot are the same; otherwise they are void and the round begins again.
    pub(super) fn swap_again(&mut self, cx: &mut StepContext<'_>, document: Arc<Document>) {
        let Task::Exclude(exclusion) = &self.task else { return };
        if exclusion.version() == Some(document.version()) {
            self.swap_exclusion(cx, &document);
            return;
        }
        self.task = Task::Idle;
        self.unblock();
        self.registry.retry_at = cx.now;
    }

    /// The registry did not answer.
    pub(super) fn exclusion_unanswered(&mut self, cx: &mut StepContext<'_>) {
        self.registry.retry_at = cx.now + Duration::from_millis(100);
        let Task::Exclude(exclusion) = &mut self.task else { return };
        if exclusion.sent.is_some() && !cx.bug(Bug::LostAnswerIsNo) {
            exclusion.stage = Stage::Resolving;
        } else {
            self.task = Task::Idle;
            self.unblock();
        }
    }

    /// Reads again what became of a swap without answer.
    pub(super) fn tick_resolving(&mut self, cx: &mut StepContext<'_>) {
        let resolving = matches!(&self.task, Task::Exclude(x) if x.stage == Stage::Resolving);
        if resolving && self.registry.call.is_none() && cx.now >= self.registry.retry_at {
            self.begin_call(cx, RegistryCall::Read);
        }
    }
}
