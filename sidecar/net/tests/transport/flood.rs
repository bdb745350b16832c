//! One address opens connections and says nothing: others get in all the same.

use std::net::SocketAddr;
use std::time::Duration;

use sidegrid_net::Plane;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::node::{Node, Options, any_port, eventually};

/// Silent connections held at a time, far more than may be in their handshake.
const HELD: usize = 300;

async fn silent(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse().expect("an address"))?;
    socket.connect(to).await
}

/// Opens a silent connection again each time that the last one is closed.
async fn flood(from: &'static str, to: SocketAddr) {
    loop {
        if let Ok(mut stream) = silent(from, to).await {
            let _closed = stream.read(&mut [0; 64]).await;
        }
        tokio::task::yield_now().await;
    }
}

/// A join, and a redial, beside a flood of both ports by one address. The handshake's time is so long that whoever had to
/// wait for one of the silent ones would wait in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_by_one_address_keeps_nobody_else_out() {
    let ports = any_port();
    let mut options = Options::of(1);
    options.limits.handshake_timeout = Duration::from_secs(600);
    let node = Node::with(1, Some(&ports), options);
    let mut flooding = JoinSet::new();
    for address in [node.member.data_address, node.member.failure_detection_address] {
        for _ in 0..HELD / 2 {
            flooding.spawn(flood("127.0.0.9", address));
        }
    }
    for plane in Plane::ALL {
        eventually("the flood at its bound", || node.failures(plane, "too-many-handshakes") > 100).await;
    }
    for what in ["join", "redial"] {
        let began = Instant::now();
        let mut client = Node::with(2, None, Options::of(2));
        client.mesh.set_peers(vec![node.member.clone()]);
        client.wait_reached(node.id()).await;
        println!("{what}: {:?}", began.elapsed());
        client.mesh.stop().await;
    }
    for plane in Plane::ALL {
        assert!(node.failures(plane, "displaced-in-handshake") > 0, "{plane}");
    }
    flooding.shutdown().await;
}
