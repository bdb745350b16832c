use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::document::{Agreed, FORMAT, HASH_RULE, Timing};
use crate::ids::{ClusterUid, ViewNumber};
use crate::member::Locality;
use crate::placement::{self, Change};
use crate::view::{Replicas, View};

fn pod(uid: u64) -> PlatformIdentity {
    PlatformIdentity::Pod { uid: format!("pod-{uid}") }
}

/// The incarnation `id` of the pod `uid`.
fn incarnation(id: u64, uid: u64) -> Member {
    Member {
        id: MemberId(id),
        name: format!("n{id}"),
        identity: pod(uid),
        incarnation: id,
        data_address: ([127, 0, 0, 1], 1).into(),
        failure_detection_address: ([127, 0, 0, 1], 2).into(),
        locality: Locality::default(),
        protocols: (1, 1),
        joined: 0,
    }
}

fn caller(id: u64, uid: u64) -> Caller {
    Caller { member: MemberId(id), identity: pod(uid) }
}

fn same(id: u64) -> Caller {
    caller(id, id)
}

/// View 1 of member 1, taken on by joins to view 2 of all of them.
fn document(members: u64) -> Document {
    let view = placement::start(ViewNumber(1), incarnation(1, 1), vec![Replicas::Count(1), Replicas::All], 4, 1);
    let document = Document {
        vacant: Default::default(),
        format: FORMAT,
        cluster: ClusterUid(1),
        revision: 1,
        ballot: 0,
        view,
        unsealed: vec![],
        departed: vec![],
        proofs: BTreeMap::new(),
        agreed: Agreed { segments: 4, hash: HASH_RULE.into(), caches: vec![], timing: Timing::default() },
    };
    let mut next = document;
    for id in 2..=members {
        next = changed(&next, &[], &[id], &[]);
        next.unsealed.clear();
    }
    next
}

/// What a core makes of a document when so many are taken out, added, and proved dead.
fn changed(present: &Document, remove: &[u64], add: &[u64], proved: &[u64]) -> Document {
    let change = Change {
        remove: remove.iter().copied().map(MemberId).collect(),
        add: add.iter().map(|id| incarnation(*id, *id)).collect(),
        exclusion: !remove.is_empty(),
        ..Change::default()
    };
    let view = placement::next_view(&present.view, &change);
    with_view(present, view, proved)
}

fn with_view(present: &Document, view: View, proved: &[u64]) -> Document {
    let mut next = present.clone();
    next.revision += 1;
    next.proofs.extend(proved.iter().map(|id| (MemberId(*id), Proof::NewerIncarnation)));
    next.unsealed.push(UnsealedView { number: present.view.number, members: present.view.ids().collect() });
    next.departed.extend(present.view.members.iter().filter(|m| !view.contains(m.id)).cloned());
    next.vacant = present.vacant_after(&view);
    next.view = view;
    next
}

fn alone(present: &Document, id: u64, uid: u64, proofs: &[(u64, Proof)]) -> Document {
    let view = &present.view;
    let began = placement::start(
        view.number.next(),
        incarnation(id, uid),
        view.classes.clone(),
        view.segments,
        view.next_joined,
    );
    let mut next = with_view(present, began, &[]);
    next.proofs.extend(proofs.iter().map(|(id, proof)| (MemberId(*id), *proof)));
    next
}

fn check(caller: &Caller, present: &Document, next: &Document) -> Result<(), &'static str> {
    check_change(caller, present, next, &|_| false).map_err(|error| error.reason())
}

/// G-5.
#[test]
fn a_member_changes_its_view_and_nobody_else_does() {
    let present = document(3);
    let joined = changed(&present, &[], &[9], &[]);
    assert_eq!(check(&same(1), &present, &joined), Ok(()));
    assert_eq!(check(&same(9), &present, &joined), Err("not-a-member"), "the joiner itself");
    assert_eq!(
        check(&caller(1, 9), &present, &joined),
        Err("not-a-member"),
        "an id that another pod was certified for"
    );
    let voided = Document { ballot: 1, revision: present.revision + 1, ..present.clone() };
    assert_eq!(check(&same(2), &present, &voided), Ok(()));
    assert_eq!(check(&same(9), &present, &voided), Err("not-a-member"));
    // One that was taken out is a member no more.
    let without = changed(&present, &[3], &[], &[]);
    assert_eq!(check(&same(1), &present, &without), Ok(()));
    assert_eq!(check(&same(3), &without, &changed(&without, &[1], &[], &[])), Err("not-a-member"));
}

