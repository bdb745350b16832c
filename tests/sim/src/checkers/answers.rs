//! No answer without a lease: what a node has decided as owner leaves it only while it holds a lease (L-5).

use sidegrid_core::event::Effect;
use sidegrid_core::message::Message;

use crate::world::World;

impl World {
    /// Looks at an effect that a node's core wants carried out.
    pub(crate) fn check_answer(&mut self, node: usize, effect: &Effect) {
        let answer = match effect {
            Effect::Reply { result: Ok(answer), .. } => answer,
            Effect::Send { envelope, .. } => match &envelope.message {
                Message::Forwarded { result: Ok(answer), .. } => answer,
                _ => return,
            },
            _ => return,
        };
        let n = &self.nodes[node];
        let Some(life) = &n.life else { return };
        if answer.owner == life.id && !life.gate.has_lease(n.clock.local(self.now)) {
            let what = format!("n{node} answers without a lease: {:?}", answer.outcome);
            self.violated("no answer without a lease", what, None);
        }
    }
}
