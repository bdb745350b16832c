//! Whose turn it is to change the view, and what a change that is needed waits for (V-10).

use super::{Membership, Task};
use crate::ids::MemberId;
use crate::message::{PingStatus, WaitsFor};
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;

impl Membership {
    /// The earliest-joined member that is not to be excluded and reaches the registry (V-10); the earliest of the others,
    /// when none of them does.
    pub(super) fn coordinator(&self, now: Time) -> Option<MemberId> {
        let view = self.view.as_ref()?;
        let eligible = |id: &MemberId| !self.links.chosen().contains(id) && !self.stopped.contains(id);
        let reaches = |id: &MemberId| !self.registry_away(*id, now);
        view.ids().filter(eligible).find(reaches).or_else(|| view.ids().find(eligible))
    }

    fn registry_away(&self, member: MemberId, now: Time) -> bool {
        if member == self.setup.me.id {
            self.registry.is_away(now, self.timing.suspect)
        } else {
            self.lease.status_of(member).registry_away
        }
    }

    /// Whether no change is under way, due or waited for: then ticks may be rare.
    pub(crate) fn is_quiet(&self) -> bool {
        let settled = self.participation == Participation::Member
            && matches!(self.task, Task::Idle)
            && self.registry.is_quiet()
            && self.confirming.is_empty()
            && self.status.waits_for.is_none();
        settled
            && self.drain.is_none()
            && self.votes.is_empty()
            && self.joiners.is_empty()
            && self.leaving.is_empty()
            && self.stopped.is_empty()
            && self.in_sync.is_empty()
            && self.vacancies.is_empty()
            && self.links.suspected().next().is_none()
    }

    pub(super) fn status_now(&self, cx: &StepContext<'_>) -> PingStatus {
        PingStatus {
            registry_away: self.registry_away(cx.me, cx.now),
            waits_for: self.is_member().then(|| self.waits_now(cx)).flatten(),
        }
    }

    /// Never none while somebody is suspected, or while a planned change is due that can't be made.
    fn waits_now(&self, cx: &StepContext<'_>) -> Option<WaitsFor> {
        let coordinator = self.coordinator(cx.now);
        let suspects = self.links.suspected().next().is_some() || !self.links.chosen().is_empty();
        if coordinator != Some(cx.me) {
            let elsewhere = coordinator.and_then(|id| self.lease.status_of(id).waits_for);
            return suspects.then(|| elsewhere.unwrap_or(WaitsFor::Proposer));
        }
        if let Task::Exclude(exclusion) = &self.task {
            return Some(self.blocked_by.unwrap_or_else(|| exclusion.waits_for(&self.voters(exclusion.suspects()))));
        }
        if suspects {
            return Some(self.blocked_by.unwrap_or(WaitsFor::Registry));
        }
        let due = self.stopped.iter().any(|id| *id != cx.me) || !self.in_sync.is_empty() || !self.joiners.is_empty();
        if !due {
            return None;
        }
        if self.registry_away(cx.me, cx.now) {
            return Some(WaitsFor::Registry);
        }
        let waits = self.document.as_ref().is_some_and(|document| !self.planned_may_go(cx, document));
        waits.then_some(WaitsFor::Installation)
    }
}
