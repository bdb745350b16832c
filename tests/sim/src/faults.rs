//! Faults: what they are, how they begin and how they end.

use sidegrid_core::MemberId;

use crate::clock::{Instant, MS, SEC};
use crate::network::Channel;
use crate::node::node_of;
use crate::queue::What;
use crate::world::World;

/// A machine that is down for so long has booted anew.
const BOOT: u64 = 1500 * MS;

/// A fault and when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// When.
    pub(crate) at: Instant,
    /// What.
    pub(crate) fault: InjectedFault,
}

/// Something that goes wrong, or is done to the grid. Spans are global nanoseconds.
#[derive(Clone, Debug)]
pub(crate) enum InjectedFault {
    /// A process dies and is started again.
    Crash { node: usize, down: u64 },
    /// Processes of these nodes (a bit each) die, so far apart.
    Storm { nodes: u64, down: u64, apart: u64 },
    /// A machine is gone for good.
    Lose { node: usize },
    /// A node stops and goes on: nothing of it runs, its clock does.
    Pause { node: usize, last: u64 },
    /// Only the core stops; the failure-detection thread goes on.
    Wedge { node: usize, last: u64 },
    /// Only the failure-detection thread stops.
    Stall { node: usize, last: u64 },
    /// A link is cut.
    Cut { from: usize, to: usize, both: bool, data: bool, detection: bool, last: u64 },
    /// All links of a node are cut.
    Isolate { node: usize, inward: bool, outward: bool, last: u64 },
    /// Links between the nodes of `side` (a bit each) and the others are cut.
    Split { side: u64, last: u64 },
    /// The nodes of `side` (a bit each) are cut off from the others on these connections, and from the registry.
    Eclipse { side: u64, data: bool, detection: bool, registry: bool, last: u64 },
    /// What follows begins when the registry next decides a view.
    AtChange { then: Box<InjectedFault>, after: u64 },
    /// All links lose frames.
    Loss { percent: u64, last: u64 },
    /// The registry answers nobody.
    RegistryAway { last: u64 },
    /// The registry answers late.
    RegistrySlow { last: u64 },
    /// The registry's answers get lost, done or not.
    RegistryLossy { last: u64 },
    /// The document is not there for a while.
    RegistryMissing { last: u64 },
    /// The document is lost for good, or put back to an older one.
    RegistryLost { put_back: bool },
    /// One of the registry's two replicas answers reads from before; swaps are compared with what is there now.
    RegistryStale { last: u64 },
    /// What follows begins when the next leaver says that it has stopped.
    AtStop { then: Box<InjectedFault> },
    /// One node can't reach the registry.
    RegistryCutOff { node: usize, last: u64 },
    /// A member leaves in order, and is started again later.
    Drain { node: usize, back: u64 },
    /// A spare node is started.
    Start { node: usize },
}

/// How a fault ends.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// The node goes on.
    Pause(usize),
    /// Its core goes on.
    Wedge(usize),
    /// Its failure-detection thread goes on.
    Stall(usize),
    /// These directions pass again.
    Links(Vec<(Channel, usize, usize)>),
    /// This much less is lost.
    Loss(u64),
    /// The registry is back.
    RegistryAway,
    /// The registry is quick again.
    RegistrySlow,
    /// The registry's answers come again.
    RegistryLossy,
    /// The document is there again.
    RegistryMissing,
    /// Both replicas show the same.
    RegistryStale,
    /// The node reaches the registry again.
    RegistryCutOff(usize),
}

