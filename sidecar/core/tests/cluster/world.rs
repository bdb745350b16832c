//! A few cores, a registry and links that a test can cut, in steps of one millisecond.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::core::{Core, Setup};
use sidegrid_core::document::{Agreed, AgreedCache, Document, HASH_RULE, Timing};
use sidegrid_core::event::{Notice, Port, RegistryAnswer, RegistryCall, Ticket};
use sidegrid_core::limits::Limits;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::message::{Envelope, Message, Ping};
use sidegrid_core::operation::{Answer, Condition, Idempotency, Operation, OperationKind, Outcome, Refusal};
use sidegrid_core::planted_bug::Bugs;
use sidegrid_core::rights::{self, Caller};
use sidegrid_core::view::{Replicas, View};
use sidegrid_core::{CacheId, ClusterUid, Effect, Event, MemberId, Time, ViewNumber};

use crate::links::Links;
use crate::map::{Bounds, Map};

pub(crate) type Told = Result<Answer, Refusal>;

pub(crate) struct Node {
    pub(crate) core: Core<Map>,
    pub(crate) store: Arc<Map>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) left: bool,
    pub(crate) superseded: bool,
    /// Neither turns nor answers; its lease is not consulted either.
    pub(crate) down: bool,
}

impl Node {
    pub(crate) fn suspected_anybody(&self) -> bool {
        self.notices.iter().any(|n| matches!(n, Notice::Suspected { .. }))
    }
}

/// All nodes, by id.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<u64, Node>,
    identities: BTreeMap<u64, PlatformIdentity>,
    pub(crate) registry: Option<Arc<Document>>,
    pub(crate) registry_up: bool,
    /// Swaps done.
    pub(crate) swaps: Vec<Arc<Document>>,
    /// What members told a registry that is behind: who, which view, which document.
    pub(crate) republished: Vec<(u64, ViewNumber, Arc<Document>)>,
    /// Ticks of all nodes.
    pub(crate) ticks: u64,
    /// Who could not join, and why.
    pub(crate) refused: Vec<(u64, String)>,
    /// Whose calls the registry refuses at once.
    pub(crate) registry_refuses: BTreeSet<u64>,
    /// Whose calls it never answers.
    pub(crate) registry_silent: BTreeSet<u64>,
    /// Links on which nothing passes, from and to.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Links on which pings pass and messages don't, from and to.
    data_cut: BTreeSet<(u64, u64)>,
    /// Messages kept back, for the test to look at or let go.
    pub(crate) kept: Vec<(u64, u64, Envelope)>,
    pub(crate) keep: fn(&Message) -> bool,
    /// How fast the data links are; each carries what it is given in order.
    pub(crate) links: Links,
    queue: VecDeque<(u64, u64, Envelope)>,
    replies: BTreeMap<u64, Told>,
    replicas: Vec<Replicas>,
    bounds: Bounds,
    limits: Limits,
    bugs: Bugs,
    tickets: u64,
    started: u64,
}

impl World {
    /// A cluster of `size` members that have settled, with one cache.
    pub(crate) fn of(size: u64, replicas: Replicas) -> World {
        World::with(size, vec![replicas])
    }

    /// A cluster of `size` members that have settled, with a cache for each of `replicas`.
    pub(crate) fn with(size: u64, replicas: Vec<Replicas>) -> World {
        World::made(size, replicas, Bounds::default(), Limits::default(), Bugs::default())
    }

    /// The same with a bounded cache.
    pub(crate) fn bounded(size: u64, replicas: Replicas, bounds: Bounds) -> World {
        World::made(size, vec![replicas], bounds, Limits::default(), Bugs::default())
    }

    /// The same with other limits.
    pub(crate) fn limited(size: u64, replicas: Replicas, limits: Limits) -> World {
        World::made(size, vec![replicas], Bounds::default(), limits, Bugs::default())
    }

    /// The same, with a rule left out by every member.
    pub(crate) fn with_bugs(size: u64, replicas: Replicas, bugs: Bugs) -> World {
        World::made(size, vec![replicas], Bounds::default(), Limits::default(), bugs)
    }

