//! What callers may take up: how many requests, how much of their bodies, and for how long. Members and strangers have
//! each their own share, since whoever reaches the port can call without being anybody.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sidegrid_net::service::Peer;
use sidegrid_registry::DEADLINE_HEADER;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{CountedRequest, Outcome, Problem, RegistryState};
use crate::body::{Arrived, BodyFault, take_in};

/// Requests of members under way; one more is told to come again.
pub(super) const MEMBERS_REQUESTS: usize = 64;
/// Requests of callers without a leaf under way; one more is told to come again.
pub(super) const STRANGERS_REQUESTS: usize = 16;
/// What one request may take: below the time after which a sidecar gives it up.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(4);
/// Largest body: a document twice, with room for its wrapping.
pub(super) const MAX_BODY: usize = 2 << 20;
/// Largest enrolment, and body of a caller who has shown a token at most: a certificate request has well under two
/// thousand bytes.
pub(super) const MAX_ENROL_BODY: usize = 16 << 10;
/// What is held of all members' bodies, in bytes: a part of the operator's memory.
const MEMBERS_BUFFERED: usize = 32 << 20;
/// What is held of all strangers' bodies, in bytes: more than of requests that are answered at once, for those that have
/// not arrived whole.
const STRANGERS_BUFFERED: usize = 64 * MAX_ENROL_BODY;

/// What one kind of caller may take up at once.
pub(super) struct Share {
    pub(super) seats: Semaphore,
    room: Arc<Semaphore>,
    largest: usize,
}

impl Share {
    /// Of callers who have shown a leaf.
    pub(super) fn of_members() -> Share {
        let room = Arc::new(Semaphore::new(MEMBERS_BUFFERED));
        Share { seats: Semaphore::new(MEMBERS_REQUESTS), room, largest: MAX_BODY }
    }

    /// Of those who have shown none.
    pub(super) fn of_strangers() -> Share {
        let room = Arc::new(Semaphore::new(STRANGERS_BUFFERED));
        Share { seats: Semaphore::new(STRANGERS_REQUESTS), room, largest: MAX_ENROL_BODY }
    }
}

/// Takes a request's body in, then gives it a seat, both within its time.
pub(super) async fn bounded(State(state): State<RegistryState>, request: Request, next: Next) -> Response {
    let what = CountedRequest::of(request.method(), request.uri().path());
    let is_member = request.extensions().get::<Peer>().is_some();
    // Whoever shows nothing takes nobody's place.
    if !is_member && !request.headers().contains_key(AUTHORIZATION) {
        state.0.counters.count(what, Outcome::Denied);
        return Problem::unauthenticated("show a member's certificate, or a pod's token to enrol").into_response();
    }
    let share = if is_member { &state.0.members } else { &state.0.strangers };
    let (outcome, response) = match answered(share, request, next).await {
        Ok(response) => (Outcome::of(response.status()), response),
        Err(TooMuch) => (Outcome::Refused, Problem::overloaded().into_response()),
    };
    state.0.counters.count(what, outcome);
    response
}

/// The share is taken up: nothing was begun.
struct TooMuch;

async fn answered(share: &Share, request: Request, next: Next) -> Result<Response, TooMuch> {
    let time = time_for(&request);
    let until = Instant::now() + time;
    let changes = request.method() != Method::GET;
    let (head, body) = request.into_parts();
    let arrived = match tokio::time::timeout_at(until, take_in(body, share.largest, &share.room)).await {
        Ok(Ok(arrived)) => arrived,
        Ok(Err(BodyFault::NoRoom)) => return Err(TooMuch),
        Ok(Err(BodyFault::TooLarge)) => {
            return Ok(
                Problem::too_large("the body is larger than a document, or an enrolment, may be").into_response()
            );
        }
        Ok(Err(BodyFault::BrokeOff)) => return Ok(Problem::invalid("the body broke off").into_response()),
        Err(_) => return Ok(Problem::too_slow(format!("the body did not arrive within {time:?}")).into_response()),
    };
    let Arrived { bytes, room: _room } = arrived;
    let Ok(_seat) = share.seats.try_acquire() else { return Err(TooMuch) };
    let request = Request::from_parts(head, Body::from(bytes));
    Ok(match tokio::time::timeout_at(until, next.run(request)).await {
        Ok(response) => response,
        // What it had begun may still be done by the API server.
        Err(_) if changes => Problem::unknown(format!("no answer within {time:?}")).into_response(),
        Err(_) => Problem::unavailable(format!("no answer within {time:?}")).into_response(),
    })
}

/// How long this request may be worked on: as its sender says, within our own bound.
fn time_for(request: &Request) -> Duration {
    let told = request.headers().get(DEADLINE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(REQUEST_TIME, |millis| Duration::from_millis(millis).min(REQUEST_TIME))
}
