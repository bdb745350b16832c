//! What happens to operations, writes and copies: one [`group::Group`] for each replica group, and the origin of this
//! node's own app.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::gate::Gate;
use crate::ids::{GroupId, MemberId, SegmentId, Version};
use crate::message::Message;
use crate::operation::{Answer, OperationId, Outcome, Refusal};
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Record, Storage, StoredEntry};
use crate::time::Time;
use crate::view::{Replicas, View};

mod group;
mod install;
mod intake;
mod kept;
mod links;
pub(crate) mod origin;
mod owner;
mod primary;
mod promotion;
mod reads;
mod result_budget;
mod results;
mod transfer;
mod upkeep;
mod window;

use group::{Group, Role};
use intake::Intake;
pub use kept::Kept;
use links::Links;
use result_budget::ResultBudget;
use upkeep::Upkeep;

/// The data half of the core.
#[derive(Debug)]
pub(crate) struct Data<S: Storage> {
    pub(crate) store: Arc<S>,
    gate: Arc<Gate>,
    segments: u16,
    /// Class of each cache, by its id.
    cache_class: Vec<usize>,
    view: Option<Arc<View>>,
    groups: Vec<Group>,
    /// What is outstanding to the other copies of the groups led here.
    links: Links,
    /// Bytes of all pending writes.
    pending_bytes: usize,
    /// Groups whose watermark moved and whose other copies were not told yet.
    stable_due: BTreeSet<GroupId>,
    stable_at: Option<Time>,
    /// Answers to this node's own operations, for the origin.
    answers: Vec<(OperationId, u32, Result<Answer, Refusal>)>,
    /// Groups whose transfer to this node runs.
    filling: BTreeSet<GroupId>,
    next_transfer: u64,
    /// What is under way into each cache.
    intake: Intake,
    /// What remembered results take.
    result_budget: ResultBudget,
    /// What is to be removed.
    upkeep: Upkeep,
    resend_at: Time,
    reviewed: Time,
}

/// Who is to be told of an operation's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    from: MemberId,
    id: OperationId,
    attempt: u32,
}

impl<S: Storage> Data<S> {
    pub(crate) fn new(
        store: Arc<S>,
        gate: Arc<Gate>,
        classes: &[Replicas],
        caches: &[Replicas],
        segments: u16,
    ) -> Data<S> {
        let count = classes.len() * usize::from(segments);
        let class_of = |r: &Replicas| classes.iter().position(|c| c == r).unwrap_or(0);
        Data {
            store,
            gate,
            segments,
            cache_class: caches.iter().map(class_of).collect(),
            view: None,
            groups: (0..count).map(|i| Group::new(GroupId(u32::try_from(i).unwrap_or(u32::MAX)))).collect(),
            links: Links::default(),
            pending_bytes: 0,
            stable_due: BTreeSet::new(),
            stable_at: None,
            answers: Vec::new(),
            filling: BTreeSet::new(),
            next_transfer: 0,
            intake: Intake::default(),
            result_budget: ResultBudget::default(),
            upkeep: Upkeep::default(),
            resend_at: Time::ZERO,
            reviewed: Time::ZERO,
        }
    }

    /// The group of a key.
    pub(crate) fn group_of(&self, key: &CacheKey) -> Option<GroupId> {
        let class = *self.cache_class.get(usize::from(key.cache.0))?;
        Some(GroupId::new(class, SegmentId::of(&key.key, self.segments), self.segments))
    }

    pub(crate) fn take_answers(&mut self) -> Vec<(OperationId, u32, Result<Answer, Refusal>)> {
        std::mem::take(&mut self.answers)
    }

    fn has_lease(&self, now: Time) -> bool {
        self.gate.has_lease(now)
    }

    fn answer(&mut self, cx: &mut StepContext<'_>, asker: Asker, outcome: Outcome) {
        let hops = u8::from(asker.from != cx.me);
        self.conclude(cx, asker, Ok(Answer { outcome, owner: cx.me, hops }));
    }

    fn conclude(&mut self, cx: &mut StepContext<'_>, asker: Asker, result: Result<Answer, Refusal>) {
        if asker.from == cx.me {
            self.answers.push((asker.id, asker.attempt, result));
        } else {
            cx.send(asker.from, Message::Forwarded { id: asker.id, attempt: asker.attempt, result });
        }
    }

    /// Takes a data message; its sender's view is this node's own.
    pub(crate) fn on_message(&mut self, cx: &mut StepContext<'_>, from: MemberId, message: Message) {
        match message {
            Message::Replicate { group, writes, stable } => self.on_replicate(cx, from, group, writes, stable),
            Message::Replicated { group, versions } => self.on_replicated(cx, from, group, &versions),
            Message::Stable(marks) => {
                for (group, stable) in marks {
                    self.on_stable(cx, from, group, stable);
                }
            }
            Message::StableRequest(groups) => self.on_stable_request(cx, from, &groups),
            Message::Full(caches) => self.on_full(cx, from, caches),
            Message::Evict(evictions) => self.on_evict(cx, evictions),
            Message::Collect { group, above } => self.on_collect(cx, from, group, above),
            Message::Collected { group, above, stable, writes, results } => {
                self.on_collected(cx, from, group, promotion::Collected { above, stable, writes, results });
            }
            Message::Pull { group, transfer, part } => self.on_pull(cx, from, group, transfer, part),
            Message::Part { group, transfer, part, writes, last, results, stable } => {
                let got = transfer::Part { transfer, part, writes, last, results, stable };
                self.on_part(cx, from, group, got);
            }
            Message::PullRefused { group, transfer } => self.on_pull_refused(cx, group, transfer),
            _ => {}
        }
    }

    fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(id.index())
    }

    /// Whether this node is the group's primary, serves, and holds the lease.
    pub(crate) fn serves(&self, group: GroupId, now: Time) -> bool {
        self.has_lease(now) && self.group(group).is_some_and(Group::is_serving)
    }

    pub(crate) fn role_counts(&self) -> crate::snapshot::GroupCounts {
        let mut counts = crate::snapshot::GroupCounts::default();
        for group in &self.groups {
            match &group.role {
                Role::None | Role::Kept => {}
                Role::Owner => counts.owner += 1,
                Role::Incoming(_) => counts.incoming += 1,
                Role::Primary(p) if p.is_serving() => counts.primary += 1,
                Role::Primary(_) => counts.promoting += 1,
            }
        }
        counts
    }

    pub(crate) fn pending(&self) -> (usize, usize) {
        let writes = self.groups.iter().filter_map(Group::primary).map(|p| p.pending.len()).sum();
        (writes, self.pending_bytes)
    }

    /// Puts a record above the watermark into the store and keeps track of it.
    fn apply(&mut self, group: GroupId, key: &CacheKey, version: Version, entry: Option<StoredEntry>) {
        let tombstone = entry.is_none();
        let deadline = entry.as_ref().and_then(|entry| entry.deadline);
        if let Some(deadline) = deadline.filter(|_| matches!(self.groups[group.index()].role, Role::Primary(_))) {
            self.upkeep.expires(group, deadline);
        }
        self.store.put(group, key, Record { version, entry });
        let g = &mut self.groups[group.index()];
        g.counter = g.counter.max(version.counter);
        if version.counter > g.stable.counter {
            g.recent.insert(version.counter, (version, key.clone()));
        } else if tombstone {
            g.tombstones.insert(version.counter, (version, key.clone()));
        }
    }

    /// Moves the group's watermark: records up to it are stable here and everywhere.
    fn advance_stable(&mut self, group: GroupId, stable: Version) {
        let store = Arc::clone(&self.store);
        let g = &mut self.groups[group.index()];
        if stable.counter <= g.stable.counter {
            return;
        }
        g.stable = stable;
        g.counter = g.counter.max(stable.counter);
        while let Some(first) = g.recent.first_entry() {
            if *first.key() > stable.counter {
                break;
            }
            let (counter, (version, key)) = first.remove_entry();
            if store.peek(group, &key).is_some_and(|r| r.version == version && r.entry.is_none()) {
                g.tombstones.insert(counter, (version, key));
            }
        }
        self.gate.set_stable(group, stable);
        self.forget_tombstones(group);
    }

    /// Stable tombstones go, unless a transfer to this copy still runs (W-3).
    fn forget_tombstones(&mut self, group: GroupId) {
        let g = &mut self.groups[group.index()];
        if matches!(&g.role, Role::Incoming(_)) {
            return;
        }
        for (version, key) in std::mem::take(&mut g.tombstones).into_values() {
            self.store.forget(group, &key, version);
        }
    }

    /// Everything that time brings.
    pub(crate) fn on_tick(&mut self, cx: &mut StepContext<'_>) {
        self.tell_stable(cx);
        self.release_parked(cx);
        self.send_lost(cx);
        if cx.now >= self.resend_at {
            self.resend_at = cx.now + cx.limits.resend;
            self.resend_promotions(cx);
            self.resend_pulls(cx);
            self.ask_for_stable(cx);
        }
        self.prune_results(cx);
        if cx.now >= self.reviewed + cx.limits.tick {
            self.reviewed = cx.now;
            self.review_fullness(cx);
            self.upkeep.soon(cx.now);
        }
        if self.upkeep.next_turn().is_some_and(|at| at <= cx.now) {
            self.order_removals(cx);
        }
    }

    pub(crate) fn next_turn(&self) -> Option<Time> {
        self.stable_at.into_iter().chain(self.upkeep.next_turn()).min()
    }

    /// Whether nothing is under way that time alone moves on, but for what [`Data::next_turn`] says.
    pub(crate) fn is_quiet(&self) -> bool {
        self.groups.iter().all(Group::is_quiet)
    }

    /// Members that acknowledged nothing at all for `limit` while something was outstanding there: no progress. A slow link
    /// is not one of them, however long its oldest write waits.
    pub(crate) fn stuck(&self, now: Time, limit: std::time::Duration) -> BTreeSet<MemberId> {
        let mut stuck: BTreeSet<MemberId> = self.links.stuck(now, limit).collect();
        let waits = |p: &&group::Primary| p.waits_since.is_some_and(|at| now.since(at) >= limit);
        let awaited = self.groups.iter().filter_map(Group::primary).filter(waits).flat_map(group::Primary::awaited);
        stuck.extend(awaited.filter(|peer| now.since(self.links.last_progress(*peer)) >= limit));
        stuck
    }

    /// Complete incoming copies, to tell the coordinator of.
    pub(crate) fn complete(&self) -> Vec<GroupId> {
        let complete = |g: &&Group| matches!(&g.role, Role::Incoming(i) if i.complete);
        self.groups.iter().filter(complete).map(|g| g.id).collect()
    }

    pub(crate) fn table_sizes(&self) -> BTreeMap<&'static str, usize> {
        let sum = |f: fn(&Group) -> usize| self.groups.iter().map(f).sum();
        BTreeMap::from([
            ("recent", sum(|g| g.recent.len())),
            ("tombstones", sum(|g| g.tombstones.len())),
            ("results", sum(|g| g.results.len())),
            ("result bytes", self.result_bytes()),
            ("pending", self.pending().0),
            ("outstanding", self.links.len()),
        ])
    }
}
