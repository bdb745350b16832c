//! One schedule a test, one rule a schedule.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sidegrid_core::document::Proof;
use sidegrid_core::event::Notice;
use sidegrid_core::message::{Message, WriteBody};
use sidegrid_core::operation::{Applied, Condition, OperationKind, Outcome, RefusalReason};
use sidegrid_core::storage::Storage;
use sidegrid_core::view::Replicas;
use sidegrid_core::{Event, MemberId};

use crate::world::{World, put};

const TWO: Replicas = Replicas::Count(2);

fn delete() -> OperationKind {
    OperationKind::Delete { condition: Condition::Always, return_previous: false }
}

fn suspects(world: &World, id: u64) -> bool {
    world.nodes[&id].notices.iter().any(|n| matches!(n, Notice::Suspected { .. }))
}

/// V-6 and L-3: nobody goes on without a member before the promises to it have run out, and its lease before those.
#[test]
fn an_exclusion_waits_for_the_lease_of_the_excluded() {
    let mut world = World::of(3, TWO);
    world.isolate(3);
    let mut lost = None;
    let took = world.until("two go on", |w| {
        if lost.is_none() && !w.has_lease(3) {
            lost = Some(w.now);
        }
        w.view(1).is_some_and(|v| v.members.len() == 2)
    });
    assert!(lost.is_some(), "the third still had its lease");
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(1), "{took:?}");
    world.heal();
    world.until("the third hears of it", |w| w.nodes[&3].superseded);
}

/// V-5: a minority waits, refusing service, and says why; with the others back it goes on as it was.
#[test]
fn a_minority_waits() {
    let mut world = World::of(3, TWO);
    let swaps = world.swaps.len();
    world.isolate(1);
    world.cut.extend([(2, 3), (3, 2)]);
    world.run(Duration::from_secs(3));
    assert_eq!(world.swaps.len(), swaps, "somebody alone changed the view");
    assert_eq!(world.nodes[&1].core.snapshot(world.now).waits_for, Some("majority"));
    for i in 0..8 {
        let ticket = world.submit(1, &format!("k{i}"), if i % 2 == 0 { put("v") } else { OperationKind::Get });
        let refusal = world.told(ticket).expect("refused at once").unwrap_err();
        assert_eq!((refusal.reason, refusal.applied), (RefusalReason::NoLease, Applied::No));
    }
    world.heal();
    world.settle();
    assert_eq!(world.swaps.len(), swaps);
    world.put(2, "k", "v");
}

/// V-7: no exclusion starts while the registry is away; everything else goes on.
#[test]
fn no_exclusion_without_the_registry() {
    let mut world = World::of(3, TWO);
    world.registry_up = false;
    world.run(Duration::from_secs(2));
    world.put(1, "k", "v");
    world.isolate(3);
    world.keep = |m| matches!(m, Message::VoteRequest { .. });
    world.run(Duration::from_secs(2));
    assert!(world.kept.is_empty(), "votes were asked for without having read the registry");
    world.keep = |_| false;
    world.registry_up = true;
    world.until("two go on", |w| w.view(1).is_some_and(|v| v.members.len() == 2));
}

/// V-1: a vote asked for on a ballot that was voided since is not given.
#[test]
fn a_vote_is_bound_to_the_document_version() {
    let mut world = World::of(3, TWO);
    let formed = world.swaps.len();
    world.isolate(3);
    world.keep = |m| matches!(m, Message::Vote { .. } | Message::VoteRelease { .. });
    world.until("voted", |w| !w.kept.is_empty());
    // The vote does not arrive; its giver takes it back through the registry, which voids the proposal.
    world.until("voided", |w| w.registry.as_ref().is_some_and(|d| d.ballot > 0));
    let voided = world.registry.clone().unwrap();
    let stale: Vec<_> = std::mem::take(&mut world.kept);
    for (from, to, envelope) in stale {
        world.pass(from, to, envelope);
    }
    let swapped = world.swaps[formed..].iter().any(|d| d.view.members.len() == 2 && d.ballot < voided.ballot);
    assert!(!swapped, "a vote of the old ballot won");
    world.keep = |_| false;
    world.until("a new round succeeds", |w| w.view(1).is_some_and(|v| v.members.len() == 2));
}

