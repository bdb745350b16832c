//! Nobody outside holds a lease: when a view is decided without an incarnation that still runs, its lease has run out
//! (L-3, V-5, V-6, C-3). This is what makes an old view harmless before a new one serves.

use sidegrid_core::document::Document;

use crate::world::World;

impl World {
    /// Looks at every running incarnation that the new document's view is without.
    pub(crate) fn check_excluded(&mut self, after: &Document) {
        let holder = self.nodes.iter().find_map(|node| {
            let life = node.life.as_ref()?;
            let local = node.clock.local(self.now);
            (life.gate.has_lease(local) && !after.view.contains(life.id)).then_some((node.index, life.view))
        });
        if let Some((node, view)) = holder {
            let what = format!("v{} is decided without n{node}, which holds a lease in v{view}", after.view.number);
            self.violated("no lease outside", what, None);
        }
    }
}
