//! The member process: everything that runs in it, put together and taken apart.

use std::io;
use std::sync::Arc;

use sidegrid_config::{RegistryKind, Settings};
use sidegrid_core::Time;
use sidegrid_net::{Clock, Counters};
use sidegrid_registry::{FileRegistry, Registry, RegistryError};
use tokio::runtime::Handle;

use crate::bound::Bound;
use crate::cli::EXIT_CANT_START;
use crate::control;
use crate::dev::Announcement;
use crate::grid::{Grid, Phase};
use crate::identity::{Identity, IdentityError};
use crate::memory::{self, MemoryStats};
use crate::node::{self, DrainSwitch, NodeSettings};
use crate::operator;
use crate::serving::Serving;
use crate::shutdown::{EndSignals, wait_and_drain};
use crate::spawner::Spawner;
use crate::sweep;
use crate::tended;
use crate::trust::Trust;
use crate::{watchdog, workers};

/// What a member process is started with.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) settings: Settings,
    pub(crate) bound: Bound,
    pub(crate) clock: Clock,
    /// When this process began.
    pub(crate) began: Time,
    /// Whether it belongs to a terminal.
    pub(crate) of_terminal: bool,
    /// What is told once it is ready.
    pub(crate) announcement: Option<Announcement>,
}

/// Why a member can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("registry.path: {0}")]
    Registry(#[from] RegistryError),
    #[error("registry.url: {0}")]
    Operator(io::Error),
    #[error("the control socket {path}: {source}")]
    Control { path: String, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Member {
    /// Runs until the process shall end; gives the exit code.
    ///
    /// # Errors
    /// When a part can't be started.
    pub(crate) async fn run(self) -> Result<u8, StartError> {
        let Member { mut settings, bound, clock, began, of_terminal, announcement } = self;
        let memory = MemoryStats::of(&settings);
        if let Some(budget) = &memory.budget {
            memory::fit(&mut settings, budget);
        }
        let settings = Arc::new(settings);
        let signals = EndSignals::listen(of_terminal)?;
        let spawner = Spawner::new(Handle::current());
        let grid = Grid::new(&settings, clock);
        let switch = DrainSwitch::new(grid.clone());
        let net_counters = Arc::new(Counters::default());
        if grid.is_clustered() {
            // First of all: writes of the keys that a predecessor owned wait for it.
            start_node(&settings, &grid, &switch, &net_counters, &spawner, began)?;
        }
        watchdog::start(&spawner)?;
        sweep::start(&grid, &spawner);
        let serving = Serving::start(&settings, &grid, &net_counters, memory, bound, &spawner)?;
        grid.advance(Phase::Running);
        if let Some(announcement) = announcement {
            spawner.spawn("announcement", announcement.when_ready(grid.clone(), spawner.stopping().clone()));
        }
        let grace = settings.shutdown.grace;
        Ok(wait_and_drain(signals, &grid, &switch, &spawner, &serving, grace).await)
    }
}

/// Crypto provider, runtime, member: until it has ended.
pub(crate) fn run(member: Member) -> u8 {
    // Fails only when there is one already.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = workers::runtime(member.settings.runtime.worker_threads);
    let ended = runtime.map_err(Into::into).and_then(|runtime| {
        let ended = runtime.block_on(member.run());
        // Whatever did not end in its time is not waited for.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error: StartError| {
        tracing::error!("can't start: {error}");
        EXIT_CANT_START
    })
}

/// A registry, and the trust that comes with it, if any does.
type Backing = (Arc<dyn Registry>, Option<Arc<Trust>>);

/// The registry that the settings name, and the trust that comes with it; none: the registry keeps the authority.
fn registry(settings: &Settings, spawner: &Spawner) -> Result<Backing, StartError> {
    match settings.registry.kind {
        RegistryKind::File => Ok((Arc::new(FileRegistry::new(&settings.registry.path)?), None)),
        RegistryKind::Operator => {
            let (registry, trust) =
                operator::reach(settings, spawner.runtime().clone()).map_err(StartError::Operator)?;
            Ok((registry, Some(trust)))
        }
    }
}

fn start_node(
    settings: &Arc<Settings>,
    grid: &Grid,
    switch: &DrainSwitch,
    net_counters: &Arc<Counters>,
    spawner: &Spawner,
    began: Time,
) -> Result<(), StartError> {
    let (registry, trust) = registry(settings, spawner)?;
    let (identity, listeners, lock) = Identity::take(settings)?;
    tended::start(lock, Arc::clone(&registry), spawner);
    let control = |source| StartError::Control { path: control::path(settings).display().to_string(), source };
    control::serve(settings, grid, switch, spawner).map_err(control)?;
    tracing::info!("{} of cluster {} starts", identity.name(), settings.cluster.name);
    let node = NodeSettings {
        settings: Arc::clone(settings),
        identity,
        listeners,
        registry,
        trust,
        grid: grid.clone(),
        net_counters: Arc::clone(net_counters),
        spawner: spawner.clone(),
        began,
    };
    Ok(node::start(node, switch)?)
}
