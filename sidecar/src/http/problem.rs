//! Errors as apps see them: `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use sidegrid_config::Timing;
use sidegrid_core::Version;
use sidegrid_core::operation::{Applied, Outcome, Refusal, RefusalReason};
use utoipa::ToSchema;

use super::Reply;
use super::answer::etag;

/// What every `type` begins with.
pub(crate) const TYPE_PREFIX: &str = "https://sidegrid.dev/problems/";

/// The kinds of problem. Labels, statuses and `retryable` are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemType {
    BadKey,
    BadParameter,
    BadHeader,
    BadRequest,
    NotAvailableYet,
    ForeignOrigin,
    NoSuchEntry,
    NoSuchCache,
    NoSuchPath,
    MethodNotAllowed,
    BodyTimeout,
    NotANumber,
    Overflow,
    UnknownOperation,
    ConditionFailed,
    ValueTooLarge,
    WrongHost,
    IdempotencyMismatch,
    Overloaded,
    NoLease,
    NoOwner,
    Rebalancing,
    Timeout,
    Full,
    Internal,
}

/// What is fixed for a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) label: &'static str,
    pub(crate) title: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) retryable: bool,
}

impl ProblemType {
    /// Every kind, by status.
    #[cfg(test)]
    pub(crate) const ALL: [ProblemType; 25] = [
        ProblemType::BadKey,
        ProblemType::BadParameter,
        ProblemType::BadHeader,
        ProblemType::BadRequest,
        ProblemType::NotAvailableYet,
        ProblemType::ForeignOrigin,
        ProblemType::NoSuchEntry,
        ProblemType::NoSuchCache,
        ProblemType::NoSuchPath,
        ProblemType::MethodNotAllowed,
        ProblemType::BodyTimeout,
        ProblemType::NotANumber,
        ProblemType::Overflow,
        ProblemType::UnknownOperation,
        ProblemType::ConditionFailed,
        ProblemType::ValueTooLarge,
        ProblemType::WrongHost,
        ProblemType::IdempotencyMismatch,
        ProblemType::Overloaded,
        ProblemType::NoLease,
        ProblemType::NoOwner,
        ProblemType::Rebalancing,
        ProblemType::Timeout,
        ProblemType::Full,
        ProblemType::Internal,
    ];

