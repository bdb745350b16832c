//! Who is in the view and who changes it: suspicion, votes, exclusion, planned changes, joining and leaving.
//!
//! [`Membership`] owns that state. It never touches data: what it decides comes out as a [`Decided`] view, which the
//! core installs in both halves at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::core::Setup;
use crate::document::{Document, Proof, Timing};
use crate::event::{CallId, Effect, Notice, Port, RegistryCall};
use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::lease::Lease;
use crate::member::Member;
use crate::message::{Message, PingStatus, WaitsFor};
use crate::planted_bug::Bug;
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::{Replicas, View};

mod ballot;
mod exclusion;
mod install;
mod joining;
mod leaving;
mod links;
mod planned;
mod proposer;
mod reboots;
mod registry;
mod registry_link;
mod standing;
mod vacancies;

use ballot::GivenVote;
use exclusion::Exclusion;
use joining::{JoinRequest, Joiner};
use links::Links;
use reboots::Reboots;
use registry_link::RegistryLink;
use standing::{Aged, Now};
use vacancies::Vacancies;

/// What is known of a peer.
#[derive(Debug, Default)]
struct Peer {
    /// The view it has installed.
    view: ViewNumber,
    /// Newest view it is confirmed past.
    confirmed_past: ViewNumber,
    /// When it was last shown our view.
    shown: Option<(ViewNumber, Time)>,
}

/// A member known to have ended.
#[derive(Clone, Copy, Debug)]
struct Death {
    proof: Proof,
    /// When this node learned it; the dead one's promises run at most a promise time from here.
    learned: Time,
}

/// The one activity that waits for the registry.
#[derive(Debug)]
enum Task {
    Idle,
    Exclude(Box<Exclusion>),
    /// A planned change, a creation, a joiner's first view: the document that a swap is to put in.
    Change(Arc<Document>),
    /// Voiding votes given: reading first, then the document that a swap is to put in.
    Void(Option<Arc<Document>>),
    /// Storing proofs.
    Prove,
    /// A read to learn what is there.
    Refresh,
}

/// A registry call under way.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: CallId,
    began: Time,
    until: Time,
    knew: RegistryKnowledge,
}

/// What this member has done about a registry that is behind.
#[derive(Debug, Default)]
struct Behind {
    /// When it last told what it knows: it keeps to its view (G-4).
    republished_at: Option<Time>,
    /// The newest view that a peer has shown it since: it says nothing more, and installs that once what it said no
    /// longer counts. Whoever showed it may be gone by then.
    shown: Option<Arc<View>>,
}

/// How far this node's knowledge of the registry goes.
#[derive(Clone, Copy, Debug, Default)]
struct RegistryKnowledge {
    view: ViewNumber,
    revision: u64,
}

/// The membership half of the core.
#[derive(Debug)]
pub(crate) struct Membership {
    setup: Setup,
    pub(crate) lease: Arc<Lease>,
    started: Time,
    participation: Participation,
    view: Option<Arc<View>>,
    document: Option<Arc<Document>>,
    pub(crate) timing: Timing,
    peers: BTreeMap<MemberId, Peer>,
    confirmed_past: ViewNumber,
    /// Views that will be confirmed past, and when.
    confirming: VecDeque<(ViewNumber, Time)>,
    dead: BTreeMap<MemberId, Death>,

    links: Links,
    reboots: Reboots,
    vacancies: Vacancies,

    // Votes given
    votes: BTreeMap<MemberId, GivenVote>,
    released_rounds: BTreeMap<MemberId, u64>,
    round: u64,

    // Registry
    task: Task,
    registry: RegistryLink,
    /// What an exclusion that is needed can't begin without.
    blocked_by: Option<WaitsFor>,
    /// What pings say of this node.
    status: PingStatus,

    // Planned changes
    joiners: BTreeMap<MemberId, Joiner>,
    in_sync: BTreeSet<(GroupId, MemberId)>,
    leaving: BTreeMap<MemberId, Time>,
    stopped: BTreeSet<MemberId>,
    /// Whom this node, coordinating, let stop last: in which view and when.
    granted: Option<(ViewNumber, MemberId, Time)>,
    changed_at: Time,
    /// With this view and these leavers, planning came to nothing.
    planned_for: Option<(ViewNumber, BTreeSet<MemberId>)>,
    change_began: Option<Time>,

