//! Links between members: which are broken, who is suspected for it, and whom to exclude.
//!
//! A link is both ports. It is broken for this node when no echo comes, when a connection on either port broke and can't
//! be made again, or when nothing is acknowledged on the data port; others report theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Death, Membership};
use crate::document::{Proof, Timing};
use crate::event::{Notice, Port};
use crate::ids::MemberId;
use crate::lease::Lease;
use crate::message::Message;
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::View;

/// Others' suspicions are reported again this often, and forgotten when not reported for three times as long.
const REPORT_PERIOD: Duration = Duration::from_millis(100);

/// What the links of this node and of others say.
#[derive(Debug)]
pub(super) struct Links {
    /// Own connections that broke and could not be made again.
    broken: BTreeSet<(MemberId, Port)>,
    /// Members that acknowledge nothing on the data port.
    stuck: BTreeSet<MemberId>,
    /// Members of the view that this node suspects, and since when.
    suspected: BTreeMap<MemberId, Time>,
    reports: BTreeMap<MemberId, Report>,
    /// Echoes older than this prove nothing: this node itself was not running.
    heard_floor: Time,
    reported_at: Time,
    /// Whom the broken links call to exclude, as of the last tick. May hold this node itself.
    chosen: BTreeSet<MemberId>,
}

/// Another member's suspicions.
#[derive(Debug)]
struct Report {
    /// Each with the time of the first report in an unbroken row.
    suspects: BTreeMap<MemberId, Time>,
    at: Time,
}

/// What suspicion is decided on beside the links.
pub(super) struct Evidence<'a> {
    pub(super) lease: &'a Lease,
    pub(super) timing: &'a Timing,
    pub(super) dead: &'a BTreeMap<MemberId, Death>,
    pub(super) stopped: &'a BTreeSet<MemberId>,
}

impl Links {
    pub(super) fn new(now: Time) -> Links {
        Links {
            broken: BTreeSet::new(),
            stuck: BTreeSet::new(),
            suspected: BTreeMap::new(),
            reports: BTreeMap::new(),
            heard_floor: now,
            reported_at: Time::ZERO,
            chosen: BTreeSet::new(),
        }
    }

    /// The core was not run for a while: silence in that time says nothing of others.
    pub(super) fn on_own_pause(&mut self, now: Time) {
        self.heard_floor = now;
    }

    /// A connection broke and could not be made again.
    pub(super) fn broke(&mut self, peer: MemberId, port: Port) {
        self.broken.insert((peer, port));
    }

    /// A connection stands anew, or something came over it that shows that it does.
    pub(super) fn mended(&mut self, peer: MemberId, port: Port) {
        self.broken.remove(&(peer, port));
    }

    /// Members with something outstanding on the data port that acknowledged nothing for `dataSuspect`.
    pub(super) fn set_stuck(&mut self, stuck: BTreeSet<MemberId>) {
        self.stuck = stuck;
    }

    pub(super) fn on_report(&mut self, now: Time, from: MemberId, suspects: Vec<MemberId>) {
        let before = self.reports.remove(&from).map(|r| r.suspects).unwrap_or_default();
        let since = |id: MemberId| (id, before.get(&id).copied().unwrap_or(now));
        let suspects = suspects.into_iter().map(since).collect();
        self.reports.insert(from, Report { suspects, at: now });
    }

    /// Members that this node suspects itself.
    pub(super) fn suspected(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.suspected.keys().copied()
    }

    pub(super) fn first_suspicion(&self) -> Option<Time> {
        self.suspected.values().copied().min()
    }

    /// Since when this node has had no echo of a member.
    pub(super) fn silent_since(&self, member: MemberId, lease: &Lease) -> Option<Time> {
        lease.last_heard(member).map(|heard| heard.max(self.heard_floor))
    }

    /// Since when `from` has reported, without a break, that it suspects `suspect`.
    pub(super) fn reported_since(&self, from: MemberId, suspect: MemberId) -> Option<Time> {
        self.reports.get(&from)?.suspects.get(&suspect).copied()
    }

