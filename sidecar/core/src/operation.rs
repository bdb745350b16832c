//! What an app asks and what it is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::Xxh3;

use crate::ids::{CacheId, MemberId, Version};

/// Identity of one operation, so that a retry applies once (O-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// The incarnation whose app asked.
    pub origin: MemberId,
    /// Counts up within the incarnation.
    pub sequence: u64,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Which clustered cache.
    pub cache: CacheId,
    /// 1 to 1,024 bytes.
    pub key: Bytes,
    /// What to do.
    pub kind: OperationKind,
    /// The app's `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
}

/// An app's `Idempotency-Key` on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key, hashed with the entry that it was given for.
    pub key: u128,
    /// Of what is asked: the same key with another one is another operation by mistake.
    pub fingerprint: u64,
    /// How long ago the key was made, if it says so (a UUID of version 7), as a span: clocks of two machines are
    /// never compared.
    pub age: Option<Duration>,
}

impl Idempotency {
    /// The key of an operation of this kind.
    #[must_use]
    pub fn new(key: u128, kind: &OperationKind, age: Option<Duration>) -> Idempotency {
        Idempotency { key, fingerprint: kind.fingerprint(), age }
    }
}

/// The kinds of operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OperationKind {
    /// Read.
    Get,
    /// Store a value.
    Put {
        /// The body.
        value: Bytes,
        /// Given back with it.
        content_type: Option<Arc<str>>,
        /// Time to live; none: for ever.
        ttl: Option<Duration>,
        /// Decided at the primary.
        condition: Condition,
        /// Give back the value that was replaced.
        return_previous: bool,
    },
    /// Remove.
    Delete {
        /// Decided at the primary.
        condition: Condition,
        /// Give back the value that was removed.
        return_previous: bool,
    },
    /// Change the time to live alone; the value and its `ETag` stay.
    Touch {
        /// The new time to live; none: for ever.
        ttl: Option<Duration>,
        /// Decided at the primary.
        condition: Condition,
    },
    /// Add to a decimal 64-bit counter.
    Increment {
        /// May be negative.
        by: i64,
        /// What an absent key counts as before `by` is added.
        initial: i64,
        /// Set when the key is created; an existing time to live stays.
        ttl: Option<Duration>,
    },
}

impl OperationKind {
    /// A hash of all that is asked, the same in every process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        // The value is hashed apart from the rest, so that it need not be copied; lengths keep the parts apart.
        let rest = match self {
            OperationKind::Put { value, content_type, ttl, condition, return_previous } => {
                hash.update(value);
                let rest = (value.len(), content_type, ttl, condition, return_previous);
                postcard::to_allocvec(&(1_u8, rest))
            }
            other => postcard::to_allocvec(&(0_u8, other)),
        };
        hash.update(&rest.unwrap_or_default());
        hash.digest()
    }

    /// Bytes of the value that it carries.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            OperationKind::Put { value, .. } => value.len(),
            _ => 0,
        }
    }

    /// Whether it only reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, OperationKind::Get)
    }
}

/// What must hold for a write to be applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key is absent (`If-None-Match: *`).
    Absent,
    /// The key is present (`If-Match: *`).
    Present,
    /// The entry's `ETag` is one of these (`If-Match`).
    Matches(SmallVec<[Version; 1]>),
    /// The key is absent or its `ETag` is none of these (`If-None-Match` with tags).
    MatchesNone(SmallVec<[Version; 1]>),
    /// The key is present and its `ETag` is none of these (`If-Match: *` beside `If-None-Match` with tags).
    PresentNone(SmallVec<[Version; 1]>),
}

/// An entry as an app sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// The stored bytes.
    pub value: Bytes,
    /// As stored.
    pub content_type: Option<Arc<str>>,
    /// The version of the value, shown as `ETag`.
    pub etag: Version,
    /// Time to live that is left; none: for ever.
    pub remaining: Option<Duration>,
    /// Since the value reached the copy that answered.
    pub age: Duration,
}

/// The result of an operation that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// `Get`: there.
    Found(EntryView),
    /// `Get`, `Delete`, `Touch`: nothing there.
    Absent,
    /// `Put`: stored.
    Stored {
        /// Whether the key was absent before.
        created: bool,
        /// Of the new value.
        etag: Version,
        /// When asked for, and there was one.
        previous: Option<EntryView>,
    },
    /// `Delete`: removed.
    Deleted {
        /// When asked for.
        previous: Option<EntryView>,
    },
    /// `Touch`: the time to live was changed.
    Touched {
        /// Unchanged.
        etag: Version,
    },
    /// `Increment`: the new value.
    Counter {
        /// After the addition.
        value: i64,
        /// Of the new value.
        etag: Version,
        /// Time to live that is left; none: for ever.
        remaining: Option<Duration>,
    },
    /// The condition did not hold; nothing was applied.
    ConditionFailed {
        /// The entry's `ETag`, if there is an entry.
        current: Option<Version>,
    },
    /// `Increment` of a value that is not a decimal 64-bit integer; nothing was applied.
    NotANumber,
    /// `Increment` would pass the range of 64 bits; nothing was applied.
    Overflow,
}

impl Outcome {
    /// Whether a value travels with it.
    #[must_use]
    pub const fn carries_value(&self) -> bool {
        matches!(
            self,
            Outcome::Found(_) | Outcome::Stored { previous: Some(_), .. } | Outcome::Deleted { previous: Some(_) }
        )
    }
}

/// A decided operation and who decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The result.
    pub outcome: Outcome,
    /// The copy that answered.
    pub owner: MemberId,
    /// Forwarding hops between the app's own sidecar and the answerer: 0 or 1.
    pub hops: u8,
}

/// Whether a refused operation took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Applied {
    /// Certainly not, and it never will.
    No,
    /// It may have been, or may still be.
    Unknown,
}

/// Why an operation was refused. Stable words: they name HTTP problem types and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// This node, or the one that owns the key, may not serve now: cut off, paused or superseded.
    NoLease,
    /// This node knows no view yet, or nobody owns the key.
    NoOwner,
    /// The key's group is changing its primary.
    Rebalancing,
    /// A bound on work in flight was reached.
    Overloaded,
    /// The cache is full and refuses rather than evicts.
    Full,
    /// No answer within the operation's deadline.
    Timeout,
    /// The results of operations with an `Idempotency-Key` that are remembered fill their budget.
    ResultsFull,
    /// The `Idempotency-Key` was used for another operation.
    IdempotencyMismatch,
    /// The operation's id is older than the remembered results: whether it was applied can't be told any more.
    UnknownOperation,
}

impl RefusalReason {
    /// A stable label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            RefusalReason::NoLease => "no-lease",
            RefusalReason::NoOwner => "no-owner",
            RefusalReason::Rebalancing => "rebalancing",
            RefusalReason::Overloaded => "overloaded",
            RefusalReason::Full => "full",
            RefusalReason::Timeout => "timeout",
            RefusalReason::ResultsFull => "results-full",
            RefusalReason::IdempotencyMismatch => "idempotency-mismatch",
            RefusalReason::UnknownOperation => "unknown-operation",
        }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        !matches!(self, RefusalReason::Full | RefusalReason::UnknownOperation | RefusalReason::IdempotencyMismatch)
    }
}

/// An operation that was not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// Whether it took effect.
    pub applied: Applied,
}
