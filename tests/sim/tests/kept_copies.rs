//! What a superseded incarnation has kept, in schedules that seeds show seldom (V-9).

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

#[path = "../../../sidecar/core/tests/cluster/links.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod links;
#[path = "../../../sidecar/core/tests/cluster/map.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod map;
#[path = "../../../sidecar/core/tests/cluster/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the core")]
mod world;

use std::sync::Arc;

use sidegrid_core::event::Event;
use sidegrid_core::message::{Envelope, Message};
use sidegrid_core::view::{Replicas, View};
use sidegrid_core::{MemberId, ViewNumber};

use crate::world::World;

/// V-9: whoever was made primary with the copies that it kept still has them when the first view that it is shown is a
/// later one.
#[test]
fn kept_copies_outlive_a_view_that_their_holder_never_saw() {
    let mut world = World::of(3, Replicas::Count(1));
    (0..20).for_each(|i| world.put(1, &format!("k{i}"), "v"));
    world.nodes.get_mut(&3).unwrap().down = true;
    world.until("it is out", |w| w.members(1) == [1, 2]);
    world.nodes.get_mut(&3).unwrap().down = false;
    world.until("it hears of it", |w| w.nodes[&3].superseded);
    world.resume(3, 13, "lock-3");
    world.until("it knows the view", |w| w.view(13).is_some());
    world.keep = |m| matches!(m, Message::ViewIs(_));
    world.until("it is admitted", |w| w.swaps.last().is_some_and(|d| d.view.contains(MemberId(13))));
    world.registry_up = false;
    assert!(!world.members(13).contains(&13), "it was shown the view");
    let admitted = world.swaps.last().unwrap().view.clone();
    assert!(admitted.group_ids().any(|g| admitted.primary(g) == Some(MemberId(13))));
    let held = |w: &World| w.nodes[&13].store.held().0.entries;
    let kept = held(&world);
    assert!(kept > 0);
    let number = admitted.number.next();
    let later = Arc::new(View { number, ..admitted });
    let message = Message::ViewIs(later);
    let envelope = Envelope { view: number, confirmed_past: ViewNumber::NONE, message };
    world.step(13, Event::Message { from: MemberId(1), envelope });
    assert_eq!(world.view(13).unwrap().number, number);
    assert_eq!(held(&world), kept);
}
