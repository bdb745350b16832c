//! Bounded memory: what a core and its store hold stays within the limits they were given (B-1).

use crate::store::record_count;
use crate::world::World;

/// Most records of a store for each key of the run: the value or its tombstone.
const RECORDS_PER_KEY: usize = 1;

impl World {
    /// Looks at every core's snapshot.
    pub(crate) fn check_bounds(&mut self) {
        let keys = self.profile.caches.len() * self.profile.keys;
        let groups = self.groups();
        let limits = self.limits;
        let found = self.nodes.iter().find_map(|node| {
            let life = node.life.as_ref()?;
            let shown = life.core.snapshot(node.clock.local(self.now));
            let bounds = [
                ("operations in flight", shown.operations_in_flight, limits.operations_in_flight),
                ("pending writes", shown.pending_writes, limits.pending_writes_per_group * groups),
                ("pending bytes", shown.pending_bytes, limits.pending_bytes),
                ("records", record_count(&life.store, groups), keys * RECORDS_PER_KEY),
                ("apps' operations", life.waiting.len(), limits.operations_in_flight),
            ];
            let over = bounds.into_iter().find(|(_, value, bound)| value > bound)?;
            Some(format!("n{} holds {} {}, bound {}", node.index, over.1, over.0, over.2))
        });
        if let Some(what) = found {
            self.violated("bounds", what, None);
        }
    }
}
