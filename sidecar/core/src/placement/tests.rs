//! Placement over random histories of joins, leaves and exclusions (A-1, C-2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;

use super::{Change, next_view, start};
use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::member::{Locality, Member, PlatformIdentity};
use crate::view::{Replicas, View};

mod scale;

const SEGMENTS: u16 = 64;

fn member(id: u64, rack: u64) -> Member {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        identity: PlatformIdentity::Pod { uid: id.to_string() },
        incarnation: 1,
        data_address: address,
        failure_detection_address: address,
        locality: Locality { site: String::new(), rack: format!("r{rack}"), machine: format!("n{id}") },
        protocols: (1, 1),
        joined: 0,
    }
}

fn first(rack: u64) -> View {
    start(ViewNumber(1), member(1, rack), vec![Replicas::Count(2), Replicas::Count(3), Replicas::All], SEGMENTS, 1)
}

/// Repeats planned changes, every copy complete each time, until nothing changes. Returns how many it took.
fn settle(view: &mut View, leaving: &BTreeSet<MemberId>) -> usize {
    for round in 0.. {
        let in_sync = view.group_ids().flat_map(|g| view.incoming(g).into_iter().map(move |(id, _)| (g, id))).collect();
        let next = next_view(view, &Change { in_sync, leaving: leaving.clone(), ..Change::default() });
        check(view, &next);
        let same = |v: &View| v.group_ids().map(|g| (v.owners(g), v.incoming(g))).collect::<Vec<_>>();
        if same(&next) == same(view) {
            return round;
        }
        assert!(round < 20, "placement does not settle");
        *view = next;
    }
    unreachable!()
}

/// What every change keeps.
fn check(before: &View, after: &View) {
    assert!(after.is_sound());
    assert_eq!(after.number, before.number.next());
    for group in after.group_ids() {
        let owners = after.owners(group);
        let distinct: BTreeSet<_> = owners.iter().collect();
        assert_eq!(distinct.len(), owners.len(), "an owner twice");
        assert!(after.incoming(group).iter().all(|(id, _)| !owners.contains(id)), "owner and incoming at once");
        let empty = after.placement(group).empty_since == after.number;
        let held: BTreeSet<_> =
            before.owners(group).into_iter().chain(before.incoming(group).iter().map(|(id, _)| *id)).collect();
        assert!(empty || owners.iter().all(|o| held.contains(o)), "an owner without a copy");
        let kept = before.primary(group) == after.primary(group) && !empty;
        let since = after.placement(group).primary_since;
        assert_eq!(since == before.placement(group).primary_since, kept, "primary_since tells of a change");
        for dropped in after.dropped(group) {
            assert!(before.is_owner(group, dropped) && !after.is_owner(group, dropped));
        }
    }
}

fn loads(view: &View, class: usize, count: impl Fn(&View, GroupId, MemberId) -> bool) -> BTreeMap<MemberId, usize> {
    let groups = class * usize::from(SEGMENTS)..(class + 1) * usize::from(SEGMENTS);
    let ids: Vec<GroupId> = groups.map(|i| GroupId(u32::try_from(i).unwrap())).collect();
    view.ids().map(|id| (id, ids.iter().filter(|&&g| count(view, g, id)).count())).collect()
}

fn spread(loads: &BTreeMap<MemberId, usize>) -> usize {
    loads.values().max().unwrap_or(&0) - loads.values().min().unwrap_or(&0)
}

#[test]
fn members_of_one_rack_carry_equal_loads_and_a_join_moves_little() {
    let mut view = first(0);
    for id in 2..=7 {
        let before = view.clone();
        view = next_view(&view, &Change { add: vec![member(id, 0)], ..Change::default() });
        check(&before, &view);
        settle(&mut view, &BTreeSet::new());
        for class in 0..2 {
            assert!(spread(&loads(&view, class, View::is_owner)) <= 1, "{id} members, class {class}");
            let primaries = loads(&view, class, |v, g, id| v.primary(g) == Some(id));
            assert!(spread(&primaries) <= 2, "{id} members, class {class}: {primaries:?}");
        }
        let copies = |v: &View| -> BTreeSet<(GroupId, MemberId)> {
            let counted = v.group_ids().take(usize::from(SEGMENTS));
            counted.flat_map(|g| v.owners(g).into_iter().map(move |o| (g, o))).collect()
        };
        let moved = copies(&view).difference(&copies(&before)).count();
        // The least is what the joiner has to carry.
        let least = usize::from(SEGMENTS) * 2 / usize::try_from(id).unwrap();
        assert!(
            moved <= least + 2 + usize::from(id == 2) * usize::from(SEGMENTS),
            "{moved} copies moved, {least} needed"
        );
    }
}

