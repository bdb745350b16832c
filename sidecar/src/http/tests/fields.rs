//! Fields in several lines, in quotes, and beside the ones that are read.

use super::client::{Got, Running, settings};

type Headers = &'static [(&'static str, &'static str)];

const K: &str = "/v1/caches/c/entries/k";

/// Stores an entry anew with these headers; the answer, and what a read says then.
async fn put(api: &Running, headers: Headers) -> (Got, Got) {
    api.get(&format!("DELETE {K}")).await;
    let stored = api.ask(&format!("PUT {K}"), headers, b"v").await;
    (stored, api.get(&format!("GET {K}")).await)
}

#[tokio::test]
async fn several_lines_of_a_list_are_one_list() {
    let api = Running::start(&settings());
    let cases: [(Headers, &str); 6] = [
        (&[("cache-control", "max-age=10"), ("cache-control", "no-transform")], "10"),
        (&[("cache-control", "no-transform"), ("cache-control", "max-age=10")], "10"),
        (&[("cache-control", ""), ("cache-control", ","), ("cache-control", "max-age=10,")], "10"),
        (&[("cache-control", "max-age=\"10\"")], "10"),
        (&[("cache-control", "private=\"x-a, max-age=10\"")], ""),
        (&[("cache-control", "private=\"\\\"\"; ")], "refused"),
    ];
    for (headers, seconds) in cases {
        let (stored, read) = put(&api, headers).await;
        if seconds == "refused" {
            assert_eq!((stored.status, read.status), (400, 404), "{headers:?}");
            continue;
        }
        assert_eq!(stored.status, 201, "{headers:?}");
        assert_eq!(stored.header("sidegrid-ttl"), seconds, "{headers:?}");
        assert_eq!(read.headers.contains_key("sidegrid-ttl"), !seconds.is_empty(), "{headers:?}");
    }
    let lines: Headers = &[("cache-control", "max-age=10"), ("cache-control", "no-transform")];
    put(&api, &[]).await;
    assert_eq!(api.ask(&format!("PATCH {K}"), lines, b"").await.status, 204);
    // Tags over several lines.
    let current = api.get(&format!("GET {K}")).await.header("etag").to_owned();
    let tags = [("if-none-match", "\"x\""), ("if-none-match", ""), ("if-none-match", &*current)];
    assert_eq!(api.ask(&format!("GET {K}"), &tags, b"").await.status, 304);
    api.end().await;
}

/// RFC 9111, 4.2.1.
#[tokio::test]
async fn two_lifetimes_that_differ_are_refused() {
    let api = Running::start(&settings());
    let (stored, read) = put(&api, &[("cache-control", "max-age=10"), ("cache-control", "max-age=600")]).await;
    assert_eq!((stored.status, stored.problem().as_str(), read.status), (400, "bad-header", 404));
    let (stored, _) = put(&api, &[("cache-control", "max-age=10"), ("cache-control", "max-age=10")]).await;
    assert_eq!((stored.status, stored.header("sidegrid-ttl")), (201, "10"));
    api.end().await;
}

/// O-1: which of two keys counts is never a matter of their order.
#[tokio::test]
async fn two_lines_of_what_may_stand_once_are_refused_whatever_their_order() {
    let api = Running::start(&settings());
    let cases: [Headers; 6] = [
        &[("idempotency-key", "k1"), ("idempotency-key", "k2")],
        &[("idempotency-key", "k2"), ("idempotency-key", "k1")],
        &[("idempotency-key", "k1"), ("idempotency-key", "k1")],
        &[("content-type", "text/plain"), ("content-type", "application/json")],
        &[("sidegrid-timeout", "1s"), ("Sidegrid-Timeout", "2s")],
        &[("host", "localhost"), ("Host", "localhost")],
    ];
    for headers in cases {
        let got = api.ask(&format!("POST {K}/increment"), headers, b"").await;
        assert_eq!((got.status, got.problem().as_str()), (400, "bad-header"), "{headers:?}");
        assert!(got.detail().to_lowercase().starts_with(headers[0].0), "{}", got.detail());
        assert_eq!(got.json()["applied"], "no");
    }
    assert_eq!(api.get(&format!("GET {K}")).await.status, 404, "none of them was applied");
    // A key in quotes, as the standard in the making has it, is the same key.
    for key in ["k1", "\"k1\""] {
        let got = api.ask(&format!("POST {K}/increment"), &[("idempotency-key", key)], b"").await;
        assert_eq!(got.text(), "1");
    }
    api.end().await;
}

/// What a server may leave aside is left aside, and nothing is stored otherwise for it.
#[tokio::test]
async fn fields_that_are_not_read_change_nothing() {
    let api = Running::start(&settings());
    let (stored, _) = put(&api, &[("content-type", "text/css"), ("content-encoding", "identity")]).await;
    assert_eq!(stored.status, 201);
    let cases: [Headers; 7] = [
        &[("range", "bytes=0-0")],
        &[("range", "bytes=0-0"), ("if-range", "\"x\"")],
        &[("te", "trailers"), ("te", "gzip;q=0.5")],
        &[("accept", "image/png"), ("accept-encoding", "br"), ("accept-language", "x")],
        &[("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"), ("if-unmodified-since", "nonsense")],
        &[("cache-control", "max-age=0, only-if-cached"), ("pragma", "no-cache")],
        &[("x-any", "a"), ("x-any", "\"")],
    ];
    for headers in cases {
        let got = api.ask(&format!("GET {K}"), headers, b"").await;
        assert_eq!(
            (got.status, got.text().as_str(), got.header("content-type")),
            (200, "v", "text/css"),
            "{headers:?}"
        );
    }
    // Bytes beyond ASCII are a tag's, and no tag of ours.
    let mut connection = api.connect().await;
    let head = [&b"PUT "[..], K.as_bytes(), b" HTTP/1.1\r\nhost: localhost\r\nif-match: \"\xfc\"\r\n\r\n"].concat();
    connection.raw(&head).await;
    assert_eq!(connection.receive(false).await.unwrap().status, 412);
    let head = [&b"PUT "[..], K.as_bytes(), b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: a/\xfc\r\n\r\n"].concat();
    connection.raw(&head).await;
    assert_eq!(connection.receive(false).await.unwrap().status, 400);
    api.end().await;
}
