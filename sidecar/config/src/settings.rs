//! The settings, parsed and checked: what the rest of the program is given.
//!
//! Field names in files are the camelCase form of the names here. What each may hold is in [`crate::schema`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::https_host;
use crate::text::{optional_size, optional_span, size, span};

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

/// The cluster that this member belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// Clusters of different names are apart on a shared registry.
    pub name: String,
    /// What a minority does.
    pub partition: Partition,
    /// Segments of the key space, fixed when the cluster is made.
    pub segments: u16,
    /// The times that leases rest on; all members must agree.
    pub timing: Timing,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster { name: "default".into(), partition: Partition::default(), segments: 256, timing: Timing::default() }
    }
}

/// What a minority does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Partition {
    /// The policy.
    pub policy: PartitionPolicy,
}

/// What a minority does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionPolicy {
    /// It refuses service until it is heard again.
    #[default]
    Fence,
}

/// The times that leases rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timing {
    /// Between two pings to a peer.
    #[serde(with = "span")]
    pub ping: Duration,
    /// How long an echoed ping lets its sender serve.
    #[serde(with = "span")]
    pub lease: Duration,
    /// No echo for this long: suspected.
    #[serde(with = "span")]
    pub suspect: Duration,
    /// A replication unacknowledged for this long: suspected.
    #[serde(with = "span")]
    pub data_suspect: Duration,
    /// How long an exclusion that would lose a segment's last copy waits for its owner.
    #[serde(with = "span")]
    pub orphan_wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            ping: Duration::from_millis(100),
            lease: Duration::from_millis(600),
            suspect: Duration::from_millis(400),
            data_suspect: Duration::from_secs(1),
            orphan_wait: Duration::from_secs(5),
        }
    }
}

/// Who and where this member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Member {
    /// The stable name; none: the host's name.
    pub name: Option<String>,
    /// Region or data centre; copies go to different ones when possible.
    pub site: String,
    /// Rack or zone.
    pub rack: String,
    /// Machine.
    pub machine: String,
    /// Folder of this member's name lock and control socket; made when absent. Members on one machine may share it.
    pub state_dir: PathBuf,
    /// Whether it holds data.
    pub role: MemberRole,
    /// The uid of the pod that it runs in; empty: none.
    pub pod_uid: String,
}

/// Whether a node holds data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// It joins the view and holds copies.
    #[default]
    Member,
    /// It only forwards what its app asks.
    Client,
}

impl Default for Member {
    fn default() -> Self {
        Member {
            name: None,
            site: String::new(),
            rack: String::new(),
            machine: String::new(),
            state_dir: PathBuf::from("/run/sidegrid"),
            role: MemberRole::default(),
            pod_uid: String::new(),
        }
    }
}

/// What decides views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registry {
    /// Which kind.
    pub kind: RegistryKind,
    /// For `file`: where the document is kept.
    pub path: PathBuf,
    /// For `operator`: where it is reached, `https://host` or `https://host:port`.
    pub url: Option<String>,
    /// For `operator`: the file of the authorities, PEM, one of which must have signed its certificate.
    pub authority: Option<PathBuf>,
    /// For `operator`: the file of the pod's token.
    pub token: Option<PathBuf>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            kind: RegistryKind::File,
            path: PathBuf::from("/var/lib/sidegrid/registry"),
            url: None,
            authority: None,
            token: None,
        }
    }
}

impl Registry {
    /// Host and port that `url` names; an IPv6 address without its brackets.
    #[must_use]
    pub fn endpoint(&self) -> Option<(&str, u16)> {
        https_host(self.url.as_deref()?)
    }
}

/// Kinds of registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryKind {
    /// A locked file, for members on one machine.
    #[default]
    File,
    /// The operator, for members in pods.
    Operator,
}

/// Addresses and ports between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// An IP address, one of the words, or a pattern; the network layer chooses by it.
    pub bind_address: String,
    /// Data between members.
    pub data_port: u16,
    /// Pings between members.
    pub failure_detection_port: u16,
    /// What others are told, where it differs.
    pub advertised: Advertised,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            bind_address: "SITE_LOCAL".into(),
            data_port: 7800,
            failure_detection_port: 57800,
            advertised: Advertised::default(),
        }
    }
}

/// What others are told of this member's address; each part by default what is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Advertised {
    /// The address.
    pub address: Option<IpAddr>,
    /// The data port.
    pub port: Option<u16>,
    /// The failure-detection port.
    pub failure_detection_port: Option<u16>,
}

/// Encryption between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tls {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// Leaf certificates are renewed after this many days and valid for twice as many.
    pub rotation_interval_days: u16,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { mode: TlsMode::Auto, rotation_interval_days: 30 }
    }
}

/// Where certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// An authority made once and kept in the registry.
    #[default]
    Auto,
    /// No encryption and no checked identity: for a mesh that does both.
    Disabled,
}

/// The cache API for apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Unix socket beside it; none: none.
    pub socket: Option<PathBuf>,
    /// `Host` names accepted beside this host's own (`localhost` and the addresses that it is reached by).
    pub allowed_hosts: Vec<String>,
    /// `Origin`s accepted; none by default.
    pub allowed_origins: Vec<String>,
    /// Largest value.
    #[serde(with = "size")]
    pub max_value_bytes: u64,
    /// Connections open at once; beyond it the one that has been idle longest is closed.
    pub max_connections: u32,
    /// How long a request's head may take.
    #[serde(with = "span")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "span")]
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    #[serde(with = "span")]
    pub idle_timeout: Duration,
    /// How long an operation may take before it is answered with `timeout`.
    #[serde(with = "span")]
    pub request_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7080)),
            socket: Some(PathBuf::from("/run/sidegrid/http.sock")),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_value_bytes: 8 << 20,
            max_connections: 4_096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// The same caches over RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resp {
    /// Whether it is served; not built yet.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Resp {
    fn default() -> Self {
        Resp { enabled: false, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6379)) }
    }
}

/// Health, metrics and the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7990)) }
    }
}

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
    /// The word in settings and API.
    #[must_use]
    pub const fn word(self) -> &'static str {
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
    /// The word in settings and API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            WhenFull::Evict => "evict",
            WhenFull::Reject => "reject",
        }
    }
}

/// What is measured beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Latency histograms per operation; not built yet.
    pub histograms: bool,
}

/// What the process works with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Runtime {
    /// Threads that serve; none: one for each processor that the process may use, four at most.
    pub worker_threads: Option<u16>,
    /// Memory that the process keeps below; none: what its control group allows.
    #[serde(with = "optional_size")]
    pub memory_limit: Option<u64>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long handing over may take after SIGTERM.
    #[serde(with = "span")]
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { grace: Duration::from_secs(25) }
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// Least severe level shown.
    pub level: LogLevel,
    /// Form of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// Least severe level shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// A person must look.
    Error,
    /// Something is not as it should be.
    Warn,
    /// One line per decision.
    #[default]
    Info,
    /// For whoever follows the protocol.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}
