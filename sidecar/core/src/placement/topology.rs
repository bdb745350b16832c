//! Where members are, as small numbers, and how widely a set of them is spread.

use std::collections::BTreeMap;

use crate::member::Member;
use crate::view::MemberIndex;

/// Sites, racks and machines. Each level lies within the one before: one machine, one rack; one rack, one site.
const LEVELS: usize = 3;

/// Distinct sites, racks and machines, in order of preference: more is better.
pub(super) type Spread = [usize; LEVELS];

/// Site, rack and machine of each member; equal numbers, equal places.
pub(super) struct Topology {
    places: Vec<[usize; LEVELS]>,
}

impl Topology {
    pub(super) fn new(members: &[Member]) -> Topology {
        let mut numbers: [BTreeMap<[&str; LEVELS], usize>; LEVELS] = Default::default();
        let places = members.iter().map(|member| {
            let here = &member.locality;
            let names = [here.site.as_str(), here.rack.as_str(), here.machine.as_str()];
            std::array::from_fn(|level| {
                let mut path = [""; LEVELS];
                path[..=level].copy_from_slice(&names[..=level]);
                let next = numbers[level].len();
                *numbers[level].entry(path).or_insert(next)
            })
        });
        let places = places.collect();
        Topology { places }
    }

    /// The widest spread that `count` of these members can have. Since levels are nested, all three are had at once.
    pub(super) fn widest(&self, members: &[MemberIndex], count: usize) -> Spread {
        let mut all = Taken::new(self);
        members.iter().for_each(|&m| all.add(m));
        all.distinct.map(|places| places.min(count))
    }
}

/// The places that a set of members takes.
pub(super) struct Taken<'t> {
    topology: &'t Topology,
    counts: [Vec<u16>; LEVELS],
    distinct: Spread,
}

impl<'t> Taken<'t> {
    /// Of no members.
    pub(super) fn new(topology: &'t Topology) -> Self {
        let none = || vec![0; topology.places.len()];
        Taken { topology, counts: [none(), none(), none()], distinct: [0; LEVELS] }
    }

    pub(super) fn add(&mut self, member: MemberIndex) {
        for (level, place) in self.topology.places[usize::from(member)].into_iter().enumerate() {
            self.distinct[level] += usize::from(self.counts[level][place] == 0);
            self.counts[level][place] += 1;
        }
    }

    pub(super) fn remove(&mut self, member: MemberIndex) {
        for (level, place) in self.topology.places[usize::from(member)].into_iter().enumerate() {
            self.counts[level][place] -= 1;
            self.distinct[level] -= usize::from(self.counts[level][place] == 0);
        }
    }

    pub(super) fn spread(&self) -> Spread {
        self.distinct
    }

    /// How many levels gain a place by this member, which is not in the set: by nesting, always the finest ones. So
    /// gains and losses compare as numbers.
    pub(super) fn gain(&self, member: MemberIndex) -> usize {
        self.levels_with(member, 0)
    }

    /// How many levels lose a place without this member, which is in the set.
    pub(super) fn loss(&self, member: MemberIndex) -> usize {
        self.levels_with(member, 1)
    }

    /// Whether this member, which is not in the set, gains at least so many levels.
    pub(super) fn gains(&self, member: MemberIndex, least: usize) -> bool {
        least == 0 || {
            let level = LEVELS - least;
            self.counts[level][self.topology.places[usize::from(member)][level]] == 0
        }
    }

    fn levels_with(&self, member: MemberIndex, count: u16) -> usize {
        let places = self.topology.places[usize::from(member)];
        (0..LEVELS).filter(|&level| self.counts[level][places[level]] == count).count()
    }
}
