//! Who a member is, whom it belongs with, and how members reach each other.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::https_host;
use crate::text::span;

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
    /// How long a segment whose last owners were excluded waits for one of them before it starts empty.
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
    /// Certificates are renewed after this many days and valid for twice as many.
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
