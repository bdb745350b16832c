//! The sidecar: a member of the grid in one process, its supervisor in another, and the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sidegrid_config::{Base, SettingErrors, Settings, Sources};
use sidegrid_net::Clock;

mod admin;
mod agreed;
mod bound;
mod cli;
mod control;
mod dev;
mod driver;
mod grid;
mod http;
mod identity;
mod incarnations;
mod logging;
mod member;
mod node;
mod notices;
mod operator;
mod serving;
mod shutdown;
mod signals;
mod spawner;
mod supervisor;
mod sweep;
mod tended;
mod trust;

use bound::Bound;
use cli::{Arguments, Command, DevArguments, DrainArguments, EXIT_USAGE, ServeArguments, SettingsArguments};
use member::Member;

/// The exit code when something that must be there is not, or is in use.
const EXIT_CANT_START: u8 = 1;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are asked for; the rest is misuse. Nobody is left to tell when the terminal is gone.
            let _gone = told.print();
            return ExitCode::from(if told.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let code = match arguments.command {
        Command::Version => say(concat!("sidegrid ", env!("CARGO_PKG_VERSION"))),
        Command::Dev(DevArguments { settings: from, ready_file }) => {
            settings(&from, Base::Dev).map_or_else(faulty, |settings| dev::run(settings, ready_file))
        }
        Command::Serve(ServeArguments { settings: from, member_of: None }) => {
            settings(&from, Base::Serve).map_or_else(faulty, |settings| supervise(&settings))
        }
        Command::Serve(ServeArguments { settings: from, member_of: Some(supervisor) }) => {
            settings(&from, Base::Serve).map_or_else(faulty, |settings| serve(settings, supervisor))
        }
        Command::Drain(DrainArguments { settings: from, timeout }) => {
            settings(&from, Base::Serve).map_or_else(faulty, |settings| match control::drain(&settings, timeout) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!("drain: {error}");
                    error.exit_code()
                }
            })
        }
    };
    ExitCode::from(code)
}

/// Settings from all sources; logging starts with them.
fn settings(from: &SettingsArguments, base: Base) -> Result<Settings, SettingErrors> {
    let env = std::env::vars().filter(|(name, _)| name != cli::CONFIG_VARIABLE).collect();
    let sources = Sources { base, file: from.config.clone(), env, sets: from.sets.clone() };
    let settings = Settings::load(sources)?.settings;
    logging::start(&settings.log);
    Ok(settings)
}

fn faulty(faults: SettingErrors) -> u8 {
    let count = faults.0.len();
    eprintln!("sidegrid: {count} fault{} in the settings:\n{faults}", if count == 1 { "" } else { "s" });
    EXIT_USAGE
}

/// The supervisor's life: bind, then start the member as often as it dies.
fn supervise(settings: &Settings) -> u8 {
    let bound = match Bound::bind(settings) {
        Ok(bound) => bound,
        Err(faults) => {
            faults.iter().for_each(|fault| tracing::error!("{fault}"));
            return EXIT_CANT_START;
        }
    };
    supervisor::run(&bound).unwrap_or_else(|error| {
        tracing::error!("the supervisor can't go on: {error}");
        EXIT_CANT_START
    })
}

/// The member's life under its supervisor.
fn serve(settings: Settings, supervisor: u32) -> u8 {
    let clock = Clock::boottime();
    let began = clock.now();
    if let Err(error) = supervisor::end_with_supervisor(supervisor) {
        tracing::error!("{error}");
        return EXIT_CANT_START;
    }
    match Bound::take_over() {
        Ok(bound) => member::run(Member { settings, bound, clock, began, of_terminal: false, announcement: None }),
        Err(error) => {
            tracing::error!("{error}");
            EXIT_CANT_START
        }
    }
}

/// A line on standard output; the exit code.
fn say(line: &str) -> u8 {
    u8::from(writeln!(std::io::stdout(), "{line}").is_err())
}
