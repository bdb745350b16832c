//! What is outstanding to each copy: ordered here, and not acknowledged there.
//!
//! A write goes out once, and again only on a new connection, when its receiver has installed the view, or when nothing
//! came back for an interval that doubles. Past a window the rest waits here, and new writes are refused (W-5, B-1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::window::Window;
use crate::ids::{GroupId, MemberId};
use crate::limits::Limits;
use crate::time::Time;

/// A write by its group and counter.
pub(super) type WriteId = (GroupId, u64);

/// Oldest bytes sent again when nothing came back: a probe, unless writes are small.
const PROBE_BYTES: usize = 64 << 10;
/// What a write takes besides key and value, about.
const WRITE_OVERHEAD: usize = 96;
/// Most doublings of the interval after which the oldest writes are sent again.
const MOST_DOUBLINGS: u32 = 4;

/// All links, by peer.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<MemberId, Link>,
}

/// One peer's link.
///
/// Invariants: `by_write` and `outstanding` name the same writes; `unsent` is a part of `outstanding`; `on_wire_bytes` is the
/// bytes of those that are not in `unsent`, `unsent_bytes` of the others.
#[derive(Debug)]
struct Link {
    window: Window,
    /// By when it was last put on the link's list.
    outstanding: BTreeMap<u64, Outstanding>,
    by_write: BTreeMap<WriteId, u64>,
    unsent: BTreeSet<u64>,
    on_wire_bytes: usize,
    unsent_bytes: usize,
    next: u64,
    /// Place of the last write that was acknowledged after having been sent once only: what is older and still
    /// outstanding was lost, since a connection keeps the order.
    passed: u64,
    /// Whether the peer has installed this node's view. Before, it takes nothing.
    present: bool,
    /// When the peer last acknowledged anything, or something came to be outstanding after nothing was.
    progress: Time,
    /// When the oldest writes were last sent again, and how often since the last progress.
    probed: Time,
    probes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    write: WriteId,
    bytes: usize,
    sent: Time,
    /// When it was sent for the first time.
    first_sent: Time,
    again: bool,
}

impl Links {
    /// Begins anew under a view of these peers, of which the `present` have installed it: nothing is outstanding yet.
    pub(super) fn new_view(&mut self, limits: &Limits, peers: &BTreeSet<MemberId>, present: &BTreeSet<MemberId>) {
        self.links.retain(|peer, _| peers.contains(peer));
        for peer in peers {
            let link = self.links.entry(*peer).or_insert_with(|| Link::new(limits));
            link.clear();
            link.present = present.contains(peer);
        }
    }

    /// A write that the peer must acknowledge. It goes out with [`Links::take_due`].
    pub(super) fn add(&mut self, limits: &Limits, peer: MemberId, write: WriteId, bytes: usize, now: Time) {
        let link = self.links.entry(peer).or_insert_with(|| Link::new(limits));
        link.add(write, bytes + WRITE_OVERHEAD, now);
    }

    /// Whether a new write of this many bytes may be added for the peer.
    pub(super) fn admits(&self, limits: &Limits, peer: MemberId, bytes: usize) -> bool {
        let Some(link) = self.links.get(&peer) else { return true };
        link.outstanding.len() < limits.window_writes
            && link.window.admits(link.on_wire_bytes + link.unsent_bytes, bytes + WRITE_OVERHEAD)
    }

    /// The peer holds the write. True when it was outstanding.
    pub(super) fn acknowledged(&mut self, limits: &Limits, peer: MemberId, write: WriteId, now: Time) -> bool {
        self.links.get_mut(&peer).is_some_and(|link| link.acknowledged(limits, write, now))
    }

    /// The peer answered something: it is no dead end.
    pub(super) fn progressed(&mut self, peer: MemberId, now: Time) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.progress = now;
        }
    }

    /// When the peer last acknowledged anything while something was outstanding.
    pub(super) fn last_progress(&self, peer: MemberId) -> Time {
        self.links.get(&peer).map_or(Time::ZERO, |link| link.progress)
    }

    /// Everything outstanding goes out again: the connection is new, or the peer has only now installed the view.
    pub(super) fn begin_again(&mut self, peer: MemberId, now: Time) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.present = true;
            let all: Vec<u64> = link.outstanding.keys().copied().collect();
            for place in all {
                link.back_to_unsent(place);
            }
            link.probes = 0;
            link.probed = now;
        }
    }

    /// A new connection stands: what is outstanding goes out again, if the peer is one that takes it.
    pub(super) fn reconnected(&mut self, peer: MemberId, now: Time) {
        let present = self.links.get(&peer).is_some_and(|link| link.present);
        self.begin_again(peer, now);
        if let Some(link) = self.links.get_mut(&peer) {
            link.present = present;
        }
    }

    /// Puts back in line what seems lost; or, with a rule left out, everything.
    pub(super) fn note_lost(&mut self, limits: &Limits, now: Time, all: bool) {
        for link in self.links.values_mut() {
            if all {
                let outstanding: Vec<u64> = link.outstanding.keys().copied().collect();
                outstanding.into_iter().for_each(|place| link.back_to_unsent(place));
            }
            link.note_lost(limits, now);
        }
    }

    /// The next write that may go out to the peer now: as much as fits the window.
    pub(super) fn take_due(&mut self, peer: MemberId, now: Time) -> Option<WriteId> {
        self.links.get_mut(&peer)?.take_due(now)
    }

    /// Peers that something waits to be sent to.
    pub(super) fn waiting(&self) -> Vec<MemberId> {
        self.links.iter().filter(|(_, link)| !link.unsent.is_empty()).map(|(peer, _)| *peer).collect()
    }

    /// Peers that acknowledged nothing at all for `limit` while something was outstanding.
    pub(super) fn stuck(&self, now: Time, limit: Duration) -> impl Iterator<Item = MemberId> + '_ {
        let stuck = move |link: &Link| !link.outstanding.is_empty() && now.since(link.progress) >= limit;
        self.links.iter().filter(move |(_, link)| stuck(link)).map(|(peer, _)| *peer)
    }

    /// Writes outstanding to all peers.
    pub(super) fn len(&self) -> usize {
        self.links.values().map(|link| link.outstanding.len()).sum()
    }
}

