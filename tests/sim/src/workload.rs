//! The apps: each asks for one thing at a time, of few keys, and writes values that nobody else writes.

use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::event::{Event, Ticket};
use sidegrid_core::gate::GateRead;
use sidegrid_core::operation as op;
use sidegrid_core::operation::{Answer, Condition, OperationKind, Refusal};
use sidegrid_core::storage::CacheKey;
use sidegrid_core::view::Replicas;
use sidegrid_core::{CacheId, GroupId, SegmentId, Version};
use smallvec::smallvec;

use crate::clock::{Instant, MS};
use crate::history::{Asked, KeyIndex, Operation, Seen, Told, When, text_of};
use crate::profile::{APPS_STOP, FINAL};
use crate::queue::What;
use crate::world::World;

/// Between two operations at the end of one node, so that even the tightest bound lets them through.
const FINAL_GAP: u64 = 80 * MS;

/// One app.
#[derive(Debug)]
pub(crate) struct App {
    /// The node whose sidecar it talks to.
    pub(crate) node: usize,
    /// The last value it saw of each key, by cache and key.
    seen: Vec<Option<Version>>,
}

/// The name of a key.
pub(crate) fn key_name(key: KeyIndex) -> Bytes {
    Bytes::from(format!("k{}", key.key))
}

/// The group of a key.
pub(crate) fn group_of(key: KeyIndex, caches: &[Replicas], segments: u16) -> GroupId {
    let mut classes = caches.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let class = classes.iter().position(|c| *c == caches[usize::from(key.cache)]).unwrap_or(0);
    GroupId::new(class, SegmentId::of(&key_name(key), segments), segments)
}

impl App {
    /// An app at a node, in a run with so many keys.
    pub(crate) fn new(node: usize, keys: usize) -> App {
        App { node, seen: vec![None; keys] }
    }
}

impl World {
    fn slot(&self, key: KeyIndex) -> usize {
        usize::from(key.cache) * self.profile.keys + usize::from(key.key)
    }

    /// Whether the key is the counter of its cache.
    pub(crate) fn is_counter(&self, key: KeyIndex) -> bool {
        usize::from(key.key) + 1 == self.profile.keys
    }

    /// An app makes its next operation.
    pub(crate) fn invoke(&mut self, app: usize) {
        if self.now >= APPS_STOP {
            return;
        }
        let node = self.apps[app].node;
        if self.nodes[node].life.is_none() {
            if !self.nodes[node].lost {
                let pause = self.chance.between(20, 120) * MS;
                self.queue.push(self.now + pause, What::Invoke { app });
            }
            return;
        }
        let key = KeyIndex {
            cache: self.chance.index(self.profile.caches.len()) as u16,
            key: self.chance.index(self.profile.keys) as u16,
        };
        let asked = self.choose(app, key);
        self.ask(app, key, asked, false);
    }

    /// Makes an operation and sends its first attempt.
    pub(crate) fn ask(&mut self, app: usize, key: KeyIndex, asked: Asked, last: bool) {
        let operation = self.history.operations.len();
        // Keys take room for long after, and in the end nothing may be refused.
        let repeatable = !matches!(asked, Asked::Get) && !self.healed && self.chance.percent(40);
        self.history.operations.push(Operation {
            key,
            group: group_of(key, &self.profile.caches, self.profile.segments),
            asked,
            invoked: self.now,
            returned: Instant::MAX,
            told: Told::Unknown,
            node: self.apps[app].node,
            attempts: 0,
            doubtful: false,
            repeatable,
            last,
        });
        self.stats.operations += 1;
        self.attempt(app, operation);
    }

    fn choose(&mut self, app: usize, key: KeyIndex) -> Asked {
        let roll = self.chance.below(100);
        if self.is_counter(key) {
            return if roll < 35 {
                Asked::Get
            } else {
                Asked::Increment { by: self.chance.between(1, 1_000_000) as i64 }
            };
        }
        self.next_value += 1;
        let value = self.next_value;
        let etag = self.apps[app].seen[self.slot(key)];
        let previous = self.chance.percent(40);
        let matches = etag.map_or(When::Present, When::Matches);
        match roll {
            0..=44 => Asked::Get,
            45..=59 => Asked::Put { value, ttl: None, when: When::Always, previous },
            60..=64 => {
                let ttl = Duration::from_millis(self.chance.between(50, 3000));
                Asked::Put { value, ttl: Some(ttl), when: When::Always, previous }
            }
            65..=74 => Asked::Put { value, ttl: None, when: When::Absent, previous },
            75..=85 => Asked::Put { value, ttl: None, when: matches, previous },
            86..=93 => Asked::Delete { when: When::Always, previous },
            94..=97 => Asked::Delete { when: matches, previous },
            _ => Asked::Touch { ttl: Duration::from_millis(self.chance.between(500, 4000)) },
        }
    }