/// V-4: a vote is not given back by time: while the registry is away its giver goes on refusing echoes.
#[test]
fn a_vote_is_not_given_back_by_time() {
    let mut world = World::of(3, TWO);
    world.isolate(3);
    world.keep = |m| matches!(m, Message::Vote { .. } | Message::VoteRelease { .. });
    world.until("voted", |w| !w.kept.is_empty());
    world.registry_up = false;
    // 3 is back for 2 alone, which has voted against it, and 1 is gone for both: 3 must not get a lease by 2.
    world.heal();
    world.isolate(1);
    world.run(Duration::from_secs(5));
    assert!(!world.has_lease(3), "the voter echoed a member that it had voted to exclude");
}

/// V-3: a voter that does not answer joins the suspects once it is suspected itself, and the round begins again.
#[test]
fn a_silent_voter_is_suspected_before_it_is_excluded() {
    let mut world = World::of(5, TWO);
    let formed = world.swaps.len();
    world.crash(5);
    // 4 stops answering too, silently.
    world.isolate(4);
    world.until("three go on", |w| w.view(1).is_some_and(|v| v.members.len() == 3));
    assert!(suspects(&world, 1));
    let shrunk = world.swaps[formed..].iter().find(|d| d.view.members.len() < 5).unwrap();
    assert_eq!(shrunk.view.members.len(), 3, "both went in one round, since the vote of one was missing");
}

/// V-10: only the earliest-joined member that is not suspected proposes.
#[test]
fn the_earliest_joined_proposes() {
    let mut world = World::of(4, TWO);
    world.keep = |m| matches!(m, Message::VoteRequest { .. });
    world.isolate(4);
    world.until("votes are asked for", |w| !w.kept.is_empty());
    assert!(world.kept.iter().all(|(from, ..)| *from == 1));
    world.kept.clear();
    world.crash(1);
    world.until("the next takes over", |w| w.kept.iter().any(|(from, ..)| *from == 2));
    assert!(world.kept.iter().all(|(from, ..)| *from <= 2));
}

/// S-2: nobody calls itself past a view before the promises that it gave in it have run out.
#[test]
fn confirmation_waits_for_own_promises() {
    let mut world = World::of(2, TWO);
    let before = world.view(2).unwrap().number;
    world.start(3, "lock-3");
    world.until("the second has installed", |w| w.view(2).is_some_and(|v| v.number > before));
    let past = |w: &World| w.nodes[&2].core.lease().ping(w.now).unwrap().confirmed_past;
    assert!(past(&world) < before);
    let took = world.until("confirmed", |w| past(w) >= before);
    assert!(took >= Duration::from_millis(550), "{took:?}");
}

/// C-1: a planned change waits until every member has installed the view, or every earlier view is sealed.
#[test]
fn a_planned_change_waits_for_installations() {
    let mut world = World::of(2, TWO);
    let before = world.view(2).unwrap().number;
    // The second does not hear of the view that admits the third, nor shows anything.
    world.cut.extend([(1, 2), (2, 1)]);
    world.keep = |m| matches!(m, Message::ViewIs(_));
    world.start(3, "lock-3");
    world.run(Duration::from_millis(300));
    let swapped = world.swaps.last().unwrap().view.number;
    assert!(swapped <= before.next(), "v{swapped} was made before the second had v{}", before.next());
    world.release_kept();
    world.heal();
    world.settle();
}

