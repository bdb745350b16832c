//! Schedules that show a rule missing which seeds show seldom or never: mostly those that keep the grid going.

use std::time::Duration;

use sidegrid_core::MemberId;
use sidegrid_core::event::Notice;
use sidegrid_core::message::Message;
use sidegrid_core::operation::{Condition, Idempotency, OperationKind, Outcome};
use sidegrid_core::planted_bug::Bug;
use sidegrid_core::view::Replicas;

use crate::is_caught;
use crate::world::{World, put};

const TWO: Replicas = Replicas::Count(2);

/// V-7: no votes are asked for while the registry can't be read.
#[test]
fn an_exclusion_without_reading_is_noticed() {
    is_caught(Bug::RegistryNotRead, |bugs| {
        let mut world = World::with_bugs(3, TWO, bugs);
        world.registry_up = false;
        world.isolate(3);
        world.keep = |m| matches!(m, Message::VoteRequest { .. });
        world.run(Duration::from_secs(2));
        assert!(world.kept.is_empty(), "votes were asked for");
    });
}

/// V-8: a newer view is installed whoever shows it.
#[test]
fn views_of_peers_not_installed_is_noticed() {
    is_caught(Bug::PeersViewsIgnored, |bugs| {
        let mut world = World::with_bugs(1, TWO, bugs);
        world.start(2, "lock-2");
        world.until("the second is in", |w| w.view(1).is_some_and(|v| v.contains(MemberId(2))));
        let took = world.until("it knows", |w| w.view(2).is_some_and(|v| v.contains(MemberId(2))));
        assert!(took < Duration::from_millis(200), "{took:?}");
    });
}

/// V-9: a last copy is waited for, while nobody waits with the exclusion.
#[test]
fn last_copies_not_waited_for_is_noticed() {
    is_caught(Bug::LastCopiesNotAwaited, |bugs| {
        let mut world = World::with_bugs(3, Replicas::Count(1), bugs);
        world.isolate(3);
        world.until("it is out", |w| w.view(1).is_some_and(|v| !v.contains(MemberId(3))));
        world.run(Duration::from_secs(3));
        assert!(world.view(1).is_some_and(|v| v.vacant().next().is_some()), "given up within three seconds");
    });
}

/// V-11: of those whose links are broken the one goes that has most of them.
#[test]
fn links_that_are_not_weighed_are_noticed() {
    is_caught(Bug::LinksNotWeighed, |bugs| {
        let mut world = World::with_bugs(5, TWO, bugs);
        world.cut_data(1, 3);
        world.cut_data(1, 4);
        world.until("four go on", |w| w.members(2).len() < 5);
        world.run(Duration::from_secs(2));
        assert_eq!(world.members(2), [2, 3, 4, 5]);
    });
}

/// V-10: one proposes.
#[test]
fn everyone_proposing_is_noticed() {
    is_caught(Bug::EveryoneProposes, |bugs| {
        let mut world = World::with_bugs(4, TWO, bugs);
        world.keep = |m| matches!(m, Message::VoteRequest { .. });
        world.isolate(4);
        world.until("votes are asked for", |w| !w.kept.is_empty());
        world.run(Duration::from_millis(200));
        assert!(world.kept.iter().all(|(from, ..)| *from == 1), "others ask for votes too");
    });
}

/// P-1: another lock on the same machine proves nothing.
#[test]
fn a_false_proof_is_noticed() {
    is_caught(Bug::LocksIgnored, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        world.start(3, "lock-3");
        world.run(Duration::from_secs(1));
        let proved = |w: &World, id: u64| w.nodes[&id].notices.iter().any(|n| matches!(n, Notice::ProvedDead { .. }));
        assert!(!proved(&world, 1) && !proved(&world, 2), "a living member was proved dead");
    });
}

/// P-3: a clone of a machine proves nothing while the one that it was made from answers.
#[test]
fn another_boot_taken_for_proof_is_noticed() {
    is_caught(Bug::AnotherBootIsProof, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        world.start_on_boot(9, "lock-1", "b2");
        world.run(Duration::from_secs(1));
        let proved = world.nodes[&2].notices.iter().any(|n| matches!(n, Notice::ProvedDead { .. }));
        assert!(!proved, "a living member was proved dead");
    });
}

