//! Results of a `local` cache's operations that came with an `Idempotency-Key`.

use std::collections::{HashMap, VecDeque};

use sidegrid_core::operation::Outcome;

/// How many results are kept; the oldest goes first. As many as the core remembers for a group.
const BOUND: usize = 1_024;

/// A bounded table of results by key.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    results: HashMap<u128, Outcome>,
    order: VecDeque<u128>,
}

impl Remembered {
    pub(super) fn get(&self, key: u128) -> Option<Outcome> {
        self.results.get(&key).cloned()
    }

    pub(super) fn insert(&mut self, key: u128, outcome: Outcome) {
        if self.results.insert(key, outcome).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > BOUND
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O-1, B-1
    #[test]
    fn keeps_the_newest_results_and_no_more() {
        let mut remembered = Remembered::default();
        for key in 0..BOUND as u128 + 5 {
            remembered.insert(key, Outcome::Absent);
        }
        assert_eq!(remembered.results.len(), BOUND);
        assert_eq!(remembered.get(4), None);
        assert_eq!(remembered.get(5), Some(Outcome::Absent));
    }
}
