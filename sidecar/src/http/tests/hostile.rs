//! Senders that are slow, endless or many hold what is theirs, and others are served on.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::client::{Connection, PATIENCE, Running, settings, until};

const K: &str = "/v1/caches/c/entries/k";

async fn others_are_served(api: &Running) {
    assert!(api.ask(&format!("PUT {K}"), &[], b"v").await.status < 300);
    assert_eq!(api.get(&format!("GET {K}")).await.text(), "v");
}

/// B-1
#[tokio::test]
async fn an_announced_value_beyond_the_limit_is_refused_before_it_is_read() {
    let api = Running::start(&settings());
    let mut connection = api.connect().await;
    // None of the 100 MiB is sent.
    connection
        .raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n").as_bytes())
        .await;
    let got = connection.receive(false).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (413, "value-too-large"));
    assert_eq!(got.json()["limit"], 8 << 20);
    assert!(got.detail().contains("8388608"));
    assert_eq!(got.header("connection"), "close");
    assert!(connection.closed().await);
    others_are_served(&api).await;
    api.end().await;
}

/// B-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_stream_is_cut_off_early() {
    let api = Running::start(&settings());
    let stream = TcpStream::connect(api.address).await.unwrap();
    let (read, mut write) = tokio::io::split(stream);
    let sender = async move {
        write
            .write_all(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let chunk = [&b"10000\r\n"[..], &[7; 65_536], b"\r\n"].concat();
        let mut sent = 0u64;
        // 100 MiB, unless the server closes before.
        while sent < 100 << 20 && write.write_all(&chunk).await.is_ok() {
            sent += 65_536;
        }
        sent
    };
    let receiver = async {
        let mut connection = Connection::new(tokio::io::join(read, tokio::io::sink()));
        connection.receive(false).await.expect("an answer before the end")
    };
    let (sent, got) = tokio::time::timeout(PATIENCE, async { tokio::join!(sender, receiver) }).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (413, "value-too-large"));
    // The limit, what is thrown away for the sender's sake, and what was in the sockets' buffers.
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    others_are_served(&api).await;
    api.end().await;
}

#[tokio::test]
async fn who_sends_all_before_reading_sees_the_refusal_and_not_a_reset() {
    let mut settings = settings();
    settings.http.max_value_bytes = 1_000;
    let api = Running::start(&settings);
    let mut connection = api.connect().await;
    connection.send(&format!("PUT {K}"), &[("content-length", "600000")], b"").await;
    // The answer is there, and the server has nothing more to say.
    connection.stream.readable().await.unwrap();
    for _ in 0..60 {
        connection.raw(&[0; 10_000]).await;
    }
    let got = connection.receive(false).await.expect("the refusal");
    assert_eq!((got.status, got.problem().as_str()), (413, "value-too-large"));
    assert!(connection.closed().await);
    api.end().await;
}

#[tokio::test]
async fn a_slow_head_ends_its_own_connection_alone() {
    let mut settings = settings();
    settings.http.header_timeout = Duration::from_millis(200);
    let api = Running::start(&settings);
    let mut silent = api.connect().await;
    let mut slow = api.connect().await;
    slow.raw(b"GET /v1/caches HTTP/1.1\r\nhost: local").await;
    // Slow on a connection that has served before, too.
    let mut later = api.connect().await;
    later.send("GET /v1/caches", &[], b"").await;
    assert_eq!(later.receive(false).await.unwrap().status, 200);
    later.raw(b"GET /v1/cac").await;
    others_are_served(&api).await;
    assert!(silent.closed().await && slow.closed().await && later.closed().await);
    others_are_served(&api).await;
    api.end().await;
}

