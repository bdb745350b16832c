//! What the apps did and what they were told: the material of the checkers.

use std::time::Duration;

use sidegrid_core::operation::{Applied, EntryView, Outcome, RefusalReason};
use sidegrid_core::{GroupId, Version};

use crate::clock::Instant;

/// A key of the run: cache and key number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyIndex {
    /// Which cache.
    pub(crate) cache: u16,
    /// Which key.
    pub(crate) key: u16,
}

/// What an app asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// A read.
    Get,
    /// A write of a value that nobody else writes.
    Put { value: i64, ttl: Option<Duration>, when: When, previous: bool },
    /// A removal.
    Delete { when: When, previous: bool },
    /// A new time to live.
    Touch { ttl: Duration },
    /// An addition.
    Increment { by: i64 },
}

/// The condition of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// None.
    Always,
    /// Only if absent.
    Absent,
    /// Only if present.
    Present,
    /// Only if this is the entry's `ETag`.
    Matches(Version),
}

/// A value as an app saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The number in it.
    pub(crate) value: i64,
    /// Its version.
    pub(crate) etag: Version,
}

/// What an app was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// Nothing yet, or nothing certain.
    Unknown,
    /// Certainly not applied.
    Refused(RefusalReason),
    /// `Get`.
    Found(Seen),
    /// `Get`, `Delete`, `Touch`: nothing there.
    Absent,
    /// `Put`.
    Stored { created: bool, etag: Version, previous: Option<Seen> },
    /// `Delete`.
    Deleted { previous: Option<Seen> },
    /// `Touch`.
    Touched(Version),
    /// `Increment`.
    Counter(Seen),
    /// The condition failed; the entry's `ETag`.
    Failed(Option<Version>),
    /// Something that no operation of this workload may be told.
    Nonsense(String),
}

/// One operation of one app, with its repetitions.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Its key.
    pub(crate) key: KeyIndex,
    /// Its group.
    pub(crate) group: GroupId,
    /// What was asked.
    pub(crate) asked: Asked,
    /// When it was first asked.
    pub(crate) invoked: Instant,
    /// When the app was told; `Instant::MAX`: never.
    pub(crate) returned: Instant,
    /// What the app was told.
    pub(crate) told: Told,
    /// The node it was first asked at.
    pub(crate) node: usize,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// Whether an attempt ended without a certain answer.
    pub(crate) doubtful: bool,
    /// Whether it carries an `Idempotency-Key`, so that it may be repeated.
    pub(crate) repeatable: bool,
    /// One of the operations at the end, which must succeed.
    pub(crate) last: bool,
}

/// Everything that the apps did, and when groups were lost.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By order of invocation.
    pub(crate) operations: Vec<Operation>,
    /// Losses that the registry's document tells of: when, in which view, which group.
    pub(crate) losses: Vec<Loss>,
}

/// Every copy of a group was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// When the view was decided.
    pub(crate) at: Instant,
    /// The number of the view that starts the group empty.
    pub(crate) view: u64,
    /// Which group.
    pub(crate) group: GroupId,
}

/// Ends the number in a value; what follows only makes it large.
const PADDING: u8 = b'.';

/// The text of a value of `bytes` bytes at most, half of them at least; as short as it can be if that is zero.
pub(crate) fn text_of(value: i64, bytes: usize) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    if bytes > 0 {
        let spread = value.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let length = bytes / 2 + spread as usize % (bytes / 2 + 1);
        text.resize(length.max(text.len() + 1), PADDING);
    }
    text
}

fn seen(view: &EntryView) -> Option<Seen> {
    let number = view.value.iter().position(|b| *b == PADDING).map_or(&view.value[..], |end| &view.value[..end]);
    let value = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(Seen { value, etag: view.etag })
}

impl Told {
    /// What an outcome tells.
    pub(crate) fn of(outcome: &Outcome) -> Told {
        let nonsense = || Told::Nonsense(format!("{outcome:?}"));
        let previous = |view: &Option<EntryView>| match view {
            None => Ok(None),
            Some(view) => seen(view).map(Some).ok_or_else(nonsense),
        };
        match outcome {
            Outcome::Found(view) => seen(view).map_or_else(nonsense, Told::Found),
            Outcome::Absent => Told::Absent,
            Outcome::Stored { created, etag, previous: view } => match previous(view) {
                Ok(previous) => Told::Stored { created: *created, etag: *etag, previous },
                Err(nonsense) => nonsense,
            },
            Outcome::Deleted { previous: view } => match previous(view) {
                Ok(previous) => Told::Deleted { previous },
                Err(nonsense) => nonsense,
            },
            Outcome::Touched { etag } => Told::Touched(*etag),
            Outcome::Counter { value, etag, .. } => Told::Counter(Seen { value: *value, etag: *etag }),
            Outcome::ConditionFailed { current } => Told::Failed(*current),
            Outcome::NotANumber | Outcome::Overflow => nonsense(),
        }
    }

    /// What a refusal tells.
    pub(crate) fn refused(reason: RefusalReason, applied: Applied) -> Told {
        match applied {
            Applied::No => Told::Refused(reason),
            Applied::Unknown => Told::Unknown,
        }
    }
}

impl Operation {
    /// The versions that the app was shown.
    pub(crate) fn etags(&self) -> impl Iterator<Item = Version> {
        let (one, other) = match &self.told {
            Told::Found(seen) | Told::Counter(seen) => (Some(seen.etag), None),
            Told::Stored { etag, previous, .. } => (Some(*etag), previous.map(|s| s.etag)),
            Told::Deleted { previous } => (previous.map(|s| s.etag), None),
            Told::Touched(etag) => (Some(*etag), None),
            Told::Failed(current) => (*current, None),
            _ => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// The values, with their versions, that the app was shown of others' writes.
    pub(crate) fn observed(&self) -> Option<Seen> {
        match &self.told {
            Told::Found(seen) => Some(*seen),
            Told::Stored { previous, .. } | Told::Deleted { previous } => *previous,
            _ => None,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |t: Instant| if t == Instant::MAX { "never".into() } else { format!("{:.6}", t as f64 / 1e9) };
        write!(
            f,
            "c{}/k{} g{} n{} [{} .. {}] {:?} -> {:?}",
            self.key.cache,
            self.key.key,
            self.group.0,
            self.node,
            at(self.invoked),
            at(self.returned),
            self.asked,
            self.told
        )?;
        if self.attempts > 1 {
            write!(f, " ({} attempts{})", self.attempts, if self.doubtful { ", doubtful" } else { "" })?;
        }
        Ok(())
    }
}
