//! What can't be done is said with the right status and problem, and names what is wrong.

use super::client::{Running, settings};

const E: &str = "/v1/caches/c/entries";

/// Request, headers, body, status, problem, and what its detail names.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str, u16, &'static str, &'static str);

const CASES: &[Case] = &[
    // Keys.
    ("GET /v1/caches/c/entries/", &[], "", 400, "bad-key", "empty"),
    ("GET /v1/caches/c/entries/%zz", &[], "", 400, "bad-key", "hexadecimal"),
    ("PUT /v1/caches/c/entries/%4", &[], "v", 400, "bad-key", "hexadecimal"),
    ("POST /v1/caches/c/entries//increment", &[], "", 400, "bad-key", "empty"),
    // Parameters.
    ("PUT /v1/caches/c/entries/k?ttl=30", &[], "v", 400, "bad-parameter", "ttl: \"30\" has no unit"),
    ("PUT /v1/caches/c/entries/k?ttl=0s", &[], "v", 400, "bad-parameter", "ttl: 0s is out of range"),
    ("PUT /v1/caches/c/entries/k?ttl=9999999d", &[], "v", 400, "bad-parameter", "ttl: 9999999d is out of range"),
    ("PUT /v1/caches/c/entries/k?tll=30s", &[], "v", 400, "bad-parameter", "tll: is unknown here; known: ttl, return"),
    ("PUT /v1/caches/c/entries/k?ttl=1s&ttl=2s", &[], "v", 400, "bad-parameter", "ttl: is given twice"),
    ("PUT /v1/caches/c/entries/k?return=all", &[], "v", 400, "bad-parameter", "return"),
    ("GET /v1/caches/c/entries/k?ttl=1s", &[], "", 400, "bad-parameter", "ttl: is unknown here; known: none"),
    ("PATCH /v1/caches/c/entries/k", &[], "", 400, "bad-parameter", "ttl: is needed"),
    ("POST /v1/caches/c/entries/k/increment?by=x", &[], "", 400, "bad-parameter", "by"),
    ("POST /v1/caches/c/entries/k/increment?by=9223372036854775808", &[], "", 400, "bad-parameter", "by"),
    ("POST /v1/caches/c/entries/k/increment?initial=1.5", &[], "", 400, "bad-parameter", "initial"),
    ("GET /v1/caches?x=1", &[], "", 400, "bad-parameter", "x"),
    ("GET /v1/cluster/explain?key=k", &[], "", 400, "bad-parameter", "cache: is needed"),
    ("GET /v1/cluster/explain?cache=c", &[], "", 400, "bad-parameter", "key: is needed"),
    ("GET /v1/cluster/explain?cache=c&key=", &[], "", 400, "bad-key", "empty"),
    // Parameters of later days.
    ("PUT /v1/caches/c/entries/k?maxIdle=5m", &[], "v", 400, "not-available-yet", "maxIdle"),
    ("GET /v1/caches/c/entries/k?maxStaleness=2s", &[], "", 400, "not-available-yet", "maxStaleness"),
    ("GET /v1/caches/c/entries/k?fill=10s", &[], "", 400, "not-available-yet", "fill"),
    ("PUT /v1/caches/c/entries/k", &[("sidegrid-fill", "t")], "v", 400, "not-available-yet", "Sidegrid-Fill"),
    // Headers.
    ("PUT /v1/caches/c/entries/k", &[("if-match", "x")], "v", 400, "bad-header", "If-Match"),
    ("PUT /v1/caches/c/entries/k", &[("if-match", "*"), ("if-match", "*")], "v", 400, "bad-header", "If-Match"),
    ("PUT /v1/caches/c/entries/k", &[("if-match", "*,")], "v", 400, "bad-header", "If-Match"),
    ("PUT /v1/caches/c/entries/k", &[("cache-control", "max-age=soon")], "v", 400, "bad-header", "Cache-Control"),
    ("PUT /v1/caches/c/entries/k", &[("cache-control", "max-age=0")], "v", 400, "bad-header", "Cache-Control"),
    ("PUT /v1/caches/c/entries/k", &[("idempotency-key", "a b")], "v", 400, "bad-header", "Idempotency-Key"),
    ("PUT /v1/caches/c/entries/k", &[("idempotency-key", "")], "v", 400, "bad-header", "Idempotency-Key"),
    ("GET /v1/caches/c/entries/k", &[("sidegrid-timeout", "5")], "", 400, "bad-header", "Sidegrid-Timeout"),
    ("GET /v1/caches/c/entries/k", &[("sidegrid-timeout", "1h")], "", 400, "bad-header", "Sidegrid-Timeout"),
    ("PUT /v1/caches/c/entries/k", &[("content-encoding", "gzip")], "v", 400, "bad-header", "Content-Encoding"),
    ("PUT /v1/caches/c/entries/k", &[("content-range", "bytes 0-0/2")], "v", 400, "bad-header", "Content-Range"),
    ("POST /v1/caches/c/entries/k/increment", &[("if-match", "*")], "", 400, "bad-header", "If-Match"),
    ("POST /v1/caches/c/entries/k/increment", &[("if-none-match", "")], "", 400, "bad-header", "If-None-Match"),
    // Lists that are none, and what may stand once.
    ("PUT /v1/caches/c/entries/k", &[("cache-control", "a=\"b")], "v", 400, "bad-header", "Cache-Control"),
    ("PUT /v1/caches/c/entries/k", &[("cache-control", "max-age=-1")], "v", 400, "bad-header", "Cache-Control"),
    ("PUT /v1/caches/c/entries/k", &[("content-type", "a/b, c/d")], "v", 400, "bad-header", "Content-Type: give one"),
    ("PUT /v1/caches/c/entries/k", &[("idempotency-key", "a,b")], "v", 400, "bad-header", "Idempotency-Key: give one"),
    ("GET /v1/caches/c/entries/k", &[("sidegrid-timeout", "1s, 2s")], "", 400, "bad-header", "Sidegrid-Timeout"),
    (
        "PUT /v1/caches/c/entries/k",
        &[("content-range", "bytes 0-0/1"), ("content-range", "bytes 0-0/1")],
        "v",
        400,
        "bad-header",
        "Content-Range: is given more than once",
    ),
    (
        "GET /v1/caches/c/entries/k",
        &[("sidegrid-timeout", "1s"), ("sidegrid-timeout", "1s")],
        "",
        400,
        "bad-header",
        "Sidegrid-Timeout: is given more than once",
    ),
    // Bodies where none belongs.
    ("DELETE /v1/caches/c/entries/k", &[], "body", 400, "bad-request", "no body"),
    ("PATCH /v1/caches/c/entries/k?ttl=1s", &[], "body", 400, "bad-request", "no body"),
    ("POST /v1/caches/c/entries/k/increment", &[], "5", 400, "bad-request", "no body"),
    // Names and paths.
    ("GET /v1/caches/none/entries/k", &[], "", 404, "no-such-cache", "none"),
    ("GET /v1/caches/none", &[], "", 404, "no-such-cache", "none"),
    ("GET /v1/cluster/explain?cache=none&key=k", &[], "", 404, "no-such-cache", "none"),
    ("GET /", &[], "", 404, "no-such-path", "openapi"),
    ("GET /v1/caches/c/entries/a/b", &[], "", 404, "no-such-path", "%2F"),
    ("GET /v1/caches/c/entries", &[], "", 404, "no-such-path", "not available yet"),
    ("POST /v1/caches/c/batch", &[], "x", 404, "no-such-path", "not available yet"),
    // Methods.
    ("POST /v1/caches/c/entries/k", &[], "v", 405, "method-not-allowed", "GET, HEAD, PUT, DELETE, PATCH"),
    ("GET /v1/caches/c/entries/k/increment", &[], "", 405, "method-not-allowed", "POST"),
    ("DELETE /v1/caches/c", &[], "", 405, "method-not-allowed", "GET, HEAD"),
    ("PUT /v1/cluster", &[], "v", 405, "method-not-allowed", "GET, HEAD"),
];

