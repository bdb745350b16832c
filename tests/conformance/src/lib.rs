//! One suite that every registry kind passes.
//!
//! A kind brings a [`Place`]: somewhere to keep one cluster's document, which any number of instances can open. The
//! checks panic with what went wrong; `tests/suite_can_fail.rs` shows that each of them does.

mod documents;
mod file_place;
mod history;
mod lossy;
mod memory;
mod operator_place;
mod proposer;
mod races;
mod sequences;

use std::sync::Arc;

use async_trait::async_trait;
use sidegrid_core::document::Document;
use sidegrid_registry::Registry;

pub use documents::{first, mark_of, next, of_size};
pub use file_place::FilePlace;
pub use history::{History, Step};
pub use lossy::{Losses, Lossy};
pub use memory::{MemoryFault, MemoryPlace};
pub use operator_place::{Mishap, OperatorPlace};
pub use proposer::{Attempt, propose, win};

/// Where one cluster's registry is. Empty when made.
#[async_trait]
pub trait Place: Send + Sync {
    /// A new instance, which shares nothing with the others but the place.
    fn open(&self) -> Arc<dyn Registry>;

    /// Puts a document there, or takes it away, behind the registry's back, as a person with a backup would.
    async fn tamper(&self, document: Option<&Document>);

    /// Whether members keep the authority there; else its calls are refused.
    fn keeps_authority(&self) -> bool {
        true
    }

    /// Whether it is one cluster's alone, whose callers can't name another one.
    fn is_of_one_cluster(&self) -> bool {
        false
    }

    /// Whether it remembers, apart from the document, how new that was: an older one is then as good as missing.
    fn remembers_views(&self) -> bool {
        false
    }
}

/// All checks, each on a place of its own.
///
/// # Panics
/// If the kind fails a check.
pub async fn suite<P: Place>(make: impl Fn() -> P) {
    sequences::holds_what_was_put(&make()).await;
    sequences::compares_each_part(&make()).await;
    sequences::refuses_what_can_not_follow(&make()).await;
    sequences::missing_is_reported_not_repaired(&make()).await;
    sequences::older_is_reported_not_repaired(&make()).await;
    sequences::given_up_calls_are_settled_by_reading(&make()).await;
    sequences::lost_answers_are_settled_by_reading(&make()).await;
    sequences::keeps_large_documents(&make()).await;
    races::one_creator(&make()).await;
    if make().keeps_authority() {
        races::one_authority(&make()).await;
    }
    races::one_winner_a_revision(&make()).await;
    races::one_winner_a_revision_though_answers_are_lost(&make()).await;
}
