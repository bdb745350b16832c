//! Losses are told, and told only when every in-sync copy has failed (V-9, C-7).

use sidegrid_core::document::Document;
use sidegrid_core::{GroupId, MemberId};

use crate::clock::{Instant, SEC, shortest};
use crate::history::Loss;
use crate::node::{Life, node_of};
use crate::world::World;

/// How long after a fault a node's exclusion may still be its consequence: suspicion, promises, the orphan wait, and
/// a registry that was slow.
const AFTERMATH: u64 = 12 * SEC;

impl World {
    /// Notes the groups that a new view starts empty, and whether that had to be.
    pub(crate) fn note_losses(&mut self, before: &Document, after: &Document) {
        let (old, new) = (&before.view, &after.view);
        if new.number == old.number || old.members.is_empty() || old.groups.len() != new.groups.len() {
            return;
        }
        for group in new.group_ids() {
            if new.placement(group).empty_since != new.number {
                continue;
            }
            self.history.losses.push(Loss { at: self.now, view: new.number.0, group });
            self.stats.losses += 1;
            // Of a vacant group, its last ones.
            let owners = before.vacant.get(&group).cloned().unwrap_or_else(|| old.owners(group).to_vec());
            // One that was put out and is back in the same incarnation never installed the view that made it the owner.
            let stays = |id: &&MemberId| !before.vacant.contains_key(&group) && new.contains(**id);
            if let Some(kept) = owners.iter().find(stays) {
                let what = format!("group {} starts empty although {kept} held it and stays", group.0);
                return self.violated("losses", what, None);
            }
            if let Some(keeper) = self.keeper_within_the_wait(before, group) {
                let what =
                    format!("group {} starts empty although n{keeper} has kept a copy and may come back", group.0);
                return self.violated("losses", what, None);
            }
            if let Some(well) = owners.iter().find(|id| self.is_well(**id)) {
                let what = format!("group {} starts empty although {well}, which held it, had no fault", group.0);
                return self.violated("losses", what, None);
            }
        }
    }

    /// A node that has kept the copy of one of a vacant group's last owners, while it is waited for.
    fn keeper_within_the_wait(&self, before: &Document, group: GroupId) -> Option<usize> {
        let last = before.vacant.get(&group)?;
        let since = *self.vacant_since.get(&group)?;
        if self.now > since + shortest(self.profile.timing.orphan_wait) {
            return None;
        }
        let keeps = |life: &Life| life.core.keeps(group) && self.kept_one_of(life.id, last);
        self.nodes.iter().find(|node| node.life.as_ref().is_some_and(keeps)).map(|node| node.index)
    }

    /// Remembers since when groups are vacant.
    pub(crate) fn note_vacancies(&mut self, after: &Document) {
        self.vacant_since.retain(|group, _| after.vacant.contains_key(group));
        for group in after.vacant.keys() {
            self.vacant_since.entry(*group).or_insert(self.now);
        }
    }

    /// Whether an incarnation runs and nothing was done to its node for long.
    fn is_well(&self, id: MemberId) -> bool {
        let node = &self.nodes[node_of(id)];
        // Whoever had a fault may be the one that put it out by mistake.
        let last_fault = self.nodes.iter().map(|n| n.last_fault).max().unwrap_or(0);
        let quiet_since: Instant = last_fault.max(self.last_common_fault);
        self.lives(node.index, id) && !node.draining && !node.left && self.now > quiet_since + AFTERMATH
    }
}
