//! Queues of entries, linked by index: an entry leaves any place of its queue in constant time.

use crate::chunks::Chunks;
use crate::slot::NONE;

/// Most groups that a node can name.
pub(crate) const MOST_GROUPS: usize = 1 << GROUP_BITS;

const GROUP_BITS: u32 = 27;
const GROUP_MASK: u32 = (1 << GROUP_BITS) - 1;
const QUEUE_SHIFT: u32 = GROUP_BITS;
const QUEUE_MASK: u32 = 0b111 << QUEUE_SHIFT;
const USES_SHIFT: u32 = QUEUE_SHIFT + 3;
/// Most uses that a node remembers.
pub(crate) const MOST_USES: u32 = 0b11;

/// Number of no queue.
const OUTSIDE: u8 = 0;
/// Number of the queue of entries named as victims, which no policy has.
pub(crate) const NAMED: u8 = 7;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its group.
    pub(crate) group: u32,
    /// Its slot in the group.
    pub(crate) slot: u32,
}

/// One entry's place in a queue.
#[derive(Debug)]
struct Node {
    /// Towards the front. Of a free node: the next free one.
    previous: u32,
    /// Towards the back.
    next: u32,
    /// Group (27 bits), queue (3), uses (2).
    group: u32,
    slot: u32,
}

/// A queue: enters at the front, leaves at the back.
#[derive(Debug)]
pub(crate) struct List {
    number: u8,
    front: u32,
    back: u32,
    len: usize,
}

impl List {
    /// An empty queue with a number from 1 to 7, its own among the queues of its nodes.
    pub(crate) const fn new(number: u8) -> List {
        List { number, front: NONE, back: NONE, len: 0 }
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry that leaves next.
    pub(crate) fn back(&self) -> Option<u32> {
        (self.back != NONE).then_some(self.back)
    }
}

/// The nodes of one cache's entries; a ticket is an index.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Chunks<Node, 256>,
    free: u32,
    live: usize,
}

impl Default for Nodes {
    fn default() -> Self {
        Nodes { nodes: Chunks::default(), free: NONE, live: 0 }
    }
}

impl Nodes {
    /// A ticket for an entry that is in no queue yet.
    pub(crate) fn add(&mut self, place: Place) -> u32 {
        let node = Node { previous: NONE, next: NONE, group: place.group & GROUP_MASK, slot: place.slot };
        self.live += 1;
        if self.free == NONE {
            return self.nodes.push(node);
        }
        let ticket = self.free;
        self.free = self.nodes[ticket].previous;
        self.nodes[ticket] = node;
        ticket
    }

    /// Ends a ticket whose entry is in no queue. The last one gives all memory back.
    pub(crate) fn free(&mut self, ticket: u32) {
        debug_assert_eq!(self.queue(ticket), OUTSIDE);
        self.nodes[ticket].previous = self.free;
        self.free = ticket;
        self.live -= 1;
        if self.live == 0 {
            *self = Nodes::default();
        }
    }

    pub(crate) fn place(&self, ticket: u32) -> Place {
        let node = &self.nodes[ticket];
        Place { group: node.group & GROUP_MASK, slot: node.slot }
    }

    /// Number of the queue that an entry is in.
    pub(crate) fn queue(&self, ticket: u32) -> u8 {
        ((self.nodes[ticket].group & QUEUE_MASK) >> QUEUE_SHIFT) as u8
    }

    /// Whether an entry is in no queue.
    pub(crate) fn is_outside(&self, ticket: u32) -> bool {
        self.queue(ticket) == OUTSIDE
    }

    fn set_queue(&mut self, ticket: u32, queue: u8) {
        let group = &mut self.nodes[ticket].group;
        *group = (*group & !QUEUE_MASK) | u32::from(queue) << QUEUE_SHIFT;
    }

    /// Uses remembered by the policy, at most [`MOST_USES`].
    pub(crate) fn uses(&self, ticket: u32) -> u32 {
        self.nodes[ticket].group >> USES_SHIFT
    }

