//! What members say to each other on the data connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::document::DocumentVersion;
use crate::ids::{CacheId, GroupId, MemberId, Version, ViewNumber};
use crate::member::Member;
use crate::operation::{Answer, Operation, OperationId, Outcome, Refusal};
use crate::view::View;

/// Every message, with what its sender always says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The view that the sender has installed.
    pub view: ViewNumber,
    /// Newest view that the sender is confirmed past (S-2).
    pub confirmed_past: ViewNumber,
    /// The message.
    pub message: Message,
}

/// The messages. Every one may be lost, delayed, repeated or reordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    // Views
    /// A view, to whoever showed an older one or is told of a change.
    ViewIs(Arc<View>),
    /// Asks for the sender's view.
    ViewRequest,
    /// The sender has installed the view in the envelope.
    Installed,

    // Exclusion
    /// The sender does not get echoes from these members.
    Suspects(Vec<MemberId>),
    /// Asks for a vote to exclude `suspects` from the view of `version`.
    VoteRequest {
        /// What the vote is bound to.
        version: DocumentVersion,
        /// Tells the proposer's rounds apart.
        round: u64,
        /// Who is to be excluded.
        suspects: Vec<MemberId>,
    },
    /// A vote: from now on its giver answers no ping of the suspects.
    Vote {
        /// As asked.
        version: DocumentVersion,
        /// As asked.
        round: u64,
        /// For each suspect, how long the giver's promises to it still run.
        promises: Vec<(MemberId, Duration)>,
    },
    /// The proposer has not sent its swap for rounds up to this one and never will: their votes are given back.
    VoteRelease {
        /// As asked.
        version: DocumentVersion,
        /// This round and all before it.
        round: u64,
    },

    // Joining and leaving
    /// Asks to join. Also carries proof that older incarnations of the same platform identity have ended.
    Join {
        /// The joiner; `joined` is not yet set.
        member: Box<Member>,
        /// Whether it holds what makes its platform identity exclusive.
        exclusive: bool,
        /// Members that it has reached on both ports.
        reached: Vec<MemberId>,
        /// An earlier incarnation within the same process that has released.
        formerly: Option<MemberId>,
        /// Copies of an earlier incarnation within the same process that were in sync when it was superseded.
        kept: Option<KeptCopies>,
    },
    /// The sender has reached this joiner on both ports.
    Reached(MemberId),
    /// The joiner can't be admitted, and why.
    JoinRefused(String),
    /// The sender wants to leave; repeated until `LeaveGranted`.
    Leave,
    /// The leaver may stop.
    LeaveGranted {
        /// Although it has not handed over: everyone leaves.
        anyway: bool,
    },
    /// The leaver serves, pings, echoes and votes no more.
    Stopped,
    /// The leaver's (or superseded incarnation's) own promises have run out too.
    Released(MemberId),
    /// The sender's copies of these groups, incoming in the envelope's view, are complete.
    InSync(Vec<GroupId>),

    // Writes
    /// Ordered writes of one group, from its primary.
    Replicate {
        /// Which group.
        group: GroupId,
        /// In order of version.
        writes: Vec<Write>,
        /// Everything up to here is stable.
        stable: Version,
    },
    /// The sender holds these writes.
    Replicated {
        /// Which group.
        group: GroupId,
        /// Their versions.
        versions: Vec<Version>,
    },
    /// Everything up to these versions is stable.
    Stable(Vec<(GroupId, Version)>),
    /// Asks the primary of these groups how far they are stable: the sender holds writes of which it was not told.
    StableRequest(Vec<GroupId>),
    /// Asks a primary to remove these entries, if their versions still are these: the sender is over its bound.
    Evict(Vec<Eviction>),
    /// Which caches are so full at the sender that its copies should get no new entries for now; none: none is. Repeated
    /// while some are.
    Full(Vec<CacheId>),

    // Promotion and transfer
    /// A new primary asks what its owner holds above `above`, and everyone that it has installed the view.
    Collect {
        /// Which group.
        group: GroupId,
        /// The asker's watermark.
        above: Version,
    },
    /// The answer to `Collect`.
    Collected {
        /// Which group.
        group: GroupId,
        /// As asked.
        above: Version,
        /// The sender's watermark.
        stable: Version,
        /// Records above `above`, newest of each key.
        writes: Vec<Write>,
        /// Remembered results of all writes above `above`.
        results: Vec<RememberedResult>,
    },
    /// An incoming member asks for a part of the state transfer.
    Pull {
        /// Which group.
        group: GroupId,
        /// The incoming member's own number of this transfer.
        transfer: u64,
        /// Part wanted, from 0, each once the one before has come.
        part: u64,
    },
    /// A part of the state transfer.
    Part {
        /// Which group.
        group: GroupId,
        /// As asked.
        transfer: u64,
        /// As asked.
        part: u64,
        /// Records at their present versions.
        writes: Vec<Write>,
        /// Whether this is the last part.
        last: bool,
        /// Remembered results of operations; they follow the records.
        results: Vec<RememberedResult>,
        /// The watermark.
        stable: Version,
    },
    /// The primary knows no such transfer or is not serving: begin again.
    PullRefused {
        /// Which group.
        group: GroupId,
        /// As asked.
        transfer: u64,
    },

    // Operations
    /// An app's operation, to the owner that shall decide it. Valid only in the envelope's view.
    Forward {
        /// Its identity.
        id: OperationId,
        /// Counts the origin's sendings of this operation.
        attempt: u32,
        /// All operations of this origin below this sequence are over.
        over_below: u64,
        /// The operation.
        operation: Operation,
    },
    /// The decision on a forwarded operation.
    Forwarded {
        /// Its identity.
        id: OperationId,
        /// The attempt answered; a refusal holds for it and all earlier ones sent to the same owner in the same view.
        attempt: u32,
        /// The decision; `Err` with `Applied::No` is certain for those attempts.
        result: Result<Answer, Refusal>,
    },
}

