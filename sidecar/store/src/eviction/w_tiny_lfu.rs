//! W-TinyLFU: new entries pass a window and then contest, by frequency, the main space's next victim. The main space
//! is two queues, probation and protected.
//!
//! Source: Einziger, Friedman, Manes: "TinyLFU: a highly efficient cache admission policy", ACM TOS 2017.

use super::nodes::{List, Nodes};
use super::sketch::Sketch;
use super::{Eviction, Looker, MOST_LOOKS};

/// The window's share of all entries is one in this many.
const WINDOW_SHARE: usize = 100;
/// Entries that left the window and have contested nobody yet: one in this many of all, at most.
const CANDIDATE_SHARE: usize = 50;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct WTinyLfu {
    window: List,
    /// Left the window; contest when an entry must go. A queue, so that a batch of victims is contested too.
    candidates: List,
    probation: List,
    protected: List,
    sketch: Sketch,
}

impl Default for WTinyLfu {
    fn default() -> Self {
        WTinyLfu {
            window: List::new(1),
            candidates: List::new(2),
            probation: List::new(3),
            protected: List::new(4),
            sketch: Sketch::default(),
        }
    }
}

impl WTinyLfu {
    fn len(&self) -> usize {
        self.window.len() + self.candidates.len() + self.probation.len() + self.protected.len()
    }

    /// Looks at an entry and counts its uses; gives their number and the entry's frequency.
    fn count(&mut self, nodes: &Nodes, look: &mut Looker<'_>, ticket: u32) -> (u32, u64) {
        match look(ticket, nodes.place(ticket)) {
            None => (1, 1),
            Some(found) => {
                if found.uses > 0 {
                    self.sketch.add(found.hash, found.uses);
                }
                (found.uses, self.sketch.estimate(found.hash))
            }
        }
    }

    /// The main space's next victim, still in its queue, and its frequency. What was used in probation is protected,
    /// and what then is too much of that goes back.
    fn victim(&mut self, nodes: &mut Nodes, look: &mut Looker<'_>) -> Option<(u32, u64)> {
        for looks in 1.. {
            let ticket = match self.probation.back() {
                Some(ticket) => ticket,
                None => {
                    let ticket = nodes.pop_back(&mut self.protected)?;
                    nodes.push_back(&mut self.probation, ticket);
                    ticket
                }
            };
            let (uses, frequency) = self.count(nodes, look, ticket);
            if uses == 0 || looks > MOST_LOOKS {
                return Some((ticket, frequency));
            }
            nodes.unlink(&mut self.probation, ticket);
            nodes.push_front(&mut self.protected, ticket);
            // Four fifths of the main space.
            if self.protected.len() > self.probation.len() * 4 {
                self.demote(nodes, look);
            }
        }
        None
    }

    fn demote(&mut self, nodes: &mut Nodes, look: &mut Looker<'_>) {
        for _ in 0..MOST_LOOKS / 16 {
            let Some(ticket) = nodes.pop_back(&mut self.protected) else { return };
            if self.count(nodes, look, ticket).0 == 0 {
                nodes.push_front(&mut self.probation, ticket);
                return;
            }
            nodes.push_front(&mut self.protected, ticket);
        }
        if let Some(ticket) = nodes.pop_back(&mut self.protected) {
            nodes.push_front(&mut self.probation, ticket);
        }
    }

    fn list(&mut self, number: u8) -> &mut List {
        match number {
            1 => &mut self.window,
            2 => &mut self.candidates,
            3 => &mut self.probation,
            _ => &mut self.protected,
        }
    }
}

impl Eviction for WTinyLfu {
    fn admit(&mut self, nodes: &mut Nodes, ticket: u32, hash: u32) {
        self.sketch.fit(self.len() + 1);
        self.sketch.add(hash, 1);
        nodes.push_front(&mut self.window, ticket);
        if self.window.len() > self.len() / WINDOW_SHARE + 1
            && let Some(ticket) = nodes.pop_back(&mut self.window)
        {
            nodes.push_front(&mut self.candidates, ticket);
        }
        // While nothing has to go, nobody is contested.
        if self.candidates.len() > self.len() / CANDIDATE_SHARE + 1
            && let Some(ticket) = nodes.pop_back(&mut self.candidates)
        {
            nodes.push_front(&mut self.probation, ticket);
        }
    }

    fn remove(&mut self, nodes: &mut Nodes, ticket: u32) {
        let number = nodes.queue(ticket);
        nodes.unlink(self.list(number), ticket);
    }

    fn choose(&mut self, nodes: &mut Nodes, mut look: Looker<'_>) -> Option<u32> {
        let victim = self.victim(nodes, &mut look);
        let candidate = nodes.pop_back(&mut self.candidates);
        match (candidate, victim) {
            (Some(candidate), Some((victim, frequency))) => {
                if self.count(nodes, &mut look, candidate).1 <= frequency {
                    return Some(candidate);
                }
                nodes.push_front(&mut self.probation, candidate);
                nodes.unlink(&mut self.probation, victim);
                Some(victim)
            }
            (Some(candidate), None) => Some(candidate),
            (None, Some((victim, _))) => {
                nodes.unlink(&mut self.probation, victim);
                Some(victim)
            }
            (None, None) => nodes.pop_back(&mut self.window),
        }
    }

    fn restore(&mut self, nodes: &mut Nodes, ticket: u32) {
        nodes.push_back(&mut self.probation, ticket);
    }
}
