//! The injected container and its volumes.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe, ProjectedVolumeSource,
    SeccompProfile, SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::checks::SIDECAR_ADMIN_PORT;
use super::inject::{InjectSettings, Readiness, Role};
use super::resources;
use crate::crd::CacheCluster;
use crate::names;

/// The program in the image.
const PROGRAM: &str = "/sidegrid";
/// User in the image.
const USER: i64 = 65_532;
/// Life of the sidecar's token in seconds; the kubelet renews it at four fifths.
const TOKEN_SECONDS: i64 = 3_600;
/// The folders of run and socket volume hold sockets and a lock.
const RUN_BYTES: &str = "1Mi";
/// Grace of a pod that sets none, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// Start-up may last half an hour: a restart helps no member that waits for others or for the registry.
const STARTUP_FAILURES: i32 = 1_800;

/// The sidecar as a native one, for a pod of this spec.
pub(super) fn container(
    spec: &PodSpec,
    cluster: &CacheCluster,
    settings: &InjectSettings,
    role: Role,
    readiness: Readiness,
) -> Container {
    let sidecar = &cluster.spec.sidecar;
    let drain = ["drain".to_owned(), "--timeout".to_owned(), format!("{}s", drain_seconds(spec))];
    let command = std::iter::once(PROGRAM.to_owned()).chain(drain).collect();
    let pre_stop =
        LifecycleHandler { exec: Some(ExecAction { command: Some(command) }), ..LifecycleHandler::default() };
    let readiness_path = match readiness {
        Readiness::Strict => "/readyz",
        Readiness::Joined => "/startupz",
    };
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(sidecar.image.clone().unwrap_or_else(|| settings.image.clone())),
        image_pull_policy: sidecar.image_pull_policy.clone(),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["serve".to_owned()]),
        env: Some(environment(cluster, settings, role)),
        ports: Some(ports(cluster)),
        resources: resources::sidecar(spec, cluster),
        restart_policy: Some("Always".to_owned()),
        startup_probe: Some(probe("/startupz", 1, 2, STARTUP_FAILURES)),
        readiness_probe: Some(probe(readiness_path, 2, 2, 2)),
        // Patient: a process that is only slow does more for its neighbours than one that is started again.
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        lifecycle: Some(Lifecycle { pre_stop: Some(pre_stop), ..Lifecycle::default() }),
        security_context: Some(security(spec, cluster)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount(names::RUN_VOLUME, false),
            mount(names::SOCKET_VOLUME, false),
            mount(names::CONFIG_VOLUME, true),
            mount(names::TOKEN_VOLUME, true),
            mount(names::NO_TOKEN_VOLUME, true),
        ]),
        ..Container::default()
    }
}

/// The volumes that the sidecar mounts; the app's containers share the one of the socket alone.
pub(super) fn volumes(cluster: &CacheCluster) -> Vec<Volume> {
    let named = |(name, _): (&str, &str)| Volume { name: name.to_owned(), ..Volume::default() };
    let settings = names::settings_config_map(cluster.metadata.name.as_deref().unwrap_or_default());
    let token = ServiceAccountTokenProjection {
        audience: Some(names::TOKEN_AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    // In memory: they hold sockets and a lock, and a pod with local storage keeps its node from being scaled down.
    let empty = |volume| Volume {
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(RUN_BYTES.to_owned())),
        }),
        ..named(volume)
    };
    vec![
        empty(names::RUN_VOLUME),
        empty(names::SOCKET_VOLUME),
        empty(names::NO_TOKEN_VOLUME),
        Volume {
            config_map: Some(ConfigMapVolumeSource { name: settings, ..ConfigMapVolumeSource::default() }),
            ..named(names::CONFIG_VOLUME)
        },
        Volume {
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(token),
                    ..VolumeProjection::default()
                }]),
                ..ProjectedVolumeSource::default()
            }),
            ..named(names::TOKEN_VOLUME)
        },
    ]
}

