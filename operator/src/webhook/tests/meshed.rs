//! What keeps a mesh away, and when one is seen.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::webhook::asks_namespace;

const ISTIO: [&str; 2] =
    ["traffic.sidecar.istio.io/excludeInboundPorts", "traffic.sidecar.istio.io/excludeOutboundPorts"];
const LINKERD: [&str; 2] = ["config.linkerd.io/skip-inbound-ports", "config.linkerd.io/skip-outbound-ports"];
/// What is added to lists that are empty.
const PORTS: [&str; 2] = ["7800,57800,7990", "7800,57800,8443"];

fn mesh(word: &str) -> CacheCluster {
    cluster_with("web", json!({"mesh": {"istio": word}}))
}

fn meshed(changes: Value, cluster: &CacheCluster, namespace: &Value) -> Pod {
    let namespace: ObjectMeta = serde_json::from_value(namespace.clone()).unwrap();
    inject(&pod(changes), cluster, Some(&namespace), &settings()).unwrap()
}

/// The pod's lists under these annotations.
fn lists<'a>(pod: &'a Pod, names: [&str; 2]) -> [Option<&'a str>; 2] {
    names.map(|name| pod.metadata.annotations.as_ref().unwrap().get(name).map(String::as_str))
}

/// Whether the pod has the annotations of Istio, and those of Linkerd.
fn kept_out_of(pod: &Pod) -> (bool, bool) {
    let has = |names| match lists(pod, names) {
        lists if lists == PORTS.map(Some) => true,
        lists => {
            assert_eq!(lists, [None, None]);
            false
        }
    };
    (has(ISTIO), has(LINKERD))
}

fn labels(key: &str, value: &str) -> Value {
    json!({"labels": {key: value}})
}

fn annotations(key: &str, value: &str) -> Value {
    json!({"annotations": {key: value}})
}

#[test]
fn a_mesh_is_seen_by_what_the_pod_says() {
    let with = |name: &str| json!({"spec": {"initContainers": [{"name": name, "restartPolicy": "Always"}]}});
    for (changes, istio, linkerd) in [
        (json!({}), false, false),
        (json!({"metadata": labels("sidecar.istio.io/inject", "true")}), true, false),
        (json!({"metadata": annotations("sidecar.istio.io/inject", "true")}), true, false),
        (json!({"metadata": labels("istio.io/rev", "canary")}), true, false),
        (json!({"metadata": annotations("linkerd.io/inject", "enabled")}), false, true),
        (json!({"metadata": annotations("linkerd.io/inject", "ingress")}), false, true),
        (json!({"metadata": annotations("linkerd.io/inject", "odd")}), false, false),
        // This word is a Namespace's.
        (json!({"metadata": labels("istio-injection", "enabled")}), false, false),
        (json!({"spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]}}), true, false),
        (with("istio-proxy"), true, false),
        (with("linkerd-proxy"), false, true),
    ] {
        assert_eq!(kept_out_of(&injected(changes.clone(), &cluster())), (istio, linkerd), "{changes}");
        assert_eq!(
            asks_namespace(&pod(changes.clone()), &cluster()),
            !istio,
            "{changes}: what Linkerd's list of the Namespace holds"
        );
    }
}

#[test]
fn a_mesh_is_seen_by_what_the_namespace_says_unless_the_pod_opts_out() {
    let istio_out = json!({"metadata": labels("sidecar.istio.io/inject", "false")});
    let linkerd_out = json!({"metadata": annotations("linkerd.io/inject", "disabled")});
    for (namespace, istio, linkerd) in [
        (json!({}), false, false),
        (labels("istio-injection", "enabled"), true, false),
        (labels("istio.io/rev", "default"), true, false),
        (json!({"labels": {"istio-injection": "disabled", "istio.io/rev": "default"}}), false, false),
        (annotations("linkerd.io/inject", "enabled"), false, true),
        (annotations("linkerd.io/inject", "disabled"), false, false),
    ] {
        let of = |changes: &Value| kept_out_of(&meshed(changes.clone(), &cluster(), &namespace));
        assert_eq!(of(&json!({})), (istio, linkerd), "{namespace}");
        assert_eq!(of(&istio_out), (false, linkerd), "{namespace}");
        assert_eq!(of(&linkerd_out), (istio, false), "{namespace}");
    }
    // One opt-out leaves the other mesh to the Namespace, both leave nothing to it; and a proxy in the pod is no answer.
    assert!(asks_namespace(&pod(istio_out), &cluster()) && asks_namespace(&pod(linkerd_out), &cluster()));
    let out = json!({"sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled"});
    let out = json!({"metadata": {"annotations": out}, "spec": {"containers": [{"name": "istio-proxy"}]}});
    assert!(!asks_namespace(&pod(out.clone()), &cluster()));
    assert_eq!(kept_out_of(&injected(out, &cluster())), (false, false));
}

#[test]
fn the_cluster_decides_for_all_its_pods() {
    let inside = labels("istio-injection", "enabled");
    for (word, kept_out) in [("always", (true, true)), ("never", (false, false))] {
        // Whether they are in a mesh is decided; what the Namespace's list holds is not.
        assert_eq!(asks_namespace(&pod(json!({})), &mesh(word)), word == "always");
        let lists = json!({"metadata": {"annotations": {LINKERD[0]: "1", LINKERD[1]: "2"}}});
        assert!(!asks_namespace(&pod(lists), &mesh(word)), "{word}");
        assert_eq!(kept_out_of(&meshed(json!({}), &mesh(word), &inside)), kept_out, "{word}");
    }
}

#[test]
fn ports_are_added_to_the_lists_that_are_there() {
    let own = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}, "annotations": {
        ISTIO[0]: "15090, 7800", ISTIO[1]: "", LINKERD[1]: "1",
    }}});
    let pod = injected(own, &cluster());
    assert_eq!(lists(&pod, ISTIO), [Some("15090, 7800,57800,7990"), Some("7800,57800,8443")]);
    assert_eq!(lists(&pod, LINKERD), [None, Some("1")]);

    let network = json!({"network": {"dataPort": 40000, "failureDetectionPort": 50000}});
    let namespace = json!({"annotations": {"linkerd.io/inject": "enabled", LINKERD[0]: "4000-45000", LINKERD[1]: "2"}});
    let own = json!({"metadata": {"annotations": {LINKERD[1]: "4567"}}});
    let pod = meshed(own, &cluster_with("web", network), &namespace);
    assert_eq!(lists(&pod, LINKERD), [Some("4000-45000,50000"), Some("4567,40000,50000,8443")]);
}

#[test]
fn a_mesh_that_encrypts_keeps_the_ports_between_members() {
    let encrypts = cluster_with("web", json!({"tls": {"mode": "disabled"}, "mesh": {"istio": "always"}}));
    let pod = injected(json!({}), &encrypts);
    assert_eq!(lists(&pod, ISTIO), [Some("7990"), Some("8443")]);
}

#[test]
fn a_proxy_that_came_in_later_is_seen() {
    let mut pod = injected(json!({}), &cluster());
    let proxy = serde_json::from_value(json!({"name": "istio-proxy"})).unwrap();
    pod.spec.as_mut().unwrap().containers.push(proxy);
    let again = inject(&pod, &cluster(), None, &settings()).unwrap();
    assert_eq!(kept_out_of(&again), (true, false));
}