    /// Whom the broken links call to exclude. Holds this node itself when its own links are the broken ones and others
    /// are there to exclude it.
    pub(super) fn chosen(&self) -> &BTreeSet<MemberId> {
        &self.chosen
    }

    /// Forgets what doesn't concern `view`; all of it for a node that is no member, since it pings nobody and would never
    /// hear that it was wrong.
    pub(super) fn keep_to(&mut self, view: &View, is_member: bool) {
        self.suspected.retain(|id, _| is_member && view.contains(*id));
        self.chosen.retain(|id| is_member && view.contains(*id));
        self.broken.retain(|(id, _)| view.contains(*id));
        self.stuck.clear();
        self.reports.clear();
    }

    /// Suspects and trusts anew, reports changes to the others, and chooses whom to exclude.
    pub(super) fn tick(&mut self, cx: &mut StepContext<'_>, view: &View, evidence: &Evidence<'_>) {
        for member in view.others(cx.me) {
            let reason = self.reason_to_suspect(cx.now, member, evidence);
            match (reason, self.suspected.contains_key(&member)) {
                (Some(reason), false) => {
                    self.suspected.insert(member, cx.now);
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
        self.reports.retain(|_, report| cx.now.since(report.at) < REPORT_PERIOD * 3);
        self.report(cx, view);
        let weighed = !cx.bug(Bug::LinksNotWeighed);
        self.chosen = if weighed { self.choose(cx.me, view, evidence) } else { self.suspected().collect() };
        assert!(self.chosen.iter().all(|id| view.contains(*id)), "only members of the view can be excluded from it");
    }

    fn reason_to_suspect(&self, now: Time, member: MemberId, evidence: &Evidence<'_>) -> Option<&'static str> {
        match evidence.dead.get(&member).map(|d| d.proof) {
            Some(Proof::Released) => return None,
            Some(_) => return Some("proved dead"),
            None => {}
        }
        let suspect = evidence.timing.suspect;
        if evidence.stopped.contains(&member) {
            // Its planned removal is due; only when that does not come is it excluded like anybody else.
            return self.silent_for(now, member, suspect * 10, evidence).then_some("left without removal");
        }
        if self.broken.contains(&(member, Port::FailureDetection)) {
            return Some("connection lost");
        }
        if self.broken.contains(&(member, Port::Data)) {
            return Some("data connection lost");
        }
        if self.stuck.contains(&member) {
            return Some("replication stuck");
        }
        self.silent_for(now, member, suspect, evidence).then_some("no echo")
    }

    fn silent_for(&self, now: Time, member: MemberId, limit: Duration, evidence: &Evidence<'_>) -> bool {
        let heard = evidence.lease.last_heard(member).unwrap_or(Time::ZERO).max(self.heard_floor);
        now.since(heard) > limit
    }

    /// Reports to the others whom this node suspects: the proposer learns of links that it does not use itself.
    fn report(&mut self, cx: &mut StepContext<'_>, view: &View) {
        if self.suspected.is_empty() || cx.now.since(self.reported_at) < REPORT_PERIOD {
            return;
        }
        self.reported_at = cx.now;
        let suspects: Vec<MemberId> = self.suspected.keys().copied().collect();
        for to in view.others(cx.me).filter(|id| !suspects.contains(id)) {
            cx.send(to, Message::Suspects(suspects.clone()));
        }
    }

    /// V-11: who is proved dead goes. Of a broken link one end has to go: the member with most broken links, the newest on a tie,
    /// until none is left. When that is this node, another that it reaches excludes it; with no such member, those that
    /// it suspects are to go, as far as the majority rule lets it.
    fn choose(&self, me: MemberId, view: &View, evidence: &Evidence<'_>) -> BTreeSet<MemberId> {
        let ended = |id: &MemberId| evidence.dead.contains_key(id) || evidence.stopped.contains(id);
        let mut out: BTreeSet<MemberId> = self.suspected().filter(ended).collect();
        let mut links = self.broken_links(me, view, evidence);
        loop {
            links.retain(|(a, b)| !out.contains(a) && !out.contains(b));
            let mut broken: BTreeMap<MemberId, usize> = BTreeMap::new();
            for (a, b) in &links {
                *broken.entry(*a).or_default() += 1;
                *broken.entry(*b).or_default() += 1;
            }
            let joined = |id: &MemberId| view.member(*id).map_or(0, |m| m.joined);
            let Some(worst) = broken.iter().max_by_key(|(id, n)| (**n, joined(id))) else { break };
            out.insert(*worst.0);
        }
        let excludes_me = |id: &MemberId| !out.contains(id) && !self.suspected.contains_key(id) && !ended(id);
        if out.contains(&me) && !view.others(me).any(|id| excludes_me(&id)) {
            return self.suspected().collect();
        }
        out
    }

    /// V-11: links with one end at this node, and those between others that both ends outlive: each has answered a ping that
    /// was sent after the link was first reported. Else one end may have crashed, and this node not know it yet.
    fn broken_links(&self, me: MemberId, view: &View, evidence: &Evidence<'_>) -> BTreeSet<(MemberId, MemberId)> {
        let pair = |a: MemberId, b: MemberId| (a.min(b), a.max(b));
        let mut links: BTreeSet<_> = self.suspected().map(|id| pair(me, id)).collect();
        let counts = |id: &MemberId| view.contains(*id) && !evidence.stopped.contains(id);
        let outlives = |id: &MemberId, since: Time| {
            *id == me
                || self.suspected.contains_key(id)
                || evidence.lease.last_heard(*id).is_some_and(|heard| heard > since)
        };
        for (from, report) in self.reports.iter().filter(|(from, _)| counts(from)) {
            for (suspect, since) in report.suspects.iter().filter(|(s, _)| counts(s) && *s != from) {
                if outlives(from, *since) && outlives(suspect, *since) {
                    links.insert(pair(*from, *suspect));
                }
            }
        }
        links
    }

    /// Sizes of tables that grow with peers.
    pub(super) fn table_size(&self) -> usize {
        self.reports.len() + self.broken.len()
    }
}

impl Membership {
    pub(crate) fn on_own_pause(&mut self, now: Time) {
        self.links.on_own_pause(now);
    }

    /// The peer's connection on one port broke and a fresh dial failed.
    pub(crate) fn on_unreachable(&mut self, cx: &mut StepContext<'_>, peer: MemberId, port: Port) {
        self.reached.remove(&peer);
        if self.view.as_ref().is_some_and(|v| v.contains(peer)) {
            self.links.broke(peer, port);
        }
        if let Some(joiner) = self.joiners.get_mut(&peer) {
            joiner.reached_by.remove(&cx.me);
        }
    }

    /// The connection on this port stands anew, or a ping or echo came over it. That says nothing of the other port.
    pub(crate) fn on_connected(&mut self, peer: MemberId, port: Port) {
        self.links.mended(peer, port);
    }

    pub(crate) fn set_stuck(&mut self, stuck: BTreeSet<MemberId>) {
        self.links.set_stuck(stuck);
    }

    pub(super) fn on_report(&mut self, cx: &StepContext<'_>, from: MemberId, suspects: Vec<MemberId>) {
        if let Some(view) = self.view.as_ref().filter(|v| v.contains(from)) {
            let suspects = suspects.into_iter().filter(|id| view.contains(*id)).collect();
            self.links.on_report(cx.now, from, suspects);
        }
    }

    pub(super) fn tick_suspicion(&mut self, cx: &mut StepContext<'_>) {
        let Some(view) = self.view.clone() else { return };
        let evidence = Evidence { lease: &self.lease, timing: &self.timing, dead: &self.dead, stopped: &self.stopped };
        self.links.tick(cx, &view, &evidence);
    }
}
