//! Enrolment: a pod's token becomes a member's leaf.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};
use sidegrid_core::MemberId;
use sidegrid_core::document::Document;
use sidegrid_core::member::{Locality, PlatformIdentity};
use sidegrid_net::{AuthorityError, MemberIdentity, MemberNames};
use sidegrid_registry::api::{EnrolRequest, Enrolment};

use super::bounds::MAX_ENROL_BODY;
use super::problem::Problem;
use super::token::{self, PodClaim};
use super::{RegistryState, Shared};
use crate::authority::ClusterAuthority;
use crate::crd::{CacheCluster, TopologySpec};
use crate::document::DocumentError;
use crate::kube_call;
use crate::names::CLUSTER_LABEL;

const DAY: Duration = Duration::from_secs(86_400);
/// The longest life of a member's certificate. Renewed after a third of it, so that members run on for sixteen hours without
/// any operator; and short enough that one that was copied out of a pod is soon worth nothing, also to other members.
const LONGEST_LIFE: Duration = DAY;
/// Value of `topology.machine` that means the node's own name.
const NODE: &str = "node";

pub(super) async fn enrol(
    State(state): State<RegistryState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Enrolment>, Problem> {
    let token = token::bearer(&headers)?;
    // Whoever has shown a leaf may send more, elsewhere.
    if body.len() > MAX_ENROL_BODY {
        return Err(Problem::too_large("an enrolment is not that large"));
    }
    let unreadable = |e: serde_json::Error| Problem::invalid(format!("the enrolment can't be read: {e}"));
    let asked: EnrolRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    if asked.member == MemberId(0) {
        return Err(Problem::invalid("member: zero is nobody's id"));
    }
    let claim = token::review(&state.0.client, token).await?;
    let pod = bound_pod(&state.0.client, &claim).await?;
    let cluster = cluster_of(&state.0.client, &pod, &claim).await?;
    enrolled(&state.0, &asked, &claim, &pod, &cluster).await.map(Json)
}

/// The pod that the token is bound to, as it is now.
async fn bound_pod(client: &Client, claim: &PodClaim) -> Result<Pod, Problem> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &claim.namespace);
    let found = kube_call::read(pods.get_opt(&claim.name)).await?;
    let pod = found.filter(|pod| pod.metadata.uid.as_deref() == Some(&claim.uid));
    let pod = pod.ok_or_else(|| Problem::forbidden("the token's pod is gone"))?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        Some("Succeeded" | "Failed") => Err(Problem::forbidden("the token's pod has ended")),
        _ => Ok(pod),
    }
}

/// The CacheCluster that the pod's label names.
async fn cluster_of(client: &Client, pod: &Pod, claim: &PodClaim) -> Result<CacheCluster, Problem> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL));
    let name = label.ok_or_else(|| Problem::forbidden(format!("the pod has no label {CLUSTER_LABEL}")))?;
    let clusters: Api<CacheCluster> = Api::namespaced(client.clone(), &claim.namespace);
    let found = kube_call::read(clusters.get_opt(name)).await?;
    found.ok_or_else(|| Problem::unknown_cluster(format!("no CacheCluster {name} in namespace {}", claim.namespace)))
}

async fn enrolled(
    shared: &Shared,
    asked: &EnrolRequest,
    claim: &PodClaim,
    pod: &Pod,
    cluster: &CacheCluster,
) -> Result<Enrolment, Problem> {
    let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
    // Not made here: one of a CacheCluster that is just being deleted would be left over for good.
    let preparing = || Problem::unavailable("the CacheCluster's authority has not been made yet; try again");
    let authority = shared.authorities.get(&shared.client, uid).await?.ok_or_else(preparing)?;
    not_anothers(shared, uid, asked.member, &claim.uid).await?;
    let locality = locality(&shared.client, pod, &cluster.spec.topology).await?;
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let names = MemberNames::new(&claim.namespace, name, &claim.name).and_then(|names| names.with_pod_uid(&claim.uid));
    let names = names.map_err(|e| Problem::invalid(e.to_string()))?;
    let identity = MemberIdentity { cluster: authority.cluster(), member: asked.member };
    let validity = LONGEST_LIFE.min(DAY * u32::from(cluster.spec.tls.rotation_interval_days.max(1)));
    let certificate = signed(&authority, asked.request.clone(), identity, names.clone(), validity).await?;
    // At once, so that the leaf is let in here even before the watch has told of a new authority.
    shared
        .trusted
        .set(authority.cluster(), authority.authorities_pem())
        .map_err(|error| Problem::unavailable(error.to_string()))?;
    tracing::info!(member = %asked.member, %names, "enrolled a pod");
    Ok(Enrolment {
        cluster: authority.cluster(),
        certificate,
        authorities: authority.authorities_pem().to_owned(),
        renew_after_s: validity.as_secs() / 3,
        locality,
        pod_uid: claim.uid.clone(),
    })
}

/// An RSA signature takes a millisecond of a processor: on a thread that may block, so that nobody waits behind it.
async fn signed(
    authority: &Arc<ClusterAuthority>,
    request: String,
    identity: MemberIdentity,
    names: MemberNames,
    validity: Duration,
) -> Result<String, Problem> {
    let authority = Arc::clone(authority);
    let signing = tokio::task::spawn_blocking(move || authority.sign(&request, identity, &names, validity));
    let signed = signing.await.map_err(|e| Problem::unavailable(format!("signing broke off: {e}")))?;
    signed.map_err(|error| match error {
        AuthorityError::Request(_) => Problem::invalid(format!("request: {error}")),
        other => Problem::unavailable(other.to_string()),
    })
}

/// A pod is not certified as an incarnation of another pod.
async fn not_anothers(shared: &Shared, uid: &str, member: MemberId, pod_uid: &str) -> Result<(), Problem> {
    match shared.documents.stored(uid).await {
        Ok(Some(stored)) if is_anothers(&stored.document, member, pod_uid) => {
            Err(Problem::forbidden(format!("member {member} is another pod's")))
        }
        // One that can't be understood keeps nobody from being certified: its members are needed to mend it.
        Ok(_) | Err(DocumentError::Corrupt { .. }) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

fn is_anothers(document: &Document, member: MemberId, pod_uid: &str) -> bool {
    let mut known = document.view.members.iter().chain(&document.departed);
    known.any(|m| m.id == member && !matches!(&m.identity, PlatformIdentity::Pod { uid } if uid == pod_uid))
}

/// Where the pod's node is, by the labels that the CacheCluster names.
async fn locality(client: &Client, pod: &Pod, topology: &TopologySpec) -> Result<Locality, Problem> {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let name = name.ok_or_else(|| Problem::unavailable("the pod has no node yet"))?;
    let nodes: Api<Node> = Api::all(client.clone());
    let found = kube_call::read(nodes.get_opt(name)).await?;
    let node = found.ok_or_else(|| Problem::unavailable(format!("node {name} is not known")))?;
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let machine = if topology.machine == NODE { Some(name.to_owned()) } else { label(&topology.machine) };
    Ok(Locality {
        site: label(&topology.site).unwrap_or_default(),
        rack: label(&topology.rack).unwrap_or_default(),
        machine: machine.unwrap_or_default(),
    })
}
