//! What the registry API counts.

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, reason = "the names are those of the API's requests")]
pub enum Request {
    Enrol,
    Read,
    Create,
    Swap,
    Republish,
    Other,
}

impl Request {
    pub(super) fn of(method: &Method, path: &str) -> Request {
        match (path, method) {
            ("/v1/enrol", _) => Request::Enrol,
            ("/v1/document", &Method::GET) => Request::Read,
            ("/v1/document", &Method::POST) => Request::Create,
            ("/v1/document", &Method::PUT) => Request::Swap,
            ("/v1/republish", _) => Request::Republish,
            _ => Request::Other,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// As asked.
    Done,
    /// 409.
    Conflict,
    /// Any other 4xx.
    Denied,
    /// Not begun, since too much was under way.
    Refused,
    /// 5xx.
    Failed,
}

impl Outcome {
    pub(super) fn of(status: StatusCode) -> Outcome {
        match status {
            StatusCode::CONFLICT => Outcome::Conflict,
            status if status.is_client_error() => Outcome::Denied,
            status if status.is_server_error() => Outcome::Failed,
            _ => Outcome::Done,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    request: Request,
    outcome: Outcome,
}

/// Counters of the registry API. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct RegistryCounters {
    requests: Family<Labels, Counter>,
    restored: Counter,
}

impl RegistryCounters {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "sidegrid_operator_registry_requests",
            "Requests of the registry API by kind and outcome",
            self.requests.clone(),
        );
        registry.register(
            "sidegrid_operator_documents_restored",
            "Documents put back after more than half of a view's members had published them again",
            self.restored.clone(),
        );
    }

    /// How many requests of a kind ended so.
    #[must_use]
    pub fn requests(&self, request: Request, outcome: Outcome) -> u64 {
        self.requests.get_or_create(&Labels { request, outcome }).get()
    }

    pub(super) fn count(&self, request: Request, outcome: Outcome) {
        self.requests.get_or_create(&Labels { request, outcome }).inc();
    }

    pub(super) fn restored(&self) {
        self.restored.inc();
    }
}
