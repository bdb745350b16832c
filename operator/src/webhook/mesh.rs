//! Keeps the sidecar's ports out of a service mesh: members authenticate each other by themselves, and one that waits
//! for a mesh's proxy while the proxy waits for it never starts.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{checks, port_list};
use crate::crd::{CacheCluster, MeshMode, TlsMode};
use crate::names;

/// The meshes that are known.
const MESHES: [Mesh; 2] = [
    Mesh {
        container: "istio-proxy",
        of_pod: |pod| istio(pod, "sidecar.istio.io/inject"),
        of_namespace: |namespace| istio(namespace, "istio-injection"),
        inbound: "traffic.sidecar.istio.io/excludeInboundPorts",
        outbound: "traffic.sidecar.istio.io/excludeOutboundPorts",
        inherits: false,
    },
    Mesh {
        container: "linkerd-proxy",
        of_pod: linkerd,
        of_namespace: linkerd,
        inbound: "config.linkerd.io/skip-inbound-ports",
        outbound: "config.linkerd.io/skip-outbound-ports",
        inherits: true,
    },
];

struct Mesh {
    /// Its proxy in a pod.
    container: &'static str,
    /// Whether a pod's labels and annotations put it into the mesh.
    of_pod: fn(&ObjectMeta) -> Option<bool>,
    /// Whether a Namespace's do.
    of_namespace: fn(&ObjectMeta) -> Option<bool>,
    /// Annotation of the ports whose callers aren't led through the proxy.
    inbound: &'static str,
    /// Annotation of the ports that are called past the proxy.
    outbound: &'static str,
    /// Whether the Namespace's annotations hold for pods without their own.
    inherits: bool,
}

impl Mesh {
    /// Whether the pod itself says that it is in the mesh, or that it isn't; none when it leaves that to its Namespace.
    fn at_pod(&self, pod: &Pod) -> Option<bool> {
        let has_proxy = || pod.spec.as_ref().is_some_and(|spec| has_container(spec, self.container));
        (self.of_pod)(&pod.metadata).or_else(|| has_proxy().then_some(true))
    }
}

/// Whether the pod's Namespace must be known: whether it is in a mesh that the pod says nothing of, or what its list holds
/// that one in the pod is to take the place of.
#[must_use]
pub fn asks_namespace(pod: &Pod, cluster: &CacheCluster) -> bool {
    let has = |annotation: &str| pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation));
    let said = |mesh: &Mesh| match cluster.spec.mesh.istio {
        MeshMode::Auto => mesh.at_pod(pod),
        MeshMode::Always => Some(true),
        MeshMode::Never => Some(false),
    };
    let is_in_one = MESHES.iter().any(|mesh| said(mesh) == Some(true));
    MESHES.iter().any(|mesh| match said(mesh) {
        None => !is_in_one,
        Some(is_in) => is_in && mesh.inherits && !(has(mesh.inbound) && has(mesh.outbound)),
    })
}

/// Adds the annotations of the meshes that are seen, to what the pod's own lists have.
pub(super) fn keep_out(pod: &mut Pod, cluster: &CacheCluster, namespace: Option<&ObjectMeta>) {
    for mesh in &MESHES {
        let is_seen = || mesh.at_pod(pod).or_else(|| namespace.and_then(mesh.of_namespace)).unwrap_or(false);
        let is_kept_out = match cluster.spec.mesh.istio {
            MeshMode::Auto => is_seen(),
            MeshMode::Always => true,
            MeshMode::Never => false,
        };
        if !is_kept_out {
            continue;
        }
        // Nothing in the pod listens on the registry's port for the sidecar: what an app serves there stays guarded.
        let sides = [(mesh.inbound, checks::SIDECAR_ADMIN_PORT), (mesh.outbound, names::REGISTRY_PORT)];
        for (annotation, other) in sides {
            let list = pod.metadata.annotations.get_or_insert_default().entry(annotation.to_owned());
            // A pod's list of Linkerd takes the place of its Namespace's.
            let list = list.or_insert_with(|| inherited(namespace, annotation));
            for port in between_members(cluster).into_iter().chain([other]) {
                port_list::add(list, port);
            }
        }
    }
}

/// The ports between members that a mesh has no part in: none where it is the mesh that encrypts.
fn between_members(cluster: &CacheCluster) -> Vec<u16> {
    let network = cluster.spec.network;
    match cluster.spec.tls.mode {
        TlsMode::Auto => vec![network.data_port, network.failure_detection_port],
        TlsMode::Disabled => Vec::new(),
    }
}

fn inherited(namespace: Option<&ObjectMeta>, annotation: &str) -> String {
    namespace.and_then(|of| of.annotations.as_ref()?.get(annotation)).cloned().unwrap_or_default()
}

/// See <https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/>.
fn istio(of: &ObjectMeta, key: &str) -> Option<bool> {
    match value(of, key) {
        Some("true" | "enabled") => Some(true),
        Some("false" | "disabled") => Some(false),
        _ => value(of, "istio.io/rev").map(|_| true),
    }
}

/// See <https://linkerd.io/2/features/proxy-injection/>.
fn linkerd(of: &ObjectMeta) -> Option<bool> {
    match value(of, "linkerd.io/inject")? {
        "enabled" | "ingress" => Some(true),
        "disabled" => Some(false),
        _ => None,
    }
}

/// The label's value, else the annotation's, as Istio reads its own.
fn value<'a>(of: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    let among = |all: &'a Option<BTreeMap<String, String>>| all.as_ref()?.get(key);
    among(&of.labels).or_else(|| among(&of.annotations)).map(String::as_str)
}

fn has_container(spec: &PodSpec, name: &str) -> bool {
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|container| container.name == name)
}