/// Copies that a joiner brings along (V-9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCopies {
    /// The incarnation that held them.
    pub of: MemberId,
    /// Of which groups.
    pub groups: BTreeSet<GroupId>,
}

/// In which order messages that wait for the same peer leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageClass {
    /// Decides who serves, ends a wait or makes room. Small, few, and ahead of all data.
    Control,
    /// Carries values or new work.
    Data,
}

impl Message {
    /// How urgent it is. What ends somebody's wait must not stand behind the values that make everybody wait.
    #[must_use]
    pub fn class(&self) -> MessageClass {
        match self {
            Message::Replicate { .. } | Message::Part { .. } | Message::Forward { .. } => MessageClass::Data,
            Message::Collected { writes, results, .. } if !(writes.is_empty() && results.is_empty()) => {
                MessageClass::Data
            }
            Message::Forwarded { result: Ok(answer), .. } if answer.outcome.carries_value() => MessageClass::Data,
            Message::ViewIs(_)
            | Message::ViewRequest
            | Message::Installed
            | Message::Suspects(_)
            | Message::VoteRequest { .. }
            | Message::Vote { .. }
            | Message::VoteRelease { .. }
            | Message::Join { .. }
            | Message::Reached(_)
            | Message::JoinRefused(_)
            | Message::Leave
            | Message::LeaveGranted { .. }
            | Message::Stopped
            | Message::Released(_)
            | Message::InSync(_)
            | Message::Replicated { .. }
            | Message::Stable(_)
            | Message::StableRequest(_)
            | Message::Evict(_)
            | Message::Full(_)
            | Message::Collect { .. }
            | Message::Collected { .. }
            | Message::Pull { .. }
            | Message::PullRefused { .. }
            | Message::Forwarded { .. } => MessageClass::Control,
        }
    }
}

/// A write as it travels: one record, and the results to remember with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Which cache.
    pub cache: CacheId,
    /// The app's key.
    pub key: Bytes,
    /// Its place in the group's order.
    pub version: Version,
    /// The new record.
    pub body: WriteBody,
    /// What retries are answered: of the operation that made this write, and of earlier ones that it covers.
    pub results: Vec<RememberedResult>,
}

/// The record that a write leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteBody {
    /// A value.
    Entry {
        /// The bytes.
        value: Bytes,
        /// As stored.
        content_type: Option<Arc<str>>,
        /// Version of the value.
        etag: Version,
        /// Time to live that was left when the message was made.
        remaining: Option<Duration>,
        /// How old the value was when the message was made.
        age: Duration,
    },
    /// Removed.
    Tombstone,
}

/// The result of an applied operation, for its retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedResult {
    /// The operation.
    pub id: OperationId,
    /// The cache whose bytes it is counted in.
    pub cache: CacheId,
    /// The app's `Idempotency-Key`.
    pub idempotency: Option<RememberedKey>,
    /// Since it was applied, when the message was made.
    pub age: Duration,
    /// All operations of the same origin below this sequence are over: their results need not be remembered.
    pub over_below: u64,
    /// Version of its write.
    pub version: Version,
    /// What its app is told.
    pub outcome: Outcome,
}

/// The `Idempotency-Key` of a remembered result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedKey {
    /// The key, hashed.
    pub key: u128,
    /// Of the operation that it was used for.
    pub fingerprint: u64,
    /// The entry that it was used on, hashed.
    pub entry: u64,
}

/// A request to evict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// Which group.
    pub group: GroupId,
    /// Which cache.
    pub cache: CacheId,
    /// The app's key.
    pub key: Bytes,
    /// The version seen.
    pub version: Version,
}

/// What a member says of itself with each ping and echo (V-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingStatus {
    /// The registry has not answered the sender for `suspect`, although it was asked.
    pub registry_away: bool,
    /// What a change of the view waits for at the sender.
    pub waits_for: Option<WaitsFor>,
}

/// What a change of the view that is needed waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WaitsFor {
    /// The registry's answer.
    Registry,
    /// More than half of a view's members can't be counted (V-5).
    Majority,
    /// Members that have not voted.
    Votes,
    /// Promises to those that are to be excluded (V-6).
    Promises,
    /// The member whose turn it is to propose.
    Proposer,
    /// Members that have not installed the view (C-1).
    Installation,
}

impl WaitsFor {
    /// The label in status answers, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WaitsFor::Registry => "registry",
            WaitsFor::Majority => "majority",
            WaitsFor::Votes => "votes",
            WaitsFor::Promises => "promises",
            WaitsFor::Proposer => "proposer",
            WaitsFor::Installation => "installation",
        }
    }
}

/// A ping on the failure-detection connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The view that the pinger has installed.
    pub view: ViewNumber,
    /// The pinger's own clock, in nanoseconds: only its maker reads it.
    pub sent: u64,
    /// Newest view that the pinger is confirmed past.
    pub confirmed_past: ViewNumber,
    /// What else the pinger says of itself.
    pub status: PingStatus,
    /// When this is an answer: the view and send time of the ping that it echoes.
    pub echo: Option<(ViewNumber, u64)>,
}
