//! Injection as a pure function, and the webhook as the API server asks it.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde_json::{Value, json};

use super::{InjectSettings, inject};
use crate::crd::CacheCluster;

mod handler;
mod injected;
mod meshed;
mod properties;
mod refused;

/// A CacheCluster of this name, with these changes to its spec.
fn cluster_with(name: &str, spec: Value) -> CacheCluster {
    let mut whole = json!({
        "apiVersion": "sidegrid.dev/v1alpha1",
        "kind": "CacheCluster",
        "metadata": {"name": name, "namespace": "shop", "uid": "7d1e2f34-0000-4000-8000-000000000001"},
        "spec": {"caches": {"sessions": {}}},
    });
    merge(&mut whole["spec"], spec);
    serde_json::from_value(whole).unwrap()
}

/// The CacheCluster that most pods here name.
fn cluster() -> CacheCluster {
    cluster_with("web", json!({}))
}

fn settings() -> InjectSettings {
    InjectSettings {
        images: vec!["mirror/*".into()],
        version: "0.1.0".into(),
        ..InjectSettings::new("sidegrid.dev/sidecar:0.1.0")
    }
}

/// A labelled pod with one container, with these changes, as JSON.
fn raw(changes: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "shop-", "labels": {"app": "shop", "sidegrid.dev/cluster": "web"}},
        "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
    });
    merge(&mut pod, changes);
    pod
}

fn pod(changes: Value) -> Pod {
    serde_json::from_value(raw(changes)).unwrap()
}

/// Merges as a JSON merge patch does, lists replaced as a whole.
fn merge(into: &mut Value, changes: Value) {
    json_patch::merge(into, &changes);
}

fn injected(changes: Value, cluster: &CacheCluster) -> Pod {
    inject(&pod(changes), cluster, None, &settings()).unwrap()
}

fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap()
}

fn sidecar(pod: &Pod) -> &Container {
    &spec(pod).init_containers.as_ref().unwrap()[0]
}

/// What is at this path of the pod's JSON; null when nothing is.
fn at(pod: &Pod, path: &str) -> Value {
    serde_json::to_value(pod).unwrap().pointer(path).cloned().unwrap_or_default()
}