/// C-2: no more join at once than the view has members.
#[test]
fn too_many_joining_at_once_is_noticed() {
    is_caught(Bug::AnyNumberJoins, |bugs| {
        let mut world = World::with_bugs(1, TWO, bugs);
        world.keep = |m| matches!(m, Message::Join { .. } | Message::Reached(_));
        for id in 2..=4 {
            world.start(id, &format!("lock-{id}"));
        }
        world.run(Duration::from_millis(500));
        world.release_kept();
        world.until("all are in", |w| w.view(1).is_some_and(|v| v.members.len() == 4));
        let sizes: Vec<usize> = world.swaps.iter().map(|d| d.view.members.len()).collect();
        assert!(sizes.windows(2).all(|w| w[1] <= 2 * w[0]), "{sizes:?}");
    });
}

/// C-7: when all are proved dead, whoever comes begins again.
#[test]
fn not_beginning_again_is_noticed() {
    is_caught(Bug::NeverBeginsAgain, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        world.crash(1);
        world.crash(2);
        world.start(3, "lock-1");
        world.start(4, "lock-2");
        world.until("formed again", |w| w.view(4).is_some_and(|v| v.contains(MemberId(3)) && v.contains(MemberId(4))));
    });
}

/// C-8: who can't reach a member is not admitted.
#[test]
fn a_joiner_that_is_not_reached_is_noticed() {
    is_caught(Bug::JoinersNotReached, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        world.cut.extend([(2, 3), (3, 2)]);
        world.start(3, "lock-3");
        world.run(Duration::from_secs(1));
        assert!(world.swaps.iter().all(|d| !d.view.contains(MemberId(3))), "it was admitted");
    });
}

/// G-3: a document that is older than what is known is not followed.
#[test]
fn following_an_older_document_is_noticed() {
    is_caught(Bug::OlderDocumentFollowed, |bugs| {
        let mut world = World::with_bugs(1, TWO, bugs);
        let old = world.registry.clone();
        world.start(2, "lock-2");
        world.settle();
        world.registry = old;
        let swaps = world.swaps.len();
        world.crash(2);
        world.run(Duration::from_secs(3));
        assert_eq!(world.swaps.len(), swaps, "a view was made from the older document");
    });
}

/// O-2: what its origin is over with is not applied any more.
#[test]
fn applying_a_straggler_is_noticed() {
    is_caught(Bug::StragglersApplied, |bugs| {
        let delete = || OperationKind::Delete { condition: Condition::Always, return_previous: false };
        let mut world = World::with_bugs(2, TWO, bugs);
        world.keep = |m| matches!(m, Message::Forward { .. });
        let ticket = world.submit(1, "k", put("v"));
        let other = if world.told(ticket).is_some() { 2 } else { 1 };
        let ticket = if other == 1 { ticket } else { world.submit(2, "k", put("v")) };
        world.until("sent twice", |w| w.kept.len() >= 2);
        let (from, to, late) = world.kept.remove(0);
        world.release_kept();
        world.until("answered", |w| w.told(ticket).is_some());
        let told = world.ask_and_wait(other, "k", delete()).unwrap();
        assert!(matches!(told.outcome, Outcome::Deleted { .. }));
        world.pass(from, to, late);
        world.run(Duration::from_millis(100));
        assert_eq!(world.get(other, "k"), None, "the late attempt put it again");
    });
}

/// W-5: what is outstanding is not sent again and again.
#[test]
fn sending_again_at_once_is_noticed() {
    is_caught(Bug::SendsAgainAtOnce, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        world.keep = |m| matches!(m, Message::Replicate { .. });
        world.submit(1, "k", put("v"));
        world.run(Duration::from_millis(700));
        assert!((1..=4).contains(&world.kept.len()), "sent {} times", world.kept.len());
    });
}

/// O-4: a key is remembered with what it was used for.
#[test]
fn forgetting_what_a_key_was_used_for_is_noticed() {
    is_caught(Bug::KeysForgotten, |bugs| {
        let mut world = World::with_bugs(2, TWO, bugs);
        for (value, fits) in [("v", true), ("w", false)] {
            let kind = put(value);
            let key = Idempotency::new(7, &kind, None);
            let ticket = world.submit_with(1, "k", kind, Some(key));
            world.until("an answer", |w| w.told(ticket).is_some());
            assert_eq!(world.told(ticket).unwrap().is_ok(), fits, "{value}");
        }
    });
}
