//! More load than the links between members carry.

use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::operation::{Applied, Condition, OperationKind, RefusalReason};
use sidegrid_core::view::Replicas;
use sidegrid_core::{Event, MemberId, Time};

use crate::world::World;

const TWO: Replicas = Replicas::Count(2);
const VALUE: usize = 256 << 10;

fn large() -> OperationKind {
    OperationKind::Put {
        value: Bytes::from_static(&[0; VALUE]),
        content_type: None,
        ttl: None,
        condition: Condition::Always,
        return_previous: false,
    }
}

/// What became of the writes of a run.
#[derive(Debug, Default)]
struct Load {
    stored: usize,
    refused: usize,
    /// Longest from asking to a refusal.
    latest_refusal: Duration,
}

/// Puts large values of `keys` at each of `members` so many times a second for a while.
fn load(world: &mut World, members: &[u64], keys: &[String], per_second: u64, seconds: u64) -> Load {
    let began = world.now;
    let until = began + Duration::from_secs(seconds);
    let mut waiting: Vec<(u64, Time)> = Vec::new();
    let (mut load, mut sent) = (Load::default(), 0_u64);
    while world.now < until || !waiting.is_empty() {
        let due = world.now.since(began).as_millis() as u64 * per_second / 1_000;
        while world.now < until && sent < due {
            for member in members {
                waiting.push((world.submit(*member, &keys[sent as usize % keys.len()], large()), world.now));
            }
            sent += 1;
        }
        waiting.retain(|(ticket, asked)| match world.told(*ticket) {
            None => true,
            Some(Ok(_)) => {
                load.stored += 1;
                false
            }
            Some(Err(refusal)) => {
                assert_eq!((refusal.reason, refusal.applied), (RefusalReason::Overloaded, Applied::No));
                load.refused += 1;
                load.latest_refusal = load.latest_refusal.max(world.now.since(*asked));
                false
            }
        });
        world.run(Duration::from_millis(1));
    }
    load
}

fn keys_of(world: &World, primary: u64) -> Vec<String> {
    let keys = (0..200).map(|i| format!("k{i}"));
    keys.filter(|key| world.primary_of(key) == MemberId(primary)).take(32).collect()
}

/// B-1, W-5: at 110 % of what a link carries, members stay members, almost all of it is used, the rest is refused early, and
/// nothing is sent twice.
#[test]
fn overload_is_refused_early_and_nobody_is_suspected() {
    for (speed, per_second) in [(100_000_000, 420), (10_000_000, 42)] {
        let mut world = World::of(2, TWO);
        let keys = keys_of(&world, 1);
        world.links.speed = Some(speed);
        let swaps = world.swaps.len();
        let load = load(&mut world, &[1], &keys, per_second, 8);
        let best = speed as usize * 8 / VALUE;
        assert!(load.stored >= best * 9 / 10, "{load:?} of {best}");
        assert!(load.refused > 0 && load.latest_refusal <= Duration::from_millis(5), "{load:?}");
        assert_eq!(world.swaps.len(), swaps, "the view changed");
        assert!(world.nodes.values().all(|n| !n.suspected_anybody()), "overload was taken for death");
        assert!(world.links.longest <= Duration::from_millis(500), "queued for {:?}", world.links.longest);
        let again = world.links.writes.values().filter(|sent| **sent > 1).count();
        assert!(again <= world.links.writes.len() / 50, "{again} of {} were sent again", world.links.writes.len());
    }
}

/// B-1: forwarded writes are bounded in the same way: the value is not carried to the primary again and again.
#[test]
fn forwarded_overload_is_refused_early_too() {
    let mut world = World::of(3, TWO);
    let keys: Vec<String> = (0..32).map(|i| format!("k{i}")).collect();
    world.links.speed = Some(100_000_000);
    let swaps = world.swaps.len();
    let load = load(&mut world, &[1, 2, 3], &keys, 700, 4);
    assert!(load.refused > 0 && load.stored > 1_000, "{load:?}");
    assert_eq!(world.swaps.len(), swaps, "the view changed");
    assert!(world.nodes.values().all(|n| !n.suspected_anybody()), "overload was taken for death");
    assert!(world.links.longest <= Duration::from_millis(600), "queued for {:?}", world.links.longest);
}

/// A link that takes seconds for what is outstanding makes progress, and is not taken for death; one that takes nothing is.
#[test]
fn only_no_progress_is_stuck() {
    let mut world = World::of(2, TWO);
    let keys = keys_of(&world, 1);
    world.links.speed = Some(1_000_000);
    let slow = load(&mut world, &[1], &keys, 100, 6);
    assert!(slow.stored >= 20, "{slow:?}");
    assert!(world.nodes.values().all(|n| !n.suspected_anybody()), "a slow link was taken for death");
    world.links.speed = None;
    world.settle();
    world.keep = |m| matches!(m, sidegrid_core::message::Message::Replicate { .. });
    world.submit(1, &keys[0], large());
    world.until("it is suspected", |w| w.nodes[&1].suspected_anybody());
}

/// W-5: a write goes out once on a connection, and again at once on a new one.
#[test]
fn a_new_connection_is_sent_what_the_old_one_may_have_lost() {
    let mut world = World::of(2, TWO);
    let keys = keys_of(&world, 1);
    world.keep = |m| matches!(m, sidegrid_core::message::Message::Replicate { .. });
    let ticket = world.submit(1, &keys[0], large());
    world.run(Duration::from_millis(90));
    assert_eq!(world.kept.len(), 1, "sent once");
    world.kept.clear();
    world.keep = |_| false;
    let port = sidegrid_core::event::Port::Data;
    world.step(1, Event::Connected { peer: MemberId(2), port });
    world.run(Duration::from_millis(1));
    assert!(world.told(ticket).is_some_and(|told| told.is_ok()), "not sent again on the new connection");
}
