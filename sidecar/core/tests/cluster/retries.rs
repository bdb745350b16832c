//! What is remembered of operations with an `Idempotency-Key`: for how long, within which bounds, and what else is promised.

use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::gate::GateRead;
use sidegrid_core::limits::Limits;
use sidegrid_core::message::Message;
use sidegrid_core::operation::{Applied, Condition, Idempotency, OperationKind, Outcome, Refusal, RefusalReason};
use sidegrid_core::storage::CacheKey;
use sidegrid_core::view::Replicas;
use sidegrid_core::{CacheId, GroupId, SegmentId};

use crate::world::{Told, World, put};

const TWO: Replicas = Replicas::Count(2);
const LIFE: Duration = Duration::from_secs(3);
/// As `Map` says.
const BUDGET: i64 = 1 << 20;

fn world() -> World {
    World::limited(3, TWO, Limits { keyed_result_life: LIFE, ..Limits::default() })
}

fn add(by: i64) -> OperationKind {
    OperationKind::Increment { by, initial: 0, ttl: None }
}

fn swap(value: &Bytes) -> OperationKind {
    OperationKind::Put {
        value: value.clone(),
        content_type: None,
        ttl: None,
        condition: Condition::Always,
        return_previous: true,
    }
}

fn ask(world: &mut World, id: u64, key: &str, kind: OperationKind, idempotency: u128, age: Option<Duration>) -> Told {
    let idempotency = Idempotency::new(idempotency, &kind, age);
    let ticket = world.submit_with(id, key, kind, Some(idempotency));
    world.until("an answer", |w| w.told(ticket).is_some());
    world.told(ticket).unwrap()
}

fn counter(told: &Told) -> i64 {
    match told.as_ref().map(|answer| &answer.outcome) {
        Ok(Outcome::Counter { value, .. }) => *value,
        other => panic!("{other:?}"),
    }
}

fn refused(reason: RefusalReason, applied: Applied) -> Told {
    Err(Refusal { reason, applied })
}

/// O-1, O-4: a retry within the time gets the first answer, at whichever member; a later one that says its age is refused and
/// never applied, and one that doesn't is new.
#[test]
fn a_key_is_remembered_for_its_time_and_an_older_one_is_refused() {
    let mut world = world();
    assert_eq!(counter(&ask(&mut world, 1, "k", add(1), 7, Some(Duration::ZERO))), 1);
    world.run(LIFE - Duration::from_millis(200));
    for id in [1, 2, 3] {
        let age = LIFE - Duration::from_millis(100);
        assert_eq!(counter(&ask(&mut world, id, "k", add(1), 7, Some(age))), 1);
    }
    world.run(Duration::from_millis(1_500));
    // Other keyed writes of the group and none of it make no difference.
    assert_eq!(counter(&ask(&mut world, 2, "k", add(0), 8, None)), 1);
    let unknown = refused(RefusalReason::UnknownOperation, Applied::Unknown);
    assert_eq!(ask(&mut world, 3, "k", add(1), 7, Some(LIFE + Duration::from_millis(1_200))), unknown);
    assert_eq!(counter(&ask(&mut world, 1, "k", add(0), 9, None)), 1, "the refused one was applied");
    assert_eq!(counter(&ask(&mut world, 1, "k", add(1), 7, None)), 2, "an opaque key is new after its time");
}

/// O-1, O-4: after a change of the primary the new one remembers too, and no longer than the old one would have.
#[test]
fn a_new_primary_remembers_for_as_long_as_the_old_one() {
    let mut world = world();
    assert_eq!(counter(&ask(&mut world, 1, "k", add(1), 7, None)), 1);
    let primary = world.primary_of("k").0;
    world.crash(primary);
    world.start(4, &format!("lock-{primary}"));
    let at = if primary == 2 { 3 } else { 2 };
    assert_eq!(counter(&ask(&mut world, at, "k", add(1), 7, None)), 1);
    // What is over is forgotten within a second.
    world.run(LIFE + Duration::from_secs(1));
    assert_eq!(counter(&ask(&mut world, at, "k", add(1), 7, None)), 2);
}

/// O-4: the same key with another operation is a mistake, and told so.
#[test]
fn a_key_with_another_operation_is_refused() {
    let mut world = world();
    assert_eq!(counter(&ask(&mut world, 1, "k", add(1), 7, None)), 1);
    let mismatch = refused(RefusalReason::IdempotencyMismatch, Applied::No);
    for kind in [add(2), put("x"), OperationKind::Delete { condition: Condition::Always, return_previous: false }] {
        assert_eq!(ask(&mut world, 2, "k", kind, 7, None), mismatch);
    }
    assert_eq!(counter(&ask(&mut world, 3, "k", add(1), 7, None)), 1);
}

/// B-1: what is remembered is counted and bounded at every copy, one entry can't use it up for others, the refusal comes at
/// once and names it, and all of it is forgotten in time.
#[test]
fn results_are_counted_and_bounded_and_one_entry_can_not_use_them_up() {
    let mut world = world();
    let value = Bytes::from(vec![7; 64 << 10]);
    let (mut stored, mut full) = (0, 0);
    for n in 0..200 {
        let began = world.now;
        match ask(&mut world, 1, "hot", swap(&value), 1_000 + n, None) {
            Ok(_) => stored += 1,
            Err(refusal) => {
                assert_eq!((refusal.reason, refusal.applied), (RefusalReason::ResultsFull, Applied::No));
                full += 1;
            }
        }
        assert!(world.now.since(began) <= Duration::from_millis(5), "not at once");
        for (id, node) in &world.nodes {
            assert!(node.store.results() <= 2 * BUDGET, "{id} remembers {} bytes", node.store.results());
        }
    }
    assert!(stored >= 3 && full > 0, "{stored} stored, {full} refused");
    // Others of the same group, and of others.
    for n in 0..50 {
        assert_eq!(counter(&ask(&mut world, 2, &format!("{{hot}}{n}"), add(1), 5_000 + n, None)), 1);
        assert_eq!(counter(&ask(&mut world, 2, &format!("cold-{n}"), add(1), 6_000 + n, None)), 1);
    }
    world.run(LIFE + Duration::from_secs(2));
    assert!(ask(&mut world, 1, "hot", swap(&value), 9_999, None).is_ok());
    for id in 1..=3 {
        world.put(id, "over", "v");
        world.put(id, "hot", "v");
    }
    for node in world.nodes.values() {
        assert!(node.store.results() < BUDGET / 4, "{} bytes are remembered still", node.store.results());
    }
}

/// a copy whose word that a write is stable was lost asks for it, and answers by itself again.
#[test]
fn a_lost_word_of_what_is_stable_is_asked_for() {
    let mut world = World::of(2, TWO);
    world.keep = |m| matches!(m, Message::Stable(_));
    world.put(1, "k", "v");
    world.run(Duration::from_millis(20));
    assert!(!world.kept.is_empty());
    world.kept.clear();
    world.keep = |_| false;
    world.run(Duration::from_millis(200));
    let group = GroupId::new(0, SegmentId::of(b"k", 4), 4);
    let key = CacheKey { cache: CacheId(0), key: Bytes::from_static(b"k") };
    for node in world.nodes.values() {
        let read = node.core.gate().read(&*node.store, group, &key, || world.now);
        assert!(matches!(read, GateRead::Found(_)), "{read:?}");
    }
}