/// C-4, C-5 and D-1: leavers stop one at a time, hand everything over, also the only copies, and nothing is refused.
#[test]
fn leavers_hand_over_and_stop_one_at_a_time() {
    let mut world = World::of(4, Replicas::Count(1));
    for i in 0..20 {
        world.put(1, &format!("k{i}"), "v");
    }
    world.step(3, Event::Drain);
    world.step(4, Event::Drain);
    world.until("both have left", |w| w.nodes[&3].left && w.nodes[&4].left);
    let sizes: Vec<usize> = world.swaps.iter().map(|d| d.view.members.len()).collect();
    assert!(sizes.windows(2).all(|w| w[0].abs_diff(w[1]) <= 1), "two left in one change: {sizes:?}");
    for i in 0..20 {
        assert_eq!(world.get(2, &format!("k{i}")), Some("v".into()));
        assert_eq!(world.get(3, &format!("k{i}")), Some("v".into()), "a leaver goes on as a client");
    }
    assert!(world.swaps.iter().all(|d| d.view.groups.iter().all(|g| g.empty_since.0 <= 1)), "a group was lost");
}

/// C-7: when every member is proved dead, whoever comes first begins again, empty, and says so.
#[test]
fn all_dead_begins_again_empty() {
    let mut world = World::of(2, TWO);
    world.put(1, "k", "v");
    world.crash(1);
    world.crash(2);
    world.start(3, "lock-1");
    world.run(Duration::from_millis(500));
    assert!(world.view(3).is_none_or(|v| !v.contains(MemberId(3))), "the other was not proved dead yet");
    world.start(4, "lock-2");
    world.until("formed again", |w| w.view(4).is_some_and(|v| v.contains(MemberId(3)) && v.contains(MemberId(4))));
    let lost = [3, 4].iter().any(|id| world.nodes[id].notices.iter().any(|n| matches!(n, Notice::GroupsLost { .. })));
    assert!(lost, "the loss was not reported");
    assert_eq!(world.get(3, "k"), None);
    world.put(4, "k", "w");
}

/// C-7 and P-2: what proves itself dead and is told as dead by the platform too is not waited for twice.
#[test]
fn two_kinds_of_proof_are_waited_for_once() {
    let mut world = World::of(2, TWO);
    world.crash(1);
    world.crash(2);
    let mut told = (*world.registry.clone().unwrap()).clone();
    told.revision += 1;
    told.proofs.extend([1, 2].map(|id| (MemberId(id), Proof::Platform)));
    world.registry = Some(Arc::new(told));
    world.start(3, "lock-1");
    let took = world.until("formed again", |w| w.view(3).is_some_and(|v| v.contains(MemberId(3))));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(world.swaps.len() < 20, "{} swaps", world.swaps.len());
}

/// P-1 and P-2: a restarted process proves its predecessor dead, and the exclusion waits for no lease.
#[test]
fn a_new_incarnation_is_proof() {
    let mut world = World::of(3, TWO);
    world.put(1, "k", "v");
    world.crash(3);
    world.start(4, "lock-3");
    let took = world.until("the old one is out", |w| w.view(1).is_some_and(|v| !v.contains(MemberId(3))));
    assert!(took < Duration::from_millis(300), "{took:?}");
    world.settle();
    assert_eq!(world.get(4, "k"), Some("v".into()));
}

/// W-3: a tombstone stays until it is stable everywhere, and goes then.
#[test]
fn tombstones_stay_until_stable() {
    let mut world = World::of(2, TWO);
    world.put(1, "k", "v");
    let records =
        |w: &World| -> usize { (0..4).map(|g| w.nodes[&2].store.keys(sidegrid_core::GroupId(g)).len()).sum() };
    world.keep = |m| matches!(m, Message::Stable(_));
    let told = world.ask_and_wait(1, "k", delete());
    assert!(matches!(told.unwrap().outcome, Outcome::Deleted { .. }));
    world.run(Duration::from_millis(50));
    let held: usize = [1, 2]
        .iter()
        .map(|id| (0..4).map(|g| world.nodes[id].store.keys(sidegrid_core::GroupId(g)).len()).sum::<usize>())
        .sum();
    assert_eq!(held, 1, "the copy that was not told keeps the tombstone, the primary that knows does not");
    world.release_kept();
    world.run(Duration::from_millis(50));
    assert_eq!(records(&world), 0);
}

