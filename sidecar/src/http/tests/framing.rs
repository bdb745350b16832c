//! How a message is framed says nothing of what it asks for: a body without bytes is none (RFC 9112, 6.1 and 7.1).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::client::{Running, settings};

const K: &str = "/v1/caches/c/entries/k";

/// The methods that take no body, and what they answer for a counter that is there.
const REQUESTS: [(&str, &str, u16); 4] =
    [("POST", "/increment", 200), ("PATCH", "?ttl=5m", 204), ("GET", "", 200), ("DELETE", "", 204)];

#[tokio::test]
async fn a_chunked_body_of_no_bytes_is_no_body() {
    let api = Running::start(&settings());
    let ends = ["0\r\n\r\n", "0;name=value\r\n\r\n", "000\r\n\r\n", "0\r\nx-trailer: y\r\n\r\n"];
    let mut connection = api.connect().await;
    for end in ends {
        for (in_parts, expects) in [(false, false), (true, false), (true, true)] {
            for (method, path, status) in REQUESTS {
                assert!(api.ask(&format!("PUT {K}"), &[], b"7").await.status < 300);
                let expect = if expects { "expect: 100-continue\r\n" } else { "" };
                let head = format!(
                    "{method} {K}{path} HTTP/1.1\r\nhost: localhost\r\n{expect}transfer-encoding: chunked\r\n\r\n"
                );
                if in_parts {
                    connection.raw(head.as_bytes()).await;
                    if expects && connection.receive(true).await.unwrap().status != 100 {
                        panic!("{method}: it does not ask for the body");
                    }
                    connection.raw(&end.as_bytes()[..1]).await;
                    connection.raw(&end.as_bytes()[1..]).await;
                } else {
                    connection.raw(format!("{head}{end}").as_bytes()).await;
                }
                let got = connection.receive(false).await.expect("the connection stays usable");
                assert_eq!(got.status, status, "{method} {end:?}: {}", got.text());
                assert!(method != "POST" || got.text() == "8");
            }
        }
    }
    api.end().await;
}

#[tokio::test]
async fn a_body_with_bytes_is_refused_whichever_way_it_is_framed() {
    let api = Running::start(&settings());
    let mut connection = api.connect().await;
    for framed in ["content-length: 1\r\n\r\n5", "transfer-encoding: chunked\r\n\r\n1\r\n5\r\n0\r\n\r\n"] {
        for (method, path, _) in REQUESTS.into_iter().filter(|(method, ..)| *method != "GET") {
            api.ask(&format!("PUT {K}"), &[], b"7").await;
            connection.raw(format!("{method} {K}{path} HTTP/1.1\r\nhost: localhost\r\n{framed}").as_bytes()).await;
            let got = connection.receive(false).await.expect("the connection stays usable");
            assert_eq!((got.status, got.problem().as_str()), (400, "bad-request"), "{method} {framed:?}");
            assert_eq!(api.get(&format!("GET {K}")).await.text(), "7", "{method} {framed:?}");
        }
    }
    api.end().await;
}

#[tokio::test]
async fn an_empty_value_is_stored_whichever_way_it_is_framed() {
    let api = Running::start(&settings());
    let mut connection = api.connect().await;
    for framed in ["\r\n", "content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"] {
        api.ask(&format!("PUT {K}"), &[], b"7").await;
        connection.raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\n{framed}").as_bytes()).await;
        assert_eq!(connection.receive(false).await.unwrap().status, 204, "{framed:?}");
        let got = api.get(&format!("GET {K}")).await;
        assert_eq!((got.status, got.text().as_str()), (200, ""), "{framed:?}");
    }
    api.end().await;
}

/// B-1: an end that never comes is not waited for.
#[tokio::test]
async fn a_body_whose_end_does_not_come_is_answered_in_time() {
    let mut settings = settings();
    settings.http.body_timeout = std::time::Duration::from_millis(100);
    let api = Running::start(&settings);
    let mut connection = api.connect().await;
    let head = format!("DELETE {K} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.raw(head.as_bytes()).await;
    let got = connection.receive(false).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (408, "body-timeout"));
    assert!(connection.closed().await);
    let mut broken = api.connect().await;
    broken.raw(head.as_bytes()).await;
    broken.raw(b"nonsense\r\n").await;
    assert_eq!(broken.receive(false).await.unwrap().problem(), "bad-request");
    api.end().await;
}

/// A body of these frames, the last first, whose end is not known before they are taken.
struct Frames(Vec<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test]
async fn the_same_over_http_2() {
    let api = Running::start(&settings());
    let stream = TcpStream::connect(api.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { connection.await.is_ok() });
    for (bytes, refused) in [(&b""[..], false), (b"5", true)] {
        for (method, path, status) in REQUESTS {
            api.ask(&format!("PUT {K}"), &[], b"7").await;
            // A frame of its own ends the stream: that none has bytes is not known before.
            let body = Frames(vec![Bytes::from_static(bytes), Bytes::new()]);
            let uri = format!("http://localhost{K}{path}");
            let request = Request::builder().method(method).uri(uri).body(body).unwrap();
            let got = sender.send_request(request).await.unwrap();
            let expected = if refused && method != "GET" { 400 } else { status };
            assert_eq!(got.status().as_u16(), expected, "{method} {bytes:?}");
            let _body = got.into_body().collect().await.unwrap();
        }
    }
    drop(sender);
    tasks.join_all().await;
    api.end().await;
}
