//! The OpenAPI 3.1 document, made from the handlers.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use utoipa::OpenApi;

use self::responses::CommonHeaders;
use super::problem::{Problem, ProblemBody};
use super::{Reply, answer, caches, cluster, entries};

pub(super) mod responses;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sidegrid cache API",
        description = "A distributed cache that lives beside your app. docs/API.md is the contract.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "http://127.0.0.1:7080", description = "The sidecar of the same host or pod")),
    paths(
        entries::get_entry,
        entries::head_entry,
        entries::put_entry,
        entries::delete_entry,
        entries::touch_entry,
        entries::increment_entry,
        caches::list_caches,
        caches::show_cache,
        cluster::show_cluster,
        cluster::explain::explain_key,
    ),
    modifiers(&CommonHeaders),
    components(schemas(ProblemBody)),
    tags(
        (name = "entries", description = "Values by key"),
        (name = "caches", description = "Settings and stats"),
        (name = "cluster", description = "Members and where keys live")
    )
)]
struct Document;

/// The document as text.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    // Our own types: writing them can't fail.
    TEXT.get_or_init(|| Document::openapi().to_pretty_json().unwrap_or_default() + "\n")
}

/// `GET /openapi.json`
pub(super) fn serve() -> Result<Reply, Problem> {
    let json = HeaderValue::from_static("application/json");
    Ok(answer::with_body(StatusCode::OK, json, Bytes::from_static(text().as_bytes())))
}
