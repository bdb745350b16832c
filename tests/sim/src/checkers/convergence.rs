//! Convergence: once all faults are over, one view with every living member, complete and equal copies, and no
//! operation refused.

use std::collections::BTreeMap;

use sidegrid_core::document::Document;
use sidegrid_core::snapshot::Participation;
use sidegrid_core::storage::CacheKey;
use sidegrid_core::{GroupId, MemberId, Version};

use crate::history::Told;
use crate::node::{Life, node_of};
use crate::store::records;
use crate::world::World;

/// What a copy shows of a live entry.
type Shown = (Version, Version, Vec<u8>);

impl World {
    /// Looks at the end of the run.
    pub(crate) fn check_convergence(&mut self) {
        let Some(document) = self.registry.document().cloned() else {
            return self.violated("convergence", "the registry holds no document".into(), None);
        };
        let found = self
            .members_agree(&document)
            .and_then(|()| self.copies_are_complete(&document))
            .and_then(|()| self.nothing_under_way());
        if let Err(what) = found {
            return self.violated("convergence", what, None);
        }
        let failed = self
            .history
            .operations
            .iter()
            .find(|o| o.last && matches!(o.told, Told::Unknown | Told::Refused(_)))
            .map(|o| (o.key, o.to_string()));
        if let Some((key, what)) = failed {
            self.violated("convergence", format!("an operation at the end failed: {what}"), Some(key));
        }
    }

    /// Whether a write has not reached all copies yet: one may expire in the very moment in which the run ends.
    pub(crate) fn still_replicates(&self) -> bool {
        self.nodes.iter().any(|node| {
            node.life.as_ref().is_some_and(|life| life.core.snapshot(node.clock.local(self.now)).pending_writes > 0)
        })
    }

    fn members_agree(&self, document: &Document) -> Result<(), String> {
        let view = &document.view;
        for node in &self.nodes {
            let Some(life) = &node.life else {
                if node.started && !node.lost {
                    return Err(format!("n{} does not run", node.index));
                }
                continue;
            };
            let shown = life.core.snapshot(node.clock.local(self.now));
            let installed = shown.view.as_ref().map(|v| v.number);
            if installed != Some(view.number) {
                return Err(format!("n{} has installed {installed:?}, the registry has {}", node.index, view.number));
            }
            let member = node.joins && !node.draining;
            let expected = if member { Participation::Member } else { Participation::Client };
            if shown.participation != expected || view.contains(life.id) != member {
                let state = shown.participation;
                return Err(format!("n{} is {state:?}, expected {expected:?}; {:?}", node.index, shown.waits_for));
            }
            if !shown.suspected.is_empty() {
                return Err(format!("n{} still suspects {:?}", node.index, shown.suspected));
            }
        }
        match view.ids().find(|id| !self.lives(node_of(*id), *id)) {
            Some(gone) => Err(format!("the view still has {gone}, which does not run")),
            None => Ok(()),
        }
    }

    fn copies_are_complete(&self, document: &Document) -> Result<(), String> {
        let view = &document.view;
        for group in view.group_ids() {
            if !view.incoming(group).is_empty() {
                return Err(format!("group {} still has incoming copies", group.0));
            }
            let wanted = match view.replicas(group) {
                sidegrid_core::view::Replicas::Count(count) => usize::from(count).min(view.members.len()),
                sidegrid_core::view::Replicas::All => view.members.len(),
            };
            let owners = view.owners(group);
            if owners.len() != wanted {
                return Err(format!("group {} has {} owners, wants {wanted}", group.0, owners.len()));
            }
            let mut first: Option<(MemberId, BTreeMap<CacheKey, Shown>)> = None;
            for owner in owners {
                let Some(life) = self.nodes[node_of(owner)].life.as_ref() else { continue };
                let copy = live_entries(life, group);
                match &first {
                    None => first = Some((owner, copy)),
                    Some((other, expected)) if *expected != copy => {
                        return Err(format!(
                            "copies of group {} differ: {other} {expected:?}, {owner} {copy:?}",
                            group.0
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn nothing_under_way(&self) -> Result<(), String> {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            let shown = life.core.snapshot(node.clock.local(self.now));
            if shown.operations_in_flight > 0 || !life.waiting.is_empty() {
                let waiting = life.waiting.len();
                return Err(format!(
                    "n{}: {} operations under way, {waiting} waiting",
                    node.index, shown.operations_in_flight
                ));
            }
            if shown.pending_writes > 0 {
                return Err(format!("n{}: {} writes pending", node.index, shown.pending_writes));
            }
            if node.joins && !node.draining && !life.gate.has_lease(node.clock.local(self.now)) {
                return Err(format!("n{} has no lease", node.index));
            }
        }
        Ok(())
    }
}

fn live_entries(life: &Life, group: GroupId) -> BTreeMap<CacheKey, Shown> {
    let records = records(&life.store, group).into_iter();
    let live = records.filter_map(|(key, record)| {
        let entry = record.entry?;
        Some((key, (record.version, entry.etag, entry.value.to_vec())))
    });
    live.collect()
}
