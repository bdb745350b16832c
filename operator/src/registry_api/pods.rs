//! Which pods there are, so that a certificate ends with its pod and a client stays a client.
//!
//! Kept by a watch that holds a few words of each labelled pod. What it does not know yet is read live, so that a watch
//! that lags refuses nobody; what is gone is refused as soon as the watch has it, which is re-opened each half minute.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use sidegrid_core::member::{Member, PlatformIdentity};
use sidegrid_net::MemberNames;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::kube_call;
use crate::names::{CLUSTER_LABEL, CONTAINER, ROLE_LABEL};

/// Pods kept; those beyond are read live at each request.
const MAX_PODS: usize = 65_536;
/// Seconds after which the API server ends a watch: one that is dead without saying so is noticed by then.
const WATCH_SECONDS: u32 = 30;
/// The sidecar's role, as injection sets it.
const ROLE_VARIABLE: &str = "SIDEGRID_MEMBER_ROLE";
const CLIENT: &str = "client";

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownPod {
    /// The CacheCluster that its label names.
    cluster: Option<String>,
    /// Whether it uses the cluster without being a member.
    pub(super) is_client: bool,
    has_ended: bool,
    /// It has been told to end.
    is_leaving: bool,
}

impl KnownPod {
    pub(super) fn of(pod: &Pod) -> KnownPod {
        let label = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        KnownPod {
            cluster: label(CLUSTER_LABEL).cloned(),
            is_client: label(ROLE_LABEL).is_some_and(|role| role == CLIENT) || is_injected_as_client(pod),
            has_ended: matches!(phase, Some("Succeeded" | "Failed")),
            is_leaving: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// By the sidecar's own environment, which can't be changed once the pod is there; a label can.
fn is_injected_as_client(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let variables = containers.filter(|c| c.name == CONTAINER).flat_map(|c| c.env.iter().flatten());
    variables.filter(|v| v.name == ROLE_VARIABLE).any(|v| v.value.as_deref() == Some(CLIENT))
}

#[derive(Debug, Default)]
struct Index {
    pods: HashMap<String, KnownPod>,
    /// All pods have been listed.
    is_listed: bool,
}

/// The labelled pods of all namespaces, by uid. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pods {
    client: Client,
    index: Arc<RwLock<Index>>,
    is_listed: CancellationToken,
}

impl Pods {
    pub(super) fn new(client: Client) -> Pods {
        Pods { client, index: Arc::default(), is_listed: CancellationToken::new() }
    }

    /// Waits until all pods have been listed once.
    pub(super) async fn listed(&self) {
        self.is_listed.cancelled().await;
    }

    /// The pod that a certificate with these names was signed for.
    ///
    /// # Errors
    /// 401 when it says of no pod that it was signed for it, 403 when the pod has ended, is gone or is another cluster's,
    /// 503 when that can't be found out.
    pub(super) async fn of_certificate(&self, names: Option<&MemberNames>) -> Result<(String, KnownPod), Problem> {
        let enrol = || Problem::unauthenticated("the certificate names no pod; enrol again by POST /v1/enrol");
        let names = names.ok_or_else(enrol)?;
        let uid = names.pod_uid().ok_or_else(enrol)?.to_owned();
        let known = self.read().pods.get(&uid).cloned();
        let pod = match known {
            Some(pod) => pod,
            None => self.live(names, &uid).await?,
        };
        if pod.has_ended {
            return Err(Problem::forbidden(format!("pod {} has ended, and its certificate with it", names.pod())));
        }
        if pod.cluster.as_deref() != Some(names.cluster()) {
            let why = format!("pod {} has no label {CLUSTER_LABEL}: {} any more", names.pod(), names.cluster());
            return Err(Problem::forbidden(why));
        }
        Ok((uid, pod))
    }

    async fn live(&self, names: &MemberNames, uid: &str) -> Result<KnownPod, Problem> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), names.namespace());
        let found = kube_call::read(pods.get_opt(names.pod())).await?;
        let found = found.filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
        let gone = || Problem::forbidden(format!("pod {} is gone, and its certificate with it", names.pod()));
        found.as_ref().map(KnownPod::of).ok_or_else(gone)
    }

    /// Whether a member is on its way out, for all that is known: its pod is gone, has ended, or has been told to.
    pub(super) fn may_have_released(&self, member: &Member) -> bool {
        let PlatformIdentity::Pod { uid } = &member.identity else { return false };
        let index = self.read();
        match index.pods.get(uid) {
            Some(pod) => pod.has_ended || pod.is_leaving,
            None => index.is_listed && index.pods.len() < MAX_PODS,
        }
    }

    /// Keeps the index equal to the pods until `shutdown`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn keep(&self, shutdown: CancellationToken) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let config = Config::default().labels(CLUSTER_LABEL).timeout(WATCH_SECONDS);
        let mut events = std::pin::pin!(watcher(pods, config).default_backoff());
        let mut listed = HashMap::new();
        loop {
            // Both branches are cancel safe.
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => self.apply(&mut listed, event),
                Some(Err(error)) => tracing::warn!(%error, "pods can't be watched; those that end are refused later"),
                None => return,
            }
        }
    }

    fn apply(&self, listed: &mut HashMap<String, KnownPod>, event: Event<Pod>) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => put(listed, &pod),
            Event::InitDone => {
                *index = Index { pods: std::mem::take(listed), is_listed: true };
                self.is_listed.cancel();
            }
            Event::Apply(pod) => put(&mut index.pods, &pod),
            Event::Delete(pod) => {
                pod.metadata.uid.and_then(|uid| index.pods.remove(&uid));
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(pods: &mut HashMap<String, KnownPod>, pod: &Pod) {
    let Some(uid) = &pod.metadata.uid else { return };
    if pods.len() < MAX_PODS || pods.contains_key(uid) {
        pods.insert(uid.clone(), KnownPod::of(pod));
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