#[tokio::test]
async fn a_dripping_head_is_not_kept_alive_by_its_drops() {
    let mut settings = settings();
    settings.http.header_timeout = Duration::from_millis(300);
    let api = Running::start(&settings);
    let mut slow = TcpStream::connect(api.address).await.unwrap();
    let drip = async {
        slow.write_all(b"GET /v1/caches HTTP/1.1\r\nhost: localhost\r\nx: ").await.unwrap();
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("the connection is closed");
    api.end().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_and_ends_its_own_connection() {
    let mut settings = settings();
    settings.http.body_timeout = Duration::from_millis(200);
    let api = Running::start(&settings);
    let mut slow = api.connect().await;
    slow.raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc").as_bytes()).await;
    others_are_served(&api).await;
    let got = slow.receive(false).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (408, "body-timeout"));
    assert_eq!(got.json()["applied"], "no");
    assert!(slow.closed().await);
    assert_eq!(api.get(&format!("GET {K}")).await.text(), "v", "half a value is never stored");
    api.end().await;
}

#[tokio::test]
async fn a_body_that_breaks_off_stores_nothing() {
    let api = Running::start(&settings());
    let mut broken = api.connect().await;
    broken.raw(format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc").as_bytes()).await;
    drop(broken);
    let connections = api.server.open_connections();
    until("the connection is gone", || connections.count() == 0).await;
    assert_eq!(api.get(&format!("GET {K}")).await.status, 404);
    api.end().await;
}

/// B-1: all bodies together are bounded by what has arrived of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_large_bodies_at_once_only_some_are_taken() {
    const SENDERS: usize = 6;
    const SIZE: usize = 32 << 20;
    let mut settings = settings();
    // The usual budget is four of the largest values.
    settings.http.max_value_bytes = SIZE as u64;
    let api = Arc::new(Running::start(&settings));
    let all_but_sent = Arc::new(Barrier::new(SENDERS));
    let mut senders = tokio::task::JoinSet::new();
    for i in 0..SENDERS {
        let (api, all_but_sent) = (Arc::clone(&api), Arc::clone(&all_but_sent));
        senders.spawn(async move {
            let mut stream = TcpStream::connect(api.address).await.unwrap();
            let head = format!("PUT {K}{i} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // Whoever is refused is cut off.
            let sent = stream.write_all(&vec![0; SIZE - 1]).await.is_ok();
            all_but_sent.wait().await;
            // While others hold their part, what needs none is served.
            assert_eq!(api.get("GET /v1/caches/c/entries/none").await.status, 404);
            if !sent || stream.write_all(&[0]).await.is_err() {
                return false;
            }
            Connection::new(stream).receive(false).await.is_some_and(|got| got.status == 201)
        });
    }
    let results = tokio::time::timeout(PATIENCE, senders.join_all()).await.unwrap();
    let taken = results.iter().filter(|taken| **taken).count();
    assert!((1..=4).contains(&taken), "{taken} were taken");
    others_are_served(&api).await;
    Arc::into_inner(api).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_connections_leave_room_for_others() {
    let api = Running::start(&settings());
    // Both ends of each are in this process.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        idle.push(TcpStream::connect(api.address).await.unwrap());
    }
    let connections = api.server.open_connections();
    until("all are open", || connections.count() >= 2_000).await;
    for _ in 0..50 {
        others_are_served(&api).await;
    }
    // They are only idle: each is served when it asks.
    for stream in idle.into_iter().step_by(200) {
        let mut connection = Connection::new(stream);
        connection.send(&format!("GET {K}"), &[], b"").await;
        assert_eq!(connection.receive(false).await.unwrap().status, 200);
    }
    api.end().await;
}

/// B-1
#[tokio::test]
async fn at_the_bound_the_longest_idle_connection_gives_way() {
    let mut settings = settings();
    settings.http.max_connections = 4;
    let api = Running::start(&settings);
    let connections = api.server.open_connections();
    let mut open = Vec::new();
    for i in 1..=12 {
        let mut connection = api.connect().await;
        connection.send("GET /v1/caches", &[], b"").await;
        assert_eq!(connection.receive(false).await.unwrap().status, 200, "{i}");
        open.push(connection);
        assert!(connections.count() <= 4);
    }
    // While all are busy there is no room, and that is said.
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut connection = api.connect().await;
        connection.send(&format!("PUT {K}"), &[("expect", "100-continue"), ("content-length", "2")], b"").await;
        // It says so once it waits for the body.
        assert_eq!(connection.receive(true).await.unwrap().status, 100);
        busy.push(connection);
    }
    let refused = async {
        loop {
            let mut connection = api.connect().await;
            if let Some(got) = connection.receive(false).await {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (429, "overloaded"));
    for connection in &mut busy {
        connection.raw(b"xy").await;
        assert!(connection.receive(false).await.unwrap().status < 300);
    }
    others_are_served(&api).await;
    api.end().await;
}

#[tokio::test]
async fn nonsense_is_answered_and_harms_nobody() {
    let api = Running::start(&settings());
    for nonsense in
        ["\r\n\r\nnonsense\r\n\r\n", "GET\r\n\r\n", "\0\0\0\0\0\0\0\0", "GET / HTTP/9.9\r\nhost: localhost\r\n\r\n"]
    {
        let mut connection = api.connect().await;
        connection.raw(nonsense.as_bytes()).await;
        let got = connection.receive(false).await;
        assert!(got.is_none_or(|g| g.status >= 400), "{nonsense:?}");
    }
    let mut connection = api.connect().await;
    let long = format!("GET /v1/caches HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let _ = connection.stream.write_all(long.as_bytes()).await;
    assert!(connection.receive(false).await.is_none_or(|g| g.status == 431));
    others_are_served(&api).await;
    api.end().await;
}