/// How long the hand-over may take, in seconds: the pod's grace less a sixth of it, at most 5 s, in which the app and
/// the sidecar still have to end. At least 1.
fn drain_seconds(spec: &PodSpec) -> i64 {
    let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS).max(0);
    (grace - (grace / 6).clamp(1, 5)).max(1)
}

/// The ports are fixed with the pod, as its app, probes and reserved ports know them: the settings file may say others
/// later.
fn environment(cluster: &CacheCluster, settings: &InjectSettings, role: Role) -> Vec<EnvVar> {
    let plain =
        |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() };
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let mut variables = vec![
        plain("SIDEGRID_CONFIG", &format!("{}/{}", names::CONFIG_VOLUME.1, names::SETTINGS_KEY)),
        field("SIDEGRID_MEMBER_NAME", "metadata.name"),
        field("SIDEGRID_MEMBER_POD_UID", "metadata.uid"),
        field("SIDEGRID_NETWORK_BIND_ADDRESS", "status.podIP"),
        plain("SIDEGRID_MEMBER_ROLE", role.word()),
        plain("SIDEGRID_LOG_FORMAT", "json"),
        plain("SIDEGRID_HTTP_LISTEN", &format!("127.0.0.1:{}", cluster.spec.sidecar.http.port)),
        plain("SIDEGRID_NETWORK_DATA_PORT", &cluster.spec.network.data_port.to_string()),
        plain("SIDEGRID_NETWORK_FAILURE_DETECTION_PORT", &cluster.spec.network.failure_detection_port.to_string()),
        plain("SIDEGRID_HTTP_SOCKET", &format!("{}/{}", names::SOCKET_VOLUME.1, names::SOCKET_FILE)),
    ];
    // A pod whose resolver doesn't know the cluster's names joins by the address; others by either.
    variables.extend(settings.service_address.map(|at| plain(names::SERVICE_HOST_VARIABLE, &at.to_string())));
    variables
}

/// What others reach. The cache API isn't among them: it listens on the pod's localhost.
fn ports(cluster: &CacheCluster) -> Vec<ContainerPort> {
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    vec![
        port("sidegrid-data", cluster.spec.network.data_port),
        port("sidegrid-fd", cluster.spec.network.failure_detection_port),
        port("sidegrid-admin", SIDECAR_ADMIN_PORT),
    ]
}

fn probe(path: &str, period_seconds: i32, timeout_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(SIDECAR_ADMIN_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(timeout_seconds),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// What the restricted Pod Security Standard asks for, and nothing that a policy of the namespace may want otherwise:
/// user and group are the image's unless the CacheCluster, the pod or the platform gives others.
fn security(spec: &PodSpec, cluster: &CacheCluster) -> SecurityContext {
    let sidecar = &cluster.spec.sidecar;
    let of_pod = spec.security_context.as_ref();
    // The pod's root would be the sidecar's too, which `runAsNonRoot` keeps from starting.
    let is_root = of_pod.is_some_and(|context| context.run_as_user == Some(0));
    let profile = of_pod.and_then(|context| context.seccomp_profile.as_ref());
    let inherits_profile = profile.is_some_and(|profile| profile.type_ != "Unconfined");
    let default_profile = || SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() };
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_group: sidecar.run_as_group,
        run_as_non_root: Some(true),
        run_as_user: sidecar.run_as_user.or(is_root.then_some(USER)),
        seccomp_profile: (!inherits_profile).then(default_profile),
        ..SecurityContext::default()
    }
}

/// A volume at this path.
pub(super) fn mount((name, path): (&str, &str), read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_over_ends_before_the_pods_grace_does() {
        for (grace, drain) in
            [(None, 25), (Some(60), 55), (Some(3_600), 3_595), (Some(6), 5), (Some(1), 1), (Some(0), 1), (Some(-1), 1)]
        {
            let spec = PodSpec { termination_grace_period_seconds: grace, ..PodSpec::default() };
            assert_eq!(drain_seconds(&spec), drain, "{grace:?}");
        }
        let spec = PodSpec { termination_grace_period_seconds: Some(i64::MAX), ..PodSpec::default() };
        assert_eq!(drain_seconds(&spec), i64::MAX - 5);
    }
}
