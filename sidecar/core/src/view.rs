//! Views: who is in, and which copies of each group are where.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::member::Member;

/// How many members hold a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Replicas {
    /// This many, or as many as there are members. At least 1.
    Count(u16),
    /// Every member ("replicated"). Never enumerated in a placement.
    All,
}

/// Index of a member in [`View::members`].
pub type MemberIndex = u16;

/// A member that gets every write and the state transfer, but may not serve yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Who.
    pub member: MemberIndex,
    /// The view that made it incoming; a copy begun under another `since` is void.
    pub since: ViewNumber,
}

/// The copies of one group in one view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlacement {
    /// In-sync copies, primary first; none: the group is vacant (V-9). For [`Replicas::All`] only the primary: the other
    /// owners are all members that are not incoming.
    pub owners: SmallVec<[MemberIndex; 3]>,
    /// Copies being filled.
    pub incoming: SmallVec<[Incoming; 1]>,
    /// Members of this view that were owners in the view before and are not any more (D-1).
    pub dropped: SmallVec<[MemberIndex; 1]>,
    /// The view in which the present primary took the role.
    pub primary_since: ViewNumber,
    /// The view in which the group last started empty (made, or lost with all its owners).
    pub empty_since: ViewNumber,
}

/// One numbered membership and its placement. Immutable once decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// +1 per change.
    pub number: ViewNumber,
    /// In join order. May be empty after the last member left.
    pub members: Vec<Member>,
    /// The replica counts in use, ascending; the class of a group is an index into this.
    pub classes: Vec<Replicas>,
    /// Segment count.
    pub segments: u16,
    /// One for each group, indexed by [`GroupId::index`].
    #[serde(with = "crate::document::compact")]
    pub groups: Vec<GroupPlacement>,
    /// Join order given to the next joiner.
    pub next_joined: u64,
}

impl View {
    /// Whether every index points somewhere: what comes from a peer or the registry is checked once, and then trusted.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let members = self.members.len();
        let inside = |i: &MemberIndex| usize::from(*i) < members;
        let group = |g: &GroupPlacement| {
            g.owners.iter().chain(&g.dropped).all(inside) && g.incoming.iter().all(|x| inside(&x.member))
        };
        self.segments > 0
            && self.groups.len() == self.classes.len() * usize::from(self.segments)
            && self.groups.iter().all(group)
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    /// The member's index.
    #[must_use]
    pub fn index_of(&self, id: MemberId) -> Option<MemberIndex> {
        self.members.iter().position(|m| m.id == id).and_then(|i| u16::try_from(i).ok())
    }

    /// Whether `id` is a member.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.member(id).is_some()
    }

    /// All member ids in join order.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().map(|m| m.id)
    }

    /// All member ids but `me`.
    pub fn others(&self, me: MemberId) -> impl Iterator<Item = MemberId> + '_ {
        self.ids().filter(move |id| *id != me)
    }

    /// All groups.
    pub fn group_ids(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..u32::try_from(self.groups.len()).unwrap_or(u32::MAX)).map(GroupId)
    }

    /// The replica count of a group.
    #[must_use]
    pub fn replicas(&self, group: GroupId) -> Replicas {
        self.classes[group.index() / usize::from(self.segments)]
    }

    /// The placement of a group.
    #[must_use]
    pub fn placement(&self, group: GroupId) -> &GroupPlacement {
        &self.groups[group.index()]
    }

    fn id_at(&self, index: MemberIndex) -> MemberId {
        self.members[usize::from(index)].id
    }

    /// The primary of a group; none of a vacant one, and in an empty view.
    #[must_use]
    pub fn primary(&self, group: GroupId) -> Option<MemberId> {
        self.placement(group).owners.first().map(|&i| self.id_at(i))
    }

    /// The in-sync copies of a group, primary first.
    #[must_use]
    pub fn owners(&self, group: GroupId) -> SmallVec<[MemberId; 4]> {
        let placement = self.placement(group);
        let listed = placement.owners.iter().map(|&i| self.id_at(i));
        if self.replicas(group) != Replicas::All {
            return listed.collect();
        }
        let rest = (0u16..)
            .zip(&self.members)
            .filter(|(i, _)| !placement.owners.contains(i) && !placement.incoming.iter().any(|x| x.member == *i));
        listed.chain(rest.map(|(_, m)| m.id)).collect()
    }

    /// Groups without an in-sync owner, in a view with members (V-9).
    pub fn vacant(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.group_ids().filter(|g| !self.members.is_empty() && self.placement(*g).owners.is_empty())
    }

    /// The copies being filled.
    #[must_use]
    pub fn incoming(&self, group: GroupId) -> SmallVec<[(MemberId, ViewNumber); 2]> {
        self.placement(group).incoming.iter().map(|x| (self.id_at(x.member), x.since)).collect()
    }

    /// Members that stopped being owners of the group with this view.
    #[must_use]
    pub fn dropped(&self, group: GroupId) -> SmallVec<[MemberId; 2]> {
        self.placement(group).dropped.iter().map(|&i| self.id_at(i)).collect()
    }

    /// Whether `id` holds an in-sync copy.
    #[must_use]
    pub fn is_owner(&self, group: GroupId, id: MemberId) -> bool {
        let Some(index) = self.index_of(id) else { return false };
        let placement = self.placement(group);
        placement.owners.contains(&index)
            || (self.replicas(group) == Replicas::All && !placement.incoming.iter().any(|x| x.member == index))
    }
}
