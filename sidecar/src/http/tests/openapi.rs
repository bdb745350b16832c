//! The OpenAPI document against real answers: each is one that the document names, with the headers that it names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::client::{Got, Running, settings};

type Headers = &'static [(&'static str, &'static str)];
/// Method and path of the document, what is asked, headers, body, status.
type Sample = (&'static str, &'static str, &'static str, Headers, &'static str, u16);

const ENTRY: &str = "/v1/caches/{cache}/entries/{key}";
const INCREMENT: &str = "/v1/caches/{cache}/entries/{key}/increment";
const E: &str = "/v1/caches/c/entries/k";

const SAMPLES: &[Sample] = &[
    ("put", ENTRY, "/v1/caches/c/entries/k?ttl=1h", &[], "v", 201),
    ("put", ENTRY, "/v1/caches/c/entries/k?ttl=1h", &[], "v", 204),
    ("put", ENTRY, "/v1/caches/c/entries/k?ttl=1h&return=previous", &[], "v", 200),
    ("put", ENTRY, E, &[("if-match", "\"x\"")], "v", 412),
    ("put", ENTRY, E, &[("content-length", "99999999")], "", 413),
    ("put", ENTRY, "/v1/caches/tiny/entries/a", &[], "v", 201),
    ("put", ENTRY, "/v1/caches/tiny/entries/b", &[], "v", 507),
    ("get", ENTRY, E, &[], "", 200),
    ("get", ENTRY, E, &[("if-none-match", "*")], "", 304),
    ("get", ENTRY, E, &[("if-match", "")], "", 412),
    ("head", ENTRY, E, &[], "", 200),
    ("head", ENTRY, E, &[("if-none-match", "*")], "", 304),
    ("head", ENTRY, E, &[("if-match", "")], "", 412),
    ("head", ENTRY, "/v1/caches/c/entries/none", &[], "", 404),
    ("get", ENTRY, "/v1/caches/c/entries/none", &[], "", 404),
    ("patch", ENTRY, "/v1/caches/c/entries/k?ttl=1h", &[], "", 204),
    ("patch", ENTRY, "/v1/caches/c/entries/k?ttl=1h", &[("if-match", "")], "", 412),
    ("patch", ENTRY, "/v1/caches/c/entries/none?ttl=1h", &[], "", 404),
    ("post", INCREMENT, "/v1/caches/c/entries/n/increment?ttl=1h", &[], "", 200),
    ("post", INCREMENT, "/v1/caches/c/entries/k/increment", &[], "", 409),
    ("post", INCREMENT, "/v1/caches/tiny/entries/b/increment", &[], "", 507),
    ("delete", ENTRY, E, &[("if-match", "")], "", 412),
    ("delete", ENTRY, "/v1/caches/c/entries/k?return=previous", &[], "", 200),
    ("delete", ENTRY, "/v1/caches/c/entries/n", &[], "", 204),
    ("delete", ENTRY, E, &[], "", 404),
    ("get", "/v1/caches", "/v1/caches", &[], "", 200),
    ("get", "/v1/caches/{cache}", "/v1/caches/c", &[], "", 200),
    ("get", "/v1/cluster", "/v1/cluster", &[], "", 200),
    ("get", "/v1/cluster/explain", "/v1/cluster/explain?cache=c&key=k", &[], "", 200),
];

/// What is answered only under a load, or by a member among others, that these tests don't make.
const NOT_SAMPLED: &[&str] = &["408", "409", "429"];

/// What HTTP itself adds.
const OF_HTTP: &[&str] = &["content-type", "content-length", "date", "connection"];

struct Compared {
    document: Value,
    seen: BTreeMap<(String, String, String), BTreeSet<String>>,
}

impl Compared {
    fn headers(response: &Value) -> BTreeSet<String> {
        response["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()).collect()
    }

    fn compare(&mut self, method: &str, path: &str, got: &Got) {
        let status = got.status.to_string();
        let response = &self.document["paths"][path][method]["responses"][&status];
        assert!(response.is_object(), "{method} {path}: {status} is not in the document: {}", got.text());
        let named = Compared::headers(response);
        let other: BTreeSet<String> =
            got.headers.keys().filter(|name| !OF_HTTP.contains(&name.as_str())).cloned().collect();
        assert!(other.is_subset(&named), "{method} {path} {status}: {:?}", other.difference(&named));
        if !got.body.is_empty() {
            let base = got.header("content-type").split(';').next().unwrap().to_owned();
            assert!(response["content"][&base].is_object(), "{method} {path} {status}: {base}");
        }
        self.seen.entry((method.to_owned(), path.to_owned(), status)).or_default().extend(other);
    }

    /// Every answer that the document names was seen, each with all of its headers.
    fn is_whole(&self) {
        for (path, item) in self.document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let seen = self.seen.get(&(method.clone(), path.clone(), status.clone()));
                    let Some(seen) = seen else {
                        assert!(NOT_SAMPLED.contains(&status.as_str()), "{method} {path} {status}: never answered");
                        continue;
                    };
                    assert_eq!(*seen, Compared::headers(response), "{method} {path} {status}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_answer_is_as_the_document_says_and_the_document_names_no_other() {
    let api = Running::start(&settings());
    let document = api.get("GET /openapi.json").await.json();
    let operations: Vec<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
        .collect();
    let mut compared = Compared { document, seen: BTreeMap::new() };
    for (method, path, asked, headers, body, status) in SAMPLES {
        let got = api.ask(&format!("{} {asked}", method.to_uppercase()), headers, body.as_bytes()).await;
        assert_eq!(got.status, *status, "{method} {asked}: {}", got.text());
        compared.compare(method, path, &got);
    }
    // What any operation may answer.
    for (method, path) in &operations {
        let asked = |cache: &str| path.replace("{cache}", cache).replace("{key}", "k");
        let query = if path.ends_with("explain") { "?cache=c&key=k" } else { "" };
        let ask = async |path: String, headers: Headers| {
            api.ask(&format!("{} {path}", method.to_uppercase()), headers, b"").await
        };
        compared.compare(method, path, &ask(format!("{}?unknown=1", asked("c")), &[]).await);
        compared.compare(method, path, &ask(asked("c") + query, &[("origin", "https://a.example")]).await);
        compared.compare(method, path, &ask(asked("c") + query, &[("host", "a.example")]).await);
        let ttl = if method == "patch" { "?ttl=1s" } else { query };
        compared.compare(method, path, &ask(asked("none") + &ttl.replace("=c", "=none"), &[]).await);
        compared.compare(method, path, &ask(asked("clustered") + ttl, &[]).await);
    }
    // An increment whose entry is there and no counter is answered by a copy, as are the others above.
    compared.is_whole();
    api.end().await;
}
