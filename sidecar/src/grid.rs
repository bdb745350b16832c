//! The one handle through which HTTP, admin and command line use the grid.
//!
//! It outlives incarnations: while there is none, clustered caches refuse with `no-owner`, and `local` ones work on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use sidegrid_core::gate::{Gate, GateRead};
use sidegrid_core::operation::{
    Answer, Applied, Idempotency, Operation, OperationKind, Outcome, Refusal, RefusalReason,
};
use sidegrid_core::snapshot::{GroupCounts, Participation, Snapshot};
use sidegrid_core::storage::CacheKey;
use sidegrid_core::{CacheId, GroupId, MemberId, SegmentId};
use sidegrid_net::Clock;
use sidegrid_store::Store;
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) mod cache;
pub(crate) mod counters;
mod remembered;

use crate::agreed::Classes;
pub(crate) use cache::{CacheFigures, CacheHandle};
use counters::{CacheCounters, GridCounters};

/// How much longer than the operation's own deadline the core's answer is waited for, should the core hang.
const CORE_SLACK: Duration = Duration::from_secs(1);

/// Where a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its segment.
    pub(crate) segment: SegmentId,
    /// Its replica group.
    pub(crate) group: GroupId,
}

/// An app's operation on its way to the core.
#[derive(Debug)]
pub(crate) struct Submit {
    pub(crate) operation: Operation,
    pub(crate) deadline: sidegrid_core::Time,
    pub(crate) reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// What the grid needs of a running incarnation.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: MemberId,
    pub(crate) gate: Arc<Gate>,
    pub(crate) store: Arc<Store>,
    pub(crate) submits: mpsc::Sender<Submit>,
    /// Its copies were complete once. Copies that are moved to it later do not take it out of service again.
    pub(crate) filled: AtomicBool,
}

impl Live {
    /// Whether the next member may be restarted as far as this one's copies go: whoever waits for one to be ready before
    /// it restarts the next must not meet copies that are still on their way.
    fn is_filled(&self, snapshot: &Snapshot) -> bool {
        if !self.filled.load(Relaxed) && snapshot.groups.incoming == 0 && snapshot.groups.promoting == 0 {
            self.filled.store(true, Relaxed);
        }
        self.filled.load(Relaxed)
    }
}

/// Where the process stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not all parts run yet.
    Starting,
    /// In service.
    Running,
    /// Told to hand over and leave.
    Draining,
    /// Handed over; forwards as a client until it is stopped.
    Drained,
    /// Ending.
    Stopping,
}

/// Whether apps should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// A stable word: `ready`, or why not.
    pub(crate) reason: &'static str,
}

/// The grid. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Grid(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    by_name: HashMap<String, Arc<CacheHandle>>,
    sorted: Vec<Arc<CacheHandle>>,
    classes: Classes,
    clock: Clock,
    live: ArcSwapOption<Live>,
    snapshot: ArcSwap<Snapshot>,
    counters: GridCounters,
    phase: watch::Sender<Phase>,
}

impl Grid {
    /// A grid of these caches with no incarnation yet.
    pub(crate) fn new(settings: &sidegrid_config::Settings, clock: Clock) -> Grid {
        let classes = Classes::of(settings);
        let sorted: Vec<_> =
            settings.caches.iter().map(|(name, cache)| Arc::new(CacheHandle::new(name, cache, &classes))).collect();
        let by_name = sorted.iter().map(|handle| (handle.name.clone(), Arc::clone(handle))).collect();
        Grid(Arc::new(Inner {
            by_name,
            sorted,
            classes,
            clock,
            live: ArcSwapOption::empty(),
            snapshot: ArcSwap::from_pointee(unjoined()),
            counters: GridCounters::default(),
            phase: watch::Sender::new(Phase::Starting),
        }))
    }

    /// The cache of this name.
    pub(crate) fn cache(&self, name: &str) -> Option<Arc<CacheHandle>> {
        self.0.by_name.get(name).cloned()
    }

    /// All caches, sorted by name.
    pub(crate) fn caches(&self) -> &[Arc<CacheHandle>] {
        &self.0.sorted
    }

