//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The environment's way to name the settings file; no setting itself.
pub(crate) const CONFIG_VARIABLE: &str = "SIDEGRID_CONFIG";

/// The exit code when something that must be there is not, or is in use.
pub(crate) const EXIT_CANT_START: u8 = 1;

/// The exit code for a command line or settings that can't be used (`EX_USAGE`).
pub(crate) const EXIT_USAGE: u8 = 64;

/// A distributed cache that lives in your pods.
#[derive(Debug, Parser)]
#[command(name = "sidegrid", version, about, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it here: one process with caches on localhost, no cluster, nothing kept
    Dev(DevArguments),
    /// Run a member of the cluster under its supervisor
    Serve(ServeArguments),
    /// Make the member on this host hand everything over and leave; returns when it has
    Drain(DrainArguments),
    /// Print the version
    Version,
}

/// Where settings come from, in rising order: file, environment (`SIDEGRID_…`), `--set`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SettingsArguments {
    /// Settings file (YAML)
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as http.listen=127.0.0.1:7081; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
}

/// Arguments of `dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArguments {
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
    /// Make this file once it is ready, with the URL of the cache API in it; it is removed at the start and at the end
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
    /// Started by a supervisor with this process id
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) member_of: Option<u32>,
}

/// Arguments of `drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArguments {
    #[command(flatten)]
    pub(crate) settings: SettingsArguments,
    /// Longest time to wait, such as 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| "give a number and a unit, such as 30s".to_owned())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("the units are ms, s, m and h".to_owned()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("30").is_err());
        assert!(duration("s").is_err());
        assert!(duration("99999999999999999999h").is_err());
        assert!(duration("9999999999999999h").is_err());
    }
}
