//! `CacheCluster`: what a user asks for, and what the operator tells. Comments on fields are what `kubectl explain`
//! shows, so they speak to users.

pub mod rules;
mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{REGION_LABEL, ZONE_LABEL};

pub use status::{CacheClusterStatus, CacheStatus, LossStatus, MemberStatus, SegmentStatus, Survives};

/// What a CacheCluster asks for. A change reaches pods that are made later, but for `disruption`, which is followed at
/// once: the condition `SettingsCurrent` tells of pods that were made before, to be restarted.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sidegrid.dev",
    version = "v1alpha1",
    kind = "CacheCluster",
    namespaced,
    shortname = "cgrid",
    status = "CacheClusterStatus",
    derive = "PartialEq",
    doc = "A cache grid formed by the pods of this namespace that carry the label `sidegrid.dev/cluster: <name>`.",
    validation = Rule::new(rules::NAME_LENGTH).message(rules::NAME_LENGTH_MESSAGE),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether all members are in the view."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is missing, and what to do."
    ),
    printcolumn(
        name = "Members",
        type_ = "string",
        json_path = ".status.ready",
        description = "Members in the view of all pods that should be members."
    ),
    printcolumn(
        name = "View",
        type_ = "integer",
        json_path = ".status.view",
        description = "Number of the membership's view."
    ),
    printcolumn(
        name = "Survives",
        type_ = "string",
        json_path = ".status.survives",
        description = "What every clustered cache can lose any one of without losing an entry."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::spec()))]
pub struct CacheClusterSpec {
    /// The caches by name: 1 to 64 of them, each name 1 to 63 letters, digits, `-` or `_` beginning with a letter or
    /// digit. Which caches there are, their mode and their owners can't change once the cluster exists.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 64, "x-kubernetes-validations" = rules::caches()))]
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
    /// Service meshes around the pods.
    #[serde(default)]
    pub mesh: MeshSpec,
}

/// One cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cache()))]
pub struct CacheSpec {
    /// How the cache is kept: `distributed` in as many members as `owners` says, `replicated` in every member, or
    /// `local` in each pod's own sidecar alone. By default `distributed`.
    #[serde(default)]
    pub mode: CacheMode,
    /// Copies of each entry, 1 to 64; with mode `distributed` only, where it is 2 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub owners: Option<u16>,
    /// Time to live of entries that are stored without one: whole numbers, each with a unit (ms, s, m, h or d), such as
    /// `30m` or `1h30m`. By default they live until they are removed or evicted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "text_or_number")]
    #[schemars(schema_with = "rules::ttl")]
    pub ttl: Option<String>,
    /// Bound on entries in each member. By default there is no bound on their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_entries: Option<u64>,
    /// Bound on bytes in each member, keys and overhead included, 4Ki to 1Ti: a quantity of Kubernetes such as `64Mi`,
    /// `1.5Gi` or `500M`; `64MiB` and `500MB` are read as well. By default there is no bound on bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "text_or_number")]
    #[schemars(schema_with = "rules::max_bytes")]
    pub max_bytes: Option<String>,
    /// What happens at a bound. By default `evict`.
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

/// Reads a text, or a number as its text: `maxBytes: 1048576` is a quantity too.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    let read = Option::<Either>::deserialize(deserializer)?;
    Ok(read.map(|either| match either {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

// Of a field that may be left out, the schema has the type's text alone.
/// What happens at a bound: `evict` removes entries that are used less, `reject` refuses the write. By default `evict`.
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
    /// Its image, of the repository that the operator names or of another that the operator allows. By default the one of
    /// the operator's own release, which an upgrade of the operator moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^\s]+$"))]
    pub image: Option<String>,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`. By default as Kubernetes does by the image's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Always", "IfNotPresent", "Never"]))]
    pub image_pull_policy: Option<String>,
    /// Up to 8 Secrets of the pods' namespace with which the image is pulled, added to the pod's own. By default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Its requests and limits, as quantities of Kubernetes: `512Mi` of memory, `500m` or `"0.5"` of CPU (a fraction in
    /// quotes). No request above its limit. By default small requests that keep the pod's quality of service, and limits
    /// where all of the pod's containers have limits. Set it where a quota or limit range of the namespace refuses pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rules::resources")]
    pub resources: Option<ResourceRequirements>,
    /// The user that it runs as, 1 to 2147483647; never root. By default the pod's, or else the image's, 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub run_as_user: Option<i64>,
    /// The group that it runs as, 0 to 2147483647. By default the pod's, or else the image's, 65532.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_i64))]
    pub run_as_group: Option<i64>,
    /// Least severe lines that it logs: `error`, `warn`, `info`, `debug` or `trace`. By default `info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["error", "warn", "info", "debug", "trace"]))]
    pub log_level: Option<String>,
    /// The cache API for the pod's own containers.
    #[serde(default)]
    pub http: HttpSpec,
}