    /// What is fixed for this kind.
    pub(crate) const fn about(self) -> About {
        const fn about(label: &'static str, status: StatusCode, retryable: bool, title: &'static str) -> About {
            About { label, title, status, retryable }
        }
        match self {
            ProblemType::BadKey => about("bad-key", StatusCode::BAD_REQUEST, false, "The key can't be used"),
            ProblemType::BadParameter => {
                about("bad-parameter", StatusCode::BAD_REQUEST, false, "A query parameter can't be used")
            }
            ProblemType::BadHeader => about("bad-header", StatusCode::BAD_REQUEST, false, "A header can't be used"),
            ProblemType::BadRequest => {
                about("bad-request", StatusCode::BAD_REQUEST, false, "The request can't be used")
            }
            ProblemType::NotAvailableYet => {
                about("not-available-yet", StatusCode::BAD_REQUEST, false, "This is not available yet")
            }
            ProblemType::ForeignOrigin => {
                about("foreign-origin", StatusCode::FORBIDDEN, false, "Web pages of this origin are not allowed")
            }
            ProblemType::NoSuchEntry => {
                about("no-such-entry", StatusCode::NOT_FOUND, false, "The cache holds no such entry")
            }
            ProblemType::NoSuchCache => about("no-such-cache", StatusCode::NOT_FOUND, false, "There is no such cache"),
            ProblemType::NoSuchPath => about("no-such-path", StatusCode::NOT_FOUND, false, "There is no such path"),
            ProblemType::MethodNotAllowed => {
                about("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, false, "The path has no such method")
            }
            ProblemType::BodyTimeout => {
                about("body-timeout", StatusCode::REQUEST_TIMEOUT, true, "The body did not arrive in time")
            }
            ProblemType::NotANumber => about("not-a-number", StatusCode::CONFLICT, false, "The value is not a counter"),
            ProblemType::Overflow => about("overflow", StatusCode::CONFLICT, false, "The counter would pass 64 bits"),
            ProblemType::UnknownOperation => {
                about("unknown-operation", StatusCode::CONFLICT, false, "The operation is too old to be known")
            }
            ProblemType::ConditionFailed => {
                about("condition-failed", StatusCode::PRECONDITION_FAILED, false, "The condition does not hold")
            }
            ProblemType::ValueTooLarge => {
                about("value-too-large", StatusCode::PAYLOAD_TOO_LARGE, false, "The value is too large")
            }
            ProblemType::WrongHost => {
                about("wrong-host", StatusCode::MISDIRECTED_REQUEST, false, "The request is meant for another host")
            }
            ProblemType::IdempotencyMismatch => about(
                "idempotency-mismatch",
                StatusCode::UNPROCESSABLE_ENTITY,
                false,
                "The Idempotency-Key was used for another request",
            ),
            ProblemType::Overloaded => {
                about("overloaded", StatusCode::TOO_MANY_REQUESTS, true, "Too much is under way")
            }
            ProblemType::NoLease => {
                about("no-lease", StatusCode::SERVICE_UNAVAILABLE, true, "The member may not serve at the moment")
            }
            ProblemType::NoOwner => about("no-owner", StatusCode::SERVICE_UNAVAILABLE, true, "Nobody owns the key yet"),
            ProblemType::Rebalancing => {
                about("rebalancing", StatusCode::SERVICE_UNAVAILABLE, true, "The key is moving to another member")
            }
            ProblemType::Timeout => about("timeout", StatusCode::SERVICE_UNAVAILABLE, true, "No answer in time"),
            ProblemType::Full => about("full", StatusCode::INSUFFICIENT_STORAGE, false, "The cache is full"),
            ProblemType::Internal => {
                about("internal", StatusCode::INTERNAL_SERVER_ERROR, false, "The member went wrong; please report it")
            }
        }
    }
}

impl ProblemType {
    /// How long what is in the way usually lasts, by the cluster's times; none: a retry can't help.
    fn passes_after(self, timing: &Timing) -> Option<Duration> {
        match self {
            // Until the lease is renewed, or one that an older view gave has run out.
            ProblemType::NoLease | ProblemType::Rebalancing => Some(timing.lease),
            // Until a member is found dead and a view without it is served.
            ProblemType::NoOwner => Some(timing.suspect + timing.lease),
            // Until some of the work under way is done; what timed out has been waited for already.
            ProblemType::Overloaded | ProblemType::Timeout | ProblemType::BodyTimeout => Some(timing.ping),
            _ => None,
        }
    }
}

/// The body of a problem.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Stable URI of the kind of problem: `https://sidegrid.dev/problems/` and a label.
    #[serde(rename = "type")]
    #[schema(example = "https://sidegrid.dev/problems/condition-failed")]
    kind: &'a str,
    /// What kind of problem it is, for people.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What it is about this request, for people.
    detail: &'a str,
    /// Whether the same request may succeed a little later.
    retryable: bool,
    /// Whether the operation took effect: `no` is certain.
    #[schema(pattern = "^(no|unknown)$")]
    applied: &'a str,
    /// For a retryable problem: after how many milliseconds a retry is worth while. `Retry-After` says it in whole seconds,
    /// rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// For `value-too-large`: the most bytes that a value may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

/// A problem on its way to the app.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemType,
    pub(crate) detail: Cow<'static, str>,
    applied: Applied,
    retry_after: Option<Duration>,
    limit: Option<u64>,
    allow: Option<&'static str>,
    current: Option<Version>,
}

impl Problem {
    /// A problem that was found before anything could be applied.
    pub(crate) fn new(kind: ProblemType, detail: impl Into<Cow<'static, str>>) -> Problem {
        let detail = detail.into();
        let retry_after = kind.passes_after(&Timing::default());
        Problem { kind, detail, applied: Applied::No, retry_after, limit: None, allow: None, current: None }
    }

    /// The same with the times of this cluster.
    pub(crate) fn with_times(self, timing: &Timing) -> Problem {
        Problem { retry_after: self.kind.passes_after(timing), ..self }
    }

    /// A query parameter of this name is wrong in this way.
    pub(crate) fn parameter(name: &str, wrong: impl std::fmt::Display) -> Problem {
        Problem::new(ProblemType::BadParameter, format!("{}: {wrong}", shortened(name)))
    }

    /// A header of this name is wrong in this way.
    pub(crate) fn header(name: &str, wrong: impl std::fmt::Display) -> Problem {
        Problem::new(ProblemType::BadHeader, format!("{name}: {wrong}"))
    }

    /// The path has none but these methods.
    pub(crate) fn method(allow: &'static str) -> Problem {
        let detail = format!("it has {allow}");
        Problem { allow: Some(allow), ..Problem::new(ProblemType::MethodNotAllowed, detail) }
    }