impl World {
    /// Begins the planned fault of this index.
    pub(crate) fn begin_fault(&mut self, index: usize) {
        if self.healed {
            return;
        }
        let fault = self.profile.faults[index].fault.clone();
        let Some(fault) = self.allowed(fault) else { return };
        self.note(format_args!("FAULT {fault:?}"));
        self.stats.faults += 1;
        self.touch(&fault);
        match fault {
            InjectedFault::Crash { node, down } => self.crash_for(node, down),
            InjectedFault::Storm { nodes, down, apart } => {
                // The first dies now; a spread is made by one fault for each of the others.
                let mut later = 0;
                for node in (0..self.nodes.len()).filter(|n| nodes >> n & 1 == 1) {
                    if later == 0 {
                        self.crash_for(node, down);
                    } else {
                        self.later_crash(node, later, down);
                    }
                    later += apart;
                }
            }
            InjectedFault::Lose { node } => self.lose(node),
            InjectedFault::Pause { node, last } => {
                self.nodes[node].paused += 1;
                self.end_after(last, Ending::Pause(node));
            }
            InjectedFault::Wedge { node, last } => {
                self.nodes[node].wedged += 1;
                self.end_after(last, Ending::Wedge(node));
            }
            InjectedFault::Stall { node, last } => {
                self.nodes[node].stalled += 1;
                self.end_after(last, Ending::Stall(node));
            }
            InjectedFault::Loss { percent, last } => {
                self.network.set_extra_loss(percent, 0);
                self.end_after(last, Ending::Loss(percent));
            }
            InjectedFault::Cut { .. }
            | InjectedFault::Isolate { .. }
            | InjectedFault::Split { .. }
            | InjectedFault::Eclipse { .. } => {
                self.cut_links(&fault);
            }
            InjectedFault::AtChange { then, after } => self.armed.push((*then, after)),
            InjectedFault::AtStop { then } => self.armed_by_stop.push(*then),
            InjectedFault::Drain { node, back } => self.drain(node, back),
            InjectedFault::Start { node } => self.queue.push(self.now, What::Start { node, formerly: None }),
            InjectedFault::RegistryAway { .. }
            | InjectedFault::RegistrySlow { .. }
            | InjectedFault::RegistryLossy { .. }
            | InjectedFault::RegistryMissing { .. }
            | InjectedFault::RegistryStale { .. }
            | InjectedFault::RegistryCutOff { .. } => self.trouble_registry(&fault),
            InjectedFault::RegistryLost { put_back } => self.registry.lose(put_back, self.now),
        }
    }

    /// The fault, if it can be done to the grid as it is now.
    fn allowed(&self, fault: InjectedFault) -> Option<InjectedFault> {
        let fine = match &fault {
            // One machine at most is lost, and never the last ones that could go on without it.
            InjectedFault::Lose { node } => {
                let others = self.nodes.iter().filter(|n| n.index != *node && n.joins && n.life.is_some()).count();
                let spared = self.nodes.iter().all(|n| !n.lost) && others >= 2 && self.nodes[*node].life.is_some();
                spared && !self.is_majority_unproved(*node)
            }
            InjectedFault::Drain { node, .. } => {
                let node = &self.nodes[*node];
                let staying = self.nodes.iter().filter(|n| n.joins && n.life.is_some() && !n.draining).count();
                node.joins && !node.draining && node.life.is_some() && staying >= 3.min(self.profile.members)
            }
            InjectedFault::Start { node } => !self.nodes[*node].started,
            _ => true,
        };
        fine.then_some(fault)
    }

    /// Whether a view that may still be served in has more than half of its members in this node's lives, not proved dead:
    /// gone for good, they would leave a cluster that waits for a person (V-5), which is no fault of the core.
    fn is_majority_unproved(&self, node: usize) -> bool {
        let Some(document) = self.registry.document() else { return false };
        let unproved = |members: &[MemberId]| {
            let counted =
                members.iter().filter(|id| node_of(**id) == node && !document.proofs.contains_key(id)).count();
            counted * 2 > members.len()
        };
        let present: Vec<MemberId> = document.view.ids().collect();
        unproved(&present) || document.unsealed.iter().any(|u| unproved(&u.members))
    }

    fn end_after(&mut self, last: u64, ending: Ending) {
        self.queue.push(self.now + last, What::End(ending));
    }

    /// The registry has decided a view: what waited for that begins.
    pub(crate) fn begin_armed(&mut self) {
        for (fault, after) in std::mem::take(&mut self.armed) {
            let index = self.profile.faults.len();
            self.profile.faults.push(Planned { at: self.now + after, fault });
            self.queue.push(self.now + after, What::InjectedFault { index });
        }
    }

    /// A leaver says that it has stopped: what waited for that begins.
    pub(crate) fn begin_armed_by_stop(&mut self) {
        for fault in std::mem::take(&mut self.armed_by_stop) {
            let index = self.profile.faults.len();
            self.profile.faults.push(Planned { at: self.now, fault });
            self.queue.push(self.now, What::InjectedFault { index });
        }
    }

