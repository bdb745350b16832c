//! How this program logs: levels by crate, on standard error. Never a line per request.

use sidegrid_config::{Log, LogFormat};
use sidegrid_log::{Format, LogOptions};

/// Starts logging for this process. Later calls change nothing.
pub(crate) fn start(log: &Log) {
    // What others' crates say of their inner life is of no use below a warning.
    let level = log.level.as_str();
    let options = LogOptions {
        format: match log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        directives: format!("warn,sidegrid={level},sidegrid_net={level},sidegrid_registry={level}"),
        targets: false,
    };
    if let Err(error) = sidegrid_log::start(&options) {
        sidegrid_log::report(&format!("sidegrid: log.level: {error}"));
    }
}