/// G-5, V-5: more than half go only with proofs, and whoever claims the next view for itself needs them too.
#[test]
fn more_than_half_go_only_with_proofs() {
    let present = document(3);
    assert_eq!(check(&same(1), &present, &changed(&present, &[2, 3], &[], &[])), Err("majority"));
    assert_eq!(check(&same(1), &present, &changed(&present, &[2, 3], &[], &[2])), Ok(()));
    for (id, uid) in [(9, 9), (9, 1)] {
        let claimed = alone(&present, id, uid, &[]);
        assert_eq!(check(&caller(id, uid), &present, &claimed), Err("majority"));
    }
    let ended = [(1, Proof::NewerIncarnation), (2, Proof::NewerIncarnation), (3, Proof::NewerIncarnation)];
    assert_eq!(check(&same(9), &present, &alone(&present, 9, 9, &ended)), Err("proof"));
    let mut proved = present.clone();
    proved.proofs.extend([2, 3].map(|id| (MemberId(id), Proof::Platform)));
    assert_eq!(
        check(&caller(9, 1), &proved, &alone(&proved, 9, 1, &ended[..1])),
        Ok(()),
        "its own, and the platform's"
    );
}

#[test]
fn proofs_are_told_by_those_who_can_know() {
    let present = document(3);
    let with = |proofs: &[(u64, Proof)]| {
        let mut next = Document { revision: present.revision + 1, ..present.clone() };
        next.proofs.extend(proofs.iter().map(|(id, proof)| (MemberId(*id), *proof)));
        next
    };
    for proof in [Proof::Platform, Proof::Person] {
        assert_eq!(check(&same(1), &present, &with(&[(2, proof)])), Err("proof"));
        assert_eq!(check(&same(9), &present, &with(&[(2, proof)])), Err("proof"));
    }
    assert_eq!(check(&same(1), &present, &with(&[(2, Proof::Released), (3, Proof::NewerIncarnation)])), Ok(()));
    assert_eq!(check(&same(1), &present, &with(&[(77, Proof::Released)])), Err("proof"), "of nobody");
    // From outside: of its own pod's earlier incarnations, and of releases of those that the platform has on their way.
    assert_eq!(check(&caller(9, 2), &present, &with(&[(2, Proof::NewerIncarnation)])), Ok(()));
    let released = with(&[(3, Proof::Released)]);
    assert_eq!(check(&caller(9, 2), &present, &released), Err("proof"));
    let going = |m: &Member| m.id == MemberId(3);
    assert_eq!(check_change(&caller(9, 2), &present, &released, &going), Ok(()));
    assert!(check_change(&caller(9, 2), &present, &with(&[(3, Proof::NewerIncarnation)]), &going).is_err());
    // What is known is not forgotten.
    let known = with(&[(2, Proof::Released)]);
    let forgotten = Document { revision: known.revision + 1, proofs: BTreeMap::new(), ..known.clone() };
    assert_eq!(check(&same(1), &known, &forgotten), Err("shape"));
}

/// V-9: who held a vacant group last is not for its proposer to say.
#[test]
fn the_last_owners_are_those_that_were() {
    let present = document(3);
    let good = changed(&present, &[1], &[], &[]);
    assert!(!good.vacant.is_empty(), "the first held single copies");
    assert_eq!(check(&same(2), &present, &good), Ok(()));
    let none = Document { vacant: BTreeMap::new(), ..good.clone() };
    assert_eq!(check(&same(2), &present, &none), Err("shape"));
    let mut another = good;
    another.vacant.values_mut().for_each(|owners| owners.push(MemberId(2)));
    assert_eq!(check(&same(2), &present, &another), Err("shape"));
}

/// P-3: a host that has booted anew comes with another identity.
#[test]
fn a_host_tells_of_the_boot_before() {
    let host = |machine: &str, boot: &str| PlatformIdentity::Host {
        machine: machine.into(),
        boot: boot.into(),
        lock: format!("n2#{boot}"),
    };
    let mut present = document(3);
    present.view.members[1].identity = host("m2", "b1");
    let mut next = Document { revision: present.revision + 1, ..present.clone() };
    next.proofs.insert(MemberId(2), Proof::NewerIncarnation);
    let by = |identity| check(&Caller { member: MemberId(9), identity }, &present, &next);
    assert_eq!(by(host("m2", "b2")), Ok(()));
    assert_eq!(by(host("m3", "b2")), Err("proof"));
}

