//! This node's way to the registry: the one call under way, and whether calls are answered at all.

use std::time::Duration;

use super::{Behind, Call, RegistryKnowledge};
use crate::event::CallId;
use crate::time::Time;

/// At most one call is under way; a call whose wait is over is dropped, and its answer passed over.
#[derive(Debug, Default)]
pub(super) struct RegistryLink {
    pub(super) call: Option<Call>,
    next_call: u64,
    /// When the registry answered last.
    pub(super) ok_at: Option<Time>,
    /// The last answer was an error, or a document that is not followed.
    pub(super) failed: bool,
    /// Since when no call was answered: the start of the first one that was not.
    failing_since: Option<Time>,
    /// While the registry shows no document, or an older one than was known when it was asked (G-3).
    pub(super) behind: Option<Behind>,
    /// When the registry was last seen to be behind.
    pub(super) seen_behind: Time,
    /// What was known when the call was made whose answer is being taken.
    pub(super) asked_knowing: RegistryKnowledge,
    pub(super) retry_at: Time,
}

impl RegistryLink {
    /// No call is under way, and the pause after the last one is over.
    pub(super) fn is_free(&self, now: Time) -> bool {
        self.call.is_none() && now >= self.retry_at
    }

    /// No call is under way, and the last one was answered by a document that is followed.
    pub(super) fn is_quiet(&self) -> bool {
        self.call.is_none() && !self.is_failing() && self.behind.is_none()
    }

    /// Notes a call that begins now.
    ///
    /// # Panics
    /// When another call is under way.
    pub(super) fn begin(&mut self, now: Time, timeout: Duration, knew: RegistryKnowledge) -> CallId {
        assert!(self.call.is_none(), "one registry call at a time");
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.call = Some(Call { id, began: now, until: now + timeout, knew });
        id
    }

    /// Ends the call under way if it is this one.
    pub(super) fn end(&mut self, id: CallId) -> Option<Call> {
        self.call.take_if(|call| call.id == id)
    }

    /// Ends the call under way if its wait is over.
    pub(super) fn end_overdue(&mut self, now: Time) -> Option<Call> {
        self.call.take_if(|call| call.until <= now)
    }

    /// Gives up the call under way: nobody wants its answer. One that was late already counts as not answered.
    pub(super) fn give_up(&mut self, now: Time, patience: Duration) {
        if let Some(call) = self.call.take()
            && now.since(call.began) >= patience
        {
            self.failing_since.get_or_insert(call.began);
        }
    }

    /// A call ended with an answer.
    pub(super) fn answered(&mut self, now: Time) {
        self.ok_at = Some(now);
        self.failed = false;
        self.failing_since = None;
    }

    /// A call that began at `began` ended without an answer. Returns whether that is new.
    pub(super) fn unanswered(&mut self, began: Time) -> bool {
        self.failing_since.get_or_insert(began);
        !std::mem::replace(&mut self.failed, true)
    }

    /// Whether the last call was not answered, or was given up late: it is to be asked again soon.
    pub(super) fn is_failing(&self) -> bool {
        self.failed || self.failing_since.is_some()
    }

    /// Whether the registry has answered nothing for `patience` although it was asked (V-10).
    pub(super) fn is_away(&self, now: Time, patience: Duration) -> bool {
        let since = self.failing_since.or(self.call.map(|call| call.began));
        since.is_some_and(|since| now.since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    const PATIENCE: Duration = Duration::from_millis(400);

    /// V-10
    #[test]
    fn it_is_away_while_calls_fail_or_stay_unanswered_for_long() {
        let mut link = RegistryLink::default();
        let knew = RegistryKnowledge::default();
        assert!(!link.is_away(at(9_000), PATIENCE), "nothing was asked");
        let call = link.begin(at(1_000), Duration::from_secs(5), knew);
        assert!(!link.is_away(at(1_399), PATIENCE) && link.is_away(at(1_400), PATIENCE));
        assert!(link.end(call).is_some() && link.end(call).is_none());
        assert!(link.unanswered(at(1_000)) && !link.unanswered(at(1_100)));
        assert!(link.is_away(at(1_400), PATIENCE), "counted from the first");
        link.answered(at(1_500));
        assert!(!link.is_away(at(9_000), PATIENCE));
        link.begin(at(2_000), Duration::from_secs(5), knew);
        assert!(link.end_overdue(at(6_999)).is_none());
        link.give_up(at(2_500), PATIENCE);
        assert!(link.is_away(at(2_500), PATIENCE), "given up, and late already");
        assert!(link.is_free(at(2_500)));
    }
}