    pub(crate) fn set_uses(&mut self, ticket: u32, uses: u32) {
        let group = &mut self.nodes[ticket].group;
        *group = (*group & !(MOST_USES << USES_SHIFT)) | uses.min(MOST_USES) << USES_SHIFT;
    }

    /// A number that a policy without queues keeps in an entry's links.
    pub(crate) fn number(&self, ticket: u32) -> u64 {
        let node = &self.nodes[ticket];
        u64::from(node.previous) << 32 | u64::from(node.next)
    }

    /// Keeps a number in the links of an entry, which then counts as in queue `queue`.
    pub(crate) fn set_number(&mut self, ticket: u32, queue: u8, number: u64) {
        let node = &mut self.nodes[ticket];
        node.previous = (number >> 32) as u32;
        node.next = (number & u64::from(u32::MAX)) as u32;
        self.set_queue(ticket, queue);
    }

    /// Takes an entry without queue from the policy's numbers.
    pub(crate) fn clear_number(&mut self, ticket: u32) {
        self.set_queue(ticket, OUTSIDE);
    }

    /// Puts an entry that is in no queue where it leaves last.
    pub(crate) fn push_front(&mut self, list: &mut List, ticket: u32) {
        self.link(list, ticket, NONE, list.front);
    }

    /// Puts an entry that is in no queue where it leaves next.
    pub(crate) fn push_back(&mut self, list: &mut List, ticket: u32) {
        self.link(list, ticket, list.back, NONE);
    }

    fn link(&mut self, list: &mut List, ticket: u32, previous: u32, next: u32) {
        debug_assert!(self.is_outside(ticket));
        let node = &mut self.nodes[ticket];
        (node.previous, node.next) = (previous, next);
        match previous {
            NONE => list.front = ticket,
            previous => self.nodes[previous].next = ticket,
        }
        match next {
            NONE => list.back = ticket,
            next => self.nodes[next].previous = ticket,
        }
        self.set_queue(ticket, list.number);
        list.len += 1;
    }

    /// Takes an entry out of the queue that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, ticket: u32) {
        debug_assert_eq!(self.queue(ticket), list.number);
        let Node { previous, next, .. } = self.nodes[ticket];
        match previous {
            NONE => list.front = next,
            previous => self.nodes[previous].next = next,
        }
        match next {
            NONE => list.back = previous,
            next => self.nodes[next].previous = previous,
        }
        self.set_queue(ticket, OUTSIDE);
        list.len -= 1;
    }

    /// Takes out the entry that leaves next.
    pub(crate) fn pop_back(&mut self, list: &mut List) -> Option<u32> {
        let ticket = list.back()?;
        self.unlink(list, ticket);
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_leave_in_order_and_from_the_middle() {
        let mut nodes = Nodes::default();
        let (mut one, mut two) = (List::new(1), List::new(2));
        let tickets: Vec<u32> = (0..5).map(|slot| nodes.add(Place { group: 9, slot })).collect();
        for &ticket in &tickets {
            nodes.push_front(&mut one, ticket);
        }
        nodes.set_uses(tickets[2], 9);
        nodes.unlink(&mut one, tickets[2]);
        nodes.push_back(&mut two, tickets[2]);
        assert_eq!((nodes.uses(tickets[2]), nodes.queue(tickets[2])), (MOST_USES, 2));
        assert_eq!(nodes.place(tickets[2]), Place { group: 9, slot: 2 });
        let left: Vec<u32> = std::iter::from_fn(|| nodes.pop_back(&mut one)).collect();
        assert_eq!(left, [tickets[0], tickets[1], tickets[3], tickets[4]]);
        assert_eq!((one.len(), two.len(), two.back()), (0, 1, Some(tickets[2])));
        nodes.free(tickets[4]);
        assert_eq!(nodes.add(Place { group: 1, slot: 1 }), tickets[4], "a ticket is used again");
    }
}
