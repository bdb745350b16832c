//! The table of rules and planted bugs.

use std::collections::BTreeSet;

use sidegrid_core::planted_bug::Bug;

/// What notices a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A checker of the simulator, in some seed.
    Seeds,
    /// A schedule in `scenarios.rs`.
    Scenario,
    /// Not shown to be noticed yet.
    Open,
}

use By::{Open, Scenario, Seeds};

/// Rule, what leaves it out, what notices that.
pub(crate) const PLANTED: &[(&str, Bug, By)] = &[
    ("L-1", Bug::NoLease, Seeds),
    ("L-2", Bug::EchoAnyView, Seeds),
    ("L-3", Bug::PromisesNotTold, Seeds),
    ("L-4", Bug::EchoWhileWedged, Seeds),
    ("L-5", Bug::NoReleaseCheck, Seeds),
    ("L-6", Bug::NoPingAtInstall, Open),
    ("V-1", Bug::VotesOfAnyRound, Open),
    ("V-2", Bug::VotersEchoOn, Seeds),
    ("V-3", Bug::VotesNotAwaited, Seeds),
    ("V-4", Bug::VotesTimeOut, Seeds),
    ("V-5", Bug::NoHalfRule, Seeds),
    ("V-6", Bug::PromisesNotWaited, Seeds),
    ("V-7", Bug::RegistryNotRead, Scenario),
    ("V-8", Bug::PeersViewsIgnored, Scenario),
    ("V-9", Bug::LastCopiesNotAwaited, Scenario),
    ("V-10", Bug::EveryoneProposes, Scenario),
    ("V-11", Bug::LinksNotWeighed, Scenario),
    ("S-1", Bug::UnsealedIgnored, Seeds),
    ("S-2", Bug::ConfirmedAtOnce, Open),
    ("P-1", Bug::LocksIgnored, Scenario),
    ("P-3", Bug::AnotherBootIsProof, Scenario),
    ("P-2", Bug::ProofEndsPromises, Open),
    ("C-1", Bug::PlannedDoesNotWait, Seeds),
    ("C-2", Bug::AnyNumberJoins, Scenario),
    ("C-3", Bug::LeaverGoesOn, Seeds),
    ("C-4", Bug::ReleasedAtOnce, Open),
    ("C-5", Bug::LeaversStopTogether, Open),
    ("C-6", Bug::OldPrimaryNotAwaited, Seeds),
    ("C-7", Bug::NeverBeginsAgain, Scenario),
    ("C-8", Bug::JoinersNotReached, Scenario),
    ("D-1", Bug::DroppedNotAwaited, Open),
    ("W-1", Bug::IncomingSkipped, Seeds),
    ("W-2", Bug::OldViewsTaken, Open),
    ("W-3", Bug::NoTombstones, Seeds),
    ("W-4", Bug::CountersBeginAgain, Open),
    ("W-5", Bug::SendsAgainAtOnce, Scenario),
    ("O-1", Bug::RetriesApplyAgain, Seeds),
    ("O-2", Bug::StragglersApplied, Scenario),
    ("O-3", Bug::RefusedMeansNo, Seeds),
    ("O-4", Bug::KeysForgotten, Scenario),
    ("R-1", Bug::DirtyReads, Seeds),
    ("R-2", Bug::DirtyReads, Seeds),
    ("M-1", Bug::NoCollect, Seeds),
    ("M-2", Bug::NoResend, Seeds),
    ("T-1", Bug::FillingIgnoresWrites, Seeds),
    ("T-2", Bug::TransferSurvivesPrimary, Open),
    ("E-1", Bug::RemovalsNotOrdered, Open),
    ("E-2", Bug::ExpiredIsAbsent, Open),
    ("E-3", Bug::EvictsByItself, Open),
    ("E-4", Bug::RoomNotLookedFor, Open),
    ("G-1", Bug::SwapComparesLittle, Seeds),
    ("G-2", Bug::LostAnswerIsNo, Open),
    ("G-3", Bug::OlderDocumentFollowed, Scenario),
    ("G-4", Bug::ShownViewsInstalled, Open),
    ("B-1", Bug::NoBoundOnOperations, Seeds),
];

/// Rules that no core can leave out: A-1 is a pure function with properties of its own (`placement/tests`), F-1 is the
/// codec's, G-5 the registry's (`rights/tests`), and every swap of every seed is checked against it.
const ELSEWHERE: [&str; 3] = ["A-1", "F-1", "G-5"];

fn rules() -> BTreeSet<String> {
    let text = include_str!("../../../../docs/PROTOCOL.md");
    let first_cell = |line: &str| line.strip_prefix("| ").and_then(|rest| rest.split(" |").next()).map(str::to_owned);
    let is_rule = |cell: &String| {
        cell.split_once('-').is_some_and(|(letter, number)| letter.len() == 1 && number.parse::<u8>().is_ok())
    };
    text.lines().filter_map(first_cell).filter(is_rule).collect()
}

#[test]
fn every_rule_has_a_planted_bug() {
    for (rule, bug, by) in PLANTED {
        println!("{rule:<5} {bug:<24?} {by:?}", bug = format!("{bug:?}"));
    }
    let covered: BTreeSet<String> =
        PLANTED.iter().map(|(rule, ..)| *rule).chain(ELSEWHERE).map(str::to_owned).collect();
    assert_eq!(covered, rules());
    let planted: BTreeSet<Bug> = PLANTED.iter().map(|(_, bug, _)| *bug).collect();
    assert_eq!(planted, Bug::ALL.into_iter().collect());
}
