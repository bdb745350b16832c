//! The operator's program.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sidegrid_log::{Format, LogOptions};
use sidegrid_operator::program;

mod cli;

use cli::{Arguments, Command, LogFormat};

/// The exit code for a command line that can't be used.
const EXIT_USAGE: u8 = 64;

/// Most worker threads where none are asked for.
const MOST_THREADS: usize = 4;
/// Threads for calls that block.
const BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    let code = match Arguments::try_parse() {
        Ok(arguments) => run(&arguments),
        Err(misuse) if misuse.use_stderr() => {
            sidegrid_log::report(&misuse.render().to_string());
            ExitCode::from(EXIT_USAGE)
        }
        // Help and version are asked for. A closed standard output is no error.
        Err(asked) => {
            let _gone = asked.print();
            ExitCode::SUCCESS
        }
    };
    sidegrid_log::flush();
    code
}

fn run(arguments: &Arguments) -> ExitCode {
    let done = match arguments.command {
        Some(Command::Crd) => print_definition(),
        None | Some(Command::Serve) => serve(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sidegrid_log::report(&format!("sidegrid-operator: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn print_definition() -> anyhow::Result<()> {
    let text = sidegrid_operator::crd::definition_file()?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let format = match arguments.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    sidegrid_log::start(&LogOptions { format, directives: arguments.log_level.clone(), targets: true })
        .map_err(|error| anyhow::anyhow!("LOG_LEVEL: {error}"))?;
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another crypto provider is installed already");
    }
    let options = arguments.options();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.worker_threads.map_or(processors.min(MOST_THREADS), usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(program::run(options));
    // What blocks is not waited for.
    runtime.shutdown_background();
    ended
}
