//! The search for a linearization (Wing and Gong, with Lowe's memory of configurations seen).
//!
//! An operation that certainly took effect is *required* and has a span; one that may have taken effect at any time
//! after its invocation is an *optional* move of the model. A configuration is which required operations are done,
//! the model's state, and which optional moves are used up; none is looked at twice.

use std::collections::HashSet;

use crate::clock::Instant;

/// Most configurations looked at for one key.
const BUDGET: usize = 400_000;

/// From invocation to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// When it was asked.
    pub(crate) invoked: Instant,
    /// When it was answered.
    pub(crate) returned: Instant,
}

/// What the operations of a key mean.
pub(crate) trait Model {
    /// The state after the required operation `item` in `state`; none if it can't have been answered so there.
    fn apply(&self, state: i64, item: usize) -> Option<i64>;

    /// Moves that may happen in `state` before `horizon`: pairs of new state and new used-up set. `next` are the
    /// required operations that may come next.
    fn optional(&self, state: i64, used: u64, horizon: Instant, next: &[usize], moves: &mut Vec<(i64, u64)>);
}

/// What a search comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is a linearization.
    Linearizable,
    /// There is none; the search got furthest before this required operation.
    Stuck(usize),
    /// Not found within the budget.
    Undecided,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Configuration {
    /// All required operations before this one are done.
    base: usize,
    /// Which of the 128 after `base` are done too.
    done: u128,
    state: i64,
    used: u64,
}

impl Configuration {
    fn is_done(&self, item: usize) -> bool {
        item < self.base || (item > self.base && self.done >> (item - self.base - 1) & 1 == 1)
    }

    fn with(mut self, item: usize, state: i64) -> Configuration {
        self.state = state;
        if item > self.base {
            self.done |= 1 << (item - self.base - 1);
            return self;
        }
        loop {
            self.base += 1;
            let next_is_done = self.done & 1 == 1;
            self.done >>= 1;
            if !next_is_done {
                return self;
            }
        }
    }
}

/// Searches a linearization of `spans`, which are sorted by invocation, from `start`.
pub(crate) fn search(model: &impl Model, spans: &[Span], start: i64) -> Verdict {
    let mut stack = vec![Configuration { base: 0, done: 0, state: start, used: 0 }];
    let mut seen: HashSet<Configuration> = HashSet::new();
    let (mut furthest, mut looked, mut cramped) = (0, 0, false);
    let (mut next, mut moves) = (Vec::new(), Vec::new());
    while let Some(at) = stack.pop() {
        if at.base == spans.len() {
            return Verdict::Linearizable;
        }
        if !seen.insert(at) {
            continue;
        }
        looked += 1;
        if looked > BUDGET {
            return Verdict::Undecided;
        }
        furthest = furthest.max(at.base);
        let horizon = candidates(&at, spans, &mut next, &mut cramped);
        // What changes nothing and may come next may as well come now.
        if let Some(&item) = next.iter().find(|i| model.apply(at.state, **i) == Some(at.state)) {
            stack.push(at.with(item, at.state));
            continue;
        }
        moves.clear();
        model.optional(at.state, at.used, horizon, &next, &mut moves);
        stack.extend(moves.iter().map(|&(state, used)| Configuration { state, used, ..at }));
        for &item in next.iter().rev() {
            if let Some(state) = model.apply(at.state, item) {
                stack.push(at.with(item, state));
            }
        }
    }
    if cramped { Verdict::Undecided } else { Verdict::Stuck(furthest) }
}

/// The required operations that may come next, and the first answer among all that are still to come: whatever was
/// asked after that comes after it.
fn candidates(at: &Configuration, spans: &[Span], next: &mut Vec<usize>, cramped: &mut bool) -> Instant {
    next.clear();
    let mut horizon = Instant::MAX;
    for (item, span) in spans.iter().enumerate().skip(at.base) {
        if span.invoked > horizon {
            break;
        }
        if item > at.base + 128 {
            *cramped = true;
            break;
        }
        if !at.is_done(item) {
            horizon = horizon.min(span.returned);
            next.push(item);
        }
    }
    next.retain(|i| spans[*i].invoked <= horizon);
    horizon
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of small numbers: writes are positive, reads negative.
    struct Register(Vec<i64>, Option<i64>);

    impl Model for Register {
        fn apply(&self, state: i64, item: usize) -> Option<i64> {
            match self.0[item] {
                write if write > 0 => Some(write),
                read => (state == -read).then_some(state),
            }
        }

        fn optional(&self, _: i64, used: u64, _: Instant, _: &[usize], moves: &mut Vec<(i64, u64)>) {
            if let Some(value) = self.1.filter(|_| used == 0) {
                moves.push((value, 1));
            }
        }
    }

    fn spans(list: &[(u64, u64)]) -> Vec<Span> {
        list.iter().map(|&(invoked, returned)| Span { invoked, returned }).collect()
    }

    #[test]
    fn a_stale_read_is_found() {
        let spans = spans(&[(0, 1), (2, 3), (4, 5)]);
        assert_eq!(search(&Register(vec![1, 2, -2], None), &spans, 0), Verdict::Linearizable);
        assert_eq!(search(&Register(vec![1, 2, -1], None), &spans, 0), Verdict::Stuck(2));
    }

    #[test]
    fn overlapping_operations_may_come_in_either_order() {
        let model = |read| Register(vec![1, 2, read], None);
        let spans = spans(&[(0, 10), (1, 9), (11, 12)]);
        assert_eq!(search(&model(-1), &spans, 0), Verdict::Linearizable);
        assert_eq!(search(&model(-2), &spans, 0), Verdict::Linearizable);
    }

    #[test]
    fn two_reads_may_not_go_back() {
        let spans = spans(&[(0, 10), (1, 2), (3, 4)]);
        assert_eq!(search(&Register(vec![1, -1, -1], None), &spans, 0), Verdict::Linearizable);
        let back = Register(vec![2, -2, -1], None);
        assert_eq!(search(&back, &spans, 1), Verdict::Stuck(2));
    }

    #[test]
    fn an_optional_move_explains_a_read_once() {
        let spans = spans(&[(0, 1), (2, 3), (4, 5)]);
        assert_eq!(search(&Register(vec![1, -7, -7], Some(7)), &spans, 0), Verdict::Linearizable);
        assert_eq!(search(&Register(vec![-7, 1, -7], Some(7)), &spans, 0), Verdict::Stuck(2));
    }
}
