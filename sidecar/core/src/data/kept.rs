//! What an incarnation that is over hands to the next one of its process: copies of groups that nobody else may hold (V-9).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Data;
use super::group::{Group, Role};
use crate::ids::{GroupId, MemberId};
use crate::storage::Storage;

/// In-sync copies of an incarnation that is over. Made by [`crate::core::Core::into_kept`].
#[derive(Debug)]
pub struct Kept<S: Storage> {
    pub(crate) of: MemberId,
    pub(crate) store: Arc<S>,
    groups: Vec<Group>,
}

impl<S: Storage> Kept<S> {
    /// The store that holds them, and nothing else.
    #[must_use]
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// How many groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

impl<S: Storage> Data<S> {
    /// Ends this half of the core: what it held in sync is kept, everything else goes from the store.
    pub(crate) fn into_kept(self, me: MemberId) -> Kept<S> {
        let mut kept = Vec::new();
        for mut group in self.groups {
            match group.role {
                Role::Owner | Role::Primary(_) | Role::Kept => {
                    group.role = Role::Kept;
                    kept.push(group);
                }
                Role::Incoming(_) => self.store.clear(group.id),
                Role::None => {}
            }
        }
        Kept { of: me, store: self.store, groups: kept }
    }

    /// Takes over what the incarnation before has kept.
    ///
    /// # Panics
    /// When this half holds a copy already.
    pub(crate) fn adopt(&mut self, kept: Kept<S>) {
        assert!(self.groups.iter().all(|g| !g.holds_copy()), "copies are taken over before any view is installed");
        for group in kept.groups {
            let index = group.id.index();
            if index < self.groups.len() {
                self.groups[index] = group;
            }
        }
    }

    /// Groups whose copies are still kept.
    pub(crate) fn kept(&self) -> BTreeSet<GroupId> {
        self.groups.iter().filter(|g| matches!(g.role, Role::Kept)).map(|g| g.id).collect()
    }
}
