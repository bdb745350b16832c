//! Choosing who holds what: the next view's placement from the present one.
//!
//! Pure and deterministic. Moves little: a group's present copies stay unless loads or topology call for another.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::member::Member;
use crate::view::{GroupPlacement, Incoming, MemberIndex, Replicas, View};

mod balance;
#[cfg(test)]
mod tests;

/// A change of membership and placement.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Members that go: excluded, or stopped.
    pub(crate) remove: BTreeSet<MemberId>,
    /// Joiners, whose `joined` is set here.
    pub(crate) add: Vec<Member>,
    /// Members that shall own nothing.
    pub(crate) leaving: BTreeSet<MemberId>,
    /// Incoming copies that are complete.
    pub(crate) in_sync: BTreeSet<(GroupId, MemberId)>,
    /// Vacant groups that end being so: with the member that kept a copy, else empty (V-9).
    pub(crate) refill: BTreeMap<GroupId, Option<MemberId>>,
    /// An exclusion takes no role from a member that stays; a planned change may.
    pub(crate) exclusion: bool,
}

/// The first view of a cluster, or one that starts again from nothing.
pub(crate) fn start(
    number: ViewNumber,
    mut member: Member,
    classes: Vec<Replicas>,
    segments: u16,
    joined: u64,
) -> View {
    member.joined = joined;
    let group = GroupPlacement {
        owners: SmallVec::from_slice(&[0]),
        incoming: SmallVec::new(),
        dropped: SmallVec::new(),
        primary_since: number,
        empty_since: number,
    };
    let groups = vec![group; classes.len() * usize::from(segments)];
    View { number, members: vec![member], classes, segments, groups, next_joined: joined + 1 }
}

/// Carries out a change on `view`.
pub(crate) fn next_view(view: &View, change: &Change) -> View {
    let number = view.number.next();
    let mut next_joined = view.next_joined;
    let mut members: Vec<Member> = view.members.iter().filter(|m| !change.remove.contains(&m.id)).cloned().collect();
    let old_count = members.len();
    for joiner in &change.add {
        members.push(Member { joined: next_joined, ..joiner.clone() });
        next_joined += 1;
    }
    let planner = Planner::new(view, change, number, &members, old_count);
    let mut groups = Vec::with_capacity(view.groups.len());
    if !members.is_empty() {
        for class in 0..view.classes.len() {
            planner.plan_class(class, &mut groups);
        }
    } else {
        groups = view.groups.iter().map(|_| empty_group(number)).collect();
    }
    View { number, members, classes: view.classes.clone(), segments: view.segments, groups, next_joined }
}

fn empty_group(number: ViewNumber) -> GroupPlacement {
    GroupPlacement {
        owners: SmallVec::new(),
        incoming: SmallVec::new(),
        dropped: SmallVec::new(),
        primary_since: number,
        empty_since: number,
    }
}

struct Planner<'a> {
    view: &'a View,
    change: &'a Change,
    number: ViewNumber,
    members: &'a [Member],
    /// Index in the new view of each index in the old one.
    index: BTreeMap<MemberIndex, MemberIndex>,
    /// New indices that may own.
    eligible: Vec<MemberIndex>,
    old_count: usize,
}

/// A group's copies in new indices, before anything is chosen.
struct Held {
    owners: Vec<MemberIndex>,
    incoming: Vec<Incoming>,
}

impl<'a> Planner<'a> {
    fn new(view: &'a View, change: &'a Change, number: ViewNumber, members: &'a [Member], old_count: usize) -> Self {
        let to_new = |id: MemberId| members.iter().position(|m| m.id == id).map(as_index);
        let index = (0..).zip(&view.members).filter_map(|(i, m)| Some((i, to_new(m.id)?))).collect();
        let all = (0..members.len()).map(as_index);
        let mut eligible: Vec<_> =
            all.clone().filter(|&i| !change.leaving.contains(&members[usize::from(i)].id)).collect();
        if eligible.is_empty() {
            eligible = all.collect();
        }
        Planner { view, change, number, members, index, eligible, old_count }
    }

