//! The Unix socket beside the port: the same server, within the same bounds.

use std::path::PathBuf;

use sidegrid_config::Settings;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::client::{Connection, Running, settings, until};

const K: &str = "/v1/caches/c/entries/k";

struct Both {
    api: Running,
    path: PathBuf,
    _folder: TempDir,
}

impl Both {
    fn start(settings: &Settings) -> Both {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        unix.set_nonblocking(true).unwrap();
        Both { api: Running::start_with(settings, Some(unix)), path, _folder: folder }
    }

    async fn connect(&self) -> Connection<UnixStream> {
        Connection::new(UnixStream::connect(&self.path).await.unwrap())
    }
}

#[tokio::test]
async fn it_serves_whatever_the_host_is_called_and_refuses_origins() {
    let both = Both::start(&settings());
    let mut connection = both.connect().await;
    let cases = [
        ([("host", "localhost"), ("x", "y")], 201),
        ([("host", "anything.example"), ("x", "y")], 204),
        ([("host", "a"), ("origin", "https://a.example")], 403),
    ];
    for (headers, status) in cases {
        connection.send(&format!("PUT {K}"), &headers, b"v").await;
        assert_eq!(connection.receive(false).await.unwrap().status, status);
    }
    assert_eq!(both.api.get(&format!("GET {K}")).await.text(), "v");
    both.api.end().await;
}

/// B-1: the bound is of both together.
#[tokio::test]
async fn a_busy_connection_of_the_port_leaves_no_room_for_one_of_the_socket() {
    let mut settings = settings();
    settings.http.max_connections = 1;
    let both = Both::start(&settings);
    let mut busy = both.api.connect().await;
    busy.raw(
        format!("PUT {K} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").as_bytes(),
    )
    .await;
    // Asked for the body: its request is under way.
    assert_eq!(busy.receive(true).await.unwrap().status, 100);
    let got = both.connect().await.receive(false).await.unwrap();
    assert_eq!((got.status, got.problem().as_str()), (429, "overloaded"));
    busy.raw(b"v").await;
    assert_eq!(busy.receive(false).await.unwrap().status, 201);
    drop(busy);
    let connections = both.api.server.open_connections();
    until("the port's is closed", || connections.count() == 0).await;
    let mut connection = both.connect().await;
    connection.send(&format!("GET {K}"), &[], b"").await;
    assert_eq!(connection.receive(false).await.unwrap().text(), "v");
    both.api.end().await;
}

#[tokio::test]
async fn a_value_too_large_is_refused_and_a_silent_connection_closed() {
    let mut settings = settings();
    settings.http.max_value_bytes = 4;
    settings.http.header_timeout = std::time::Duration::from_millis(200);
    let both = Both::start(&settings);
    let mut silent = both.connect().await;
    let mut large = both.connect().await;
    large.send(&format!("PUT {K}"), &[], b"large").await;
    assert_eq!(large.receive(false).await.unwrap().problem(), "value-too-large");
    assert!(silent.closed().await);
    both.api.end().await;
}