    /// Sends an attempt of an operation.
    pub(crate) fn attempt(&mut self, app: usize, operation: usize) {
        let node = self.apps[app].node;
        let record = &mut self.history.operations[operation];
        record.attempts += 1;
        let cache_key = CacheKey { cache: CacheId(record.key.cache), key: key_name(record.key) };
        let (group, is_read, last) = (record.group, matches!(record.asked, Asked::Get), record.last);
        let local = self.nodes[node].clock.local(self.now);
        let Some(life) = self.nodes[node].life.as_ref() else {
            self.after_attempt(app, operation, Told::Unknown);
            return;
        };
        if is_read && !last && self.chance.percent(60) {
            match life.gate.read(&*life.store, group, &cache_key, || local) {
                GateRead::Found(view) => {
                    self.coverage.hit("R-1");
                    self.traced_read(node, &cache_key, "found by the gate");
                    let told = Told::of(&op::Outcome::Found(view));
                    return self.after_attempt(app, operation, told);
                }
                GateRead::Absent => {
                    self.coverage.hit("R-1");
                    self.traced_read(node, &cache_key, "absent by the gate");
                    return self.after_attempt(app, operation, Told::Absent);
                }
                GateRead::AskCore => self.coverage.hit("R-2"),
            }
        }
        let life = self.nodes[node].life.as_mut().expect("looked at above");
        life.next_ticket += 1;
        let ticket = Ticket(life.next_ticket);
        life.waiting.push((ticket, app, operation));
        let event = self.submission(node, operation, ticket);
        self.step(node, event);
    }

    fn submission(&mut self, node: usize, operation: usize, ticket: Ticket) -> Event {
        let patience =
            if self.chance.percent(70) { self.chance.between(1500, 5000) } else { self.chance.between(100, 900) };
        let record = &self.history.operations[operation];
        // Nothing may still be under way when the run ends.
        let patience = if record.last || self.healed { patience.min(2000) } else { patience };
        let kind = kind_of(&record.asked, self.profile.value_bytes);
        let idempotency =
            record.repeatable.then(|| op::Idempotency::new(0x5eed_0000_u128 + operation as u128, &kind, None));
        let asked = op::Operation { cache: CacheId(record.key.cache), key: key_name(record.key), kind, idempotency };
        let deadline = self.nodes[node].clock.local(self.now) + Duration::from_millis(patience);
        Event::Submit { ticket, operation: asked, deadline }
    }

    /// Takes a core's reply.
    pub(crate) fn reply(&mut self, node: usize, ticket: Ticket, result: Result<Answer, Refusal>) {
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let Some(place) = life.waiting.iter().position(|(t, ..)| *t == ticket) else {
            let what = format!("a reply to {ticket:?}, which nobody waits for (told twice?): {result:?}");
            return self.violated("replies", what, None);
        };
        let (_, app, operation) = life.waiting.swap_remove(place);
        let told = match &result {
            Ok(answer) => Told::of(&answer.outcome),
            Err(refusal) => {
                self.coverage.refusal(refusal);
                Told::refused(refusal.reason, refusal.applied)
            }
        };
        if matches!(told, Told::Nonsense(_)) {
            self.violated("replies", format!("nonsense: {told:?}"), Some(self.history.operations[operation].key));
        }
        self.after_attempt(app, operation, told);
    }

