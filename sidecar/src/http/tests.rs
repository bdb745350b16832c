//! The API over real sockets: a server as it ships, on a grid of `local` caches, which needs no cluster.

mod client;
mod conditions;
mod documents;
mod entries;
mod fields;
mod framing;
mod guard;
mod hostile;
mod lifecycle;
mod openapi;
mod refusals;
mod unix_socket;
