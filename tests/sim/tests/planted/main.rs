//! Which planted bug leaves out which rule of `docs/PROTOCOL.md`, and what notices it.
//!
//! `cargo run --profile fast -p sidegrid-sim -- bugs` tries all those that seeds notice.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends where it fails")]

#[path = "../../../../sidecar/core/tests/cluster/links.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod links;
#[path = "../../../../sidecar/core/tests/cluster/map.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod map;
#[path = "../../../../sidecar/core/tests/cluster/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod world;

mod rules;
mod scenarios;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sidegrid_core::planted_bug::{Bug, Bugs};

/// A schedule that holds with the rule and fails without it.
fn is_caught(bug: Bug, scenario: fn(Bugs)) {
    scenario(Bugs::default());
    let planted = catch_unwind(AssertUnwindSafe(|| scenario(Bugs::plant(bug))));
    assert!(planted.is_err(), "{bug:?} was not noticed");
}
