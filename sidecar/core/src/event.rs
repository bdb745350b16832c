//! What goes into the core and what comes out.

use std::sync::Arc;
use std::time::Duration;

use crate::document::{Document, Expected};
use crate::ids::{GroupId, MemberId, ViewNumber};
use crate::member::Member;
use crate::message::Envelope;
use crate::operation::{Answer, Operation, Refusal};
use crate::time::Time;
use crate::view::View;

/// Ties an app's operation to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Ties a registry call to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Which of a member's two ports. A connection on one says nothing of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Messages.
    Data,
    /// Pings and echoes.
    FailureDetection,
}

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed. Due whenever [`crate::core::Core::next_turn`] says, and at most [`crate::limits::Limits::tick`] apart.
    Tick,
    /// A message came from a peer whose identity the transport has checked.
    Message {
        /// Its sender.
        from: MemberId,
        /// The message.
        envelope: Envelope,
    },
    /// A ping or echo of a peer showed this; the failure-detection thread says so.
    Heard {
        /// The peer.
        from: MemberId,
        /// The view that it has installed.
        view: ViewNumber,
        /// Newest view that it is confirmed past.
        confirmed_past: ViewNumber,
    },
    /// Our connection to the peer on this port was closed or reset and a fresh dial failed too, not through an error of
    /// our own.
    Unreachable {
        /// The peer.
        peer: MemberId,
        /// The port.
        port: Port,
    },
    /// Our connection to the peer on this port stands anew.
    Connected {
        /// The peer.
        peer: MemberId,
        /// The port.
        port: Port,
    },
    /// Our connections to the peer stand on both ports: the answer to [`Effect::Peers`], and again after each reconnection.
    Reached {
        /// The peer.
        peer: MemberId,
    },
    /// The answer to a registry call.
    Registry {
        /// Which call.
        call: CallId,
        /// The answer.
        answer: RegistryAnswer,
    },
    /// An app asks.
    Submit {
        /// For the reply.
        ticket: Ticket,
        /// What it asks.
        operation: Operation,
        /// When it stops waiting.
        deadline: Time,
    },
    /// Hand everything over and leave; afterwards the core goes on as a client.
    Drain,
}

/// What to ask the registry.
#[derive(Clone, Debug)]
pub enum RegistryCall {
    /// Read the document afresh.
    Read,
    /// Create the document; conflicts when there is one.
    Create(Arc<Document>),
    /// Replace the document that `expected` describes.
    Swap {
        /// What must be there.
        expected: Expected,
        /// What shall be there.
        next: Arc<Document>,
    },
}

/// What the registry said.
#[derive(Clone, Debug)]
pub enum RegistryAnswer {
    /// To `Read`: the document, or that there is none.
    Document(Option<Arc<Document>>),
    /// To `Create` and `Swap`: done.
    Swapped,
    /// To `Create` and `Swap`: certainly not done; what is there.
    Conflict(Option<Arc<Document>>),
    /// No answer, or a lost one: a swap may or may not have been done. Resolved by reading.
    Failed,
}

/// Something that the shell shall do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send to a peer that was named in an [`Effect::Peers`] or in a message; dropped if it can't be reached.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        envelope: Envelope,
    },
    /// Keep connections on both ports to these peers, and no others, ping those that are members, and say
    /// [`Event::Reached`] for each once both stand.
    Peers(Vec<Member>),
    /// Ask the registry.
    Registry {
        /// For the answer.
        call: CallId,
        /// What to ask.
        request: RegistryCall,
    },
    /// Tell the registry, which is behind, what this member knows (see [`crate::recovery`]). It has no answer; the document
    /// is read until it is back.
    Republish {
        /// The newest view that this member has installed.
        view: ViewNumber,
        /// The newest document that it knows: of an older view, if the newest came from a peer.
        document: Arc<Document>,
    },
    /// Answer the app.
    Reply {
        /// Which operation.
        ticket: Ticket,
        /// The answer.
        result: Result<Answer, Refusal>,
    },
    /// Ping all members at once.
    PingNow,
    /// This incarnation is out of the view, or its copy is void: drop it and start a new one. Nothing else follows.
    Superseded,
    /// The leave that [`Event::Drain`] asked for is complete; the core is a client now.
    Left,
    /// This node can't join and why; it keeps trying.
    JoinRefused(String),
    /// Something worth a log line, a metric or a test record.
    Notice(Notice),
}

/// Where effects are put.
pub type Effects = Vec<Effect>;

/// Typed protocol events: the shell turns them into logs, metrics and test records.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A view was installed.
    ViewInstalled {
        /// The view.
        view: Arc<View>,
        /// Names that were not in the view installed before.
        joined: Vec<String>,
        /// Names that are no longer in it.
        left: Vec<String>,
        /// Since the change began at its proposer, else since this node heard of it.
        took: Duration,
    },
    /// A member is suspected, and why.
    Suspected {
        /// Who.
        member: MemberId,
        /// Stable word.
        reason: &'static str,
    },
    /// A suspected member answered again before it was excluded.
    Trusted {
        /// Who.
        member: MemberId,
    },
    /// A vote was given.
    Voted {
        /// To exclude whom.
        suspects: Vec<MemberId>,
    },
    /// Votes given were voided through the registry.
    VotesVoided,
    /// A member was proved dead.
    ProvedDead {
        /// Who.
        member: MemberId,
    },
    /// A joiner of another boot has the machine id and the name of a member that answers (P-3).
    DoubledIdentity {
        /// The member's name.
        name: String,
        /// The machine id.
        machine: String,
    },
    /// An exclusion can't go on, and why.
    ExclusionWaits {
        /// Stable word.
        reason: &'static str,
    },
    /// The lease ran out.
    LeaseLost,
    /// The lease is back.
    LeaseGained,
    /// Every copy of these groups was lost; they started empty.
    GroupsLost {
        /// How many groups.
        groups: usize,
        /// They went with members that left in order, as happens when all leave.
        in_order: bool,
    },
    /// The last in-sync owners of these groups were excluded; their operations are refused until one of them comes back
    /// with its copy, or the groups start empty (V-9).
    GroupsVacant {
        /// How many groups.
        groups: usize,
    },
    /// This node became primary of a group and serves it.
    Promoted {
        /// Which group.
        group: GroupId,
        /// Writes that were collected and sent again.
        resent: usize,
    },
    /// A state transfer to this node is complete.
    Transferred {
        /// Which group.
        group: GroupId,
        /// Records received.
        records: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// Entries were removed in order because they expired or were evicted.
    Removed {
        /// Which cache, by id.
        cache: crate::ids::CacheId,
        /// Whether expired, else evicted.
        expired: bool,
    },
    /// The registry could not be reached or failed.
    RegistryFailed,
    /// The registry's document is missing or older than what is known; it is not followed.
    RegistryBehind,
}
