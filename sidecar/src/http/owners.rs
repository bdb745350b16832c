//! The `Sidegrid-Owner` header: names of members by id, kept ready.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;
use sidegrid_core::MemberId;

use crate::grid::Grid;

/// Names by id. A member's id is one incarnation's, so what it maps to never changes; the list is made anew from the
/// view when an id is not in it, so it is bounded by the view.
#[derive(Debug)]
pub(crate) struct Owners {
    own_name: HeaderValue,
    known: ArcSwap<Vec<(MemberId, HeaderValue)>>,
}

impl Owners {
    /// Knows this member's own name alone.
    pub(crate) fn new(own_name: &str) -> Owners {
        Owners { own_name: text(own_name), known: ArcSwap::default() }
    }

    /// The name of the member that answered, or its id when no view here knows it (any more).
    pub(crate) fn name(&self, id: MemberId, grid: &Grid) -> HeaderValue {
        if let Some((_, name)) = self.known.load().iter().find(|(known, _)| *known == id) {
            return name.clone();
        }
        let own = grid.member_id();
        let mut known = vec![(own, self.own_name.clone())];
        if let Some(view) = &grid.snapshot().view {
            known.extend(view.members.iter().filter(|m| m.id != own).map(|m| (m.id, text(&m.name))));
        }
        let found = known.iter().find(|(known, _)| *known == id).map(|(_, name)| name.clone());
        if found.is_some() {
            self.known.store(Arc::new(known));
        }
        found.unwrap_or_else(|| text(&id.to_string()))
    }
}

/// A name as a header's value; names are checked where they are set, and what can't be one is left out.
fn text(name: &str) -> HeaderValue {
    HeaderValue::from_str(name).unwrap_or_else(|_| HeaderValue::from_static("?"))
}
