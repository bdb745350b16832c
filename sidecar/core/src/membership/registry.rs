//! What the registry's answers mean for the activity that asked.

use std::sync::Arc;
use std::time::Duration;

use super::{Behind, Call, Decided, Membership, RegistryKnowledge, Task};
use crate::document::Document;
use crate::event::{CallId, Effect, Notice, RegistryAnswer, RegistryCall};
use crate::ids::ViewNumber;
use crate::planted_bug::Bug;
use crate::recovery::{KEPT, VIEW_JUMP};
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::View;

/// How often a registry that is behind is told what this member knows.
const REPUBLISH: Duration = Duration::from_secs(1);

impl RegistryKnowledge {
    /// Whether this goes further than the document that was found, or than finding none.
    fn is_past(self, found: Option<&Document>) -> bool {
        let (view, revision) = found.map_or((ViewNumber::NONE, 0), |found| (found.view.number, found.revision));
        self.view > view || self.revision > revision
    }
}

impl Membership {
    /// Takes the answer to a call; one that was given up is passed over.
    pub(crate) fn on_registry(
        &mut self,
        cx: &mut StepContext<'_>,
        call: CallId,
        answer: RegistryAnswer,
    ) -> Option<Decided> {
        let asked = self.registry.end(call)?;
        self.registry.asked_knowing = asked.knew;
        self.on_answer(cx, asked, answer)
    }

    pub(super) fn on_answer(
        &mut self,
        cx: &mut StepContext<'_>,
        asked: Call,
        answer: RegistryAnswer,
    ) -> Option<Decided> {
        match answer {
            RegistryAnswer::Failed => {
                if self.registry.unanswered(asked.began) {
                    cx.notice(Notice::RegistryFailed);
                }
                self.unanswered(cx);
                return None;
            }
            _ => self.registry.answered(cx.now),
        }
        match answer {
            RegistryAnswer::Failed => None,
            RegistryAnswer::Document(found) => self.on_read(cx, found),
            RegistryAnswer::Swapped => self.on_swapped(cx),
            RegistryAnswer::Conflict(found) => self.on_conflict(cx, found),
        }
    }

    fn unanswered(&mut self, cx: &mut StepContext<'_>) {
        self.registry.retry_at = cx.now + Duration::from_millis(100);
        match self.task {
            Task::Exclude(_) => self.exclusion_unanswered(cx),
            // Whether it was done shows at the next read (G-2).
            _ => self.task = Task::Idle,
        }
    }

    pub(super) fn known(&self) -> RegistryKnowledge {
        let revision = self.document.as_ref().map_or(0, |document| document.revision);
        RegistryKnowledge { view: self.view_number(), revision }
    }

    /// Follows a document unless it is missing, of another cluster, or older than what is known (G-3).
    fn follow(&mut self, cx: &mut StepContext<'_>, found: Option<Arc<Document>>) -> Option<Arc<Document>> {
        let foreign = self.document.as_ref().zip(found.as_ref()).is_some_and(|(known, f)| known.cluster != f.cluster);
        let past = self.known().is_past(found.as_deref()) && !cx.bug(Bug::OlderDocumentFollowed);
        if foreign || past {
            // An answer that was overtaken by a newer view is only late; what was older already when it was asked for is not.
            if foreign || self.registry.asked_knowing.is_past(found.as_deref()) {
                if self.registry.behind.is_none() {
                    self.registry.behind = Some(Behind::default());
                    cx.notice(Notice::RegistryBehind);
                }
                self.registry.failed = true;
                self.registry.seen_behind = cx.now;
            }
            return None;
        }
        self.registry.behind = None;
        let found = found?;
        self.document = Some(Arc::clone(&found));
        for (&member, &proof) in &found.proofs {
            self.learn_death(cx, member, proof);
        }
        self.drop_void_votes(found.version());
        Some(found)
    }

    /// Tells a registry that is behind what this member knows (G-4).
    pub(super) fn tick_republish(&mut self, cx: &mut StepContext<'_>) {
        let due = |at: Time| cx.now.since(at) >= REPUBLISH;
        let member = self.is_member();
        let Some(behind) = self.registry.behind.as_mut().filter(|b| member && b.shown.is_none()) else { return };
        let Some(document) = self.document.clone().filter(|_| behind.republished_at.is_none_or(due)) else { return };
        behind.republished_at = Some(cx.now);
        cx.effects.push(Effect::Republish { view: self.view_number().max(document.view.number), document });
    }

    /// Whether a newer view that a peer shows is not to be installed now (G-4): this member has told a registry that is
    /// behind of an older one, and what is made again by that word must not have been overtaken. Only what was made again
    /// is newer by so much.
    pub(super) fn keeps_from(&self, now: Time, view: ViewNumber) -> bool {
        let newer = view.0.checked_sub(self.view_number().0).is_some_and(|by| by > 0 && by < VIEW_JUMP);
        newer && self.registry.behind.as_ref().and_then(|b| b.republished_at).is_some_and(|at| now.since(at) < KEPT)
    }