#[test]
fn what_a_change_may_look_like() {
    let present = document(3);
    let good = changed(&present, &[3], &[9], &[]);
    assert_eq!(check(&same(1), &present, &good), Ok(()));
    type Spoil = fn(&mut Document);
    let bad: [(&str, Spoil); 13] = [
        ("jumps", |d| d.view.number.0 += 1),
        ("the ballot with it", |d| d.ballot += 1),
        ("another order", |d| d.view.members.swap(0, 1)),
        ("another's address", |d| d.view.members[0].data_address = ([10, 0, 0, 1], 1).into()),
        ("too many", |d| d.view.members.extend((20..25).map(|id| incarnation(id, id)))),
        ("joined before", |d| d.view.members[2].joined = 1),
        ("sealed", |d| d.unsealed.clear()),
        ("another unsealed view", |d| d.unsealed[0].members.truncate(1)),
        ("unrecorded", |d| d.departed.clear()),
        ("never there", |d| d.departed.push(incarnation(50, 50))),
        ("segments", |d| d.agreed.segments = 8),
        ("the same number", |d| d.view.number.0 -= 1),
        ("a group too many", |d| d.view.groups.extend(d.view.groups.first().cloned())),
    ];
    for (what, spoil) in bad {
        let mut next = good.clone();
        spoil(&mut next);
        assert_eq!(check(&same(1), &present, &next), Err("shape"), "{what}");
    }
    let mut far = Document { ballot: 2, revision: present.revision + 1, ..present.clone() };
    assert_eq!(check(&same(1), &present, &far), Err("shape"), "the ballot goes on by one");
    far.ballot = 0;
    far.agreed.timing.lease *= 2;
    assert_eq!(check(&same(1), &present, &far), Ok(()));
    assert_eq!(check(&same(9), &present, &far), Err("shape"), "from outside");
}

#[test]
fn the_first_view_is_its_maker_alone() {
    let first = document(1);
    assert_eq!(check_creation(&same(1), &first), Ok(()));
    assert!(check_creation(&same(2), &first).is_err() && check_creation(&caller(1, 2), &first).is_err());
    let later = Document { view: View { number: ViewNumber(7), ..first.view.clone() }, ..first.clone() };
    assert!(check_creation(&same(1), &later).is_err() && check_creation(&same(1), &document(2)).is_err());
    let mut proved = first.clone();
    proved.proofs.insert(MemberId(4), Proof::Released);
    assert!(check_creation(&same(1), &proved).is_err());
}

proptest! {
    /// G-5: whatever a caller from outside asks for, a view of which more than half are not proved dead by others than the
    /// caller stays as it is.
    #[test]
    fn no_caller_from_outside_takes_a_living_view(
        members in 1u64..7,
        proved in proptest::collection::btree_set(1u64..7, 0..7),
        claimed in proptest::collection::btree_map(1u64..8, 0u8..4, 0..7),
        own_pod in 1u64..9,
        keeps in any::<bool>(),
        ballot in 0u64..3,
    ) {
        let mut present = document(members);
        present.proofs.extend(proved.iter().filter(|id| **id <= members).map(|id| (MemberId(*id), Proof::Platform)));
        let proof = |n| [Proof::NewerIncarnation, Proof::Platform, Proof::Person, Proof::Released][usize::from(n)];
        let mut next = alone(&present, 99, own_pod, &[]);
        if keeps {
            next.view.members.splice(0..0, present.view.members.iter().take(1).cloned());
        }
        next.ballot += ballot;
        for (id, kind) in claimed {
            next.proofs.entry(MemberId(id)).or_insert(proof(kind));
        }
        let alive = (1..=members).filter(|id| !proved.contains(id) && *id != own_pod).count() as u64;
        if check_change(&caller(99, own_pod), &present, &next, &|_| false).is_ok() {
            prop_assert!(alive * 2 <= members, "{alive} of {members} live");
            prop_assert_eq!(next.view.members.len(), 1);
        }
    }

    /// G-5: what a core plans within the rules is never refused.
    #[test]
    fn no_member_is_kept_from_what_the_rules_allow(
        members in 1u64..7,
        by in 1u64..7,
        out in proptest::collection::btree_set(1u64..7, 0..7),
        joins in 0u64..3,
    ) {
        let present = document(members);
        let by = by.min(members);
        let out: Vec<u64> = out.into_iter().filter(|id| *id <= members && *id != by).collect();
        let proved = &out[(members as usize / 2).min(out.len())..];
        let joiners: Vec<u64> = (50..50 + joins.min(members)).collect();
        let next = changed(&present, &out, &joiners, proved);
        prop_assert_eq!(check(&same(by), &present, &next), Ok(()));
    }
}
