//! Members, clients and joiners talk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sidegrid_core::{MemberId, ViewNumber};
use sidegrid_net::counters::Dropped;
use sidegrid_net::{Inbound, Plane, TlsMode};

use crate::node::{Node, Options, any_port, data, eventually, is_data, message};

/// Every member reaches, hears and pings every other.
#[tokio::test]
async fn three_members_talk_to_each_other() {
    let listeners: Vec<_> = (0..3).map(|_| any_port()).collect();
    let mut nodes: Vec<Node> = (1..).zip(&listeners).map(|(id, l)| Node::start(id, l)).collect();
    let members: Vec<_> = nodes.iter().map(|n| n.member.clone()).collect();
    for node in &nodes {
        node.mesh.set_peers(members.clone());
    }
    for node in &mut nodes {
        let me = node.id();
        let mut missing: Vec<MemberId> = members.iter().map(|m| m.id).filter(|id| *id != me).collect();
        // Hearsay of pings may come before or after.
        node.wait_for("both peers", |inbound| {
            if let Inbound::Reached(peer) = inbound {
                missing.retain(|id| id != peer);
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
    for from in &nodes {
        for to in members.iter().filter(|to| to.id != from.id()) {
            from.say(to.id, &format!("{} to {}", from.id(), to.id));
        }
    }
    for node in &mut nodes {
        let me = node.id();
        let mut missing: Vec<MemberId> = members.iter().map(|m| m.id).filter(|id| *id != me).collect();
        node.wait_for("both texts", |inbound| {
            if let Inbound::Envelope { from, envelope, .. } = inbound {
                assert_eq!(*envelope, message(&format!("{from} to {me}")));
                missing.retain(|id| id != from);
            }
            missing.is_empty().then_some(())
        })
        .await;
    }
    for node in &nodes {
        let others = (1..=3).filter(|id| MemberId(*id) != node.id());
        for id in others {
            eventually("an echo", || node.beat.echoes_of(id) > 2).await;
        }
        assert_eq!(node.counters.dropped(Dropped::NoRoute) + node.counters.dropped(Dropped::QueueFull), 0);
    }
    for node in nodes {
        node.mesh.stop().await;
        // No task and no thread is left that could hold it.
        assert_eq!(Arc::strong_count(&node.beat), 1);
    }
}

/// C-8: who is no peer yet is answered on the connection that it dialed itself, even if it listens nowhere.
#[tokio::test]
async fn a_stranger_of_the_cluster_is_answered() {
    let listeners = any_port();
    let mut member = Node::start(1, &listeners);
    let mut client = Node::with(2, None, Options::of(2));
    client.mesh.set_peers(vec![member.member.clone()]);
    client.say(member.id(), "let me in");
    assert_eq!(member.wait_text("let me in").await, client.id());
    client.wait_reached(member.id()).await;
    member.say(client.id(), "who is there?");
    assert_eq!(client.wait_text("who is there?").await, member.id());
    // It is pinged by nobody, but its own pings are answered.
    eventually("an echo", || client.beat.echoes_of(1) > 0).await;

    // A peer that we can't dial, but that has dialed us, is answered there too.
    member.mesh.set_peers(vec![client.member.clone()]);
    eventually("a failed dial", || member.failures(Plane::Data, "connection-refused") > 0).await;
    member.say(client.id(), "still there?");
    client.wait_text("still there?").await;

    member.say(MemberId(99), "nobody");
    assert_eq!(member.counters.dropped(Dropped::NoRoute), 1);
}

/// L-6: pings go at once when told to, and back to whoever has just installed the view, not only each period.
#[tokio::test]
async fn pings_go_at_once_on_command_and_back() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let slow = |id| Options { period: 3_600_000, ..Options::of(id) };
    let mut a = Node::with(1, Some(&a_ports), slow(1));
    let b = Node::with(2, Some(&b_ports), slow(2));
    a.mesh.set_peers(vec![b.member.clone()]);
    eventually("the ping of a new connection", || a.beat.echoes_of(2) == 1).await;
    a.mesh.ping_now();
    eventually("the ping on command", || a.beat.echoes_of(2) == 2).await;
    let heard = a.wait_for("what the echo shows", |inbound| match inbound {
        Inbound::Heard { from, view, confirmed_past } => Some((*from, *view, *confirmed_past)),
        _ => None,
    });
    assert_eq!(heard.await, (MemberId(2), ViewNumber(7), ViewNumber(6)));

    // Without a connection of its own to A, B pings back on A's.
    assert_eq!(a.beat.pings_of(2), 0);
    b.beat.ping_backs.store(1, Ordering::Relaxed);
    a.mesh.ping_now();
    eventually("the ping back on the accepted connection", || b.beat.echoes_of(1) == 1).await;

    // With one, on that.
    b.mesh.set_peers(vec![a.member.clone()]);
    eventually("B's own connection", || b.beat.echoes_of(1) == 2).await;
    b.beat.ping_backs.store(1, Ordering::Relaxed);
    a.mesh.ping_now();
    eventually("the ping back on its own connection", || b.beat.echoes_of(1) == 3).await;
}

/// What was said before a flush arrives, though the mesh stops right after.
#[tokio::test]
async fn flushed_messages_outlive_the_mesh() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let mut a = Node::start(1, &a_ports);
    let mut b = Node::start(2, &b_ports);
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;
    // Far more than one write takes.
    for _ in 0..40 {
        a.mesh.send(b.id(), &data(0, 1 << 20));
    }
    a.say(b.id(), "the last word");
    a.mesh.flush(Duration::from_secs(10)).await;
    a.mesh.stop().await;
    let (mut values, mut texts) = (0, 0);
    b.wait_for("all of it", |inbound| {
        values += usize::from(is_data(inbound));
        texts += usize::from(matches!(inbound, Inbound::Envelope { .. }) && !is_data(inbound));
        (values == 40 && texts == 1).then_some(())
    })
    .await;
}

/// Without TLS the hello says who is who, and it is checked all the same.
#[tokio::test]
async fn plain_connections_carry_identity_in_the_hello() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let plain = |id| Options { tls: TlsMode::Disabled, ..Options::of(id) };
    let mut a = Node::with(1, Some(&a_ports), plain(1));
    let mut b = Node::with(2, Some(&b_ports), plain(2));
    a.mesh.set_peers(vec![b.member.clone()]);
    a.wait_reached(b.id()).await;
    a.say(b.id(), "hello");
    assert_eq!(b.wait_text("hello").await, a.id());

    let mut other = b.member.clone();
    other.id = MemberId(3);
    a.mesh.set_peers(vec![other]);
    eventually("a refusal", || a.failures(Plane::Data, "unexpected-member") > 0).await;
    eventually("a refusal", || a.failures(Plane::FailureDetection, "unexpected-member") > 0).await;
}

/// A data connection to the wrong port is told so.
#[tokio::test]
async fn ports_are_not_confused() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    let mut crossed = b.member.clone();
    std::mem::swap(&mut crossed.data_address, &mut crossed.failure_detection_address);
    a.mesh.set_peers(vec![crossed]);
    eventually("a refusal", || a.failures(Plane::Data, "wrong-port") > 0).await;
    eventually("a refusal", || a.failures(Plane::FailureDetection, "wrong-port") > 0).await;
}
