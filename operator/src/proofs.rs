//! Proofs of death by the platform's word: when a pod's sidecar container has ended, its members are proved dead in the
//! document, so that the others need not wait for them.
//!
//! Only `terminated` with a known exit proves anything, whether it is the container's state or, once it has been started
//! again or waits for that, its last state: what had started before that end has ended with it. A pod that is gone, its
//! phase or a lost node prove nothing: the container may still run where nobody sees it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use sidegrid_core::document::{Document, Proof};
use sidegrid_core::member::PlatformIdentity;
use sidegrid_registry::Swap;
use tokio_util::sync::CancellationToken;

use crate::crd::CacheCluster;
use crate::document::{DocumentError, Documents};
use crate::kube_call::{self, CallError};
use crate::names::{CLUSTER_LABEL, CONTAINER};

/// Pods looked at at once: many, since those whose document is lost wait here.
const AT_ONCE: usize = 1_024;
/// Tries to store one pod's proofs; the members' own ways go on meanwhile.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(50);
/// Words for "I don't know what became of it" with an exit that was made up: the kubelet's, and the runtime's for a
/// container whose shim it has lost.
const UNKNOWN: [&str; 2] = ["ContainerStatusUnknown", "Unknown"];
/// The exit code that the runtime makes up then. The sidecar itself never ends with it.
const MADE_UP_EXIT: i32 = 255;
/// Between tries while the API server or the document is not to be had; a pod that is gone is told of once only.
const RETRIES: [Duration; 8] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(60),
];

/// A sidecar container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    namespace: String,
    cluster: String,
    pod: String,
    pod_uid: String,
    /// By its node's calendar, in nanoseconds since 1970; the platform tells whole seconds, rounded down.
    at: u64,
}

/// What the pod's status says of the sidecar's latest end; `None` unless that is a known one.
fn ended(pod: &Pod) -> Option<Ended> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == CONTAINER)?;
    // In a crash loop the state is `waiting` for as long as a minute or five: the end is in the last state.
    let states = [&status.state, &status.last_state];
    let terminated = states.into_iter().find_map(|state| state.as_ref()?.terminated.as_ref())?;
    let made_up = terminated.reason.as_deref().is_some_and(|reason| UNKNOWN.contains(&reason));
    if made_up || terminated.exit_code == MADE_UP_EXIT {
        return None;
    }
    let at = u64::try_from(terminated.finished_at.as_ref()?.0.as_nanosecond()).ok().filter(|at| *at > 0)?;
    Some(Ended {
        namespace: pod.metadata.namespace.clone()?,
        cluster: pod.metadata.labels.as_ref()?.get(CLUSTER_LABEL)?.clone(),
        pod: pod.metadata.name.clone()?,
        pod_uid: pod.metadata.uid.clone()?,
        at,
    })
}

/// The document with proofs for the pod's members that started before its sidecar ended; `None` when there is nothing
/// to add. Start and end are readings of one node's calendar.
fn proved(document: &Document, ended: &Ended) -> Option<Document> {
    let counted = document.view.members.iter().chain(&document.departed);
    let dead = counted.filter(|member| {
        let of_pod = matches!(&member.identity, PlatformIdentity::Pod { uid } if *uid == ended.pod_uid);
        of_pod && member.incarnation < ended.at && !document.proofs.contains_key(&member.id)
    });
    let mut proofs = document.proofs.clone();
    proofs.extend(dead.map(|member| (member.id, Proof::Platform)));
    if proofs.len() == document.proofs.len() {
        return None;
    }
    Some(Document { revision: document.revision.checked_add(1)?, proofs, ..document.clone() })
}

