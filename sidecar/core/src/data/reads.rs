//! Reads: from the copy held here where it is clean, else decided by the primary (R-1, R-2, E-2).

use super::group::Waiter;
use super::{Asker, Data};
use crate::ids::GroupId;
use crate::operation::{Operation, Outcome, RefusalReason};
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage};

impl<S: Storage> Data<S> {
    /// A read: from the copy held here where it is clean, else decided as primary.
    pub(super) fn admit_read(
        &mut self,
        cx: &mut StepContext<'_>,
        group: GroupId,
        asker: Asker,
        key: &CacheKey,
        operation: Operation,
    ) {
        if !self.has_lease(cx.now) {
            self.refuse(cx, None, asker, RefusalReason::NoLease);
            return;
        }
        match self.gate.read(&*self.store, group, key, || cx.now) {
            crate::gate::GateRead::Found(entry) => self.answer(cx, asker, Outcome::Found(entry)),
            crate::gate::GateRead::Absent => self.answer(cx, asker, Outcome::Absent),
            crate::gate::GateRead::AskCore => self.read_as_primary(cx, group, asker, key, operation),
        }
    }

    /// Shows the last stable version, which a pending write leaves in its `before`.
    fn read_as_primary(
        &mut self,
        cx: &mut StepContext<'_>,
        group: GroupId,
        asker: Asker,
        key: &CacheKey,
        operation: Operation,
    ) {
        let g = &self.groups[group.index()];
        let Some(primary) = g.primary() else {
            self.refuse(cx, None, asker, RefusalReason::NoOwner);
            return;
        };
        if !primary.is_serving() {
            self.refuse(cx, None, asker, RefusalReason::Rebalancing);
            return;
        }
        let chain = primary.dirty.get(key);
        let first = chain.and_then(|c| primary.pending.get(c.front()?));
        let last = chain.and_then(|c| c.back().copied());
        let shown = match first {
            Some(pending) if !cx.bug(Bug::DirtyReads) => pending.before.clone(),
            _ => self.store.get(group, key).and_then(|r| r.entry),
        };
        match (shown, last) {
            // Past its deadline: neither the value nor "absent" before a removal is stable (E-2).
            (Some(entry), Some(last)) if entry.is_expired(cx.now) => {
                self.wait_on(group, last, Waiter::Again(asker, operation));
            }
            (Some(entry), None) if entry.is_expired(cx.now) => {
                if let Some(reason) = self.cannot_order(cx, group) {
                    return self.refuse(cx, None, asker, reason);
                }
                if cx.bug(Bug::ExpiredIsAbsent) {
                    return self.answer(cx, asker, Outcome::Absent);
                }
                self.order(cx, group, key, None, None, Waiter::Tell(asker, Outcome::Absent));
                self.removed(cx, key, true);
            }
            (Some(entry), _) => {
                let found = crate::evaluate::view_of(&entry, cx.now);
                self.answer(cx, asker, Outcome::Found(found));
            }
            (None, _) => self.answer(cx, asker, Outcome::Absent),
        }
    }
}
