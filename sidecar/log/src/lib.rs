//! Log lines that never block or end what serves.
//!
//! Whether anybody reads the log is no condition of service. Lines go through a bounded queue to one thread that alone
//! writes to standard error: a reader that stands still, has gone, or whose disk is full costs lines, which are counted
//! and reported, and nothing else. A program that logs through this crate writes to standard error by no other way.

use std::io;
use std::os::fd::AsFd;
use std::panic;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

mod sink;

use sink::Sink;

/// How long an ending process waits for its last lines, when whoever reads them stands still.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Form of a line.
    pub format: Format,
    /// Levels, as directives such as `warn,sidegrid=info`.
    pub directives: String,
    /// Whether a line names the module that it comes from.
    pub targets: bool,
}

/// Levels that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}; give error, warn, info, debug or trace, or directives such as warn,sidegrid=debug")]
pub struct DirectivesError(#[from] ParseError);

/// Format of this process's lines, for the line that reports lost ones.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Starts logging for this process, panics included. A later call changes nothing.
///
/// # Errors
/// When the directives can't be read.
pub fn start(options: &LogOptions) -> Result<(), DirectivesError> {
    let filter = EnvFilter::try_new(&options.directives)?;
    FORMAT.get_or_init(|| options.format);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_target(options.targets)
        .with_ansi(false)
        // It would report them on standard error, and panic when that fails.
        .log_internal_errors(false)
        .with_writer(standard_error);
    // Fails only when logging was started before.
    let _started_before = match options.format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        tracing::error!(thread = name, "panic: {info}");
        if name == "main" {
            // The process ends with this thread.
            flush();
        }
    }));
    Ok(())
}

/// Writes text that is no log line, such as what is wrong with the command line, to standard error: as it is, behind
/// what waits to be written. A line end is added.
pub fn report(text: &str) {
    standard_error().push(format!("{}\n", text.trim_end()).into_bytes());
}

/// Writes to standard output, by a thread of its own, and waits for that no longer than for the last lines of the log.
pub fn print(text: &str) {
    let Ok(output) = io::stdout().as_fd().try_clone_to_owned() else { return };
    let sink = Sink::start("standard output", std::fs::File::from(output), |_| String::new());
    sink.push(text.as_bytes().to_vec());
    sink.flush(LAST_LINES);
}

/// Waits until every line has been written, for a second at most: to be called before the process ends.
pub fn flush() {
    standard_error().flush(LAST_LINES);
}

/// Lines lost since the process began, since nobody took them.
#[must_use]
pub fn lost_lines() -> u64 {
    standard_error().lost()
}

/// The one sink of standard error. Its thread has a descriptor of its own: whoever else uses the standard library's handle
/// meets no lock that the thread holds.
fn standard_error() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(|| match io::stderr().as_fd().try_clone_to_owned() {
        Ok(output) => Sink::start("log", std::fs::File::from(output), loss_line),
        Err(_) => Sink::nowhere(),
    })
}

/// The line that stands for `lost` ones.
fn loss_line(lost: u64) -> String {
    let mut time = String::new();
    // Writing to a string can't fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let message =
        format!("{lost} log line{} lost: nobody took them in time", if lost == 1 { " was" } else { "s were" });
    match FORMAT.get().copied().unwrap_or_default() {
        Format::Text => format!("{time}  WARN {message}\n"),
        Format::Json => {
            format!("{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{message}\",\"lost_lines\":{lost}}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_lines_are_told_in_the_form_of_the_others() {
        let line = loss_line(1);
        assert!(line.ends_with("Z  WARN 1 log line was lost: nobody took them in time\n"), "{line}");
        assert!(loss_line(12).contains(" 12 log lines were lost"));
    }

    #[test]
    fn levels_that_cannot_be_read_name_the_remedy() {
        let options = LogOptions { format: Format::Text, directives: "sidegrid=loud".into(), targets: false };
        let error = start(&options).unwrap_err().to_string();
        assert!(error.contains("give error, warn, info, debug or trace"), "{error}");
    }
}
