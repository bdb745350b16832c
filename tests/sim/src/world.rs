//! The world: nodes, links, registry and apps under one queue of events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sidegrid_core::document::{Agreed, AgreedCache, HASH_RULE};
use sidegrid_core::event::{Effect, Effects, Event};
use sidegrid_core::limits::Limits;
use sidegrid_core::planted_bug::{Bug, Bugs};
use sidegrid_core::{ClusterUid, GroupId, MemberId};

use crate::checkers::Checkers;
use crate::clock::{Clock, Instant, MAX_RATE_PPM, MS, SEC};
use crate::coverage::Coverage;
use crate::faults::InjectedFault;
use crate::history::{History, KeyIndex};
use crate::network::Network;
use crate::node::{Node, Thread, node_of};
use crate::profile::{END, HEALED, LATEST_END, Profile};
use crate::queue::{Queue, What};
use crate::registry::Registry;
use crate::report::{Statistics, Violation};
use crate::rng::Rng;
use crate::standing::{SLOWER, StandingFault};
use crate::trace::Trace;
use crate::workload::App;

/// Between two looks of the checkers.
const SAMPLE: u64 = 20 * MS;

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Making {
    /// The seed.
    pub(crate) seed: u64,
    /// The rule whose schedules are sought; chooses the profile together with the seed.
    pub(crate) aim: Option<Bug>,
    /// Whether that rule is left out.
    pub(crate) planted: bool,
    /// The fault that stands, in a run about one.
    pub(crate) standing: Option<StandingFault>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) making: Making,
    pub(crate) profile: Profile,
    pub(crate) now: Instant,
    pub(crate) queue: Queue,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) registry: Registry,
    pub(crate) apps: Vec<App>,
    pub(crate) history: History,
    pub(crate) checkers: Checkers,
    pub(crate) coverage: Coverage,
    pub(crate) stats: Statistics,
    pub(crate) trace: Option<Trace>,
    pub(crate) violation: Option<Violation>,
    /// Chance in what the world does.
    pub(crate) rng: Rng,
    /// Chance in what the apps do.
    pub(crate) chance: Rng,
    pub(crate) next_value: i64,
    pub(crate) agreed: Agreed,
    pub(crate) limits: Limits,
    /// Incarnations that took over copies, and of which one before in their process (V-9).
    pub(crate) took_over: BTreeMap<MemberId, MemberId>,
    /// Since when groups are vacant.
    pub(crate) vacant_since: BTreeMap<GroupId, Instant>,
    /// Whose end the platform has told.
    pub(crate) platform_said: BTreeSet<MemberId>,
    /// Lost incarnations that nobody has proved dead yet.
    pub(crate) lost: Vec<MemberId>,
    pub(crate) healed: bool,
    /// Faults that wait for the next view, and how long after it they begin.
    pub(crate) armed: Vec<(InjectedFault, u64)>,
    /// Faults that wait for a leaver to stop.
    pub(crate) armed_by_stop: Vec<InjectedFault>,
    /// When something was last done to the links of all.
    pub(crate) last_common_fault: Instant,
    effects: Effects,
}

impl World {
    /// The world of a seed at its beginning.
    pub(crate) fn new(making: Making, trace: Option<Trace>) -> World {
        let seed = making.seed;
        let profile = making.standing.map_or_else(|| Profile::of(seed, making.aim), |s| s.profile(seed));
        let mut rng = Rng::new(seed, 1);
        let nodes: Vec<Node> = (0..profile.nodes()).map(|index| make_node(index, &profile, &mut rng)).collect();
        let keys = profile.caches.len() * profile.keys;
        let apps = (0..nodes.len() * profile.apps).map(|i| App::new(i / profile.apps, keys)).collect();
        let agreed = agreed(&profile);
        let mut world = World {
            making,
            now: 0,
            queue: Queue::default(),
            network: Network::new(profile.quality, profile.capacity, Rng::new(seed, 2)),
            registry: Registry::new(Rng::new(seed, 3)),
            apps,
            history: History::default(),
            checkers: Checkers::default(),
            coverage: Coverage::default(),
            stats: Statistics::default(),
            trace,
            violation: None,
            chance: Rng::new(seed, 4),
            next_value: 0,
            limits: limits(&profile),
            agreed,
            took_over: BTreeMap::new(),
            vacant_since: BTreeMap::new(),
            platform_said: BTreeSet::new(),
            lost: Vec::new(),
            healed: false,
            armed: Vec::new(),
            armed_by_stop: Vec::new(),
            last_common_fault: 0,
            effects: Vec::new(),
            nodes,
            rng,
            profile,
        };
        world.registry.compares_little = making.planted && making.aim == Some(Bug::SwapComparesLittle);
        world.schedule_all();
        world
    }

