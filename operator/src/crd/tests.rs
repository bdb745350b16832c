use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Both ways to install ship the definition that the operator is built with.
#[test]
fn crd_file() {
    let text = definition_file().unwrap();
    for path in ["deploy/kustomize/base/crd.yaml", "charts/sidegrid/files/crd.yaml"] {
        let file = repository().join(path);
        if std::env::var_os("SIDEGRID_GENERATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(there == text, "{path} is not of these types: run `make generate`");
    }
}

fn schema() -> serde_json::Value {
    let definition = serde_json::to_value(definition()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_field_is_described_and_known_to_kubernetes() {
    let mut faults = Vec::new();
    walk(&schema(), "", &mut faults);
    assert_eq!(faults, Vec::<String>::new());
}

fn walk(node: &serde_json::Value, path: &str, faults: &mut Vec<String>) {
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let standard = [".apiVersion", ".kind", ".metadata"].contains(&path.as_str());
        // Kubernetes describes its own types its own way.
        let own = !path.contains(".resources.") && !path.contains(".conditions.");
        let fits = |text: &str| !text.is_empty() && (!own || text.ends_with('.'));
        if !standard && !property["description"].as_str().is_some_and(fits) {
            faults.push(format!("{path} has no sentence that describes it"));
        }
        if property["format"].as_str().is_some_and(|f| f.starts_with("uint")) {
            faults.push(format!("{path} has a format that Kubernetes doesn't know"));
        }
        walk(property, &path, faults);
    }
    for below in ["items", "additionalProperties"] {
        if node[below].is_object() {
            walk(&node[below], &format!("{path}.*"), faults);
        }
    }
}

#[test]
fn an_empty_spec_gets_the_defaults_in_the_schema_and_in_the_types() {
    let asked: CacheClusterSpec = serde_json::from_value(serde_json::json!({"caches": {"a": {}}})).unwrap();
    assert_eq!(asked.network, NetworkSpec { data_port: 7800, failure_detection_port: 57800 });
    assert_eq!(asked.sidecar.http.port, 7080);
    let spec = &schema()["properties"]["spec"]["properties"];
    for group in ["sidecar", "topology", "tls", "network", "disruption", "mesh"] {
        let types = serde_json::to_value(&asked).unwrap()[group].clone();
        assert_eq!(spec[group]["default"], types, "{group}");
    }
    assert_eq!(spec["caches"]["additionalProperties"]["properties"]["mode"]["default"], "distributed");
    assert_eq!(spec["network"]["properties"]["dataPort"]["default"], 7800);
}

#[test]
fn what_rules_walk_over_is_bounded() {
    let spec = &schema()["properties"]["spec"]["properties"];
    assert_eq!(spec["caches"]["maxProperties"], 64);
    assert_eq!(spec["topology"]["properties"]["spread"]["maxItems"], 4);
    assert_eq!(spec["caches"]["additionalProperties"]["properties"]["ttl"]["maxLength"], 16);
    let owners = &spec["caches"]["additionalProperties"]["properties"]["owners"];
    assert_eq!((owners["minimum"].as_f64(), owners["maximum"].as_f64()), (Some(1.0), Some(64.0)));
    assert_eq!(spec["sidecar"]["properties"]["logLevel"]["enum"][0], "error");
    let secrets = &spec["sidecar"]["properties"]["imagePullSecrets"];
    assert_eq!((&secrets["maxItems"], &secrets["x-kubernetes-list-type"]), (&json!(8), &json!("map")));
    let name = &secrets["items"]["properties"]["name"];
    assert_eq!((&name["minLength"], &name["maxLength"]), (&json!(1), &json!(253)));
    assert!(name["pattern"].is_string());
    assert_eq!(spec["mesh"]["properties"]["istio"]["enum"], json!(["auto", "always", "never"]));
}

#[test]
fn what_members_are_compared_by_can_not_change() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let rules = |field: &str| {
        let (group, name) = field.split_once('.').unwrap();
        spec[group]["properties"][name]["x-kubernetes-validations"].clone()
    };
    for field in ["tls.mode", "topology.machine", "topology.rack", "topology.site"] {
        let message = format!("spec.{field}: can't change while the cluster exists: make another CacheCluster");
        assert_eq!(rules(field), json!([{"rule": "self == oldSelf", "message": message}]), "{field}");
    }
    assert_eq!(rules("topology.antiAffinity"), json!(null));
    assert_eq!(rules("topology.spread"), json!(null));
}
