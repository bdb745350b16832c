//! Which entry to give up: one policy a file.

mod ghosts;
mod lru;
mod nodes;
mod s3_fifo;
mod sketch;
mod w_tiny_lfu;

use std::fmt::Debug;

pub(crate) use nodes::{List, MOST_GROUPS, NAMED, Nodes, Place};

use crate::settings::Policy;

/// What a policy finds at an entry that it looks at. Looking takes the uses away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Uses since it was looked at last, 0 to 15.
    pub(crate) uses: u32,
    /// Reading of [`Eviction::clock`] at the last use, modulo 2²⁷; of meaning only when there were uses.
    pub(crate) stamp: u32,
    /// Of cache and key.
    pub(crate) hash: u32,
}

/// Looks at an entry; none while it is being written, which a policy takes for a use.
pub(crate) type Looker<'a> = &'a mut dyn FnMut(u32, Place) -> Option<Look>;

/// Most entries that a policy looks at for one choice; then it takes what comes next.
pub(crate) const MOST_LOOKS: usize = 256;

/// Order in which the entries of one cache are given up. Called under the cache's eviction lock; reads don't call it,
/// they leave marks that it finds when it looks.
pub(crate) trait Eviction: Debug + Send {
    /// Takes in an entry that is in no queue. Never gives one up by itself.
    fn admit(&mut self, nodes: &mut Nodes, ticket: u32, hash: u32);

    /// Takes an entry that is in a queue out of it.
    fn remove(&mut self, nodes: &mut Nodes, ticket: u32);

    /// Takes the entry that should go next out of its queue; none only when there is no entry. Looks at no more than
    /// about [`MOST_LOOKS`] entries.
    fn choose(&mut self, nodes: &mut Nodes, look: Looker<'_>) -> Option<u32>;

    /// Takes back an entry that was chosen and then stayed: unless it is used, it is chosen again before long.
    fn restore(&mut self, nodes: &mut Nodes, ticket: u32);

    /// What reads stamp on entries, moved on by admissions; constant for a policy that does not care.
    fn clock(&self) -> u32 {
        0
    }
}

/// A policy over an empty cache.
pub(crate) fn policy(policy: Policy) -> Box<dyn Eviction> {
    match policy {
        Policy::S3Fifo => Box::<s3_fifo::S3Fifo>::default(),
        Policy::Lru => Box::<lru::Lru>::default(),
        Policy::WTinyLfu => Box::<w_tiny_lfu::WTinyLfu>::default(),
    }
}
