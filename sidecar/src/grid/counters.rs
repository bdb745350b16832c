//! Counters of the grid and of each cache, kept where things happen and read by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use sidegrid_core::operation::{OperationKind, Outcome, RefusalReason};

/// A number that only grows. Relaxed: it orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened to one clustered cache's operations at this entry, and its ordered removals at this primary.
#[derive(Debug, Default)]
pub(crate) struct CacheCounters {
    pub(crate) hits: Count,
    pub(crate) misses: Count,
    pub(crate) stores: Count,
    pub(crate) removes: Count,
    pub(crate) evictions: Count,
    pub(crate) expirations: Count,
}

impl CacheCounters {
    pub(crate) fn note(&self, kind: &OperationKind, outcome: &Outcome) {
        match outcome {
            Outcome::Found(_) => self.hits.add_one(),
            Outcome::Absent if kind.is_read() => self.misses.add_one(),
            Outcome::Stored { .. } | Outcome::Counter { .. } => self.stores.add_one(),
            Outcome::Deleted { .. } => self.removes.add_one(),
            _ => {}
        }
    }
}

/// Refusals by reason; the labels are [`RefusalReason::reason`].
#[derive(Debug, Default)]
pub(crate) struct Refusals([Count; REASONS.len()]);

const REASONS: [RefusalReason; 9] = [
    RefusalReason::NoLease,
    RefusalReason::NoOwner,
    RefusalReason::Rebalancing,
    RefusalReason::Overloaded,
    RefusalReason::Full,
    RefusalReason::Timeout,
    RefusalReason::UnknownOperation,
    RefusalReason::ResultsFull,
    RefusalReason::IdempotencyMismatch,
];

impl Refusals {
    pub(crate) fn note(&self, reason: RefusalReason) {
        if let Some(index) = REASONS.iter().position(|&r| r == reason) {
            self.0[index].add_one();
        }
    }

    /// Every reason with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (RefusalReason, u64)> + '_ {
        REASONS.into_iter().zip(self.0.iter().map(Count::get))
    }
}

/// What happened to this node since the process began, over all its incarnations.
#[derive(Debug, Default)]
pub(crate) struct GridCounters {
    /// Views installed.
    pub(crate) views_installed: Count,
    /// Suspicions that began.
    pub(crate) suspicions: Count,
    /// Members excluded in views installed here: left a view while suspected here.
    pub(crate) exclusions: Count,
    /// Votes given.
    pub(crate) votes: Count,
    /// Times the lease ran out.
    pub(crate) leases_lost: Count,
    /// Groups that started empty because every copy was lost.
    pub(crate) groups_lost: Count,
    /// Groups that this node became primary of.
    pub(crate) promotions: Count,
    /// State transfers completed to this node.
    pub(crate) transfers: Count,
    /// Bytes of those.
    pub(crate) transfer_bytes: Count,
    /// Incarnations that were superseded.
    pub(crate) superseded: Count,
    /// Operations that another member decided.
    pub(crate) forwarded: Count,
    /// Reads answered from this member's own copy without asking the core.
    pub(crate) gate_reads: Count,
    /// This member's certificate was renewed.
    pub(crate) certificate_rotations: Count,
    /// Registry calls made.
    pub(crate) registry_calls: Count,
    /// Registry calls that failed or got no answer.
    pub(crate) registry_errors: Count,
    /// Refused operations.
    pub(crate) refusals: Refusals,
}