    fn plan_class(&self, class: usize, out: &mut Vec<GroupPlacement>) {
        let segments = usize::from(self.view.segments);
        let ids: Vec<GroupId> =
            (class * segments..(class + 1) * segments).map(|i| GroupId(u32::try_from(i).unwrap_or(u32::MAX))).collect();
        match self.view.classes[class] {
            Replicas::All => {
                let held: Vec<Held> = ids.iter().map(|&g| self.held(g)).collect();
                let planned: Vec<_> = ids.iter().zip(held).map(|(&g, held)| self.place_on_all(g, held)).collect();
                self.choose_primaries(&ids, planned, true, out);
            }
            Replicas::Count(count) => {
                let held: Vec<Held> = ids.iter().map(|&g| self.held(g)).collect();
                let targets = balance::targets(self.members, &self.eligible, usize::from(count), &held);
                let planned: Vec<_> = ids
                    .iter()
                    .zip(held)
                    .zip(targets)
                    .map(|((&g, held), target)| self.place(g, held, &target))
                    .collect();
                self.choose_primaries(&ids, planned, false, out);
            }
        }
    }

    /// The group's copies that survive the change; complete incoming ones count as owners.
    fn held(&self, group: GroupId) -> Held {
        let old = self.view.placement(group);
        let mut owners: Vec<MemberIndex> = old.owners.iter().filter_map(|i| self.index.get(i).copied()).collect();
        let mut incoming = Vec::new();
        for copy in &old.incoming {
            let Some(&member) = self.index.get(&copy.member) else { continue };
            let id = self.members[usize::from(member)].id;
            if self.change.in_sync.contains(&(group, id)) {
                owners.push(member);
            } else {
                incoming.push(Incoming { member, since: copy.since });
            }
        }
        Held { owners, incoming }
    }

    /// A group of a class with a replica count: keeps what is in sync until every target is.
    fn place(&self, group: GroupId, held: Held, target: &[MemberIndex]) -> GroupPlacement {
        let old = self.view.placement(group);
        let mut placed = GroupPlacement {
            owners: SmallVec::from_vec(held.owners.clone()),
            incoming: SmallVec::new(),
            dropped: SmallVec::new(),
            primary_since: old.primary_since,
            empty_since: old.empty_since,
        };
        if held.owners.is_empty() && !self.refill(group, &mut placed, target[0]) {
            return placed;
        }
        let complete = target.iter().all(|t| placed.owners.contains(t));
        if complete && !self.change.exclusion {
            let was_owner = |o: &MemberIndex| old.owners.iter().any(|i| self.index.get(i) == Some(o));
            placed.dropped = placed.owners.iter().copied().filter(|o| !target.contains(o) && was_owner(o)).collect();
            placed.owners.retain(|o| target.contains(o));
        } else {
            let since = |member| held.incoming.iter().find(|x| x.member == member).map_or(self.number, |x| x.since);
            let missing = target.iter().filter(|t| !placed.owners.contains(t));
            placed.incoming = missing.map(|&member| Incoming { member, since: since(member) }).collect();
        }
        placed
    }

    /// A group held by everybody: joiners come in as incoming; the owners but the primary are implied.
    fn place_on_all(&self, group: GroupId, held: Held) -> GroupPlacement {
        let old = self.view.placement(group);
        let joiners = (self.old_count..self.members.len()).map(as_index);
        let fresh = joiners.map(|member| Incoming { member, since: self.number });
        let incoming: SmallVec<[Incoming; 1]> = held.incoming.iter().copied().chain(fresh).collect();
        let owners: SmallVec<_> =
            (0..self.members.len()).map(as_index).filter(|i| !incoming.iter().any(|x| x.member == *i)).collect();
        let mut placed = GroupPlacement {
            owners,
            incoming,
            dropped: SmallVec::new(),
            primary_since: old.primary_since,
            empty_since: old.empty_since,
        };
        // The primary first, so that it is kept where it may be.
        if let Some(at) = held.owners.first().and_then(|p| placed.owners.iter().position(|o| o == p)) {
            placed.owners.swap(0, at);
        }
        if placed.owners.is_empty() && self.refill(group, &mut placed, self.eligible[0]) {
            let first = placed.owners[0];
            placed.incoming.retain(|x| x.member != first);
        }
        placed
    }

    /// Gives a group without an in-sync owner its first one: whoever kept a copy, else `first`, empty. False: it is vacant,
    /// or stays so (V-9). A group that leavers take with them starts empty at once: nobody comes back with it.
    fn refill(&self, group: GroupId, placed: &mut GroupPlacement, first: MemberIndex) -> bool {
        let was_vacant = self.view.placement(group).owners.is_empty();
        let kept = match self.change.refill.get(&group) {
            Some(Some(member)) => self.members.iter().position(|m| m.id == *member).map(as_index),
            Some(None) => None,
            None if was_vacant => return false,
            None if self.change.exclusion => {
                placed.primary_since = self.number;
                return false;
            }
            None => None,
        };
        match kept {
            Some(member) => {
                placed.owners = SmallVec::from_slice(&[member]);
                placed.primary_since = self.number;
            }
            None => self.start_empty(placed, first),
        }
        true
    }

