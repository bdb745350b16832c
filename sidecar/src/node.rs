//! One incarnation after another: what each is made from, and the thread that they run on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::random;
use sidegrid_config::{MemberRole, Settings};
use sidegrid_core::core::{Core, Setup};
use sidegrid_core::limits::Limits;
use sidegrid_core::member::Member;
use sidegrid_core::planted_bug::Bugs;
use sidegrid_core::{Backoff, ClusterUid, Kept, MemberId, Time};
use sidegrid_net::{Counters, Listeners, Mesh, MeshSettings, NetError, NetLimits};
use sidegrid_registry::Registry;
use sidegrid_store::{Store, StoreSettings};
use tokio::sync::{mpsc, watch};

use crate::agreed;
use crate::driver::{Driver, End, Sources};
use crate::grid::cache::bounds;
use crate::grid::{Grid, Live, Phase};
use crate::identity::{Identity, IdentityError, fresh_id};
use crate::refusal::{self, Failures};
use crate::spawner::Spawner;
use crate::trust::{Admission, Trust, TrustError};

/// Apps' operations waiting for the core; one more is refused as overloaded (B-1).
const SUBMITS: usize = 16_384;
/// Messages of peers waiting for the core; above it, reading from peers waits (B-1).
const INBOUND: usize = 4_096;
/// Waits between two tries to begin an incarnation.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// An incarnation that lived this long was a success: the next one begins at once.
const SETTLED: Duration = Duration::from_secs(5);

/// Why the process ends when this pod may not be a member, and nothing but its owner can change that.
pub(crate) const REFUSED: &str = "admission";

/// What the node is made from.
pub(crate) struct NodeSettings {
    pub(crate) settings: Arc<Settings>,
    pub(crate) identity: Identity,
    pub(crate) listeners: Listeners,
    pub(crate) registry: Arc<dyn Registry>,
    /// What lets members in; none: to be made from what the registry keeps.
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) grid: Grid,
    pub(crate) net_counters: Arc<Counters>,
    pub(crate) spawner: Spawner,
    /// When this process began.
    pub(crate) began: Time,
}

/// Why an incarnation can't begin.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("told to hand over or to stop meanwhile")]
    Interrupted,
}

impl BeginError {
    /// Whether the operator has said of this pod what won't change by itself.
    const fn is_refusal(&self) -> bool {
        matches!(self, BeginError::Trust(TrustError::Registry(error)) if !error.is_retryable())
    }
}

/// A way to tell the node to hand over and leave.
#[derive(Clone, Debug)]
pub(crate) struct DrainSwitch {
    wanted: Arc<watch::Sender<bool>>,
    grid: Grid,
}

impl DrainSwitch {
    /// For a grid with a node, or for one that has none: then there is nothing to hand over.
    pub(crate) fn new(grid: Grid) -> DrainSwitch {
        DrainSwitch { wanted: Arc::new(watch::Sender::new(false)), grid }
    }

    /// Begins to hand over, or goes on with it, and waits until it is done.
    ///
    /// # Cancel safety
    /// When dropped, handing over goes on.
    pub(crate) async fn drain(&self) {
        self.grid.advance(Phase::Draining);
        if !self.grid.is_clustered() {
            self.grid.advance(Phase::Drained);
        }
        self.wanted.send_replace(true);
        // The sender lives in the grid, so waiting can't fail.
        let mut phases = self.grid.phases();
        let _phase = phases.wait_for(|&phase| phase >= Phase::Drained).await;
    }
}

/// Starts the node on a thread of its own: the core's turns are never behind other work.
///
/// # Errors
/// When the system refuses a thread or its runtime.
pub(crate) fn start(node: NodeSettings, switch: &DrainSwitch) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let drain = switch.wanted.subscribe();
    let spawner = node.spawner.clone();
    let trust = node.trust.clone();
    let node = Node { trust, node, drain, formerly: None, kept: None, failures: Failures::default() };
    let beat = spawner.watchdog().beat("core");
    spawner.thread_critical("core", move || runtime.block_on(beat.during(node.run())))
}

struct Node {
    node: NodeSettings,
    drain: watch::Receiver<bool>,
    trust: Option<Arc<Trust>>,
    formerly: Option<MemberId>,
    /// Copies of the incarnation before, which may be the last ones.
    kept: Option<Kept<Store>>,
    failures: Failures,
}