    /// The clock that all of this process goes by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Where a key of a clustered cache lives; none in a `local` one.
    pub(crate) fn place(&self, cache: &CacheHandle, key: &[u8]) -> Option<Place> {
        cache.clustered.as_ref().map(|clustered| self.0.classes.place(clustered.class, key))
    }

    /// Carries out one operation; `deadline` is how long the app waits.
    ///
    /// # Errors
    /// A refusal: the operation was not decided, or its answer was lost.
    ///
    /// # Cancel safety
    /// When dropped, the operation may or may not be applied; nothing of it is left behind after its deadline.
    pub(crate) async fn execute(
        &self,
        cache: &CacheHandle,
        key: Bytes,
        kind: OperationKind,
        idempotency: Option<Idempotency>,
        deadline: Duration,
    ) -> Result<Answer, Refusal> {
        let result = match self.execute_here(cache, &key, &kind, idempotency) {
            Some(result) => result,
            None => self.submit(cache, key, kind, idempotency, deadline).await,
        };
        if let Err(refusal) = &result {
            self.0.counters.refusals.note(refusal.reason);
        }
        result
    }

    /// What can be answered at once on the caller's own thread: operations of `local` caches, and reads of clean
    /// copies of this member. None: ask through [`Grid::execute`].
    fn execute_here(
        &self,
        cache: &CacheHandle,
        key: &Bytes,
        kind: &OperationKind,
        idempotency: Option<Idempotency>,
    ) -> Option<Result<Answer, Refusal>> {
        let here = |outcome| Answer { outcome, owner: self.member_id(), hops: 0 };
        if let Some(local) = &cache.local {
            return Some(local.execute(key, kind, idempotency, self.0.clock.now()).map(here));
        }
        let clustered = cache.clustered.as_ref()?;
        if !kind.is_read() {
            return None;
        }
        let live = self.0.live.load();
        let live = live.as_ref()?;
        let group = self.0.classes.place(clustered.class, key).group;
        let cache_key = CacheKey { cache: clustered.id, key: key.clone() };
        let outcome = match live.gate.read(&*live.store, group, &cache_key, || self.0.clock.now()) {
            GateRead::AskCore => return None,
            GateRead::Found(view) => {
                clustered.counters.hits.add_one();
                Outcome::Found(view)
            }
            GateRead::Absent => {
                clustered.counters.misses.add_one();
                Outcome::Absent
            }
        };
        self.0.counters.gate_reads.add_one();
        Some(Ok(Answer { outcome, owner: live.id, hops: 0 }))
    }

