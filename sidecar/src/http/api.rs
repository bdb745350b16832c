//! From a request to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, HeaderValue, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use sidegrid_config::{Settings, Timing};
use sidegrid_core::operation::{Answer, OperationKind};

use super::body::{Bodies, Upload};
use super::fields::Fields;
use super::guard::Guard;
use super::owners::Owners;
use super::problem::{Problem, ProblemType, shortened};
use super::route::{self, Route};
use super::server::{Connected, Service};
use super::{Reply, answer, caches, cluster, entries, openapi};
use crate::grid::{CacheHandle, Grid};

/// The cache API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(super) grid: Grid,
    pub(super) cluster_name: String,
    pub(super) member_name: String,
    owners: Owners,
    guard: Guard,
    bodies: Bodies,
    timeout: Duration,
    timing: Timing,
}

impl Api {
    /// An API over this grid, for a member of this name. Bodies under way may take `body_budget` bytes together.
    pub(crate) fn new(grid: Grid, settings: &Settings, member_name: &str, body_budget: u64) -> Api {
        let http = &settings.http;
        Api {
            grid,
            cluster_name: settings.cluster.name.clone(),
            member_name: member_name.to_owned(),
            owners: Owners::new(member_name),
            guard: Guard::new(http),
            bodies: Bodies::new(body_budget, http.max_value_bytes, http.body_timeout),
            timeout: http.request_timeout,
            timing: settings.cluster.timing,
        }
    }

    async fn route(&self, parts: &Parts, fields: &Fields<'_>, upload: &mut Upload<'_>) -> Result<Reply, Problem> {
        let route = Route::of(parts.uri.path());
        let query = parts.uri.query();
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        match route {
            Route::Entry { cache, key } => {
                let call = self.call(cache, key, fields, query)?;
                match parts.method {
                    Method::GET => entries::get_entry(&call).await,
                    Method::HEAD => entries::head_entry(&call).await,
                    Method::PUT => entries::put_entry(&call, upload).await,
                    Method::DELETE => entries::delete_entry(&call, upload).await,
                    Method::PATCH => entries::touch_entry(&call, upload).await,
                    _ => Err(Problem::method(route.allow())),
                }
            }
            Route::Increment { cache, key } if parts.method == Method::POST => {
                entries::increment_entry(&self.call(cache, key, fields, query)?, upload).await
            }
            Route::Caches if reads => caches::list_caches(self, query),
            Route::Cache { cache } if reads => caches::show_cache(self, cache, query),
            Route::Cluster if reads => cluster::show_cluster(self, query),
            Route::Explain if reads => cluster::explain::explain_key(self, query),
            Route::OpenApi if reads => openapi::serve(),
            Route::NotYet => {
                let detail = "batches, events and the listing and clearing of entries are not available yet";
                Err(Problem::new(ProblemType::NoSuchPath, detail))
            }
            Route::Unknown => {
                Err(Problem::new(ProblemType::NoSuchPath, "see /openapi.json; a / within a key is written as %2F"))
            }
            _ => Err(Problem::method(route.allow())),
        }
    }

    fn call<'a>(
        &'a self,
        cache: &str,
        key: &str,
        fields: &'a Fields<'a>,
        query: Option<&'a str>,
    ) -> Result<Call<'a>, Problem> {
        let cache = self.cache(cache)?;
        Ok(Call { api: self, cache, key: route::key(key)?, fields, query })
    }

    /// The cache that a part of a path names.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn cache(&self, part: &str) -> Result<Arc<CacheHandle>, Problem> {
        if let Some(cache) = self.grid.cache(part) {
            return Ok(cache);
        }
        let decoded = route::decode(part, false).and_then(|name| String::from_utf8(name.into_owned()).ok());
        let found = decoded.as_deref().and_then(|name| self.grid.cache(name));
        found.ok_or_else(|| {
            let name = shortened(part);
            Problem::new(ProblemType::NoSuchCache, format!("no cache is named {name}; GET /v1/caches lists them"))
        })
    }
}

impl Api {
    /// What to answer, and the allowed origin that may read it.
    async fn decide<'a>(
        &self,
        connected: &Connected,
        parts: &'a Parts,
        upload: &mut Upload<'_>,
    ) -> (Result<Reply, Problem>, Option<&'a HeaderValue>) {
        let checked = Fields::of(&parts.headers)
            .and_then(|fields| Ok((fields, self.guard.check(&fields, &parts.uri, connected.local)?)));
        match checked {
            Ok((_, origin)) if parts.method == Method::OPTIONS => (Ok(options(parts, origin.is_some())), origin),
            Ok((fields, origin)) => (self.route(parts, &fields, upload).await, origin),
            Err(problem) => (Err(problem), None),
        }
    }
}

impl Service for Api {
    async fn answer(&self, connected: &Connected, request: Request<Incoming>) -> Reply {
        let (parts, incoming) = request.into_parts();
        let mut upload = Upload::new(incoming, &self.bodies);
        let (result, let_in) = self.decide(connected, &parts, &mut upload).await;
        let mut reply = result.unwrap_or_else(|problem| problem.with_times(&self.timing).into_reply());
        if let Some(origin) = let_in {
            share(&mut reply, origin);
        }
        upload.end(connected, parts.version, &mut reply).await;
        reply
    }
}

/// `OPTIONS`: the methods of a path, and for a page of an allowed origin what it may send.
fn options(parts: &Parts, shared: bool) -> Reply {
    let mut reply = answer::empty(StatusCode::NO_CONTENT);
    let allow = HeaderValue::from_static(Route::of(parts.uri.path()).allow());
    let headers = reply.headers_mut();
    if shared {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow.clone());
        let names = "content-type, cache-control, if-match, if-none-match, idempotency-key, sidegrid-timeout";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
    }
    headers.insert(ALLOW, allow);
    reply
}

/// Lets a page of an allowed origin read the answer.
fn share(reply: &mut Reply, origin: &HeaderValue) {
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let names = "etag, sidegrid-ttl, sidegrid-owner, sidegrid-hops, sidegrid-previous-etag, retry-after";
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(names));
    headers.insert(VARY, HeaderValue::from_static("origin"));
}

/// A request for one entry.
#[derive(Debug)]
pub(super) struct Call<'a> {
    api: &'a Api,
    pub(super) cache: Arc<CacheHandle>,
    key: Bytes,
    pub(super) fields: &'a Fields<'a>,
    pub(super) query: Option<&'a str>,
}

impl Call<'_> {
    /// Has the operation carried out.
    ///
    /// # Errors
    /// A header that can't be used, or the grid's refusal.
    pub(super) async fn execute(&self, kind: OperationKind) -> Result<Answer, Problem> {
        let deadline = self.fields.timeout(self.api.timeout)?;
        let idempotency =
            if kind.is_read() { None } else { self.fields.idempotency(&self.cache.name, &self.key, &kind)? };
        Ok(self.api.grid.execute(&self.cache, self.key.clone(), kind, idempotency, deadline).await?)
    }

    /// Adds who answered.
    pub(super) fn signed(&self, mut reply: Reply, answer: &Answer) -> Reply {
        answer::sign(&mut reply, self.api.owners.name(answer.owner, &self.api.grid), answer);
        reply
    }
}
