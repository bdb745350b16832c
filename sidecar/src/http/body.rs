//! Receiving bodies: bounded in size, in time, and in all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Version;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};

use super::Reply;
use super::problem::{Problem, ProblemType};
use super::server::Connected;

/// Bodies of all requests at once, in bytes, where the memory that the process may use is not known.
const USUAL_BUDGET: u64 = 64 << 20;
/// What is allocated at once for a body that announces its length; the rest as it arrives.
const FIRST_ALLOCATION: u64 = 64 << 10;
/// A body that nobody wanted is read up to this size so that its connection can be used again.
const DRAINED: u64 = 64 << 10;

/// Bounds on bodies, and what of them is in use.
#[derive(Debug)]
pub(crate) struct Bodies {
    max_value: u64,
    timeout: Duration,
    budget: u64,
    held: AtomicU64,
}

impl Bodies {
    /// Values of up to `max_value` bytes, each within `timeout`; all of them together of up to `budget` bytes, and at least
    /// one of the largest. Counted as they arrive, so that a sender who only announces much holds nothing.
    pub(crate) fn new(budget: u64, max_value: u64, timeout: Duration) -> Bodies {
        Bodies { max_value, timeout, budget: budget.max(max_value), held: AtomicU64::new(0) }
    }
}

/// Memory for bodies under way where no share of a larger budget is known: room for four of the largest values at least.
pub(crate) fn body_budget(max_value: u64) -> u64 {
    USUAL_BUDGET.max(max_value.saturating_mul(4))
}

/// A part of [`Bodies::held`]; given back when dropped.
struct Hold<'a> {
    bodies: &'a Bodies,
    bytes: u64,
}

impl Hold<'_> {
    fn grow(&mut self, more: u64) -> Result<(), Problem> {
        self.bytes += more;
        if self.bodies.held.fetch_add(more, Ordering::Relaxed) + more > self.bodies.budget {
            let detail =
                format!("the bodies being received together pass their budget of {} bytes", self.bodies.budget);
            return Err(Problem::new(ProblemType::Overloaded, detail));
        }
        Ok(())
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request's body, still to be received.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    incoming: Incoming,
    bodies: &'a Bodies,
    /// The end was seen; of a body in chunks, [`Incoming`] itself does not tell.
    complete: bool,
    given_up: bool,
}

impl<'a> Upload<'a> {
    /// Not read yet.
    pub(crate) fn new(incoming: Incoming, bodies: &'a Bodies) -> Upload<'a> {
        Upload { complete: incoming.is_end_stream(), incoming, bodies, given_up: false }
    }

    /// The whole body.
    ///
    /// # Errors
    /// Too large (found from its announced length before any of it is read), too slow, broken off, or no memory left
    /// for it. The rest is not read then.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was read is lost.
    pub(crate) async fn read(&mut self) -> Result<Bytes, Problem> {
        if self.complete {
            return Ok(Bytes::new());
        }
        let announced = self.incoming.size_hint();
        if announced.lower() > self.bodies.max_value {
            self.given_up = true;
            return Err(Problem::too_large(self.bodies.max_value));
        }
        let timeout = self.bodies.timeout;
        let read = tokio::time::timeout(timeout, self.collect(announced.lower())).await;
        let result = read.unwrap_or_else(|_| Err(too_slow(timeout)));
        self.given_up = result.is_err();
        self.complete = result.is_ok();
        result
    }

    async fn collect(&mut self, announced: u64) -> Result<Bytes, Problem> {
        let mut hold = Hold { bodies: self.bodies, bytes: 0 };
        // Copied out of the connection's buffer, which a small value would keep alive whole.
        let mut value = Vec::with_capacity(usize::try_from(announced.min(FIRST_ALLOCATION)).unwrap_or(0));
        while let Some(frame) = self.incoming.frame().await {
            // Trailers carry nothing for us.
            let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
            let size = data.len() as u64;
            if value.len() as u64 + size > self.bodies.max_value {
                return Err(Problem::too_large(self.bodies.max_value));
            }
            hold.grow(size)?;
            value.extend_from_slice(&data);
        }
        Ok(Bytes::from(value.into_boxed_slice()))
    }

    /// Makes sure that the body has no bytes, whichever way it is framed: that is known when its end has come.
    ///
    /// # Errors
    /// Bytes, or no end in time.
    ///
    /// # Cancel safety
    /// Not cancel safe: what was read is lost.
    pub(crate) async fn expect_none(&mut self) -> Result<(), Problem> {
        if self.complete {
            return Ok(());
        }
        let refused = || {
            let detail = "this method takes no body; what it does is said by parameters and headers";
            Err(Problem::new(ProblemType::BadRequest, detail))
        };
        if self.incoming.size_hint().lower() > 0 {
            return refused();
        }
        let timeout = self.bodies.timeout;
        let to_the_end = async {
            while let Some(frame) = self.incoming.frame().await {
                match frame {
                    Err(_) => return Err(broken()),
                    Ok(frame) if frame.data_ref().is_some_and(|data| !data.is_empty()) => return Ok(false),
                    // Trailers carry nothing for us.
                    Ok(_) => {}
                }
            }
            Ok(true)
        };
        match tokio::time::timeout(timeout, to_the_end).await.unwrap_or_else(|_| Err(too_slow(timeout))) {
            Ok(true) => {
                self.complete = true;
                Ok(())
            }
            Ok(false) => refused(),
            Err(problem) => {
                self.given_up = true;
                Err(problem)
            }
        }
    }

    /// Ends the request: what of the body nobody wanted is passed over, or `reply` ends the connection.
    pub(crate) async fn end(self, connected: &Connected, version: Version, reply: &mut Reply) {
        if self.finish().await {
            return;
        }
        // What is left of the body is not read: HTTP/2 ends the stream, HTTP/1.1 has to end the connection.
        connected.linger();
        if version < Version::HTTP_2 {
            reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Reads what nobody wanted, if it is little. Returns whether the connection can be used for another request.
    async fn finish(mut self) -> bool {
        if self.complete {
            return true;
        }
        if self.given_up || self.incoming.size_hint().lower() > DRAINED {
            return false;
        }
        let drain = async {
            let mut left = DRAINED;
            while let Some(frame) = self.incoming.frame().await {
                let size = frame.map_or(u64::MAX, |f| f.data_ref().map_or(0, |d| d.len() as u64));
                match left.checked_sub(size) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(self.bodies.timeout, drain).await.unwrap_or(false)
    }
}

fn broken() -> Problem {
    Problem::new(ProblemType::BadRequest, "the body broke off or is malformed")
}

fn too_slow(timeout: Duration) -> Problem {
    let detail = format!("it took longer than {} (http.bodyTimeout)", sidegrid_config::format_span(timeout));
    Problem::new(ProblemType::BodyTimeout, detail)
}
