//! The one queue of what happens next: ordered by global time, then by the order in which it was scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use sidegrid_core::document::Document;
use sidegrid_core::event::{CallId, RegistryAnswer, RegistryCall};
use sidegrid_core::message::Ping;
use sidegrid_core::{MemberId, ViewNumber};

use crate::clock::Instant;
use crate::faults::Ending;
use crate::history::KeyIndex;

/// What can happen in the world.
#[derive(Debug)]
pub(crate) enum What {
    /// The core's timer.
    Tick { node: usize, id: MemberId },
    /// A data frame arrives.
    Data { to: MemberId, from: MemberId, frame: Bytes },
    /// A failure-detection frame arrives.
    Ping { to: MemberId, from: MemberId, ping: Ping },
    /// The failure-detection thread's timer.
    PingTimer { node: usize, id: MemberId },
    /// The failure-detection thread tells the core what it heard.
    Heard { node: usize, id: MemberId, from: MemberId, ping: Ping },
    /// A node dials a peer.
    Dial { node: usize, id: MemberId, peer: MemberId, attempt: u32 },
    /// A node's connection to a peer breaks and can't be made again.
    Broken { node: usize, id: MemberId, peer: MemberId, attempt: u32 },
    /// A call reaches the registry.
    RegistryArrive { node: usize, id: MemberId, call: CallId, request: Box<RegistryCall>, answer: Fate },
    /// What a member tells a registry that is behind reaches it.
    RepublishArrive { id: MemberId, view: ViewNumber, document: Arc<Document> },
    /// An answer of the registry reaches a node.
    RegistryAnswer { node: usize, id: MemberId, call: CallId, answer: Box<RegistryAnswer> },
    /// The platform stores in the document that an incarnation is dead.
    PlatformWord { dead: MemberId },
    /// An app makes its next operation.
    Invoke { app: usize },
    /// An app repeats an operation whose outcome it doesn't know.
    Retry { app: usize, operation: usize },
    /// A node's process starts.
    Start { node: usize, formerly: Option<MemberId> },
    /// A node is told to leave in order.
    Drain { node: usize, id: MemberId },
    /// A planned fault begins.
    InjectedFault { index: usize },
    /// A fault ends.
    End(Ending),
    /// The checkers look.
    Sample,
    /// All faults are over.
    HealAll,
    /// A node is asked for a key at the end.
    FinalOperation { app: usize, key: KeyIndex, write: bool },
}

/// What becomes of the registry's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It comes.
    Comes,
    /// It is lost; the caller hears of a failure.
    Lost,
    /// The caller has given up before the call arrived.
    GivenUp,
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    order: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        // Reversed: the heap's greatest is what comes first.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Scheduled>,
    order: u64,
}

impl Queue {
    /// Schedules `what` for `at`.
    pub(crate) fn push(&mut self, at: Instant, what: What) {
        self.order += 1;
        self.heap.push(Scheduled { at, order: self.order, what });
    }

    /// Takes what comes first.
    pub(crate) fn pop(&mut self) -> Option<(Instant, What)> {
        self.heap.pop().map(|s| (s.at, s.what))
    }
}
