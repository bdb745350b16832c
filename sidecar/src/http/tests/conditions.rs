//! Conditional requests over the wire.

use super::client::{Running, settings};

const K: &str = "/v1/caches/c/entries/k";

/// Replaces `CURRENT` by the entry's tag and `OLD` by one that it had.
struct Case(&'static str, &'static str, &'static str, u16);

#[tokio::test]
async fn each_condition_decides_as_rfc_9110_says() {
    let cases = [
        // A write that must create.
        Case("PUT", "if-none-match", "*", 412),
        Case("PUT", "if-none-match", "CURRENT", 412),
        Case("PUT", "if-none-match", "W/CURRENT", 412),
        Case("PUT", "if-none-match", "OLD", 204),
        // A write that must replace what was read.
        Case("PUT", "if-match", "CURRENT", 204),
        Case("PUT", "if-match", "OLD, CURRENT", 204),
        Case("PUT", "if-match", "*", 204),
        Case("PUT", "if-match", "OLD", 412),
        Case("PUT", "if-match", "W/CURRENT", 412),
        Case("PUT", "if-match", "\"something-else\"", 412),
        Case("PATCH", "if-match", "OLD", 412),
        Case("PATCH", "if-match", "CURRENT", 204),
        Case("DELETE", "if-match", "OLD", 412),
        Case("DELETE", "if-none-match", "*", 412),
        Case("DELETE", "if-match", "CURRENT", 204),
        // Reads.
        Case("GET", "if-none-match", "CURRENT", 304),
        Case("GET", "if-none-match", "W/CURRENT", 304),
        Case("GET", "if-none-match", "OLD, CURRENT", 304),
        Case("GET", "if-none-match", "*", 304),
        Case("HEAD", "if-none-match", "CURRENT", 304),
        Case("GET", "if-none-match", "OLD", 200),
        Case("GET", "if-match", "CURRENT", 200),
        Case("GET", "if-match", "*", 200),
        Case("GET", "if-match", "OLD", 412),
        // What is no list of tags.
        Case("PUT", "if-match", "nonsense", 400),
        Case("PUT", "if-none-match", "\"1-2", 400),
        Case("GET", "if-none-match", "1-2", 400),
        // No tags, or none of ours, beside empty elements, and a comma or a star within quotes.
        Case("GET", "if-match", "", 412),
        Case("PUT", "if-match", "", 412),
        Case("PUT", "if-none-match", "", 204),
        Case("GET", "if-none-match", "CURRENT,", 304),
        Case("GET", "if-none-match", ", CURRENT", 304),
        Case("GET", "if-none-match", "\"x\",, ,CURRENT", 304),
        Case("GET", "if-none-match", "\"a,b\",\tCURRENT", 304),
        Case("GET", "if-none-match", "\"a\\\", CURRENT", 304),
        Case("GET", "if-none-match", "\"a,*,b\"", 200),
        Case("GET", "if-none-match", "w/CURRENT", 400),
        Case("GET", "if-none-match", "*, CURRENT", 400),
        Case("GET", "if-match", "CURRENT,", 200),
        Case("PUT", "if-match", "\"a,b\"", 412),
    ];
    let api = Running::start(&settings());
    for Case(method, header, value, status) in cases {
        let old = api.ask(&format!("PUT {K}"), &[], b"old").await.header("etag").to_owned();
        let current = api.ask(&format!("PUT {K}"), &[], b"current").await.header("etag").to_owned();
        let value = value.replace("CURRENT", &current).replace("OLD", &old);
        let query = if method == "PATCH" { "?ttl=1h" } else { "" };
        let body: &[u8] = if method == "PUT" { b"new" } else { b"" };
        let got = api.ask(&format!("{method} {K}{query}"), &[(header, &value)], body).await;
        assert_eq!(got.status, status, "{method} {header}: {value}");
        match status {
            412 => {
                assert_eq!(got.header("etag"), current, "{method} {header}: {value}");
                assert_eq!(got.problem(), "condition-failed");
                assert_eq!(api.get(&format!("GET {K}")).await.text(), "current");
            }
            304 => assert_eq!((got.header("etag"), got.text().as_str()), (current.as_str(), "")),
            200 if method == "GET" => assert_eq!(got.text(), "current"),
            400 => assert!(got.detail().to_lowercase().starts_with(header), "{}", got.detail()),
            _ => {}
        }
    }
    api.end().await;
}

/// RFC 9110, 13.2.2.
#[tokio::test]
async fn with_both_fields_if_match_comes_first() {
    let cases = [
        ("PUT", "CURRENT", "\"x\"", 204),
        ("PUT", "CURRENT", "OLD", 204),
        ("PUT", "CURRENT", "CURRENT", 412),
        ("PUT", "CURRENT", "*", 412),
        ("PUT", "OLD", "\"x\"", 412),
        ("PUT", "*", "*", 412),
        ("PUT", "*", "CURRENT", 412),
        ("PUT", "*", "OLD", 204),
        ("DELETE", "*", "CURRENT", 412),
        ("PATCH", "OLD, CURRENT", "W/CURRENT", 412),
        ("GET", "CURRENT", "CURRENT", 304),
        ("GET", "OLD", "CURRENT", 412),
    ];
    let api = Running::start(&settings());
    for (method, if_match, if_none_match, status) in cases {
        let old = api.ask(&format!("PUT {K}"), &[], b"old").await.header("etag").to_owned();
        let current = api.ask(&format!("PUT {K}"), &[], b"current").await.header("etag").to_owned();
        let tags = |text: &str| text.replace("CURRENT", &current).replace("OLD", &old);
        let headers = [("if-match", &*tags(if_match)), ("if-none-match", &*tags(if_none_match))];
        let query = if method == "PATCH" { "?ttl=1h" } else { "" };
        let body: &[u8] = if method == "PUT" { b"new" } else { b"" };
        let got = api.ask(&format!("{method} {K}{query}"), &headers, body).await;
        assert_eq!(got.status, status, "{method} {if_match} {if_none_match}");
    }
    for if_none_match in ["*", "\"1-1\""] {
        let headers = [("if-match", "*"), ("if-none-match", if_none_match)];
        assert_eq!(api.ask("PUT /v1/caches/c/entries/none", &headers, b"v").await.status, 412, "{if_none_match}");
    }
    api.end().await;
}

#[tokio::test]
async fn conditions_on_an_absent_entry() {
    let api = Running::start(&settings());
    let cases = [
        ("GET", "if-match", "*", 404),
        ("GET", "if-none-match", "*", 404),
        ("PUT", "if-match", "*", 412),
        ("PUT", "if-match", "\"1-1\"", 412),
        ("DELETE", "if-match", "\"1-1\"", 412),
        ("DELETE", "if-none-match", "*", 404),
        ("PUT", "if-none-match", "\"1-1\"", 201),
    ];
    for (method, header, value, status) in cases {
        let got = api.ask(&format!("{method} {K}"), &[(header, value)], b"").await;
        assert_eq!(got.status, status, "{method} {header}: {value}");
        assert!(status != 412 || !got.headers.contains_key("etag"));
    }
    api.end().await;
}

#[tokio::test]
async fn a_value_put_back_is_not_taken_for_the_old_one() {
    let api = Running::start(&settings());
    let first = api.ask(&format!("PUT {K}"), &[], b"a").await.header("etag").to_owned();
    api.ask(&format!("PUT {K}"), &[], b"b").await;
    api.ask(&format!("PUT {K}"), &[], b"a").await;
    assert_eq!(api.ask(&format!("PUT {K}"), &[("if-match", &first)], b"c").await.status, 412);
    api.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_creators_one_wins() {
    let api = std::sync::Arc::new(Running::start(&settings()));
    let mut racing = tokio::task::JoinSet::new();
    for i in 0..32u8 {
        let api = std::sync::Arc::clone(&api);
        racing.spawn(async move { api.ask(&format!("PUT {K}"), &[("if-none-match", "*")], &[i]).await.status });
    }
    let statuses = racing.join_all().await;
    assert_eq!(statuses.iter().filter(|&&s| s == 201).count(), 1);
    assert_eq!(statuses.iter().filter(|&&s| s == 412).count(), 31);
    std::sync::Arc::into_inner(api).unwrap().end().await;
}
