//! The running operator: webhook, registry API and health on every replica, the reconciler on the leader.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use sidegrid_net::service::{ServiceCertificate, ServiceTls};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Health;
use crate::registry_api::RegistryState;
use crate::serving::{Ending, ServeLimits, ServingIdentity, WebhookStanding};
use crate::webhook::{InjectSettings, WebhookState};
use crate::{health, leader, orphans, proofs, reconcile, registry_api, serving, webhook};

/// What the program is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's own namespace.
    pub namespace: String,
    /// This replica's name, unlike every other's.
    pub name: String,
    /// Where it listens.
    pub ports: Ports,
    /// What is injected beside what CacheClusters say.
    pub inject: InjectSettings,
}

/// The ports that the program listens on. Its Service has ports of its own.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The admission webhook.
    pub webhook: u16,
    /// The registry API.
    pub registry: u16,
    /// Health and metrics.
    pub admin: u16,
}

/// How long connections are taken after the end has begun: until those who find this replica by the Service have heard that
/// it is not ready any more.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the parts may take to end: connections are given 10 s of it, after [`DRAIN`].
const GRACE: Duration = Duration::from_secs(20);
/// How often the first certificates are tried for, 2 s apart, before the program gives up, to be started again.
const FIRST_TRIES: u32 = 30;

/// Serves until SIGTERM or SIGINT, then ends in order: not ready, no new connections, the Lease released.
///
/// # Errors
/// When it can't begin: no API server, no certificates, a port that is taken.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminated = signal(SignalKind::terminate()).context("SIGTERM can't be listened for")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("SIGINT can't be listened for")?;
    let health = Health::default();
    let parts = TaskTracker::new();
    let admin = listen(options.ports.admin).await?;
    let routes = health::router(health.clone());
    // The admin port ends last, so that the kubelet sees the others end.
    let watched = TaskTracker::new();
    let ended = shutdown.clone();
    let served = watched.spawn(async move {
        if let Err(fault) = axum::serve(admin, routes).await {
            tracing::error!(%fault, "the admin port is not served any more");
        }
        ended.cancel();
    });
    tokio::select! {
        begun = begin(&options, &health, &parts, &shutdown) => begun?,
        _ = terminated.recv() => shutdown.cancel(),
        _ = interrupted.recv() => shutdown.cancel(),
    }
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = shutdown.cancelled() => {}
    }
    tracing::info!("ending");
    health.set_ready(false);
    shutdown.cancel();
    parts.close();
    if tokio::time::timeout(GRACE, parts.wait()).await.is_err() {
        tracing::warn!(parts = parts.len(), "parts did not end in time");
    }
    served.abort();
    Ok(())
}

async fn begin(
    options: &Options,
    health: &Health,
    parts: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("the API server can't be found")?;
    let own_ns = options.namespace.clone();
    let identity = first_identity(&client, &own_ns).await?;
    let certificate = ServiceCertificate::new(identity.leaf()).context("the serving certificate can't be used")?;
    let state = RegistryState::new(client.clone(), &own_ns);
    health.metrics.register(|registry| state.counters().register(registry));

    let hook = webhook::router(WebhookState::new(client.clone(), options.inject.clone()));
    let hook_tls = ServiceTls::webhook(certificate.clone()).context("TLS of the webhook")?;
    serve(parts, shutdown, options.ports.webhook, hook_tls, hook).await?;
    let api = registry_api::router(state.clone());
    let api_tls = ServiceTls::registry(certificate.clone(), state.trusted()).context("TLS of the registry API")?;
    serve(parts, shutdown, options.ports.registry, api_tls, api).await?;

    let (trust, stop) = (state.clone(), shutdown.clone());
    part(parts, shutdown, "trust", async move { trust.keep_trust(stop).await });
    let (pods, stop) = (state.clone(), shutdown.clone());
    part(parts, shutdown, "pods", async move { pods.keep_pods(stop).await });
    let (stands, webhook) = watch::channel(WebhookStanding::default());
    let kept = serving::keep(client.clone(), own_ns.clone(), certificate, stands, shutdown.clone());
    part(parts, shutdown, "certificates", kept);
    part(parts, shutdown, "proofs", proofs::watch(client.clone(), own_ns.clone(), shutdown.clone()));
    let (leading, leads) = watch::channel(false);
    let (standing, me, stop) = (client.clone(), options.name.clone(), shutdown.clone());
    let ns = own_ns.clone();
    part(parts, shutdown, "leader", async move { leader::run(standing, &ns, &me, leading, stop).await });
    let collecting = orphans::collect(client.clone(), own_ns.clone(), leads.clone(), shutdown.clone());
    part(parts, shutdown, "orphans", collecting);
    let metrics = Arc::clone(&health.metrics);
    let context = reconcile::Reconciler::new(client, &own_ns, &options.name, state.documents(), metrics, webhook)
        .with_images(options.inject.clone());
    part(parts, shutdown, "reconciler", reconcile::run(Arc::new(context), leads, shutdown.clone()));
    // Both branches are cancel safe.
    tokio::select! {
        () = state.listed() => health.set_ready(true),
        () = shutdown.cancelled() => return Ok(()),
    }
    tracing::info!(namespace = own_ns, version = env!("CARGO_PKG_VERSION"), "the operator serves");
    Ok(())
}

/// The operator's certificates, waited for while the API server comes up.
async fn first_identity(client: &Client, own_ns: &str) -> anyhow::Result<ServingIdentity> {
    let mut tries = 1;
    loop {
        match serving::ensure(client, own_ns).await {
            Ok(identity) => return Ok(identity),
            Err(fault) if tries < FIRST_TRIES => {
                tracing::warn!(%fault, tries, "no serving certificate yet");
                tries += 1;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(fault) => return Err(fault).context("no serving certificate"),
        }
    }
}

/// Listens on all addresses: both families where the machine has both.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Ok(listener) = TcpListener::bind(both).await {
        return Ok(listener);
    }
    let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    TcpListener::bind(four).await.with_context(|| format!("port {port} can't be listened on"))
}

async fn serve(
    parts: &TaskTracker,
    shutdown: &CancellationToken,
    port: u16,
    tls: ServiceTls,
    router: Router,
) -> anyhow::Result<()> {
    let listener = listen(port).await?;
    let ending = Ending { token: shutdown.clone(), drain: DRAIN };
    part(parts, shutdown, "server", serving::serve(listener, tls, router, ServeLimits::default(), ending));
    Ok(())
}

/// Runs a part that ends with the program: one that ends before, or panics, ends it, so that it is started anew.
fn part(
    parts: &TaskTracker,
    shutdown: &CancellationToken,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let ends = shutdown.clone().drop_guard();
    let shutdown = shutdown.clone();
    parts.spawn(async move {
        let _ends = ends;
        work.await;
        if !shutdown.is_cancelled() {
            tracing::error!(part = name, "a part ended by itself; the program ends with it");
        }
    });
}
