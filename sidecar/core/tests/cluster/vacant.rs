//! Groups whose last in-sync owners were excluded (V-9).

use std::time::Duration;

use sidegrid_core::MemberId;
use sidegrid_core::event::Notice;
use sidegrid_core::operation::{Applied, OperationKind, RefusalReason};
use sidegrid_core::view::Replicas;

use crate::world::{World, put};

const ONE: Replicas = Replicas::Count(1);
const TWO: Replicas = Replicas::Count(2);

fn lost(world: &World) -> bool {
    world.nodes.values().any(|n| n.notices.iter().any(|n| matches!(n, Notice::GroupsLost { .. })))
}

fn keys() -> Vec<String> {
    (0..20).map(|i| format!("k{i}")).collect()
}

/// V-9: a cache with one owner doesn't hold up the writes of another.
#[test]
fn an_exclusion_waits_for_no_copies() {
    let mut world = World::with(3, vec![TWO, ONE]);
    world.crash(3);
    let began = world.now;
    let tickets: Vec<u64> = keys().iter().map(|key| world.submit_to(0, 1, key, put("v"))).collect();
    world.until("all are written", |w| tickets.iter().all(|t| w.told(*t).is_some_and(|told| told.is_ok())));
    let took = world.now.since(began);
    assert!(took <= Duration::from_millis(800), "{took:?}");
}

/// V-9: a member that was excluded by mistake comes back with the entries that it alone held; meanwhile they are refused.
#[test]
fn a_frozen_member_comes_back_with_its_only_copies() {
    for replicas in [ONE, TWO] {
        let mut world = World::with(4, vec![replicas]);
        for key in keys() {
            world.put(1, &key, "v");
        }
        // All owners of some keys, and not the one that is asked.
        let frozen = keys().iter().map(|key| world.owners_of(key)).find(|owners| !owners.contains(&1)).unwrap();
        for id in &frozen {
            world.nodes.get_mut(id).unwrap().down = true;
        }
        world.run(Duration::from_secs(3));
        assert_eq!(world.members(1), (1..=4).filter(|id| !frozen.contains(id)).collect::<Vec<_>>());
        let reads: Vec<u64> = keys().iter().map(|key| world.submit(1, key, OperationKind::Get)).collect();
        world.run(Duration::from_millis(50));
        let refused: Vec<_> = reads.iter().filter_map(|t| world.told(*t)?.err()).collect();
        assert!(!refused.is_empty(), "no key was theirs alone");
        assert!(refused.iter().all(|r| (r.reason, r.applied) == (RefusalReason::NoOwner, Applied::No)));
        for id in &frozen {
            world.nodes.get_mut(id).unwrap().down = false;
        }
        world.until("they hear of it", |w| frozen.iter().all(|id| w.nodes[id].superseded));
        for id in &frozen {
            world.resume(*id, id + 10, &format!("lock-{id}"));
        }
        world.until("they are back", |w| frozen.iter().all(|id| w.members(1).contains(&(id + 10))));
        world.settle();
        assert!(!lost(&world), "a group started empty");
        for key in keys() {
            assert_eq!(world.get(1, &key), Some("v".into()), "{key}");
            world.put(1, &key, "w");
        }
    }
}

/// V-9: with all last owners proved dead, nobody is waited for: the groups start empty, and it is reported.
#[test]
fn groups_of_the_proved_dead_start_empty_at_once() {
    let mut world = World::of(3, ONE);
    for key in keys() {
        world.put(1, &key, "v");
    }
    world.crash(3);
    world.start(4, "lock-3");
    let took = world.until("no group is vacant", |w| {
        w.view(1).is_some_and(|v| !v.contains(MemberId(3)) && v.vacant().next().is_none())
    });
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(lost(&world));
    world.settle();
    for key in keys() {
        world.put(1, &key, "w");
    }
}

/// V-9: when none of the last owners comes back, the groups start empty after `orphanWait`, and not before.
#[test]
fn nobody_is_waited_for_longer_than_orphan_wait() {
    let mut world = World::of(3, ONE);
    world.crash(3);
    world.until("it is out", |w| w.members(1) == [1, 2]);
    let vacant = |w: &World| w.view(1).is_some_and(|v| v.vacant().next().is_some());
    assert!(vacant(&world));
    let took = world.until("no group is vacant", |w| !vacant(w));
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
    assert!(lost(&world));
    for key in keys() {
        world.put(1, &key, "w");
    }
}