/// Watches the pods of all CacheClusters until `shutdown`, and stores the proofs that their ends give. May run in every
/// replica.
///
/// # Cancel safety
/// Cancel safe; a proof that was being stored may be stored.
pub async fn watch(client: Client, own_ns: String, shutdown: CancellationToken) {
    let documents = Documents::new(client.clone(), &own_ns);
    let pods: Api<Pod> = Api::all(client.clone());
    let events = watcher(pods, Config::default().labels(CLUSTER_LABEL)).default_backoff();
    let ends = events.filter_map(|event| async move {
        match event {
            // A pod that is deleted still tells how its containers were at last.
            Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod)) => ended(&pod),
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => {
                tracing::warn!(%error, "pods can't be watched; their ends are seen later");
                None
            }
        }
    });
    let storing = ends.for_each_concurrent(AT_ONCE, |ended| {
        let (client, documents) = (&client, &documents);
        async move {
            store_in_the_end(client, documents, &ended, &RETRIES).await;
        }
    });
    // Both branches are cancel safe.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = storing => {}
    }
}

/// Why a proof was not stored.
#[derive(Debug, thiserror::Error)]
enum ProofFault {
    #[error("the API server: {0}")]
    Api(#[from] CallError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the document changes all the time")]
    Contended,
}

impl ProofFault {
    /// Whether it may go away by itself; a document that is lost may come back (G-4).
    const fn is_retryable(&self) -> bool {
        match self {
            ProofFault::Api(error) => matches!(error, CallError::Unavailable(_) | CallError::Unknown(_)),
            ProofFault::Document(fault) => {
                matches!(fault, DocumentError::Unavailable(_) | DocumentError::Unknown(_) | DocumentError::Lost(_))
            }
            ProofFault::Contended => true,
        }
    }
}

/// Stores the proof, trying again after each of these waits.
async fn store_in_the_end(client: &Client, documents: &Documents, ended: &Ended, waits: &[Duration]) {
    let mut waits = waits.iter();
    while let Err(error) = store(client, documents, ended).await {
        let (pod, namespace) = (&ended.pod, &ended.namespace);
        let Some(wait) = waits.next().filter(|_| error.is_retryable()) else {
            tracing::warn!(pod, namespace, %error, "a proof can't be stored");
            return;
        };
        tracing::debug!(pod, namespace, %error, ?wait, "a proof can't be stored yet");
        tokio::time::sleep(*wait).await;
    }
}

/// Returns how many changes of the document were made: none or one.
async fn store(client: &Client, documents: &Documents, seen: &Ended) -> Result<usize, ProofFault> {
    let clusters: Api<CacheCluster> = Api::namespaced(client.clone(), &seen.namespace);
    let cluster = kube_call::read(clusters.get_opt(&seen.cluster)).await?;
    let Some(uid) = cluster.and_then(|cluster| cluster.metadata.uid) else { return Ok(0) };
    // Before anything else: most ends are of members that have left in order.
    let Some(document) = readable(documents, &uid).await? else { return Ok(0) };
    if proved(&document, seen).is_none() {
        return Ok(0);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &seen.namespace);
    let live = kube_call::read(pods.get_opt(&seen.pod)).await?;
    let live = live.filter(|pod| pod.metadata.uid.as_deref() == Some(&seen.pod_uid));
    let now = match &live {
        // What the pod says now counts: the container may have been started again.
        Some(pod) => ended(pod),
        // It is gone, and said before how its container ended; that stays true of what had started before.
        None => Some(seen.clone()),
    };
    let Some(now) = now else { return Ok(0) };
    for attempt in 0..TRIES {
        let Some(document) = readable(documents, &uid).await? else { return Ok(0) };
        let Some(next) = proved(&document, &now) else { return Ok(0) };
        match documents.swap(&uid, &document.expected(), &next).await {
            Ok(Swap::Done) => {
                tracing::info!(pod = now.pod, namespace = now.namespace, "stored the proof that its members ended");
                return Ok(1);
            }
            // Lost against another change, or unknown: the next read tells.
            Ok(Swap::Conflict(_)) | Err(DocumentError::Unknown(_) | DocumentError::Unavailable(_)) => {
                tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
            }
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(ProofFault::Contended)
}

/// The document, if there is one to put proofs into.
async fn readable(documents: &Documents, uid: &str) -> Result<Option<Document>, DocumentError> {
    match documents.read(uid).await {
        Err(DocumentError::UnknownCluster(_)) => Ok(None),
        other => other,
    }
}
