//! The deterministic simulator: the real core and the real wire codec under virtual time.
//!
//! A *seed* chooses everything: the shape of the grid, the links, the clocks, the faults and what the apps do. So a
//! violation is repeated by its seed. Start at [`run_seed`]; `world.rs` holds the queue, `lives.rs` what a core's
//! effects do, `faults.rs` what goes wrong, `checkers/` what must hold.

mod checkers;
mod clock;
mod coverage;
mod faults;
mod format;
mod history;
mod links;
mod lives;
mod network;
mod node;
mod profile;
mod queue;
mod registry;
mod report;
mod rng;
mod runner;
mod standing;
mod store;
mod trace;
mod workload;
mod world;

pub use report::{Report, Statistics};
pub use runner::{Caught, Making, Summary, bug_named, catch_bug, run_many, run_seed, standing_fault_named, trace_seed};
pub use standing::StandingFault;
pub use trace::Selection;
