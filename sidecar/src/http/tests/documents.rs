//! What is published of the contract is what the code does: the OpenAPI document and the tables of docs/API.md.
//!
//! `make generate` writes them again; without it a difference is a failure.

use std::fs;
use std::path::PathBuf;

use super::client::{Running, settings};
use crate::http::{openapi, problem};

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// Compares a committed file with what it should be, or writes it when asked to.
fn check(name: &str, expected: &str) {
    let path = docs(name);
    if std::env::var_os("SIDEGRID_GENERATE").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == expected, "docs/{name} is stale; `make generate` writes it again");
}

#[test]
fn the_openapi_document_is_as_committed() {
    check("openapi.json", openapi::text());
}

#[test]
fn the_tables_of_the_api_documentation_are_as_committed() {
    let mut text = fs::read_to_string(docs("API.md")).unwrap();
    for (name, table) in [
        ("problems", problem::reference()),
        ("settings", sidegrid_config::reference()),
        ("metrics", crate::admin::metrics::reference()),
    ] {
        let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
        let from = text.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
        let to = text.find(&end).unwrap_or_else(|| panic!("no {end}"));
        text.replace_range(from..to, &table);
    }
    check("API.md", &text);
}

#[tokio::test]
async fn the_document_is_served_and_names_every_route_and_method() {
    let api = Running::start(&settings());
    let got = api.get("GET /openapi.json").await;
    assert_eq!((got.status, got.header("content-type")), (200, "application/json"));
    let document = got.json();
    assert_eq!(document["openapi"], "3.1.0");
    let expected = [
        ("/v1/caches", vec!["get"]),
        ("/v1/caches/{cache}", vec!["get"]),
        ("/v1/caches/{cache}/entries/{key}", vec!["get", "put", "delete", "head", "patch"]),
        ("/v1/caches/{cache}/entries/{key}/increment", vec!["post"]),
        ("/v1/cluster", vec!["get"]),
        ("/v1/cluster/explain", vec!["get"]),
    ];
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), expected.len());
    for (path, methods) in expected {
        let mut named: Vec<&str> = paths[path].as_object().unwrap().keys().map(String::as_str).collect();
        let mut methods = methods;
        named.sort_unstable();
        methods.sort_unstable();
        assert_eq!(named, methods, "{path}");
        // What it names is there: the server knows the path and the method.
        for method in methods {
            let path = path.replace("{cache}", "c").replace("{key}", "k");
            let got = api.get(&format!("{} {path}", method.to_uppercase())).await;
            assert_ne!(got.status, 405, "{method} {path}");
            let known = got.status != 404 || method == "head" || got.problem() == "no-such-entry";
            assert!(known, "{method} {path}");
        }
    }
    assert!(document["components"]["schemas"]["Problem"]["properties"]["applied"].is_object());
    api.end().await;
}

#[test]
fn every_problem_has_a_label_of_its_own_and_the_status_of_its_class() {
    let mut labels: Vec<&str> = problem::ProblemType::ALL.iter().map(|k| k.about().label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), problem::ProblemType::ALL.len());
    for kind in problem::ProblemType::ALL {
        let about = kind.about();
        let waits = problem::Problem::new(kind, "").retry_after_seconds().is_some();
        assert_eq!(waits, about.retryable, "{}", about.label);
        assert!(about.status.is_client_error() || about.status.is_server_error());
        assert!(about.label.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", about.label);
    }
}

#[tokio::test]
async fn caches_are_listed_with_settings_and_stats() {
    let api = Running::start(&settings());
    api.ask("PUT /v1/caches/c/entries/k", &[], b"value").await;
    api.get("GET /v1/caches/c/entries/k").await;
    api.get("GET /v1/caches/c/entries/none").await;
    let list = api.get("GET /v1/caches").await.json();
    let names: Vec<&str> = list["caches"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "clustered", "short", "tiny"]);
    let cache = api.get("GET /v1/caches/c").await.json();
    assert_eq!(cache["mode"], "local");
    let stats = &cache["stats"];
    assert_eq!((&stats["entries"], &stats["hits"], &stats["misses"]), (&1.into(), &1.into(), &1.into()));
    assert!(stats["bytes"].as_u64().unwrap() > 6);
    assert_eq!(api.get("GET /v1/caches/clustered").await.json()["owners"], 2);
    assert_eq!(api.get("GET /v1/caches/short").await.json()["ttl"], "1m");
    assert_eq!(api.get("GET /v1/caches/tiny").await.json()["whenFull"], "reject");
    assert_eq!(api.get("HEAD /v1/caches").await.status, 200);
    api.end().await;
}