#[tokio::test]
async fn every_fault_has_its_status_and_problem_and_names_what_is_wrong() {
    let api = Running::start(&settings());
    for (request, headers, body, status, problem, names) in CASES {
        let got = api.ask(request, headers, body.as_bytes()).await;
        assert_eq!(got.status, *status, "{request} {headers:?}: {}", got.text());
        assert_eq!(got.problem(), *problem, "{request} {headers:?}");
        assert!(got.detail().contains(names), "{request} {headers:?}: {}", got.detail());
        assert_eq!(got.json()["applied"], "no");
        assert_eq!(got.header("allow").is_empty(), *status != 405, "{request}");
    }
    assert_eq!(api.get(&format!("GET {E}/k")).await.status, 404, "nothing was stored meanwhile");
    api.end().await;
}

#[tokio::test]
async fn the_same_faults_leave_the_connection_usable() {
    let api = Running::start(&settings());
    let mut connection = api.connect().await;
    for (request, headers, body, status, ..) in CASES {
        connection.send(request, headers, body.as_bytes()).await;
        assert_eq!(connection.receive(false).await.unwrap().status, *status, "{request} {headers:?}");
    }
    api.end().await;
}

#[tokio::test]
async fn long_names_are_refused_and_not_repeated_at_length() {
    let api = Running::start(&settings());
    let long = "k".repeat(1_025);
    let got = api.get(&format!("GET {E}/{long}")).await;
    assert_eq!((got.status, got.problem().as_str()), (400, "bad-key"));
    let got = api.get(&format!("GET /v1/caches/{long}")).await;
    assert_eq!((got.status, got.problem().as_str()), (404, "no-such-cache"));
    assert!(got.body.len() < 500);
    let got = api.ask(&format!("PUT {E}/k"), &[("idempotency-key", &"i".repeat(256))], b"v").await;
    assert_eq!((got.status, got.problem().as_str()), (400, "bad-header"));
    let got = api.ask(&format!("PUT {E}/k"), &[("content-type", &"t".repeat(256))], b"v").await;
    assert_eq!((got.status, got.problem().as_str()), (400, "bad-header"));
    assert_eq!(api.ask(&format!("PUT {E}/k"), &[("idempotency-key", &"i".repeat(255))], b"v").await.status, 201);
    api.end().await;
}