impl Node {
    async fn run(mut self) {
        let clock = self.node.grid.clock().clone();
        let stopping = self.node.spawner.stopping().clone();
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX, random());
        while !stopping.is_cancelled() {
            let began = clock.now();
            match self.incarnation().await {
                Ok(End::Stopped) => return,
                Ok(End::Superseded) => {
                    let kept = self.kept.as_ref().map_or(0, Kept::groups);
                    tracing::warn!(
                        "this incarnation is superseded; beginning a new one, with copies of {kept} groups kept"
                    );
                }
                Ok(End::MeshFailed(part)) => {
                    tracing::error!("{part} ended by itself; beginning a new, empty incarnation");
                }
                Err(error) => {
                    if self.is_over(&error, clock.now()) {
                        return;
                    }
                }
            }
            if self.formerly.is_none() && *self.drain.borrow() {
                // Never in a view: nothing to hand over.
                self.node.grid.advance(Phase::Drained);
            }
            if clock.now().since(began) >= SETTLED {
                backoff.reset();
                continue;
            }
            // Both branches are cancel safe: they hold nothing.
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(backoff.next_wait()) => {}
            }
        }
    }

    /// Logs a try that failed. True when this process shall end with it: it was never in a view, and is refused for good.
    fn is_over(&mut self, error: &BeginError, now: Time) -> bool {
        let says = error.to_string();
        let is_refusal = error.is_refusal() && self.node.trust.is_some() && self.formerly.is_none();
        if self.failures.is_for_good(!is_refusal, now) {
            tracing::error!("this pod is refused: {says}");
            refusal::leave_message(&says);
            self.node.spawner.end(REFUSED);
            return true;
        }
        if self.failures.is_news(&says, now) {
            tracing::warn!("can't begin an incarnation: {says}; trying again until it can");
        }
        false
    }

    async fn incarnation(&mut self) -> Result<End, BeginError> {
        let trust = self.trust().await?;
        self.passed("the authority is known");
        let id = fresh_id();
        let Admission { cluster, tls, renew_after, locality } = self.admitted(&trust, id).await?;
        self.passed("this incarnation is admitted");
        self.failures.over();
        // Who has handed over comes back as a client only.
        let leaves = *self.drain.borrow_and_update();
        if leaves {
            self.node.grid.advance(Phase::Drained);
        }
        let clock = self.node.grid.clock().clone();
        let now = clock.now();
        let me = self.node.identity.incarnation(id, now, locality)?;
        let limits = Limits::default();
        let (setup, kept) = (self.setup(&me, cluster, !leaves, limits), self.kept.take());
        let store = kept.as_ref().map_or_else(|| Arc::new(self.store()), |kept| Arc::clone(kept.store()));
        let core = match kept {
            Some(kept) => Core::resume(setup, kept, now),
            None => Core::new(setup, Arc::clone(&store), now),
        };
        let (inbound_sender, inbound) = mpsc::channel(INBOUND);
        let mesh_settings = MeshSettings {
            cluster,
            me,
            tls,
            limits: NetLimits::default(),
            lease: core.lease(),
            clock: clock.clone(),
            counters: Arc::clone(&self.node.net_counters),
        };
        let mesh = {
            // Connections are served by the process's runtime, not by the core's thread.
            let _runtime = self.node.spawner.runtime().enter();
            Mesh::start(mesh_settings, Some(&self.node.listeners), inbound_sender)?
        };
        self.passed("the mesh runs");
        let (submits_sender, submits) = mpsc::channel(SUBMITS);
        let filled = AtomicBool::new(false);
        self.node.grid.attach(Live { id, gate: core.gate(), store, submits: submits_sender, filled });
        let formerly = self.formerly.replace(id);
        let sources =
            Sources { submits, inbound, drain: self.drain.clone(), stopping: self.node.spawner.stopping().clone() };
        let driver = Driver {
            me: id,
            core,
            mesh,
            trust,
            cluster,
            renew_after,
            registry: Arc::clone(&self.node.registry),
            grid: self.node.grid.clone(),
            clock,
            spawner: self.node.spawner.clone(),
            limits,
            // A later incarnation's way to its first request begins with itself.
            began: if formerly.is_none() { self.node.began } else { now },
            first: formerly.is_none(),
        };
        let (end, kept) = driver.run(sources).await;
        self.kept = kept;
        Ok(end)
    }

    /// Lets an incarnation in. Waits for no longer than until this node is told to hand over or to stop.
    async fn admitted(&mut self, trust: &Trust, id: MemberId) -> Result<Admission, BeginError> {
        let stopping = self.node.spawner.stopping().clone();
        // Every branch is cancel safe.
        tokio::select! {
            biased;
            admission = trust.admit(id) => Ok(admission?),
            () = stopping.cancelled() => Err(BeginError::Interrupted),
            Ok(()) = self.drain.changed() => Err(BeginError::Interrupted),
        }
    }

    fn setup(&self, me: &Member, cluster: ClusterUid, may_join: bool, limits: Limits) -> Setup {
        Setup {
            me: me.clone(),
            // The name's lock is held for as long as this process lives (P-1).
            exclusive: true,
            joins: may_join && self.node.settings.member.role == MemberRole::Member,
            agreed: agreed::agreed(&self.node.settings),
            creates: Some(cluster),
            formerly: self.formerly,
            limits,
            seed: random(),
            bugs: Bugs::default(),
        }
    }

    /// For whoever looks into a slow start: until the request to join is sent, a predecessor's keys wait.
    fn passed(&self, stage: &'static str) {
        let since = self.node.grid.clock().now().since(self.node.began);
        tracing::debug!("{stage}, {} us after this process began", since.as_micros());
    }

    async fn trust(&mut self) -> Result<Arc<Trust>, TrustError> {
        if let Some(trust) = &self.trust {
            return Ok(Arc::clone(trust));
        }
        let trust = Arc::new(Trust::establish(&*self.node.registry, &self.node.settings).await?);
        self.trust = Some(Arc::clone(&trust));
        Ok(trust)
    }

    /// The bounds are in the order of the caches' ids.
    fn store(&self) -> Store {
        let caches = agreed::clustered(&self.node.settings)
            .filter_map(|(name, _)| self.node.settings.caches.get(name))
            .map(bounds)
            .collect();
        Store::new(StoreSettings { groups: self.node.grid.classes().groups(), caches, seed: random() })
    }
}
