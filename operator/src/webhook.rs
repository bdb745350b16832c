//! The injection webhook: puts the sidecar into every pod that is made with the label `sidegrid.dev/cluster`.
//!
//! Mutating, on the creation of pods. It answers from the request, a read of the CacheCluster and, where a mesh may be
//! around the pod, one of its Namespace; it changes nothing anywhere, and so does the same for a dry run. [`inject()`]
//! is the pure part.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1, Operation};
use kube::core::response::{Status, StatusSummary};
use kube::{Api, Client};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::body::{Arrived, BodyFault, take_in};
use crate::crd::CacheCluster;

mod apps;
mod checks;
mod container;
pub mod images;
mod inject;
mod mesh;
mod patch;
mod placement;
mod port_list;
mod refusal;
mod resources;
#[cfg(test)]
mod tests;

pub use inject::{InjectSettings, inject};
pub use mesh::asks_namespace;
pub use refusal::{Refusal, RefusalKind};
pub(crate) use resources::nanos;

/// Path of the webhook.
pub const PATH: &str = "/mutate";
/// Largest request in bytes: more than an API server takes for an object.
const MAX_BODY_BYTES: usize = 4 << 20;
/// What is held of all requests' bodies, in bytes: a part of the operator's memory.
const MAX_BUFFERED_BYTES: usize = 48 << 20;
/// Requests answered at once; others wait for their turn.
const CONCURRENCY: usize = 16;
/// Longest time for a request: less than the API server waits for a webhook.
const REQUEST_TIME: Duration = Duration::from_millis(4_500);
/// Longest time for all that is read for one pod: less than the API server waits for a webhook.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(4);

/// Where CacheClusters and Namespaces are read.
pub trait Lookup: Send + Sync + 'static {
    /// Reads a CacheCluster; none when there is none of that name.
    ///
    /// # Errors
    /// When it can't be told whether there is one.
    ///
    /// # Cancel safety
    /// It may be dropped at any time: it only reads.
    fn cluster(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<CacheCluster>, LookupError>> + Send;

    /// Reads the metadata of a Namespace.
    ///
    /// # Errors
    /// When it can't be read. That it isn't there is no answer either: a pod is being made in it.
    ///
    /// # Cancel safety
    /// It may be dropped at any time: it only reads.
    fn namespace(&self, name: &str) -> impl Future<Output = Result<ObjectMeta, LookupError>> + Send;
}

/// What a pod needs couldn't be read.
#[derive(Debug, Error)]
pub enum LookupError {
    /// Not its CacheCluster.
    #[error("the CacheCluster can't be read: {0}")]
    Cluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not its Namespace.
    #[error("the Namespace can't be read: {0}")]
    Namespace(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Lookup for Client {
    async fn cluster(&self, namespace: &str, name: &str) -> Result<Option<CacheCluster>, LookupError> {
        let clusters: Api<CacheCluster> = Api::namespaced(self.clone(), namespace);
        clusters.get_opt(name).await.map_err(|error| LookupError::Cluster(error.into()))
    }

    async fn namespace(&self, name: &str) -> Result<ObjectMeta, LookupError> {
        let namespaces: Api<Namespace> = Api::all(self.clone());
        let found = namespaces.get_metadata(name).await.map_err(|error| LookupError::Namespace(error.into()))?;
        Ok(found.metadata)
    }
}

/// What the webhook answers from.
#[derive(Clone, Debug)]
pub struct WebhookState<L> {
    lookup: L,
    settings: InjectSettings,
    patience: Duration,
}

impl<L: Lookup> WebhookState<L> {
    /// Reads CacheClusters and Namespaces there, and injects with these settings.
    pub fn new(lookup: L, settings: InjectSettings) -> WebhookState<L> {
        WebhookState { lookup, settings, patience: LOOKUP_PATIENCE }
    }
}

/// The webhook at [`PATH`]. Bodies and requests at once are bounded; connections are the server's to bound.
pub fn router<L: Lookup>(state: WebhookState<L>) -> Router {
    Router::new()
        .route(PATH, post(mutate::<L>))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(GlobalConcurrencyLimitLayer::new(CONCURRENCY))
        .layer(from_fn_with_state(Arc::new(Semaphore::new(MAX_BUFFERED_BYTES)), collected))
        .layer(from_fn(timed))
        .with_state(Arc::new(state))
}

/// Takes the body in before the request takes its turn, so that whoever sends it slowly keeps nobody waiting. What has
/// arrived of all bodies is bounded; past that bound the request is told to come again.
async fn collected(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let Arrived { bytes, room: _room } = match take_in(body, MAX_BODY_BYTES, &room).await {
        Ok(arrived) => arrived,
        Err(BodyFault::BrokeOff) => return (StatusCode::BAD_REQUEST, "the body broke off").into_response(),
        Err(BodyFault::TooLarge) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than an object may be").into_response();
        }
        Err(BodyFault::NoRoom) => {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again").into_response();
        }
    };
    next.run(Request::from_parts(head, Body::from(bytes))).await
}

/// Gives a request its time, arrival of its body included: anyone who reaches the port can send one, slowly.
async fn timed(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, format!("not done within {REQUEST_TIME:?}")).into_response(),
    }
}