/// A Secret with which an image is pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullSecret {
    /// Its name: 1 to 253 lower-case letters, digits, `-` and `.`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// The cache API.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSpec {
    /// Port on the pod's localhost, 1 to 65535; apps are told it as `SIDEGRID_URL`. By default 7080.
    #[serde(default = "http_port")]
    #[schemars(range(min = 1, max = 65_535))]
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
    /// Whether pods keep off each other's nodes (`kubernetes.io/hostname`): `preferred`, `required` or `none`. Not
    /// added to a pod that has a pod anti-affinity of its own. By default `preferred`.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,
    /// Up to 4 node labels over whose values the pods are spread when the scheduler can. Not added to a pod that has
    /// topology spread constraints of its own. By default `topology.kubernetes.io/zone`.
    #[serde(default = "spread")]
    #[schemars(
        length(max = 4),
        inner(length(min = 1, max = 317), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"))
    )]
    pub spread: Vec<String>,
    /// What a machine is: `node` for the node's name, or the node label whose value it is. By default `node`. Can't change
    /// once the cluster exists.
    #[serde(default = "machine")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = rules::fixed("spec.topology.machine"))
    )]
    pub machine: String,
    /// The node label whose value is the rack: copies go to different racks before different machines. By default
    /// `topology.kubernetes.io/zone`. Can't change once the cluster exists.
    #[serde(default = "rack")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = rules::fixed("spec.topology.rack"))
    )]
    pub rack: String,
    /// The node label whose value is the site: copies go to different sites before different racks. By default
    /// `topology.kubernetes.io/region`. Can't change once the cluster exists.
    #[serde(default = "site")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$"),
        extend("x-kubernetes-validations" = rules::fixed("spec.topology.site"))
    )]
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
    ZONE_LABEL.to_owned()
}

fn site() -> String {
    REGION_LABEL.to_owned()
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
    /// Where certificates between members come from: `auto`, the operator signs them, or `disabled`, for a mesh that
    /// encrypts and authenticates by itself. By default `auto`. Can't change once the cluster exists.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = rules::fixed("spec.tls.mode")))]
    pub mode: TlsMode,
    /// Certificates are renewed within this many days, 1 to 365. By default 30.
    #[serde(default = "rotation")]
    #[schemars(range(min = 1, max = 365))]
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
    /// Port of data between members, 1 to 65535. By default 7800.
    #[serde(default = "data_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub data_port: u16,
    /// Port of failure detection between members, 1 to 65535. By default 57800.
    #[serde(default = "failure_detection_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub failure_detection_port: u16,
    /// Whether the pod's kernel keeps the ports of the ephemeral range for the sidecar, by the sysctl
    /// `net.ipv4.ip_local_reserved_ports`, which Pod Security policies older than Kubernetes 1.27 refuse. By default
    /// `false`: the sidecar is the first to start and doesn't need it.
    #[serde(default)]
    pub reserve_ports: bool,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        NetworkSpec { data_port: data_port(), failure_detection_port: failure_detection_port(), reserve_ports: false }
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
    /// Members that evictions, such as those of `kubectl drain`, may take at once; 1 to 1000. Kept by a
    /// PodDisruptionBudget, which is made only while no other one selects the pods. By default 1.
    #[serde(default = "max_unavailable")]
    #[schemars(range(min = 1, max = 1_000))]
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

/// Service meshes around the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeshSpec {
    /// Whether annotations keep the sidecar's traffic with other members and with the operator out of Istio, and out of
    /// Linkerd: `auto`, out of the one that is seen at the pod or its namespace; `always`, out of both, seen or not; or
    /// `never`. By default `auto`. With `tls.mode: disabled`, traffic with other members stays in the mesh, which has to
    /// encrypt it.
    #[serde(default)]
    pub istio: MeshMode,
}

/// When a pod's annotations keep a mesh away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MeshMode {
    /// Where one is seen.
    #[default]
    Auto,
    /// On every pod.
    Always,
    /// Not at all.
    Never,
}

/// The definition as it is installed.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = CacheCluster::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            rules::tidy(schema);
        }
    }
    definition
}

/// The definition as a YAML file.
///
/// # Errors
/// Never in practice: when a part of it has no text form.
pub fn definition_file() -> anyhow::Result<String> {
    Ok(format!(
        "# Made from operator/src/crd.rs by `make generate`; don't edit.\n{}",
        sidegrid_config::to_yaml(&definition())?
    ))
}

#[cfg(test)]
mod tests;
