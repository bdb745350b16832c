//! What the operations of one key mean, as models for the search: a register of unique values, and a counter.
//!
//! An unknown write whose value somebody saw did take effect, before that somebody was answered: it is required.
//! One that nobody saw is *hidden*: it may have taken effect at any time after it was asked, or never. Hidden writes
//! of one kind stand for each other, so only how many are used up matters.

use std::collections::HashMap;

use sidegrid_core::Version;

use crate::checkers::search::{Model, Span};
use crate::clock::{Instant, shortest};
use crate::history::{Asked, Operation, Seen, Told, When};

/// Absent.
pub(crate) const ABSENT: i64 = i64::MIN;
/// Present, with a value that nobody ever saw.
const HIDDEN: i64 = -1;

/// A register or counter with its required operations.
pub(crate) struct KeyModel {
    /// Spans of the required operations, by invocation.
    pub(crate) spans: Vec<Span>,
    /// The operations themselves.
    pub(crate) operations: Vec<Operation>,
    values: HashMap<Version, i64>,
    hidden: Hidden,
    /// From when each value may expire.
    expiries: HashMap<i64, Instant>,
    evicts: bool,
    counter: bool,
}

#[derive(Default)]
struct Hidden {
    puts: Vec<Instant>,
    deletes: Vec<Instant>,
    creates: Vec<Instant>,
    swaps: Vec<(Version, Instant)>,
    removals: Vec<(Version, Instant)>,
    increments: Vec<(i64, Instant)>,
    /// From when a hidden value may expire.
    expiry: Option<Instant>,
    /// From when any value may expire: a touch that may have been applied.
    touch: Option<Instant>,
}

impl KeyModel {
    /// The model of a key's operations, in which nothing that was certainly refused is left.
    ///
    /// # Errors
    /// What can be told without a search: a value from nowhere, or of a refused write, or with two versions.
    pub(crate) fn new(mut operations: Vec<Operation>, counter: bool, evicts: bool) -> Result<KeyModel, String> {
        operations.sort_by_key(|o| o.invoked);
        let mut model = KeyModel {
            spans: Vec::new(),
            operations: Vec::new(),
            values: HashMap::new(),
            hidden: Hidden::default(),
            expiries: HashMap::new(),
            evicts,
            counter,
        };
        let seen = if counter { HashMap::new() } else { model.note_versions(&operations)? };
        for operation in operations {
            model.add(operation, &seen);
        }
        let mut order: Vec<usize> = (0..model.spans.len()).collect();
        order.sort_by_key(|i| model.spans[*i].invoked);
        model.spans = order.iter().map(|i| model.spans[*i]).collect();
        model.operations = order.iter().map(|i| model.operations[*i].clone()).collect();
        Ok(model)
    }

    /// Which value each version is, and when each value was first seen by somebody else.
    fn note_versions(&mut self, operations: &[Operation]) -> Result<HashMap<i64, Instant>, String> {
        let mut versions: HashMap<i64, Version> = HashMap::new();
        let mut note = |seen: Seen, values: &mut HashMap<Version, i64>| {
            let version = *versions.entry(seen.value).or_insert(seen.etag);
            let value = *values.entry(seen.etag).or_insert(seen.value);
            if version != seen.etag {
                return Err(format!("value {} has versions {version} and {}", seen.value, seen.etag));
            }
            if value != seen.value {
                return Err(format!("version {} is of values {value} and {}", seen.etag, seen.value));
            }
            Ok(())
        };
        let mut first_seen = HashMap::new();
        let mut written = HashMap::new();
        for operation in operations {
            if let Asked::Put { value, .. } = operation.asked {
                written.insert(value, matches!(operation.told, Told::Refused(_) | Told::Failed(_)));
                if let Told::Stored { etag, .. } = operation.told {
                    note(Seen { value, etag }, &mut self.values)?;
                }
            }
        }
        for operation in operations {
            let Some(seen) = operation.observed() else { continue };
            note(seen, &mut self.values)?;
            match written.get(&seen.value) {
                None => return Err(format!("value {} was seen, but never written: {operation}", seen.value)),
                Some(true) => {
                    return Err(format!("value {} was seen, but its write was refused: {operation}", seen.value));
                }
                Some(false) => {}
            }
            let first = first_seen.entry(seen.value).or_insert(operation.returned);
            *first = operation.returned.min(*first);
        }
        Ok(first_seen)
    }