    async fn submit(
        &self,
        cache: &CacheHandle,
        key: Bytes,
        kind: OperationKind,
        idempotency: Option<Idempotency>,
        deadline: Duration,
    ) -> Result<Answer, Refusal> {
        let Some(clustered) = &cache.clustered else { return refuse(RefusalReason::NoOwner, Applied::No) };
        let Some(submits) = self.0.live.load().as_ref().map(|live| live.submits.clone()) else {
            return refuse(RefusalReason::NoOwner, Applied::No);
        };
        let counted = kind.clone();
        let (reply, answer) = oneshot::channel();
        let submit = Submit {
            operation: Operation { cache: clustered.id, key, kind, idempotency },
            deadline: self.0.clock.now() + deadline,
            reply,
        };
        // Never entered the core's queue: certainly not applied (O-3, B-1).
        submits.try_send(submit).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal { reason: RefusalReason::Overloaded, applied: Applied::No },
            mpsc::error::TrySendError::Closed(_) => Refusal { reason: RefusalReason::NoOwner, applied: Applied::No },
        })?;
        let unknown = if counted.is_read() { Applied::No } else { Applied::Unknown };
        match tokio::time::timeout(deadline + CORE_SLACK, answer).await {
            Ok(Ok(result)) => {
                if let Ok(answer) = &result {
                    clustered.counters.note(&counted, &answer.outcome);
                    self.0.counters.forwarded.add(u64::from(answer.hops > 0));
                }
                result
            }
            // The incarnation ended before it answered.
            Ok(Err(_)) => refuse(RefusalReason::NoOwner, unknown),
            Err(_) => refuse(RefusalReason::Timeout, unknown),
        }
    }

    /// The newest copy of what the core shows; renewed a few times a second and on every change of the view.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.load_full()
    }

    /// Figures of one cache on this member.
    pub(crate) fn figures(&self, cache: &CacheHandle) -> CacheFigures {
        let live = self.0.live.load();
        cache.figures(live.as_ref().map(|live| &*live.store))
    }

    /// What happened to this node since the process began.
    pub(crate) fn counters(&self) -> &GridCounters {
        &self.0.counters
    }

    /// Counters of the clustered cache with this id.
    pub(crate) fn removals_of(&self, cache: CacheId) -> Option<&CacheCounters> {
        let clustered = self.0.sorted.iter().filter_map(|handle| handle.clustered.as_ref());
        clustered.map(|clustered| (clustered.id, &clustered.counters)).find(|(id, _)| *id == cache).map(|(_, c)| c)
    }

    /// This incarnation's id; zero before there is one.
    pub(crate) fn member_id(&self) -> MemberId {
        self.0.live.load().as_ref().map_or(MemberId(0), |live| live.id)
    }

    /// Whether any cache needs the cluster.
    pub(crate) fn is_clustered(&self) -> bool {
        self.0.classes.any()
    }

    /// Where the process stands.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Follows the phase.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Moves the phase on; it never goes back.
    pub(crate) fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = to.max(*phase);
            later
        });
    }

    /// Whether apps should be sent here, and why not. The lease is checked against the clock, not the snapshot.
    pub(crate) fn readiness(&self) -> Readiness {
        let not = |reason| Readiness { ready: false, reason };
        match self.phase() {
            Phase::Starting => return not("starting"),
            Phase::Draining => return not("draining"),
            Phase::Drained => return not("drained"),
            Phase::Stopping => return not("stopping"),
            Phase::Running if !self.is_clustered() => return Readiness { ready: true, reason: "ready" },
            Phase::Running => {}
        }
        let live = self.0.live.load();
        let Some(live) = live.as_ref() else { return not("joining") };
        let snapshot = self.0.snapshot.load();
        match snapshot.participation {
            Participation::Joining => not("joining"),
            Participation::Leaving => not("draining"),
            Participation::Superseded => not("superseded"),
            Participation::Client if snapshot.view.is_none() || snapshot.reaches_nobody => not("joining"),
            Participation::Client => Readiness { ready: true, reason: "ready" },
            Participation::Member if !live.gate.has_lease(self.0.clock.now()) => not("no-lease"),
            Participation::Member if !live.is_filled(&snapshot) => not("filling"),
            Participation::Member => Readiness { ready: true, reason: "ready" },
        }
    }

    /// Whether apps should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        self.readiness().ready
    }

    /// The driver's: puts a new incarnation in.
    pub(crate) fn attach(&self, live: Live) {
        self.0.live.store(Some(Arc::new(live)));
    }

    /// The driver's: takes the incarnation out; clustered caches refuse until there is another.
    pub(crate) fn detach(&self) {
        self.0.live.store(None);
        self.0.snapshot.store(Arc::new(unjoined()));
    }

    /// The driver's: shows a newer copy of the core's state.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.0.snapshot.store(Arc::new(snapshot));
    }

    /// Index of group classes.
    pub(crate) fn classes(&self) -> &Classes {
        &self.0.classes
    }
}

fn refuse(reason: RefusalReason, applied: Applied) -> Result<Answer, Refusal> {
    Err(Refusal { reason, applied })
}

/// What is shown while there is no incarnation.
fn unjoined() -> Snapshot {
    Snapshot {
        participation: Participation::Joining,
        view: None,
        lease_left: Duration::ZERO,
        suspected: Vec::new(),
        unsealed: 0,
        waits_for: None,
        registry_ok: true,
        reaches_nobody: true,
        groups: GroupCounts::default(),
        operations_in_flight: 0,
        pending_writes: 0,
        pending_bytes: 0,
        under_replicated: 0,
    }
}

#[cfg(test)]
mod tests {
    use sidegrid_config::{Cache, Mode, Settings};
    use sidegrid_core::ViewNumber;
    use sidegrid_core::view::View;
    use sidegrid_store::StoreSettings;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(10);

