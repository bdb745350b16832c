//! The links between nodes, for data and for failure detection: loss, delay, duplication, cuts of one direction, and
//! what a link carries in a second.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::clock::{Instant, MS, SEC, US};
use crate::rng::Rng;

/// Most nodes in a world: sets of nodes are written as bits.
pub(crate) const MAX_NODES: usize = 64;

/// The two connections of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The data port.
    Data,
    /// The failure-detection port.
    Detection,
}

/// How well the links work when nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// Least one-way delay.
    pub(crate) base: u64,
    /// Added to it, evenly spread.
    pub(crate) jitter: u64,
    /// Millionths of frames lost.
    pub(crate) loss: u64,
    /// Millionths of frames doubled.
    pub(crate) double: u64,
    /// Millionths of frames held up for long.
    pub(crate) straggler: u64,
}

/// What one direction of a data link carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Bytes in a second.
    pub(crate) bytes_per_second: u64,
    /// Bytes of data frames that may wait; a frame that would pass this is dropped, as by a full outbox.
    pub(crate) queue_bytes: u64,
}

/// What waits to be written in one direction: control frames go ahead of data frames.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// When the control frames that wait are written.
    control: Instant,
    /// When the data frames that wait are written, if no more control frames come.
    data: Instant,
}

impl Lane {
    /// When a frame that is queued now is written; none if the queue has no room for it.
    fn queue(&mut self, capacity: Capacity, now: Instant, bytes: usize, is_data: bool) -> Option<Instant> {
        let time = |bytes: u64| (u128::from(bytes) * u128::from(SEC) / u128::from(capacity.bytes_per_second)) as u64;
        let takes = time(bytes as u64);
        if !is_data {
            self.control = self.control.max(now) + takes;
            self.data = self.data.max(now) + takes;
            return Some(self.control);
        }
        if self.data.saturating_sub(now) + takes > time(capacity.queue_bytes) {
            return None;
        }
        self.data = self.data.max(now) + takes;
        Some(self.data)
    }
}

/// The links.
#[derive(Debug)]
pub(crate) struct Network {
    quality: Quality,
    capacity: Option<Capacity>,
    lanes: BTreeMap<(usize, usize), Lane>,
    /// Frames that found no room.
    pub(crate) dropped: u64,
    /// Cuts in force, by channel, sender and receiver.
    cuts: [Vec<u8>; 2],
    /// Percent of frames that a fault loses besides; faults add up.
    extra_loss: u64,
    calm: bool,
    rng: Rng,
}

impl Network {
    /// Links that all work.
    pub(crate) fn new(quality: Quality, capacity: Option<Capacity>, rng: Rng) -> Network {
        let cuts = [vec![0; MAX_NODES * MAX_NODES], vec![0; MAX_NODES * MAX_NODES]];
        Network { quality, capacity, lanes: BTreeMap::new(), dropped: 0, cuts, extra_loss: 0, calm: false, rng }
    }

    /// When a data frame that is sent now leaves its node; none if it is dropped.
    pub(crate) fn departure(
        &mut self,
        (from, to): (usize, usize),
        now: Instant,
        bytes: usize,
        is_data: bool,
    ) -> Option<Instant> {
        let Some(capacity) = self.capacity else { return Some(now) };
        let at = self.lanes.entry((from, to)).or_default().queue(capacity, now, bytes, is_data);
        self.dropped += u64::from(at.is_none());
        at
    }

    /// Cuts one direction; cuts count.
    pub(crate) fn cut(&mut self, channel: Channel, from: usize, to: usize) {
        self.cuts[channel as usize][from * MAX_NODES + to] += 1;
    }

    /// Takes one cut back.
    pub(crate) fn heal(&mut self, channel: Channel, from: usize, to: usize) {
        let cut = &mut self.cuts[channel as usize][from * MAX_NODES + to];
        *cut = cut.saturating_sub(1);
    }

    /// Changes what a fault loses besides.
    pub(crate) fn set_extra_loss(&mut self, add: u64, remove: u64) {
        self.extra_loss = (self.extra_loss + add).saturating_sub(remove);
    }

    /// From now on only small delays.
    pub(crate) fn calm_down(&mut self) {
        self.cuts.iter_mut().for_each(|cuts| cuts.fill(0));
        self.extra_loss = 0;
        self.calm = true;
    }

