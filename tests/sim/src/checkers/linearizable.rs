//! Per-key linearizability of reads, writes, conditional writes, removals and additions; and that a refused
//! operation (`applied: no`) never took effect (O-1, O-3, R-1, R-2, E-2).
//!
//! Where every copy of a group was lost, the history is cut: what was decided after the loss starts from nothing.

use crate::checkers::register::{ABSENT, KeyModel};
use crate::checkers::search::{Verdict, search};
use crate::clock::Instant;
use crate::history::{Asked, Loss, Operation, Told};
use crate::workload::group_of;
use crate::world::World;

impl World {
    /// Checks every key's history.
    pub(crate) fn check_linearizable(&mut self) {
        for key in self.keys() {
            let group = group_of(key, &self.profile.caches, self.profile.segments);
            let mut losses: Vec<Loss> = self.history.losses.iter().filter(|l| l.group == group).copied().collect();
            losses.sort_by_key(|l| l.at);
            let operations = self.history.operations.iter().filter(|o| o.key == key);
            let counter = self.is_counter(key);
            let evicts = self.profile.max_entries.is_some();
            for part in parts(operations, &losses) {
                match check(part, counter, evicts) {
                    Ok(true) => {}
                    Ok(false) => self.stats.undecided += 1,
                    Err(what) => return self.violated("linearizability", what, Some(key)),
                }
            }
        }
    }
}

/// Checks one history from nothing: whether it was decided within the search's bound.
fn check(operations: Vec<Operation>, counter: bool, evicts: bool) -> Result<bool, String> {
    let model = KeyModel::new(operations, counter, evicts)?;
    match search(&model, &model.spans, ABSENT) {
        Verdict::Linearizable => Ok(true),
        Verdict::Undecided => Ok(false),
        Verdict::Stuck(item) => Err(format!("nothing explains {}", model.operations[item])),
    }
}

/// The histories between losses. An operation under way at a loss goes to the side that its version tells, and to
/// both, as one that may have been applied, when nothing tells.
fn parts<'a>(operations: impl Iterator<Item = &'a Operation>, losses: &[Loss]) -> Vec<Vec<Operation>> {
    let mut parts = vec![Vec::new(); losses.len() + 1];
    for operation in operations {
        let first = losses.iter().filter(|l| l.at < operation.invoked).count();
        let last = losses.iter().filter(|l| l.at < operation.returned).count();
        let told = operation.etags().map(|etag| losses.iter().filter(|l| l.view <= etag.view.0).count()).max();
        let own = match told {
            _ if first == last => Some(first),
            Some(part) => Some(part.clamp(first, last)),
            None => None,
        };
        if let Some(own) = own {
            parts[own].push(operation.clone());
            also_unknown(operation, &mut parts[own]);
        }
        let writes = !matches!(operation.asked, Asked::Get) && !matches!(operation.told, Told::Refused(_));
        for part in (first..=last).filter(|p| Some(*p) != own && writes) {
            let from = if part == first { operation.invoked } else { losses[part - 1].at };
            parts[part].push(unknown(operation, from));
        }
    }
    parts
}

fn unknown(operation: &Operation, from: Instant) -> Operation {
    Operation { told: Told::Unknown, returned: Instant::MAX, invoked: from, ..operation.clone() }
}

