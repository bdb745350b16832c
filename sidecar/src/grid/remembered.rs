//! Results of a `local` cache's operations that came with an `Idempotency-Key`. The promise is that of clustered caches:
//! remembered for two minutes, within a budget that counts in the cache's bytes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sidegrid_core::Time;
use sidegrid_core::operation::{Applied, Idempotency, Outcome, Refusal, RefusalReason};

/// What a result takes without a value.
const RESULT_BYTES: usize = size_of::<Kept>() + 96;

/// A bounded table of results by key.
#[derive(Debug)]
pub(super) struct Remembered {
    life: Duration,
    results: HashMap<u128, Kept>,
    /// Oldest first. The life is the same for all.
    order: VecDeque<(Time, u128)>,
    /// Bytes of all, and of each entry's, which is named by its hash.
    bytes: u64,
    by_entry: HashMap<u64, u64>,
}

#[derive(Debug)]
struct Kept {
    outcome: Outcome,
    fingerprint: u64,
    entry: u64,
    bytes: u64,
}

impl Remembered {
    pub(super) fn new(life: Duration) -> Remembered {
        Remembered { life, results: HashMap::new(), order: VecDeque::new(), bytes: 0, by_entry: HashMap::new() }
    }

    /// Bytes of all results.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The result of an earlier use of the key; none: it may be applied, if [`Remembered::check_budget`] has room.
    ///
    /// # Errors
    /// The key was used for another operation, or so long ago that its result may be forgotten (O-4).
    pub(super) fn look_up(&mut self, asked: Idempotency, now: Time) -> Result<Option<Outcome>, Refusal> {
        self.prune(now);
        match self.results.get(&asked.key) {
            Some(kept) if kept.fingerprint != asked.fingerprint => {
                Err(Refusal { reason: RefusalReason::IdempotencyMismatch, applied: Applied::No })
            }
            Some(kept) => Ok(Some(kept.outcome.clone())),
            None if asked.age.is_some_and(|age| age >= self.life) => {
                Err(Refusal { reason: RefusalReason::UnknownOperation, applied: Applied::Unknown })
            }
            None => Ok(None),
        }
    }

    /// Whether one more result may be remembered within the budget; one entry may take a quarter of it.
    ///
    /// # Errors
    /// It may not: the operation must not be applied, since its retry would apply it again.
    pub(super) fn check_budget(&self, entry: u64, budget: u64) -> Result<(), Refusal> {
        let of_entry = self.by_entry.get(&entry).copied().unwrap_or(0);
        let is_full = self.bytes >= budget || of_entry >= budget / 4;
        if is_full { Err(Refusal { reason: RefusalReason::ResultsFull, applied: Applied::No }) } else { Ok(()) }
    }

    /// Remembers the result of an operation that was applied now.
    pub(super) fn insert(&mut self, asked: Idempotency, entry: u64, outcome: Outcome, now: Time) {
        let value = match &outcome {
            Outcome::Stored { previous: Some(previous), .. } | Outcome::Deleted { previous: Some(previous) } => {
                previous.value.len()
            }
            _ => 0,
        };
        let bytes = (RESULT_BYTES + value) as u64;
        let kept = Kept { outcome, fingerprint: asked.fingerprint, entry, bytes };
        if self.results.insert(asked.key, kept).is_none() {
            self.order.push_back((now, asked.key));
            self.bytes += bytes;
            *self.by_entry.entry(entry).or_default() += bytes;
        }
    }

    /// Forgets what was remembered for its time.
    pub(super) fn prune(&mut self, now: Time) {
        while let Some((at, key)) = self.order.front().copied()
            && now.since(at) >= self.life
        {
            self.order.pop_front();
            let Some(gone) = self.results.remove(&key) else { continue };
            self.bytes -= gone.bytes;
            if let Some(sum) = self.by_entry.get_mut(&gone.entry) {
                *sum -= gone.bytes;
                if *sum == 0 {
                    self.by_entry.remove(&gone.entry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(120);

    fn asked(key: u128, fingerprint: u64, age: Option<u64>) -> Idempotency {
        Idempotency { key, fingerprint, age: age.map(Duration::from_secs) }
    }

    fn refused<T>(reason: RefusalReason, applied: Applied) -> Result<T, Refusal> {
        Err(Refusal { reason, applied })
    }

    /// O-1, O-4
    #[test]
    fn a_result_is_remembered_for_its_time_and_a_key_that_is_older_is_refused() {
        let mut remembered = Remembered::new(LIFE);
        let now = Time::ZERO;
        remembered.insert(asked(1, 7, None), 0, Outcome::Absent, now);
        let almost = now + Duration::from_secs(119);
        assert_eq!(remembered.look_up(asked(1, 7, Some(119)), almost), Ok(Some(Outcome::Absent)));
        let mismatch = refused(RefusalReason::IdempotencyMismatch, Applied::No);
        assert_eq!(remembered.look_up(asked(1, 8, None), almost), mismatch);
        let later = now + LIFE;
        let unknown = refused(RefusalReason::UnknownOperation, Applied::Unknown);
        assert_eq!(remembered.look_up(asked(1, 7, Some(120)), later), unknown);
        assert_eq!(remembered.look_up(asked(1, 7, None), later), Ok(None));
        assert_eq!(remembered.bytes(), 0, "forgotten results are not counted");
    }

    /// B-1
    #[test]
    fn one_entry_can_not_use_up_the_budget() {
        let mut remembered = Remembered::new(LIFE);
        let budget = 1 << 20;
        let mut kept = 0;
        while remembered.check_budget(1, budget).is_ok() {
            remembered.insert(asked(kept, 0, None), 1, Outcome::Absent, Time::ZERO);
            kept += 1;
        }
        assert!(kept > 100 && remembered.bytes() <= budget / 2);
        assert!(remembered.check_budget(2, budget).is_ok());
    }
}
