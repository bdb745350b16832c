//! The short form of the simulator: some seeds of every kind, some planted bugs, and that a seed says everything.
//! `SIM_SEEDS` sets how many seeds; the long form is `cargo run --profile fast -p sidegrid-sim -- run --seeds 50000`.

use sidegrid_core::planted_bug::Bug;
use sidegrid_sim::{Making, catch_bug, run_many, run_seed};

fn seeds() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// All the rules of `docs/PROTOCOL.md` at work at once: no seed may violate anything.
#[test]
fn no_seed_violates_anything() {
    let summary = run_many(1, seeds(), 2, 3);
    let failures: Vec<&str> = summary.failures.iter().filter_map(|f| f.failure.as_deref()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let counts = summary.statistics;
    assert!(counts.fewest_views >= 2, "a run with {} views shows too little", counts.fewest_views);
    assert!(counts.fewest_faults >= 3, "a run with {} faults shows too little", counts.fewest_faults);
    assert!(counts.undecided * 20 <= seeds(), "{} histories were too tangled to decide", counts.undecided);
}

/// Without this a replay would show another run than the one that failed.
#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [3, 17, 29] {
        let (one, other) = (run_seed(Making::plain(seed)), run_seed(Making::plain(seed)));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
}

/// A rule left out is noticed, else the checkers check nothing. All of them in the long form: `-- bugs`.
fn is_caught(bug: Bug) {
    let caught = catch_bug(bug, 1, 60, 2).unwrap_or_else(|| panic!("{bug:?} was not noticed in 60 seeds"));
    let report = caught.report.failure.unwrap_or_default();
    assert!(report.contains(&format!("replay --seed {} --bug {bug:?}", caught.report.seed)), "{report}");
}

/// L-1
#[test]
fn serving_without_a_lease_is_noticed() {
    is_caught(Bug::NoLease);
}

/// V-2
#[test]
fn echoing_on_after_a_vote_is_noticed() {
    is_caught(Bug::VotersEchoOn);
}

/// V-6, L-3
#[test]
fn not_waiting_for_promises_is_noticed() {
    is_caught(Bug::PromisesNotWaited);
}

/// V-5
#[test]
fn excluding_without_the_half_rule_is_noticed() {
    is_caught(Bug::NoHalfRule);
}

/// M-1, C-6
#[test]
fn serving_without_collecting_is_noticed() {
    is_caught(Bug::NoCollect);
}

///
#[test]
fn reading_copies_that_are_not_clean_is_noticed() {
    is_caught(Bug::DirtyReads);
}

/// O-1
#[test]
fn applying_retries_again_is_noticed() {
    is_caught(Bug::RetriesApplyAgain);
}

/// W-3
#[test]
fn forgetting_tombstones_is_noticed() {
    is_caught(Bug::NoTombstones);
}
