//! Control messages go ahead of data, down to the socket; a connection's end drops the data that waits for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use sidegrid_core::member::Member;
use sidegrid_net::counters::Dropped;
use sidegrid_net::{Inbound, Plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::node::{Node, Options, any_port, data, eventually, is_data};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A link to a data port that passes on only as many bytes as the test allows, over small buffers.
struct Link {
    address: SocketAddr,
    allowed: Arc<Semaphore>,
    breaks: watch::Sender<u64>,
    passing: JoinSet<()>,
}

impl Link {
    async fn to(member: &Member) -> Link {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let (allowed, to) = (Arc::new(Semaphore::new(64 * KIB)), member.data_address);
        let mut passing = JoinSet::new();
        let permits = Arc::clone(&allowed);
        let breaks = watch::Sender::new(0);
        let broken = breaks.clone();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (permits, mut broken) = (Arc::clone(&permits), broken.subscribe());
                connections.spawn(async move {
                    let far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        () = pass(near, far, &permits) => {}
                        _ = broken.changed() => {}
                    }
                });
            }
        });
        Link { address, allowed, breaks, passing }
    }

    /// Lets everything through from now on.
    fn open(&self) {
        self.allowed.add_permits(1 << 40);
    }

    /// Ends the connection that stands; the next one gets through.
    fn break_connection(&self) {
        self.breaks.send_modify(|n| *n += 1);
    }

    /// Closes what stands.
    async fn cut(mut self) {
        self.passing.shutdown().await;
    }
}

async fn pass(near: TcpStream, far: TcpStream, permits: &Semaphore) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let forth = async {
        let mut bytes = vec![0; 8 * KIB];
        while let Ok(count @ 1..) = from_near.read(&mut bytes).await {
            permits.acquire_many(u32::try_from(count).unwrap()).await.unwrap().forget();
            if to_far.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forth => {}
        _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
    }
}

/// Two nodes and a link between them that is full.
async fn connected(a_ports: &sidegrid_net::Listeners, b_ports: &sidegrid_net::Listeners) -> (Node, Node, Link) {
    let mut options = Options::of(1);
    options.limits.data_unacknowledged = std::time::Duration::from_secs(600);
    let mut a = Node::with(1, Some(a_ports), options);
    let b = Node::start(2, b_ports);
    let link = Link::to(&b.member).await;
    let member = Member { data_address: link.address, ..b.member.clone() };
    a.mesh.set_peers(vec![member]);
    a.wait_reached(b.id()).await;
    (a, b, link)
}

/// Waits until nothing more gets through the link.
async fn until_stuck(a: &Node, link: &Link) {
    eventually("a full link", || link.allowed.available_permits() < 8 * KIB).await;
    let mut sent = (0, 0);
    eventually("a full socket", || {
        let now = a.figures(Plane::Data).bytes_out;
        sent = if now == sent.0 { (now, sent.1 + 1) } else { (now, 0) };
        sent.1 > 50
    })
    .await;
}

/// How many messages of data come before `text`, of so many sent.
async fn data_before(b: &mut Node, text: &str, sent: usize) -> usize {
    let (mut count, mut before) = (0, None);
    let expected = crate::node::message(text);
    b.wait_for("all of it", |inbound| {
        count += usize::from(is_data(inbound));
        if matches!(inbound, Inbound::Envelope { envelope, .. } if *envelope == expected) {
            before = Some(count);
        }
        before.filter(|_| count == sent)
    })
    .await
}

#[tokio::test]
async fn a_control_message_overtakes_the_values_that_wait() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let (a, mut b, link) = connected(&a_ports, &b_ports).await;
    for _ in 0..80 {
        a.mesh.send(b.id(), &data(0, 256 * KIB));
    }
    until_stuck(&a, &link).await;
    a.say(b.id(), "a vote");
    link.open();
    let before = data_before(&mut b, "a vote", 80).await;
    println!("{before} values of 80 before a control message");
    assert!(before <= 6, "{before} values of 256 KiB came before a control message");
    link.cut().await;
}

#[tokio::test]
async fn a_control_message_overtakes_a_large_value_that_is_being_sent() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let (a, mut b, link) = connected(&a_ports, &b_ports).await;
    a.mesh.send(b.id(), &data(0, 16 * MIB));
    until_stuck(&a, &link).await;
    assert_eq!(a.figures(Plane::Data).frames_out, 0, "the value is under way");
    a.say(b.id(), "a vote");
    link.open();
    assert_eq!(data_before(&mut b, "a vote", 1).await, 0, "a vote waited for a value of 16 MiB");
    link.cut().await;
}

/// B-1: what data fills is data's.
#[tokio::test]
async fn data_never_makes_a_control_message_be_dropped() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let (a, mut b, link) = connected(&a_ports, &b_ports).await;
    let mut sent = 0;
    // Until not even a small one fits.
    for (refused, bytes) in (1..).zip([MIB, KIB, 1]) {
        while a.counters.dropped(Dropped::QueueFull) < refused {
            a.mesh.send(b.id(), &data(0, bytes));
            sent += 1;
        }
        until_stuck(&a, &link).await;
    }
    a.say(b.id(), "a vote");
    assert_eq!((a.counters.dropped(Dropped::QueueFull), a.counters.dropped(Dropped::ControlQueueFull)), (3, 0));
    link.open();
    data_before(&mut b, "a vote", sent - 3).await;
    link.cut().await;
}

/// What waits when a connection breaks is not sent on the next one: the core sends again what it still needs.
#[tokio::test]
async fn a_broken_connection_drops_its_data_and_keeps_control() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let (mut a, mut b, link) = connected(&a_ports, &b_ports).await;
    for _ in 0..20 {
        a.mesh.send(b.id(), &data(1, MIB));
    }
    until_stuck(&a, &link).await;
    a.say(b.id(), "a vote");
    a.waiting();
    link.break_connection();
    link.open();
    a.wait_plane(b.id(), Plane::Data, true).await;
    assert!(a.counters.dropped(Dropped::ConnectionLost) >= 19);
    a.mesh.send(b.id(), &data(2, 10));
    let first = b.wait_for("the first data", |inbound| match inbound {
        Inbound::Envelope { envelope, .. } if is_data(inbound) => Some(envelope.clone()),
        _ => None,
    });
    assert_eq!(first.await, data(2, 10), "data of the broken connection was sent on the next one");
    link.cut().await;
}
