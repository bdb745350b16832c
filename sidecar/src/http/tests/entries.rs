//! What entries answer when all is well.

use super::client::{Got, Running, settings};
use crate::http::route::encode;

type Headers = &'static [(&'static str, &'static str)];

const K: &str = "/v1/caches/c/entries/k";

#[tokio::test]
async fn an_entry_lives_from_put_to_delete() {
    let api = Running::start(&settings());
    let created = api.ask(&format!("PUT {K}"), &[("content-type", "text/css")], b"one").await;
    assert_eq!((created.status, created.text().as_str()), (201, ""));
    let first = created.header("etag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"') && first.contains('-'), "{first}");

    let got = api.get(&format!("GET {K}")).await;
    assert_eq!((got.status, got.text().as_str()), (200, "one"));
    assert_eq!(got.header("etag"), first);
    assert_eq!(got.header("content-type"), "text/css");
    assert_eq!(got.header("sidegrid-owner"), "here");
    assert_eq!(got.header("sidegrid-hops"), "0");
    assert!(!got.headers.contains_key("sidegrid-ttl"), "it lives for ever");

    let replaced = api.ask(&format!("PUT {K}"), &[], b"").await;
    assert_eq!(replaced.status, 204);
    assert_ne!(replaced.header("etag"), first);
    let got = api.get(&format!("GET {K}")).await;
    assert_eq!((got.status, got.text().as_str()), (200, ""));
    assert_eq!(got.header("content-type"), "application/octet-stream");

    assert_eq!(api.get(&format!("DELETE {K}")).await.status, 204);
    for request in [format!("GET {K}"), format!("DELETE {K}"), format!("PATCH {K}?ttl=1s")] {
        let absent = api.get(&request).await;
        assert_eq!((absent.status, absent.problem().as_str()), (404, "no-such-entry"), "{request}");
        assert_eq!(absent.header("sidegrid-owner"), "here");
    }
    api.end().await;
}

#[tokio::test]
async fn head_is_get_without_the_value() {
    let api = Running::start(&settings());
    api.ask(&format!("PUT {K}"), &[], b"value").await;
    let (get, head) = (api.get(&format!("GET {K}")).await, api.get(&format!("HEAD {K}")).await);
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), "5");
    let names = |got: &Got| got.headers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&get), names(&head));
    // Nothing of the value is left on the connection.
    let mut connection = api.connect().await;
    for _ in 0..3 {
        connection.send(&format!("HEAD {K}"), &[], b"").await;
        assert_eq!(connection.receive(true).await.unwrap().status, 200);
    }
    assert_eq!(api.get("HEAD /v1/caches/c/entries/none").await.status, 404);
    api.end().await;
}

fn left(got: &Got) -> Option<u64> {
    got.headers.get("sidegrid-ttl").map(|seconds| seconds.parse().unwrap())
}

/// RFC 9111: nothing between may answer in the entry's place, and no field has a meaning of our own.
#[tokio::test]
async fn every_answer_about_an_entry_demands_validation_and_tells_the_lifetime() {
    let api = Running::start(&settings());
    let requests: [(&str, Headers, u16, Option<u64>); 12] = [
        ("PUT /v1/caches/c/entries/a?ttl=1h", &[], 201, Some(3_600)),
        ("GET /v1/caches/c/entries/a", &[], 200, Some(3_600)),
        ("HEAD /v1/caches/c/entries/a", &[], 200, Some(3_600)),
        ("GET /v1/caches/c/entries/a", &[("if-none-match", "*")], 304, Some(3_600)),
        ("GET /v1/caches/c/entries/a", &[("if-match", "\"x\"")], 412, Some(3_600)),
        ("PATCH /v1/caches/c/entries/a?ttl=2h", &[], 204, Some(7_200)),
        ("POST /v1/caches/c/entries/n/increment?ttl=1h", &[], 200, Some(3_600)),
        ("POST /v1/caches/c/entries/n/increment?ttl=5m", &[], 200, Some(3_600)),
        ("POST /v1/caches/c/entries/m/increment", &[], 200, None),
        ("DELETE /v1/caches/c/entries/a", &[], 204, None),
        ("HEAD /v1/caches/c/entries/a", &[], 404, None),
        ("GET /v1/caches/none/entries/a", &[], 404, None),
    ];
    for (request, headers, status, seconds) in requests {
        let got = api.ask(request, headers, b"").await;
        assert_eq!(got.status, status, "{request}");
        assert_eq!(got.header("cache-control"), "no-cache", "{request}");
        assert!(!got.headers.contains_key("age"), "{request}");
        assert_eq!(left(&got).is_some(), seconds.is_some(), "{request}");
        if let (Some(left), Some(seconds)) = (left(&got), seconds) {
            assert!((seconds - 60..=seconds).contains(&left), "{request}: {left}");
        }
    }
    api.end().await;
}

