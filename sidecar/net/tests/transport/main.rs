//! Real meshes on loopback: sockets, TLS and the failure-detection thread as they ship.

mod exchange;
mod failures;
mod node;
mod pressure;
mod refusals;
