//! The cache API: HTTP/1.1 and cleartext HTTP/2 on a TCP port and a Unix socket. `docs/API.md` is its contract.
//!
//! Requests are served straight from hyper: one pass over the header fields, a hand-written path match, and no layer,
//! box or task per request, because a hit costs little more than its parsing and every layer would show.

use bytes::Bytes;
use http_body_util::Full;

mod answer;
mod api;
mod body;
mod caches;
mod cluster;
mod conditions;
mod connection;
mod connections;
mod entries;
pub(crate) mod fields;
pub(crate) mod grammar;
mod guard;
mod listen;
mod openapi;
mod owners;
mod problem;
mod query;
mod route;
mod server;
#[cfg(test)]
mod tests;

pub(crate) use answer::{json, with_body};
pub(crate) use api::Api;
pub(crate) use body::{Bodies, Upload, body_budget};
pub(crate) use cluster::participation_label;
pub(crate) use listen::Listeners;
pub(crate) use problem::{Problem, ProblemType};
pub(crate) use server::{Connected, Limits, OpenConnections, Server, Service};

/// Every answer is whole in memory: values are bounded, and so is everything else.
pub(crate) type Reply = hyper::Response<Full<Bytes>>;
