//! The settings, parsed and checked: what the rest of the program is given.
//!
//! Field names in files are the camelCase form of the names here. What each may hold is in [`crate::schema`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod caches;
mod membership;
mod process;
mod serving;

pub use caches::{Cache, Copies, DEFAULT_OWNERS, Mode, WhenFull};
pub use membership::{
    Advertised, Cluster, Member, MemberRole, Network, Partition, PartitionPolicy, Registry, RegistryKind, Timing, Tls,
    TlsMode,
};
pub use process::{Log, LogFormat, LogLevel, Metrics, Runtime, Shutdown};
pub use serving::{Admin, Http, Resp};

/// Everything that can be set. Immutable once loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The cluster that this member belongs to.
    pub cluster: Cluster,
    /// Who and where this member is.
    pub member: Member,
    /// What decides views.
    pub registry: Registry,
    /// Addresses and ports between members.
    pub network: Network,
    /// Encryption between members.
    pub tls: Tls,
    /// The cache API for apps.
    pub http: Http,
    /// The same caches over RESP; not built yet.
    pub resp: Resp,
    /// Health, metrics and the console.
    pub admin: Admin,
    /// The caches by name.
    pub caches: BTreeMap<String, Cache>,
    /// Named sets of caches; none is built yet.
    pub presets: Vec<String>,
    /// What is measured beyond the usual.
    pub metrics: Metrics,
    /// What the process works with.
    pub runtime: Runtime,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is logged and how.
    pub log: Log,
}
