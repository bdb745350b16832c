//! What callers may take up: how many requests, how much of their bodies, and for how long. Members and callers without a
//! certificate have each a budget of their own, and each source address a share of it, since whoever reaches the port can
//! call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sidegrid_net::service::Peer;
use sidegrid_registry::DEADLINE_HEADER;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{CountedRequest, Outcome, Problem, RegistryState, token};
use crate::body::{Arrived, BodyFault, take_in};
use crate::serving::Source;

/// Requests of members under way; one more is told to come again.
pub(super) const MEMBERS_REQUESTS: usize = 64;
/// And of one source address: a node's, where pods have none of their own.
const MEMBERS_PER_SOURCE: usize = 32;
/// Requests of callers without a certificate under way; one more is told to come again.
pub(super) const UNAUTHENTICATED_REQUESTS: usize = 64;
/// And of one source address: whoever sends tokens that nobody gave out has the API server asked for no more than these.
pub(super) const UNAUTHENTICATED_PER_SOURCE: usize = 4;
/// What one request may take: below the time after which a sidecar gives it up.
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(4);
/// Largest body: a document twice, with room for its wrapping.
pub(super) const MAX_BODY: usize = 2 << 20;
/// Largest enrolment, and body of a caller who has shown a token at most: a certificate request has well under two
/// thousand bytes.
pub(super) const MAX_ENROL_BODY: usize = 16 << 10;
/// What is held of all members' bodies, in bytes: a part of the operator's memory.
const MEMBERS_BUFFERED: usize = 32 << 20;
/// What is held of the bodies of all callers without a certificate, in bytes: more than of requests that are answered at
/// once, for those that have not arrived whole.
const UNAUTHENTICATED_BUFFERED: usize = 128 * MAX_ENROL_BODY;
/// And of those of one source address.
const BUFFERED_PER_SOURCE: usize = 16;

/// What one kind of caller may take up at once.
pub(super) struct Budget {
    pub(super) permits: Semaphore,
    buffer: Arc<Semaphore>,
    largest: usize,
    per_source: usize,
    /// Requests of each source address: those whose body is on its way, and those that are answered.
    sources: Mutex<HashMap<IpAddr, [usize; 2]>>,
}

/// What a request of a source address is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Arriving = 0,
    Answered = 1,
}

/// A request's part in its source's share, until it is dropped.
struct Part<'a> {
    budget: &'a Budget,
    source: IpAddr,
    stage: Stage,
}

impl Budget {
    fn of(permits: usize, buffered: usize, largest: usize, per_source: usize) -> Budget {
        Budget {
            permits: Semaphore::new(permits),
            buffer: Arc::new(Semaphore::new(buffered)),
            largest,
            per_source,
            sources: Mutex::default(),
        }
    }

    /// Of callers who have shown a certificate.
    pub(super) fn of_members() -> Budget {
        Budget::of(MEMBERS_REQUESTS, MEMBERS_BUFFERED, MAX_BODY, MEMBERS_PER_SOURCE)
    }

    /// Of those who have shown none.
    pub(super) fn of_unauthenticated() -> Budget {
        let (permits, per_source) = (UNAUTHENTICATED_REQUESTS, UNAUTHENTICATED_PER_SOURCE);
        Budget::of(permits, UNAUTHENTICATED_BUFFERED, MAX_ENROL_BODY, per_source)
    }

    /// A part for a request of `source` at `stage`; none when its share is taken.
    fn part(&self, source: IpAddr, stage: Stage) -> Option<Part<'_>> {
        let most = match stage {
            Stage::Arriving => self.per_source.max(BUFFERED_PER_SOURCE),
            Stage::Answered => self.per_source,
        };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut sources.entry(source).or_default()[stage as usize];
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Part { budget: self, source, stage })
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut sources = self.budget.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = sources.get_mut(&self.source) {
            counts[self.stage as usize] -= 1;
            if *counts == [0, 0] {
                sources.remove(&self.source);
            }
        }
    }
}

/// Takes a request's body in, then gives it a permit, both within its time. What can be refused without either is.
pub(super) async fn bounded(State(state): State<RegistryState>, request: Request, next: Next) -> Response {
    let what = CountedRequest::of(request.method(), request.uri().path());
    let is_member = request.extensions().get::<Peer>().is_some();
    if !is_member && let Err(problem) = token::plausible(request.headers()) {
        state.0.counters.count(what, Outcome::Denied);
        return problem.into_response();
    }
    let budget = if is_member { &state.0.members } else { &state.0.unauthenticated };
    let (outcome, response) = match answered(budget, request, next).await {
        Ok(response) => (Outcome::of(response.status()), response),
        Err(TooMuch) => (Outcome::Refused, Problem::overloaded().into_response()),
    };
    state.0.counters.count(what, outcome);
    response
}

/// The budget, or its source's share of it, is taken up: nothing was begun.
struct TooMuch;

async fn answered(budget: &Budget, request: Request, next: Next) -> Result<Response, TooMuch> {
    let time = time_for(&request);
    let until = Instant::now() + time;
    let unknown = Source(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let Source(source) = request.extensions().get::<Source>().copied().unwrap_or(unknown);
    let arriving = budget.part(source, Stage::Arriving).ok_or(TooMuch)?;
    let changes = request.method() != Method::GET;
    let (head, body) = request.into_parts();
    let arrived = match tokio::time::timeout_at(until, take_in(body, budget.largest, &budget.buffer)).await {
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
    drop(arriving);
    let _part = budget.part(source, Stage::Answered).ok_or(TooMuch)?;
    let Ok(_permit) = budget.permits.try_acquire() else { return Err(TooMuch) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_takes_its_share_at_most_and_gives_it_back() {
        let budget = Budget::of_unauthenticated();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let parts: Vec<_> = (0..UNAUTHENTICATED_PER_SOURCE).map_while(|_| budget.part(one, Stage::Answered)).collect();
        assert_eq!(parts.len(), UNAUTHENTICATED_PER_SOURCE);
        assert!(budget.part(one, Stage::Answered).is_none());
        assert!(budget.part(one, Stage::Arriving).is_some() && budget.part(other, Stage::Answered).is_some());
        drop(parts);
        assert!(budget.part(one, Stage::Answered).is_some());
        assert!(budget.sources.lock().unwrap().is_empty());
    }
}
