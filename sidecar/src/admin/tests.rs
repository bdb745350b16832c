//! The admin port over real sockets.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use sidegrid_config::{Cache, MemoryBudget, Mode, Settings};
use sidegrid_net::{Clock, Counters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::{Admin, LIMITS, metrics};
use crate::grid::{Grid, Phase};
use crate::http::{Api, Listeners, Server, body_budget};
use crate::memory::MemoryStats;
use crate::spawner::Spawner;

struct Running {
    address: std::net::SocketAddr,
    grid: Grid,
    spawner: Spawner,
    _servers: [Server; 2],
}

fn start(clustered: bool) -> Running {
    let mut settings = Settings::default();
    settings.caches.insert("c".into(), Cache { mode: Mode::Local, ..Cache::default() });
    if clustered {
        settings.caches.insert("d".into(), Cache::default());
    }
    let spawner = Spawner::new(Handle::current());
    let grid = Grid::new(&settings, Clock::boottime());
    let bind = || {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        tcp
    };
    let api = Api::new(grid.clone(), &settings, "here", body_budget(settings.http.max_value_bytes));
    let http = Server::start(Listeners::of(bind(), None).unwrap(), LIMITS, api, &spawner);
    let mut registry = Registry::default();
    let memory = MemoryStats { budget: Some(MemoryBudget::of(96 << 20)), ..MemoryStats::default() };
    metrics::register(&mut registry, grid.clone(), Arc::new(Counters::default()), http.open_connections(), memory);
    let tcp = bind();
    let address = tcp.local_addr().unwrap();
    let admin = Admin::new(grid.clone(), registry);
    let admin = Server::start(Listeners::of(tcp, None).unwrap(), LIMITS, admin, &spawner);
    Running { address, grid, spawner, _servers: [http, admin] }
}

async fn ask(running: &Running, request: &str) -> (u16, String) {
    let (head, body) = ask_with(running, request, "").await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// With more lines of fields. Head and body of the answer.
async fn ask_with(running: &Running, request: &str, fields: &str) -> (String, String) {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ncache-control: no-cache"), "{head}");
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn health_says_what_holds_and_why_not() {
    let running = start(true);
    // Alone: alive whatever others do.
    assert_eq!(ask(&running, "GET /livez").await, (200, "ok\n".into()));
    for path in ["/readyz", "/startupz"] {
        let (status, body) = ask(&running, &format!("GET {path}")).await;
        assert_eq!(status, 503);
        assert!(body.contains("\"ok\":false,\"reason\":\"starting\""), "{body}");
    }
    running.grid.advance(Phase::Running);
    let (status, body) = ask(&running, "GET /readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"reason\":\"joining\",\"participation\":\"joining\",\"view\":0"), "{body}");
    assert_eq!(ask(&running, "GET /startupz").await.0, 503);
    // Who hands over is not ready, and has started.
    running.grid.advance(Phase::Draining);
    let (status, body) = ask(&running, "GET /readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"reason\":\"draining\""), "{body}");
    assert_eq!(ask(&running, "GET /startupz").await.0, 200);
    running.spawner.stop().await;
}

#[tokio::test]
async fn without_clustered_caches_it_is_ready_by_itself() {
    let running = start(false);
    running.grid.advance(Phase::Running);
    let (status, body) = ask(&running, "GET /readyz").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"ok\":true,\"reason\":\"ready\""), "{body}");
    assert_eq!(ask(&running, "GET /startupz").await.0, 200);
    running.spawner.stop().await;
}

#[tokio::test]
async fn it_only_reads_and_knows_its_paths() {
    let running = start(false);
    assert_eq!(ask(&running, "HEAD /livez").await, (200, String::new()));
    let (status, body) = ask(&running, "POST /livez").await;
    assert_eq!(status, 405);
    assert!(body.contains("method-not-allowed"), "{body}");
    let (status, body) = ask(&running, "GET /nothing").await;
    assert_eq!(status, 404);
    assert!(body.contains("no-such-path"), "{body}");
    running.spawner.stop().await;
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let running = start(true);
    let classic = "content-type: text/plain; version=0.0.4; charset=utf-8";
    let open_metrics = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, expected) in [
        ("", classic),
        ("accept: text/plain;version=0.0.4\r\n", classic),
        ("accept: text/plain;q=0.5\r\naccept: application/openmetrics-text\r\n", open_metrics),
    ] {
        let (head, body) = ask_with(&running, "GET /metrics", accept).await;
        assert!(head.contains(expected), "{accept}: {head}");
        assert!(head.contains("vary: accept"), "{head}");
        assert_eq!(body.ends_with("# EOF\n"), expected == open_metrics);
        if expected == classic {
            // Every sample has a type under its own name.
            for line in body.lines().filter(|line| !line.starts_with('#')) {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(body.contains(&format!("# TYPE {name} ")), "{line}");
            }
        }
    }
    running.spawner.stop().await;
}

/// An empty body is none, whichever way it is framed, and the connection goes on.
#[tokio::test]
async fn a_probe_may_be_framed_in_any_way() {
    let running = start(false);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    running.spawner.stop().await;
}

/// Dashboards and alerts rest on these names: adding is fine, changing or removing is not.
const NAMES: &str = include_str!("metric_names.txt");

#[tokio::test]
async fn names_kinds_and_labels_are_frozen() {
    let running = start(true);
    let (head, text) = ask_with(&running, "GET /metrics", "accept: application/openmetrics-text\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert!(text.ends_with("# EOF\n"));
    let mut names: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            names.push(kind.to_owned());
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            names.push(format!("  {series}"));
        }
    }
    let found = names.join("\n") + "\n";
    if std::env::var_os("SIDEGRID_GENERATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/metric_names.txt");
        std::fs::write(path, &found).unwrap();
        return;
    }
    assert_eq!(found, NAMES, "the metrics differ from metric_names.txt");
    running.spawner.stop().await;
}