/// O-1: an answer that is lost is asked for again, and the write applied once.
#[test]
fn a_repeated_operation_applies_once() {
    let mut world = World::of(3, TWO);
    world.keep = |m| matches!(m, Message::Forwarded { .. });
    let by_one = || OperationKind::Increment { by: 1, initial: 0, ttl: None };
    let tickets: Vec<u64> = (0..4).map(|i| world.submit(1, &format!("k{i}"), by_one())).collect();
    world.run(Duration::from_millis(400));
    assert!(!world.kept.is_empty(), "no key was another's");
    world.kept.clear();
    world.keep = |_| false;
    world.until("answered", |w| tickets.iter().all(|t| w.told(*t).is_some()));
    for ticket in tickets {
        let outcome = world.told(ticket).unwrap().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Counter { value: 1, .. }), "{outcome:?}");
    }
}

/// W-4: versions go on over a change of the primary.
#[test]
fn counters_go_on_after_a_promotion() {
    let mut world = World::of(3, TWO);
    let mut last = [0; 4];
    for round in 0..6 {
        if round == 3 {
            world.crash(2);
            world.start(4, "lock-2");
            world.settle();
        }
        for (i, last) in last.iter_mut().enumerate() {
            let told = world.ask_and_wait(1, &format!("k{i}"), put("v")).unwrap();
            let Outcome::Stored { etag, .. } = told.outcome else { panic!("{told:?}") };
            assert!(etag.counter > *last, "round {round}: {etag} after {last}");
            *last = etag.counter;
        }
    }
}

/// O-2: an attempt that comes when its entry is over with the operation is not applied.
#[test]
fn a_late_attempt_is_not_applied() {
    let mut world = World::of(2, TWO);
    world.keep = |m| matches!(m, Message::Forward { .. });
    let ticket = world.submit(1, "k", put("v"));
    let other = if world.told(ticket).is_some() { 2 } else { 1 };
    // The key's primary is the other member of the two, whichever it is.
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
}

/// T-2: a copy whose primary changed while it was filled begins afresh, and late parts of the old one count for nothing.
#[test]
fn a_copy_begins_afresh_under_another_primary() {
    let mut world = World::of(2, TWO);
    for i in 0..12 {
        world.put(1, &format!("k{i}"), "old");
    }
    world.keep = |m| matches!(m, Message::Part { .. });
    world.start(3, "lock-3");
    world.until("filling", |w| !w.kept.is_empty());
    let late = std::mem::take(&mut world.kept);
    world.keep = |_| false;
    world.crash(1);
    world.until("two go on", |w| w.view(3).is_some_and(|v| !v.contains(MemberId(1)) && v.contains(MemberId(3))));
    for i in 0..12 {
        world.put(2, &format!("k{i}"), "new");
    }
    for (from, to, envelope) in late {
        world.pass(from, to, envelope);
    }
    world.settle();
    for i in 0..12 {
        assert_eq!(world.get(3, &format!("k{i}")), Some("new".into()));
    }
    let copies = |w: &World, id: u64| -> Vec<_> {
        let groups = (0..4).map(sidegrid_core::GroupId);
        let keys = groups.flat_map(|g| w.nodes[&id].store.keys(g).into_iter().map(move |k| (g, k)));
        keys.map(|(g, k)| (w.nodes[&id].store.peek(g, &k).map(|r| r.version), k)).collect()
    };
    assert_eq!(copies(&world, 2), copies(&world, 3));
}

/// C-1: what is settled stays settled: no change is made where nothing is to be changed.
#[test]
fn a_settled_cluster_makes_no_changes() {
    for replicas in [Replicas::Count(1), TWO, Replicas::All] {
        settled_makes_no_changes(replicas, [3, 2]);
        // The coordinator among them.
        settled_makes_no_changes(replicas, [3, 1]);
    }
}

fn settled_makes_no_changes(replicas: Replicas, leavers: [u64; 2]) {
    let mut world = World::of(3, replicas);
    for leaver in leavers {
        world.step(leaver, Event::Drain);
        world.until("removed", |w| w.swaps.last().is_some_and(|d| !d.view.contains(MemberId(leaver))));
        world.run(Duration::from_millis(100));
        let swaps = world.swaps.len();
        world.run(Duration::from_secs(3));
        assert_eq!(world.swaps.len(), swaps, "after the leave of {leaver} somebody changed the view again");
        assert!(world.nodes[&leaver].left);
    }
}

