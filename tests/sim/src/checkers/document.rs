//! The document's own rules: what one change may do to it (G-1, G-5, C-2, S-1, T-1).

use sidegrid_core::document::Document;
use sidegrid_core::rights::{self, Caller};
use sidegrid_core::view::View;
use sidegrid_core::{GroupId, MemberId};

use crate::node::node_of;
use crate::world::World;

/// Most proofs that a document may hold in a world this small.
const MAX_PROOFS: usize = 64;

impl World {
    /// A registry that authenticates its callers would have let this change be made (G-5).
    pub(crate) fn check_rights(&mut self, by: MemberId, before: Option<&Document>, is_platform: bool) {
        let Some(after) = self.registry.document().cloned().filter(|_| !is_platform) else { return };
        let known = before.and_then(|d| d.view.member(by)).map(|member| member.identity.clone());
        let identity = known.unwrap_or_else(|| self.nodes[node_of(by)].identity.clone());
        let caller = Caller { member: by, identity };
        let checked = match before {
            // Nodes have no platform that would say who is on its way out.
            Some(before) => rights::check_change(&caller, before, &after, &|_| true),
            None => rights::check_creation(&caller, &after),
        };
        match checked {
            Ok(()) => self.coverage.hit("G-5"),
            Err(error) => self.violated("rights", error.to_string(), None),
        }
    }

    /// Compares a document with the one it replaced.
    pub(crate) fn check_document(&mut self, before: &Document, after: &Document) {
        let compared = compare(before, after, self.limits.unsealed_views).and_then(|()| {
            if before.view.groups.len() != after.view.groups.len() || before.view.members.is_empty() {
                return Ok(());
            }
            after.view.group_ids().try_for_each(|group| self.owners_follow(before, &after.view, group))
        });
        if let Err(what) = compared {
            self.violated("document", what, None);
        }
    }

    /// Whoever is owner now was owner or incoming before, or has kept the copy of one of a vacant group's last owners, or
    /// the group starts empty.
    fn owners_follow(&self, before: &Document, new: &View, group: GroupId) -> Result<(), String> {
        if new.placement(group).empty_since == new.number {
            return Ok(());
        }
        // Of a group that is vacant, as the document says, there are none.
        let old = &before.view;
        let incoming = old.incoming(group);
        let held = |owner: MemberId| old.is_owner(group, owner) || incoming.iter().any(|(id, _)| *id == owner);
        let last = before.vacant.get(&group).map_or(&[][..], Vec::as_slice);
        match new.owners(group).iter().copied().find(|&owner| !held(owner) && !self.kept_one_of(owner, last)) {
            Some(owner) => Err(format!("{owner} owns group {} without having held a copy (T-1)", group.0)),
            None => Ok(()),
        }
    }

    /// Whether an incarnation has the copy of one of these, having run in the same process.
    pub(crate) fn kept_one_of(&self, id: MemberId, last: &[MemberId]) -> bool {
        std::iter::successors(Some(id), |id| self.took_over.get(id).copied()).any(|id| last.contains(&id))
    }
}

fn compare(before: &Document, after: &Document, unsealed_bound: usize) -> Result<(), String> {
    let (old, new) = (&before.view, &after.view);
    if after.cluster != before.cluster {
        return Err("another cluster's document".into());
    }
    if after.revision != before.revision + 1 {
        return Err(format!("revision {} follows {}", after.revision, before.revision));
    }
    if new.number != old.number && new.number != old.number.next() {
        return Err(format!("view {} follows {}", new.number, old.number));
    }
    if new.number == old.number {
        if new != old {
            return Err(format!("view {} was changed without a new number", new.number));
        }
        if after.ballot < before.ballot {
            return Err("the ballot went back".into());
        }
        return Ok(());
    }
    let joined = new.ids().filter(|id| !old.contains(*id)).count();
    if joined > old.members.len().max(1) {
        return Err(format!("{joined} join {} members in one change (C-2)", old.members.len()));
    }
    // An exclusion may add one beyond what planned changes wait for, and more of them in a row one each.
    if after.unsealed.len() > unsealed_bound + 8 {
        return Err(format!("{} unsealed views", after.unsealed.len()));
    }
    if after.proofs.len() > MAX_PROOFS {
        return Err(format!("{} proofs", after.proofs.len()));
    }
    let vacant: Vec<GroupId> = new.vacant().collect();
    if !after.vacant.keys().copied().eq(vacant) || after.vacant.values().any(Vec::is_empty) {
        return Err(format!("vacant groups are not those listed, with their last owners: {:?}", after.vacant));
    }
    Ok(())
}
