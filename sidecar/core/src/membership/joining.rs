//! Joining: as the one who joins, as a member that is joined, and as the first of a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Membership, Task, classes};
use crate::document::{Document, FORMAT, Proof};
use crate::event::{Effect, RegistryCall};
use crate::ids::{MemberId, ViewNumber};
use crate::member::Member;
use crate::message::{KeptCopies, Message};
use crate::placement;
use crate::planted_bug::Bug;
use crate::sealing::{self, Verdict};
use crate::snapshot::Participation;
use crate::step_context::StepContext;
use crate::time::Time;

/// Someone who asked to join, as the coordinator knows it.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) member: Member,
    /// Members that it says it has reached.
    pub(super) reached: BTreeSet<MemberId>,
    /// Members that have reached it.
    pub(super) reached_by: BTreeSet<MemberId>,
    pub(super) heard: Time,
}

/// What a joiner says of itself.
pub(super) struct JoinRequest {
    pub(super) member: Member,
    /// Whether it holds its platform identity exclusively.
    pub(super) exclusive: bool,
    /// Members that it has reached.
    pub(super) reached: Vec<MemberId>,
    /// Its incarnation before, when that one's promises have run out.
    pub(super) formerly: Option<MemberId>,
    /// Copies that it brings along.
    pub(super) kept: Option<KeptCopies>,
    /// The view that it had installed.
    pub(super) sent_in: ViewNumber,
}

/// A joiner asks again this often.
const ASK_PERIOD: Duration = Duration::from_millis(100);
/// A joiner stores its proofs itself when nobody acted on them for this long.
const PROVE_AFTER: Duration = Duration::from_secs(1);

impl Membership {
    pub(super) fn tick_joining(&mut self, cx: &mut StepContext<'_>) {
        let idle = matches!(self.task, Task::Idle) && self.registry.call.is_none();
        let last = self.registry.ok_at;
        let due =
            last.is_none_or(|at| cx.now.since(at) >= Duration::from_millis(250)) && cx.now >= self.registry.retry_at;
        if idle && due {
            self.task = Task::Refresh;
            self.begin_call(cx, RegistryCall::Read);
        }
        if cx.now.since(self.asked_at) >= ASK_PERIOD {
            self.ask_to_join(cx);
        }
    }

    fn ask_to_join(&mut self, cx: &mut StepContext<'_>) {
        let view = self.view.clone().or_else(|| self.document.as_ref().map(|d| Arc::new(d.view.clone())));
        let Some(view) = view else { return };
        self.asked_at = cx.now;
        let over = cx.now.since(self.started) >= self.timing.promise();
        for to in view.ids().filter(|id| !self.dead.contains_key(id)) {
            let message = Message::Join {
                member: Box::new(self.setup.me.clone()),
                exclusive: self.setup.exclusive,
                reached: self.reached.iter().copied().collect(),
                // The promises of the incarnation before have run out once ours would have.
                formerly: self.setup.formerly.filter(|_| over),
                kept: self.vacancies.kept().cloned(),
            };
            cx.send(to, message);
        }
    }

    /// A joiner read the document. Returns whether a call was begun.
    pub(super) fn on_joiner_read(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>) -> bool {
        self.task = Task::Idle;
        if !self.agrees(document) {
            let why = disagreement(document, &self.setup.agreed);
            cx.effects.push(Effect::JoinRefused(why));
            self.registry.retry_at = cx.now + Duration::from_secs(2);
            return true;
        }
        self.timing = document.agreed.timing;
        if document.view.contains(cx.me) {
            return false;
        }
        // One that has released may still be reached, but knows of nobody any more.
        let nobody = self.reached.iter().all(|id| self.dead.contains_key(id)) && !document.view.members.is_empty();
        self.nobody_since = nobody.then(|| self.nobody_since.unwrap_or(cx.now));
        if self.setup.exclusive {
            let counted: Vec<Member> = document.view.members.iter().chain(&document.departed).cloned().collect();
            for member in self.judge_own_predecessors(cx.now, &counted) {
                self.learn_death(cx, member, Proof::NewerIncarnation);
            }
        }
        if let Some(formerly) = self.setup.formerly
            && cx.now.since(self.started) >= self.timing.promise()
        {
            self.learn_death(cx, formerly, Proof::Released);
        }
        if self.begin_again(cx, document) || self.store_proofs(cx, document) {
            return true;
        }
        self.tell_peers(cx);
        if self.asked_at == Time::ZERO {
            self.ask_to_join(cx);
        }
        document.view.number <= self.view_number()
    }