    /// A view that a peer shows and that is not to be installed now: what was said of the newest one is true no more.
    pub(super) fn keep_for_later(&mut self, now: Time, view: &Arc<View>) {
        let keeps = self.keeps_from(now, view.number);
        if let Some(behind) = self.registry.behind.as_mut().filter(|_| keeps)
            && behind.shown.as_ref().is_none_or(|shown| shown.number < view.number)
        {
            behind.shown = Some(Arc::clone(view));
        }
    }

    /// The view kept for later, once it may be installed.
    pub(super) fn kept_for_later(&mut self, now: Time) -> Option<Decided> {
        let view = self.registry.behind.as_ref().and_then(|b| b.shown.clone())?;
        self.newer(now, view)
    }

    fn newer_of(&self, document: &Arc<Document>) -> Option<Decided> {
        let newer = document.view.number > self.view_number();
        (newer && self.agrees(document) && document.view.is_sound())
            .then(|| Decided { view: Arc::new(document.view.clone()), own: false })
    }

    fn on_read(&mut self, cx: &mut StepContext<'_>, found: Option<Arc<Document>>) -> Option<Decided> {
        if found.is_none() && self.document.is_none() && self.participation == Participation::Joining {
            self.task = Task::Idle;
            self.create(cx);
            return None;
        }
        let Some(document) = self.follow(cx, found) else {
            self.unanswered(cx);
            return None;
        };
        if self.participation == Participation::Joining && self.on_joiner_read(cx, &document) {
            return None;
        }
        if document.view.number > self.view_number() {
            self.task = Task::Idle;
            self.unblock();
            return self.newer_of(&document);
        }
        match &self.task {
            Task::Exclude(_) => self.on_exclusion_read(cx, document),
            Task::Void(None) => self.void_votes(cx, &document),
            _ => self.task = Task::Idle,
        }
        None
    }

    fn on_swapped(&mut self, cx: &mut StepContext<'_>) -> Option<Decided> {
        let task = std::mem::replace(&mut self.task, Task::Idle);
        let next = match task {
            Task::Exclude(exclusion) => exclusion.into_sent(),
            Task::Change(next) | Task::Void(Some(next)) => Some(next),
            Task::Idle | Task::Prove | Task::Refresh | Task::Void(None) => None,
        }?;
        let followed = self.follow(cx, Some(next));
        self.unblock();
        let document = followed?;
        let own = document.view.number > self.view_number();
        own.then(|| Decided { view: Arc::new(document.view.clone()), own })
    }

    fn on_conflict(&mut self, cx: &mut StepContext<'_>, found: Option<Arc<Document>>) -> Option<Decided> {
        let Some(document) = self.follow(cx, found) else {
            self.unanswered(cx);
            return None;
        };
        if document.view.number > self.view_number() {
            // The race is lost: adopt the winner's view.
            self.task = Task::Idle;
            self.unblock();
            return self.newer_of(&document);
        }
        match &self.task {
            Task::Exclude(_) => self.swap_again(cx, document),
            _ => {
                self.task = Task::Idle;
                self.registry.retry_at = cx.now + Duration::from_millis(20);
            }
        }
        None
    }

    /// A member that has had no lease for a while, that waits for a document to come back (G-3), or a client that hears
    /// from nobody, looks what is there.
    pub(super) fn tick_refresh(&mut self, cx: &mut StepContext<'_>) {
        self.tick_resolving(cx);
        let last = self.registry.ok_at.unwrap_or(self.started);
        let lost = self.lease_lost_for(cx.now) > Duration::from_secs(1);
        let soon = lost || self.registry.behind.is_some() || self.registry.is_failing();
        let late = cx.now.since(last) > if soon { Duration::from_secs(1) } else { Duration::from_secs(30) };
        if late && matches!(self.task, Task::Idle) && self.registry.call.is_none() && cx.now >= self.registry.retry_at {
            self.task = Task::Refresh;
            self.begin_call(cx, RegistryCall::Read);
        }
    }

    fn lease_lost_for(&self, now: Time) -> Duration {
        now.since(self.lease.lease_until().max(self.changed_at))
    }

    /// Whether a planned change may be made: every member has installed the view, or every earlier view is sealed
    /// (C-1).
    pub(super) fn planned_may_go(&self, cx: &StepContext<'_>, document: &Document) -> bool {
        let Some(view) = &self.view else { return false };
        let installed =
            view.ids().all(|id| id == cx.me || self.has_installed(id, view.number) || self.standing_released(id));
        let candidates = document.unsealed.iter().cloned();
        let open = crate::sealing::unsealed(candidates, &super::Aged(self, cx.now));
        cx.bug(Bug::PlannedDoesNotWait) || (open.len() < cx.limits.unsealed_views && (installed || open.is_empty()))
    }
}
