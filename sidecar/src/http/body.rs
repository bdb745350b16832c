//! Receiving bodies: bounded in size, in time, and in all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::problem::{Problem, ProblemType};

/// Bodies of all requests at once, in bytes; at least four of the largest values. Counted as they arrive, so that a
/// sender who only announces much holds nothing.
const ALL_BODIES: u64 = 64 << 20;
/// What is allocated at once for a body that announces its length; the rest as it arrives.
const FIRST_ALLOCATION: u64 = 64 << 10;
/// A body that nobody wanted is read up to this size so that its connection can be used again.
const DRAINED: u64 = 64 << 10;

/// Bounds on bodies, and what of them is in use.
#[derive(Debug)]
pub(crate) struct Bodies {
    max_value: u64,
    timeout: Duration,
    all: u64,
    held: AtomicU64,
}

impl Bodies {
    /// Values of up to `max_value` bytes, each within `timeout`.
    pub(crate) fn new(max_value: u64, timeout: Duration) -> Bodies {
        Bodies { max_value, timeout, all: ALL_BODIES.max(max_value.saturating_mul(4)), held: AtomicU64::new(0) }
    }
}

/// A part of [`Bodies::held`]; given back when dropped.
struct Hold<'a> {
    bodies: &'a Bodies,
    bytes: u64,
}

impl Hold<'_> {
    fn grow(&mut self, more: u64) -> Result<(), Problem> {
        self.bytes += more;
        if self.bodies.held.fetch_add(more, Ordering::Relaxed) + more > self.bodies.all {
            let detail = "the bodies being received together pass the bound on memory";
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
        let result = read.unwrap_or_else(|_| {
            let detail = format!("it took longer than {} (http.bodyTimeout)", sidegrid_config::format_span(timeout));
            Err(Problem::new(ProblemType::BodyTimeout, detail))
        });
        self.given_up = result.is_err();
        self.complete = result.is_ok();
        result
    }

    async fn collect(&mut self, announced: u64) -> Result<Bytes, Problem> {
        let mut hold = Hold { bodies: self.bodies, bytes: 0 };
        // Copied out of the connection's buffer, which a small value would keep alive whole.
        let mut value = Vec::with_capacity(usize::try_from(announced.min(FIRST_ALLOCATION)).unwrap_or(0));
        while let Some(frame) = self.incoming.frame().await {
            let broken = |_| Problem::new(ProblemType::BadRequest, "the body broke off or is malformed");
            // Trailers carry nothing for us.
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            let size = data.len() as u64;
            if value.len() as u64 + size > self.bodies.max_value {
                return Err(Problem::too_large(self.bodies.max_value));
            }
            hold.grow(size)?;
            value.extend_from_slice(&data);
        }
        Ok(Bytes::from(value.into_boxed_slice()))
    }

    /// Whether nothing is left to be read.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Reads what nobody wanted, if it is little. Returns whether the connection can be used for another request.
    pub(crate) async fn finish(mut self) -> bool {
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
