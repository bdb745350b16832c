//! What the command line prints.

use std::io::{self, Write};

use sidegrid_core::planted_bug::Bug;
use sidegrid_sim::{Report, Summary, catch_bug};

/// Leaves out a rule until that is noticed, and prints how many seeds it took; whether it was noticed.
pub(crate) fn try_bug(out: &mut impl Write, bug: Bug, seeds: u64, jobs: usize) -> io::Result<bool> {
    let caught = catch_bug(bug, 1, seeds, jobs);
    match &caught {
        Some(caught) => {
            let first = caught.report.failure.as_deref().and_then(|f| f.lines().next()).unwrap_or_default();
            writeln!(out, "{:<24} caught after {:>5} seeds: {first}", format!("{bug:?}"), caught.seeds)?;
        }
        None => writeln!(out, "{:<24} NOT CAUGHT in {seeds} seeds", format!("{bug:?}"))?,
    }
    out.flush()?;
    Ok(caught.is_some())
}

/// Prints what a seed came to.
pub(crate) fn print_report(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{:?}", report.statistics)?;
    writeln!(out, "{}", report.failure.as_deref().unwrap_or("no violation"))
}

/// Prints what many seeds came to: violations, coverage, counts, speed.
pub(crate) fn print_summary(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    for failure in &summary.failures {
        writeln!(out, "{}", failure.failure.as_deref().unwrap_or_default())?;
    }
    let s = &summary.statistics;
    writeln!(out, "rule   seen at work")?;
    for (rule, count) in summary.coverage() {
        writeln!(out, "{rule:<6} {count}")?;
    }
    writeln!(
        out,
        "{} seeds in {:.1} s ({:.0} a minute), {} failed",
        s.seeds,
        summary.took.as_secs_f64(),
        summary.seeds_per_minute(),
        summary.failures.len()
    )?;
    writeln!(out, "{s:#?}")
}
