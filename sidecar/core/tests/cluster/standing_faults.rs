//! What goes on while a fault stands: each test injects one and leaves it, and states by when the others serve again.

use std::time::Duration;

use sidegrid_core::message::Message;
use sidegrid_core::view::Replicas;
use sidegrid_core::{Event, MemberId};

use crate::world::{World, put};

const TWO: Replicas = Replicas::Count(2);

/// V-10: whose registry calls fail, or are not answered, stands back, and the next in order proposes, within a second.
#[test]
fn another_proposes_when_the_coordinator_cannot_reach_the_registry() {
    for silent in [false, true] {
        let mut world = World::of(4, TWO);
        let cut_off = if silent { &mut world.registry_silent } else { &mut world.registry_refuses };
        cut_off.insert(1);
        world.crash(4);
        let took = world.until("the others go on", |w| {
            for id in [1, 2, 3] {
                let shown = w.nodes[&id].core.snapshot(w.now);
                assert!(shown.suspected.is_empty() || shown.waits_for.is_some(), "{id} doesn't say what it waits for");
            }
            w.members(2) == [1, 2, 3]
        });
        assert!(took < Duration::from_secs(1), "silent: {silent}, {took:?}");
        world.settle();
        world.put(1, "k", "v");
        // Planned changes are made by it too: the next incarnation comes in.
        world.start(5, "lock-4");
        world.until("joined", |w| w.members(2).contains(&5));
        // With its way back, the first proposes again.
        world.registry_silent.clear();
        world.registry_refuses.clear();
        world.run(Duration::from_secs(7));
        world.keep = |m| matches!(m, Message::VoteRequest { .. });
        world.crash(5);
        world.until("votes are asked for", |w| !w.kept.is_empty());
        let asked: Vec<u64> = world.kept.iter().map(|(from, ..)| *from).collect();
        assert!(asked.iter().all(|from| *from == 1), "silent: {silent}, asked by {asked:?}");
    }
}

/// V-10: with the registry away for all, nobody stands back for another, and all say what they wait for.
#[test]
fn nobody_proposes_while_nobody_reaches_the_registry() {
    let mut world = World::of(3, TWO);
    world.registry_up = false;
    world.crash(3);
    world.run(Duration::from_secs(2));
    assert_eq!(world.nodes[&1].core.snapshot(world.now).waits_for, Some("registry"));
    assert_eq!(world.nodes[&2].core.snapshot(world.now).waits_for, Some("registry"));
    world.registry_up = true;
    let took = world.until("two go on", |w| w.members(1) == [1, 2]);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// C-4: a leaver's release goes out when it is due, also while it is in the view, so that a crash beside it leaves no
/// minority.
#[test]
fn a_leaver_releases_although_another_crashes_before_its_removal() {
    for (size, leaver, dead) in [(3, 3, 2), (3, 1, 3), (4, 2, 1)] {
        let mut world = World::of(size, TWO);
        world.keep = |m| matches!(m, Message::Stopped);
        world.step(leaver, Event::Drain);
        world.until("it has stopped", |w| !w.kept.is_empty());
        world.kept.clear();
        world.crash(dead);
        world.keep = |_| false;
        let rest: Vec<u64> = (1..=size).filter(|id| ![leaver, dead].contains(id)).collect();
        let took = world.until("the rest go on", |w| rest.iter().all(|id| w.members(*id) == rest));
        assert!(took < Duration::from_secs(2), "{took:?}");
        world.until("it has left", |w| w.nodes[&leaver].left);
        world.put(rest[0], "k", "v");
    }
}

/// V-11: a link is both ports: when the data port alone is cut, the newer of the two goes, and writes go on.
#[test]
fn a_cut_of_the_data_port_alone_excludes_the_newer_of_the_two() {
    let mut world = World::of(3, TWO);
    world.cut_data(1, 2);
    let took = world.until("two go on", |w| w.members(1) == [1, 3]);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    world.run(Duration::from_millis(500));
    for i in 0..12 {
        let ticket = world.submit(1, &format!("k{i}"), put("v"));
        world.run(Duration::from_millis(300));
        assert!(world.told(ticket).is_some_and(|told| told.is_ok()), "k{i}");
    }
}

/// V-11: the member with the most broken links goes, and nobody of the others.
#[test]
fn the_member_with_most_broken_links_goes() {
    let mut world = World::of(5, TWO);
    world.cut_data(1, 3);
    world.cut_data(1, 4);
    let took = world.until("four go on", |w| w.members(2).len() < 5);
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(world.members(2), [2, 3, 4, 5]);
    world.run(Duration::from_secs(2));
    assert_eq!(world.members(2), [2, 3, 4, 5]);
}

/// V-11: a broken data link between two doesn't keep the others from excluding a third.
#[test]
fn a_vote_that_cannot_come_keeps_nobody_in() {
    let mut world = World::of(5, Replicas::All);
    world.cut_data(1, 2);
    world.crash(5);
    let took = world.until("three go on", |w| w.members(1) == [1, 3, 4]);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// V-11: one that crashed is excluded, and not the one that saw it first.
#[test]
fn who_sees_a_crash_first_is_not_taken_for_the_broken_one() {
    let mut world = World::of(4, TWO);
    world.nodes.get_mut(&2).unwrap().down = true;
    world.unreachable(4, 2);
    world.until("three go on", |w| w.members(1).len() < 4);
    assert_eq!(world.members(1), [1, 3, 4]);
    assert!(world.view(4).unwrap().contains(MemberId(4)));
}

/// L-4 and L-6: with nothing under way a core sleeps, and is still there in time when a member falls silent.
#[test]
fn an_idle_core_sleeps_and_wakes_in_time() {
    let mut world = World::of(3, TWO);
    world.put(1, "k", "v");
    world.run(Duration::from_secs(1));
    let before = world.ticks;
    world.run(Duration::from_secs(2));
    let each = (world.ticks - before) / 3 / 2;
    assert!(each <= 30, "{each} ticks a second at each");
    world.isolate(3);
    let took = world.until("it is suspected", |w| w.nodes[&1].core.snapshot(w.now).suspected.contains(&MemberId(3)));
    assert!(took <= Duration::from_millis(425), "{took:?}");
}
