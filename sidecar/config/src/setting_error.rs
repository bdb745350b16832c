//! What is wrong with settings: every fault at once, each with its path and its remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a value came from, in rising order of weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody said anything else.
    Default,
    /// The settings file.
    File(String),
    /// This environment variable.
    Environment(String),
    /// A `--set` argument.
    Set,
    /// The caller of [`crate::Settings::of_tree`], who knows where it is from.
    Caller,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(name) => f.write_str(name),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::Set => f.write_str("--set"),
            Origin::Caller => f.write_str("the caller"),
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting (`caches.sessions.owners`), or what stands for it when there is none: a file's name, a variable.
    pub path: String,
    /// What is wrong, as a clause.
    pub problem: String,
    /// What to do, as a clause.
    pub remedy: String,
    /// Where the value came from.
    pub origin: Origin,
}

impl fmt::Display for SettingError {
    /// `caches.sessions.owners: 0 is out of range; give 1 to 64`, and where it came from unless that is plain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.problem, self.remedy)?;
        match &self.origin {
            Origin::Environment(_) | Origin::Set => write!(f, " (from {})", self.origin),
            Origin::Default | Origin::File(_) | Origin::Caller => Ok(()),
        }
    }
}

/// All faults of one set of settings; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingErrors(pub Vec<SettingError>);

impl fmt::Display for SettingErrors {
    /// One fault a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}