    fn schedule_all(&mut self) {
        let header = format!("{:?}", self.profile);
        self.note(format_args!("{header}"));
        for node in 0..self.nodes.len() {
            let spare = (self.profile.members..self.profile.members + self.profile.spares).contains(&node);
            if !spare {
                // In a run about a standing fault the order of joining is the nodes' order.
                let turn = self.profile.standing.as_ref().map_or(0, |s| node as u64 * s.start_gap);
                let at = turn + self.rng.between(0, 60) * MS;
                self.queue.push(at, What::Start { node, formerly: None });
            }
        }
        for app in 0..self.apps.len() {
            let at = SEC + self.rng.between(0, 500) * MS;
            self.queue.push(at, What::Invoke { app });
        }
        for (index, planned) in self.profile.faults.iter().enumerate() {
            self.queue.push(planned.at, What::InjectedFault { index });
        }
        self.queue.push(SAMPLE, What::Sample);
        self.queue.push(HEALED, What::HealAll);
        self.plan_final_operations();
    }

    /// Runs to the end or to the first violation.
    pub(crate) fn run(&mut self) {
        while self.violation.is_none() {
            let Some((at, what)) = self.queue.pop() else { break };
            if at >= END && (at >= LATEST_END || !self.still_replicates()) {
                break;
            }
            debug_assert!(at >= self.now, "time goes on");
            self.now = at;
            self.stats.events += 1;
            if let Some((node, thread)) = self.place_of(&what)
                && self.nodes[node].holds(thread)
            {
                self.nodes[node].hold(thread, what);
                continue;
            }
            self.happen(what);
        }
        self.now = self.now.max(END);
        if self.violation.is_none() {
            self.check_at_end();
        }
    }

    /// Which node's thread takes an event, if a node takes it.
    fn place_of(&self, what: &What) -> Option<(usize, Thread)> {
        Some(match what {
            What::Tick { node, .. }
            | What::Heard { node, .. }
            | What::Dial { node, .. }
            | What::Broken { node, .. }
            | What::RegistryAnswer { node, .. }
            | What::Drain { node, .. }
            | What::Start { node, .. } => (*node, Thread::Core),
            What::Data { to, .. } => (node_of(*to), Thread::Core),
            What::Ping { to, .. } => (node_of(*to), Thread::Detection),
            What::PingTimer { node, .. } => (*node, Thread::Detection),
            What::Invoke { app } | What::Retry { app, .. } => (self.apps[*app].node, Thread::Core),
            What::RegistryArrive { .. }
            | What::RepublishArrive { .. }
            | What::PlatformWord { .. }
            | What::InjectedFault { .. }
            | What::End(_)
            | What::Sample
            | What::HealAll
            | What::FinalOperation { .. } => return None,
        })
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick { node, id } => self.tick(node, id),
            What::Data { to, from, frame } => self.arrive(to, from, frame),
            What::Ping { to, from, ping } => self.ping_arrives(to, from, ping),
            What::PingTimer { node, id } => self.ping_timer(node, id),
            What::Heard { node, id, from, ping } => {
                if self.lives(node, id) {
                    let (view, confirmed_past) = (ping.view, ping.confirmed_past);
                    self.step(node, Event::Heard { from, view, confirmed_past });
                }
            }
            What::Dial { node, id, peer, attempt } => self.dial(node, id, peer, attempt),
            What::Broken { node, id, peer, attempt } => self.broken(node, id, peer, attempt),
            What::RegistryArrive { node, id, call, request, answer } => {
                self.registry_arrive(node, id, call, &request, answer);
            }
            What::RepublishArrive { id, view, document } => self.republish_arrives(id, view, &document),
            What::RegistryAnswer { node, id, call, answer } => {
                if self.lives(node, id) {
                    self.step(node, Event::Registry { call, answer: *answer });
                }
            }
            What::PlatformWord { dead } => self.platform_word(dead),
            What::Invoke { app } => self.invoke(app),
            What::Retry { app, operation } => self.retry(app, operation),
            What::Start { node, formerly } => self.start(node, formerly),
            What::Drain { node, id } => {
                if self.lives(node, id) {
                    self.step(node, Event::Drain);
                }
            }
            What::InjectedFault { index } => self.begin_fault(index),
            What::End(ending) => self.end_fault(ending),
            What::Sample => {
                self.sample();
                self.queue.push(self.now + SAMPLE, What::Sample);
            }
            What::HealAll => self.heal_all(),
            What::FinalOperation { app, key, write } => self.final_operation(app, key, write),
        }
    }

    /// Whether this incarnation runs.
    pub(crate) fn lives(&self, node: usize, id: MemberId) -> bool {
        self.nodes[node].life.as_ref().is_some_and(|l| l.id == id)
    }

    fn tick(&mut self, node: usize, id: MemberId) {
        let Some(life) = self.nodes[node].life.as_mut().filter(|l| l.id == id && l.tick_at <= self.now) else { return };
        life.tick_at = Instant::MAX;
        let local = self.nodes[node].clock.local(self.now);
        let life = self.nodes[node].life.as_ref().expect("looked at above");
        if life.core.next_turn(local) <= local {
            self.step(node, Event::Tick);
        } else {
            self.schedule_tick(node);
        }
    }

    /// Gives a node's core an event and does what it wants done.
    pub(crate) fn step(&mut self, node: usize, event: Event) {
        let local = self.nodes[node].clock.local(self.now);
        self.trace_event(node, &event);
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(life) = self.nodes[node].life.as_mut() {
            life.core.step(local, event, &mut effects);
        }
        self.check_answers(node, &effects);
        let mut over = false;
        for effect in effects.drain(..) {
            self.trace_effect(node, &effect);
            if over && matches!(effect, Effect::Notice(_)) {
                continue;
            }
            if over {
                self.violated("effects", format!("n{node}: an effect after Superseded: {effect:?}"), None);
                break;
            }
            over = matches!(effect, Effect::Superseded);
            self.carry_out(node, effect);
        }
        self.effects = effects;
        if over {
            self.supersede(node);
        } else {
            self.schedule_tick(node);
        }
    }

    pub(crate) fn schedule_tick(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let Some(life) = n.life.as_mut() else { return };
        let local = n.clock.local(self.now);
        let due = life.core.next_turn(local).min(local + self.limits.tick);
        // Never at this very instant: a core that asks for that again and again would stop the world.
        let at = n.clock.global(due).max(self.now + 1_000);
        if at < life.tick_at {
            life.tick_at = at;
            self.queue.push(at, What::Tick { node, id: life.id });
        }
    }

    /// Lets a thread that was stopped take what waited for it. The two threads race, each keeps its own order.
    pub(crate) fn resume(&mut self, node: usize) {
        let held = std::mem::take(&mut self.nodes[node].held);
        let mut at = [self.now + self.rng.between(0, 3 * MS), self.now + self.rng.between(0, 3 * MS)];
        for (thread, what) in held {
            if self.nodes[node].holds(thread) {
                self.nodes[node].held.push((thread, what));
                continue;
            }
            let at = &mut at[thread as usize];
            *at += 1_000;
            if let What::Tick { id, .. } = what
                && let Some(life) = self.nodes[node].life.as_mut().filter(|l| l.id == id)
            {
                life.tick_at = *at;
            }
            self.queue.push(*at, what);
        }
    }

    /// Ends the run: a checker found something.
    pub(crate) fn violated(&mut self, checker: &'static str, what: String, key: Option<KeyIndex>) {
        self.note(format_args!("VIOLATION {checker}: {what}"));
        if self.violation.is_none() {
            self.violation = Some(Violation { checker, what, at: self.now, key });
        }
    }

    /// A line of the trace that belongs to no node.
    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.line(self.now, None, line);
        }
    }
}

