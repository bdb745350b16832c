//! What the operator tells of a CacheCluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The last loss of data, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_loss: Option<LossStatus>,
    /// Caches by name.
    pub caches: Vec<CacheStatus>,
    /// `Ready`, `Degraded`, `Rebalancing`, `CertificatesReady`, `InjectionReady`, `SettingsCurrent`,
    /// `EvictionGuarded`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
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

/// Segments that had to start empty, since every copy of them was gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LossStatus {
    /// The newest view in which some did.
    pub view: u64,
    /// How many did since the view that the status told before.
    pub segments: u32,
    /// When the operator saw it, RFC 3339.
    pub seen: String,
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
    /// Any one zone, as the node labels `topology.kubernetes.io/zone` and `topology.kubernetes.io/region` tell them; false
    /// where `spec.topology` asks for neither.
    pub zone: bool,
}
