//! Acknowledged writes survive: at the end no owner's copy is older than the newest acknowledged write of its key,
//! unless every copy was lost since (W-1, M-1, M-2, T-1).

use sidegrid_core::storage::{CacheKey, Storage};
use sidegrid_core::{CacheId, Version};

use crate::history::{Asked, KeyIndex, Operation, Told};
use crate::node::node_of;
use crate::workload::{group_of, key_name};
use crate::world::World;

impl World {
    /// Compares the stores with what the apps were told.
    pub(crate) fn check_survival(&mut self) {
        let Some(document) = self.registry.document().cloned() else { return };
        for key in self.keys() {
            let group = group_of(key, &self.profile.caches, self.profile.segments);
            let newest = self.newest_acknowledged(key);
            let Some(newest) = newest else { continue };
            let lost_in = self.history.losses.iter().filter(|l| l.group == group).map(|l| l.view).max();
            if lost_in.is_some_and(|view| newest.view.0 < view) {
                continue;
            }
            let removable = self.profile.max_entries.is_some()
                || self.history.operations.iter().any(|o| o.key == key && may_remove(o));
            let cache_key = CacheKey { cache: CacheId(key.cache), key: key_name(key) };
            for owner in document.view.owners(group) {
                let Some(life) = self.nodes[node_of(owner)].life.as_ref() else { continue };
                let held = life.store.peek(group, &cache_key).map(|r| r.version);
                let fine = held.map_or(removable, |version| version >= newest);
                if !fine {
                    let what = format!("{owner} holds {held:?} where {newest} was acknowledged");
                    return self.violated("acknowledged writes survive", what, Some(key));
                }
            }
        }
    }

    fn newest_acknowledged(&self, key: KeyIndex) -> Option<Version> {
        let told = self.history.operations.iter().filter(|o| o.key == key).filter_map(|o| match &o.told {
            Told::Stored { etag, .. } => Some(*etag),
            Told::Counter(seen) => Some(seen.etag),
            _ => None,
        });
        told.max()
    }
}

/// Whether the operation may leave the key absent without a trace.
fn may_remove(operation: &Operation) -> bool {
    let removes = match &operation.asked {
        Asked::Delete { .. } | Asked::Touch { .. } => true,
        Asked::Put { ttl, .. } => ttl.is_some(),
        Asked::Get | Asked::Increment { .. } => false,
    };
    removes && !matches!(operation.told, Told::Refused(_))
}