    // Own joining and leaving
    reached: BTreeSet<MemberId>,
    /// A joiner: since when no member could be reached.
    nobody_since: Option<Time>,
    asked_at: Time,
    drain: Option<leaving::Drain>,
    announced: BTreeMap<MemberId, Time>,
    peers_told: Vec<MemberId>,
}

/// A view to install, and what its proposer has to tell.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) view: Arc<View>,
    /// This node swapped it in: it tells everyone.
    pub(crate) own: bool,
}

impl Membership {
    pub(crate) fn new(setup: Setup, lease: Arc<Lease>, now: Time) -> Membership {
        let participation = if setup.joins { Participation::Joining } else { Participation::Client };
        Membership {
            timing: setup.agreed.timing,
            setup,
            lease,
            started: now,
            participation,
            view: None,
            document: None,
            peers: BTreeMap::new(),
            confirmed_past: ViewNumber::NONE,
            confirming: VecDeque::new(),
            dead: BTreeMap::new(),
            links: Links::new(now),
            reboots: Reboots::default(),
            vacancies: Vacancies::default(),
            votes: BTreeMap::new(),
            released_rounds: BTreeMap::new(),
            round: 0,
            task: Task::Idle,
            registry: RegistryLink::default(),
            blocked_by: None,
            status: PingStatus::default(),
            joiners: BTreeMap::new(),
            in_sync: BTreeSet::new(),
            leaving: BTreeMap::new(),
            stopped: BTreeSet::new(),
            granted: None,
            changed_at: now,
            planned_for: None,
            change_began: None,
            reached: BTreeSet::new(),
            nobody_since: None,
            asked_at: Time::ZERO,
            drain: None,
            announced: BTreeMap::new(),
            peers_told: Vec::new(),
        }
    }

    pub(crate) fn participation(&self) -> Participation {
        self.participation
    }

    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    pub(crate) fn view_number(&self) -> ViewNumber {
        self.view.as_ref().map_or(ViewNumber::NONE, |v| v.number)
    }

    pub(crate) fn confirmed_past(&self) -> ViewNumber {
        self.confirmed_past
    }

    /// A node that is no member and reaches nobody can have nothing decided.
    pub(crate) fn reaches_nobody(&self) -> bool {
        !self.is_member() && self.reached.is_empty()
    }

    pub(crate) fn registry_ok(&self) -> bool {
        !self.registry.failed
    }

    /// What pings and status answers say of this node, as of its last tick.
    pub(crate) fn status(&self) -> PingStatus {
        self.status
    }

    pub(crate) fn unsealed_count(&self) -> usize {
        self.document.as_ref().map_or(0, |d| d.unsealed.len())
    }

    pub(crate) fn suspected(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.links.suspected()
    }

    /// Whether `peer` is known to have installed at least `view`.
    pub(crate) fn has_installed(&self, peer: MemberId, view: ViewNumber) -> bool {
        self.peers.get(&peer).is_some_and(|p| p.view >= view)
    }

    fn is_member(&self) -> bool {
        matches!(self.participation, Participation::Member | Participation::Leaving)
            && !self.drain.as_ref().is_some_and(leaving::Drain::has_stopped)
    }

    /// What every message and ping says of its sender. Returns whether the peer is now known to have installed our
    /// view and was not before.
    pub(crate) fn on_shown(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        view: ViewNumber,
        past: ViewNumber,
    ) -> bool {
        let mine = self.view_number();
        if !self.has_room_for(cx, from) {
            return false;
        }
        let peer = self.peers.entry(from).or_default();
        let arrived = peer.view < mine && view >= mine;
        peer.view = view.max(peer.view);
        peer.confirmed_past = past.max(peer.confirmed_past);
        if view > mine && self.participation != Participation::Superseded {
            self.ask_view(cx, from);
        } else if view < mine {
            self.show_view(cx, from);
        }
        arrived
    }

    /// Members and joiners always have a place in the table of peers; clients while there is one.
    fn has_room_for(&self, cx: &StepContext<'_>, peer: MemberId) -> bool {
        self.peers.contains_key(&peer)
            || self.peers.len() < cx.limits.clients
            || self.joiners.contains_key(&peer)
            || self.view.as_ref().is_some_and(|v| v.contains(peer))
    }

