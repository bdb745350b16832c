//! Keeps each CacheCluster as it is asked for, in named steps: finalizer → fetch → authority → settings → eviction
//! guard → missed pods → status. What is decided from what was fetched is pure: `settings`, `guard`, `status`.
//!
//! Every step reads live or applies server-side, so two reconcilers at once (after a leader that stepped down late) do
//! each other no harm.

mod deletion;
pub mod error;
pub mod events;
pub mod guard;
mod steps;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource};
use sidegrid_core::document::Document;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::authority::AuthorityFault;
use crate::crd::CacheCluster;
use crate::document::{DocumentError, Documents};
use crate::metrics::Metrics;
use crate::names::{CLUSTER_LABEL, CLUSTER_UID_LABEL, MANAGED_BY};
use crate::serving::WebhookStanding;
use crate::status::{ConditionReason, Fact};
use crate::webhook::InjectSettings;
use error::{Class, ReconcileError};
use events::{Events, Reason};

/// Without any change, a CacheCluster is looked at again after this long.
const AGAIN: Duration = Duration::from_secs(300);
/// CacheClusters reconciled at once.
const CONCURRENCY: u16 = 4;
/// Label of all that the operator makes.
pub(crate) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// What reconciliations share.
pub struct Reconciler {
    client: Client,
    own_ns: String,
    documents: Documents,
    events: Events,
    metrics: Arc<Metrics>,
    /// The images that CacheClusters may name.
    images: InjectSettings,
    /// How this replica last saw the webhook configuration.
    webhook: watch::Receiver<WebhookStanding>,
    /// Failures in a row by CacheCluster. Those that succeed or go are taken out.
    failures: Mutex<HashMap<String, u32>>,
}

/// One CacheCluster, with what every step needs.
pub(crate) struct Target<'a> {
    pub(crate) context: &'a Reconciler,
    pub(crate) cluster: &'a CacheCluster,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) uid: &'a str,
}

impl Target<'_> {
    /// As far as its status tells.
    fn had_no_members(&self) -> bool {
        self.cluster.status.as_ref().is_none_or(|status| status.view == 0)
    }
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("namespace", &self.own_ns).finish_non_exhaustive()
    }
}

impl Reconciler {
    /// What reconciliations of an operator in `own_ns` share; events are told by `instance`, the replica's name, and
    /// `webhook` is what [`serving::keep`](crate::serving::keep) sees.
    #[must_use]
    pub fn new(
        client: Client,
        own_ns: &str,
        instance: &str,
        documents: Documents,
        metrics: Arc<Metrics>,
        webhook: watch::Receiver<WebhookStanding>,
    ) -> Reconciler {
        let events = Events::new(client.clone(), instance);
        Reconciler {
            client,
            own_ns: own_ns.to_owned(),
            documents,
            events,
            metrics,
            images: InjectSettings::new(""),
            webhook,
            failures: Mutex::default(),
        }
    }

    /// Says of CacheClusters whose image the webhook, with these settings, would refuse.
    #[must_use]
    pub fn with_images(mut self, settings: InjectSettings) -> Reconciler {
        self.images = settings;
        self
    }

    fn failed(&self, key: &str) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    fn succeeded(&self, key: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

fn target<'a>(context: &'a Reconciler, cluster: &'a CacheCluster) -> Result<Target<'a>, ReconcileError> {
    let metadata = &cluster.metadata;
    Ok(Target {
        context,
        cluster,
        name: metadata.name.as_deref().ok_or(ReconcileError::Incomplete("name"))?,
        namespace: metadata.namespace.as_deref().ok_or(ReconcileError::Incomplete("namespace"))?,
        uid: metadata.uid.as_deref().ok_or(ReconcileError::Incomplete("uid"))?,
    })
}

/// Reconciles while `leading` says so, until `shutdown`. A reconciliation under way is let finish.
pub async fn run(context: Arc<Reconciler>, mut leading: watch::Receiver<bool>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = leading.wait_for(|leads| *leads) => if changed.is_err() { return },
        }
        context.metrics.leader.set(1);
        let mut still = leading.clone();
        let stop = shutdown.clone();
        let until = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = still.wait_for(|leads| !*leads) => {}
            }
        };
        tracing::info!("reconciling begins");
        control(Arc::clone(&context), until).await;
        context.metrics.leader.set(0);
        tracing::info!("reconciling ended");
    }
}

