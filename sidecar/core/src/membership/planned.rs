//! Planned changes, made by the coordinator: joins, removals of leavers, promotions of filled copies, moves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Membership, Task};
use crate::document::Document;
use crate::event::RegistryCall;
use crate::ids::MemberId;
use crate::member::Member;
use crate::placement::{self, Change};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;

/// Promotions of single groups wait this long for others, so that one swap serves many.
const GATHER: Duration = Duration::from_millis(50);

impl Membership {
    pub(super) fn leaving_now(&self) -> BTreeSet<MemberId> {
        self.leaving.keys().copied().chain(self.stopped.iter().copied()).collect()
    }

    /// Makes the next planned change, if one is due and may be made.
    pub(super) fn tick_planned(&mut self, cx: &mut StepContext<'_>) {
        let idle = matches!(self.task, Task::Idle) && self.registry.is_free(cx.now);
        if !idle || self.coordinator(cx.now) != Some(cx.me) || !self.links.chosen().is_empty() {
            return;
        }
        let Some(document) = self.document.clone() else {
            self.task = Task::Refresh;
            self.begin_call(cx, RegistryCall::Read);
            return;
        };
        if document.view.number != cx.view {
            // Another's change was heard of from a peer: the document is read before it is changed.
            self.task = Task::Refresh;
            self.begin_call(cx, RegistryCall::Read);
            return;
        }
        self.grant_leaves(cx);
        if !matches!(self.task, Task::Idle) || !self.is_member() {
            // Granting asked the registry, or it was this node that stopped.
            return;
        }
        if self.planned_may_go(cx, &document)
            && let Some(change) = self.next_change(cx, &document)
        {
            self.swap_planned(cx, &document, &change);
        }
    }

    fn next_change(&mut self, cx: &StepContext<'_>, document: &Document) -> Option<Change> {
        let view = self.view.clone()?;
        let remove: BTreeSet<MemberId> = self.stopped.iter().copied().filter(|id| view.contains(*id)).collect();
        let add = self.ready_joiners(cx, view.members.len());
        let in_sync: BTreeSet<_> = self.in_sync.iter().copied().filter(|(_, id)| !remove.contains(id)).collect();
        let refill = self.refills(cx.now, document, &add);
        let membership = !remove.is_empty() || !add.is_empty() || !refill.is_empty();
        let filling = view.groups.iter().map(|g| g.incoming.len()).sum::<usize>();
        let gathered = in_sync.len() >= filling || cx.now.since(self.changed_at) >= GATHER;
        if !membership && !gathered {
            return None;
        }
        Some(Change { remove, add, leaving: self.leaving_now(), in_sync, refill, exclusion: false })
    }

    fn swap_planned(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>, change: &Change) {
        if change.remove.is_empty()
            && change.add.is_empty()
            && change.in_sync.is_empty()
            && change.refill.is_empty()
            && self.planned_nothing(change)
        {
            return;
        }
        let next = placement::next_view(&document.view, change);
        let same = next.members == document.view.members && next.groups == without_dropped(&document.view.groups);
        if same {
            self.planned_for = Some((document.view.number, change.leaving.clone()));
            return;
        }
        self.change_began = Some(cx.now);
        let next: Document = self.next_document(document, next, cx.now);
        let next = Arc::new(next);
        self.task = Task::Change(Arc::clone(&next));
        self.begin_call(cx, RegistryCall::Swap { expected: document.expected(), next });
    }

    /// Planning is not free: with nothing new since it last came to nothing, it is not repeated.
    fn planned_nothing(&self, change: &Change) -> bool {
        self.planned_for
            .as_ref()
            .is_some_and(|(view, leaving)| *view == self.view_number() && *leaving == change.leaving)
    }

    /// Joiners that have reached every member and been reached by every member (C-8), as many as the view has members
    /// at most (C-2).
    fn ready_joiners(&self, cx: &StepContext<'_>, most: usize) -> Vec<Member> {
        let Some(view) = &self.view else { return Vec::new() };
        let most = if cx.bug(Bug::AnyNumberJoins) { usize::MAX } else { most };
        let concerned: Vec<MemberId> = view.ids().filter(|id| !self.stopped.contains(id)).collect();
        let ready = self.joiners.values().filter(|j| {
            cx.now.since(j.heard) < Duration::from_secs(2)
                && (concerned.iter().all(|m| j.reached_by.contains(m) && j.reached.contains(m))
                    || cx.bug(Bug::JoinersNotReached))
        });
        ready.map(|j| j.member.clone()).take(most).collect()
    }
}

fn without_dropped(groups: &[crate::view::GroupPlacement]) -> Vec<crate::view::GroupPlacement> {
    let mut groups = groups.to_vec();
    for group in &mut groups {
        group.dropped.clear();
    }
    groups
}