    fn start_empty(&self, placed: &mut GroupPlacement, first: MemberIndex) {
        placed.owners = SmallVec::from_slice(&[first]);
        placed.empty_since = self.number;
        placed.primary_since = self.number;
    }

    /// Puts each group's primary first: the present one where it stays and its load allows, else the least loaded.
    fn choose_primaries(
        &self,
        ids: &[GroupId],
        mut planned: Vec<GroupPlacement>,
        all: bool,
        out: &mut Vec<GroupPlacement>,
    ) {
        let mut load: BTreeMap<MemberIndex, usize> = self.eligible.iter().map(|&i| (i, 0)).collect();
        let kept: Vec<Option<MemberIndex>> = ids
            .iter()
            .zip(&planned)
            .map(|(&g, p)| {
                let old = self.view.placement(g).owners.first().and_then(|i| self.index.get(i).copied());
                old.filter(|o| p.owners.contains(o) && self.may_stay_primary(*o, p, all))
            })
            .collect();
        for primary in kept.iter().flatten() {
            *load.entry(*primary).or_default() += 1;
        }
        for ((&group, placed), kept) in ids.iter().zip(&mut planned).zip(&kept) {
            if placed.owners.is_empty() {
                continue;
            }
            let chosen = kept.unwrap_or_else(|| self.least_loaded(placed, &load));
            if kept.is_none() {
                *load.entry(chosen).or_default() += 1;
            }
            self.lead(group, placed, chosen);
        }
        if !self.change.exclusion {
            self.even_primaries(ids, &mut planned, &mut load);
        }
        for mut placed in planned {
            if all {
                placed.owners.truncate(1);
            }
            out.push(placed);
        }
    }

    /// A leaving primary stays until the group's copies elsewhere are complete.
    fn may_stay_primary(&self, primary: MemberIndex, placed: &GroupPlacement, all: bool) -> bool {
        if self.change.exclusion || self.eligible.contains(&primary) {
            return true;
        }
        let alternative = placed.owners.iter().any(|o| self.eligible.contains(o));
        !alternative || (!all && !placed.incoming.is_empty())
    }

    fn least_loaded(&self, placed: &GroupPlacement, load: &BTreeMap<MemberIndex, usize>) -> MemberIndex {
        let key = |i: &&MemberIndex| (!self.eligible.contains(i), load.get(i).copied().unwrap_or(0), **i);
        placed.owners.iter().min_by_key(key).copied().unwrap_or(0)
    }

    fn lead(&self, group: GroupId, placed: &mut GroupPlacement, primary: MemberIndex) {
        if let Some(at) = placed.owners.iter().position(|&o| o == primary) {
            placed.owners[..=at].rotate_right(1);
        }
        let old = self.view.placement(group);
        let before = old.owners.first().and_then(|i| self.index.get(i).copied());
        placed.primary_since =
            if placed.empty_since != self.number && before == Some(primary) { old.primary_since } else { self.number };
    }

    /// Moves the primary role within complete groups until loads differ by at most one, where that can be.
    fn even_primaries(&self, ids: &[GroupId], planned: &mut [GroupPlacement], load: &mut BTreeMap<MemberIndex, usize>) {
        for _ in 0..planned.len() {
            let mut moved = false;
            for (&group, placed) in ids.iter().zip(planned.iter_mut()) {
                let Some(&primary) = placed.owners.first() else { continue };
                let of = |i: MemberIndex| load.get(&i).copied().unwrap_or(0);
                let candidates = placed.owners.iter().copied().filter(|o| self.eligible.contains(o));
                let Some(least) = candidates.min_by_key(|&o| (of(o), o)) else { continue };
                if !placed.incoming.is_empty() || of(least) + 1 >= of(primary) {
                    continue;
                }
                *load.entry(primary).or_default() -= 1;
                *load.entry(least).or_default() += 1;
                self.lead(group, placed, least);
                moved = true;
            }
            if !moved {
                break;
            }
        }
    }
}

fn as_index(i: usize) -> MemberIndex {
    MemberIndex::try_from(i).unwrap_or(MemberIndex::MAX)
}
