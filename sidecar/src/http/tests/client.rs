//! A server under test and a client that sends exactly what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use sidegrid_config::{Cache, Mode, Settings, WhenFull};
use sidegrid_net::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::grid::{Grid, Phase};
use crate::http::{Api, Limits, Listeners, Server, body_budget};
use crate::spawner::Spawner;

/// What a test waits for at most; never reached when all is well.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) server: Server,
    pub(super) grid: Grid,
    spawner: Spawner,
}

/// The caches of the tests: `c` is plain, `short` has a time to live, `tiny` takes one entry and refuses more,
/// `clustered` has no cluster.
pub(super) fn settings() -> Settings {
    let mut settings = Settings::default();
    let local = Cache { mode: Mode::Local, ..Cache::default() };
    settings.caches.insert("c".into(), local.clone());
    settings.caches.insert("short".into(), Cache { ttl: Some(Duration::from_secs(60)), ..local.clone() });
    let tiny = Cache { max_entries: Some(1), when_full: WhenFull::Reject, ..local };
    settings.caches.insert("tiny".into(), tiny);
    settings.caches.insert("clustered".into(), Cache::default());
    settings
}

impl Running {
    pub(super) fn start(settings: &Settings) -> Running {
        Running::start_with(settings, None)
    }

    /// Without the bounds that settings have, so that a test need not wait for seconds.
    pub(super) fn start_with(settings: &Settings, unix: Option<std::os::unix::net::UnixListener>) -> Running {
        let spawner = Spawner::new(Handle::current());
        let grid = Grid::new(settings, Clock::boottime());
        grid.advance(Phase::Running);
        let body_budget = body_budget(settings.http.max_value_bytes);
        let api = Api::new(grid.clone(), settings, "here", body_budget);
        let limits = Limits {
            connections: settings.http.max_connections as usize,
            header_timeout: settings.http.header_timeout,
            idle_timeout: settings.http.idle_timeout,
        };
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        let address = tcp.local_addr().unwrap();
        let server = Server::start(Listeners::of(tcp, unix).unwrap(), limits, api, &spawner);
        Running { address, server, grid, spawner }
    }

    pub(super) async fn connect(&self) -> Connection<TcpStream> {
        Connection::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let mut connection = self.connect().await;
        connection.send(request, headers, body).await;
        connection.receive(request.starts_with("HEAD ")).await.unwrap()
    }

    /// The same without headers or body.
    pub(super) async fn get(&self, request: &str) -> Got {
        self.ask(request, &[], b"").await
    }

    pub(super) async fn end(self) {
        self.server.stop(Duration::from_secs(1)).await;
        tokio::time::timeout(PATIENCE, self.spawner.stop()).await.expect("all tasks end");
    }
}

/// A connection to it.
pub(super) struct Connection<S> {
    pub(super) stream: S,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The word of the problem's type, after all that every problem has was checked.
    pub(super) fn problem(&self) -> String {
        let json = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-cache");
        assert_eq!(json["status"], self.status);
        assert!(json["title"].is_string() && json["detail"].is_string() && json["retryable"].is_boolean(), "{json}");
        assert!(json["applied"] == "no" || json["applied"] == "unknown", "{json}");
        // Seconds can't say what milliseconds do: 0 stands for less than half of one.
        let after = json["retryAfterMs"].as_u64();
        assert_eq!(json["retryable"] == true, after.is_some(), "{json}");
        let seconds = after.map_or(String::new(), |ms| ((ms + 500) / 1_000).to_string());
        assert_eq!(self.header("retry-after"), seconds, "{json}");
        let kind = json["type"].as_str().unwrap();
        kind.strip_prefix("https://sidegrid.dev/problems/").unwrap().to_owned()
    }

    pub(super) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S) -> Connection<S> {
        Connection { stream, buffer: Vec::new() }
    }

    /// Sends `METHOD path` with these headers; `Host` is added unless given, and `Content-Length` with a body.
    pub(super) async fn send(&mut self, request: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{request} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("host: localhost\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(head.as_bytes()).await;
        self.raw(body).await;
    }

    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer; none when the connection ends before one begins.
    pub(super) async fn receive(&mut self, head_only: bool) -> Option<Got> {
        tokio::time::timeout(PATIENCE, self.read_answer(head_only)).await.expect("an answer")
    }

    async fn read_answer(&mut self, head_only: bool) -> Option<Got> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more().await {
                assert!(self.buffer.is_empty(), "half an answer: {}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<String, String> =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
        let length = headers.get("content-length").map_or(0, |l| l.parse().unwrap());
        let length = if head_only || status == 304 || status == 204 { 0 } else { length };
        while self.buffer.len() < length {
            assert!(self.read_more().await, "the body broke off");
        }
        Some(Got { status, headers, body: self.buffer.drain(..length).collect() })
    }

    async fn read_more(&mut self) -> bool {
        // An answer may be followed by a reset when the rest of the request was not read.
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0)
    }

    /// Waits until the peer has closed, and has said nothing more before.
    pub(super) async fn closed(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.read_more()).await.is_ok_and(|more| !more) && self.buffer.is_empty()
    }
}

/// Waits until `holds`, or the test has failed.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("never: {what}"));
}
