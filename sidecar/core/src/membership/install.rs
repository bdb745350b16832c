//! Installing a view in the membership half.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Decided, Membership, Task};
use crate::event::{Effect, Notice};
use crate::ids::{MemberId, ViewNumber};
use crate::message::Message;
use crate::planted_bug::Bug;
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::View;

/// How long proofs outlive the views that they are known to count in.
const KEEP_PROOFS: Duration = Duration::from_secs(60);

impl Membership {
    /// Installs a newer view (V-8): leaves the old one's lease, votes and proposals behind.
    ///
    /// The context shows the new view's number from here on.
    pub(crate) fn install(&mut self, cx: &mut StepContext<'_>, decided: &Decided) {
        let view = Arc::clone(&decided.view);
        let before = self.view.replace(Arc::clone(&view));
        assert!(
            before.as_ref().is_none_or(|b| b.number < view.number),
            "views are installed in order, each once (V-8)"
        );
        let was_member = before.as_ref().is_some_and(|v| v.contains(cx.me));
        cx.view = view.number;
        self.follow_participation(cx, &view, was_member);
        self.task = match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Prove => Task::Prove,
            _ => Task::Idle,
        };
        if matches!(self.task, Task::Idle) {
            self.registry.give_up(cx.now, self.timing.suspect);
        }
        self.votes.clear();
        let members: Vec<MemberId> = view.ids().collect();
        self.lease.install(view.number, members.clone(), self.timing, cx.now);
        // After the switch, since until then the other thread could still promise in the view that is left.
        self.confirm_later(cx);
        let in_order = before.iter().flat_map(|b| b.ids()).all(|id| view.contains(id) || self.stopped.contains(&id));
        self.forget_outsiders(cx.now, &view, before.as_ref().map(|b| b.number));
        self.blocked_by = None;
        self.registry.behind = None;
        self.changed_at = cx.now;
        self.follow_vacancies(cx, &view);
        self.report_installed(cx, before.as_deref(), &view, in_order);
        if self.participation != Participation::Superseded {
            self.tell(cx, before.as_deref(), &view, decided.own);
            self.tell_peers(cx);
            if !cx.bug(Bug::NoPingAtInstall) {
                cx.effects.push(Effect::PingNow);
            }
        }
    }

    fn follow_participation(&mut self, cx: &mut StepContext<'_>, view: &View, was_member: bool) {
        let stopped = self.drain.as_ref().is_some_and(super::leaving::Drain::has_stopped);
        self.participation = match (self.participation, view.contains(cx.me)) {
            (Participation::Superseded, _) => Participation::Superseded,
            (Participation::Leaving, true) => Participation::Leaving,
            (Participation::Client, true) if stopped || !self.setup.joins => Participation::Client,
            (_, true) if self.drain.is_some() => {
                self.resume_leaving();
                Participation::Leaving
            }
            (_, true) => Participation::Member,
            (Participation::Leaving, false) if stopped => Participation::Client,
            (_, false) if was_member => {
                self.lease.stop();
                Participation::Superseded
            }
            (now, false) => now,
        };
    }

    /// Past every older view once the promises given in them have run out (S-2).
    fn confirm_later(&mut self, cx: &mut StepContext<'_>) {
        let past = ViewNumber(cx.view.0.saturating_sub(1));
        let at = self.lease.last_promise();
        if (at <= cx.now && self.confirming.is_empty()) || cx.bug(Bug::ConfirmedAtOnce) {
            self.confirmed_past = past.max(self.confirmed_past);
        } else {
            let at = self.confirming.back().map_or(at, |(_, last)| at.max(*last));
            self.confirming.push_back((past, at));
        }
        cx.confirmed_past = self.confirmed_past;
    }

    fn forget_outsiders(&mut self, now: Time, view: &View, before: Option<ViewNumber>) {
        let unsealed: BTreeSet<MemberId> =
            self.document.iter().flat_map(|d| d.unsealed.iter()).flat_map(|u| u.members.iter().copied()).collect();
        let matters = |id: &MemberId| view.contains(*id) || unsealed.contains(id);
        // Whoever is no member pings nobody, and would never hear that it was wrong.
        let is_member = self.is_member();
        self.links.keep_to(view, is_member);
        // The document at hand may be older than the view, so a proof is kept for a while in any case.
        self.dead.retain(|id, death| matters(id) || now.since(death.learned) < KEEP_PROOFS);
        // In a view that was skipped they may have been members already, and stopped for good (C-3): they ask again.
        let follows = before.is_some_and(|b| b.next() == view.number);
        self.joiners.retain(|id, _| follows && !view.contains(*id));
        self.in_sync.clear();
        self.leaving.retain(|id, _| view.contains(*id));
        self.stopped.retain(|id| view.contains(*id));
        let joiners = &self.joiners;
        let installed = view.number;
        self.peers.retain(|id, peer| matters(id) || joiners.contains_key(id) || peer.view.0 + 8 >= installed.0);
        self.announced.clear();
        self.released_rounds.retain(|id, _| view.contains(*id));
    }

    fn report_installed(&mut self, cx: &mut StepContext<'_>, before: Option<&View>, view: &Arc<View>, in_order: bool) {
        let names = |of: &View, not_in: Option<&View>| -> Vec<String> {
            let new = of.members.iter().filter(|m| !not_in.is_some_and(|v| v.contains(m.id)));
            new.map(|m| m.name.clone()).collect()
        };
        let took = self.change_began.take().map_or(Duration::ZERO, |began| cx.now.since(began));
        let joined = names(view, before);
        let left = before.map(|b| names(b, Some(view))).unwrap_or_default();
        cx.notice(Notice::ViewInstalled { view: Arc::clone(view), joined, left, took });
        let lost = view.groups.iter().filter(|g| g.empty_since == view.number).count();
        if lost > 0 && before.is_some() {
            cx.notice(Notice::GroupsLost { groups: lost, in_order });
        }
    }

    /// The proposer shows the view to everyone concerned; the others say that they have it.
    fn tell(&mut self, cx: &mut StepContext<'_>, before: Option<&View>, view: &Arc<View>, own: bool) {
        let mut to: BTreeSet<MemberId> = view.ids().collect();
        if own {
            to.extend(before.iter().flat_map(|v| v.ids()));
            to.extend(self.peers.keys().copied());
        }
        to.remove(&cx.me);
        for peer in to {
            if own {
                self.show_view(cx, peer);
            } else {
                cx.send(peer, Message::Installed);
            }
        }
    }
}
