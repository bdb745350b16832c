//! Leaving in order: hand over, stop, be removed, release (C-3, C-4, C-5).

use std::time::Duration;

use super::Membership;
use crate::document::Proof;
use crate::event::Effect;
use crate::ids::{MemberId, ViewNumber};
use crate::message::Message;
use crate::planted_bug::Bug;
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::{Replicas, View};

/// This node's own leave.
#[derive(Debug)]
pub(super) struct Drain {
    asked_at: Time,
    /// Stopped for good at this reading.
    stopped: Option<Time>,
    /// When its promises have run out.
    released_at: Time,
    done: bool,
}

impl Drain {
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }
}

impl Membership {
    /// The shell asks to hand over and leave.
    pub(crate) fn on_drain(&mut self, cx: &mut StepContext<'_>) {
        if self.drain.is_some() {
            return;
        }
        self.drain = Some(Drain { asked_at: Time::ZERO, stopped: None, released_at: Time::ZERO, done: false });
        match self.participation {
            Participation::Member => self.participation = Participation::Leaving,
            Participation::Joining => self.participation = Participation::Client,
            _ => {}
        }
        self.tick_leaving(cx);
    }

    pub(super) fn tick_leaving(&mut self, cx: &mut StepContext<'_>) {
        let Some(drain) = &self.drain else { return };
        if drain.done {
            return;
        }
        let member = self.view.as_ref().is_some_and(|v| v.contains(cx.me));
        let (stopped, released) = (drain.has_stopped(), cx.now >= drain.released_at);
        if !member && (!stopped || released) {
            self.finish_leaving(cx);
            return;
        }
        if cx.now.since(drain.asked_at) < cx.limits.resend {
            return;
        }
        if let Some(drain) = &mut self.drain {
            drain.asked_at = cx.now;
        }
        let Some(view) = self.view.clone() else { return };
        if stopped && member && view.members.len() == 1 {
            // The swap that takes the last one out carries its release, which must be true (C-4).
            if released {
                self.swap_last_out(cx);
            }
        } else if stopped {
            // Due or not, it is said until the view is without this node: a crash beside it must not leave a minority that
            // this node's own promises no longer bind (C-4).
            for to in view.others(cx.me) {
                cx.send(to, if released { Message::Released(cx.me) } else { Message::Stopped });
            }
        } else if self.coordinator(cx.now) == Some(cx.me) {
            self.leaving.insert(cx.me, cx.now);
        } else if let Some(coordinator) = self.coordinator(cx.now) {
            cx.send(coordinator, Message::Leave);
        }
    }

    /// Removed, and its own promises have run out: says so (C-4), and is a client from now on.
    fn finish_leaving(&mut self, cx: &mut StepContext<'_>) {
        if let Some(view) = self.view.clone()
            && self.drain.as_ref().is_some_and(Drain::has_stopped)
        {
            for to in view.others(cx.me) {
                cx.send(to, Message::Released(cx.me));
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.done = true;
        }
        self.participation = Participation::Client;
        cx.effects.push(Effect::Left);
    }

    /// Whether this node has stopped for good and its promises have run out.
    pub(super) fn has_released(&self, now: Time) -> bool {
        self.drain.as_ref().is_some_and(|d| d.has_stopped() && now >= d.released_at)
    }

    /// Admitted although it had asked to leave: leaves again.
    pub(super) fn resume_leaving(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain.done = false;
        }
    }

    pub(super) fn on_leave(&mut self, cx: &mut StepContext<'_>, from: MemberId) {
        if self.view.as_ref().is_some_and(|v| v.contains(from)) {
            self.leaving.insert(from, cx.now);
        }
    }

