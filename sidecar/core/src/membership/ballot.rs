//! Votes that this node has given to others' exclusions, and how they are given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Membership, Task};
use crate::document::{Document, DocumentVersion};
use crate::event::{Notice, RegistryCall};
use crate::ids::MemberId;
use crate::message::Message;
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::time::Time;

/// A vote given to one proposer.
#[derive(Debug)]
pub(super) struct GivenVote {
    version: DocumentVersion,
    round: u64,
    suspects: Vec<MemberId>,
    given: Time,
}

impl Membership {
    /// Gives a vote bound to the document version (V-1), if this node has installed that version's view: from then on
    /// it answers no ping of the suspects (V-2).
    pub(super) fn on_vote_request(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        version: DocumentVersion,
        round: u64,
        suspects: Vec<MemberId>,
    ) {
        let Some(view) = self.view.clone() else { return };
        let stale = self.released_rounds.get(&from).is_some_and(|&released| released >= round)
            || self.votes.get(&from).is_some_and(|v| v.version == version && v.round > round);
        let void = self.document.as_ref().is_some_and(|d| d.version() > version);
        let fits = self.is_member() && view.number == version.view && view.contains(from);
        if !fits || stale || void || suspects.contains(&cx.me) || suspects.contains(&from) {
            return;
        }
        assert!(!suspects.contains(&cx.me), "nobody votes to exclude itself");
        let promises = self.lease.block(&suspects, cx.now);
        if self.votes.get(&from).is_none_or(|v| v.round != round || v.version != version) {
            cx.notice(Notice::Voted { suspects: suspects.clone() });
            // A later round of one proposer adds to its earlier ones, since each still might win.
            let mut all: BTreeSet<MemberId> = suspects.iter().copied().collect();
            let mut given = cx.now;
            if let Some(earlier) = self.votes.get(&from).filter(|v| v.version == version) {
                all.extend(&earlier.suspects);
                given = earlier.given;
            }
            self.votes.insert(from, GivenVote { version, round, suspects: all.into_iter().collect(), given });
        }
        cx.send(from, Message::Vote { version, round, promises });
    }

    /// The proposer has not swapped and never will: its votes are given back (V-4).
    pub(super) fn on_vote_release(&mut self, from: MemberId, version: DocumentVersion, round: u64) {
        let known = self.released_rounds.entry(from).or_default();
        *known = round.max(*known);
        if self.votes.get(&from).is_some_and(|v| v.version == version && v.round <= round) {
            self.votes.remove(&from);
            self.unblock();
        }
    }

    /// The document shows that proposals on older ballots can't succeed any more (V-4).
    pub(super) fn drop_void_votes(&mut self, version: DocumentVersion) {
        let before = self.votes.len();
        self.votes.retain(|_, vote| vote.version >= version);
        if self.votes.len() != before {
            self.unblock();
        }
    }

    pub(super) fn unblock(&self) {
        let mut still: BTreeSet<MemberId> = self.votes.values().flat_map(|v| v.suspects.iter().copied()).collect();
        if let Task::Exclude(exclusion) = &self.task {
            still.extend(exclusion.blocked());
        }
        self.lease.unblock_except(&still);
    }

    /// Votes held for long without a new view are voided through the registry, never by time alone (V-4).
    pub(super) fn tick_votes(&mut self, cx: &mut StepContext<'_>) {
        if !self.votes.values().any(|v| cx.now.since(v.given) >= cx.limits.vote_timeout) {
            return;
        }
        if cx.bug(Bug::VotesTimeOut) {
            self.votes.clear();
            self.unblock();
            return;
        }
        if matches!(self.task, Task::Idle) && self.registry.call.is_none() && cx.now >= self.registry.retry_at {
            self.task = Task::Void(None);
            self.begin_call(cx, RegistryCall::Read);
        }
    }

    /// The registry still shows the view that the votes were given in: moves its ballot on.
    pub(super) fn void_votes(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>) {
        let next = Document { ballot: document.ballot + 1, revision: document.revision + 1, ..(**document).clone() };
        let next = Arc::new(next);
        self.task = Task::Void(Some(Arc::clone(&next)));
        self.begin_call(cx, RegistryCall::Swap { expected: document.expected(), next });
    }
}
