//! The registry API: how sidecars join, and read and change their cluster's document.
//!
//! Words and statuses are those of [`sidegrid_registry::api`]. A pod proves itself by its token once, and by its leaf
//! afterwards; the leaf's cluster alone decides which document is meant. Any replica of the operator serves it: what is
//! kept here is only a cache of what the API server holds.

mod bounds;
#[cfg(test)]
mod conformance_tests;
mod counters;
mod enrol;
#[cfg(test)]
mod flood_tests;
mod handlers;
mod pods;
mod problem;
mod republish;
#[cfg(test)]
mod served_tests;
#[cfg(test)]
mod tests;
mod token;
mod trust;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use kube::Client;
use sidegrid_core::document::Document;
use sidegrid_core::member::Member;
use sidegrid_core::rights::{self, Caller, ChangeError};
use sidegrid_net::service::TrustedClusters;
use tokio_util::sync::CancellationToken;

use bounds::{Budget, bounded};
pub use counters::{Outcome, RegistryCounters, Request as CountedRequest};
use pods::Pods;
pub use problem::Problem;

use crate::authority::Authorities;
use crate::document::Documents;

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
    trust_is_listed: CancellationToken,
    pods: Pods,
    rights: Rights,
    members: Budget,
    unauthenticated: Budget,
}

/// The rules of who may change a document (G-5).
struct Rights {
    creation: fn(&Caller, &Document) -> Result<(), ChangeError>,
    change: CheckChange,
}

type CheckChange = fn(&Caller, &Document, &Document, &dyn Fn(&Member) -> bool) -> Result<(), ChangeError>;

impl Default for Rights {
    fn default() -> Rights {
        Rights { creation: rights::check_creation, change: rights::check_change }
    }
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
        RegistryState::with_rights(client, own_ns, Rights::default())
    }

    fn with_rights(client: Client, own_ns: &str, rights: Rights) -> RegistryState {
        RegistryState(Arc::new(Shared {
            trust_is_listed: CancellationToken::new(),
            pods: Pods::new(client.clone()),
            rights,
            authorities: Authorities::new(own_ns),
            documents: Documents::new(client.clone(), own_ns),
            trusted: TrustedClusters::default(),
            counters: RegistryCounters::default(),
            members: Budget::of_members(),
            unauthenticated: Budget::of_unauthenticated(),
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

    /// Waits until authorities and pods have been listed once: until then some callers could not be served.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn listed(&self) {
        self.0.trust_is_listed.cancelled().await;
        self.0.pods.listed().await;
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
    pub async fn keep_trust(&self, shutdown: CancellationToken) {
        trust::keep(&self.0, shutdown).await;
    }

    /// Keeps what is known of pods until `shutdown`. Without it each request reads its caller's pod.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn keep_pods(&self, shutdown: CancellationToken) {
        self.0.pods.keep(shutdown).await;
    }
}

/// The registry API's routes. To be served by [`serve`](crate::serving::serve), which tells the handlers who calls.
pub fn router(state: RegistryState) -> Router {
    Router::new()
        .route("/v1/enrol", post(enrol::enrol))
        .route("/v1/document", get(handlers::read).post(handlers::create).put(handlers::swap))
        .route("/v1/republish", post(handlers::republish))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        // The next layer has taken the body in, within what its caller may send.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(state.clone(), bounded))
        .with_state(state)
}
