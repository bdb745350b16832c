//! The document's own rules: what one change may do to it (G-1, C-2, S-1, T-1).

use sidegrid_core::GroupId;
use sidegrid_core::document::Document;
use sidegrid_core::view::View;

use crate::world::World;

/// Most proofs that a document may hold in a world this small.
const MAX_PROOFS: usize = 64;

impl World {
    /// Compares a document with the one it replaced.
    pub(crate) fn check_document(&mut self, before: &Document, after: &Document) {
        if let Err(what) = compare(before, after, self.limits.unsealed_views) {
            self.violated("document", what, None);
        }
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
    if old.groups.len() == new.groups.len() && !old.members.is_empty() {
        new.group_ids().try_for_each(|group| owners_follow(old, new, group))?;
    }
    Ok(())
}

/// Whoever is owner now was owner or incoming before, or the group starts empty.
fn owners_follow(old: &View, new: &View, group: GroupId) -> Result<(), String> {
    let owners = new.owners(group);
    if owners.is_empty() {
        // Vacant, as the document says; or nobody is left.
        return Ok(());
    }
    if new.placement(group).empty_since == new.number {
        return Ok(());
    }
    let incoming = old.incoming(group);
    for owner in owners {
        if !old.is_owner(group, owner) && !incoming.iter().any(|(id, _)| *id == owner) {
            return Err(format!("{owner} owns group {} without having held a copy (T-1)", group.0));
        }
    }
    Ok(())
}