    /// No document yet: makes view 1 of this node alone.
    pub(super) fn create(&mut self, cx: &mut StepContext<'_>) {
        let Some(cluster) = self.setup.creates else {
            self.registry.retry_at = cx.now + Duration::from_millis(200);
            return;
        };
        let agreed = self.setup.agreed.clone();
        let view = placement::start(ViewNumber(1), self.setup.me.clone(), classes(&self.setup), agreed.segments, 1);
        let proofs = std::collections::BTreeMap::new();
        let document = Document {
            format: FORMAT,
            cluster,
            revision: 1,
            ballot: 0,
            view,
            unsealed: Vec::new(),
            departed: Vec::new(),
            proofs,
            vacant: std::collections::BTreeMap::new(),
            agreed,
        };
        let document = Arc::new(document);
        self.task = Task::Change(Arc::clone(&document));
        self.change_began = Some(cx.now);
        self.begin_call(cx, RegistryCall::Create(document));
    }

    /// When nobody is left, every member proved dead or released, or out of reach and too few to serve (V-5), the joiner
    /// becomes the view (C-7).
    fn begin_again(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>) -> bool {
        let members: Vec<MemberId> = document.view.ids().collect();
        // One that is not proved dead might come back with its copies; it is waited for like any last owner (V-9).
        let waited = self.nobody_since.is_some_and(|since| cx.now.since(since) >= self.timing.orphan_wait);
        if !waited && !members.iter().all(|m| self.dead.contains_key(m)) {
            return false;
        }
        let older = document.unsealed.iter().map(|u| (u.number, u.members.as_slice()));
        let views = std::iter::once((document.view.number, members.as_slice())).chain(older);
        let Verdict::Allowed { needs_dead } = sealing::judge(views, &BTreeSet::new(), &super::Now(self)) else {
            return false;
        };
        let promise = self.timing.promise();
        let aged = |id: &MemberId| self.dead.get(id).is_some_and(|d| cx.now.since(d.learned) >= promise);
        if !needs_dead.iter().all(aged) || cx.bug(Bug::NeverBeginsAgain) {
            return false;
        }
        let number = document.view.number.next();
        let (me, classes, joined) = (self.setup.me.clone(), classes(&self.setup), document.view.next_joined);
        let view = placement::start(number, me, classes, document.view.segments, joined);
        let next = Arc::new(self.next_document(document, view, cx.now));
        self.task = Task::Change(Arc::clone(&next));
        self.change_began = Some(cx.now);
        self.begin_call(cx, RegistryCall::Swap { expected: document.expected(), next });
        true
    }

    /// Stores proofs that no member acted on: with nobody left to tell, the document is where they count (P-1).
    fn store_proofs(&mut self, cx: &mut StepContext<'_>, document: &Arc<Document>) -> bool {
        let matters =
            |id: &MemberId| document.view.contains(*id) || document.unsealed.iter().any(|u| u.members.contains(id));
        let news: Vec<(MemberId, Proof)> = self
            .dead
            .iter()
            .filter(|(id, d)| {
                let is_less = |there: &Proof| d.proof == Proof::Released && *there != Proof::Released;
                let may_say = d.proof.is_of_members() && matters(id);
                may_say && document.proofs.get(id).is_none_or(is_less) && cx.now.since(d.learned) >= PROVE_AFTER
            })
            .map(|(id, d)| (*id, d.proof))
            .collect();
        if news.is_empty() {
            return false;
        }
        let mut next = Document { revision: document.revision + 1, ..(**document).clone() };
        next.proofs.extend(news);
        self.task = Task::Prove;
        self.begin_call(cx, RegistryCall::Swap { expected: document.expected(), next: Arc::new(next) });
        true
    }

    pub(super) fn agrees(&self, document: &Document) -> bool {
        let (theirs, mine) = (&document.agreed, &self.setup.agreed);
        theirs.segments == mine.segments && theirs.hash == mine.hash && theirs.caches == mine.caches
    }