#[test]
fn copies_lie_in_different_racks_where_there_are_two() {
    let mut view = first(0);
    for (id, rack) in [(2, 0), (3, 1), (4, 1)] {
        view = next_view(&view, &Change { add: vec![member(id, rack)], ..Change::default() });
        settle(&mut view, &BTreeSet::new());
    }
    for group in view.group_ids().take(usize::from(SEGMENTS)) {
        let racks: BTreeSet<_> =
            view.owners(group).into_iter().filter_map(|o| view.member(o)).map(|m| &m.locality.rack).collect();
        assert_eq!(racks.len(), 2, "{group:?}");
    }
}

/// The last copy of a group is never given up by a planned change, and a leaver ends with nothing.
#[test]
fn a_leaver_hands_over_everything() {
    let mut view = start(ViewNumber(1), member(1, 0), vec![Replicas::Count(1), Replicas::All], SEGMENTS, 1);
    for id in 2..=3 {
        view = next_view(&view, &Change { add: vec![member(id, 0)], ..Change::default() });
        settle(&mut view, &BTreeSet::new());
    }
    let leaving: BTreeSet<MemberId> = [MemberId(1)].into();
    settle(&mut view, &leaving);
    for group in view.group_ids() {
        assert_ne!(view.primary(group), Some(MemberId(1)));
        assert!(view.replicas(group) == Replicas::All || !view.is_owner(group, MemberId(1)));
    }
    assert!(view.groups.iter().all(|g| g.empty_since == ViewNumber(1)), "nothing was lost on the way");
    let gone = next_view(&view, &Change { remove: leaving, ..Change::default() });
    assert!(gone.groups.iter().all(|g| g.empty_since == ViewNumber(1)));
}

/// V-9: a group whose owners are all excluded is vacant, until it is filled with a kept copy, or empty, which it says.
#[test]
fn an_exclusion_of_all_owners_leaves_the_group_vacant() {
    let mut view = start(ViewNumber(1), member(1, 0), vec![Replicas::Count(1), Replicas::All], SEGMENTS, 1);
    view = next_view(&view, &Change { add: vec![member(2, 0)], ..Change::default() });
    settle(&mut view, &BTreeSet::new());
    let theirs: BTreeSet<GroupId> = view.group_ids().filter(|g| view.owners(*g)[..] == [MemberId(2)]).collect();
    assert!(!theirs.is_empty());
    let change = Change { remove: [MemberId(2)].into(), exclusion: true, ..Change::default() };
    let vacant = next_view(&view, &change);
    check(&view, &vacant);
    assert_eq!(vacant.vacant().collect::<BTreeSet<_>>(), theirs);
    let waits = next_view(&vacant, &Change { add: vec![member(3, 0)], ..Change::default() });
    check(&vacant, &waits);
    assert_eq!(waits.vacant().collect::<BTreeSet<_>>(), theirs, "a planned change fills none by itself");
    for kept in [Some(MemberId(4)), None] {
        let refill = theirs.iter().map(|g| (*g, kept)).collect();
        let next = next_view(&waits, &Change { add: vec![member(4, 0)], refill, ..Change::default() });
        assert_eq!(next.vacant().next(), None);
        for group in &theirs {
            let placed = next.placement(*group);
            assert_eq!(placed.primary_since, next.number);
            assert_eq!(placed.empty_since == next.number, kept.is_none());
            assert!(kept.is_none() || next.primary(*group) == kept);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_history_keeps_what_must_be_kept(steps in prop::collection::vec((0u8..4, 0u64..4, any::<bool>()), 1..24)) {
        let mut view = first(0);
        let mut next_id = 2;
        for (kind, pick, settles) in steps {
            let mut change = Change::default();
            let chosen = view.members.get(usize::try_from(pick).unwrap() % view.members.len()).map(|m| m.id);
            match kind {
                0 | 1 if view.members.len() < 7 => {
                    change.add.push(member(next_id, pick % 3));
                    next_id += 1;
                }
                2 if view.members.len() > 1 => {
                    change.exclusion = true;
                    change.remove.extend(chosen);
                }
                _ if view.members.len() > 1 => change.leaving.extend(chosen),
                _ => {}
            }
            let next = next_view(&view, &change);
            check(&view, &next);
            view = next;
            if settles {
                settle(&mut view, &change.leaving);
            }
        }
    }
}