    fn add(&mut self, operation: Operation, seen: &HashMap<i64, Instant>) {
        if let Asked::Put { value, ttl: Some(ttl), .. } = operation.asked {
            self.may_expire(value, operation.invoked + shortest(ttl));
        }
        if let (Asked::Touch { ttl }, Told::Touched(etag)) = (&operation.asked, &operation.told) {
            let from = operation.invoked + shortest(*ttl);
            match self.values.get(etag) {
                Some(&value) => self.may_expire(value, from),
                None => self.hidden.expiry = sooner(self.hidden.expiry, from),
            }
        }
        match (&operation.told, &operation.asked) {
            (Told::Refused(_), _) => {}
            (Told::Unknown, Asked::Put { value, .. }) if seen.contains_key(value) => {
                let returned = seen[value];
                self.require(operation, returned);
            }
            (Told::Unknown, _) => self.hide(&operation),
            _ => {
                let returned = operation.returned;
                self.require(operation, returned);
            }
        }
    }

    fn may_expire(&mut self, value: i64, from: Instant) {
        let earliest = self.expiries.entry(value).or_insert(from);
        *earliest = from.min(*earliest);
    }

    fn require(&mut self, operation: Operation, returned: Instant) {
        self.spans.push(Span { invoked: operation.invoked, returned });
        self.operations.push(operation);
    }

    fn hide(&mut self, operation: &Operation) {
        let hidden = &mut self.hidden;
        let from = operation.invoked;
        match operation.asked {
            Asked::Get => {}
            Asked::Put { when, ttl, .. } => {
                match when {
                    When::Always | When::Present => hidden.puts.push(from),
                    When::Absent => hidden.creates.push(from),
                    When::Matches(etag) => hidden.swaps.push((etag, from)),
                }
                if let Some(ttl) = ttl {
                    hidden.expiry = sooner(hidden.expiry, from + shortest(ttl));
                }
            }
            Asked::Delete { when: When::Matches(etag), .. } => hidden.removals.push((etag, from)),
            Asked::Delete { .. } => hidden.deletes.push(from),
            Asked::Touch { ttl } => hidden.touch = sooner(hidden.touch, from + shortest(ttl)),
            Asked::Increment { by } => hidden.increments.push((by, from)),
        }
    }

    /// Whether `state` is the value of this version; a version that nobody knows is a hidden value's.
    fn is_version(&self, state: i64, etag: Version) -> bool {
        self.values.get(&etag).map_or(state == HIDDEN, |value| state == *value)
    }

    fn condition_holds(&self, state: i64, when: When) -> bool {
        match when {
            When::Always => true,
            When::Absent => state == ABSENT,
            When::Present => state != ABSENT,
            When::Matches(etag) => self.is_version(state, etag),
        }
    }

    fn is_shown(&self, state: i64, current: Option<Version>) -> bool {
        current.map_or(state == ABSENT, |etag| self.is_version(state, etag))
    }

    fn apply_register(&self, state: i64, operation: &Operation) -> Option<i64> {
        let shows = |previous: &Option<Seen>| previous.is_none_or(|seen| state == seen.value);
        let (holds, next) = match (&operation.asked, &operation.told) {
            (Asked::Get, Told::Found(seen)) => (state == seen.value, state),
            (Asked::Get | Asked::Delete { when: When::Always, .. } | Asked::Touch { .. }, Told::Absent) => {
                (state == ABSENT, state)
            }
            (Asked::Put { value, when, previous: asked, .. }, Told::Stored { created, previous, .. }) => {
                let as_told = *created == (state == ABSENT) && shows(previous);
                // Who asks for the previous value is shown it, when there is one.
                let told_all = !*asked || *created || previous.is_some();
                (as_told && told_all && self.condition_holds(state, *when), *value)
            }
            (Asked::Put { value, when, .. }, Told::Unknown) => (self.condition_holds(state, *when), *value),
            (Asked::Put { when, .. } | Asked::Delete { when, .. }, Told::Failed(current)) => {
                (self.is_shown(state, *current) && fails(state, *when, *current), state)
            }
            (Asked::Delete { when, .. }, Told::Deleted { previous }) => {
                (state != ABSENT && shows(previous) && self.condition_holds(state, *when), ABSENT)
            }
            (Asked::Touch { .. }, Told::Touched(etag)) => (self.is_version(state, *etag), state),
            _ => (false, state),
        };
        holds.then_some(next)
    }

