//! Deciding an operation against the present entry: pure, and the same for every cache mode.

use std::time::Duration;

use bytes::Bytes;

use crate::ids::Version;
use crate::operation::{Condition, EntryView, OperationKind, Outcome};
use crate::storage::StoredEntry;
use crate::time::Time;

/// What an operation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing changes; this is the answer.
    Answer(Outcome),
    /// The record changes to this entry, or to a tombstone, and then this is the answer.
    Write {
        /// The new entry; none removes.
        entry: Option<StoredEntry>,
        /// The answer once the write is stable.
        outcome: Outcome,
    },
}

/// Decides `kind` against `current` (none when absent; the caller has turned expired entries into none). A write
/// would get `version`.
#[must_use]
pub fn decide(kind: &OperationKind, current: Option<&StoredEntry>, version: Version, now: Time) -> Decision {
    match kind {
        OperationKind::Get => Decision::Answer(match current {
            Some(entry) => Outcome::Found(view_of(entry, now)),
            None => Outcome::Absent,
        }),
        OperationKind::Put { value, content_type, ttl, condition, return_previous } => {
            if !holds(condition, current) {
                return failed(current);
            }
            let entry = StoredEntry {
                value: value.clone(),
                content_type: content_type.clone(),
                etag: version,
                deadline: deadline(*ttl, now),
                written: now,
            };
            let previous = current.filter(|_| *return_previous).map(|e| view_of(e, now));
            let outcome = Outcome::Stored { created: current.is_none(), etag: version, previous };
            Decision::Write { entry: Some(entry), outcome }
        }
        OperationKind::Delete { condition, return_previous } => match current {
            _ if !holds(condition, current) => failed(current),
            None => Decision::Answer(Outcome::Absent),
            Some(entry) => {
                let previous = return_previous.then(|| view_of(entry, now));
                Decision::Write { entry: None, outcome: Outcome::Deleted { previous } }
            }
        },
        OperationKind::Touch { ttl, condition } => match current {
            _ if !holds(condition, current) => failed(current),
            None => Decision::Answer(Outcome::Absent),
            Some(entry) => {
                let touched = StoredEntry { deadline: deadline(*ttl, now), ..entry.clone() };
                Decision::Write { entry: Some(touched), outcome: Outcome::Touched { etag: entry.etag } }
            }
        },
        OperationKind::Increment { by, initial, ttl } => increment(*by, *initial, *ttl, current, version, now),
    }
}

fn increment(
    by: i64,
    initial: i64,
    ttl: Option<Duration>,
    current: Option<&StoredEntry>,
    version: Version,
    now: Time,
) -> Decision {
    let before = match current {
        None => initial,
        Some(entry) => match std::str::from_utf8(&entry.value).ok().and_then(|t| t.parse::<i64>().ok()) {
            Some(number) => number,
            None => return Decision::Answer(Outcome::NotANumber),
        },
    };
    let Some(value) = before.checked_add(by) else { return Decision::Answer(Outcome::Overflow) };
    let deadline = current.map_or_else(|| deadline(ttl, now), |e| e.deadline);
    let entry = StoredEntry {
        value: Bytes::from(value.to_string()),
        content_type: current.map_or_else(|| Some("text/plain".into()), |e| e.content_type.clone()),
        etag: version,
        deadline,
        written: now,
    };
    let outcome = Outcome::Counter { value, etag: version, remaining: deadline.map(|d| d.since(now)) };
    Decision::Write { entry: Some(entry), outcome }
}

fn holds(condition: &Condition, current: Option<&StoredEntry>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::Absent => current.is_none(),
        Condition::Present => current.is_some(),
        Condition::Matches(tags) => current.is_some_and(|e| tags.contains(&e.etag)),
        Condition::MatchesNone(tags) => !current.is_some_and(|e| tags.contains(&e.etag)),
        Condition::PresentNone(tags) => current.is_some_and(|e| !tags.contains(&e.etag)),
    }
}

fn failed(current: Option<&StoredEntry>) -> Decision {
    Decision::Answer(Outcome::ConditionFailed { current: current.map(|e| e.etag) })
}

fn deadline(ttl: Option<Duration>, now: Time) -> Option<Time> {
    ttl.map(|ttl| now + ttl)
}

/// The entry as an app sees it at `now`.
#[must_use]
pub fn view_of(entry: &StoredEntry, now: Time) -> EntryView {
    EntryView {
        value: entry.value.clone(),
        content_type: entry.content_type.clone(),
        etag: entry.etag,
        remaining: entry.deadline.map(|d| d.since(now)),
        age: now.since(entry.written),
    }
}