impl Link {
    fn new(limits: &Limits) -> Link {
        Link {
            window: Window::new(limits),
            outstanding: BTreeMap::new(),
            by_write: BTreeMap::new(),
            unsent: BTreeSet::new(),
            on_wire_bytes: 0,
            unsent_bytes: 0,
            next: 1,
            passed: 0,
            present: false,
            progress: Time::ZERO,
            probed: Time::ZERO,
            probes: 0,
        }
    }

    fn clear(&mut self) {
        self.outstanding.clear();
        self.by_write.clear();
        self.unsent.clear();
        (self.on_wire_bytes, self.unsent_bytes, self.probes) = (0, 0, 0);
    }

    fn add(&mut self, write: WriteId, bytes: usize, now: Time) {
        if self.by_write.contains_key(&write) {
            return;
        }
        if self.outstanding.is_empty() {
            self.progress = now;
            self.probed = now;
            self.probes = 0;
        }
        let place = self.next;
        self.next += 1;
        self.outstanding.insert(place, Outstanding { write, bytes, sent: now, first_sent: now, again: false });
        self.by_write.insert(write, place);
        self.unsent.insert(place);
        self.unsent_bytes += bytes;
    }

    fn remove(&mut self, write: WriteId) -> Option<(u64, Outstanding)> {
        let place = self.by_write.remove(&write)?;
        let entry = self.outstanding.remove(&place)?;
        if self.unsent.remove(&place) {
            self.unsent_bytes -= entry.bytes;
        } else {
            self.on_wire_bytes -= entry.bytes;
        }
        assert_eq!(self.by_write.len(), self.outstanding.len(), "a link lost count of its writes");
        Some((place, entry))
    }

    fn acknowledged(&mut self, limits: &Limits, write: WriteId, now: Time) -> bool {
        self.progress = now;
        self.probes = 0;
        self.probed = now;
        let outstanding = self.on_wire_bytes;
        let Some((place, entry)) = self.remove(write) else { return false };
        // Of one that was sent again it can't be told which of the two was acknowledged (Karn).
        if entry.again {
            self.window.took(now.since(entry.first_sent));
        } else {
            self.passed = self.passed.max(place);
            self.window.acknowledged(limits, now.since(entry.sent), entry.bytes, outstanding);
        }
        true
    }

    fn back_to_unsent(&mut self, place: u64) {
        if let Some(entry) = self.outstanding.get_mut(&place)
            && self.unsent.insert(place)
        {
            entry.again = true;
            self.on_wire_bytes -= entry.bytes;
            self.unsent_bytes += entry.bytes;
        }
    }

    fn note_lost(&mut self, limits: &Limits, now: Time) {
        let patience = self.window.patience(limits);
        let is_old = |entry: &Outstanding| now.since(entry.sent) >= limits.resend * 2;
        let on_wire = |place: &u64| !self.unsent.contains(place);
        let passed = self.outstanding.range(..self.passed).filter(|(place, entry)| on_wire(place) && is_old(entry));
        let mut lost: Vec<u64> = passed.map(|(place, _)| *place).collect();
        let waited = now.since(self.probed.max(self.progress));
        if waited >= patience * (1 << self.probes.min(MOST_DOUBLINGS)) {
            let mut bytes = 0;
            for (place, entry) in self.outstanding.iter().filter(|(place, _)| on_wire(place)) {
                if bytes > 0 && bytes + entry.bytes > PROBE_BYTES {
                    break;
                }
                bytes += entry.bytes;
                lost.push(*place);
            }
            self.probes += 1;
            self.probed = now;
        }
        for place in lost {
            self.back_to_unsent(place);
        }
    }

    fn take_due(&mut self, now: Time) -> Option<WriteId> {
        // A peer in an older view drops what comes. It is probed all the same, should its word be lost.
        if !self.present && self.probes == 0 {
            return None;
        }
        let place = *self.unsent.first()?;
        let entry = *self.outstanding.get(&place)?;
        if !self.window.admits(self.on_wire_bytes, entry.bytes) {
            return None;
        }
        self.unsent.remove(&place);
        self.outstanding.remove(&place);
        self.unsent_bytes -= entry.bytes;
        self.on_wire_bytes += entry.bytes;
        // A new place: what is acknowledged after this was sent after this.
        let place = self.next;
        self.next += 1;
        let first_sent = if entry.again { entry.first_sent } else { now };
        self.outstanding.insert(place, Outstanding { sent: now, first_sent, ..entry });
        self.by_write.insert(entry.write, place);
        Some(entry.write)
    }
}