    fn register_moves(&self, state: i64, used: u64, horizon: Instant, moves: &mut Vec<(i64, u64)>) {
        let hidden = &self.hidden;
        let unused = |list: &[Instant], shift: u32| {
            let count = (used >> shift & 0xffff) as usize;
            list.get(count).is_some_and(|from| *from <= horizon).then_some(used + (1 << shift))
        };
        let due = |from: Option<Instant>| from.is_some_and(|from| from <= horizon);
        if state != HIDDEN
            && let Some(used) = unused(&hidden.puts, 0)
        {
            moves.push((HIDDEN, used));
        }
        if state == ABSENT {
            if let Some(used) = unused(&hidden.creates, 32) {
                moves.push((HIDDEN, used));
            }
            return;
        }
        if hidden.swaps.iter().any(|(etag, from)| *from <= horizon && self.values.get(etag) == Some(&state)) {
            moves.push((HIDDEN, used));
        }
        let expired = if state == HIDDEN { due(hidden.expiry) } else { due(self.expiries.get(&state).copied()) };
        let removed =
            hidden.removals.iter().any(|(etag, from)| *from <= horizon && self.values.get(etag) == Some(&state));
        if self.evicts || expired || removed || due(hidden.touch) {
            moves.push((ABSENT, used));
        } else if let Some(used) = unused(&hidden.deletes, 16) {
            moves.push((ABSENT, used));
        }
    }

    fn apply_counter(&self, state: i64, operation: &Operation) -> Option<i64> {
        match (&operation.asked, &operation.told) {
            (Asked::Get, Told::Found(seen)) => (state == seen.value).then_some(state),
            (Asked::Get, Told::Absent) => (state == ABSENT).then_some(state),
            (Asked::Increment { by }, Told::Counter(seen)) => (after(state, *by) == seen.value).then_some(seen.value),
            _ => None,
        }
    }

    fn counter_moves(&self, state: i64, used: u64, horizon: Instant, next: &[usize], moves: &mut Vec<(i64, u64)>) {
        // Values only grow, so what is shown next bounds what may have been added unseen.
        let shown = next.iter().filter_map(|i| match (&self.operations[*i].told, &self.operations[*i].asked) {
            (Told::Counter(seen), Asked::Increment { by }) => Some(seen.value - by),
            (Told::Found(seen), _) => Some(seen.value),
            (Told::Absent, _) if !self.evicts => Some(ABSENT),
            _ => None,
        });
        let bound = if self.evicts { i64::MAX } else { shown.min().unwrap_or(i64::MIN) };
        for (index, (by, from)) in self.hidden.increments.iter().enumerate().take(64) {
            let value = after(state, *by);
            if *from <= horizon && used >> index & 1 == 0 && value <= bound {
                moves.push((value, used | 1 << index));
            }
        }
        if self.evicts && state != ABSENT {
            moves.push((ABSENT, used));
        }
    }
}

/// Whether a condition can have failed in `state`, when the entry's version was shown to be `current`.
fn fails(state: i64, when: When, current: Option<Version>) -> bool {
    match when {
        When::Always => false,
        When::Absent => state != ABSENT,
        When::Present => state == ABSENT,
        When::Matches(etag) => current != Some(etag),
    }
}

fn sooner(known: Option<Instant>, at: Instant) -> Option<Instant> {
    Some(known.map_or(at, |known| known.min(at)))
}

fn after(state: i64, by: i64) -> i64 {
    if state == ABSENT { by } else { state + by }
}

impl Model for KeyModel {
    fn apply(&self, state: i64, item: usize) -> Option<i64> {
        let operation = &self.operations[item];
        if self.counter { self.apply_counter(state, operation) } else { self.apply_register(state, operation) }
    }

    fn optional(&self, state: i64, used: u64, horizon: Instant, next: &[usize], moves: &mut Vec<(i64, u64)>) {
        if self.counter {
            self.counter_moves(state, used, horizon, next, moves);
        } else {
            self.register_moves(state, used, horizon, moves);
        }
    }
}
