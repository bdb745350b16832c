//! The registry API: how sidecars join, and read and change their cluster's document.
//!
//! Words and statuses are those of [`sidegrid_registry::api`]. A pod proves itself by its token once, and by its leaf
//! afterwards; the leaf's cluster alone decides which document is meant. Any replica of the operator serves it: what is
//! kept here is only a cache of what the API server holds.

#[cfg(test)]
mod conformance_tests;
mod counters;
mod enrol;
mod handlers;
mod problem;
mod republish;
#[cfg(test)]
mod served_tests;
#[cfg(test)]
mod tests;
mod token;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use kube::Client;
use sidegrid_net::service::{Peer, TrustedClusters};
use sidegrid_registry::DEADLINE_HEADER;
use tokio::sync::Semaphore;

pub use counters::{Outcome, RegistryCounters, Request as CountedRequest};
pub use problem::Problem;

use crate::authority::Authorities;
use crate::document::Documents;

/// Requests under way; one more is told to come again.
const MAX_REQUESTS: usize = 64;
/// What one request may take: below the time after which a sidecar gives it up.
const REQUEST_TIME: Duration = Duration::from_secs(4);
/// Largest body: a document twice, with room for its wrapping.
const MAX_BODY: usize = 2 << 20;
/// Largest body of a caller who has shown a token at most.
const MAX_ENROL_BODY: usize = 16 << 10;

/// What the handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryState(Arc<Shared>);

struct Shared {
    client: Client,
    own_ns: String,
    authorities: Authorities,
    documents: Documents,
    trusted: TrustedClusters,
    counters: RegistryCounters,
    seats: Semaphore,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryState").field("namespace", &self.own_ns).finish_non_exhaustive()
    }
}

impl RegistryState {
    /// The state of an operator whose own namespace is `own_ns`.
    #[must_use]
    pub fn new(client: Client, own_ns: &str) -> RegistryState {
        RegistryState(Arc::new(Shared {
            authorities: Authorities::new(own_ns),
            documents: Documents::new(client.clone(), own_ns),
            trusted: TrustedClusters::default(),
            counters: RegistryCounters::default(),
            seats: Semaphore::new(MAX_REQUESTS),
            own_ns: own_ns.to_owned(),
            client,
        }))
    }

    /// Whose leaves are let in: for [`ServiceTls::registry`](sidegrid_net::service::ServiceTls::registry).
    /// [`RegistryState::keep_trust`] fills it.
    #[must_use]
    pub fn trusted(&self) -> TrustedClusters {
        self.0.trusted.clone()
    }

    /// The documents, for others who read or change them.
    #[must_use]
    pub fn documents(&self) -> Documents {
        self.0.documents.clone()
    }

    /// What is counted, to be registered with the operator's metrics.
    #[must_use]
    pub fn counters(&self) -> RegistryCounters {
        self.0.counters.clone()
    }

    /// Keeps [`RegistryState::trusted`] equal to the authorities in the operator's namespace until `shutdown`. Without
    /// it nobody's leaf is let in.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn keep_trust(&self, shutdown: tokio_util::sync::CancellationToken) {
        trust::keep(&self.0, shutdown).await;
    }
}

/// The registry API's routes. To be served by [`serve`](crate::serving::serve), which tells the handlers who calls.
pub fn router(state: RegistryState) -> Router {
    Router::new()
        .route("/v1/enrol", post(enrol::enrol).layer(DefaultBodyLimit::max(MAX_ENROL_BODY)))
        .route("/v1/document", get(handlers::read).post(handlers::create).put(handlers::swap))
        .route("/v1/republish", post(handlers::republish))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(state.clone(), bounded))
        .with_state(state)
}

/// Bounds how many requests are under way and how long each may take.
async fn bounded(State(state): State<RegistryState>, request: Request, next: Next) -> Response {
    let what = CountedRequest::of(request.method(), request.uri().path());
    let changes = request.method() != Method::GET;
    // Whoever shows nothing takes nobody's place.
    let shows = request.extensions().get::<Peer>().is_some() || request.headers().contains_key(AUTHORIZATION);
    if !shows {
        state.0.counters.count(what, Outcome::Denied);
        return Problem::unauthenticated("show a member's certificate, or a pod's token to enrol").into_response();
    }
    let Ok(_seat) = state.0.seats.try_acquire() else {
        state.0.counters.count(what, Outcome::Refused);
        return Problem::overloaded().into_response();
    };
    let time = time_for(&request);
    let response = match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => response,
        // What it had begun may still be done by the API server.
        Err(_) if changes => Problem::unknown(format!("no answer within {time:?}")).into_response(),
        Err(_) => Problem::unavailable(format!("no answer within {time:?}")).into_response(),
    };
    state.0.counters.count(what, Outcome::of(response.status()));
    response
}

/// How long this request may be worked on: as its sender says, within our own bound.
fn time_for(request: &Request) -> Duration {
    let told = request.headers().get(DEADLINE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(REQUEST_TIME, |millis| Duration::from_millis(millis).min(REQUEST_TIME))
}
