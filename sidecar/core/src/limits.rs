//! Bounds on everything that could grow.

use std::time::Duration;

/// What the core may hold and how often it tries. Each is a hard bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of this node's own app under way at once; one more is refused as overloaded.
    pub operations_in_flight: usize,
    /// Writes of one group ordered but not stable; one more is refused as overloaded.
    pub pending_writes_per_group: usize,
    /// Their bytes, before the one that passes it; with a largest value it must stay below what a frame carries.
    pub pending_bytes_per_group: usize,
    /// Bytes of all writes ordered but not stable.
    pub pending_bytes: usize,
    /// How long the result of an operation with an app's `Idempotency-Key` is remembered, at every copy.
    pub keyed_result_life: Duration,
    /// Bytes that may be outstanding to one peer before anything is known of the link: ordered or forwarded, and not
    /// acknowledged; past it a further write is refused as overloaded.
    pub window_start_bytes: usize,
    /// The same on the slowest link.
    pub window_least_bytes: usize,
    /// The same on the fastest link.
    pub window_most_bytes: usize,
    /// Writes outstanding to one peer, whatever their bytes.
    pub window_writes: usize,
    /// How long what is outstanding may queue on its way: the window follows from it. A small part of `dataSuspect`.
    pub window_delay: Duration,
    /// State transfers under way to this member at once.
    pub transfers: usize,
    /// Bytes of one state-transfer answer, before the entry that passes it.
    pub transfer_chunk_bytes: usize,
    /// Unsealed views in the document; a further planned change waits.
    pub unsealed_views: usize,
    /// Clients and joiners known at once.
    pub clients: usize,
    /// Longest time between two turns of the core.
    pub tick: Duration,
    /// Unit of the waits before an unanswered message is sent again: the first is twice to four times this, and longer on
    /// a slow link; each further one is double the one before, up to sixteen times the first.
    pub resend: Duration,
    /// How long an acknowledged write may wait before the other owners are told that it is stable.
    pub stable_delay: Duration,
    /// How long an unanswered registry call is waited for.
    pub registry_timeout: Duration,
    /// How long a vote may be held without a new view before its giver voids it through the registry.
    pub vote_timeout: Duration,
    /// Removals (expired or evicted) ordered in one turn; while there are more, the next turn comes a millisecond later.
    pub removals_per_turn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            operations_in_flight: 16_384,
            pending_writes_per_group: 4_096,
            pending_bytes_per_group: 4 << 20,
            pending_bytes: 64 << 20,
            keyed_result_life: Duration::from_secs(120),
            window_start_bytes: 2 << 20,
            window_least_bytes: 256 << 10,
            window_most_bytes: 64 << 20,
            window_writes: 16_384,
            window_delay: Duration::from_millis(100),
            transfers: 16,
            transfer_chunk_bytes: 256 << 10,
            unsealed_views: 16,
            clients: 4_096,
            tick: Duration::from_millis(20),
            resend: Duration::from_millis(50),
            stable_delay: Duration::from_millis(1),
            registry_timeout: Duration::from_secs(5),
            vote_timeout: Duration::from_secs(2),
            removals_per_turn: 1_024,
        }
    }
}
