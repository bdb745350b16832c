//! The sidecar: a member of the grid in one process, its supervisor in another, and the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use sidegrid_config::{Base, SettingErrors, Settings, Sources};
use sidegrid_net::Clock;

mod admin;
mod agreed;
mod allocator;
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
mod memory;
mod node;
mod notices;
mod operator;
mod refusal;
mod serving;
mod shutdown;
mod signals;
mod spawner;
mod supervisor;
mod sweep;
mod tended;
mod trust;
mod watchdog;
mod workers;

use bound::Bound;
use cli::{
    Arguments, Command, DevArguments, DrainArguments, EXIT_CANT_START, EXIT_USAGE, ServeArguments, SettingsArguments,
};
use member::Member;

fn main() -> ExitCode {
    let code = match Arguments::try_parse() {
        Ok(arguments) => run(arguments.command),
        Err(misuse) if misuse.use_stderr() => {
            sidegrid_log::report(&misuse.render().to_string());
            EXIT_USAGE
        }
        // Help and version are asked for. A closed standard output is no error.
        Err(asked) => asked.print().map_or(0, |()| 0),
    };
    sidegrid_log::flush();
    ExitCode::from(code)
}

fn run(command: Command) -> u8 {
    match command {
        Command::Version => u8::from(writeln!(io::stdout(), "sidegrid {}", env!("CARGO_PKG_VERSION")).is_err()),
        Command::Dev(DevArguments { settings: from, ready_file }) => {
            settings(&from, Base::Dev).map_or_else(refused, |settings| dev::run(settings, ready_file))
        }
        Command::Serve(ServeArguments { settings: from, member_of: None }) => {
            settings(&from, Base::Serve).map_or_else(refused, |settings| supervise(&settings))
        }
        Command::Serve(ServeArguments { settings: from, member_of: Some(supervisor) }) => {
            settings(&from, Base::Serve).map_or_else(refused, |settings| serve(settings, supervisor))
        }
        Command::Drain(DrainArguments { settings: from, timeout }) => {
            settings(&from, Base::Serve).map_or_else(refused, |settings| match control::drain(&settings, timeout) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!("drain: {error}");
                    error.exit_code()
                }
            })
        }
    }
}

/// Settings from all sources; logging starts with them.
fn settings(from: &SettingsArguments, base: Base) -> Result<Settings, SettingErrors> {
    let env = std::env::vars().filter(|(name, _)| name != cli::CONFIG_VARIABLE).collect();
    let sources = Sources { base, file: from.config.clone(), env, sets: from.sets.clone() };
    let settings = Settings::load(sources)?.settings;
    logging::start(&settings.log);
    Ok(settings)
}

fn refused(errors: SettingErrors) -> u8 {
    let plural = if errors.0.len() == 1 { "" } else { "s" };
    sidegrid_log::report(&format!("sidegrid: {} error{plural} in the settings:\n{errors}", errors.0.len()));
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
    supervisor::run(&bound, !settings.member.pod_uid.is_empty()).unwrap_or_else(|error| {
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
