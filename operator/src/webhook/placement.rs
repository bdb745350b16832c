//! Where the scheduler puts the pod, and which ports its kernel keeps free: only what the pod left open.

use k8s_openapi::api::core::v1::{
    PodAffinityTerm, PodSecurityContext, PodSpec, Sysctl, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{checks, port_list};
use crate::crd::{AntiAffinity, CacheCluster};
use crate::names;

/// The label that tells nodes apart.
const NODE: &str = "kubernetes.io/hostname";
/// A safe sysctl: ports that the kernel gives no outgoing connection.
const RESERVED_PORTS: &str = "net.ipv4.ip_local_reserved_ports";
/// Ports that the kernel gives outgoing connections by default.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Keeps members off each other's nodes and spreads them, where the pod has set nothing itself. For members alone:
/// a client holds no data, so where it runs makes no difference.
pub(super) fn place(spec: &mut PodSpec, cluster: &CacheCluster) {
    let topology = &cluster.spec.topology;
    let term = || PodAffinityTerm {
        label_selector: Some(members(cluster)),
        topology_key: NODE.to_owned(),
        ..PodAffinityTerm::default()
    };
    let has_own = spec.affinity.as_ref().is_some_and(|affinity| affinity.pod_anti_affinity.is_some());
    if !has_own && topology.anti_affinity != AntiAffinity::None {
        let apart = spec.affinity.get_or_insert_default().pod_anti_affinity.get_or_insert_default();
        if topology.anti_affinity == AntiAffinity::Required {
            apart.required_during_scheduling_ignored_during_execution = Some(vec![term()]);
        } else {
            let term = WeightedPodAffinityTerm { pod_affinity_term: term(), weight: 100 };
            apart.preferred_during_scheduling_ignored_during_execution = Some(vec![term]);
        }
    }
    let has_own = spec.topology_spread_constraints.as_ref().is_some_and(|all| !all.is_empty());
    if !has_own && !topology.spread.is_empty() {
        let constraint = |key: &String| TopologySpreadConstraint {
            label_selector: Some(members(cluster)),
            max_skew: 1,
            topology_key: key.clone(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..TopologySpreadConstraint::default()
        };
        spec.topology_spread_constraints = Some(topology.spread.iter().map(constraint).collect());
    }
}

/// Selects the members of this cluster, not its clients.
fn members(cluster: &CacheCluster) -> LabelSelector {
    let name = cluster.metadata.name.clone().unwrap_or_default();
    LabelSelector {
        match_labels: Some([(names::CLUSTER_LABEL.to_owned(), name)].into()),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: names::ROLE_LABEL.to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(vec!["client".to_owned()]),
        }]),
    }
}

/// Keeps the failure-detection port, and others of the sidecar in the ephemeral range, from being taken by an outgoing
/// connection before the sidecar listens on them again after a restart. Only where the CacheCluster asks for it or the
/// pod reserves ports itself: policies older than Kubernetes 1.27 refuse the sysctl, and the sidecar, which starts first
/// and whose supervisor holds the socket, doesn't need it. What the pod reserves itself stays.
pub(super) fn reserve_ports(spec: &mut PodSpec, cluster: &CacheCluster) {
    let own = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    if !cluster.spec.network.reserve_ports && !own.into_iter().any(|sysctl| sysctl.name == RESERVED_PORTS) {
        return;
    }
    let failure_detection = cluster.spec.network.failure_detection_port;
    let ports = checks::ports(cluster).map(|(port, _)| port);
    let ports = ports.into_iter().filter(|port| *port == failure_detection || EPHEMERAL.contains(port));
    let context: &mut PodSecurityContext = spec.security_context.get_or_insert_default();
    let sysctls = context.sysctls.get_or_insert_default();
    let index = sysctls.iter().position(|sysctl| sysctl.name == RESERVED_PORTS).unwrap_or_else(|| {
        sysctls.push(Sysctl { name: RESERVED_PORTS.to_owned(), value: String::new() });
        sysctls.len() - 1
    });
    for port in ports {
        port_list::add(&mut sysctls[index].value, port);
    }
}
