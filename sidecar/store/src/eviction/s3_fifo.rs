//! S3-FIFO: a small queue that most entries never outlive, a main queue, and ghosts of what left the small one.
//!
//! Source: Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO queues are all you need for cache eviction", SOSP 2023.

use super::ghosts::Ghosts;
use super::nodes::{List, MOST_USES, Nodes};
use super::{Eviction, Look, Looker, MOST_LOOKS};

/// The small queue's share of all entries is one in this many.
const SMALL_SHARE: usize = 10;
/// Uses in the small queue that lead to the main queue.
const USES_TO_STAY: u32 = 2;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct S3Fifo {
    small: List,
    main: List,
    ghosts: Ghosts,
}

impl Default for S3Fifo {
    fn default() -> Self {
        S3Fifo { small: List::new(1), main: List::new(2), ghosts: Ghosts::default() }
    }
}

impl S3Fifo {
    /// Goes through the small queue's end; none when it is within its share or went empty.
    fn choose_small(&mut self, nodes: &mut Nodes, look: &mut Looker<'_>, looks: &mut usize) -> Option<u32> {
        while self.small.len() > self.share() || self.main.len() == 0 {
            let ticket = nodes.pop_back(&mut self.small)?;
            let found = look(ticket, nodes.place(ticket));
            *looks += 1;
            match found {
                Some(Look { uses, hash, .. }) if uses < USES_TO_STAY || *looks > MOST_LOOKS => {
                    self.ghosts.insert(hash, self.small.len() + self.main.len());
                    return Some(ticket);
                }
                None if *looks > MOST_LOOKS => return Some(ticket),
                _ => {
                    nodes.set_uses(ticket, 0);
                    nodes.push_front(&mut self.main, ticket);
                }
            }
        }
        None
    }

    /// Goes through the main queue's end: each remembered use is one more round.
    fn choose_main(&mut self, nodes: &mut Nodes, look: &mut Looker<'_>, looks: &mut usize) -> Option<u32> {
        loop {
            let ticket = nodes.pop_back(&mut self.main)?;
            let uses = look(ticket, nodes.place(ticket)).map_or(1, |found| found.uses);
            *looks += 1;
            let uses = (nodes.uses(ticket) + uses).min(MOST_USES);
            if uses == 0 || *looks > MOST_LOOKS {
                return Some(ticket);
            }
            nodes.set_uses(ticket, uses - 1);
            nodes.push_front(&mut self.main, ticket);
        }
    }

    fn share(&self) -> usize {
        (self.small.len() + self.main.len()) / SMALL_SHARE
    }
}

impl Eviction for S3Fifo {
    fn admit(&mut self, nodes: &mut Nodes, ticket: u32, hash: u32) {
        nodes.set_uses(ticket, 0);
        let list = if self.ghosts.take(hash) { &mut self.main } else { &mut self.small };
        nodes.push_front(list, ticket);
    }

    fn remove(&mut self, nodes: &mut Nodes, ticket: u32) {
        let list = if nodes.queue(ticket) == self.small.number() { &mut self.small } else { &mut self.main };
        nodes.unlink(list, ticket);
    }

    fn choose(&mut self, nodes: &mut Nodes, mut look: Looker<'_>) -> Option<u32> {
        let mut looks = 0;
        match self.choose_small(nodes, &mut look, &mut looks) {
            Some(ticket) => Some(ticket),
            None => self.choose_main(nodes, &mut look, &mut looks),
        }
    }

    fn restore(&mut self, nodes: &mut Nodes, ticket: u32) {
        nodes.push_back(&mut self.main, ticket);
    }
}
