//! Suspecting members: no echo, a broken connection, a stuck replication, a proof; and what others report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Membership;
use crate::document::Proof;
use crate::event::{Notice, Port};
use crate::ids::MemberId;
use crate::message::Message;
use crate::step_context::StepContext;
use crate::time::Time;

/// A suspicion held now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    pub(super) since: Time,
}

/// Others' suspicions are said again this often, and forgotten when not said for three times as long.
const REPORT_PERIOD: Duration = Duration::from_millis(100);

impl Membership {
    /// The core was not run for a while: silence in that time says nothing of others.
    pub(crate) fn on_own_pause(&mut self, now: Time) {
        self.heard_floor = now;
    }

    /// The peer's connection on one port broke and a fresh dial failed.
    pub(crate) fn on_unreachable(&mut self, cx: &mut StepContext<'_>, peer: MemberId, port: Port) {
        self.reached.remove(&peer);
        if self.view.as_ref().is_some_and(|v| v.contains(peer)) {
            self.unreachable.insert((peer, port));
        }
        if let Some(joiner) = self.joiners.get_mut(&peer) {
            joiner.reached_by.remove(&cx.me);
        }
    }

    /// Replications to these members have been unacknowledged for too long.
    pub(crate) fn set_stuck(&mut self, stuck: BTreeSet<MemberId>) {
        self.stuck = stuck;
    }

    /// The connection on this port stands anew, or a ping or echo came over it. That says nothing of the other port.
    pub(crate) fn on_connected(&mut self, peer: MemberId, port: Port) {
        self.unreachable.remove(&(peer, port));
    }

    pub(super) fn on_report(&mut self, cx: &mut StepContext<'_>, from: MemberId, suspects: Vec<MemberId>) {
        if self.view.as_ref().is_some_and(|v| v.contains(from)) {
            self.reports.insert(from, (suspects, cx.now));
        }
    }

    pub(super) fn tick_suspicion(&mut self, cx: &mut StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        for member in view.others(cx.me) {
            let reason = self.reason_to_suspect(cx.now, member);
            match (reason, self.suspected.contains_key(&member)) {
                (Some(reason), false) => {
                    self.suspected.insert(member, Suspicion { since: cx.now });
                    cx.notice(Notice::Suspected { member, reason });
                    self.reported_at = Time::ZERO;
                }
                (None, true) => {
                    self.suspected.remove(&member);
                    cx.notice(Notice::Trusted { member });
                }
                _ => {}
            }
        }
        self.reports.retain(|_, (_, at)| cx.now.since(*at) < REPORT_PERIOD * 3);
        self.report(cx);
    }

    fn reason_to_suspect(&self, now: Time, member: MemberId) -> Option<&'static str> {
        match self.dead.get(&member).map(|d| d.proof) {
            Some(Proof::Released) => return None,
            Some(_) => return Some("proved dead"),
            None => {}
        }
        if self.stopped.contains(&member) {
            // Its planned removal is due; only when that does not come is it excluded like anybody else.
            return self.silent_too_long(now, member, self.timing.suspect * 10).then_some("left without removal");
        }
        if self.unreachable.contains(&(member, Port::FailureDetection)) {
            return Some("connection lost");
        }
        if self.unreachable.contains(&(member, Port::Data)) {
            return Some("data connection lost");
        }
        if self.stuck.contains(&member) {
            return Some("replication stuck");
        }
        self.silent_too_long(now, member, self.timing.suspect).then_some("no echo")
    }

    fn silent_too_long(&self, now: Time, member: MemberId, limit: Duration) -> bool {
        let heard = self.lease.last_heard(member).unwrap_or(Time::ZERO).max(self.heard_floor);
        now.since(heard) > limit
    }

    /// Tells the others whom this node suspects, so that whoever coordinates knows of links it does not use itself.
    fn report(&mut self, cx: &mut StepContext<'_>) {
        if self.suspected.is_empty() || cx.now.since(self.reported_at) < REPORT_PERIOD {
            return;
        }
        self.reported_at = cx.now;
        let suspects: Vec<MemberId> = self.suspected.keys().copied().collect();
        let Some(view) = self.view.clone() else { return };
        for to in view.others(cx.me).filter(|id| !suspects.contains(id)) {
            cx.send(to, Message::Suspects(suspects.clone()));
        }
    }

    /// Whom to exclude: those suspected here, and for links broken between others the member with most of them, the
    /// newest on a tie.
    pub(super) fn to_exclude(&self, me: MemberId) -> BTreeSet<MemberId> {
        let mut out: BTreeSet<MemberId> = self.suspected.keys().copied().collect();
        let Some(view) = &self.view else { return out };
        let counts = |id: &MemberId| *id != me && !self.stopped.contains(id) && view.contains(*id);
        let mut links: BTreeSet<(MemberId, MemberId)> = BTreeSet::new();
        for (from, (suspects, _)) in &self.reports {
            for suspect in suspects.iter().filter(|s| counts(s) && counts(from)) {
                links.insert((*from.min(suspect), *from.max(suspect)));
            }
        }
        loop {
            links.retain(|(a, b)| !out.contains(a) && !out.contains(b));
            let mut broken: BTreeMap<MemberId, usize> = BTreeMap::new();
            for (a, b) in &links {
                *broken.entry(*a).or_default() += 1;
                *broken.entry(*b).or_default() += 1;
            }
            let joined = |id: &MemberId| view.member(*id).map_or(0, |m| m.joined);
            let Some(worst) = broken.iter().max_by_key(|(id, n)| (**n, joined(id))) else { return out };
            out.insert(*worst.0);
        }
    }
}