    /// Somebody asks to join: takes its proofs, dials it back, and remembers it if this node coordinates.
    pub(super) fn on_join(&mut self, cx: &mut StepContext<'_>, from: MemberId, request: JoinRequest) {
        let JoinRequest { member, exclusive, reached, formerly, kept, sent_in } = request;
        if self.has_released(cx.now) {
            // With nobody else left, the joiner waits for this node alone.
            cx.send(from, Message::Released(cx.me));
            return;
        }
        let Some(view) = self.view.clone().filter(|_| self.is_member()) else { return };
        if member.id != from || view.contains(from) {
            self.show_view(cx, from);
            return;
        }
        self.vacancies.claim(from, kept.as_ref(), cx.now, self.timing.orphan_wait, cx.limits.clients);
        if exclusive && !self.take_evidence(cx, &member) {
            self.joiners.remove(&from);
            return;
        }
        if let Some(formerly) = formerly {
            self.learn_death(cx, formerly, Proof::Released);
        }
        if sent_in < view.number {
            // It may be late: its sender may have joined since, and stopped for good (C-3). Whoever has been a member asked
            // under an older view than this; whoever still wants to join is shown this one, and asks again.
            return;
        }
        let speaks = |m: &&Member| member.protocols.0 <= m.protocols.1 && member.protocols.1 >= m.protocols.0;
        if let Some(other) = view.members.iter().find(|m| !speaks(m)) {
            let (theirs, own) = (member.protocols, other.protocols);
            let why = format!(
                "protocol: {} speaks {} to {}, the joiner {} to {}",
                other.name, own.0, own.1, theirs.0, theirs.1
            );
            cx.send(from, Message::JoinRefused(why));
            return;
        }
        if !self.joiners.contains_key(&from) && self.joiners.len() >= cx.limits.clients {
            return;
        }
        let fresh = Joiner { member, reached: BTreeSet::new(), reached_by: BTreeSet::new(), heard: cx.now };
        let joiner = self.joiners.entry(from).or_insert(fresh);
        joiner.heard = cx.now;
        joiner.reached = reached.into_iter().collect();
        if self.reached.contains(&from) {
            self.report_joiner(cx, from);
        }
        self.joiners.retain(|_, j| cx.now.since(j.heard) < Duration::from_secs(5));
        self.tell_peers(cx);
    }

    /// This member has reached the joiner on both ports: tells whoever coordinates.
    pub(super) fn report_joiner(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        let me = cx.me;
        let Some(joiner) = self.joiners.get_mut(&peer) else { return };
        joiner.reached_by.insert(me);
        if let Some(coordinator) = self.coordinator(cx.now).filter(|c| *c != me) {
            cx.send(coordinator, Message::Reached(peer));
        }
    }

    pub(super) fn on_joiner_reached(&mut self, from: MemberId, joiner: MemberId) {
        if let Some(joiner) = self.joiners.get_mut(&joiner) {
            joiner.reached_by.insert(from);
        }
    }

    /// A client asks a member for its view now and then, and the registry when it hears of none.
    pub(super) fn tick_client(&mut self, cx: &mut StepContext<'_>) {
        self.tick_leaving(cx);
        if cx.now.since(self.asked_at) < Duration::from_millis(500) {
            return;
        }
        self.asked_at = cx.now;
        if let Some(view) = self.view.clone() {
            for to in view.others(cx.me) {
                cx.send(to, Message::ViewRequest);
            }
        }
        let idle = matches!(self.task, Task::Idle) && self.registry.call.is_none() && cx.now >= self.registry.retry_at;
        let stale = self.registry.ok_at.is_none_or(|at| cx.now.since(at) >= Duration::from_secs(5));
        if idle && (self.view.is_none() || stale) && self.participation == Participation::Client {
            self.task = Task::Refresh;
            self.begin_call(cx, RegistryCall::Read);
        }
    }
}

fn disagreement(document: &Document, mine: &crate::document::Agreed) -> String {
    let theirs = &document.agreed;
    if theirs.segments != mine.segments {
        return format!("segments: the cluster has {}, this node is set to {}", theirs.segments, mine.segments);
    }
    if theirs.hash != mine.hash {
        return format!("hash rule: the cluster has {}, this node {}", theirs.hash, mine.hash);
    }
    for cache in &theirs.caches {
        match mine.caches.iter().find(|c| c.name == cache.name) {
            None => return format!("caches.{}: the cluster has it, this node's settings do not", cache.name),
            Some(own) if own.replicas != cache.replicas => {
                return format!(
                    "caches.{}: the cluster has {:?}, this node is set to {:?}",
                    cache.name, cache.replicas, own.replicas
                );
            }
            Some(_) => {}
        }
    }
    let extra = mine.caches.iter().find(|c| !theirs.caches.iter().any(|t| t.name == c.name));
    let name = extra.map_or("?", |c| c.name.as_str());
    format!("caches.{name}: this node's settings have it, the cluster does not")
}
