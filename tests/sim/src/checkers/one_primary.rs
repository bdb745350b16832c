//! One serving primary: at no instant would two nodes decide operations of one group (L-1, L-5, C-6).

use sidegrid_core::GroupId;

use crate::world::World;

impl World {
    /// Looks at every group now.
    pub(crate) fn check_one_primary(&mut self) {
        let groups = u32::try_from(self.groups()).unwrap_or(0);
        for group in (0..groups).map(GroupId) {
            let mut serving = None;
            for node in &self.nodes {
                let Some(life) = &node.life else { continue };
                if !life.core.serving_primary(group, node.clock.local(self.now)) {
                    continue;
                }
                if let Some(other) = serving.replace(node.index) {
                    let what = format!(
                        "n{other} and n{} both serve group {} (in views {} and {})",
                        node.index,
                        group.0,
                        self.nodes[other].life.as_ref().map_or(0, |l| l.view.0),
                        life.view
                    );
                    return self.violated("one serving primary", what, None);
                }
            }
        }
    }
}
