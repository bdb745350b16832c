//! The caches: settings and stats.

use serde::Serialize;
use sidegrid_config::{Copies, format_size, format_span};
use utoipa::ToSchema;

use super::api::Api;
use super::openapi::responses::{AnyProblems, NoCacheProblem};
use super::problem::Problem;
use super::query::Query;
use super::{Reply, answer};
use crate::grid::CacheHandle;

/// All caches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CacheList<'a> {
    /// By name.
    caches: Vec<CacheState<'a>>,
}

/// Settings and stats of a cache.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cache)]
pub(crate) struct CacheState<'a> {
    /// Its name.
    name: &'a str,
    /// `distributed`, `replicated` or `local`.
    mode: &'static str,
    /// Copies of each entry in a distributed cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<u16>,
    /// Time to live of entries stored without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "30m")]
    ttl: Option<String>,
    /// Bound on entries per member.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_entries: Option<u64>,
    /// Bound on bytes per member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "64MiB")]
    max_bytes: Option<String>,
    /// `evict` or `reject`.
    when_full: &'static str,
    /// What this member holds and has done.
    stats: Stats,
}

/// What a cache holds at this member, and what was done with it here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Entries held here.
    entries: u64,
    /// Bytes that they take here: keys, values and true overhead.
    bytes: u64,
    /// Reads through this member that found an entry.
    hits: u64,
    /// Reads through this member that found none.
    misses: u64,
    /// Values stored through this member.
    stores: u64,
    /// Entries removed through this member.
    removes: u64,
    /// Entries evicted by this member.
    evictions: u64,
    /// Entries expired at this member.
    expirations: u64,
}

fn state<'a>(api: &Api, cache: &'a CacheHandle) -> CacheState<'a> {
    let settings = &cache.settings;
    let stats = api.grid.figures(cache);
    CacheState {
        name: &cache.name,
        mode: settings.mode.as_str(),
        owners: match settings.copies() {
            Copies::Count(owners) => Some(owners),
            Copies::All | Copies::Local => None,
        },
        ttl: settings.ttl.map(format_span),
        max_entries: settings.max_entries,
        max_bytes: settings.max_bytes.map(format_size),
        when_full: settings.when_full.as_str(),
        stats: Stats {
            entries: stats.entries,
            bytes: stats.bytes,
            hits: stats.hits,
            misses: stats.misses,
            stores: stats.stores,
            removes: stats.removes,
            evictions: stats.evictions,
            expirations: stats.expirations,
        },
    }
}

/// Lists the caches.
#[utoipa::path(
    get, path = "/v1/caches", tag = "caches",
    responses((status = 200, description = "All caches by name", body = CacheList), AnyProblems)
)]
pub(super) fn list_caches(api: &Api, query: Option<&str>) -> Result<Reply, Problem> {
    Query::of(query, &[])?;
    Ok(answer::json(&CacheList { caches: api.grid.caches().iter().map(|cache| state(api, cache)).collect() }))
}

/// Shows a cache.
#[utoipa::path(
    get, path = "/v1/caches/{cache}", tag = "caches",
    params(("cache" = String, Path, description = "Name of the cache")),
    responses(
        (status = 200, description = "Settings and stats", body = CacheState),
        AnyProblems, NoCacheProblem,
    )
)]
pub(super) fn show_cache(api: &Api, name: &str, query: Option<&str>) -> Result<Reply, Problem> {
    Query::of(query, &[])?;
    let cache = api.cache(name)?;
    Ok(answer::json(&state(api, &cache)))
}