    /// Plans a crash.
    pub(crate) fn later_crash(&mut self, node: usize, after: u64, down: u64) {
        let index = self.profile.faults.len();
        self.profile.faults.push(Planned { at: self.now + after, fault: InjectedFault::Crash { node, down } });
        self.queue.push(self.now + after, What::InjectedFault { index });
    }

    fn crash_for(&mut self, node: usize, down: u64) {
        if self.nodes[node].life.is_some() && !self.nodes[node].lost {
            self.crash(node);
            if down >= BOOT {
                self.nodes[node].boot();
            }
            self.queue.push(self.now + down, What::Start { node, formerly: None });
        }
    }

    fn touch_node(&mut self, node: usize) {
        self.nodes[node].last_fault = self.now;
    }

    /// Remembers to whom something was done: what they lose is then no surprise.
    fn touch(&mut self, fault: &InjectedFault) {
        match *fault {
            InjectedFault::Crash { node, .. }
            | InjectedFault::Lose { node }
            | InjectedFault::Pause { node, .. }
            | InjectedFault::Wedge { node, .. }
            | InjectedFault::Stall { node, .. }
            | InjectedFault::RegistryCutOff { node, .. }
            | InjectedFault::Drain { node, .. }
            | InjectedFault::Start { node } => self.touch_node(node),
            InjectedFault::Cut { from, to, .. } => {
                self.touch_node(from);
                self.touch_node(to);
            }
            InjectedFault::Storm { .. }
            | InjectedFault::Isolate { .. }
            | InjectedFault::Split { .. }
            | InjectedFault::Eclipse { .. }
            | InjectedFault::AtChange { .. }
            | InjectedFault::AtStop { .. }
            | InjectedFault::RegistryStale { .. }
            | InjectedFault::Loss { .. }
            | InjectedFault::RegistryAway { .. }
            | InjectedFault::RegistrySlow { .. }
            | InjectedFault::RegistryLossy { .. }
            | InjectedFault::RegistryMissing { .. }
            | InjectedFault::RegistryLost { .. } => self.last_common_fault = self.now,
        }
    }

    fn lose(&mut self, node: usize) {
        self.nodes[node].kept = None;
        let dead = self.nodes[node].life.as_ref().map(|l| l.id);
        self.nodes[node].lost = true;
        self.stop(node);
        // Sooner or later the platform notices; at the latest when all heals.
        let Some(dead) = dead else { return };
        if self.rng.percent(50) {
            self.queue.push(self.now + self.rng.between(500 * MS, 4 * SEC), What::PlatformWord { dead });
        }
        self.lost.push(dead);
    }

    fn cut_links(&mut self, fault: &InjectedFault) {
        let mut links = Vec::new();
        let mut add = |channel, from, to| links.push((channel, from, to));
        let nodes = self.nodes.len();
        let both_channels = [Channel::Data, Channel::Detection];
        let last = match *fault {
            InjectedFault::Cut { from, to, both, data, detection, last } if from != to => {
                for channel in both_channels {
                    if (channel == Channel::Data && data) || (channel == Channel::Detection && detection) {
                        add(channel, from, to);
                        if both {
                            add(channel, to, from);
                        }
                    }
                }
                last
            }
            InjectedFault::Isolate { node, inward, outward, last } => {
                for other in (0..nodes).filter(|o| *o != node) {
                    for channel in both_channels {
                        if inward {
                            add(channel, other, node);
                        }
                        if outward {
                            add(channel, node, other);
                        }
                    }
                }
                last
            }
            InjectedFault::Split { side, last } => {
                across(side, nodes).for_each(|(from, to)| both_channels.iter().for_each(|c| add(*c, from, to)));
                last
            }
            InjectedFault::Eclipse { side, data, detection, registry, last } => {
                for (from, to) in across(side, nodes) {
                    if data {
                        add(Channel::Data, from, to);
                    }
                    if detection {
                        add(Channel::Detection, from, to);
                    }
                }
                for node in (0..nodes).filter(|n| registry && side >> n & 1 == 1) {
                    self.registry.cut_off[node] += 1;
                    self.end_after(last, Ending::RegistryCutOff(node));
                }
                last
            }
            _ => return,
        };
        for &(channel, from, to) in &links {
            self.network.cut(channel, from, to);
        }
        self.break_some_connections(&links);
        self.end_after(last, Ending::Links(links));
    }