/// An operation that was repeated after a doubtful attempt, and then told that nothing is to be done: the doubtful
/// attempt may still have been applied, before or after.
fn also_unknown(operation: &Operation, part: &mut Vec<Operation>) {
    if operation.doubtful && matches!(operation.told, Told::Failed(_) | Told::Absent) {
        part.push(unknown(operation, operation.invoked));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sidegrid_core::operation::RefusalReason;
    use sidegrid_core::{GroupId, Version, ViewNumber};

    use super::*;
    use crate::clock::SEC;
    use crate::history::{KeyIndex, Seen, When};

    fn etag(counter: u64) -> Version {
        Version { view: ViewNumber(1), counter }
    }

    fn operation(invoked: u64, returned: u64, asked: Asked, told: Told) -> Operation {
        Operation {
            key: KeyIndex { cache: 0, key: 0 },
            group: GroupId(0),
            asked,
            invoked,
            returned,
            told,
            node: 0,
            attempts: 1,
            doubtful: false,
            repeatable: false,
            last: false,
        }
    }

    fn asked_put(value: i64, when: When, ttl: Option<Duration>) -> Asked {
        Asked::Put { value, ttl, when, previous: false }
    }

    /// A put of `value`, told to have version `value`.
    fn put(invoked: u64, returned: u64, value: i64, created: bool) -> Operation {
        let told = Told::Stored { created, etag: etag(value as u64), previous: None };
        operation(invoked, returned, asked_put(value, When::Always, None), told)
    }

    fn unknown_put(invoked: u64, value: i64, when: When) -> Operation {
        operation(invoked, Instant::MAX, asked_put(value, when, None), Told::Unknown)
    }

    fn read(invoked: u64, returned: u64, value: i64) -> Operation {
        let told = if value == 0 { Told::Absent } else { Told::Found(Seen { value, etag: etag(value as u64) }) };
        operation(invoked, returned, Asked::Get, told)
    }

    fn holds(operations: Vec<Operation>) -> bool {
        check(operations, false, false) == Ok(true)
    }

    #[test]
    fn a_lost_write_and_a_stale_read_are_found() {
        assert!(holds(vec![put(0, 1, 1, true), put(2, 3, 2, false), read(4, 5, 2)]));
        assert!(!holds(vec![put(0, 1, 1, true), put(2, 3, 2, false), read(4, 5, 1)]));
        assert!(!holds(vec![put(0, 1, 1, true), read(4, 5, 0)]));
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never_but_is_not_undone() {
        let unknown = || unknown_put(0, 9, When::Always);
        assert!(holds(vec![unknown(), put(1, 2, 1, true), read(3, 4, 1), read(5, 6, 9)]));
        assert!(holds(vec![unknown(), put(1, 2, 1, true), read(3, 4, 1)]));
        assert!(!holds(vec![unknown(), put(1, 2, 1, true), read(3, 4, 9), read(5, 6, 1)]));
        // Unseen, it may have made the key present.
        assert!(holds(vec![unknown(), put(1, 2, 1, false), read(3, 4, 1)]));
        assert!(!holds(vec![put(1, 2, 1, false), read(3, 4, 1)]));
    }

    #[test]
    fn a_refused_write_that_is_seen_is_found() {
        let refused = operation(0, 1, asked_put(9, When::Always, None), Told::Refused(RefusalReason::NoLease));
        assert!(holds(vec![refused.clone(), read(2, 3, 0)]));
        assert!(!holds(vec![refused, read(2, 3, 9)]));
    }

    #[test]
    fn of_two_conditional_writes_on_one_version_only_one_wins() {
        let swap = |invoked, returned, value| {
            let told = Told::Stored { created: false, etag: etag(value as u64), previous: None };
            operation(invoked, returned, asked_put(value, When::Matches(etag(1)), None), told)
        };
        let failed = |told| operation(2, 9, asked_put(3, When::Matches(etag(1)), None), Told::Failed(told));
        assert!(holds(vec![put(0, 1, 1, true), swap(2, 8, 2), failed(Some(etag(2)))]));
        assert!(!holds(vec![put(0, 1, 1, true), swap(2, 8, 2), swap(2, 9, 3)]));
        // A condition that holds can't fail.
        assert!(!holds(vec![put(0, 1, 1, true), failed(Some(etag(1)))]));
    }

    #[test]
    fn a_value_may_expire_only_after_its_time() {
        let told = || Told::Stored { created: true, etag: etag(1), previous: None };
        let put = || operation(0, 1, asked_put(1, When::Always, Some(Duration::from_secs(10))), told());
        assert!(holds(vec![put(), read(9 * SEC, 10 * SEC, 0)]));
        assert!(!holds(vec![put(), read(SEC, 2 * SEC, 0)]));
        assert!(!holds(vec![put(), read(11 * SEC, 12 * SEC, 0), read(13 * SEC, 14 * SEC, 1)]));
    }

    #[test]
    fn additions_that_apply_twice_or_not_are_found() {
        let add = |invoked, returned, by, value| {
            let told = Told::Counter(Seen { value, etag: etag(value as u64) });
            operation(invoked, returned, Asked::Increment { by }, told)
        };
        let lost = |by| operation(0, Instant::MAX, Asked::Increment { by }, Told::Unknown);
        let holds = |operations| check(operations, true, false) == Ok(true);
        assert!(holds(vec![add(0, 1, 5, 5), add(2, 3, 7, 12)]));
        assert!(!holds(vec![add(0, 1, 5, 5), add(2, 3, 7, 17)]));
        assert!(!holds(vec![add(0, 1, 5, 5), add(2, 3, 7, 7)]));
        assert!(holds(vec![lost(100), add(0, 1, 5, 5), add(2, 3, 7, 112)]));
        assert!(!holds(vec![lost(100), add(0, 1, 5, 5), add(2, 3, 7, 212)]));
    }

    #[test]
    fn after_a_loss_the_history_starts_from_nothing() {
        let loss = [Loss { at: 10, view: 2, group: GroupId(0) }];
        let all = |operations: Vec<Operation>| {
            parts(operations.iter(), &loss).into_iter().all(|part| check(part, false, false) == Ok(true))
        };
        assert!(all(vec![put(0, 1, 1, true), read(20, 21, 0)]));
        assert!(!all(vec![put(0, 1, 1, true), read(20, 21, 1)]));
        assert!(!all(vec![put(0, 1, 1, true), read(5, 6, 0)]));
    }
}