async fn control(context: Arc<Reconciler>, until: impl Future<Output = ()> + Send + Sync + 'static) {
    let client = context.client.clone();
    let managed = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let labelled = watcher::Config::default().labels(CLUSTER_LABEL);
    let documents = watcher::Config::default().labels(CLUSTER_UID_LABEL);
    let own: Api<ConfigMap> = Api::namespaced(client.clone(), &context.own_ns);
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (known, around, counted) = (controller.store(), controller.store(), controller.store());
    let gauge = context.metrics.clusters.clone();
    controller
        .with_config(Config::default().debounce(Duration::from_millis(200)).concurrency(CONCURRENCY))
        .owns(Api::<ConfigMap>::all(client.clone()), managed)
        // Everybody's: another's over the same pods takes the guard's place.
        .watches(Api::<PodDisruptionBudget>::all(client.clone()), watcher::Config::default(), move |budget| {
            let near = around.state().into_iter().filter(move |c| c.meta().namespace == budget.metadata.namespace);
            near.map(|c| ObjectRef::from_obj(&*c)).collect::<Vec<_>>()
        })
        .watches(Api::<Pod>::all(client), labelled, |pod| cluster_of(&pod))
        .watches(own, documents, move |document| {
            let uid = document.metadata.labels.as_ref().and_then(|l| l.get(CLUSTER_UID_LABEL)).cloned();
            known.state().into_iter().find(|c| c.meta().uid == uid).map(|c| ObjectRef::from_obj(&*c))
        })
        .reconcile_all_on(changes(context.webhook.clone()))
        .graceful_shutdown_on(until)
        .run(reconcile_readable, again, context)
        .for_each(|outcome| {
            gauge.set(i64::try_from(counted.len()).unwrap_or(i64::MAX));
            // Faults of reconciliations have been logged with their class; the rest are those of watches.
            if let Err(fault) = outcome {
                tracing::debug!(%fault, "a reconciliation was not done");
            }
            std::future::ready(())
        })
        .await;
}

/// One item for each time that the webhook's standing has changed.
fn changes(webhook: watch::Receiver<WebhookStanding>) -> impl Stream<Item = ()> {
    futures::stream::unfold(webhook, |mut webhook| async move {
        webhook.changed().await.ok()?;
        Some(((), webhook))
    })
}

/// A CacheCluster, or why it can't be read: one that an older schema let in, say. The watch goes on over it.
type Guarded = DeserializeGuard<CacheCluster>;

/// Reconciles a CacheCluster that can be read, and says of one that can't.
async fn reconcile_readable(cluster: Arc<Guarded>, context: Arc<Reconciler>) -> Result<Action, ReconcileError> {
    match &cluster.0 {
        Ok(readable) => reconcile(Arc::new(readable.clone()), context).await,
        Err(malformed) => {
            let error = ReconcileError::Invalid(format!("{}; correct the CacheCluster", malformed.error));
            context.events.tell(&cluster.object_ref(&()), Reason::InvalidSettings, error.to_string()).await;
            Err(error)
        }
    }
}

fn cluster_of(pod: &Pod) -> Option<ObjectRef<Guarded>> {
    let name = pod.metadata.labels.as_ref()?.get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(pod.metadata.namespace.as_deref()?))
}

fn again(cluster: Arc<Guarded>, fault: &ReconcileError, context: Arc<Reconciler>) -> Action {
    let class = fault.class();
    context.metrics.reconciled(class.word());
    let metadata = cluster.meta();
    let attempt = context.failed(metadata.uid.as_deref().unwrap_or_default());
    let (name, namespace) = (&metadata.name, &metadata.namespace);
    let wait = class.wait(attempt);
    if class == Class::Conflict {
        tracing::debug!(?namespace, ?name, %fault, "reconciling collided");
    } else {
        tracing::warn!(?namespace, ?name, %fault, attempt, ?wait, "reconciling failed");
    }
    wait.map_or_else(Action::await_change, Action::requeue)
}

