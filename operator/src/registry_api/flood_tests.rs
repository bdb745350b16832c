//! An honest request while others flood the port: real sockets, each caller with a source address of its own.

use std::net::SocketAddr;
use std::time::Duration;

use sidegrid_core::MemberId;
use sidegrid_net::LeafRequest;
use sidegrid_net::service::{ServiceAuthority, ServiceCertificate, ServiceTls};
use sidegrid_registry::Enrol;
use sidegrid_registry::api::EnrolRequest;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::served_tests::{DAY, files, operator_client, registry};
use super::tests::world;
use super::*;
use crate::serving::{Ending, ServeLimits, serve};

/// Small, so that a test's file descriptors fill it.
const LIMITS: ServeLimits = ServeLimits { connections: 48, per_source: 12, unproved_per_source: 6 };
/// Addresses that the flood comes from, each with more connections than its share.
const FLOODERS: u8 = 8;
const EACH: usize = 12;
/// What an honest request may take under it.
const IN_TIME: Duration = Duration::from_secs(2);

async fn from(last: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 1, last], 0).into()).unwrap();
    tokio::time::timeout(Duration::from_millis(500), socket.connect(to)).await.ok()?.ok()
}

/// Opens connections over and over, silent ones and such that speak no TLS, until it is dropped.
async fn flood(last: u8, to: SocketAddr) {
    let mut open = std::collections::VecDeque::new();
    loop {
        if let Some(mut stream) = from(last, to).await {
            if open.len() % 2 == 0 {
                let _closed = stream.write_all(b"POST /v1/enrol HTTP/1.1\r\n").await;
            }
            open.push_back(stream);
        }
        if open.len() > EACH {
            open.pop_front();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_enrolment_is_quick_while_others_flood_the_port() {
    let (api, state) = world().await;
    let files = files("flood");
    let authority = ServiceAuthority::generate("test", DAY).unwrap();
    std::fs::write(&files.ca, &authority.cert_pem).unwrap();
    let certificate = ServiceCertificate::new(&authority.issue(&["localhost".to_owned()], DAY).unwrap()).unwrap();
    let tls = ServiceTls::registry(certificate, state.trusted()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ending = Ending { token: CancellationToken::new(), drain: Duration::ZERO };
    let tasks = TaskTracker::new();
    tasks.spawn(serve(listener, tls, router(state.clone()), LIMITS, ending.clone()));
    let stop = CancellationToken::new();
    for last in 1..=FLOODERS {
        let stop = stop.clone();
        // Both branches are cancel safe.
        tasks.spawn(async move {
            tokio::select! { () = stop.cancelled() => {}, () = flood(last, address) => {} }
        });
    }
    // The flood has filled every place: whoever comes from an address that has none of them is let in all the same.
    tokio::time::timeout(Duration::from_secs(30), async { while from(FLOODERS + 1, address).await.is_none() {} })
        .await
        .unwrap();
    for member in 1..=5 {
        let client = operator_client(address.port(), &files);
        let registry = registry(&client, &files.token);
        let key = LeafRequest::new().unwrap();
        let request = EnrolRequest { member: MemberId(member), request: key.request_pem().unwrap() };
        let enrolled = tokio::time::timeout(IN_TIME, registry.enrol(request)).await;
        assert!(matches!(enrolled, Ok(Ok(_))), "{:?}", enrolled.map(|done| done.err()));
    }
    stop.cancel();
    ending.token.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(30), tasks.wait()).await.unwrap();
    files.remove();
    api.done();
}
