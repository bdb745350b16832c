//! What passes between nodes: data frames, pings, and connections that stand or break.

use bytes::Bytes;
use sidegrid_core::MemberId;
use sidegrid_core::event::{Event, Port};
use sidegrid_core::member::Member;
use sidegrid_core::message::{Envelope, Message, MessageClass, Ping};
use sidegrid_net::{decode_envelope, encode_envelope};

use crate::clock::{MS, SEC, US};
use crate::network::Channel;
use crate::node::{Peer, node_of};
use crate::queue::What;
use crate::world::World;

/// How long what was written to a data connection may stay unacknowledged.
const UNACKNOWLEDGED: u64 = 2 * SEC;

/// The ports, with the channels that they are reached over.
const PORTS: [(Port, Channel); 2] = [(Port::Data, Channel::Data), (Port::FailureDetection, Channel::Detection)];

/// Longest frame that the grid may make here besides the values in it: more would be growth.
const MAX_FRAME: usize = 512 << 10;

impl World {
    /// A core sends: through the codec, and on its way.
    pub(crate) fn send(&mut self, node: usize, to: MemberId, envelope: &Envelope) {
        let Some(from) = self.nodes[node].life.as_ref().map(|l| l.id) else { return };
        if to == from {
            return self.violated("effects", format!("n{node} sends to itself: {envelope:?}"), None);
        }
        self.stats.frames += 1;
        self.coverage.message(from, to, &envelope.message);
        let frame = encode_envelope(envelope);
        let values = if self.profile.value_bytes > 0 { 8 << 20 } else { 0 };
        if frame.len() > MAX_FRAME + values {
            return self.violated("bounds", format!("a frame of {} bytes", frame.len()), None);
        }
        if matches!(envelope.message, Message::Stopped) {
            self.begin_armed_by_stop();
        }
        let link = (node, node_of(to));
        self.note_unacknowledged(node, to);
        let Some(departs) =
            self.network.departure(link, self.now, frame.len(), envelope.message.class() == MessageClass::Data)
        else {
            return;
        };
        for at in self.network.arrivals(Channel::Data, node, node_of(to), departs) {
            self.queue.push(at, What::Data { to, from, frame: frame.clone() });
        }
    }

    /// What is written to a connection over a link that is cut is not acknowledged: it is given up after a while.
    fn note_unacknowledged(&mut self, node: usize, to: MemberId) {
        if self.network.passes_both(Channel::Data, node, node_of(to)) {
            return;
        }
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let id = life.id;
        if let Some(peer) = life.peers.iter_mut().find(|p| p.id == to && p.data && !p.given_up) {
            peer.given_up = true;
            self.queue.push(self.now + UNACKNOWLEDGED, What::Broken { node, id, peer: to, attempt: 0 });
        }
    }

    /// A data frame arrives.
    pub(crate) fn arrive(&mut self, to: MemberId, from: MemberId, frame: Bytes) {
        let node = node_of(to);
        if !self.lives(node, to) || !self.network.passes(Channel::Data, node_of(from), node) {
            return;
        }
        match decode_envelope(frame) {
            Ok(envelope) => {
                if matches!(envelope.message, Message::ViewIs(_)) {
                    self.coverage.hit("V-8");
                }
                self.step(node, Event::Message { from, envelope });
            }
            Err(error) => self.violated("codec", format!("a frame does not decode: {error}"), None),
        }
    }

    fn send_ping(&mut self, node: usize, to: MemberId, ping: Ping) {
        let Some(from) = self.nodes[node].life.as_ref().map(|l| l.id) else { return };
        self.stats.pings += 1;
        for at in self.network.arrivals(Channel::Detection, node, node_of(to), self.now) {
            self.queue.push(at, What::Ping { to, from, ping });
        }
    }