    fn made(size: u64, replicas: Vec<Replicas>, bounds: Bounds, limits: Limits, bugs: Bugs) -> World {
        let mut world = World {
            now: Time::from_nanos(1_000_000_000),
            nodes: BTreeMap::new(),
            identities: BTreeMap::new(),
            registry: None,
            registry_up: true,
            ticks: 0,
            refused: Vec::new(),
            registry_refuses: BTreeSet::new(),
            registry_silent: BTreeSet::new(),
            data_cut: BTreeSet::new(),
            swaps: Vec::new(),
            republished: Vec::new(),
            cut: BTreeSet::new(),
            kept: Vec::new(),
            keep: |_| false,
            links: Links::default(),
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            replicas,
            bounds,
            limits,
            bugs,
            tickets: 0,
            started: 0,
        };
        for id in 1..=size {
            world.start(id, &format!("lock-{id}"));
            world.until("the member is in", |w| w.view(id).is_some_and(|v| v.contains(MemberId(id))));
        }
        world.settle();
        world
    }

    pub(crate) fn start(&mut self, id: u64, lock: &str) {
        self.start_on_boot(id, lock, "b");
    }

    /// The next incarnation of the process of `old`, which was superseded: `id` takes over the copies that it kept.
    pub(crate) fn resume(&mut self, old: u64, id: u64, lock: &str) {
        let kept = self.nodes.remove(&old).unwrap().core.into_kept().expect("it was an owner");
        let setup = self.setup(id, lock, "b", Some(MemberId(old)));
        let store = Arc::clone(kept.store());
        let core = Core::resume(setup, kept, self.now);
        self.add(id, core, store);
    }

    /// A node on the same machine id, after the boot `boot`.
    pub(crate) fn start_on_boot(&mut self, id: u64, lock: &str, boot: &str) {
        let setup = self.setup(id, lock, boot, None);
        let store = Arc::new(Map::bounded(self.bounds));
        let core = Core::new(setup, Arc::clone(&store), self.now);
        self.add(id, core, store);
    }

    fn add(&mut self, id: u64, core: Core<Map>, store: Arc<Map>) {
        let node = Node { core, store, notices: Vec::new(), left: false, superseded: false, down: false };
        self.nodes.insert(id, node);
    }

    fn setup(&mut self, id: u64, lock: &str, boot: &str, formerly: Option<MemberId>) -> Setup {
        self.started += 1;
        let identity = PlatformIdentity::Host { machine: "m".into(), boot: boot.into(), lock: lock.into() };
        self.identities.insert(id, identity.clone());
        let port = u16::try_from(id).unwrap();
        let member = Member {
            id: MemberId(id),
            name: format!("n{id}"),
            identity,
            incarnation: self.started,
            data_address: ([127, 0, 0, 1], port).into(),
            failure_detection_address: ([127, 0, 0, 1], port).into(),
            locality: Locality::default(),
            protocols: (1, 1),
            joined: 0,
        };
        let cache = |(i, r): (usize, &Replicas)| AgreedCache { name: format!("c{i}"), replicas: *r };
        let caches = self.replicas.iter().enumerate().map(cache).collect();
        let agreed = Agreed { segments: 4, hash: HASH_RULE.into(), caches, timing: Timing::default() };
        Setup {
            me: member,
            exclusive: true,
            joins: true,
            agreed,
            creates: Some(ClusterUid(7)),
            formerly,
            limits: self.limits,
            seed: id,
            bugs: self.bugs,
        }
    }

    pub(crate) fn view(&self, id: u64) -> Option<Arc<View>> {
        self.nodes[&id].core.snapshot(self.now).view
    }

    /// The primary of a key, as the first member sees it.
    pub(crate) fn primary_of(&self, key: &str) -> MemberId {
        let segment = sidegrid_core::SegmentId::of(key.as_bytes(), 4);
        self.view(1).and_then(|v| v.primary(sidegrid_core::GroupId::new(0, segment, 4))).unwrap()
    }

    /// The owners of a key of the first cache, as the first member sees it.
    pub(crate) fn owners_of(&self, key: &str) -> Vec<u64> {
        let (view, segment) = (self.view(1).unwrap(), sidegrid_core::SegmentId::of(key.as_bytes(), 4));
        let placed = view.placement(sidegrid_core::GroupId::new(0, segment, 4));
        placed.owners.iter().map(|&i| view.members[usize::from(i)].id.0).collect()
    }

