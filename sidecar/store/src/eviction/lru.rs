//! Least recently used, exact to the resolution of one insertion: reads stamp the number of insertions so far.

use std::collections::BTreeSet;

use super::nodes::Nodes;
use super::{Eviction, Looker, MOST_LOOKS};
use crate::slot::STAMP_MASK;

/// The one queue's number.
const QUEUE: u8 = 1;

/// Orders entries by the last use that it knows of; what has been used since is put right when it comes up.
#[derive(Debug, Default)]
pub(crate) struct Lru {
    /// Last known use, ticket. Twice the number of admissions, and one more for a use after the last of them.
    order: BTreeSet<(u64, u32)>,
    admitted: u64,
}

impl Lru {
    fn insert(&mut self, nodes: &mut Nodes, ticket: u32, used: u64) {
        nodes.set_number(ticket, QUEUE, used);
        self.order.insert((used, ticket));
    }

    /// The latest reading not after now that a stamp of fewer bits can stand for.
    fn unwrapped(&self, stamp: u32) -> u64 {
        let mask = u64::from(STAMP_MASK);
        let reading = (self.admitted & !mask) | u64::from(stamp);
        if reading > self.admitted { reading.saturating_sub(mask + 1) } else { reading }
    }
}

impl Eviction for Lru {
    fn admit(&mut self, nodes: &mut Nodes, ticket: u32, _hash: u32) {
        self.admitted += 1;
        self.insert(nodes, ticket, 2 * self.admitted);
    }

    fn remove(&mut self, nodes: &mut Nodes, ticket: u32) {
        self.order.remove(&(nodes.number(ticket), ticket));
        nodes.clear_number(ticket);
    }

    fn choose(&mut self, nodes: &mut Nodes, look: Looker<'_>) -> Option<u32> {
        for looks in 1.. {
            let (used, ticket) = self.order.pop_first()?;
            nodes.clear_number(ticket);
            let found = look(ticket, nodes.place(ticket));
            let since = match found {
                Some(found) if found.uses > 0 => 2 * self.unwrapped(found.stamp) + 1,
                Some(_) => used,
                None => 2 * self.admitted,
            };
            if since <= used || looks > MOST_LOOKS {
                return Some(ticket);
            }
            self.insert(nodes, ticket, since);
        }
        None
    }

    fn restore(&mut self, nodes: &mut Nodes, ticket: u32) {
        self.insert(nodes, ticket, 0);
    }

    fn clock(&self) -> u32 {
        (self.admitted & u64::from(STAMP_MASK)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::{Look, Place};

    #[test]
    fn the_least_recent_goes_whatever_the_order_of_insertion() {
        let (mut lru, mut nodes) = (Lru::default(), Nodes::default());
        let tickets: Vec<u32> = (0..4).map(|slot| nodes.add(Place { group: 0, slot })).collect();
        tickets.iter().for_each(|&ticket| lru.admit(&mut nodes, ticket, 0));
        // The first was used when two were in, the third when all were.
        let mut used = |ticket: u32, _| {
            let stamp = [2, 0, 4, 0][ticket as usize];
            Some(Look { uses: u32::from(stamp > 0), stamp, hash: 0 })
        };
        let order: Vec<u32> = std::iter::from_fn(|| lru.choose(&mut nodes, &mut used)).collect();
        assert_eq!(order, [1, 0, 3, 2]);
    }

    #[test]
    fn a_stamp_that_wrapped_is_of_the_round_before() {
        let lru = Lru { admitted: (5 << 27) + 10, ..Lru::default() };
        assert_eq!(lru.unwrapped(10), (5 << 27) + 10);
        assert_eq!(lru.unwrapped(11), (4 << 27) + 11);
    }
}
