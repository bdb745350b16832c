//! Eviction of one cache over all groups: its policy, and the entries named as victims that have not gone yet.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::RwLock;
use sidegrid_core::Time;

use crate::eviction::{self, Eviction, List, Look, NAMED, Nodes, Place};
use crate::settings::Policy;
use crate::shard::Shard;

/// How long a named victim is not named again.
const NAMED_FOR: Duration = Duration::from_millis(250);
/// Most victims named at once (B-1).
const MOST_NAMED: usize = 4_096;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Evictor {
    nodes: Nodes,
    policy: Box<dyn Eviction>,
    /// Named victims, oldest at the back.
    named: List,
    /// Until when, and what they are counted as. Not more than [`MOST_NAMED`].
    leaving: HashMap<u32, Leaving>,
    leaving_bytes: u64,
}

#[derive(Debug)]
struct Leaving {
    until: Time,
    bytes: u64,
}

impl Evictor {
    pub(crate) fn new(policy: Policy) -> Evictor {
        Evictor {
            nodes: Nodes::default(),
            policy: eviction::policy(policy),
            named: List::new(NAMED),
            leaving: HashMap::new(),
            leaving_bytes: 0,
        }
    }

    /// A ticket for a new entry.
    pub(crate) fn admit(&mut self, place: Place, hash: u32) -> u32 {
        let ticket = self.nodes.add(place);
        self.policy.admit(&mut self.nodes, ticket, hash);
        ticket
    }

    /// What reads stamp on entries.
    pub(crate) fn clock(&self) -> u32 {
        self.policy.clock()
    }

    /// Ends the ticket of an entry that has gone.
    pub(crate) fn remove(&mut self, ticket: u32) {
        if !self.unname(ticket) && !self.nodes.is_outside(ticket) {
            self.policy.remove(&mut self.nodes, ticket);
        }
        self.nodes.free(ticket);
    }

    /// A named entry got a new value: it is an entry like any other again.
    pub(crate) fn renew(&mut self, ticket: u32, hash: u32) {
        if self.unname(ticket) {
            self.policy.admit(&mut self.nodes, ticket, hash);
        }
    }

    /// Takes the entry that should go next out of its queue.
    pub(crate) fn choose(&mut self, shards: &[RwLock<Shard>]) -> Option<(u32, Place)> {
        let ticket = self.policy.choose(&mut self.nodes, &mut |ticket, place| look(shards, ticket, place))?;
        Some((ticket, self.nodes.place(ticket)))
    }

    /// Takes back a chosen entry that can't go now.
    pub(crate) fn keep(&mut self, ticket: u32, hash: u32) {
        self.policy.admit(&mut self.nodes, ticket, hash);
    }

    /// Notes a chosen entry as named.
    pub(crate) fn name(&mut self, ticket: u32, bytes: u64, now: Time) {
        self.nodes.push_front(&mut self.named, ticket);
        self.leaving.insert(ticket, Leaving { until: now + NAMED_FOR, bytes });
        self.leaving_bytes += bytes;
    }

    /// Whether no more may be named now.
    pub(crate) fn names_enough(&self) -> bool {
        self.leaving.len() >= MOST_NAMED
    }

    /// Entries named and not gone yet, and their bytes.
    pub(crate) fn leaving(&self) -> (u64, u64) {
        (self.leaving.len() as u64, self.leaving_bytes)
    }

    /// Gives names up that were of no use for too long: these entries may be named again.
    pub(crate) fn lapse(&mut self, now: Time) {
        while let Some(ticket) = self.named.back()
            && self.leaving.get(&ticket).is_none_or(|leaving| leaving.until <= now)
        {
            self.unname(ticket);
            self.policy.restore(&mut self.nodes, ticket);
        }
    }

    fn unname(&mut self, ticket: u32) -> bool {
        if self.nodes.queue(ticket) != NAMED {
            return false;
        }
        self.nodes.unlink(&mut self.named, ticket);
        if let Some(leaving) = self.leaving.remove(&ticket) {
            self.leaving_bytes -= leaving.bytes;
        }
        true
    }
}

/// Looks at an entry, unless its group is being written: waiting here for a group's lock could wait for ever, since
/// who holds it may wait for the eviction lock.
fn look(shards: &[RwLock<Shard>], ticket: u32, place: Place) -> Option<Look> {
    let shard = shards[place.group as usize].try_read()?;
    let slot = shard.ticketed(place.slot, ticket)?;
    let (uses, stamp) = slot.mark.take();
    Some(Look { uses, stamp, hash: slot.hash })
}