    /// The coordinator lets leavers that own nothing stop, so that the members that go on echoing stay a majority, and
    /// only while the registry answers (C-5).
    pub(super) fn grant_leaves(&mut self, cx: &mut StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        self.leaving.retain(|id, asked| *id == cx.me || cx.now.since(*asked) < Duration::from_secs(2));
        let fresh =
            self.registry.ok_at.is_some_and(|at| cx.now.since(at) < Duration::from_secs(1)) && !self.registry.failed;
        let ready = self.leaving.keys().copied().find(|id| self.may_stop(cx.now, &view, *id));
        let Some(leaver) = ready else { return };
        if !fresh {
            self.task = super::Task::Refresh;
            self.begin_call(cx, crate::event::RegistryCall::Read);
            return;
        }
        self.granted = Some((view.number, leaver, cx.now));
        if leaver == cx.me {
            self.stop(cx);
        } else {
            cx.send(leaver, Message::LeaveGranted { anyway: !owns_nothing(&view, leaver) });
        }
    }

    /// One stops at a time, so that the rest are a majority of three and more; of two, the other goes on with the
    /// lease it has until the removal, which is one swap away.
    fn may_stop(&self, now: Time, view: &View, leaver: MemberId) -> bool {
        // A grant on its way counts as a stop.
        let granted = self
            .granted
            .is_some_and(|(of, to, at)| of == view.number && to != leaver && now.since(at) < Duration::from_secs(2));
        let others_stopped = granted || self.stopped.iter().any(|id| *id != leaver && view.contains(*id));
        let everyone = view.ids().all(|id| self.leaving.contains_key(&id));
        view.contains(leaver)
            && !self.stopped.contains(&leaver)
            && (!others_stopped || self.setup.bugs.has(Bug::LeaversStopTogether))
            && (everyone || owns_nothing(view, leaver))
    }

    pub(super) fn on_leave_granted(&mut self, cx: &mut StepContext<'_>, sent_in: ViewNumber, anyway: bool) {
        // A late grant may come after a change that gave this node a role again.
        let free = anyway || self.view.as_ref().is_some_and(|v| owns_nothing(v, cx.me));
        if self.participation == Participation::Leaving && free && sent_in == cx.view {
            self.stop(cx);
        }
    }

    /// Stops for good: from here on this incarnation serves, pings, echoes and votes no more (C-3).
    fn stop(&mut self, cx: &mut StepContext<'_>) {
        let Some(drain) = self.drain.as_mut().filter(|d| d.stopped.is_none()) else { return };
        // Stopped first: until then the other thread could still promise.
        if !cx.bug(Bug::LeaverGoesOn) {
            self.lease.stop();
        }
        drain.stopped = Some(cx.now);
        drain.released_at = if cx.bug(Bug::ReleasedAtOnce) { cx.now } else { self.lease.last_promise().max(cx.now) };
        drain.asked_at = Time::ZERO;
        self.stopped.insert(cx.me);
        self.tick_leaving(cx);
    }

    /// The last member takes itself out: the view is empty afterwards.
    fn swap_last_out(&mut self, cx: &mut StepContext<'_>) {
        let idle = matches!(self.task, super::Task::Idle) && self.registry.call.is_none();
        let Some(document) = self.document.clone().filter(|_| idle) else { return };
        let change = crate::placement::Change { remove: [cx.me].into(), ..Default::default() };
        let next = crate::placement::next_view(&document.view, &change);
        let mut next = self.next_document(&document, next, cx.now);
        next.proofs.insert(cx.me, Proof::Released);
        let next = std::sync::Arc::new(next);
        self.task = super::Task::Change(std::sync::Arc::clone(&next));
        self.begin_call(cx, crate::event::RegistryCall::Swap { expected: document.expected(), next });
    }
}

/// Whether a member has handed over: it holds no copy of a counted group, and leads no group.
pub(super) fn owns_nothing(view: &View, member: MemberId) -> bool {
    view.group_ids().all(|g| {
        let counted = view.replicas(g) != Replicas::All;
        let holds = view.is_owner(g, member) || view.incoming(g).iter().any(|(id, _)| *id == member);
        view.primary(g) != Some(member) && !(counted && holds)
    })
}
