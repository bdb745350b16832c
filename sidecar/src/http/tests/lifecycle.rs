//! Connections over their life: reuse, HTTP/2, idleness and the server's end.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::client::{PATIENCE, Running, settings, until};

const K: &str = "/v1/caches/c/entries/k";

#[tokio::test]
async fn one_connection_serves_many_requests_also_when_they_come_at_once() {
    let api = Running::start(&settings());
    let mut connection = api.connect().await;
    for i in 0..100 {
        connection.send(&format!("PUT {K}"), &[], format!("{i}").as_bytes()).await;
        assert!(connection.receive(false).await.unwrap().status < 300);
    }
    for _ in 0..20 {
        connection.send(&format!("GET {K}"), &[], b"").await;
    }
    for _ in 0..20 {
        assert_eq!(connection.receive(false).await.unwrap().text(), "99");
    }
    connection.send(&format!("GET {K}"), &[("connection", "close")], b"").await;
    assert_eq!(connection.receive(false).await.unwrap().status, 200);
    assert!(connection.closed().await);
    api.end().await;
}

#[tokio::test]
async fn http_2_is_spoken_without_tls_with_many_requests_at_once() {
    let api = Running::start(&settings());
    let stream = TcpStream::connect(api.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { connection.await.is_ok() });
    let ask = |method: &str, path: &str, body: Vec<u8>| {
        let uri = format!("http://localhost{path}");
        let request = Request::builder().method(method).uri(uri).body(Full::new(Bytes::from(body))).unwrap();
        let mut sender = sender.clone();
        async move {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head.status.as_u16(), body.collect().await.unwrap().to_bytes())
        }
    };
    let asked = async {
        let mut statuses = Vec::new();
        for i in 0..50 {
            statuses.push(ask("PUT", &format!("/v1/caches/c/entries/{i}"), vec![b'x'; i * 1_000]));
        }
        for status in statuses {
            assert_eq!(status.await.0, 201);
        }
        assert_eq!(ask("GET", "/v1/caches/c/entries/49", vec![]).await.1.len(), 49_000);
        // Too large: this stream ends, the others go on.
        assert_eq!(ask("PUT", K, vec![0; (8 << 20) + 1]).await.0, 413);
        assert_eq!(ask("GET", "/v1/caches/c/entries/1", vec![]).await.0, 200);
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    drop(sender);
    api.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let mut settings = settings();
    settings.http.idle_timeout = Duration::from_millis(200);
    let api = Running::start(&settings);
    let mut connection = api.connect().await;
    connection.send("GET /v1/caches", &[], b"").await;
    assert_eq!(connection.receive(false).await.unwrap().status, 200);
    assert!(connection.closed().await);
    api.end().await;
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_server_stops() {
    let api = Running::start(&settings());
    let mut idle = api.connect().await;
    idle.send("GET /v1/caches", &[], b"").await;
    idle.receive(false).await.unwrap();
    let mut busy = api.connect().await;
    busy.raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nx").as_bytes()).await;
    let connections = api.server.open_connections();
    until("both are open", || connections.count() == 2).await;
    // The head has been read once the server waits for the body: an idle connection would be closed.
    let finish = async {
        assert!(idle.closed().await);
        busy.raw(b"y").await;
        let got = busy.receive(false).await.expect("the request is finished");
        assert_eq!(got.status, 201);
        assert!(busy.closed().await);
    };
    tokio::join!(api.server.stop(PATIENCE), finish);
    assert_eq!(connections.count(), 0);
    let refused = TcpStream::connect(api.address).await;
    assert!(refused.is_err(), "nothing listens any more");
    api.end().await;
}

#[tokio::test]
async fn a_request_that_never_finishes_does_not_hold_up_the_end() {
    let api = Running::start(&settings());
    let mut stuck = api.connect().await;
    stuck.raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nx").as_bytes()).await;
    let connections = api.server.open_connections();
    until("it is open", || connections.count() == 1).await;
    api.server.stop(Duration::from_millis(100)).await;
    assert!(stuck.closed().await);
    api.end().await;
}

#[tokio::test]
async fn readiness_is_of_the_grid() {
    let api = Running::start(&settings());
    let cluster = api.get("GET /v1/cluster").await.json();
    assert_eq!(cluster["member"]["name"], "here");
    assert_eq!(cluster["member"]["reason"], api.grid.readiness().reason);
    let local = api.get("GET /v1/cluster/explain?cache=c&key=k").await.json();
    assert_eq!(local["copies"][0]["member"], "here");
    assert_eq!(local["survives"]["members"], 0);
    api.end().await;
}
