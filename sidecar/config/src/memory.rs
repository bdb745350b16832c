//! How the memory of a sidecar is divided: one rule for the sidecar, which keeps below its limit, and for the operator,
//! which sets it.

/// What the program takes with empty caches: code, threads, connections.
const PROCESS: u64 = 24 << 20;
/// Most that bodies of requests under way are given, whatever the limit.
const MOST_BODIES: u64 = 64 << 20;
/// Most that transfers between members are given.
const MOST_TRANSFERS: u64 = 64 << 20;
/// Most that queues are given.
const MOST_QUEUES: u64 = 32 << 20;
/// One part in so many of what the process leaves, for each of bodies, transfers and queues.
const PART: u64 = 8;
/// Resident bytes for a hundred counted ones, as measured while the sizes of a full cache's entries change: what the
/// allocator keeps beside what was asked of it.
const RESIDENT_PERCENT: u64 = 175;

/// Shares of a memory limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// The limit that all of it keeps below.
    pub limit: u64,
    /// The program itself.
    pub process: u64,
    /// Bodies of requests under way.
    pub bodies: u64,
    /// Copies on their way to or from other members.
    pub transfers: u64,
    /// What waits: operations, writes not stable yet, frames for peers.
    pub queues: u64,
    /// What all caches may hold, as they count it.
    pub caches: u64,
}

impl MemoryBudget {
    /// The shares of a limit.
    #[must_use]
    pub const fn of(limit: u64) -> MemoryBudget {
        let rest = limit.saturating_sub(PROCESS);
        let bodies = least(rest / PART, MOST_BODIES);
        let transfers = least(rest / PART, MOST_TRANSFERS);
        let queues = least(rest / PART, MOST_QUEUES);
        let resident = rest - bodies - transfers - queues;
        let caches = resident / RESIDENT_PERCENT * 100;
        MemoryBudget { limit, process: least(limit, PROCESS), bodies, transfers, queues, caches }
    }

    /// The least limit, to the MiB, under which caches may hold this many bytes together, as they count them.
    #[must_use]
    pub fn limit_for(caches: u64) -> u64 {
        // The share of caches grows with the limit, so that the least limit is found by halving.
        let (mut low, mut high) = (PROCESS >> 20, (PROCESS + caches / 100 * 2 * RESIDENT_PERCENT + (512 << 20)) >> 20);
        while low < high {
            let middle = low.midpoint(high);
            if MemoryBudget::of(middle << 20).caches < caches {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low << 20
    }

    /// What each of these caches may hold, whose own bounds are given (none: unbounded), in their order. Bounds that are no
    /// more than an equal share are kept whole; what they leave is divided equally among the others.
    #[must_use]
    pub fn divide(&self, bounds: &[Option<u64>]) -> Vec<u64> {
        let mut order: Vec<usize> = (0..bounds.len()).collect();
        order.sort_by_key(|&cache| bounds[cache].unwrap_or(u64::MAX));
        let mut shares = vec![0; bounds.len()];
        let mut left = self.caches;
        for (done, &cache) in order.iter().enumerate() {
            let equal = left / (bounds.len() - done) as u64;
            shares[cache] = bounds[cache].unwrap_or(u64::MAX).min(equal);
            left -= shares[cache];
        }
        shares
    }
}

const fn least(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_shares_of_a_limit_stay_below_it() {
        for limit in [0, 1, 30 * MIB, 96 * MIB, 384 * MIB, 1 << 34, 1 << 44] {
            let budget = MemoryBudget::of(limit);
            let MemoryBudget { process, bodies, transfers, queues, caches, .. } = budget;
            assert!(process + bodies + transfers + queues + caches / 100 * RESIDENT_PERCENT <= limit, "{budget:?}");
        }
        assert!(MemoryBudget::of(96 * MIB).caches > 24 * MIB, "{:?}", MemoryBudget::of(96 * MIB));
    }

    #[test]
    fn a_limit_for_caches_is_the_least_that_holds_them() {
        for caches in [0, 4 << 10, 16 * MIB, 256 * MIB, 3 << 30, 1 << 40] {
            let limit = MemoryBudget::limit_for(caches);
            assert!(MemoryBudget::of(limit).caches >= caches, "{caches}: {limit}");
            assert!(caches == 0 || MemoryBudget::of(limit - MIB).caches < caches, "{caches}: {limit}");
        }
    }

    #[test]
    fn small_bounds_are_kept_whole_and_the_rest_is_divided_equally() {
        let budget = MemoryBudget { caches: 100, ..MemoryBudget::of(1 << 30) };
        assert_eq!(budget.divide(&[Some(10), Some(20)]), [10, 20]);
        assert_eq!(budget.divide(&[Some(500), Some(20)]), [80, 20]);
        assert_eq!(budget.divide(&[None, Some(10), Some(60)]), [45, 10, 45]);
        assert_eq!(budget.divide(&[None]), [100]);
        assert!(budget.divide(&[]).is_empty());
    }
}
