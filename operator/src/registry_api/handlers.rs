//! The document's requests. The caller's leaf says whose document is meant.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sidegrid_core::document::Document;
use sidegrid_net::service::Peer;
use sidegrid_registry::api::{Conflict, RepublishRequest, SwapRequest};
use sidegrid_registry::{Swap, decode, encode};

use super::problem::Problem;
use super::{RegistryState, republish};
use crate::authority::uid_text;

type Caller = Option<Extension<Peer>>;

/// The caller, and the uid of its CacheCluster.
fn authenticated(state: &RegistryState, caller: Caller) -> Result<(Peer, String), Problem> {
    let Some(Extension(peer)) = caller else {
        return Err(Problem::unauthenticated("show a member's certificate, which POST /v1/enrol gives"));
    };
    // It was when the connection was made; since then the cluster may have gone.
    if !state.0.trusted.contains(peer.identity.cluster) {
        return Err(Problem::forbidden(format!("cluster {} is not known here", peer.identity.cluster)));
    }
    let uid = uid_text(peer.identity.cluster);
    Ok((peer, uid))
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

pub(super) async fn read(State(state): State<RegistryState>, caller: Caller) -> Result<Response, Problem> {
    let (_, uid) = authenticated(&state, caller)?;
    let found = state.0.documents.read(&uid).await?.ok_or_else(Problem::no_document)?;
    let bytes = encode(&found).map_err(|fault| Problem::invalid(fault.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

pub(super) async fn create(
    State(state): State<RegistryState>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let (peer, uid) = authenticated(&state, caller)?;
    let new = document(&body, &peer)?;
    let swap = state.0.documents.create(&uid, &new).await?;
    Ok(answer(swap, StatusCode::CREATED))
}

pub(super) async fn swap(State(state): State<RegistryState>, caller: Caller, body: Bytes) -> Result<Response, Problem> {
    let (peer, uid) = authenticated(&state, caller)?;
    let unreadable = |e: serde_json::Error| Problem::invalid(format!("the swap can't be read: {e}"));
    let asked: SwapRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    if asked.expected.cluster != peer.identity.cluster {
        return Err(Problem::forbidden("the swap is of another cluster than the certificate"));
    }
    let swap = state.0.documents.swap(&uid, &asked.expected, &asked.next).await?;
    Ok(answer(swap, StatusCode::OK))
}

pub(super) async fn republish(
    State(state): State<RegistryState>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let (peer, uid) = authenticated(&state, caller)?;
    let unreadable = |e: serde_json::Error| Problem::invalid(format!("what is known can't be read: {e}"));
    let known: RepublishRequest = serde_json::from_slice(&body).map_err(unreadable)?;
    encode(&known.document).map_err(|fault| Problem::invalid(fault.to_string()))?;
    of_its_cluster(&known.document, &peer)?;
    if republish::republish(&state.0.documents, &uid, peer.identity.member, &known).await? {
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
