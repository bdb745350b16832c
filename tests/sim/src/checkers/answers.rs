//! No answer without a lease: what a node has decided as owner leaves it only while it holds a lease (L-5).

use sidegrid_core::event::{Effect, Notice};
use sidegrid_core::message::Message;
use sidegrid_core::operation::Answer;

use crate::world::World;

impl World {
    /// Looks at what a node's core wants done after an event.
    pub(crate) fn check_answers(&mut self, node: usize, effects: &[Effect]) {
        let n = &self.nodes[node];
        let Some(life) = &n.life else { return };
        if life.gate.has_lease(n.clock.local(self.now)) {
            return;
        }
        // With a new view the lease starts anew: what was answered just before had the old one.
        if effects.iter().any(|e| matches!(e, Effect::Notice(Notice::ViewInstalled { .. }))) {
            return;
        }
        if let Some(answer) = effects.iter().filter_map(answer_in).find(|a| a.owner == life.id) {
            let what = format!("n{node} answers without a lease: {:?}", answer.outcome);
            self.violated("no answer without a lease", what, None);
        }
    }
}

fn answer_in(effect: &Effect) -> Option<&Answer> {
    match effect {
        Effect::Reply { result: Ok(answer), .. } => Some(answer),
        Effect::Send { envelope, .. } => match &envelope.message {
            Message::Forwarded { result: Ok(answer), .. } => Some(answer),
            _ => None,
        },
        _ => None,
    }
}
