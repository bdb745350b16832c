//! Planted bugs that seeds notice soon; all of them are tried by `-- bugs`.

use sidegrid_core::planted_bug::Bug;
use sidegrid_sim::catch_bug;

use crate::rules::{By, PLANTED};

fn seeds_notice(bug: Bug) {
    assert!(PLANTED.iter().any(|(_, planted, by)| *planted == bug && *by == By::Seeds), "the table says otherwise");
    assert!(catch_bug(bug, 1, 20, 2).is_some(), "{bug:?} was not noticed in 20 seeds");
}

/// L-3
#[test]
fn promises_not_told_is_noticed() {
    seeds_notice(Bug::PromisesNotTold);
}

/// L-4
#[test]
fn echoing_while_the_core_hangs_is_noticed() {
    seeds_notice(Bug::EchoWhileWedged);
}

/// C-3
#[test]
fn a_leaver_that_goes_on_is_noticed() {
    seeds_notice(Bug::LeaverGoesOn);
}