    /// Pings all peers that it is connected with (L-6); who is no member does not answer.
    pub(crate) fn ping_all(&mut self, node: usize) {
        let local = self.nodes[node].clock.local(self.now);
        let Some(life) = self.nodes[node].life.as_ref() else { return };
        let Some(ping) = life.lease.ping(local) else { return };
        let peers: smallvec::SmallVec<[MemberId; 8]> =
            life.peers.iter().filter(|p| p.detection).map(|p| p.id).collect();
        for to in peers {
            self.send_ping(node, to, ping);
        }
    }

    /// The failure-detection thread's timer.
    pub(crate) fn ping_timer(&mut self, node: usize, id: MemberId) {
        if !self.lives(node, id) {
            return;
        }
        self.ping_all(node);
        let n = &self.nodes[node];
        let period = n.life.as_ref().map_or(100 * MS, |l| n.clock.span(l.lease.ping_period()));
        self.queue.push(self.now + period, What::PingTimer { node, id });
    }

    /// The failure-detection thread takes a ping or an echo.
    pub(crate) fn ping_arrives(&mut self, to: MemberId, from: MemberId, ping: Ping) {
        let node = node_of(to);
        if !self.lives(node, to) || !self.network.passes(Channel::Detection, node_of(from), node) {
            return;
        }
        let local = self.nodes[node].clock.local(self.now);
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let heard = life.lease.on_ping(local, from, ping);
        let back = if heard.ping_back { life.lease.ping(local) } else { None };
        let news = (from, ping.view, ping.confirmed_past);
        let known = life.told.iter().position(|t| t.0 == from);
        let changed = known.is_none_or(|i| life.told[i] != news);
        match known {
            Some(i) => life.told[i] = news,
            None => life.told.push(news),
        }
        if ping.echo.is_none() {
            let view = life.view;
            self.coverage.ping(ping.view == view, heard.answer.is_some(), self.nodes[node].wedged > 0);
        }
        self.trace_ping(node, from, ping, heard);
        if let Some(answer) = heard.answer {
            self.send_ping(node, from, answer);
        }
        if let Some(ping) = back {
            self.send_ping(node, from, ping);
        }
        // The note to the core may be dropped when nothing is new, as from a full queue.
        if changed || self.rng.percent(10) {
            self.queue.push(self.now + 5 * US, What::Heard { node, id: to, from, ping });
        }
    }

    /// The core names its peers.
    pub(crate) fn set_peers(&mut self, node: usize, peers: &[Member]) {
        let Some(life) = self.nodes[node].life.as_mut() else { return };
        let before = std::mem::take(&mut life.peers);
        let mut fresh = Vec::new();
        for peer in peers.iter().filter(|p| p.id != life.id) {
            let known = before.iter().find(|p| p.id == peer.id);
            if known.is_none() {
                fresh.push(peer.id);
            }
            let fresh = Peer { id: peer.id, data: false, detection: false, given_up: false };
            life.peers.push(known.copied().unwrap_or(fresh));
        }
        life.told.retain(|t| peers.iter().any(|p| p.id == t.0));
        let id = life.id;
        if life.peers.len() > self.limits.clients + 8 {
            self.violated("bounds", format!("n{node} has {} peers", peers.len()), None);
        }
        for peer in fresh {
            let after = 2 * self.network.delay();
            self.queue.push(self.now + after, What::Dial { node, id, peer, attempt: 0 });
        }
    }

    /// A node tries to connect with a peer, again and again until both ports are or the peer has ended.
    pub(crate) fn dial(&mut self, node: usize, id: MemberId, peer: MemberId, attempt: u32) {
        let other = node_of(peer);
        if !self.lives(other, peer) {
            return;
        }
        for (port, channel) in PORTS {
            let reaches = self.nodes[other].paused == 0 && self.network.passes_both(channel, node, other);
            let Some(life) = self.nodes[node].life.as_mut().filter(|l| l.id == id) else { return };
            let Some(known) = life.peers.iter_mut().find(|p| p.id == peer) else { return };
            if *known.stands(port) || !reaches {
                continue;
            }
            *known.stands(port) = true;
            known.given_up &= port != Port::Data;
            let both = known.data && known.detection;
            self.step(node, Event::Connected { peer, port });
            if both && self.lives(node, id) {
                self.step(node, Event::Reached { peer });
            }
        }
        let Some(life) = self.nodes[node].life.as_ref().filter(|l| l.id == id) else { return };
        if life.peers.iter().any(|p| p.id == peer && !(p.data && p.detection)) {
            let pause = ((10 * MS) << attempt.min(6)).min(500 * MS);
            self.queue.push(self.now + pause, What::Dial { node, id, peer, attempt: attempt + 1 });
        }
    }

