//! Cores driven by hand: each test sets up one schedule and shows the rule that decides it. The simulator in
//! `tests/sim` looks for schedules that nobody thought of.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends where it fails")]

mod bounds;
mod links;
mod lost_document;
mod map;
mod overload;
mod reboots;
mod retries;
mod rules;
mod standing_faults;
mod vacant;
#[allow(dead_code, reason = "shared with the planted bugs of the simulator")]
mod world;
