//! The links between nodes, for data and for failure detection: loss, delay, duplication, and cuts of one direction.

use smallvec::SmallVec;

use crate::clock::{Instant, MS, SEC, US};
use crate::rng::Rng;

/// Most nodes in a world.
pub(crate) const MAX_NODES: usize = 8;

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

/// The links.
#[derive(Debug)]
pub(crate) struct Network {
    quality: Quality,
    /// Cuts in force, by channel, sender and receiver.
    cuts: [[[u8; MAX_NODES]; MAX_NODES]; 2],
    /// Percent of frames that a fault loses besides; faults add up.
    extra_loss: u64,
    calm: bool,
    rng: Rng,
}

impl Network {
    /// Links that all work.
    pub(crate) fn new(quality: Quality, rng: Rng) -> Network {
        Network { quality, cuts: [[[0; MAX_NODES]; MAX_NODES]; 2], extra_loss: 0, calm: false, rng }
    }

    /// Cuts one direction; cuts count.
    pub(crate) fn cut(&mut self, channel: Channel, from: usize, to: usize) {
        self.cuts[channel as usize][from][to] += 1;
    }

    /// Takes one cut back.
    pub(crate) fn heal(&mut self, channel: Channel, from: usize, to: usize) {
        let cut = &mut self.cuts[channel as usize][from][to];
        *cut = cut.saturating_sub(1);
    }

    /// Changes what a fault loses besides.
    pub(crate) fn set_extra_loss(&mut self, add: u64, remove: u64) {
        self.extra_loss = (self.extra_loss + add).saturating_sub(remove);
    }

    /// From now on only small delays.
    pub(crate) fn calm_down(&mut self) {
        self.cuts = [[[0; MAX_NODES]; MAX_NODES]; 2];
        self.extra_loss = 0;
        self.calm = true;
    }

    /// Whether frames pass in this direction.
    pub(crate) fn passes(&self, channel: Channel, from: usize, to: usize) -> bool {
        self.cuts[channel as usize][from][to] == 0
    }

    /// Whether both connections stand in both directions.
    pub(crate) fn connects(&self, one: usize, other: usize) -> bool {
        [Channel::Data, Channel::Detection].iter().all(|&c| self.passes(c, one, other) && self.passes(c, other, one))
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
        Network::new(quality, Rng::new(1, 1))
    }

    #[test]
    fn a_cut_has_a_direction_and_a_channel() {
        let mut network = network();
        network.cut(Channel::Data, 0, 1);
        assert!(!network.passes(Channel::Data, 0, 1));
        assert!(network.passes(Channel::Data, 1, 0) && network.passes(Channel::Detection, 0, 1));
        assert!(!network.connects(0, 1) && !network.connects(1, 0) && network.connects(0, 2));
        network.heal(Channel::Data, 0, 1);
        assert!(network.connects(0, 1));
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
