//! Choosing who holds what: the next view's placement from the present one.
//!
//! Pure and deterministic. Moves little: a group's present copies stay unless loads or topology call for another.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::member::Member;
use crate::view::{GroupPlacement, Incoming, MemberIndex, Replicas, View};

mod balance;
mod primaries;
#[cfg(test)]
mod tests;
mod topology;

use topology::Topology;

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
    index: Vec<Option<MemberIndex>>,
    /// New indices that may own.
    eligible: Vec<MemberIndex>,
    /// The same, by index.
    may_own: Vec<bool>,
    old_count: usize,
}

/// A group's copies in new indices, before anything is chosen.
struct Copies {
    /// In-sync copies; the last ones are those that this change completes.
    owners: balance::Set,
    completed: usize,
    incoming: SmallVec<[Incoming; 1]>,
}

/// How many different answers [`Copies::cost_of_moving_from`] has.
const COSTS: usize = 4;

impl Copies {
    /// What is given up when `member` is not to hold the group after all: nothing yet, a copy being filled, an in-sync
    /// one, or the primary's.
    fn cost_of_moving_from(&self, member: MemberIndex) -> usize {
        match self.owners.iter().position(|&o| o == member) {
            Some(0) => 3,
            Some(_) => 2,
            None => usize::from(self.incoming.iter().any(|x| x.member == member)),
        }
    }
}

/// How a group's owners are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roles {
    /// Each is listed.
    Listed,
    /// Only the primary is: the others are all members that are not incoming.
    All,
}

impl<'a> Planner<'a> {
    fn new(view: &'a View, change: &'a Change, number: ViewNumber, members: &'a [Member], old_count: usize) -> Self {
        let to_new: BTreeMap<MemberId, MemberIndex> = members.iter().map(|m| m.id).zip(0..).collect();
        let index = view.members.iter().map(|m| to_new.get(&m.id).copied()).collect();
        let mut may_own: Vec<bool> = members.iter().map(|m| !change.leaving.contains(&m.id)).collect();
        if !may_own.contains(&true) {
            may_own.fill(true);
        }
        let eligible = (0..).zip(&may_own).filter(|(_, may)| **may).map(|(i, _)| i).collect();
        Planner { view, change, number, members, index, eligible, may_own, old_count }
    }

    fn new_index(&self, old: MemberIndex) -> Option<MemberIndex> {
        self.index[usize::from(old)]
    }

    fn may_own(&self, member: MemberIndex) -> bool {
        self.may_own[usize::from(member)]
    }

    fn plan_class(&self, class: usize, out: &mut Vec<GroupPlacement>) {
        let segments = usize::from(self.view.segments);
        let ids: Vec<GroupId> =
            (class * segments..(class + 1) * segments).map(|i| GroupId(u32::try_from(i).unwrap_or(u32::MAX))).collect();
        let copies: Vec<Copies> = ids.iter().map(|&g| self.copies(g)).collect();
        let (mut planned, roles): (Vec<_>, _) = match self.view.classes[class] {
            Replicas::All => {
                (ids.iter().zip(copies).map(|(&g, copies)| self.place_on_all(g, copies)).collect(), Roles::All)
            }
            Replicas::Count(count) => {
                let topology = Topology::new(self.members);
                let targets = balance::targets(&topology, &self.eligible, usize::from(count), &copies);
                let placed = ids.iter().zip(copies).zip(targets);
                (placed.map(|((&g, copies), target)| self.place(g, copies, &target)).collect(), Roles::Listed)
            }
        };
        self.choose_primaries(&ids, &mut planned, roles);
        out.append(&mut planned);
    }

    /// The group's copies that survive the change; complete incoming ones count as owners.
    fn copies(&self, group: GroupId) -> Copies {
        let old = self.view.placement(group);
        let mut owners: balance::Set = old.owners.iter().filter_map(|&i| self.new_index(i)).collect();
        let (mut incoming, before) = (SmallVec::new(), owners.len());
        for copy in &old.incoming {
            let Some(member) = self.new_index(copy.member) else { continue };
            let id = self.members[usize::from(member)].id;
            if self.change.in_sync.contains(&(group, id)) {
                owners.push(member);
            } else {
                incoming.push(Incoming { member, since: copy.since });
            }
        }
        let completed = owners.len() - before;
        Copies { owners, completed, incoming }
    }

    /// A group of a class with a replica count: keeps what is in sync until every target is.
    fn place(&self, group: GroupId, copies: Copies, target: &[MemberIndex]) -> GroupPlacement {
        let old = self.view.placement(group);
        let mut placed = GroupPlacement {
            owners: copies.owners.iter().copied().collect(),
            incoming: SmallVec::new(),
            dropped: SmallVec::new(),
            primary_since: old.primary_since,
            empty_since: old.empty_since,
        };
        if copies.owners.is_empty() && !self.refill(group, &mut placed, target[0]) {
            return placed;
        }
        let complete = target.iter().all(|t| placed.owners.contains(t));
        if complete && !self.change.exclusion {
            let was_owner = |o: MemberIndex| old.owners.iter().any(|&i| self.new_index(i) == Some(o));
            placed.dropped = placed.owners.iter().copied().filter(|&o| !target.contains(&o) && was_owner(o)).collect();
            placed.owners.retain(|o| target.contains(o));
        } else {
            let since = |member| copies.incoming.iter().find(|x| x.member == member).map_or(self.number, |x| x.since);
            let missing = target.iter().filter(|t| !placed.owners.contains(t));
            placed.incoming = missing.map(|&member| Incoming { member, since: since(member) }).collect();
        }
        placed
    }

    /// A group held by everybody: joiners come in as incoming. Its primary is chosen afterwards.
    fn place_on_all(&self, group: GroupId, copies: Copies) -> GroupPlacement {
        let old = self.view.placement(group);
        let joiners = (self.old_count..self.members.len()).map(as_index);
        let fresh = joiners.map(|member| Incoming { member, since: self.number });
        let mut placed = GroupPlacement {
            owners: SmallVec::new(),
            incoming: copies.incoming.iter().copied().chain(fresh).collect(),
            dropped: SmallVec::new(),
            primary_since: old.primary_since,
            empty_since: old.empty_since,
        };
        if self.is_vacant(&placed, Roles::All) && self.refill(group, &mut placed, self.eligible[0]) {
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

    /// Whether nobody holds the group in sync (V-9).
    fn is_vacant(&self, placed: &GroupPlacement, roles: Roles) -> bool {
        match roles {
            Roles::Listed => placed.owners.is_empty(),
            Roles::All => placed.incoming.len() >= self.members.len(),
        }
    }
}

fn as_index(i: usize) -> MemberIndex {
    MemberIndex::try_from(i).unwrap_or(MemberIndex::MAX)
}
