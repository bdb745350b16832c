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
    /// Results of operations with an app's `Idempotency-Key` remembered per group.
    pub keyed_results_per_group: usize,
    /// How long each is remembered at least; while that many younger ones are held, a further key is refused.
    pub keyed_result_life: Duration,
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
    /// First wait before an unanswered message is sent again; doubles to ten times this.
    pub resend: Duration,
    /// How long an acknowledged write may wait before the other owners are told that it is stable.
    pub stable_delay: Duration,
    /// How long an unanswered registry call is waited for.
    pub registry_timeout: Duration,
    /// How long a vote may be held without a new view before its giver voids it through the registry.
    pub vote_timeout: Duration,
    /// Removals (expired or evicted) ordered in one turn.
    pub removals_per_turn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            operations_in_flight: 16_384,
            pending_writes_per_group: 4_096,
            pending_bytes_per_group: 4 << 20,
            pending_bytes: 64 << 20,
            keyed_results_per_group: 4_096,
            keyed_result_life: Duration::from_secs(120),
            transfers: 16,
            transfer_chunk_bytes: 256 << 10,
            unsealed_views: 16,
            clients: 4_096,
            tick: Duration::from_millis(20),
            resend: Duration::from_millis(50),
            stable_delay: Duration::from_millis(1),
            registry_timeout: Duration::from_secs(5),
            vote_timeout: Duration::from_secs(2),
            removals_per_turn: 256,
        }
    }
}
