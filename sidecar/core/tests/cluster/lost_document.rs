//! A registry that has lost its document.

use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::message::{Envelope, Message};
use sidegrid_core::recovery::{Observed, Statements, VIEW_JUMP};
use sidegrid_core::view::{Replicas, View};
use sidegrid_core::{Event, MemberId, ViewNumber};

use crate::world::World;

const TWO: Replicas = Replicas::Count(2);

/// G-3: a document that went missing is not followed; what runs goes on.
#[test]
fn a_missing_document_is_not_followed() {
    let mut world = World::of(3, TWO);
    let document = world.registry.take();
    world.run(Duration::from_secs(3));
    world.put(1, "k", "v");
    world.start(4, "lock-4");
    world.run(Duration::from_secs(2));
    assert!(world.registry.is_none() || world.registry.as_ref().is_some_and(|d| d.view.number.0 == 1));
    assert_eq!(world.view(1).unwrap().members.len(), 3);
    world.nodes.get_mut(&4).unwrap().down = true;
    world.registry = document;
    world.put(2, "k", "w");
}

/// G-4: what members say brings the document back, and the cluster goes on as it was.
#[test]
fn a_lost_document_comes_back_by_what_its_members_say() {
    let mut world = World::of(3, TWO);
    world.put(1, "k", "v");
    let before = world.view(1).unwrap();
    world.registry = None;
    world.until("all have said what they know", |w| (1..=3).all(|id| w.republished.iter().any(|r| r.0 == id)));
    let (mut statements, mut observed) = (Statements::default(), Observed::default());
    for (id, view, document) in &world.republished {
        assert_eq!(*view, before.number);
        statements.add(&mut observed, MemberId(*id), *view, document, world.now);
    }
    world.registry = Some(Arc::new(statements.settled(&observed, world.now, before.number).expect("all have said so")));
    world.until("all follow it", |w| (1..=3).all(|id| w.view(id).unwrap().number.0 == before.number.0 + VIEW_JUMP));
    assert_eq!(world.get(3, "k").as_deref(), Some("v"));
    world.start(4, "lock-4");
    world.until("a fourth has joined", |w| w.view(1).is_some_and(|v| v.contains(MemberId(4))));
    world.settle();
    assert_eq!(world.get(4, "k").as_deref(), Some("v"));
    for id in 1..=3 {
        assert!(world.view(4).unwrap().contains(MemberId(id)), "{id} had to join anew");
    }
}

/// G-4: who has said which view is the newest installs none that the registry does not know.
#[test]
fn who_has_told_a_registry_that_is_behind_keeps_to_its_view() {
    let mut world = World::of(3, TWO);
    let document = world.registry.take().unwrap();
    world.until("the first has said what it knows", |w| w.republished.iter().any(|r| r.0 == 1));
    let mut next = (*document).clone();
    next.revision += 1;
    next.view.number = next.view.number.next();
    let shown = |world: &mut World, view: &View| {
        let message = Message::ViewIs(Arc::new(view.clone()));
        let envelope = Envelope { view: view.number, confirmed_past: ViewNumber::NONE, message };
        world.step(1, Event::Message { from: MemberId(2), envelope });
        world.view(1).unwrap().number == view.number
    };
    assert!(!shown(&mut world, &next.view));
    let said = world.republished.len();
    world.run(Duration::from_secs(5));
    assert!(world.republished[said..].iter().all(|r| r.0 != 1), "it says nothing more, since it knows of a newer one");
    // The registry has it after all.
    world.registry = Some(Arc::new(next.clone()));
    world.until("it follows the registry", |w| w.view(1).unwrap().number == next.view.number);
    next.view.number = next.view.number.next();
    assert!(shown(&mut world, &next.view), "and peers again");
}

/// G-4: a view that was shown meanwhile is installed once what was said counts no more, also if whoever showed it is gone.
#[test]
fn a_view_that_was_shown_meanwhile_is_installed_later() {
    let mut world = World::of(3, TWO);
    let mut next = world.registry.take().unwrap().view.clone();
    world.until("the first has said what it knows", |w| w.republished.iter().any(|r| r.0 == 1));
    next.number = next.number.next();
    let number = next.number;
    let message = Message::ViewIs(Arc::new(next));
    let envelope = Envelope { view: number, confirmed_past: ViewNumber::NONE, message };
    world.step(1, Event::Message { from: MemberId(2), envelope });
    world.run(Duration::from_secs(10));
    assert!(world.view(1).unwrap().number < number);
    world.run(Duration::from_secs(6));
    assert_eq!(world.view(1).unwrap().number, number);
}

/// V-9: the owner of a last copy is waited for from when the registry is mended, since it may have had no way back before.
#[test]
fn a_last_copy_is_waited_for_anew_once_the_registry_is_mended() {
    let mut world = World::of(3, Replicas::Count(1));
    let document = world.registry.take();
    world.isolate(3);
    world.run(Duration::from_secs(8));
    world.registry = document;
    world.until("two go on", |w| w.view(1).is_some_and(|v| v.members.len() == 2));
    world.run(Duration::from_secs(3));
    let vacant = |w: &World| w.view(1).is_some_and(|v| v.vacant().next().is_some());
    assert!(vacant(&world), "the third had no time to come back");
    world.until("its groups start empty", |w| !vacant(w));
}