    pub(crate) fn has_lease(&self, id: u64) -> bool {
        self.nodes[&id].core.gate().has_lease(self.now)
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        for other in self.nodes.keys().filter(|other| **other != id) {
            self.cut.extend([(id, *other), (*other, id)]);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The data connections between two members break and can't be made again; pings go on.
    pub(crate) fn cut_data(&mut self, one: u64, other: u64) {
        for (at, peer) in [(one, other), (other, one)] {
            self.data_cut.insert((at, peer));
            self.step(at, Event::Unreachable { peer: MemberId(peer), port: Port::Data });
        }
    }

    pub(crate) fn crash(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().down = true;
        let others: Vec<u64> = self.alive().into_iter().filter(|o| *o != id).collect();
        for other in others {
            self.unreachable(other, id);
        }
    }

    /// `at` loses both connections to `peer`, and can't make them again.
    pub(crate) fn unreachable(&mut self, at: u64, peer: u64) {
        for port in [Port::Data, Port::FailureDetection] {
            self.step(at, Event::Unreachable { peer: MemberId(peer), port });
        }
    }

    pub(crate) fn alive(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, n)| !n.down && !n.superseded).map(|(id, _)| *id).collect()
    }

    /// Steps until every live member has one view, nobody is filling, and all have leases.
    pub(crate) fn settle(&mut self) {
        self.until("settled", |w| {
            let alive = w.alive();
            let views: Vec<_> = alive.iter().filter_map(|id| w.view(*id)).collect();
            views.len() == alive.len()
                && views.iter().all(|v| v.number == views[0].number && v.groups.iter().all(|g| g.incoming.is_empty()))
                && views[0].members.len() == alive.len()
                && alive.iter().all(|id| w.has_lease(*id))
        });
        self.run(Duration::from_millis(1_000));
    }

    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&World) -> bool) -> Duration {
        let began = self.now;
        while !holds(self) {
            assert!(self.now.since(began) < Duration::from_secs(30), "not in time: {what}");
            self.millisecond();
        }
        self.now.since(began)
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.millisecond();
        }
    }

    fn millisecond(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let pings = (self.now.as_nanos() / 1_000_000).is_multiple_of(50);
        for id in self.alive() {
            if pings {
                self.ping(id);
            }
            if self.nodes[&id].core.next_turn(self.now) <= self.now {
                self.ticks += 1;
                self.step(id, Event::Tick);
            }
        }
        self.deliver();
    }

    fn ping(&mut self, from: u64) {
        let now = self.now;
        let Some(ping) = self.nodes[&from].core.lease().ping(now) else { return };
        for to in self.alive().into_iter().filter(|to| *to != from) {
            if self.cut.contains(&(from, to)) {
                continue;
            }
            let heard = self.nodes[&to].core.lease().on_ping(now, MemberId(from), ping);
            self.heard(to, from, ping);
            if let Some(answer) = heard.answer.filter(|_| !self.cut.contains(&(to, from))) {
                self.nodes[&from].core.lease().on_ping(now, MemberId(to), answer);
                self.heard(from, to, answer);
            }
        }
    }

    fn heard(&mut self, at: u64, from: u64, ping: Ping) {
        let (view, confirmed_past) = (ping.view, ping.confirmed_past);
        self.step(at, Event::Heard { from: MemberId(from), view, confirmed_past });
    }

    fn deliver(&mut self) {
        self.queue.extend(self.links.arrived(self.now));
        while let Some((from, to, envelope)) = self.queue.pop_front() {
            if (self.keep)(&envelope.message) {
                self.kept.push((from, to, envelope));
            } else {
                self.pass(from, to, envelope);
            }
        }
    }

    /// Hands a message over, if the link stands and its receiver lives.
    pub(crate) fn pass(&mut self, from: u64, to: u64, envelope: Envelope) {
        let cut = self.cut.contains(&(from, to)) || self.data_cut.contains(&(from, to));
        if self.alive().contains(&to) && !cut {
            self.step(to, Event::Message { from: MemberId(from), envelope });
        }
    }

    pub(crate) fn release_kept(&mut self) {
        self.keep = |_| false;
        for (from, to, envelope) in std::mem::take(&mut self.kept) {
            self.pass(from, to, envelope);
        }
        self.deliver();
    }

    pub(crate) fn step(&mut self, id: u64, event: Event) {
        let mut effects = Vec::new();
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| !n.down) else { return };
        node.core.step(now, event, &mut effects);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: u64, effect: Effect) {
        match effect {
            Effect::Send { to, envelope } if self.links.are_limited() => self.links.push(self.now, id, to.0, envelope),
            Effect::Send { to, envelope } => self.queue.push_back((id, to.0, envelope)),
            Effect::Peers(peers) => {
                for peer in peers {
                    if self.alive().contains(&peer.id.0) && !self.cut.contains(&(id, peer.id.0)) {
                        self.step(id, Event::Reached { peer: peer.id });
                    }
                }
            }
            Effect::Registry { call, request } => {
                if let Some(answer) = self.ask(id, request) {
                    self.step(id, Event::Registry { call, answer });
                }
            }
            Effect::Republish { view, document } => self.republished.push((id, view, document)),
            Effect::Reply { ticket, result } => {
                self.replies.insert(ticket.0, result);
            }
            Effect::PingNow => self.ping(id),
            Effect::Superseded => self.node(id).superseded = true,
            Effect::Left => self.node(id).left = true,
            Effect::JoinRefused(why) => self.refused.push((id, why)),
            Effect::Notice(notice) => self.node(id).notices.push(notice),
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// The registry's answer, if one comes.
    fn ask(&mut self, id: u64, request: RegistryCall) -> Option<RegistryAnswer> {
        if self.registry_silent.contains(&id) {
            return None;
        }
        if !self.registry_up || self.registry_refuses.contains(&id) {
            return Some(RegistryAnswer::Failed);
        }
        let (expected, next) = match request {
            RegistryCall::Read => return Some(RegistryAnswer::Document(self.registry.clone())),
            RegistryCall::Create(next) => (None, next),
            RegistryCall::Swap { expected, next } => (Some(expected), next),
        };
        if self.registry.as_ref().map(|d| d.expected()) != expected {
            return Some(RegistryAnswer::Conflict(self.registry.clone()));
        }
        self.check_rights(id, &next);
        self.swaps.push(Arc::clone(&next));
        self.registry = Some(next);
        Some(RegistryAnswer::Swapped)
    }

    /// G-5: a registry that authenticates its callers would let every change be made that cores ask for.
    fn check_rights(&self, id: u64, next: &Document) {
        let caller = Caller { member: MemberId(id), identity: self.identities[&id].clone() };
        let checked = match &self.registry {
            Some(present) => rights::check_change(&caller, present, next, &|_| true),
            None => rights::check_creation(&caller, next),
        };
        assert_eq!(checked, Ok(()), "by {id}: {next:?}");
    }

    pub(crate) fn submit(&mut self, id: u64, key: &str, kind: OperationKind) -> u64 {
        self.submit_to(0, id, key, kind)
    }

    pub(crate) fn submit_to(&mut self, cache: u16, id: u64, key: &str, kind: OperationKind) -> u64 {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.enter(id, Operation { cache: CacheId(cache), key, kind, idempotency: None })
    }

    pub(crate) fn submit_with(
        &mut self,
        id: u64,
        key: &str,
        kind: OperationKind,
        idempotency: Option<Idempotency>,
    ) -> u64 {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.enter(id, Operation { cache: CacheId(0), key, kind, idempotency })
    }

    fn enter(&mut self, id: u64, operation: Operation) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let deadline = self.now + Duration::from_secs(5);
        self.step(id, Event::Submit { ticket: Ticket(ticket), operation, deadline });
        self.deliver();
        ticket
    }

    /// The members of the view that `id` has installed.
    pub(crate) fn members(&self, id: u64) -> Vec<u64> {
        self.view(id).iter().flat_map(|v| v.ids()).map(|id| id.0).collect()
    }

    pub(crate) fn told(&self, ticket: u64) -> Option<Told> {
        self.replies.get(&ticket).cloned()
    }

    pub(crate) fn ask_and_wait(&mut self, id: u64, key: &str, kind: OperationKind) -> Told {
        let ticket = self.submit(id, key, kind);
        self.until("an answer", |w| w.told(ticket).is_some());
        self.told(ticket).unwrap()
    }

    pub(crate) fn put(&mut self, id: u64, key: &str, value: &str) {
        let told = self.ask_and_wait(id, key, put(value));
        assert!(matches!(told.as_ref().map(|a| &a.outcome), Ok(Outcome::Stored { .. })), "{told:?}");
    }

    pub(crate) fn get(&mut self, id: u64, key: &str) -> Option<String> {
        match self.ask_and_wait(id, key, OperationKind::Get).unwrap().outcome {
            Outcome::Found(entry) => Some(String::from_utf8(entry.value.to_vec()).unwrap()),
            Outcome::Absent => None,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn put(value: &str) -> OperationKind {
    OperationKind::Put {
        value: Bytes::copy_from_slice(value.as_bytes()),
        content_type: None,
        ttl: None,
        condition: Condition::Always,
        return_previous: false,
    }
}