fn make_node(index: usize, profile: &Profile, rng: &mut Rng) -> Node {
    let joins = index < profile.members + profile.spares;
    let rate = rng.between(0, 2 * MAX_RATE_PPM as u64) as i64 - MAX_RATE_PPM;
    let clock = Clock::new(rng.between(10, 100_000) * SEC, rate);
    Node::new(index, clock, joins, profile.pods)
}

fn agreed(profile: &Profile) -> Agreed {
    let caches = profile.caches.iter().enumerate();
    Agreed {
        segments: profile.segments,
        hash: HASH_RULE.into(),
        caches: caches.map(|(i, r)| AgreedCache { name: format!("c{i}"), replicas: *r }).collect(),
        timing: profile.timing,
    }
}

fn limits(profile: &Profile) -> Limits {
    if profile.value_bytes > 0 {
        // As much smaller than usual as the links are slower than a gigabit.
        let usual = Limits::default();
        return Limits {
            window_start_bytes: usual.window_start_bytes / SLOWER,
            window_least_bytes: usual.window_least_bytes / SLOWER,
            window_most_bytes: usual.window_most_bytes / SLOWER,
            transfer_chunk_bytes: usual.transfer_chunk_bytes / SLOWER,
            ..usual
        };
    }
    let ordinary = Limits {
        operations_in_flight: 256,
        pending_writes_per_group: 64,
        pending_bytes: 1 << 20,
        transfer_chunk_bytes: if profile.chunky { 1 } else { 256 << 10 },
        transfers: if profile.chunky { 1 } else { 16 },
        keyed_result_life: Duration::from_secs(45),
        clients: 64,
        ..Limits::default()
    };
    if !profile.tight {
        return ordinary;
    }
    Limits { operations_in_flight: 3, pending_writes_per_group: 2, removals_per_turn: 1, ..ordinary }
}

impl World {
    /// The cluster's identity, known to all from their certificates.
    pub(crate) fn cluster(&self) -> ClusterUid {
        ClusterUid(u128::from(self.making.seed) + 1)
    }

    /// The bugs planted in every core.
    pub(crate) fn bugs(&self) -> Bugs {
        self.making.aim.filter(|_| self.making.planted).map_or_else(Bugs::default, Bugs::plant)
    }
}
