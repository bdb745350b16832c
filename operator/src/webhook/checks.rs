//! What a pod must not have when the sidecar is to go into it.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::refusal::keyed;
use super::{Refusal, RefusalKind};
use crate::crd::CacheCluster;
use crate::names;

/// The sidecar's admin port, which its settings leave at this default.
pub(super) const SIDECAR_ADMIN_PORT: u16 = 7990;
/// Longest label value of Kubernetes, in bytes.
const LABEL_BYTES: usize = 63;

/// The ports that the sidecar listens on, all TCP, each with the setting it comes from.
pub(super) fn ports(cluster: &CacheCluster) -> [(u16, &'static str); 4] {
    let (network, http) = (cluster.spec.network, cluster.spec.sidecar.http);
    [
        (network.data_port, "spec.network.dataPort"),
        (network.failure_detection_port, "spec.network.failureDetectionPort"),
        (http.port, "spec.sidecar.http.port"),
        (SIDECAR_ADMIN_PORT, ""),
    ]
}

/// The CacheCluster that the pod's label names; none when it has no such label.
///
/// # Errors
/// When the label can't be the name of a CacheCluster.
pub(super) fn cluster_label(pod: &Pod) -> Result<Option<&str>, Refusal> {
    let Some(name) = label(pod, names::CLUSTER_LABEL) else { return Ok(None) };
    if is_name(name) {
        return Ok(Some(name));
    }
    Err(Refusal::new(
        RefusalKind::InvalidLabel,
        keyed("labels", names::CLUSTER_LABEL),
        format!("{name:?} can't be the name of a CacheCluster"),
        "give the name of a CacheCluster of the pod's own namespace: lower-case letters, digits, - and .",
    ))
}

/// Whether the sidecar was put into this pod before: it has our annotation and the native sidecar of our name.
pub(super) fn is_injected(pod: &Pod) -> bool {
    let annotated = pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::INJECTED_ANNOTATION));
    annotated && pod.spec.as_ref().is_some_and(|spec| init_containers(spec).any(is_ours))
}

/// Whether this init container is the one that injection adds.
pub(super) fn is_ours(container: &Container) -> bool {
    container.name == names::CONTAINER && is_native_sidecar(container)
}

/// Whether the sidecar that is in the pod has the socket volume; one that an older operator injected has none.
pub(super) fn shares_socket(spec: &PodSpec) -> bool {
    let mut mounts = init_containers(spec).filter(|c| is_ours(c)).flat_map(|c| c.volume_mounts.iter().flatten());
    mounts.any(|mount| mount.name == names::SOCKET_VOLUME.0)
}

/// Whether an init container runs beside the app's containers.
pub(super) fn is_native_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The value of a label.
pub(super) fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Checks that the sidecar can go into this pod.
///
/// # Errors
/// What stands against it: the first that is found.
pub(super) fn check(pod: &Pod, spec: &PodSpec, cluster: &CacheCluster) -> Result<(), Refusal> {
    membership(pod, cluster)?;
    host(spec)?;
    if is_injected(pod) {
        own_volumes(spec, cluster)?;
    } else {
        taken_names(spec)?;
    }
    taken_ports(spec, cluster)
}

fn membership(pod: &Pod, cluster: &CacheCluster) -> Result<(), Refusal> {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let field = || keyed("labels", names::CLUSTER_LABEL);
    if cluster_label(pod)? != Some(name) {
        let problem = format!("doesn't name the CacheCluster {name:?}");
        return Err(Refusal::new(RefusalKind::InvalidLabel, field(), problem, "set it to that name"));
    }
    if cluster.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::new(
            RefusalKind::ClusterDeleted,
            field(),
            format!("CacheCluster {name:?} is being deleted"),
            "remove the label, or create the CacheCluster again once it has gone",
        ));
    }
    Ok(())
}

