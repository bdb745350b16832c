//! Log lines on standard error, as text or JSON. Never a line per request.

use std::panic;

use sidegrid_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Starts logging for this process. Later calls change nothing.
pub(crate) fn start(log: &Log) {
    // What others' crates say of their inner life is of no use below a warning.
    let level = log.level.as_str();
    let filter = EnvFilter::new(format!("warn,sidegrid={level},sidegrid_net={level},sidegrid_registry={level}"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_target(false)
        .with_writer(std::io::stderr);
    // Fails only when logging was started before.
    let _started_before = match log.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "panic: {info}");
    }));
}
