//! The checkers: each in a file of its own, and when each looks.

pub(crate) mod answers;
pub(crate) mod bounds;
pub(crate) mod convergence;
pub(crate) mod document;
pub(crate) mod excluded;
pub(crate) mod lifetime;
pub(crate) mod linearizable;
pub(crate) mod losses;
pub(crate) mod one_primary;
pub(crate) mod register;
pub(crate) mod search;
pub(crate) mod standing;
pub(crate) mod survival;

use sidegrid_core::document::Document;
use sidegrid_core::event::Notice;

use crate::clock::SEC;
use crate::node::{incarnation_of, node_of};
use crate::queue::What;
use crate::world::World;

/// What the checkers remember between two looks.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    /// Looks so far.
    pub(crate) samples: u64,
}

impl World {
    /// The look every few milliseconds.
    pub(crate) fn sample(&mut self) {
        self.checkers.samples += 1;
        // In a large grid each look takes long; whoever becomes primary is looked at when it does.
        let large = self.nodes.len() * self.groups() > 2_000;
        if !large || self.checkers.samples.is_multiple_of(10) {
            self.check_one_primary();
        }
        if self.checkers.samples.is_multiple_of(25) {
            self.check_bounds();
            self.check_members_stay();
        }
    }

    /// A core said what happened.
    pub(crate) fn noticed(&mut self, node: usize, notice: &Notice) {
        match notice {
            Notice::ViewInstalled { view, .. } => {
                let before = self.nodes[node].life.as_ref().map(|l| l.view);
                if before.is_some_and(|b| view.number <= b) {
                    let what = format!("n{node} installs v{} after v{before:?}", view.number);
                    return self.violated("views", what, None);
                }
                if let Some(life) = self.nodes[node].life.as_mut() {
                    life.view = view.number;
                }
                self.check_one_primary();
            }
            Notice::Promoted { .. } => {
                self.stats.promotions += 1;
                self.check_one_primary();
            }
            Notice::LeaseGained => self.check_one_primary(),
            Notice::Transferred { .. } => self.stats.transfers += 1,
            Notice::ProvedDead { member } if incarnation_of(*member) < self.nodes[node_of(*member)].booted.into() => {
                self.coverage.hit("P-3");
            }
            _ => {}
        }
    }

    /// The registry's document was created or replaced.
    pub(crate) fn document_changed(&mut self, before: Option<&Document>) {
        let Some(after) = self.registry.document().cloned() else { return };
        self.check_excluded(&after);
        let Some(before) = before else {
            self.stats.views += 1;
            return;
        };
        if after.view.number != before.view.number {
            self.stats.views += 1;
            self.begin_armed();
        }
        self.coverage.change(before, &after);
        self.check_document(before, &after);
        self.note_losses(before, &after);
        self.note_vacancies(&after);
    }

    /// The registry has made a lost document again.
    pub(crate) fn document_made_again(&mut self) {
        let Some(after) = self.registry.document().cloned() else { return };
        self.stats.views += 1;
        self.note(format_args!("MADE AGAIN {}", crate::format::document(&after)));
        self.check_excluded(&after);
        self.note_vacancies(&after);
        self.begin_armed();
        // The operator compares the document with the pods again.
        for dead in self.platform_said.clone() {
            self.queue.push(self.now + self.rng.between(SEC / 2, 2 * SEC), What::PlatformWord { dead });
        }
    }

    /// The run is over and everything has been whole for a while.
    pub(crate) fn check_at_end(&mut self) {
        self.check_served_meanwhile();
        self.check_convergence();
        self.check_survival();
        self.check_linearizable();
        self.check_lifetimes();
    }
}