    /// A process has ended and its host refuses connections: whoever is connected with it hears so soon.
    pub(crate) fn refuse_connections(&mut self, dead: MemberId) {
        for node in 0..self.nodes.len() {
            let Some(life) = self.nodes[node].life.as_ref() else { continue };
            let id = life.id;
            if life.peers.iter().any(|p| p.id == dead && (p.data || p.detection)) {
                let after = self.rng.between(200 * US, 20 * MS);
                self.queue.push(self.now + after, What::Broken { node, id, peer: dead, attempt: 0 });
            }
        }
    }

    /// The connections break over what is cut, or to what has ended, and a fresh dial fails.
    pub(crate) fn broken(&mut self, node: usize, id: MemberId, peer: MemberId, attempt: u32) {
        let other = node_of(peer);
        let gone = !self.lives(other, peer);
        let cut = PORTS.map(|(port, channel)| (port, !self.network.passes_both(channel, node, other)));
        let Some(life) = self.nodes[node].life.as_mut().filter(|l| l.id == id) else { return };
        let Some(known) = life.peers.iter_mut().find(|p| p.id == peer) else { return };
        known.given_up = false;
        if gone && cut.iter().any(|(_, cut)| *cut) && attempt < 30 {
            // The refusal does not get here either.
            self.queue.push(self.now + 300 * MS, What::Broken { node, id, peer, attempt: attempt + 1 });
            return;
        }
        let breaks = |(port, cut): (Port, bool)| ((gone || cut) && std::mem::take(known.stands(port))).then_some(port);
        let broken: smallvec::SmallVec<[Port; 2]> = cut.into_iter().filter_map(breaks).collect();
        for &port in &broken {
            if self.lives(node, id) {
                self.step(node, Event::Unreachable { peer, port });
            }
        }
        if !gone && !broken.is_empty() {
            self.queue.push(self.now + 10 * MS, What::Dial { node, id, peer, attempt: 0 });
        }
    }

    /// Some connections over a link that was cut break after a while; the others only fall silent.
    pub(crate) fn break_some_connections(&mut self, links: &[(Channel, usize, usize)]) {
        for &(_, from, to) in links {
            for (node, other) in [(from, to), (to, from)] {
                if !self.rng.percent(15) {
                    continue;
                }
                let (Some(life), Some(peer)) = (&self.nodes[node].life, &self.nodes[other].life) else { continue };
                let after = self.rng.between(100 * MS, 2000 * MS);
                self.queue.push(self.now + after, What::Broken { node, id: life.id, peer: peer.id, attempt: 0 });
            }
        }
    }

    /// Links pass again: some connections were kept, others are made anew, and then said to stand.
    pub(crate) fn dial_after_healing(&mut self, links: &[(Channel, usize, usize)]) {
        for &(_, from, to) in links {
            for (node, other) in [(from, to), (to, from)] {
                if !self.rng.percent(50) {
                    continue;
                }
                let Some(peer) = self.nodes[other].life.as_ref().map(|l| l.id) else { continue };
                let Some(life) = self.nodes[node].life.as_mut() else { continue };
                let Some(known) = life.peers.iter_mut().find(|p| p.id == peer) else { continue };
                *known = Peer { id: peer, data: false, detection: false, given_up: false };
                let id = life.id;
                let after = self.rng.between(MS, 300 * MS);
                self.queue.push(self.now + after, What::Dial { node, id, peer, attempt: 0 });
            }
        }
    }
}