/// Reconciles one CacheCluster.
///
/// # Errors
/// [`ReconcileError`]; its class says when it is tried again.
pub async fn reconcile(cluster: Arc<CacheCluster>, context: Arc<Reconciler>) -> Result<Action, ReconcileError> {
    let target = target(&context, &cluster)?;
    if cluster.metadata.deletion_timestamp.is_some() {
        let action = deletion::step(&target).await?;
        context.succeeded(target.uid);
        context.metrics.reconciled("done");
        return Ok(action);
    }
    steps::finalizer(&target).await?;
    let fetched = fetch(&target).await?;
    let (pods, document) = (&fetched.pods, fetched.document.as_ref());
    let had_members = !target.had_no_members();
    let authority = crate::authority::ensure(&context.client, &context.own_ns, target.uid, had_members).await;
    let settings = steps::settings(&target).await;
    let settings_fault = match &settings {
        Ok(()) => None,
        Err(fault) => Some(fault_of(&target, fault, ConditionReason::SettingsUnavailable).await),
    };
    let guard = steps::guard(&target, pods, document).await;
    let guarded = match &guard {
        Ok(outcome) => outcome.fact.clone(),
        Err(fault) => fault_of(&target, fault, ConditionReason::Unavailable).await,
    };
    let soon = guard.as_ref().ok().and_then(|outcome| outcome.again);
    steps::missed(&target, pods).await;
    // The status is told also when a step failed: it says which.
    steps::status(&target, &fetched, settings_fault, certified(authority.as_ref().err()), guarded).await?;
    authority?;
    // Settings that only a person can mend keep nothing else from being looked at again.
    if settings.as_ref().is_err_and(|fault| fault.class() == Class::Invalid) {
        guard?;
        context.succeeded(target.uid);
        context.metrics.reconciled(Class::Invalid.word());
        return Ok(Action::requeue(soon.unwrap_or(AGAIN).min(AGAIN)));
    }
    settings?;
    guard?;
    context.succeeded(target.uid);
    context.metrics.reconciled("done");
    Ok(Action::requeue(soon.unwrap_or(AGAIN).min(AGAIN)))
}

/// The fact of a step that failed, told by an event too where only a person can mend it; `otherwise` is the word for
/// what may go away by itself.
async fn fault_of(target: &Target<'_>, fault: &ReconcileError, otherwise: ConditionReason) -> Fact {
    let (reason, word) = match fault {
        ReconcileError::Invalid(_) => (Some(Reason::InvalidSettings), ConditionReason::InvalidSettings),
        ReconcileError::Taken { .. } => (Some(Reason::NameTaken), ConditionReason::NameTaken),
        _ => (None, otherwise),
    };
    if let Some(reason) = reason {
        target.context.events.tell(&target.cluster.object_ref(&()), reason, fault.to_string()).await;
    }
    Fact::no(word, fault.to_string())
}

/// Whether members can be certified.
fn certified(fault: Option<&AuthorityFault>) -> Fact {
    match fault {
        None => Fact::yes(ConditionReason::AuthorityReady, "members are certified by the cluster's own authority"),
        Some(fault) => Fact::no(ConditionReason::AuthorityUnavailable, fault.to_string()),
    }
}

/// What the steps go by, read live once.
struct Fetched {
    /// All pods of the namespace that bear the cluster's label.
    pods: Vec<Pod>,
    /// The document; none before the first member.
    document: Option<Document>,
    /// Why the document can't be told.
    document_fault: Option<String>,
}

async fn fetch(target: &Target<'_>) -> Result<Fetched, ReconcileError> {
    let api: Api<Pod> = Api::namespaced(target.context.client.clone(), target.namespace);
    let selected = ListParams::default().labels(&format!("{CLUSTER_LABEL}={}", target.name));
    let pods = api.list(&selected).await.map_err(ReconcileError::api("listing the cluster's pods"))?.items;
    let (document, document_fault) = match target.context.documents.read(target.uid).await {
        Ok(document) => (document, None),
        // No authority means no document, and the condition of certificates says so.
        Err(DocumentError::UnknownCluster(_)) if target.had_no_members() => (None, None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    Ok(Fetched { pods, document, document_fault })
}

#[cfg(test)]
mod tests;