    /// Whether frames pass in this direction.
    pub(crate) fn passes(&self, channel: Channel, from: usize, to: usize) -> bool {
        self.cuts[channel as usize][from * MAX_NODES + to] == 0
    }

    /// Whether frames pass in both directions.
    pub(crate) fn passes_both(&self, channel: Channel, one: usize, other: usize) -> bool {
        self.passes(channel, one, other) && self.passes(channel, other, one)
    }

    /// An ordinary one-way delay.
    pub(crate) fn delay(&mut self) -> u64 {
        self.quality.base + self.rng.below(self.quality.jitter.max(1))
    }

    /// When the copies of a frame sent now arrive: none when it is lost, two when it is doubled.
    pub(crate) fn arrivals(
        &mut self,
        channel: Channel,
        from: usize,
        to: usize,
        now: Instant,
    ) -> SmallVec<[Instant; 2]> {
        let mut arrivals = SmallVec::new();
        if !self.passes(channel, from, to) {
            // What a connection had buffered comes late, if the link heals in time.
            if self.rng.percent(20) {
                arrivals.push(now + self.rng.between(50 * MS, 5 * SEC));
            }
            return arrivals;
        }
        if self.calm {
            arrivals.push(now + self.delay());
            return arrivals;
        }
        if self.rng.percent(self.extra_loss.min(95)) || self.rng.millionths(self.quality.loss) {
            return arrivals;
        }
        let mut at = now + self.delay();
        if self.rng.millionths(self.quality.straggler) {
            at += self.rng.between(5 * MS, 800 * MS);
        }
        arrivals.push(at);
        if self.rng.millionths(self.quality.double) {
            let after = if self.rng.percent(80) { 10 * MS } else { 3 * SEC };
            arrivals.push(at + self.rng.between(10 * US, after));
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let quality = Quality { base: MS, jitter: MS, loss: 0, double: 0, straggler: 0 };
        Network::new(quality, None, Rng::new(1, 1))
    }

    #[test]
    fn a_link_carries_so_much_and_control_frames_go_ahead() {
        let capacity = Some(Capacity { bytes_per_second: 1_000_000, queue_bytes: 10_000 });
        let quality = Quality { base: MS, jitter: MS, loss: 0, double: 0, straggler: 0 };
        let mut network = Network::new(quality, capacity, Rng::new(1, 1));
        assert_eq!(network.departure((0, 1), SEC, 5_000, true), Some(SEC + 5 * MS));
        assert_eq!(network.departure((0, 1), SEC, 5_000, true), Some(SEC + 10 * MS));
        assert_eq!(network.departure((0, 1), SEC, 100, true), None, "the queue is full");
        assert_eq!(network.departure((0, 1), SEC, 100, false), Some(SEC + MS / 10), "ahead of the data");
        assert_eq!(network.departure((1, 0), SEC, 1_000, true), Some(SEC + MS), "each direction by itself");
        assert_eq!(network.departure((0, 1), 2 * SEC, 1_000, true), Some(2 * SEC + MS));
        assert_eq!(network.dropped, 1);
    }

    #[test]
    fn a_cut_has_a_direction_and_a_channel() {
        let mut network = network();
        network.cut(Channel::Data, 0, 1);
        assert!(!network.passes(Channel::Data, 0, 1));
        assert!(network.passes(Channel::Data, 1, 0) && network.passes(Channel::Detection, 0, 1));
        let both = |network: &Network, one, other| network.passes_both(Channel::Data, one, other);
        assert!(!both(&network, 0, 1) && !both(&network, 1, 0) && both(&network, 0, 2));
        assert!(network.passes_both(Channel::Detection, 0, 1));
        network.heal(Channel::Data, 0, 1);
        assert!(both(&network, 0, 1));
    }

    #[test]
    fn a_good_link_delivers_once_within_its_delay() {
        let mut network = network();
        for _ in 0..100 {
            let arrivals = network.arrivals(Channel::Data, 0, 1, SEC);
            assert_eq!(arrivals.len(), 1);
            assert!((SEC + MS..=SEC + 2 * MS).contains(&arrivals[0]));
        }
    }
}