    fn ask_view(&mut self, cx: &mut StepContext<'_>, from: MemberId) {
        let due = self.announced.get(&from).is_none_or(|at| cx.now.since(*at) >= Duration::from_millis(20));
        if due && from != cx.me {
            self.announced.insert(from, cx.now);
            cx.send(from, Message::ViewRequest);
        }
    }

    /// Shows our view to a peer behind it, at most once in a short while.
    fn show_view(&mut self, cx: &mut StepContext<'_>, to: MemberId) {
        let Some(view) = self.view.clone().filter(|_| self.has_room_for(cx, to)) else { return };
        let peer = self.peers.entry(to).or_default();
        let shown = peer.shown.is_some_and(|(v, at)| v == view.number && cx.now.since(at) < Duration::from_millis(20));
        if !shown && to != cx.me {
            peer.shown = Some((view.number, cx.now));
            cx.send(to, Message::ViewIs(view));
        }
    }

    /// Takes a membership message that was sent in view `sent_in`. Returns a view to install, if it brought one.
    pub(crate) fn on_message(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        sent_in: ViewNumber,
        message: Message,
    ) -> Option<Decided> {
        match message {
            Message::ViewIs(view) => {
                self.keep_for_later(cx.now, &view);
                return self.newer(cx.now, view).filter(|_| !cx.bug(Bug::PeersViewsIgnored));
            }
            // Whoever shows an older view was sent ours already.
            Message::ViewRequest => {}
            Message::Suspects(suspects) => self.on_report(cx, from, suspects),
            Message::VoteRequest { version, round, suspects } => {
                self.on_vote_request(cx, from, version, round, suspects);
            }
            Message::Vote { version, round, promises } => self.on_vote(cx, from, version, round, &promises),
            Message::VoteRelease { version, round } => self.on_vote_release(from, version, round),
            Message::Join { member, exclusive, reached, formerly, kept } => {
                self.on_join(cx, from, JoinRequest { member: *member, exclusive, reached, formerly, kept, sent_in });
            }
            Message::Reached(joiner) => self.on_joiner_reached(from, joiner),
            Message::JoinRefused(why) if self.participation == Participation::Joining => {
                cx.effects.push(Effect::JoinRefused(why));
            }
            Message::Leave => self.on_leave(cx, from),
            Message::LeaveGranted { anyway } => self.on_leave_granted(cx, sent_in, anyway),
            Message::Stopped if self.view.as_ref().is_some_and(|v| v.contains(from)) => {
                self.stopped.insert(from);
            }
            Message::Released(member) => self.learn_death(cx, member, Proof::Released),
            Message::InSync(groups) if sent_in == cx.view => {
                self.in_sync.extend(groups.into_iter().map(|g| (g, from)));
            }
            _ => {}
        }
        None
    }

    /// A view newer than ours, of our cluster (V-8).
    fn newer(&self, now: Time, view: Arc<View>) -> Option<Decided> {
        let fits = self.participation != Participation::Superseded
            && view.number > self.view_number()
            && (!self.keeps_from(now, view.number) || self.setup.bugs.has(Bug::ShownViewsInstalled))
            && view.segments == self.setup.agreed.segments
            && view.classes == classes(&self.setup)
            && view.is_sound();
        fits.then_some(Decided { view, own: false })
    }

    /// Everything that time brings. Returns a view to install.
    pub(crate) fn on_tick(&mut self, cx: &mut StepContext<'_>) -> Option<Decided> {
        while self.confirming.front().is_some_and(|(_, at)| *at <= cx.now) {
            if let Some((past, _)) = self.confirming.pop_front() {
                self.confirmed_past = past.max(self.confirmed_past);
            }
        }
        if let Some(call) = self.registry.end_overdue(cx.now)
            && let Some(decided) = self.on_answer(cx, call, crate::event::RegistryAnswer::Failed)
        {
            return Some(decided);
        }
        match self.participation {
            Participation::Superseded => return None,
            Participation::Joining => self.tick_joining(cx),
            Participation::Client => self.tick_client(cx),
            Participation::Member | Participation::Leaving => {
                self.tick_leaving(cx);
                if self.is_member() {
                    self.tick_suspicion(cx);
                    self.tick_votes(cx);
                    self.tick_exclusion(cx);
                    self.tick_planned(cx);
                }
                self.tick_refresh(cx);
                self.tick_republish(cx);
            }
        }
        self.tell_peers(cx);
        self.status = self.status_now(cx);
        self.kept_for_later(cx.now)
    }