    /// The condition of the request does not hold of this version of the entry, or of there being none.
    pub(crate) fn condition_failed(current: Option<Version>) -> Problem {
        let detail = match current {
            Some(_) => "the entry is not the one that the condition names; its ETag is in the header",
            None => "there is no such entry",
        };
        Problem { current, ..Problem::new(ProblemType::ConditionFailed, detail) }
    }

    /// A value of more than `limit` bytes.
    pub(crate) fn too_large(limit: u64) -> Problem {
        let detail = format!("a value may have at most {limit} bytes (http.maxValueBytes)");
        Problem { limit: Some(limit), ..Problem::new(ProblemType::ValueTooLarge, detail) }
    }

    /// An answer that no operation of this kind has.
    pub(crate) fn internal(outcome: &Outcome) -> Problem {
        let detail = format!("an operation had an outcome of another kind: {}", outcome_name(outcome));
        Problem { applied: Applied::Unknown, ..Problem::new(ProblemType::Internal, detail) }
    }

    /// The body, as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let about = self.kind.about();
        let kind = [TYPE_PREFIX, about.label].concat();
        let body = ProblemBody {
            kind: &kind,
            title: about.title,
            status: about.status.as_u16(),
            detail: &self.detail,
            retryable: about.retryable,
            applied: match self.applied {
                Applied::No => "no",
                Applied::Unknown => "unknown",
            },
            retry_after_ms: self.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            limit: self.limit,
        };
        // Texts and numbers alone: writing them as JSON can't fail.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// `Retry-After` knows whole seconds only: the nearest, so that what passes in a fraction is not waited for.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| (after + Duration::from_millis(500)).as_secs())
    }

    /// As an answer.
    pub(crate) fn into_reply(self) -> Reply {
        let about = self.kind.about();
        let mut reply = Response::new(Full::new(Bytes::from(self.to_json())));
        *reply.status_mut() = about.status;
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(current) = self.current {
            headers.insert(ETAG, etag(current));
        }
        reply
    }
}

impl From<Refusal> for Problem {
    /// Keeps what the core said about having applied it (O-3).
    fn from(refusal: Refusal) -> Problem {
        let (kind, detail) = match refusal.reason {
            RefusalReason::NoLease => {
                (ProblemType::NoLease, "it is cut off, paused or superseded; it comes back by itself")
            }
            RefusalReason::NoOwner => (ProblemType::NoOwner, "this member knows no view yet, or nobody owns the key"),
            RefusalReason::Rebalancing => (ProblemType::Rebalancing, "the key's group is changing its primary"),
            RefusalReason::Overloaded => (ProblemType::Overloaded, "a bound on work in flight was reached"),
            RefusalReason::Full => (ProblemType::Full, "the cache is at its bound and refuses rather than evicts"),
            RefusalReason::Timeout => (ProblemType::Timeout, "the operation's deadline passed"),
            RefusalReason::ResultsFull => (
                ProblemType::Overloaded,
                "the results of requests with an Idempotency-Key that are remembered for this entry or cache fill their \
                 budget; each is forgotten after two minutes",
            ),
            RefusalReason::IdempotencyMismatch => (
                ProblemType::IdempotencyMismatch,
                "the Idempotency-Key was used on this entry for a request with another method, value or condition",
            ),
            RefusalReason::UnknownOperation => {
                (ProblemType::UnknownOperation, "the Idempotency-Key is older than the results that are remembered")
            }
        };
        Problem { applied: refusal.applied, ..Problem::new(kind, detail) }
    }
}

/// An outcome's kind without its values.
fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) => "found",
        Outcome::Absent => "absent",
        Outcome::Stored { .. } => "stored",
        Outcome::Deleted { .. } => "deleted",
        Outcome::Touched { .. } => "touched",
        Outcome::Counter { .. } => "counter",
        Outcome::ConditionFailed { .. } => "condition failed",
        Outcome::NotANumber => "not a number",
        Outcome::Overflow => "overflow",
    }
}

/// A name given by the app, short enough to be shown.
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    const SHOWN: usize = 64;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}...", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// The table of problems for the user documentation, in Markdown.
#[cfg(test)]
pub(crate) fn reference() -> String {
    let mut table = String::from("| type | status | retryable | what it says |\n| --- | --- | --- | --- |\n");
    for kind in ProblemType::ALL {
        let About { label, title, status, retryable } = kind.about();
        let retryable = if retryable { "yes" } else { "no" };
        table.push_str(&format!("| `{label}` | {} | {retryable} | {title} |\n", status.as_u16()));
    }
    table
}
