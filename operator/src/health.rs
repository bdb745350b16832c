//! The admin port: `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// What the admin port tells.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Counters.
    pub metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
}

impl Health {
    /// Says whether webhook and registry API are served: true once they listen and know whom to let in, false when the
    /// program ends.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }
}

/// The admin port's routes. `/livez` looks at the process alone: an API server that is away must not restart it.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.ready.load(Ordering::Acquire) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "webhook and registry API are not served\n").into_response()
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match health.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT)], text).into_response(),
        Err(fault) => (StatusCode::INTERNAL_SERVER_ERROR, fault.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(health.clone()).oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn ready_only_while_serving_and_alive_always() {
        let health = Health::default();
        assert_eq!(ask(&health, "/livez").await.0, StatusCode::OK);
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        health.set_ready(true);
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::OK);
        health.metrics.reconciled("done");
        let (status, text) = ask(&health, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("sidegrid_operator_reconciliations_total{outcome=\"done\"} 1"), "{text}");
        assert!(text.contains("sidegrid_operator_log_lost_lines_total 0"), "{text}");
    }
}