    fn grid() -> Grid {
        let mut settings = Settings::default();
        settings.caches.insert("c".into(), Cache { mode: Mode::Replicated, ..Cache::default() });
        settings.caches.insert("l".into(), Cache { mode: Mode::Local, ..Cache::default() });
        Grid::new(&settings, Clock::boottime())
    }

    /// A live incarnation whose core never turns.
    fn attach(grid: &Grid, queue: usize) -> mpsc::Receiver<Submit> {
        let groups = grid.classes().groups();
        let store = Arc::new(Store::new(StoreSettings { groups, caches: vec![Default::default()], seed: 1 }));
        let (submits, queued) = mpsc::channel(queue);
        grid.attach(Live {
            id: MemberId(7),
            gate: Arc::new(Gate::new(groups)),
            store,
            submits,
            filled: AtomicBool::new(false),
        });
        queued
    }

    fn touch() -> OperationKind {
        OperationKind::Touch { ttl: None, condition: Default::default() }
    }

    async fn execute(grid: &Grid, cache: &str, kind: OperationKind) -> Result<Answer, Refusal> {
        let cache = grid.cache(cache).unwrap();
        grid.execute(&cache, Bytes::from_static(b"k"), kind, None, DEADLINE).await
    }

    fn refused(reason: RefusalReason, applied: Applied) -> Result<Answer, Refusal> {
        Err(Refusal { reason, applied })
    }

    /// O-3
    #[tokio::test]
    async fn between_incarnations_nothing_is_applied_and_local_caches_work_on() {
        let grid = grid();
        assert_eq!(execute(&grid, "c", touch()).await, refused(RefusalReason::NoOwner, Applied::No));
        assert_eq!(execute(&grid, "l", touch()).await.unwrap().outcome, Outcome::Absent);
        let queued = attach(&grid, 1);
        drop(queued);
        assert_eq!(execute(&grid, "c", touch()).await, refused(RefusalReason::NoOwner, Applied::No));
    }

    /// B-1, O-3
    #[tokio::test]
    async fn a_full_queue_refuses_for_certain_and_a_hung_core_without_a_claim() {
        let grid = grid();
        let mut queued = attach(&grid, 1);
        let waiting = grid.clone();
        let spawner = crate::spawner::Spawner::new(tokio::runtime::Handle::current());
        let (told, hears) = oneshot::channel();
        spawner.spawn("app", async move {
            let _gone = told.send(execute(&waiting, "c", touch()).await);
        });
        tokio::task::yield_now().await;
        assert_eq!(execute(&grid, "c", touch()).await, refused(RefusalReason::Overloaded, Applied::No));
        let taken = queued.recv().await.unwrap();
        assert_eq!(hears.await.unwrap(), refused(RefusalReason::Timeout, Applied::Unknown));
        assert!(taken.reply.is_closed(), "nobody waits any more");
        let counted: u64 = grid.counters().refusals.counts().map(|(_, count)| count).sum();
        assert_eq!(counted, 2);
    }

    #[tokio::test]
    async fn a_client_is_ready_once_it_can_forward() {
        let grid = grid();
        let _queued = attach(&grid, 1);
        grid.advance(Phase::Running);
        let mut snapshot = Snapshot { participation: Participation::Client, ..unjoined() };
        grid.publish(snapshot.clone());
        assert_eq!(grid.readiness(), Readiness { ready: false, reason: "joining" });
        snapshot.view = Some(Arc::new(View {
            number: ViewNumber(1),
            members: Vec::new(),
            classes: Vec::new(),
            segments: 1,
            groups: Vec::new(),
            next_joined: 1,
        }));
        grid.publish(snapshot.clone());
        assert_eq!(grid.readiness(), Readiness { ready: false, reason: "joining" }, "it reaches nobody");
        snapshot.reaches_nobody = false;
        grid.publish(snapshot);
        assert_eq!(grid.readiness(), Readiness { ready: true, reason: "ready" });
    }

    #[test]
    fn the_phase_never_goes_back() {
        let grid = grid();
        grid.advance(Phase::Drained);
        grid.advance(Phase::Running);
        assert_eq!(grid.phase(), Phase::Drained);
        assert_eq!(grid.readiness(), Readiness { ready: false, reason: "drained" });
    }
}