fn host(spec: &PodSpec) -> Result<(), Refusal> {
    if spec.host_network == Some(true) {
        return Err(Refusal::new(
            RefusalKind::HostNetwork,
            "spec.hostNetwork",
            "a member needs an address of its own, and its cache API must not be open to the whole node",
            "set it to false, or remove the label sidegrid.dev/cluster",
        ));
    }
    let windows_selected =
        spec.node_selector.as_ref().is_some_and(|all| all.get("kubernetes.io/os").is_some_and(|os| os == "windows"));
    let field = match &spec.os {
        Some(os) if os.name == "windows" => "spec.os.name",
        _ if windows_selected => "spec.nodeSelector[kubernetes.io/os]",
        _ => return Ok(()),
    };
    Err(Refusal::new(
        RefusalKind::OperatingSystem,
        field,
        "the sidecar runs on Linux alone",
        "run the pod on Linux, or remove the label sidegrid.dev/cluster",
    ))
}

/// An injected pod that was copied and given another cluster's label would join with the settings of the first.
fn own_volumes(spec: &PodSpec, cluster: &CacheCluster) -> Result<(), Refusal> {
    let expected = names::settings_config_map(cluster.metadata.name.as_deref().unwrap_or_default());
    let mut volumes = spec.volumes.iter().flatten();
    let config = volumes.find(|volume| volume.name == names::CONFIG_VOLUME.0).and_then(|v| v.config_map.as_ref());
    if config.is_some_and(|config| config.name == expected) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::OtherCluster,
        "spec.volumes",
        format!(
            "the pod already carries a sidecar, whose volume {:?} isn't ConfigMap {expected:?}",
            names::CONFIG_VOLUME.0
        ),
        format!(
            "remove the init container {:?}, the volumes that begin with sidegrid- and the annotation {}: they are \
             added again",
            names::CONTAINER,
            names::INJECTED_ANNOTATION
        ),
    ))
}

fn taken_names(spec: &PodSpec) -> Result<(), Refusal> {
    let taken = |field: String, name: &str| {
        let problem = format!("the name {name:?} is the injected sidecar's");
        Err(Refusal::new(RefusalKind::NameTaken, field, problem, "give it another name"))
    };
    for (field, container) in containers(spec) {
        if container.name == names::CONTAINER {
            return taken(format!("{field}.name"), &container.name);
        }
    }
    let ours =
        [names::RUN_VOLUME, names::SOCKET_VOLUME, names::CONFIG_VOLUME, names::TOKEN_VOLUME, names::NO_TOKEN_VOLUME];
    let ours = ours.map(|(name, _)| name);
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        if ours.contains(&volume.name.as_str()) {
            return taken(format!("spec.volumes[{index}].name"), &volume.name);
        }
    }
    Ok(())
}

fn taken_ports(spec: &PodSpec, cluster: &CacheCluster) -> Result<(), Refusal> {
    for (field, container) in containers(spec) {
        // A regular container of this name was refused, or stands beside an injected one and is for the API server.
        if container.name == names::CONTAINER {
            continue;
        }
        for (index, port) in container.ports.iter().flatten().enumerate() {
            if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            for (number, setting) in ports(cluster) {
                let which = match i32::from(number) {
                    number if number == port.container_port => "containerPort",
                    number if Some(number) == port.host_port => "hostPort",
                    _ => continue,
                };
                let other = if setting.is_empty() { String::new() } else { format!(", or set another {setting}") };
                return Err(Refusal::new(
                    RefusalKind::PortTaken,
                    format!("{field}.ports[{index}].{which}"),
                    format!("port {number} is the injected sidecar's"),
                    format!("use another port{other}{}", if setting.is_empty() { "" } else { " in the CacheCluster" }),
                ));
            }
        }
    }
    Ok(())
}

fn init_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten()
}

/// All containers with their paths. Init containers run while the sidecar does, so they count.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let init = init_containers(spec).enumerate().map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
    init.chain(spec.containers.iter().enumerate().map(|(i, c)| (format!("spec.containers[{i}]"), c)))
}

/// Whether this is a DNS subdomain that fits a label.
fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    text.len() <= LABEL_BYTES && text.split('.').all(part)
}
