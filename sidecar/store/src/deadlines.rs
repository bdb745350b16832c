//! The entries of one group that have a deadline, as a binary heap of slot indices. Each slot knows its place in it,
//! so that an entry that is replaced or removed leaves at once and nothing is ever scanned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sidegrid_core::Time;

use crate::shard::Slots;
use crate::slot::NONE;

/// The heap: soonest first.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<u32>,
}

impl Deadlines {
    /// Takes in a slot that has a deadline and is not in the heap.
    pub(crate) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        self.heap.push(slot);
        self.up(slots, self.heap.len() - 1);
    }

    /// Takes a slot out, if it is in the heap.
    pub(crate) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        let place = std::mem::replace(&mut slots[slot].due, NONE);
        if place == NONE {
            return;
        }
        let place = place as usize;
        let last = self.heap.pop().expect("it holds at least the slot that knows its place");
        if last != slot {
            self.heap[place] = last;
            self.up(slots, place);
            self.down(slots, slots[last].due as usize);
        }
    }

    /// The soonest deadline.
    pub(crate) fn next(&self, slots: &Slots) -> Option<Time> {
        self.heap.first().map(|&slot| slots[slot].deadline)
    }

    /// Up to `max` slots with a deadline at or before `now`, soonest first. Looks at these and at most two more each.
    pub(crate) fn due(&self, slots: &Slots, now: Time, max: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut next = BinaryHeap::new();
        let look = |next: &mut BinaryHeap<_>, place: usize| {
            if let Some(&slot) = self.heap.get(place)
                && slots[slot].deadline <= now
            {
                next.push(Reverse((slots[slot].deadline, place)));
            }
        };
        look(&mut next, 0);
        while found.len() < max
            && let Some(Reverse((_, place))) = next.pop()
        {
            found.push(self.heap[place]);
            look(&mut next, 2 * place + 1);
            look(&mut next, 2 * place + 2);
        }
        found
    }

    fn up(&mut self, slots: &mut Slots, mut place: usize) {
        let slot = self.heap[place];
        while place > 0 {
            let above = (place - 1) / 2;
            if slots[self.heap[above]].deadline <= slots[slot].deadline {
                break;
            }
            self.set(slots, place, self.heap[above]);
            place = above;
        }
        self.set(slots, place, slot);
    }

    fn down(&mut self, slots: &mut Slots, mut place: usize) {
        let slot = self.heap[place];
        loop {
            let mut below = 2 * place + 1;
            let Some(&left) = self.heap.get(below) else { break };
            if let Some(&right) = self.heap.get(below + 1)
                && slots[right].deadline < slots[left].deadline
            {
                below += 1;
            }
            if slots[slot].deadline <= slots[self.heap[below]].deadline {
                break;
            }
            self.set(slots, place, self.heap[below]);
            place = below;
        }
        self.set(slots, place, slot);
    }

    fn set(&mut self, slots: &mut Slots, place: usize, slot: u32) {
        self.heap[place] = slot;
        slots[slot].due = u32::try_from(place).expect("no more deadlines than slots");
    }
}
