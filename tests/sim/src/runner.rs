//! Runs seeds: one, many at once, and many with a rule left out.

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sidegrid_core::planted_bug::Bug;

use crate::coverage::Coverage;
use crate::report::{Report, Statistics, replay_command};
use crate::standing::StandingFault;
use crate::trace::{Selection, Trace};
pub use crate::world::Making;
use crate::world::World;

impl Making {
    /// An ordinary run.
    #[must_use]
    pub fn plain(seed: u64) -> Making {
        Making { seed, ..Making::default() }
    }

    /// A run in which a fault stands, and those that it does not concern must be served meanwhile.
    #[must_use]
    pub fn standing(seed: u64, fault: StandingFault) -> Making {
        Making { seed, standing: Some(fault), ..Making::default() }
    }

    /// A run that seeks the schedules of a rule, with that rule left out or kept.
    #[must_use]
    pub fn aimed(seed: u64, rule: Bug, left_out: bool) -> Making {
        // What keeps a grid going while a core hangs shows only while it hangs.
        let standing = (rule == Bug::EchoWhileWedged).then_some(StandingFault::CoreWedged);
        Making { seed, aim: Some(rule), planted: left_out, standing }
    }
}

/// Runs a seed. A panic of the core is a failure like any other.
#[must_use]
pub fn run_seed(making: Making) -> Report {
    run(making, None)
}

/// Runs a seed and writes what happens into `out`, a line each.
pub fn trace_seed(making: Making, selection: Selection, out: Box<dyn Write>) -> Report {
    run(making, Some(Trace::new(out, selection)))
}

fn run(making: Making, trace: Option<Trace>) -> Report {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(making, trace);
        world.run();
        world.report()
    }));
    outcome.unwrap_or_else(|panic| {
        let what = panic_text(panic.as_ref());
        let statistics = Statistics { seeds: 1, ..Statistics::default() };
        Report {
            seed: making.seed,
            failure: Some(format!("seed {}: panic: {what}\n  repeat it: {}\n", making.seed, replay_command(making))),
            checker: Some("panic"),
            statistics,
            coverage: Coverage::default(),
        }
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("of an unknown kind").to_owned()
}

/// What many seeds come to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Counts of all.
    pub statistics: Statistics,
    /// Seeds that failed, with what failed, by seed; the run ends after a few.
    pub failures: Vec<Report>,
    /// How long it took.
    pub took: Duration,
    coverage: Coverage,
}

impl Summary {
    fn add(&mut self, report: Report) {
        self.statistics.add(&report.statistics);
        self.coverage.add(&report.coverage);
        if report.failure.is_some() {
            self.failures.push(report);
        }
    }

    /// How often each rule of the protocol was seen at work.
    pub fn coverage(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.coverage.counts()
    }

    /// Seeds in a minute.
    #[must_use]
    pub fn seeds_per_minute(&self) -> f64 {
        self.statistics.seeds as f64 * 60.0 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Runs `count` seeds from `first` on `jobs` threads; stops early after `most_failures`.
#[must_use]
pub fn run_many(first: u64, count: u64, jobs: usize, most_failures: usize) -> Summary {
    let started = stopwatch();
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let report = run_seed(Making::plain(seed));
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(report);
                    if summary.failures.len() >= most_failures {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|f| f.seed);
    summary.took = started.elapsed();
    summary
}

/// A left-out rule that was noticed.
#[derive(Clone, Debug)]
pub struct Caught {
    /// How many seeds it took.
    pub seeds: u64,
    /// The report of the seed that noticed.
    pub report: Report,
}

/// Runs seeds from `first` with `bug` planted until a checker notices that finds nothing in the same run without it;
/// none if `most` seeds don't show it.
#[must_use]
pub fn catch_bug(bug: Bug, first: u64, most: u64, jobs: usize) -> Option<Caught> {
    let next = AtomicU64::new(first);
    let caught: Mutex<Option<Report>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Seeds below the first one known to notice are still run, so that the answer has no race in it.
                    let known = caught.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|r| r.seed);
                    if seed >= first + most || known.is_some_and(|k| k < seed) {
                        break;
                    }
                    let report = run_seed(Making::aimed(seed, bug, true));
                    // Only what goes wrong for want of the rule counts.
                    if report.shows(bug) && run_seed(Making::aimed(seed, bug, false)).failure.is_none() {
                        let mut caught = caught.lock().unwrap_or_else(PoisonError::into_inner);
                        if caught.as_ref().is_none_or(|c| c.seed > seed) {
                            *caught = Some(report);
                        }
                    }
                }
            });
        }
    });
    let report = caught.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Some(Caught { seeds: report.seed - first + 1, report })
}

/// The bug of this name.
#[must_use]
pub fn bug_named(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name))
}

/// The standing fault of this name.
#[must_use]
pub fn standing_fault_named(name: &str) -> Option<StandingFault> {
    StandingFault::ALL.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name))
}

/// Real time, for the report of how fast seeds run; no run sees it.
#[expect(clippy::disallowed_methods, reason = "measures the simulator itself, outside of every run")]
fn stopwatch() -> Instant {
    Instant::now()
}
