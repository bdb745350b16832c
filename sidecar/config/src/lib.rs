//! Settings: one set of types for the file, the environment, the command line and the documentation.
//!
//! [`Settings::load`] joins the sources in rising order of weight (defaults, file, environment, `--set`), checks
//! everything and reports every fault at once. Depends on no other crate of the project.

mod check;
mod contradiction;
mod load;
mod memory;
mod schema;
mod setting_error;
mod settings;
mod sources;
mod suggest;
mod text;
mod yaml;

pub use load::{Base, Loaded, Sources};
pub use memory::MemoryBudget;
pub use schema::{FIELDS, Field, ValueType, reference};
pub use setting_error::{Origin, SettingError, SettingErrors};
pub use settings::*;
pub use text::{TextError, format_size, format_span, parse_size, parse_span};
pub use yaml::to_yaml;
