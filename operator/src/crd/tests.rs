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
    assert_eq!(asked.network, NetworkSpec { data_port: 7800, failure_detection_port: 57800, reserve_ports: false });
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
    assert_eq!(spec["caches"]["additionalProperties"]["properties"]["ttl"]["maxLength"], 32);
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

/// What `kubectl explain` shows are sentences, on one line for each paragraph, and those of fields, not of their types.
#[test]
fn descriptions_are_whole_and_name_defaults() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let text = |node: &serde_json::Value| node["description"].as_str().unwrap_or_default().to_owned();
    let cache = &spec["caches"]["additionalProperties"]["properties"];
    assert!(text(&cache["whenFull"]).contains("By default `evict`"), "{}", text(&cache["whenFull"]));
    assert!(text(&spec["caches"]["additionalProperties"]).is_empty(), "kubectl shows it after that of `caches`");
    let mut faults = Vec::new();
    whole(spec, "spec", &mut faults);
    assert_eq!(faults, Vec::<String>::new());
}

fn whole(properties: &serde_json::Value, path: &str, faults: &mut Vec<String>) {
    for (name, property) in properties.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = property["description"].as_str().unwrap_or_default();
        if text.replace("\n\n", "").contains('\n') {
            faults.push(format!("{path} breaks in a sentence"));
        }
        let has_default = property["default"].is_string() || property["default"].is_number();
        if has_default && !text.to_lowercase().contains("default") {
            faults.push(format!("{path} doesn't name its default"));
        }
        whole(&property["properties"], &path, faults);
        whole(&property["additionalProperties"]["properties"], &path, faults);
    }
}

#[test]
fn sizes_times_and_resources_are_refused_in_words() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let cache = &spec["caches"]["additionalProperties"]["properties"];
    let resources = &spec["sidecar"]["properties"]["resources"];
    let quantity = &resources["properties"]["limits"]["additionalProperties"];
    assert_eq!((&cache["ttl"]["type"], &cache["ttl"]["pattern"]), (&json!("string"), &json!(null)));
    for node in [&cache["maxBytes"], quantity] {
        assert_eq!(node["x-kubernetes-int-or-string"], true);
    }
    for node in [&cache["ttl"], quantity] {
        assert!(node["x-kubernetes-validations"][0]["message"].as_str().unwrap().contains("such as"), "{node}");
    }
    assert_eq!(resources["x-kubernetes-validations"].as_array().unwrap().len(), 3, "a request is not above its limit");
    // A field with a schema of its own is not asked for by that.
    assert_eq!(spec["sidecar"]["required"], json!(null));
    let sizes: CacheClusterSpec =
        serde_json::from_value(json!({"caches": {"a": {"maxBytes": 65536, "ttl": "1h"}, "b": {"maxBytes": "64Mi"}}}))
            .unwrap();
    assert_eq!(sizes.caches["a"].max_bytes.as_deref(), Some("65536"));
    assert_eq!(sizes.caches["b"].max_bytes.as_deref(), Some("64Mi"));
}

/// By API conventions: appliers of one condition each leave the others alone.
#[test]
fn conditions_are_a_map_by_type() {
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn kubectl_get_shows_whether_it_is_ready_and_why_not() {
    let definition = serde_json::to_value(definition()).unwrap();
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().clone();
    let path = |name: &str| columns.iter().find(|c| c["name"] == name).unwrap()["jsonPath"].clone();
    assert_eq!(path("Ready"), ".status.conditions[?(@.type==\"Ready\")].status");
    assert_eq!(path("Reason"), ".status.conditions[?(@.type==\"Ready\")].reason");
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