    /// An attempt is over: repeats the operation where that is safe, else tells the app.
    pub(crate) fn after_attempt(&mut self, app: usize, operation: usize, told: Told) {
        let record = &mut self.history.operations[operation];
        let uncertain = matches!(told, Told::Unknown);
        let refused = matches!(told, Told::Refused(_));
        record.doubtful |= uncertain;
        if record.repeatable && (uncertain || refused) && record.attempts < 3 && self.now < APPS_STOP {
            let pause = self.chance.between(1, 400) * MS;
            self.queue.push(self.now + pause, What::Retry { app, operation });
            return;
        }
        // A refusal tells of its own attempt only.
        let told = if refused && record.doubtful { Told::Unknown } else { told };
        if !matches!(told, Told::Unknown) {
            record.returned = self.now;
        }
        record.told = told;
        let record = &self.history.operations[operation];
        match &record.told {
            Told::Unknown => self.stats.unknown += 1,
            Told::Refused(_) => self.stats.refused += 1,
            _ => {}
        }
        let (last, slot, observed) = (record.last, self.slot(record.key), seen_by(record));
        if let Some(seen) = observed {
            self.apps[app].seen[slot] = Some(seen.etag);
        }
        if !last {
            let think = self.chance.between(1, 2 * self.profile.think);
            self.queue.push(self.now + think, What::Invoke { app });
        }
    }

    /// Repeats an operation, at any node that runs.
    pub(crate) fn retry(&mut self, app: usize, operation: usize) {
        if self.now >= APPS_STOP {
            return;
        }
        if self.chance.percent(40) {
            let nodes = self.nodes.len();
            let moved = self.chance.index(nodes);
            if self.nodes[moved].life.is_some() && !self.nodes[moved].is_held() {
                let home = std::mem::replace(&mut self.apps[app].node, moved);
                self.attempt(app, operation);
                self.apps[app].node = home;
                return;
            }
        }
        self.attempt(app, operation);
    }

    /// Plans that every node is asked for every key at the end, one after the other, and writes the counters.
    pub(crate) fn plan_final_operations(&mut self) {
        let keys: Vec<KeyIndex> = self.keys().collect();
        for app in (0..self.apps.len()).step_by(self.profile.apps) {
            let mut at = FINAL;
            for &key in &keys {
                self.queue.push(at, What::FinalOperation { app, key, write: false });
                self.queue.push(at + FINAL_GAP / 2, What::FinalOperation { app, key, write: true });
                at += FINAL_GAP;
            }
        }
    }

    /// A node is asked for a key; it may not refuse any more.
    pub(crate) fn final_operation(&mut self, app: usize, key: KeyIndex, write: bool) {
        if self.nodes[self.apps[app].node].life.is_none() {
            return;
        }
        if !write {
            self.ask(app, key, Asked::Get, true);
        } else if self.is_counter(key) {
            let by = self.chance.between(1, 1_000_000) as i64;
            self.ask(app, key, Asked::Increment { by }, true);
        }
    }

    /// All keys of the run.
    pub(crate) fn keys(&self) -> impl Iterator<Item = KeyIndex> + use<> {
        let (caches, keys) = (self.profile.caches.len() as u16, self.profile.keys as u16);
        (0..caches).flat_map(move |cache| (0..keys).map(move |key| KeyIndex { cache, key }))
    }
}

fn seen_by(record: &Operation) -> Option<Seen> {
    match (&record.told, &record.asked) {
        (Told::Found(seen), _) => Some(*seen),
        (Told::Stored { etag, .. }, Asked::Put { value, .. }) => Some(Seen { value: *value, etag: *etag }),
        _ => None,
    }
}

fn condition_of(when: When) -> Condition {
    match when {
        When::Always => Condition::Always,
        When::Absent => Condition::Absent,
        When::Present => Condition::Present,
        When::Matches(etag) => Condition::Matches(smallvec![etag]),
    }
}

fn kind_of(asked: &Asked, value_bytes: usize) -> OperationKind {
    match asked {
        Asked::Get => OperationKind::Get,
        Asked::Put { value, ttl, when, previous } => OperationKind::Put {
            value: Bytes::from(text_of(*value, value_bytes)),
            content_type: None,
            ttl: *ttl,
            condition: condition_of(*when),
            return_previous: *previous,
        },
        Asked::Delete { when, previous } => {
            OperationKind::Delete { condition: condition_of(*when), return_previous: *previous }
        }
        Asked::Touch { ttl } => OperationKind::Touch { ttl: Some(*ttl), condition: Condition::Always },
        Asked::Increment { by } => OperationKind::Increment { by: *by, initial: 0, ttl: None },
    }
}
