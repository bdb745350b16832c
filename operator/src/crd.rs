//! `CacheCluster`: what a user asks for, and what the operator tells.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cache grid that the labelled pods of this namespace form.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sidegrid.dev",
    version = "v1alpha1",
    kind = "CacheCluster",
    namespaced,
    shortname = "cgrid",
    status = "CacheClusterStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct CacheClusterSpec {
    /// The caches by name.
    pub caches: BTreeMap<String, CacheSpec>,
    /// The injected container.
    #[serde(default)]
    pub sidecar: SidecarSpec,
    /// Where members may run, and what tells copies apart.
    #[serde(default)]
    pub topology: TopologySpec,
    /// Certificates between members.
    #[serde(default)]
    pub tls: TlsSpec,
    /// Ports between members.
    #[serde(default)]
    pub network: NetworkSpec,
    /// How many members may go at once.
    #[serde(default)]
    pub disruption: DisruptionSpec,
}

/// One cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// `distributed`, `replicated` or `local`.
    #[serde(default)]
    pub mode: CacheMode,
    /// Copies of each entry; `distributed` only, 2 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owners: Option<u16>,
    /// Time to live of entries stored without one, such as `30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Bound on entries per member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<u64>,
    /// Bound on bytes per member, such as `64MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<String>,
    /// What happens at a bound: `evict` or `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_full: Option<WhenFull>,
}

/// How a cache is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// In `owners` members.
    #[default]
    Distributed,
    /// In every member.
    Replicated,
    /// In the pod's own sidecar alone.
    Local,
}

/// What happens at a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// Less used entries make room.
    Evict,
    /// The write is refused.
    Reject,
}

/// The injected container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarSpec {
    /// Image; by default the operator's own release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Requests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// The cache API.
    #[serde(default)]
    pub http: HttpSpec,
}

/// The cache API.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSpec {
    /// Port on the pod's localhost.
    #[serde(default = "http_port")]
    pub port: u16,
}

impl Default for HttpSpec {
    fn default() -> HttpSpec {
        HttpSpec { port: http_port() }
    }
}

const fn http_port() -> u16 {
    7080
}

/// Where members may run, and what tells copies apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpec {
    /// `preferred`, `required` or `none`, over `kubernetes.io/hostname`.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,
    /// Node labels over whose values the pods are spread.
    #[serde(default = "spread")]
    pub spread: Vec<String>,
    /// What a machine is: `node` for the node's name, or a node label.
    #[serde(default = "machine")]
    pub machine: String,
    /// Node label that is the rack.
    #[serde(default = "rack")]
    pub rack: String,
    /// Node label that is the site.
    #[serde(default = "site")]
    pub site: String,
}

impl Default for TopologySpec {
    fn default() -> TopologySpec {
        TopologySpec {
            anti_affinity: AntiAffinity::default(),
            spread: spread(),
            machine: machine(),
            rack: rack(),
            site: site(),
        }
    }
}

fn spread() -> Vec<String> {
    vec![rack()]
}

fn machine() -> String {
    "node".to_owned()
}

fn rack() -> String {
    "topology.kubernetes.io/zone".to_owned()
}

fn site() -> String {
    "topology.kubernetes.io/region".to_owned()
}

/// Whether members keep off each other's nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AntiAffinity {
    /// When the scheduler can.
    #[default]
    Preferred,
    /// Always: a pod without a node of its own stays pending.
    Required,
    /// Not at all.
    None,
}

/// Certificates between members.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// `auto` or `disabled` (a mesh does it).
    #[serde(default)]
    pub mode: TlsMode,
    /// Leaf certificates are renewed within this many days.
    #[serde(default = "rotation")]
    pub rotation_interval_days: u16,
}

impl Default for TlsSpec {
    fn default() -> TlsSpec {
        TlsSpec { mode: TlsMode::default(), rotation_interval_days: rotation() }
    }
}

const fn rotation() -> u16 {
    30
}

/// Where certificates come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// The operator signs them.
    #[default]
    Auto,
    /// None: for a mesh that encrypts by itself.
    Disabled,
}

/// Ports between members.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// Data.
    #[serde(default = "data_port")]
    pub data_port: u16,
    /// Failure detection.
    #[serde(default = "failure_detection_port")]
    pub failure_detection_port: u16,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        NetworkSpec { data_port: data_port(), failure_detection_port: failure_detection_port() }
    }
}

const fn data_port() -> u16 {
    7800
}

const fn failure_detection_port() -> u16 {
    57800
}

/// How many members may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionSpec {
    /// Members that evictions may take at once.
    #[serde(default = "max_unavailable")]
    pub max_unavailable: u16,
}

impl Default for DisruptionSpec {
    fn default() -> DisruptionSpec {
        DisruptionSpec { max_unavailable: max_unavailable() }
    }
}

const fn max_unavailable() -> u16 {
    1
}

/// What the operator tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheClusterStatus {
    /// The generation that this status is of.
    pub observed_generation: i64,
    /// The view's number; 0 before the first.
    pub view: u64,
    /// Members by name.
    pub members: Vec<MemberStatus>,
    /// `READY/MEMBERS`, for the printer column.
    pub ready: String,
    /// What every cache survives, for the printer column, such as `pod,node`.
    pub survives: String,
    /// Segments.
    pub segments: SegmentStatus,
    /// Caches by name.
    pub caches: Vec<CacheStatus>,
    /// `Ready`, `Degraded`, `Rebalancing`, `CertificatesReady`, `InjectionReady`.
    pub conditions: Vec<Condition>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// The pod.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its site as the grid uses it.
    pub site: String,
    /// Its rack as the grid uses it.
    pub rack: String,
    /// Its machine as the grid uses it.
    pub machine: String,
    /// `Member`, `Client`, `Joining`, `Leaving`, `Unreachable` or `NotInjected`.
    pub state: String,
    /// Sidecar's version.
    pub version: String,
}

/// Segments over all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SegmentStatus {
    /// All.
    pub total: u32,
    /// Those with fewer copies in sync than asked for.
    pub under_replicated: u32,
}

/// A cache as the placement has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheStatus {
    /// Its name.
    pub name: String,
    /// What may be lost at once without losing an acknowledged entry.
    pub survives: Survives,
}

/// What may be lost at once without losing an acknowledged entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Survives {
    /// Any one pod.
    pub pod: bool,
    /// Any one node.
    pub node: bool,
    /// Any one zone.
    pub zone: bool,
}
