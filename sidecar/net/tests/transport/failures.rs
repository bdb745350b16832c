//! Peers that die, come back, or are replaced.

use sidegrid_core::MemberId;
use sidegrid_net::{Inbound, Plane};

use crate::node::{CLUSTER, DAY, Node, Options, any_port, eventually, leaf, same_ports};

use sidegrid_net::{Authority, TlsConfig, TlsMode};

/// A dead peer is told as soon as a fresh dial fails, and told again as reached once it is back.
#[tokio::test]
async fn a_dead_peer_is_unreachable_and_reached_again() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    let b_member = b.member.clone();
    a.mesh.set_peers(vec![b_member.clone()]);
    a.wait_reached(b_member.id).await;

    b.mesh.stop().await;
    drop(b_ports);
    a.wait_unreachable(b_member.id).await;
    a.say(b_member.id, "lost");

    let b_ports = same_ports(&b_member);
    let mut b = Node::start(2, &b_ports);
    a.wait_reached(b.id()).await;
    a.say(b.id(), "welcome back");
    assert_eq!(b.wait_text("welcome back").await, a.id());
}

/// A peer that was never reached is not told as lost: nothing of it has ended.
#[tokio::test]
async fn a_peer_never_reached_is_not_unreachable() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    let b_member = b.member.clone();
    b.mesh.stop().await;
    drop(b_ports);
    a.mesh.set_peers(vec![b_member]);
    eventually("failed dials", || a.failures(Plane::Data, "connection-refused") > 1).await;
    eventually("failed dials", || a.failures(Plane::FailureDetection, "connection-refused") > 1).await;
    assert!(!a.waiting().iter().any(|i| matches!(i, Inbound::Unreachable { .. })));
}

/// A second incarnation takes the same ports over at once. Whoever knew the first one finds another member in its
/// place, which shows that the first is gone.
#[tokio::test]
async fn a_second_incarnation_takes_the_same_ports() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let first = Node::start(2, &b_ports);
    let first_id = first.id();
    a.mesh.set_peers(vec![first.member.clone()]);
    a.wait_reached(first_id).await;

    first.mesh.stop().await;
    let mut second = Node::start(3, &b_ports);
    assert_eq!(second.member.data_address, first.member.data_address);
    a.wait_unreachable(first_id).await;
    assert!(
        a.failures(Plane::Data, "unexpected-member") + a.failures(Plane::FailureDetection, "unexpected-member") > 0
    );

    a.mesh.set_peers(vec![second.member.clone()]);
    a.wait_reached(second.id()).await;
    a.say(second.id(), "who are you?");
    assert_eq!(second.wait_text("who are you?").await, a.id());
    second.mesh.set_peers(vec![a.member.clone()]);
    second.wait_reached(a.id()).await;
}

/// A fault of certificates proves nothing about the peer.
#[tokio::test]
async fn a_certificate_fault_is_not_absence() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;

    // From now on nobody takes A's certificate, nor A theirs.
    let other = Authority::generate(CLUSTER, DAY).unwrap();
    let foreign = TlsConfig::new(&other.cert_pem, &leaf(&other, CLUSTER, 2), CLUSTER, MemberId(2)).unwrap();
    b.mesh.stop().await;
    let b = Node::with(2, Some(&b_ports), Options { tls: TlsMode::Mutual(foreign), ..Options::of(2) });
    for plane in Plane::ALL {
        eventually("a refusal", || a.failures(plane, "unknown-issuer") > 1).await;
    }
    let told = a.waiting();
    assert!(!told.iter().any(|i| matches!(i, Inbound::Unreachable { .. })), "{told:?}");
    drop(b);
}

/// A sender that dials again takes the place of its older connection, which is closed.
#[tokio::test]
async fn a_newer_connection_of_a_sender_replaces_the_older() {
    let b_ports = any_port();
    let mut b = Node::start(2, &b_ports);
    let mut older = Node::with(1, None, Options::of(1));
    older.mesh.set_peers(vec![b.member.clone()]);
    older.wait_reached(b.id()).await;
    older.say(b.id(), "first");
    b.wait_text("first").await;

    let mut newer = Node::with(1, None, Options::of(1));
    newer.mesh.set_peers(vec![b.member.clone()]);
    newer.wait_reached(b.id()).await;
    for plane in Plane::ALL {
        let closed = || {
            let failures = older.figures(plane).failures;
            ["closed", "connection-lost"].iter().any(|reason| failures.contains_key(reason))
        };
        eventually("the older one's end", closed).await;
    }
}

/// Dropping a peer closes our connections to it, and nothing is told of it.
#[tokio::test]
async fn a_peer_let_go_is_disconnected() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;
    a.mesh.set_peers(Vec::new());
    for plane in Plane::ALL {
        let ended = || b.failures(plane, "closed") + b.failures(plane, "connection-lost") > 0;
        eventually("the connection's end", ended).await;
    }
    let told = a.waiting();
    assert!(!told.iter().any(|i| matches!(i, Inbound::Unreachable { .. })), "{told:?}");
}

/// A port is reported by itself: the data port of a peer that answers pings can be unreachable, and its pings don't change
/// that.
#[tokio::test]
async fn each_port_is_reported_by_itself() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let member = sidegrid_core::member::Member { data_address: door.local_addr().unwrap(), ..b.member.clone() };
    a.mesh.set_peers(vec![member]);
    let to = b.member.data_address;
    let mut relay = tokio::task::JoinSet::new();
    relay.spawn(async move {
        let (mut near, _) = door.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
        let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    a.wait_plane(b.id(), Plane::Data, true).await;
    a.wait_reached(b.id()).await;
    relay.shutdown().await;
    a.wait_plane(b.id(), Plane::Data, false).await;
    let echoes = a.beat.echoes_of(2);
    eventually("pings that go on", || a.beat.echoes_of(2) > echoes + 3).await;
    let later = a.waiting();
    let undone =
        |i: &Inbound| matches!(i, Inbound::Connected { .. } | Inbound::Reached(_) | Inbound::Unreachable { .. });
    assert!(!later.iter().any(undone), "{later:?}");
}
