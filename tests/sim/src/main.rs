//! The command line of the simulator: `run` many seeds, `replay` one, or catch the planted `bugs`.

mod printing;

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sidegrid_core::planted_bug::Bug;
use sidegrid_sim::{Making, Selection, StandingFault, bug_named, run_many, run_seed, standing_fault_named, trace_seed};

use crate::printing::{print_report, print_summary, try_bug};

#[derive(Parser)]
#[command(about = "Drives the real core and codec under virtual time, from seeds")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs many seeds and reports violations, speed and coverage.
    Run {
        /// First seed.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Stops after this many failures.
        #[arg(long, default_value_t = 3)]
        failures: usize,
    },
    /// Runs one seed again.
    Replay {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// The rule to leave out.
        #[arg(long, value_parser = parse_bug)]
        bug: Option<Bug>,
        /// The fault that stands.
        #[arg(long, value_parser = parse_standing, conflicts_with = "bug")]
        standing: Option<StandingFault>,
        /// Keeps that rule, in the run that seeks its schedules.
        #[arg(long)]
        without: bool,
        /// Writes everything that happens.
        #[arg(long)]
        trace: bool,
        /// With the trace: pings, echoes and idle turns too.
        #[arg(long)]
        pings: bool,
        /// With the trace: only from this second on.
        #[arg(long, default_value_t = 0.0)]
        from: f64,
        /// With the trace: only until this second.
        #[arg(long, default_value_t = f64::MAX)]
        until: f64,
        /// With the trace: only this node.
        #[arg(long)]
        node: Option<usize>,
    },
    /// Leaves out one rule after the other, each until a checker notices.
    Bugs {
        /// Most seeds for each.
        #[arg(long, default_value_t = 2000)]
        seeds: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Only this one.
        #[arg(long, value_parser = parse_bug)]
        bug: Option<Bug>,
    },
}

fn parse_bug(name: &str) -> Result<Bug, String> {
    bug_named(name).ok_or_else(|| format!("no such bug; there are {:?}", Bug::ALL))
}

fn parse_standing(name: &str) -> Result<StandingFault, String> {
    standing_fault_named(name).ok_or_else(|| format!("no such fault; there are {:?}", StandingFault::ALL))
}

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout();
    let fine = match Arguments::parse().command {
        Command::Run { first, seeds, jobs, failures } => {
            let summary = run_many(first, seeds, jobs, failures);
            print_summary(&mut out, &summary)?;
            summary.failures.is_empty()
        }
        Command::Replay { seed, bug, standing, without, trace, pings, from, until, node } => {
            let aimed = bug.map(|bug| Making::aimed(seed, bug, !without));
            let making = aimed.or_else(|| standing.map(|fault| Making::standing(seed, fault)));
            let making = making.unwrap_or(Making::plain(seed));
            let report = if trace {
                let selection = Selection { from, until, node, pings };
                trace_seed(making, selection, Box::new(BufWriter::new(io::stdout())))
            } else {
                run_seed(making)
            };
            print_report(&mut out, &report)?;
            report.failure.is_none()
        }
        Command::Bugs { seeds, jobs, bug } => {
            let all = bug.map_or_else(|| Bug::ALL.to_vec(), |bug| vec![bug]);
            let mut missed = 0;
            for bug in all {
                missed += usize::from(!try_bug(&mut out, bug, seeds, jobs)?);
            }
            missed == 0
        }
    };
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
