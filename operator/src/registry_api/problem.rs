//! Refusals, as the API tells them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sidegrid_registry::api::{ApiProblem, reason};

use crate::authority::AuthorityFault;
use crate::document::DocumentError;
use crate::kube_call::CallError;

/// A refusal: a status, a stable word and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, reason, detail: detail.into() }
    }

    pub(super) fn unauthenticated(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, reason::UNAUTHENTICATED, detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, reason::FORBIDDEN, detail)
    }

    pub(super) fn unknown_cluster(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, reason::UNKNOWN_CLUSTER, detail)
    }

    pub(super) fn no_document() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, reason::NO_DOCUMENT, "no document has been created yet")
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, reason::INVALID, detail)
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, reason::INVALID, detail)
    }

    /// Nothing was changed.
    pub(super) fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason::UNAVAILABLE, detail)
    }

    /// The caller's own doing, and so no fault of the operator's. Nothing was begun.
    pub(super) fn too_slow(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::REQUEST_TIMEOUT, reason::UNAVAILABLE, detail)
    }

    /// Something may have been changed.
    pub(super) fn unknown(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason::UNKNOWN_OUTCOME, detail)
    }

    /// Nothing was begun.
    pub(super) fn overloaded() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason::OVERLOADED, "too many requests are under way; try again")
    }

    pub(super) fn not_found() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, reason::INVALID, "the registry API has no such path")
    }

    pub(super) fn method_not_allowed() -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, reason::INVALID, "the path does not know this method")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = self.status.as_u16(), reason = self.reason, detail = %self.detail, "refused");
        } else {
            tracing::debug!(status = self.status.as_u16(), reason = self.reason, detail = %self.detail, "refused");
        }
        let body = Json(ApiProblem { reason: self.reason.to_owned(), detail: self.detail });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<DocumentError> for Problem {
    fn from(fault: DocumentError) -> Problem {
        let says = fault.to_string();
        match fault {
            DocumentError::Unavailable(_) => Problem::unavailable(says),
            DocumentError::Unknown(_) => Problem::unknown(says),
            DocumentError::Lost(_) => Problem::new(StatusCode::GONE, reason::LOST, says),
            DocumentError::UnknownCluster(_) => Problem::forbidden(says),
            DocumentError::Corrupt { .. } => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reason::CORRUPT, says),
            DocumentError::Invalid(_) => Problem::invalid(says),
            DocumentError::Refused(_) => Problem::forbidden(says),
        }
    }
}

/// Of calls that read only.
impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        Problem::unavailable(format!("the API server: {error}"))
    }
}

impl From<AuthorityFault> for Problem {
    fn from(fault: AuthorityFault) -> Problem {
        let says = fault.to_string();
        if fault.is_retryable() {
            Problem::unavailable(says)
        } else {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reason::CORRUPT, says)
        }
    }
}
