//! The document's requests. The caller's leaf says whose document is meant.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sidegrid_core::document::Document;
use sidegrid_core::member::{Member, PlatformIdentity};
use sidegrid_core::rights::Caller;
use sidegrid_net::service::Peer;
use sidegrid_registry::api::{Conflict, RepublishRequest, SwapRequest};
use sidegrid_registry::{Swap, decode, encode};

use super::problem::Problem;
use super::{RegistryState, republish};
use crate::authority::uid_text;
use crate::document::DocumentError;

type Shown = Option<Extension<Peer>>;

/// Who asks, as the certificate and the pods that there are have it.
struct Authenticated {
    peer: Peer,
    /// The uid of its CacheCluster.
    uid: String,
    caller: Caller,
    is_client: bool,
}

impl Authenticated {
    /// What only those do who are, or become, members.
    fn as_member(&self) -> Result<&Caller, Problem> {
        if self.is_client {
            return Err(Problem::forbidden("a client changes no document; let the pod have the role member"));
        }
        Ok(&self.caller)
    }
}

async fn authenticated(state: &RegistryState, shown: Shown) -> Result<Authenticated, Problem> {
    let Some(Extension(peer)) = shown else {
        return Err(Problem::unauthenticated("show a member's certificate, which POST /v1/enrol gives"));
    };
    // It was when the connection was made; since then the cluster may have gone, or the pod.
    if !state.0.trusted.contains(peer.identity.cluster) {
        return Err(Problem::forbidden(format!("cluster {} is not known here", peer.identity.cluster)));
    }
    let (pod_uid, pod) = state.0.pods.of_certificate(peer.names.as_ref()).await?;
    let caller = Caller { member: peer.identity.member, identity: PlatformIdentity::Pod { uid: pod_uid } };
    let uid = uid_text(peer.identity.cluster);
    Ok(Authenticated { peer, uid, caller, is_client: pod.is_client })
}

fn document(bytes: &[u8], peer: &Peer) -> Result<Document, Problem> {
    let document = decode(bytes).map_err(|fault| Problem::invalid(fault.to_string()))?;
    of_its_cluster(&document, peer)?;
    Ok(document)
}

fn of_its_cluster(document: &Document, peer: &Peer) -> Result<(), Problem> {
    if document.cluster != peer.identity.cluster {
        return Err(Problem::forbidden("the document is another cluster's than the certificate"));
    }
    Ok(())
}

pub(super) async fn read(State(state): State<RegistryState>, shown: Shown) -> Result<Response, Problem> {
    let by = authenticated(&state, shown).await?;
    let found = state.0.documents.read(&by.uid).await?.ok_or_else(Problem::no_document)?;
    let bytes = encode(&found).map_err(|fault| Problem::invalid(fault.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

pub(super) async fn create(State(state): State<RegistryState>, shown: Shown, body: Bytes) -> Result<Response, Problem> {
    let by = authenticated(&state, shown).await?;
    let caller = by.as_member()?;
    let new = document(&body, &by.peer)?;
    (state.0.rights.creation)(caller, &new).map_err(DocumentError::from)?;
    let swap = state.0.documents.create(&by.uid, &new).await?;
    Ok(answer(swap, StatusCode::CREATED))
}

pub(super) async fn swap(State(state): State<RegistryState>, shown: Shown, body: Bytes) -> Result<Response, Problem> {
    let by = authenticated(&state, shown).await?;
    let caller = by.as_member()?;
    let unreadable = |e: serde_json::Error| Problem::invalid(format!("the swap can't be read: {e}"));
    let asked: SwapRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    if asked.expected.cluster != by.peer.identity.cluster {
        return Err(Problem::forbidden("the swap is of another cluster than the certificate"));
    }
    let released = |member: &Member| state.0.pods.may_have_released(member);
    let check = |present: &Document| (state.0.rights.change)(caller, present, &asked.next, &released);
    let swap = state.0.documents.swap_checked(&by.uid, &asked.expected, &asked.next, check).await?;
    Ok(answer(swap, StatusCode::OK))
}

pub(super) async fn republish(
    State(state): State<RegistryState>,
    shown: Shown,
    body: Bytes,
) -> Result<Response, Problem> {
    let by = authenticated(&state, shown).await?;
    let caller = by.as_member()?;
    let unreadable = |e: serde_json::Error| Problem::invalid(format!("what is known can't be read: {e}"));
    let known: RepublishRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    encode(&known.document).map_err(|fault| Problem::invalid(fault.to_string()))?;
    of_its_cluster(&known.document, &by.peer)?;
    if republish::republish(&state.0.documents, &by.uid, caller, &known).await? {
        state.0.counters.restored();
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

fn answer(swap: Swap, done: StatusCode) -> Response {
    match swap {
        Swap::Done => done.into_response(),
        Swap::Conflict(there) => (StatusCode::CONFLICT, Json(Conflict { there })).into_response(),
    }
}
