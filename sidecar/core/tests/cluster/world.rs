//! A few cores, a registry and links that a test can cut, in steps of one millisecond.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::core::{Core, Setup};
use sidegrid_core::document::{Agreed, AgreedCache, Document, HASH_RULE, Timing};
use sidegrid_core::event::{Notice, RegistryAnswer, RegistryCall, Ticket};
use sidegrid_core::limits::Limits;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::message::{Envelope, Message, Ping};
use sidegrid_core::operation::{Answer, Condition, Operation, OperationKind, Outcome, Refusal};
use sidegrid_core::planted_bug::Bugs;
use sidegrid_core::view::{Replicas, View};
use sidegrid_core::{CacheId, ClusterUid, Effect, Event, MemberId, Time, ViewNumber};

use crate::map::Map;

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

/// All nodes, by id.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) registry: Option<Arc<Document>>,
    pub(crate) registry_up: bool,
    /// Swaps done.
    pub(crate) swaps: Vec<Arc<Document>>,
    /// What members told a registry that is behind: who, which view, which document.
    pub(crate) republished: Vec<(u64, ViewNumber, Arc<Document>)>,
    /// Links on which nothing passes, from and to.
    pub(crate) cut: BTreeSet<(u64, u64)>,
    /// Messages kept back, for the test to look at or let go.
    pub(crate) kept: Vec<(u64, u64, Envelope)>,
    pub(crate) keep: fn(&Message) -> bool,
    queue: VecDeque<(u64, u64, Envelope)>,
    replies: BTreeMap<u64, Told>,
    replicas: Replicas,
    bugs: Bugs,
    tickets: u64,
    started: u64,
}

impl World {
    /// A cluster of `size` members that have settled, with one cache.
    pub(crate) fn of(size: u64, replicas: Replicas) -> World {
        World::with_bugs(size, replicas, Bugs::default())
    }

    /// The same, with a rule left out by every member.
    pub(crate) fn with_bugs(size: u64, replicas: Replicas, bugs: Bugs) -> World {
        let mut world = World {
            now: Time::from_nanos(1_000_000_000),
            nodes: BTreeMap::new(),
            registry: None,
            registry_up: true,
            swaps: Vec::new(),
            republished: Vec::new(),
            cut: BTreeSet::new(),
            kept: Vec::new(),
            keep: |_| false,
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            replicas,
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
        self.started += 1;
        let identity = PlatformIdentity::Host { machine: "m".into(), boot: "b".into(), lock: lock.into() };
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
        let agreed = Agreed {
            segments: 4,
            hash: HASH_RULE.into(),
            caches: vec![AgreedCache { name: "c".into(), replicas: self.replicas }],
            timing: Timing::default(),
        };
        let store = Arc::new(Map::default());
        let setup = Setup {
            me: member,
            exclusive: true,
            joins: true,
            agreed,
            creates: Some(ClusterUid(7)),
            formerly: None,
            limits: Limits::default(),
            seed: id,
            bugs: self.bugs,
        };
        let core = Core::new(setup, Arc::clone(&store), self.now);
        let node = Node { core, store, notices: Vec::new(), left: false, superseded: false, down: false };
        self.nodes.insert(id, node);
    }

    pub(crate) fn view(&self, id: u64) -> Option<Arc<View>> {
        self.nodes[&id].core.snapshot(self.now).view
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

    pub(crate) fn crash(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().down = true;
        let others: Vec<u64> = self.alive().into_iter().filter(|o| *o != id).collect();
        for other in others {
            self.step(other, Event::Unreachable { peer: MemberId(id) });
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
        if self.alive().contains(&to) && !self.cut.contains(&(from, to)) {
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
            Effect::Send { to, envelope } => self.queue.push_back((id, to.0, envelope)),
            Effect::Peers(peers) => {
                for peer in peers {
                    if self.alive().contains(&peer.id.0) && !self.cut.contains(&(id, peer.id.0)) {
                        self.step(id, Event::Reached { peer: peer.id });
                    }
                }
            }
            Effect::Registry { call, request } => {
                let answer = self.ask(request);
                self.step(id, Event::Registry { call, answer });
            }
            Effect::Republish { view, document } => self.republished.push((id, view, document)),
            Effect::Reply { ticket, result } => {
                self.replies.insert(ticket.0, result);
            }
            Effect::PingNow => self.ping(id),
            Effect::Superseded => self.node(id).superseded = true,
            Effect::Left => self.node(id).left = true,
            Effect::JoinRefused(_) => {}
            Effect::Notice(notice) => self.node(id).notices.push(notice),
        }
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    fn ask(&mut self, request: RegistryCall) -> RegistryAnswer {
        if !self.registry_up {
            return RegistryAnswer::Failed;
        }
        let (expected, next) = match request {
            RegistryCall::Read => return RegistryAnswer::Document(self.registry.clone()),
            RegistryCall::Create(next) => (None, next),
            RegistryCall::Swap { expected, next } => (Some(expected), next),
        };
        if self.registry.as_ref().map(|d| d.expected()) != expected {
            return RegistryAnswer::Conflict(self.registry.clone());
        }
        self.swaps.push(Arc::clone(&next));
        self.registry = Some(next);
        RegistryAnswer::Swapped
    }

    pub(crate) fn submit(&mut self, id: u64, key: &str, kind: OperationKind) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let operation =
            Operation { cache: CacheId(0), key: Bytes::copy_from_slice(key.as_bytes()), kind, idempotency: None };
        let deadline = self.now + Duration::from_secs(5);
        self.step(id, Event::Submit { ticket: Ticket(ticket), operation, deadline });
        self.deliver();
        ticket
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