#[tokio::test]
async fn time_to_live_comes_from_the_parameter_the_header_or_the_cache() {
    let api = Running::start(&settings());
    let cases: [(&str, Headers, Option<u64>); 7] = [
        ("/v1/caches/c/entries/k?ttl=90s", &[], Some(90)),
        ("/v1/caches/c/entries/k?ttl=2d", &[("cache-control", "max-age=7")], Some(172_800)),
        ("/v1/caches/c/entries/k", &[("cache-control", "no-cache, max-age=700")], Some(700)),
        ("/v1/caches/c/entries/k", &[("cache-control", "no-store")], None),
        ("/v1/caches/c/entries/k", &[("cache-control", "private=\"x, max-age=9\"")], None),
        ("/v1/caches/short/entries/k", &[], Some(60)),
        ("/v1/caches/short/entries/k?ttl=5m", &[], Some(300)),
    ];
    for (path, headers, seconds) in cases {
        let stored = api.ask(&format!("PUT {path}"), headers, b"v").await;
        assert!(stored.status < 300, "{path}");
        assert_eq!(left(&stored), seconds, "{path}");
        let got = api.get(&format!("GET {}", path.split('?').next().unwrap())).await;
        match (seconds, left(&got)) {
            (None, None) => {}
            (Some(seconds), Some(left)) => {
                assert!((seconds.saturating_sub(30)..=seconds).contains(&left), "{path}: {left}")
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let touched = api.get("PATCH /v1/caches/c/entries/k?ttl=1h").await;
    assert_eq!(touched.status, 204);
    let got = api.get(&format!("GET {K}")).await;
    assert_eq!(got.header("etag"), touched.header("etag"), "a touch leaves the value's version");
    assert_eq!(left(&touched), Some(3_600));
    assert!((3_500..=3_600).contains(&left(&got).unwrap()));
    assert_eq!(api.ask(&format!("PATCH {K}"), &[("cache-control", "max-age=9")], b"").await.status, 204);
    api.end().await;
}

#[tokio::test]
async fn an_entry_is_gone_after_its_time() {
    let api = Running::start(&settings());
    assert_eq!(api.ask(&format!("PUT {K}?ttl=30ms"), &[], b"v").await.status, 201);
    let gone = async { while api.get(&format!("GET {K}")).await.status != 404 {} };
    tokio::time::timeout(super::client::PATIENCE, gone).await.expect("it expires");
    assert_eq!(api.ask(&format!("PUT {K}"), &[], b"v").await.status, 201, "created, not replaced");
    api.end().await;
}

#[tokio::test]
async fn the_previous_value_is_given_back_when_asked_for() {
    let api = Running::start(&settings());
    let put = format!("PUT {K}?return=previous");
    let first = api.ask(&put, &[("content-type", "text/a")], b"one").await;
    assert_eq!((first.status, first.text().as_str()), (201, ""));
    let second = api.ask(&put, &[("content-type", "text/b")], b"two").await;
    assert_eq!((second.status, second.text().as_str()), (200, "one"));
    assert_eq!(second.header("content-type"), "text/a");
    assert_eq!(second.header("sidegrid-previous-etag"), first.header("etag"));
    assert_ne!(second.header("etag"), first.header("etag"));
    let removed = api.get(&format!("DELETE {K}?return=previous")).await;
    assert_eq!((removed.status, removed.text().as_str()), (200, "two"));
    assert_eq!(removed.header("sidegrid-previous-etag"), second.header("etag"));
    api.end().await;
}

#[tokio::test]
async fn counters_are_exact() {
    let api = Running::start(&settings());
    let add = async |query: &str| api.get(&format!("POST {K}/increment{query}")).await;
    assert_eq!(add("?initial=40&by=2").await.text(), "42");
    assert_eq!(add("").await.text(), "43");
    assert_eq!(add("?by=-50&initial=9").await.text(), "-7");
    let got = api.get(&format!("GET {K}")).await;
    assert_eq!((got.text().as_str(), got.header("content-type")), ("-7", "text/plain"));

    assert_eq!(add("?by=9223372036854775807").await.text(), "9223372036854775800");
    let over = add("?by=8").await;
    assert_eq!((over.status, over.problem().as_str()), (409, "overflow"));
    assert_eq!(api.get(&format!("GET {K}")).await.text(), "9223372036854775800");

    api.ask(&format!("PUT {K}"), &[], b"word").await;
    let word = add("").await;
    assert_eq!((word.status, word.problem().as_str()), (409, "not-a-number"));
    api.end().await;
}

/// O-1, O-4: over HTTP, and not across entries or caches; another request with the same key is refused.
#[tokio::test]
async fn a_retry_with_its_idempotency_key_applies_once() {
    let api = Running::start(&settings());
    let add = async |path: &str, key: &str| {
        api.ask(&format!("POST {path}/increment"), &[("idempotency-key", key)], b"").await
    };
    assert_eq!(add(K, "a-1").await.text(), "1");
    assert_eq!(add(K, "a-1").await.text(), "1");
    assert_eq!(add(K, "a-2").await.text(), "2");
    assert_eq!(add("/v1/caches/c/entries/other", "a-1").await.text(), "1");
    assert_eq!(add("/v1/caches/short/entries/k", "a-1").await.text(), "1");
    for (request, body) in [(format!("PUT {K}"), "x"), (format!("POST {K}/increment?by=2"), "")] {
        let got = api.ask(&request, &[("idempotency-key", "a-1")], body.as_bytes()).await;
        assert_eq!((got.status, got.problem().as_str()), (422, "idempotency-mismatch"), "{request}");
    }
    // A UUID of version 7 says when it was made: this one in 2022.
    let old = add(K, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f").await;
    assert_eq!((old.status, old.problem().as_str()), (409, "unknown-operation"));
    assert_eq!(add(K, "a-2").await.text(), "2");
    // The first answer, not what would be true now.
    let once = [("idempotency-key", "b-1"), ("if-none-match", "*")];
    assert_eq!(api.ask("PUT /v1/caches/c/entries/n", &once, b"x").await.status, 201);
    assert_eq!(api.ask("PUT /v1/caches/c/entries/n", &once, b"x").await.status, 201);
    api.end().await;
}

#[tokio::test]
async fn any_bytes_are_a_key() {
    let api = Running::start(&settings());
    let longest = vec![b'k'; 1_024];
    let keys: [&[u8]; 7] = [b"a/b", b"\0", b"%", &[0xff, 0xfe], "ключ".as_bytes(), b"increment", &longest];
    for (i, key) in keys.iter().enumerate() {
        let path = format!("/v1/caches/c/entries/{}", encode(key));
        assert_eq!(api.ask(&format!("PUT {path}"), &[], i.to_string().as_bytes()).await.status, 201);
    }
    for (i, key) in keys.iter().enumerate() {
        let path = format!("/v1/caches/c/entries/{}", encode(key));
        assert_eq!(api.get(&format!("GET {path}")).await.text(), i.to_string());
    }
    // Two spellings of one key.
    assert_eq!(api.get("GET /v1/caches/c/entries/%61%2fb").await.text(), "0");
    assert_eq!(api.get("GET /v1/caches/%63/entries/a%2Fb").await.text(), "0");
    api.end().await;
}

/// Many clients resolve `.` and `..` in a path before they send it: what is there then must do no harm.
#[tokio::test]
async fn dots_are_keys_and_the_paths_that_clients_make_of_them_change_nothing() {
    let api = Running::start(&settings());
    for key in [".", "..", "%2e", "%2E%2e"] {
        let path = format!("/v1/caches/c/entries/{key}");
        assert!(api.ask(&format!("PUT {path}"), &[], b"1").await.status < 300, "{key}");
        assert_eq!(api.get(&format!("POST {path}/increment")).await.text(), "2", "{key}");
        assert_eq!(api.get(&format!("GET {path}")).await.text(), "2", "{key}");
    }
    api.ask(&format!("PUT {K}"), &[], b"v").await;
    let resolved = [
        "/v1/caches/c/entries/",
        "/v1/caches/c/entries",
        "/v1/caches/c/entries/increment",
        "/v1/caches/c/",
        "/v1/caches/c",
        "/v1/caches/c/increment",
        "/v1/caches/",
        "/v1/caches",
    ];
    for path in resolved {
        for method in ["PATCH", "POST", "DELETE", "PUT"] {
            // With its last part a path is that of another entry, for all methods but that of the counter.
            if path.ends_with("entries/increment") && method != "POST" {
                continue;
            }
            let got = api.ask(&format!("{method} {path}"), &[], b"").await;
            assert!((400..500).contains(&got.status), "{method} {path}: {}", got.status);
        }
    }
    assert_eq!(api.get(&format!("GET {K}")).await.text(), "v");
    assert_eq!(api.get("GET /v1/caches/c").await.json()["stats"]["entries"], 3);
    api.end().await;
}

#[tokio::test]
async fn values_of_every_size_come_back_whole() {
    let mut settings = settings();
    settings.http.max_value_bytes = 3 << 20;
    let api = Running::start(&settings);
    for size in [1, 8_191, 8_192, 65_536, 65_537, 1_000_000, 3 << 20] {
        let value: Vec<u8> = (0..size).map(|i: usize| (i * 7 % 251) as u8).collect();
        assert!(api.ask(&format!("PUT {K}"), &[], &value).await.status < 300, "{size}");
        assert!(api.get(&format!("GET {K}")).await.body == value, "{size}");
    }
    // The same in chunks.
    let mut connection = api.connect().await;
    connection
        .raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())
        .await;
    for chunk in ["5\r\nhello\r\n", "1\r\n \r\n", "5\r\nworld\r\n", "0\r\nx-trailer: y\r\n\r\n"] {
        connection.raw(chunk.as_bytes()).await;
    }
    assert_eq!(connection.receive(false).await.unwrap().status, 204);
    connection.send(&format!("GET {K}"), &[], b"").await;
    assert_eq!(connection.receive(false).await.unwrap().text(), "hello world");
    api.end().await;
}
