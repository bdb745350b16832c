//! Bounds hold (B-1).

use std::time::Duration;

use sidegrid_core::message::Envelope;
use sidegrid_net::counters::Dropped;
use sidegrid_net::{Inbound, NetLimits, Plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{Node, Options, any_port, data, eventually};

const MIB: usize = 1 << 20;

fn large() -> Envelope {
    data(0, MIB)
}

/// A reader that takes nothing makes its sender drop frames; neither side holds more than its bounds.
#[tokio::test]
async fn a_slow_reader_costs_frames_not_memory() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a_options = Options::of(1);
    a_options.limits.data_queue.bytes = 4 * MIB;
    // The slow reader's window stays shut for long; that is not what is tried here.
    a_options.limits.data_unacknowledged = Duration::from_secs(600);
    let mut b_options = Options::of(2);
    b_options.limits.inbound_bytes = 2 * MIB;
    b_options.limits.frame_bytes = 2 * MIB;
    let mut a = Node::with(1, Some(&a_ports), a_options);
    let mut b = Node::with(2, Some(&b_ports), b_options);
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;

    let large = large();
    let mut sent = 0_u64;
    eventually("a full queue", || {
        a.mesh.send(b.id(), &large);
        sent += 1;
        a.counters.dropped(Dropped::QueueFull) >= 50
    })
    .await;
    // Queue, kernel buffers on both sides, the reader's hands: a few dozen at most, whatever was sent.
    let taken = sent - a.counters.dropped(Dropped::QueueFull);
    assert!(taken < 40, "{taken} of {sent} frames were taken in");
    // One frame in the driver's hands, one waiting for room, none more, are off the wire.
    assert!(b.figures(Plane::Data).frames_in <= 3, "{:?}", b.figures(Plane::Data));

    // Bulk data does not hold up pings.
    let echoes = a.beat.echoes_of(2);
    eventually("echoes beside a stuck data connection", || a.beat.echoes_of(2) > echoes + 2).await;

    // Once it reads, all goes on.
    let mut got = 0;
    b.wait_for("what was queued", |inbound| {
        got += u64::from(matches!(inbound, Inbound::Envelope { .. }));
        (got == taken).then_some(())
    })
    .await;
    a.say(b.id(), "go on");
    b.wait_text("go on").await;
}

/// A message larger than any frame is dropped where it is sent, and the connection goes on.
#[tokio::test]
async fn a_message_too_large_is_dropped_by_its_sender() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let limits = NetLimits { frame_bytes: MIB, ..NetLimits::default() };
    let mut a = Node::with(1, Some(&a_ports), Options { limits, ..Options::of(1) });
    let mut b = Node::with(2, Some(&b_ports), Options { limits, ..Options::of(2) });
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;
    a.mesh.send(b.id(), &large());
    assert_eq!(a.counters.dropped(Dropped::TooLarge), 1);
    a.say(b.id(), "small");
    b.wait_text("small").await;
    assert_eq!(b.failures(Plane::Data, "frame-too-large"), 0);
}

/// A sender that does not keep to the receiver's bound is disconnected.
#[tokio::test]
async fn a_frame_above_the_receivers_bound_ends_the_connection() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let limits = NetLimits { frame_bytes: MIB / 2, ..NetLimits::default() };
    let mut b = Node::with(2, Some(&b_ports), Options { limits, ..Options::of(2) });
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;
    a.mesh.send(b.id(), &large());
    eventually("the end", || b.failures(Plane::Data, "frame-too-large") == 1).await;
    a.wait_reached(b.id()).await;
    a.say(b.id(), "sorry");
    b.wait_text("sorry").await;
}

/// Who says nothing is closed; of one address, no more of those are taken at one time than there may be.
#[tokio::test]
async fn silent_connections_are_closed_and_bounded() {
    let ports = any_port();
    let mut options = Options::of(1);
    options.limits.handshakes = 4;
    options.limits.handshake_timeout = Duration::from_millis(200);
    let node = Node::with(1, Some(&ports), options);
    for address in [node.member.data_address, node.member.failure_detection_address] {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        for stream in &mut silent {
            let mut rest = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "a silent connection stays open");
        }
    }
    for plane in Plane::ALL {
        let ended = || ["handshake-timeout", "too-many-handshakes"].map(|reason| node.failures(plane, reason));
        eventually("all of them counted", || ended().iter().sum::<u64>() == 20).await;
        assert!(ended().iter().all(|&count| count > 0), "{:?}", ended());
    }
    let mut client = Node::with(2, None, Options::of(2));
    client.mesh.set_peers(vec![node.member.clone()]);
    client.wait_reached(node.id()).await;
}

/// Above the bound on connections the next one is closed at once, and those that stand are served on.
#[tokio::test]
async fn connections_above_the_bound_are_closed() {
    let ports = any_port();
    let mut options = Options::of(1);
    options.limits.connections = 1;
    let mut node = Node::with(1, Some(&ports), options);
    let mut first = Node::with(2, None, Options::of(2));
    first.mesh.set_peers(vec![node.member.clone()]);
    first.wait_reached(node.id()).await;
    let mut second = TcpStream::connect(node.member.data_address).await.unwrap();
    let _ = second.write_all(b"let me in").await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), second.read_to_end(&mut rest)).await;
    assert!(closed.is_ok() && rest.is_empty(), "the one too many stays open");
    assert_eq!(node.figures(Plane::Data).refused_at_limit, 1);
    first.say(node.id(), "still here");
    node.wait_text("still here").await;
}
