//! Real meshes on loopback: sockets, TLS and the failure-detection thread as they ship.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its fixtures too")]

mod exchange;
mod failures;
mod flood;
mod node;
mod pressure;
mod priorities;
mod refusals;
