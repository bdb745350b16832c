//! Which app waits for which answer.

use std::collections::HashMap;

use sidegrid_core::event::Ticket;
use sidegrid_core::operation::{Answer, Applied, Refusal, RefusalReason};
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// The apps' operations that the core has taken and not answered. The core bounds how many it takes, and answers each
/// by its deadline, so this is bounded too (B-1).
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
    waiting: HashMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    reply: Reply,
    reads: bool,
}

impl Tickets {
    pub(super) fn take(&mut self, reply: Reply, reads: bool) -> Ticket {
        self.last += 1;
        self.waiting.insert(self.last, Waiting { reply, reads });
        Ticket(self.last)
    }

    pub(super) fn reply(&mut self, ticket: Ticket, result: Result<Answer, Refusal>) {
        if let Some(waiting) = self.waiting.remove(&ticket.0) {
            // The app may have gone away meanwhile.
            let _gone = waiting.reply.send(result);
        }
    }

    /// Refuses all that are left: the incarnation that took them is over. A write may have been applied (O-3).
    pub(super) fn refuse_all(&mut self) {
        for (_, Waiting { reply, reads }) in self.waiting.drain() {
            let applied = if reads { Applied::No } else { Applied::Unknown };
            let _gone = reply.send(Err(Refusal { reason: RefusalReason::NoOwner, applied }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O-3
    #[test]
    fn what_is_left_of_an_incarnation_is_refused_without_a_claim_about_writes() {
        let mut tickets = Tickets::default();
        let (write, mut written) = oneshot::channel();
        let (read, mut got) = oneshot::channel();
        let (answered, mut answer) = oneshot::channel();
        tickets.take(write, false);
        tickets.take(read, true);
        let ticket = tickets.take(answered, false);
        let full = Refusal { reason: RefusalReason::Full, applied: Applied::No };
        tickets.reply(ticket, Err(full));
        tickets.reply(ticket, Err(full));
        tickets.refuse_all();
        assert_eq!(answer.try_recv().unwrap(), Err(full));
        assert_eq!(written.try_recv().unwrap().unwrap_err().applied, Applied::Unknown);
        assert_eq!(got.try_recv().unwrap().unwrap_err().applied, Applied::No);
        assert!(tickets.waiting.is_empty());
    }
}
