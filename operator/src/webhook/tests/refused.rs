//! What is refused, and how it is told.

use serde_json::json;

use super::*;
use crate::webhook::RefusalKind;

/// Changes of a pod, and the kind and beginning of the refusal that they bring.
type Case = (Value, RefusalKind, &'static str);

fn must_refuse(cases: impl IntoIterator<Item = Case>) {
    for (changes, kind, message) in cases {
        let refusal = inject(&pod(changes.clone()), &cluster(), None, &settings()).unwrap_err();
        assert_eq!(refusal.kind, kind, "{changes} {refusal}");
        assert!(refusal.to_string().starts_with(message), "{changes} {refusal}");
        assert_eq!(refusal.code(), if kind == RefusalKind::HostNetwork { 403 } else { 422 });
    }
}

#[test]
fn a_pod_that_can_not_join_is_refused_by_its_field() {
    use RefusalKind::{HostNetwork, InvalidLabel, OperatingSystem, UnknownWord};
    must_refuse([
        (json!({"spec": {"hostNetwork": true}}), HostNetwork, "spec.hostNetwork: "),
        (json!({"spec": {"os": {"name": "windows"}}}), OperatingSystem, "spec.os.name: "),
        (
            json!({"spec": {"nodeSelector": {"kubernetes.io/os": "windows"}}}),
            OperatingSystem,
            "spec.nodeSelector[kubernetes.io/os]: ",
        ),
        (
            json!({"metadata": {"labels": {"sidegrid.dev/role": "leader"}}}),
            UnknownWord,
            "metadata.labels[sidegrid.dev/role]: \"leader\" is unknown; set it to member or client",
        ),
        (
            json!({"metadata": {"annotations": {"sidegrid.dev/readiness": ""}}}),
            UnknownWord,
            "metadata.annotations[sidegrid.dev/readiness]: \"\" is unknown; set it to strict or joined",
        ),
        (
            json!({"metadata": {"labels": {"sidegrid.dev/cluster": "Web_1"}}}),
            InvalidLabel,
            "metadata.labels[sidegrid.dev/cluster]: \"Web_1\" can't be the name of a CacheCluster; ",
        ),
        (json!({"metadata": {"labels": {"sidegrid.dev/cluster": ""}}}), InvalidLabel, "metadata.labels["),
        (json!({"metadata": {"labels": {"sidegrid.dev/cluster": "a..b"}}}), InvalidLabel, "metadata.labels["),
        (json!({"metadata": {"labels": {"sidegrid.dev/cluster": "other"}}}), InvalidLabel, "metadata.labels["),
        (json!({"metadata": {"labels": null}}), InvalidLabel, "metadata.labels["),
    ]);
}

#[test]
fn a_taken_name_is_refused_by_its_field() {
    use RefusalKind::NameTaken;
    let volume = |name: &str| json!({"spec": {"volumes": [{"name": "x"}, {"name": name}]}});
    must_refuse([
        (
            json!({"spec": {"containers": [{"name": "app"}, {"name": "sidegrid"}]}}),
            NameTaken,
            "spec.containers[1].name: the name \"sidegrid\" is the injected sidecar's; give it another name",
        ),
        (json!({"spec": {"initContainers": [{"name": "sidegrid"}]}}), NameTaken, "spec.initContainers[0].name: "),
        (
            // A native sidecar of our name that no operator injected.
            json!({"spec": {"initContainers": [{"name": "sidegrid", "restartPolicy": "Always"}]}}),
            NameTaken,
            "spec.initContainers[0].name: ",
        ),
        (
            // Annotations copied from an injected pod make no injected pod.
            json!({
                "metadata": {"annotations": {"sidegrid.dev/injected": "0.1.0"}},
                "spec": {"initContainers": [{"name": "sidegrid"}]},
            }),
            NameTaken,
            "spec.initContainers[0].name: ",
        ),
        (volume("sidegrid-run"), NameTaken, "spec.volumes[1].name: "),
        (volume("sidegrid-socket"), NameTaken, "spec.volumes[1].name: the name \"sidegrid-socket\" is the injected"),
        (volume("sidegrid-config"), NameTaken, "spec.volumes[1].name: "),
        (volume("sidegrid-token"), NameTaken, "spec.volumes[1].name: "),
        (volume("sidegrid-no-token"), NameTaken, "spec.volumes[1].name: "),
    ]);
}

#[test]
fn a_taken_port_is_refused_by_its_field() {
    use RefusalKind::PortTaken;
    let port = |port: Value| json!({"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 1}, port]}]}});
    must_refuse([
        (
            port(json!({"containerPort": 7080})),
            PortTaken,
            "spec.containers[0].ports[1].containerPort: port 7080 is the injected sidecar's; use another port, or set \
             another spec.sidecar.http.port in the CacheCluster",
        ),
        (
            port(json!({"containerPort": 7800, "protocol": "TCP"})),
            PortTaken,
            "spec.containers[0].ports[1].containerPort",
        ),
        (port(json!({"containerPort": 57800})), PortTaken, "spec.containers[0].ports[1].containerPort: "),
        (
            port(json!({"containerPort": 7990})),
            PortTaken,
            "spec.containers[0].ports[1].containerPort: port 7990 is the injected sidecar's; use another port",
        ),
        (port(json!({"containerPort": 80, "hostPort": 7800})), PortTaken, "spec.containers[0].ports[1].hostPort: "),
        (
            json!({"spec": {"initContainers": [{"name": "i", "ports": [{"containerPort": 7990}]}]}}),
            PortTaken,
            "spec.initContainers[0].ports[0].containerPort: ",
        ),
    ]);
}

#[test]
fn what_only_looks_like_a_clash_is_let_in() {
    for changes in [
        json!({"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 7800, "protocol": "UDP"}]}]}}),
        json!({"spec": {"hostNetwork": false, "os": {"name": "linux"}, "shareProcessNamespace": true}}),
        json!({"metadata": {"annotations": {"sidegrid.dev/injected": "0.1.0"}}}),
    ] {
        let pod = injected(changes, &cluster());
        assert_eq!(sidecar(&pod).name, "sidegrid");
    }
}

#[test]
fn a_cluster_that_is_being_deleted_takes_no_new_pods() {
    let mut cluster = cluster();
    cluster.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let refusal = inject(&pod(json!({})), &cluster, None, &settings()).unwrap_err();
    assert_eq!((refusal.kind, refusal.code()), (RefusalKind::ClusterDeleted, 403));
}

#[test]
fn an_injected_pod_copied_into_another_cluster_is_refused() {
    let mut pod = injected(json!({}), &cluster());
    pod.metadata.labels.as_mut().unwrap().insert("sidegrid.dev/cluster".into(), "other".into());
    let refusal = inject(&pod, &cluster_with("other", json!({})), None, &settings()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::OtherCluster);
    assert!(refusal.to_string().contains("other-sidegrid"), "{refusal}");
}

/// Whoever may edit a CacheCluster would else run any code in every labelled pod. A pod that has its sidecar already
/// keeps it.
#[test]
fn an_image_that_the_operator_does_not_allow_is_refused() {
    let foreign = cluster_with("web", json!({"sidecar": {"image": "example.org/miner:1"}}));
    let refusal = inject(&pod(json!({})), &foreign, None, &settings()).unwrap_err();
    assert_eq!((refusal.kind, refusal.code()), (RefusalKind::ImageNotAllowed, 403));
    assert!(refusal.to_string().starts_with("spec.sidecar.image: \"example.org/miner:1\" is not"), "{refusal}");
    let before = injected(json!({}), &cluster());
    assert_eq!(inject(&before, &foreign, None, &settings()).unwrap(), before);
}

#[test]
fn a_pod_without_a_spec_is_refused() {
    let pod = Pod { spec: None, ..pod(json!({})) };
    assert_eq!(inject(&pod, &cluster(), None, &settings()).unwrap_err().code(), 400);
}
