//! The admin port: health for whoever restarts and routes, metrics for whoever looks. It only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, VARY};
use hyper::{Method, Request, StatusCode};
use prometheus_client::registry::Registry;
use serde::Serialize;

use self::exposition::Format;
use crate::grid::{Grid, Phase};
use crate::http::fields::Fields;
use crate::http::{
    Bodies, Connected, Limits, Problem, ProblemType, Reply, Service, Upload, json, participation_label, with_body,
};

mod exposition;
pub(crate) mod metrics;
mod process;
#[cfg(test)]
mod tests;

/// Bounds of the admin port: probes, a scraper or two, and people.
pub(crate) const LIMITS: Limits =
    Limits { connections: 256, header_timeout: Duration::from_secs(10), idle_timeout: Duration::from_secs(120) };

/// What is asked for by paths of the admin port.
#[derive(Debug)]
pub(crate) struct Admin {
    grid: Grid,
    registry: Arc<Registry>,
    /// Whether the member was ever ready: start-up is over then, whatever comes later.
    was_ready: AtomicBool,
    /// Nothing here takes a body.
    bodies: Bodies,
}

/// The answer of `/readyz` and `/startupz`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    /// Whether what was asked for holds.
    ok: bool,
    /// A stable label: `ready`, or why not.
    reason: &'static str,
    /// `joining`, `member`, `leaving`, `client` or `superseded`; `local` when no cache is clustered.
    participation: &'static str,
    /// Number of the installed view; 0: none.
    view: u64,
    /// Its members.
    members: usize,
    /// Whether the registry answered last time.
    registry_ok: bool,
    /// Why a needed exclusion can't go on, as a stable label.
    waits_for: Option<&'static str>,
}

impl Admin {
    /// Shows this grid, and what is registered.
    pub(crate) fn new(grid: Grid, registry: Registry) -> Admin {
        let bodies = Bodies::new(0, 0, LIMITS.header_timeout);
        Admin { grid, registry: Arc::new(registry), was_ready: AtomicBool::new(false), bodies }
    }

    fn route(&self, request: &Request<Incoming>) -> Result<Reply, Problem> {
        let answer = match request.uri().path() {
            // Of the process alone: a member that waits for others must not be restarted for it.
            "/livez" => text("ok\n"),
            "/readyz" => self.ready(),
            "/startupz" => self.started(),
            "/metrics" => self.metrics(Format::preferred(&Fields::of(request.headers())?)),
            _ => {
                let detail = "there are /livez, /readyz, /startupz and /metrics";
                return Err(Problem::new(ProblemType::NoSuchPath, detail));
            }
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            Ok(answer)
        } else {
            Err(Problem::method("GET, HEAD"))
        }
    }

    fn ready(&self) -> Reply {
        let readiness = self.grid.readiness();
        if readiness.ready {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        self.health(readiness.ready, readiness.reason)
    }

    fn started(&self) -> Reply {
        let readiness = self.grid.readiness();
        // Whoever hands over or stops has started.
        let past = self.grid.phase() > Phase::Running;
        let started = readiness.ready || past || self.was_ready.load(Ordering::Relaxed);
        if started {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        self.health(started, readiness.reason)
    }

    fn health(&self, ok: bool, reason: &'static str) -> Reply {
        let snapshot = self.grid.snapshot();
        let mut reply = json(&Health {
            ok,
            reason,
            participation: participation_label(&self.grid, &snapshot),
            view: snapshot.view.as_ref().map_or(0, |view| view.number.0),
            members: snapshot.view.as_ref().map_or(0, |view| view.members.len()),
            registry_ok: snapshot.registry_ok,
            waits_for: snapshot.waits_for,
        });
        if !ok {
            *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        reply
    }

    fn metrics(&self, format: Format) -> Reply {
        let mut body = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut body, &self.registry) {
            tracing::error!(%error, "metrics could not be written");
            return Problem::new(ProblemType::Internal, "metrics could not be written").into_reply();
        }
        let content_type = HeaderValue::from_static(format.content_type());
        let mut reply = with_body(StatusCode::OK, content_type, Bytes::from(format.of(body)));
        reply.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        reply
    }
}

impl Service for Admin {
    async fn answer(&self, connected: &Connected, request: Request<Incoming>) -> Reply {
        let mut reply = self.route(&request).unwrap_or_else(Problem::into_reply);
        let version = request.version();
        Upload::new(request.into_body(), &self.bodies).end(connected, version, &mut reply).await;
        reply
    }
}

fn text(text: &'static str) -> Reply {
    with_body(StatusCode::OK, HeaderValue::from_static("text/plain"), Bytes::from_static(text.as_bytes()))
}