    fn trouble_registry(&mut self, fault: &InjectedFault) {
        let registry = &mut self.registry;
        let (last, ending) = match *fault {
            InjectedFault::RegistryAway { last } => {
                registry.away += 1;
                (last, Ending::RegistryAway)
            }
            InjectedFault::RegistrySlow { last } => {
                registry.slow += 1;
                (last, Ending::RegistrySlow)
            }
            InjectedFault::RegistryLossy { last } => {
                registry.lossy += 1;
                (last, Ending::RegistryLossy)
            }
            InjectedFault::RegistryMissing { last } => {
                registry.missing += 1;
                (last, Ending::RegistryMissing)
            }
            InjectedFault::RegistryStale { last } => {
                registry.stale += 1;
                (last, Ending::RegistryStale)
            }
            InjectedFault::RegistryCutOff { node, last } => {
                registry.cut_off[node] += 1;
                (last, Ending::RegistryCutOff(node))
            }
            _ => return,
        };
        self.end_after(last, ending);
    }

    fn drain(&mut self, node: usize, back: u64) {
        self.nodes[node].draining = true;
        self.nodes[node].back = back;
        if let Some(id) = self.nodes[node].life.as_ref().map(|l| l.id) {
            self.queue.push(self.now, What::Drain { node, id });
        }
    }

    /// Ends a fault.
    pub(crate) fn end_fault(&mut self, ending: Ending) {
        if self.healed {
            return;
        }
        self.note(format_args!("END {ending:?}"));
        match &ending {
            Ending::Pause(node) | Ending::Wedge(node) | Ending::Stall(node) => self.touch_node(*node),
            Ending::Links(links) => links.iter().for_each(|(_, from, to)| {
                self.nodes[*from].last_fault = self.now;
                self.nodes[*to].last_fault = self.now;
            }),
            _ => self.last_common_fault = self.now,
        }
        let registry = &mut self.registry;
        match ending {
            Ending::Pause(node) => {
                self.nodes[node].paused -= 1;
                self.resume(node);
            }
            Ending::Wedge(node) => {
                self.nodes[node].wedged -= 1;
                self.resume(node);
            }
            Ending::Stall(node) => {
                self.nodes[node].stalled -= 1;
                self.resume(node);
            }
            Ending::Links(links) => {
                for &(channel, from, to) in &links {
                    self.network.heal(channel, from, to);
                }
                self.dial_after_healing(&links);
            }
            Ending::Loss(percent) => self.network.set_extra_loss(0, percent),
            Ending::RegistryAway => registry.away -= 1,
            Ending::RegistrySlow => registry.slow -= 1,
            Ending::RegistryLossy => registry.lossy -= 1,
            Ending::RegistryMissing => registry.missing -= 1,
            Ending::RegistryStale => registry.stale -= 1,
            Ending::RegistryCutOff(node) => registry.cut_off[node] -= 1,
        }
    }

    /// Ends all faults at once: cut links pass, paused nodes go on, dead ones start, lost ones are proved dead, and
    /// spares that were never started stay away.
    pub(crate) fn heal_all(&mut self) {
        self.note(format_args!("HEAL ALL"));
        self.healed = true;
        self.network.calm_down();
        self.registry.heal();
        for node in 0..self.nodes.len() {
            (self.nodes[node].paused, self.nodes[node].wedged, self.nodes[node].stalled) = (0, 0, 0);
            self.resume(node);
            let n = &self.nodes[node];
            if n.started && n.life.is_none() && !n.lost {
                self.queue.push(self.now + 10 * MS, What::Start { node, formerly: None });
            }
        }
        let everything: Vec<_> = (0..self.nodes.len())
            .flat_map(|f| (0..self.nodes.len()).map(move |t| (Channel::Data, f, t)))
            .filter(|(_, f, t)| f != t)
            .collect();
        self.dial_after_healing(&everything);
        for dead in std::mem::take(&mut self.lost) {
            self.queue.push(self.now + 5 * MS, What::PlatformWord { dead });
        }
    }
}

/// The directions between the nodes of `side` and the others.
fn across(side: u64, nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    let within = move |n: usize| side >> n & 1 == 1;
    (0..nodes).flat_map(move |f| (0..nodes).map(move |t| (f, t))).filter(move |(f, t)| within(*f) != within(*t))
}
