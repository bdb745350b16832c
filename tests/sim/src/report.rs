//! What a run comes to.

use std::fmt::Write as _;

use sidegrid_core::planted_bug::Bug;

use crate::clock::Instant;
use crate::coverage::Coverage;
use crate::history::KeyIndex;
use crate::world::{Making, World};

/// What a checker found.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Which checker.
    pub(crate) checker: &'static str,
    /// What it found.
    pub(crate) what: String,
    /// When.
    pub(crate) at: Instant,
    /// The key it is about, whose history is shown.
    pub(crate) key: Option<KeyIndex>,
}

/// Counts of a run, or of many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Runs.
    pub seeds: u64,
    /// Things that happened in the worlds.
    pub events: u64,
    /// Data frames sent.
    pub frames: u64,
    /// Pings and echoes sent.
    pub pings: u64,
    /// Operations of apps.
    pub operations: u64,
    /// Of these, without a certain answer.
    pub unknown: u64,
    /// Of these, certainly not applied.
    pub refused: u64,
    /// Views decided.
    pub views: u64,
    /// Fewest views decided in one run.
    pub fewest_views: u64,
    /// Faults begun.
    pub faults: u64,
    /// Fewest faults begun in one run.
    pub fewest_faults: u64,
    /// Groups that lost all copies.
    pub losses: u64,
    /// Incarnations that found themselves put out.
    pub superseded: u64,
    /// Leaves in order.
    pub leaves: u64,
    /// Groups promoted.
    pub promotions: u64,
    /// State transfers completed.
    pub transfers: u64,
    /// Keys whose history was too tangled to decide within the bound.
    pub undecided: u64,
}

impl Statistics {
    /// Adds another run's counts.
    pub(crate) fn add(&mut self, other: &Statistics) {
        let fewest = |mine: u64, seeds: u64, theirs: u64| if seeds == 0 { theirs } else { mine.min(theirs) };
        self.fewest_views = fewest(self.fewest_views, self.seeds, other.fewest_views);
        self.fewest_faults = fewest(self.fewest_faults, self.seeds, other.fewest_faults);
        self.seeds += other.seeds;
        self.events += other.events;
        self.frames += other.frames;
        self.pings += other.pings;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.views += other.views;
        self.faults += other.faults;
        self.losses += other.losses;
        self.superseded += other.superseded;
        self.leaves += other.leaves;
        self.promotions += other.promotions;
        self.transfers += other.transfers;
        self.undecided += other.undecided;
    }
}

/// The result of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was violated, as a text that ends with the command that repeats it; none: nothing.
    pub failure: Option<String>,
    /// The checker that found it.
    pub checker: Option<&'static str>,
    /// Counts.
    pub statistics: Statistics,
    pub(crate) coverage: Coverage,
}

impl Report {
    /// Whether the checkers found what leaving out `bug` may lead to: for a rule that keeps the grid going, or memory
    /// bounded, anything; for others, only what must never happen.
    #[must_use]
    pub fn shows(&self, bug: Bug) -> bool {
        let any = matches!(bug, Bug::EchoWhileWedged | Bug::NeverBeginsAgain | Bug::NoBoundOnOperations);
        self.is_unsafe() || (any && self.failure.is_some())
    }

    /// Whether something happened that must never happen, as against something that did not happen in time.
    #[must_use]
    pub fn is_unsafe(&self) -> bool {
        self.checker.is_some_and(|checker| !matches!(checker, "convergence" | "bounds" | "panic" | "standing fault"))
    }
}

/// The command that repeats a run.
pub(crate) fn replay_command(making: Making) -> String {
    let bug = making.aim.map_or_else(String::new, |bug| format!(" --bug {bug:?}"));
    let planted = if making.aim.is_some() && !making.planted { " --without" } else { "" };
    let standing = making.standing.map_or_else(String::new, |fault| format!(" --standing {fault:?}"));
    format!("cargo run --profile fast -p sidegrid-sim -- replay --seed {}{bug}{planted}{standing} --trace", making.seed)
}

impl World {
    /// The report of a run that is over.
    pub(crate) fn report(&mut self) -> Report {
        self.stats.seeds = 1;
        self.stats.fewest_views = self.stats.views;
        self.stats.fewest_faults = self.stats.faults;
        Report {
            seed: self.making.seed,
            failure: self.violation.as_ref().map(|v| self.describe(v)),
            checker: self.violation.as_ref().map(|v| v.checker),
            statistics: self.stats,
            coverage: self.coverage.clone(),
        }
    }

    fn describe(&self, violation: &Violation) -> String {
        let mut text = format!(
            "seed {}: {} violated at {:.6} s: {}\n",
            self.making.seed,
            violation.checker,
            violation.at as f64 / 1e9,
            violation.what
        );
        let _ = writeln!(
            text,
            "  {:?}, {} members, {} spares, {} clients, {} segments, caches {:?}",
            self.profile.theme,
            self.profile.members,
            self.profile.spares,
            self.profile.clients,
            self.profile.segments,
            self.profile.caches
        );
        for planned in &self.profile.faults {
            let _ = writeln!(text, "  fault at {:.3} s: {:?}", planned.at as f64 / 1e9, planned.fault);
        }
        if let Some(key) = violation.key {
            let _ = writeln!(text, "  history of c{}/k{}:", key.cache, key.key);
            for operation in self.history.operations.iter().filter(|o| o.key == key) {
                let _ = writeln!(text, "    {operation}");
            }
            for loss in &self.history.losses {
                let _ =
                    writeln!(text, "    group {} lost at {:.6} by v{}", loss.group.0, loss.at as f64 / 1e9, loss.view);
            }
        }
        let _ = writeln!(text, "  repeat it: {}", replay_command(self.making));
        crate::format::shorten(&text)
    }
}
