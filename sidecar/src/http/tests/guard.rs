//! Web pages are kept out; this host and whom the settings name are let in.

use super::client::{Running, settings};

type Headers = &'static [(&'static str, &'static str)];

const K: &str = "/v1/caches/c/entries/k";

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let mut settings = settings();
    settings.http.allowed_hosts = vec!["cache.example".into()];
    settings.http.allowed_origins = vec!["https://app.example".into()];
    let api = Running::start(&settings);
    let cases: [(Headers, u16, &str); 9] = [
        (&[("host", "localhost:7080")], 201, ""),
        (&[("host", "cache.example")], 204, ""),
        (&[("host", "evil.example")], 421, "wrong-host"),
        (&[("host", "localhost"), ("origin", "https://evil.example")], 403, "foreign-origin"),
        (&[("host", "localhost"), ("origin", "http://localhost:7080")], 403, "foreign-origin"),
        (&[("host", "localhost"), ("origin", "null")], 403, "foreign-origin"),
        (&[("host", "localhost"), ("host", "localhost")], 400, "bad-header"),
        (
            &[("host", "localhost"), ("origin", "https://app.example"), ("origin", "https://app.example")],
            400,
            "bad-header",
        ),
        (&[("host", "localhost"), ("origin", "https://app.example")], 204, ""),
    ];
    for (headers, status, problem) in cases {
        let got = api.ask(&format!("PUT {K}"), headers, b"v").await;
        assert_eq!(got.status, status, "{headers:?}");
        if !problem.is_empty() {
            assert_eq!(got.problem(), problem, "{headers:?}");
            assert!(!got.headers.contains_key("access-control-allow-origin"));
        }
    }
    // An absolute target names a host as well.
    assert_eq!(api.get(&format!("GET http://evil.example{K}")).await.status, 421);
    assert_eq!(api.get(&format!("GET http://localhost{K}")).await.status, 200);
    let mut connection = api.connect().await;
    connection.raw(format!("GET {K} HTTP/1.1\r\n\r\n").as_bytes()).await;
    assert_eq!(connection.receive(false).await.unwrap().status, 400);
    api.end().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_and_read() {
    let mut settings = settings();
    settings.http.allowed_origins = vec!["https://app.example".into()];
    let api = Running::start(&settings);
    let asked = [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
    let preflight = api.ask(&format!("OPTIONS {K}"), &asked, b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://app.example");
    assert!(preflight.header("access-control-allow-methods").contains("PUT"));
    assert!(preflight.header("access-control-allow-headers").contains("if-match"));
    let put = api.ask(&format!("PUT {K}"), &asked, b"v").await;
    assert_eq!(put.header("access-control-allow-origin"), "https://app.example");
    assert!(put.header("access-control-expose-headers").contains("etag"));
    assert_eq!(api.get(&format!("OPTIONS {K}")).await.header("allow"), "GET, HEAD, PUT, DELETE, PATCH");
    api.end().await;
}