    fn learn_death(&mut self, cx: &mut StepContext<'_>, member: MemberId, proof: Proof) {
        if member == cx.me || self.dead.len() >= cx.limits.clients {
            return;
        }
        // The first proof is as good as a second one, which would begin the wait after it anew (P-2), again and again when
        // two sources tell two kinds. A release counts as more.
        if let Some(known) = self.dead.get_mut(&member)
            && (known.proof == Proof::Released || proof != Proof::Released)
        {
            if proof.is_of_members() && !known.proof.is_of_members() {
                // What this node may say itself, should the document lose what the platform said.
                known.proof = proof;
            }
            return;
        }
        self.dead.insert(member, Death { proof, learned: cx.now });
        if proof == Proof::Released {
            self.stopped.insert(member);
        }
        cx.notice(Notice::ProvedDead { member });
    }

    /// Keeps connections to the members, and to the joiners that must be reached. Copies nothing while they stay the same.
    fn tell_peers(&mut self, cx: &mut StepContext<'_>) {
        let view = self.view.as_deref().or_else(|| self.document.as_ref().map(|d| &d.view));
        let members = view.map_or(&[][..], |v| &v.members).iter().filter(|m| m.id != cx.me);
        let outside = |j: &&Joiner| view.is_none_or(|v| !v.contains(j.member.id));
        let joiners = self.joiners.values().filter(outside).map(|j| &j.member);
        let peers = members.chain(joiners);
        if peers.clone().map(|p| p.id).eq(self.peers_told.iter().copied()) {
            return;
        }
        let peers: Vec<Member> = peers.cloned().collect();
        self.peers_told = peers.iter().map(|p| p.id).collect();
        let told = &self.peers_told;
        self.reached.retain(|id| told.contains(id));
        cx.effects.push(Effect::Peers(peers));
    }

    pub(crate) fn on_reached(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        self.reached.insert(peer);
        self.links.mended(peer, Port::Data);
        self.links.mended(peer, Port::FailureDetection);
        match self.participation {
            Participation::Joining => self.asked_at = Time::ZERO,
            Participation::Member | Participation::Leaving => self.report_joiner(cx, peer),
            Participation::Client => {
                if self.view.is_none() {
                    cx.send(peer, Message::ViewRequest);
                }
            }
            Participation::Superseded => {}
        }
    }

    /// Complete incoming copies of this node, for the coordinator to make owners.
    pub(crate) fn report_in_sync(&mut self, cx: &mut StepContext<'_>, groups: Vec<GroupId>) {
        match self.coordinator(cx.now) {
            Some(coordinator) if coordinator == cx.me => self.in_sync.extend(groups.into_iter().map(|g| (g, cx.me))),
            Some(coordinator) => cx.send(coordinator, Message::InSync(groups)),
            None => {}
        }
    }

    /// Sizes of tables that grow with peers.
    pub(crate) fn table_sizes(&self) -> [(&'static str, usize); 5] {
        [
            ("peers", self.peers.len()),
            ("proofs", self.dead.len()),
            ("links", self.links.table_size()),
            ("joiners", self.joiners.len()),
            ("unsealed", self.unsealed_count()),
        ]
    }

    fn begin_call(&mut self, cx: &mut StepContext<'_>, request: RegistryCall) {
        let id = self.registry.begin(cx.now, cx.limits.registry_timeout, self.known());
        cx.effects.push(Effect::Registry { call: id, request });
    }
}

/// The replica counts in use, ascending: the classes of groups.
pub(crate) fn classes(setup: &Setup) -> Vec<Replicas> {
    let counts: BTreeSet<Replicas> = setup.agreed.caches.iter().map(|c| c.replicas).collect();
    counts.into_iter().collect()
}