#[tokio::test]
async fn a_full_cache_that_refuses_says_so() {
    let api = Running::start(&settings());
    assert_eq!(api.ask("PUT /v1/caches/tiny/entries/a", &[], b"v").await.status, 201);
    let full = api.ask("PUT /v1/caches/tiny/entries/b", &[], b"v").await;
    assert_eq!((full.status, full.problem().as_str()), (507, "full"));
    assert_eq!(full.json()["retryable"], false);
    assert_eq!(api.get("GET /v1/caches/tiny/entries/b").await.status, 404);
    api.end().await;
}

/// O-3: nothing was applied, and the answer says that it is certain.
#[tokio::test]
async fn without_a_view_clustered_caches_refuse_for_now() {
    let api = Running::start(&settings());
    for request in ["GET /v1/caches/clustered/entries/k", "DELETE /v1/caches/clustered/entries/k"] {
        let got = api.get(request).await;
        assert_eq!((got.status, got.problem().as_str()), (503, "no-owner"), "{request}");
        assert_eq!(got.json()["retryable"], true);
        assert_eq!(got.json()["applied"], "no");
        // A view has to be agreed on: a suspicion and a lease.
        assert_eq!((got.header("retry-after"), &got.json()["retryAfterMs"]), ("1", &1_000.into()));
    }
    let cluster = api.get("GET /v1/cluster").await.json();
    assert_eq!(cluster["view"], serde_json::Value::Null);
    assert_eq!(cluster["member"]["ready"], false);
    let explained = api.get("GET /v1/cluster/explain?cache=clustered&key=a%00%2Bb").await.json();
    assert_eq!(explained["key"], "a%00%2Bb");
    assert!(explained["segment"].is_u64());
    assert_eq!(explained["copies"], serde_json::json!([]));
    api.end().await;
}