/// C-3: who has left for good is not brought back by a request to join that comes late.
#[test]
fn a_late_request_to_join_brings_nobody_back() {
    let mut world = World::of(3, TWO);
    let join = |m: &Message| matches!(m, Message::Join { .. });
    world.keep = join;
    world.start(4, "lock-4");
    world.run(Duration::from_millis(300));
    let late = world.kept.clone();
    world.release_kept();
    world.until("joined", |w| w.view(1).is_some_and(|v| v.contains(MemberId(4))));
    world.settle();
    world.step(4, Event::Drain);
    world.until("left", |w| w.nodes[&4].left && w.view(1).is_some_and(|v| !v.contains(MemberId(4))));
    let swaps = world.swaps.len();
    assert!(late.iter().any(|(_, to, _)| *to == 1), "there was something to be late");
    for (from, to, envelope) in late {
        world.pass(from, to, envelope);
    }
    world.run(Duration::from_secs(3));
    assert!(world.swaps[swaps..].iter().all(|d| !d.view.contains(MemberId(4))), "one that has released is a member");
}

/// E-2: "absent" for what has expired waits for its removal also while a copy gets the expired version only now.
#[test]
fn an_expired_version_that_is_not_stable_is_removed_before_absent_is_answered() {
    let mut world = World::of(3, Replicas::All);
    let ttl = Some(Duration::from_millis(40));
    for key in ["a", "b", "c", "d"] {
        world.keep = |m| matches!(m, Message::Replicate { .. });
        let short = OperationKind::Put {
            value: Bytes::from_static(b"v"),
            content_type: None,
            ttl,
            condition: Condition::Always,
            return_previous: false,
        };
        world.submit(1, key, short);
        world.run(Duration::from_millis(60));
        let gone = world.submit(1, key, delete());
        // The copies take the value now, and show it for as long as it was given.
        let late: Vec<_> = std::mem::take(&mut world.kept).into_iter().collect();
        let (values, rest): (Vec<_>, Vec<_>) = late.into_iter().partition(|(_, _, e)| {
            matches!(&e.message, Message::Replicate { writes, .. }
                if writes.iter().all(|w| !matches!(w.body, WriteBody::Tombstone)))
        });
        for (from, to, envelope) in values {
            world.pass(from, to, envelope);
        }
        world.run(Duration::from_millis(5));
        if world.told(gone).is_some() {
            for id in [1, 2, 3] {
                let read = world.submit(id, key, OperationKind::Get);
                let shown = world.told(read).and_then(Result::ok).map(|answer| answer.outcome);
                assert!(!matches!(shown, Some(Outcome::Found(_))), "{key}: told absent, and {id} shows the value");
            }
        }
        world.kept.extend(rest);
        world.release_kept();
        world.until("an answer", |w| w.told(gone).is_some());
        assert_eq!(world.get(2, key), None);
    }
}

/// A read whose nearest copy does not answer is answered by another one soon, long before anybody is suspected.
#[test]
fn a_read_goes_on_to_another_copy() {
    for silent in [2, 3] {
        let mut world = World::of(3, TWO);
        let keys: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
        for key in &keys {
            world.put(1, key, "v");
        }
        world.run(Duration::from_millis(50));
        world.isolate(silent);
        for key in &keys {
            let began = world.now;
            assert_eq!(world.get(1, key), Some("v".into()));
            let took = world.now.since(began);
            assert!(took <= Duration::from_millis(25), "{key} without {silent}: {took:?}");
        }
        // Also when it comes to be suspected between the first attempt and the second.
        let tickets: Vec<u64> = keys.iter().map(|key| world.submit(1, key, OperationKind::Get)).collect();
        world.unreachable(1, silent);
        world.run(Duration::from_millis(30));
        assert!(tickets.iter().all(|t| world.told(*t).is_some()), "without {silent}, suspected meanwhile");
    }
}