async fn mutate<L: Lookup>(State(state): State<Arc<WebhookState<L>>>, body: Bytes) -> Response {
    match read(&body) {
        Ok(request) => {
            let answer = match review(&state, &request).await {
                Ok(answer) => answer,
                Err(denial) => denial.answer(AdmissionResponse::from(&request)),
            };
            Json(answer.into_review()).into_response()
        }
        Err((uid, problem)) => {
            tracing::warn!(%problem, "an admission request can't be read");
            let code = if uid.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            let mut answer = AdmissionResponse::invalid(problem);
            answer.uid = uid;
            answer.result.code = 400;
            (code, Json(answer.into_review())).into_response()
        }
    }
}

/// Reads the request; on failure its uid as far as there is one, so that the API server can tell whose answer it is.
fn read(body: &[u8]) -> Result<AdmissionRequest<Pod>, (String, String)> {
    let value: Value = serde_json::from_slice(body).map_err(|error| (String::new(), format!("no JSON: {error}")))?;
    let uid = value.pointer("/request/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    let problem = |problem: String| (uid.clone(), problem);
    let review: AdmissionReview<Pod> =
        serde_json::from_value(value).map_err(|error| problem(format!("no AdmissionReview of a pod: {error}")))?;
    if review.types.api_version != META_API_VERSION_V1 {
        return Err(problem(format!("apiVersion: {:?} isn't {META_API_VERSION_V1}", review.types.api_version)));
    }
    review.try_into().map_err(|_| problem("request: is missing".to_owned()))
}

/// Why a request is denied, for the API server.
struct Denial {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Denial {
    fn answer(self, answer: AdmissionResponse) -> AdmissionResponse {
        let mut answer = answer.deny(&self.message);
        answer.result = Status {
            status: Some(StatusSummary::Failure),
            code: self.code,
            message: self.message,
            reason: self.reason.to_owned(),
            ..Status::default()
        };
        answer
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Denial {
        // The reasons that Kubernetes gives with these codes.
        let reason = match refusal.code() {
            400 => "BadRequest",
            403 => "Forbidden",
            _ => "Invalid",
        };
        Denial { code: refusal.code(), reason, message: refusal.to_string() }
    }
}

async fn review<L: Lookup>(
    state: &WebhookState<L>,
    request: &AdmissionRequest<Pod>,
) -> Result<AdmissionResponse, Denial> {
    let answer = AdmissionResponse::from(request);
    let is_pod = request.resource.resource == "pods" && request.resource.group.is_empty();
    let is_sub = request.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty());
    // A webhook configuration that asks for more than the creation of pods is no reason to stop the rest.
    if request.operation != Operation::Create || !is_pod || is_sub {
        return Ok(answer);
    }
    let missing = |field: &str, fix: &str| Refusal::new(RefusalKind::Unreadable, field, "is missing", fix);
    let pod = request.object.as_ref().ok_or_else(|| missing("request.object", "send the pod"))?;
    let Some(name) = checks::cluster_label(pod)? else { return Ok(answer) };
    let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.ok_or_else(|| missing("request.namespace", "send the pod's namespace"))?;
    let pod_name = pod.metadata.name.as_deref().or(pod.metadata.generate_name.as_deref()).unwrap_or_default();

    let found = look_up(state, pod, namespace, name).await?;
    let injected = found.and_then(|found| inject(pod, &found.cluster, found.namespace.as_ref(), &state.settings));
    let injected = injected.map_err(|refusal| {
        let (reason, dry_run) = (refusal.reason(), request.dry_run);
        tracing::info!(namespace, pod = pod_name, cluster = name, reason, dry_run, %refusal, "refused a pod");
        Denial::from(refusal)
    })?;
    let patch = patch::between(pod, &injected).map_err(internal)?;
    tracing::info!(namespace, pod = pod_name, cluster = name, dry_run = request.dry_run, "injected the sidecar");
    if patch.0.is_empty() { Ok(answer) } else { answer.with_patch(patch).map_err(internal) }
}

/// What injection needs beside the request.
struct Found {
    cluster: CacheCluster,
    /// The metadata of the pod's Namespace, where it is needed.
    namespace: Option<ObjectMeta>,
}

/// Reads what injection needs; inside, that there is no such CacheCluster.
async fn look_up<L: Lookup>(
    state: &WebhookState<L>,
    pod: &Pod,
    namespace: &str,
    name: &str,
) -> Result<Result<Found, Refusal>, Denial> {
    let unavailable = |message: String| {
        tracing::warn!(namespace, cluster = name, %message, "a pod waits for what it needs to be read");
        Denial { code: 503, reason: "ServiceUnavailable", message: format!("{message}; try again") }
    };
    let reading = async {
        let Some(cluster) = state.lookup.cluster(namespace, name).await? else { return Ok(None) };
        let is_needed = asks_namespace(pod, &cluster);
        let of_pod = if is_needed { Some(state.lookup.namespace(namespace).await?) } else { None };
        Ok::<_, LookupError>(Some(Found { cluster, namespace: of_pod }))
    };
    // Cancel safe: it only reads.
    match tokio::time::timeout(state.patience, reading).await {
        Ok(Ok(Some(found))) => Ok(Ok(found)),
        Ok(Ok(None)) => Ok(Err(Refusal::new(
            RefusalKind::NoCluster,
            refusal::keyed("labels", crate::names::CLUSTER_LABEL),
            format!("there is no CacheCluster {name:?} in namespace {namespace:?}"),
            "create it there, or name another one",
        ))),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!(
            "CacheCluster {name:?}, or the Namespace {namespace:?} for a mesh, wasn't read within {:?}",
            state.patience
        ))),
    }
}

/// What can't happen to a pod that was read from JSON, answered nevertheless.
fn internal(error: impl std::fmt::Display) -> Denial {
    Denial { code: 500, reason: "InternalError", message: error.to_string() }
}
