//! Checks of the code itself, so that the habits in CONTRIBUTING.md don't rest on anybody's memory.
//!
//! Each module holds pure checks that take text and give a list of faults; `tests/` runs them over the repository,
//! and shows for each that it can fail.

pub mod makefile;
pub mod packages;
pub mod repository;
pub mod rules;
pub mod sizes;
pub mod texts;

/// What is wrong, each with where and what to do: one line each, sorted. Empty: nothing.
pub type Violations = Vec<String>;

/// Fails the test with every fault, not only the first.
///
/// # Panics
/// If there is a fault.
pub fn assert_none(what: &str, faults: &Violations) {
    assert!(faults.is_empty(), "{what}: {} fault(s)\n  {}", faults.len(), faults.join("\n  "));
}
