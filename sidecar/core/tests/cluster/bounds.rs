//! Bounds of caches that hold at every instant, at the primary and at the copies.

use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::operation::{Applied, Condition, OperationKind, RefusalReason};
use sidegrid_core::view::Replicas;

use crate::map::Bounds;
use crate::world::World;

const TWO: Replicas = Replicas::Count(2);

fn put_of(size: usize, ttl: Option<Duration>) -> OperationKind {
    let value = Bytes::from(vec![0; size]);
    OperationKind::Put { value, content_type: None, ttl, condition: Condition::Always, return_previous: false }
}

/// What became of a run's writes.
#[derive(Debug, Default)]
struct Run {
    stored: u64,
    refused: u64,
}

/// Puts new keys, so many a second in all, at three members in turn.
fn put_new_keys(world: &mut World, per_second: u64, time: Duration, kind: &OperationKind) -> Run {
    let began = world.now;
    let (mut run, mut sent, mut waiting) = (Run::default(), 0_u64, Vec::new());
    while world.now.since(began) < time {
        let due = world.now.since(began).as_millis() as u64 * per_second / 1_000;
        while sent < due {
            waiting.push(world.submit(1 + sent % 3, &format!("k{sent}"), kind.clone()));
            sent += 1;
        }
        world.run(Duration::from_millis(1));
        waiting.retain(|ticket| match world.told(*ticket) {
            None => true,
            Some(Ok(_)) => {
                run.stored += 1;
                false
            }
            Some(Err(refusal)) => {
                assert_eq!((refusal.reason, refusal.applied), (RefusalReason::Overloaded, Applied::No));
                run.refused += 1;
                false
            }
        });
    }
    run
}

/// E-4, E-3: removals keep pace with 20,000 new keys a second, at every member.
#[test]
fn new_keys_never_pass_the_bound_on_entries_by_more_than_the_margin() {
    let mut world = World::bounded(3, TWO, Bounds { entries: Some(10_000), bytes: None });
    world.links.speed = Some(100_000_000);
    let run = put_new_keys(&mut world, 20_000, Duration::from_secs(3), &put_of(16, None));
    assert!(run.stored >= 57_000, "{run:?}");
    for (id, node) in &world.nodes {
        let (held, most) = node.store.held();
        assert!(most.entries <= 11_000, "{id} held {most:?}");
        // Groups are few here: a member with two thirds of the others' holds two thirds.
        assert!(held.entries >= 6_000, "{id} holds {held:?} only");
    }
}

/// E-4: values as large as a sixteenth of the bound.
#[test]
fn large_values_never_pass_the_bound_on_bytes_by_more_than_the_margin() {
    for speed in [100_000_000, 2_000_000_000] {
        let mut world = World::bounded(3, TWO, Bounds { entries: None, bytes: Some(16 << 20) });
        world.links.speed = Some(speed);
        let run = put_new_keys(&mut world, 60, Duration::from_secs(4), &put_of(1 << 20, None));
        assert!(run.stored >= 60, "{run:?}");
        for (id, node) in &world.nodes {
            let (held, most) = node.store.held();
            assert!(most.bytes <= 20 << 20, "{id} held {most:?}");
            // One has two groups of four, the others three: it holds less than they when they are at their bound.
            assert!(held.bytes >= 6 << 20, "{id} holds {held:?} only");
        }
    }
}

/// E-4: what expires goes as fast as it comes.
#[test]
fn what_has_expired_does_not_pile_up() {
    let mut world = World::of(3, TWO);
    let kind = put_of(16, Some(Duration::from_millis(500)));
    let run = put_new_keys(&mut world, 10_000, Duration::from_secs(4), &kind);
    assert_eq!(run.refused, 0);
    // Each member holds two thirds of the 5,000 that live.
    for (id, node) in &world.nodes {
        let (_, most) = node.store.held();
        assert!(most.entries <= 3_333 * 12 / 10, "{id} held {most:?}");
    }
    world.run(Duration::from_secs(1));
    assert!(world.nodes.values().all(|node| node.store.held().0.entries == 0));
}
