//! A node: a machine with a clock, on which one incarnation after another lives.

use std::sync::Arc;

use sidegrid_core::core::Core;
use sidegrid_core::event::{Port, Ticket};
use sidegrid_core::gate::Gate;
use sidegrid_core::lease::Lease;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::{Kept, MemberId, ViewNumber};
use sidegrid_store::Store;

use crate::clock::{Clock, Instant};
use crate::queue::What;

/// Most events kept for a node that is paused; more are lost, as from full socket buffers.
const MAX_HELD: usize = 20_000;

/// A peer that the core wants to be connected with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Who.
    pub(crate) id: MemberId,
    /// Whether the connection on the data port stands.
    pub(crate) data: bool,
    /// Whether the one on the failure-detection port does.
    pub(crate) detection: bool,
    /// Whether the data connection will be given up, since what was written to it is not acknowledged.
    pub(crate) given_up: bool,
}

impl Peer {
    /// The connection of a port.
    pub(crate) fn stands(&mut self, port: Port) -> &mut bool {
        match port {
            Port::Data => &mut self.data,
            Port::FailureDetection => &mut self.detection,
        }
    }
}

/// A running incarnation.
pub(crate) struct Life {
    /// Its id.
    pub(crate) id: MemberId,
    /// Its core.
    pub(crate) core: Core<Store>,
    /// Its store.
    pub(crate) store: Arc<Store>,
    /// Its read gate.
    pub(crate) gate: Arc<Gate>,
    /// Its lease.
    pub(crate) lease: Arc<Lease>,
    /// Whom it keeps connections to.
    pub(crate) peers: Vec<Peer>,
    /// When its timer is due; earlier timers still queued are stale.
    pub(crate) tick_at: Instant,
    /// What the core was last told of each peer by the failure-detection thread.
    pub(crate) told: Vec<(MemberId, ViewNumber, ViewNumber)>,
    /// Operations under way: ticket, app, operation.
    pub(crate) waiting: Vec<(Ticket, usize, usize)>,
    /// Last ticket given.
    pub(crate) next_ticket: u64,
    /// The view it has installed.
    pub(crate) view: ViewNumber,
}

/// Which thread of a process takes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// The core's, and the apps'.
    Core,
    /// The failure-detection thread.
    Detection,
}

/// A machine.
pub(crate) struct Node {
    /// Its place in the world.
    pub(crate) index: usize,
    /// Its clock, which no crash or pause stops.
    pub(crate) clock: Clock,
    /// Whether its incarnations become members.
    pub(crate) joins: bool,
    /// What ties its incarnations together.
    pub(crate) identity: PlatformIdentity,
    /// Where it is.
    pub(crate) locality: Locality,
    /// What runs on it.
    pub(crate) life: Option<Life>,
    /// Copies of an incarnation that was superseded, for the next one of its process.
    pub(crate) kept: Option<Kept<Store>>,
    /// Incarnations so far.
    pub(crate) incarnations: u8,
    /// The first incarnation of its present boot.
    pub(crate) booted: u8,
    /// Whether it was ever started.
    pub(crate) started: bool,
    /// Faults that stop all of it.
    pub(crate) paused: u32,
    /// Faults that stop its core.
    pub(crate) wedged: u32,
    /// Faults that stop its failure-detection thread.
    pub(crate) stalled: u32,
    /// What waits for a stopped thread, with the thread.
    pub(crate) held: Vec<(Thread, What)>,
    /// Gone for good.
    pub(crate) lost: bool,
    /// Told to leave in order.
    pub(crate) draining: bool,
    /// Has left in order, and only forwards.
    pub(crate) left: bool,
    /// How long after its leave it is started anew.
    pub(crate) back: u64,
    /// When something was last done to it.
    pub(crate) last_fault: Instant,
}

impl Node {
    /// A machine on which nothing runs yet.
    pub(crate) fn new(index: usize, clock: Clock, joins: bool, pods: bool) -> Node {
        let identity = if pods {
            PlatformIdentity::Pod { uid: format!("pod-{index}") }
        } else {
            PlatformIdentity::Host { machine: format!("m{index}"), boot: "b".into(), lock: format!("l{index}") }
        };
        let locality = Locality { site: String::new(), rack: format!("r{}", index % 2), machine: format!("m{index}") };
        Node {
            index,
            clock,
            joins,
            identity,
            locality,
            life: None,
            kept: None,
            incarnations: 0,
            booted: 1,
            started: false,
            paused: 0,
            wedged: 0,
            stalled: 0,
            held: Vec::new(),
            lost: false,
            draining: false,
            left: false,
            back: 0,
            last_fault: 0,
        }
    }

    /// Whether a thread of it is stopped.
    pub(crate) fn holds(&self, thread: Thread) -> bool {
        self.paused > 0
            || match thread {
                Thread::Core => self.wedged > 0,
                Thread::Detection => self.stalled > 0,
            }
    }

    /// Whether its core is stopped.
    pub(crate) fn is_held(&self) -> bool {
        self.holds(Thread::Core)
    }

    /// Keeps an event for when the thread goes on.
    pub(crate) fn hold(&mut self, thread: Thread, what: What) {
        if self.held.len() < MAX_HELD {
            self.held.push((thread, what));
        }
    }

    /// A machine boots again; a pod goes on where it is.
    pub(crate) fn boot(&mut self) {
        if let PlatformIdentity::Host { boot, .. } = &mut self.identity {
            self.booted = self.incarnations + 1;
            *boot = format!("b{}", self.booted);
        }
    }

    /// The next incarnation's identity towards the others.
    pub(crate) fn next_member(&mut self, random: u64) -> Member {
        self.incarnations += 1;
        // The low bytes say which node and incarnation it is, for whoever reads a trace; the rest orders ids at random.
        let id = MemberId(random << 16 | u64::from(self.incarnations) << 8 | self.index as u64);
        let port = 7000 + self.index as u16;
        Member {
            id,
            name: format!("n{}", self.index),
            identity: self.identity.clone(),
            incarnation: u64::from(self.incarnations),
            data_address: ([127, 0, 0, 1], port).into(),
            failure_detection_address: ([127, 0, 0, 1], port + 1000).into(),
            locality: self.locality.clone(),
            protocols: (1, 1),
            joined: 0,
        }
    }
}

/// The node of an id.
pub(crate) fn node_of(id: MemberId) -> usize {
    (id.0 & 0xff) as usize
}

/// The incarnation of an id, from 1.
pub(crate) fn incarnation_of(id: MemberId) -> u64 {
    id.0 >> 8 & 0xff
}
