//! The caches.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::{optional_size, optional_span};

/// One cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cache {
    /// How it is kept.
    pub mode: Mode,
    /// Copies in a `distributed` cache; none in the other modes. See [`Cache::copies`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owners: Option<u16>,
    /// Time to live of entries stored without one; none: for ever.
    #[serde(with = "optional_span", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Bound on entries per member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<u64>,
    /// Bound on bytes per member: key, value and true overhead.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// What happens at a bound.
    pub when_full: WhenFull,
}

/// Copies of a `distributed` cache that says nothing else.
pub const DEFAULT_OWNERS: u16 = 2;

impl Cache {
    /// How many members hold a copy of each entry.
    #[must_use]
    pub fn copies(&self) -> Copies {
        match self.mode {
            Mode::Local => Copies::Local,
            Mode::Replicated => Copies::All,
            Mode::Distributed => Copies::Count(self.owners.unwrap_or(DEFAULT_OWNERS)),
        }
    }
}

/// How many members hold a copy of each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Not clustered.
    Local,
    /// Every member.
    All,
    /// This many, at least 1.
    Count(u16),
}

/// How a cache is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In `owners` members.
    #[default]
    Distributed,
    /// In every member.
    Replicated,
    /// In this member alone.
    Local,
}

impl Mode {
    /// The label in settings and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Distributed => "distributed",
            Mode::Replicated => "replicated",
            Mode::Local => "local",
        }
    }
}

/// What happens at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Less used entries make room.
    #[default]
    Evict,
    /// The write is refused (507).
    Reject,
}

impl WhenFull {
    /// The label in settings and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WhenFull::Evict => "evict",
            WhenFull::Reject => "reject",
        }
    }
}
