//! Standing faults: what goes wrong and stays wrong, and within which time those whom it does not concern are served
//! again. A run about one is judged while the fault stands, and like any other after it has healed.

use std::time::Duration;

use sidegrid_core::document::Timing;
use sidegrid_core::view::Replicas;

use crate::clock::{Instant, MS, SEC, US};
use crate::faults::{InjectedFault, Planned};
use crate::network::{Capacity, Quality};
use crate::profile::{Profile, Theme};
use crate::rng::Rng;

/// By how much the links of the overloaded grid are slower than a gigabit.
pub(crate) const SLOWER: usize = 64;

/// When the fault begins: the grid has long been formed.
const BEGINS: Instant = 15 * SEC;
/// How long it stands.
const LASTS: u64 = 30 * SEC;

/// The kinds of fault that can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StandingFault {
    /// Nobody reaches the registry; the view stays.
    RegistryAway,
    /// Only the coordinator can't reach the registry, and another member dies.
    CoordinatorWithoutRegistry,
    /// One of two registry replicas answers reads from before, and a member dies.
    RegistryReplicaBehind,
    /// The data port between two members is cut; their pings go on.
    DataPortCut,
    /// Nothing passes from one member to another, everything the other way.
    OneWayCut,
    /// A member is frozen.
    MemberFrozen,
    /// Only the core of a member hangs; its failure-detection thread goes on.
    CoreWedged,
    /// A leaver has stopped, and another member dies before it is removed.
    LeaverStoppedAndDeath,
    /// A member dies that holds the only copies of another cache's groups.
    OnlyCopiesDead,
    /// More is written than the links carry.
    Overload,
    /// A large grid loses members.
    LargeGrid,
}

/// What a run about a standing fault demands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// From when on the others must be served again.
    pub(crate) served_from: Instant,
    /// Until when.
    pub(crate) until: Instant,
    /// Nodes that need not serve.
    pub(crate) apart: Vec<usize>,
    /// Of these one at most may be without service.
    pub(crate) either: Vec<usize>,
    /// Nodes whose incarnation must not be put out of the view.
    pub(crate) stay: Vec<usize>,
    /// Only this cache is looked at.
    pub(crate) cache: Option<u16>,
    /// Whether operations may be refused as overloaded, and how many must be done even so.
    pub(crate) overload: Option<usize>,
    /// Between the starts of two nodes.
    pub(crate) start_gap: u64,
}

impl StandingFault {
    /// All of them.
    pub const ALL: [StandingFault; 11] = [
        StandingFault::RegistryAway,
        StandingFault::CoordinatorWithoutRegistry,
        StandingFault::RegistryReplicaBehind,
        StandingFault::DataPortCut,
        StandingFault::OneWayCut,
        StandingFault::MemberFrozen,
        StandingFault::CoreWedged,
        StandingFault::LeaverStoppedAndDeath,
        StandingFault::OnlyCopiesDead,
        StandingFault::Overload,
        StandingFault::LargeGrid,
    ];

    /// The profile of a run in which this fault stands.
    pub(crate) fn profile(self, seed: u64) -> Profile {
        let mut rng = Rng::new(seed, 12);
        let mut profile = calm(&mut rng);
        match self {
            StandingFault::RegistryAway => {
                profile.stands(vec![InjectedFault::RegistryAway { last: LASTS }], Duration::ZERO);
            }
            StandingFault::CoordinatorWithoutRegistry => {
                profile.members = rng.between(3, 5) as usize;
                let dead = profile.members - 1;
                let without = InjectedFault::RegistryCutOff { node: 0, last: LASTS };
                profile.stands(vec![without, death(dead, &mut rng)], Duration::from_millis(3000));
                profile.without(dead);
            }
            StandingFault::RegistryReplicaBehind => {
                profile.members = rng.between(3, 5) as usize;
                let dead = rng.index(profile.members);
                let behind = InjectedFault::RegistryStale { last: LASTS };
                profile.stands(vec![behind, death(dead, &mut rng)], Duration::from_millis(3000));
                profile.without(dead);
            }
            StandingFault::DataPortCut => profile.cut(true, false, true, &mut rng),
            StandingFault::OneWayCut => profile.cut(true, true, false, &mut rng),
            StandingFault::MemberFrozen => {
                let node = rng.index(profile.members);
                profile.stands(vec![InjectedFault::Pause { node, last: LASTS }], Duration::from_millis(2500));
                profile.without(node);
            }
            StandingFault::CoreWedged => {
                let node = rng.index(profile.members);
                profile.stands(vec![InjectedFault::Wedge { node, last: LASTS }], Duration::from_millis(3000));
                profile.without(node);
            }
            StandingFault::LeaverStoppedAndDeath => profile.leaver_and_death(&mut rng),
            StandingFault::OnlyCopiesDead => {
                profile.caches = vec![Replicas::Count(2), Replicas::Count(1)];
                let dead = rng.index(profile.members);
                profile.stands(vec![death(dead, &mut rng)], Duration::from_millis(1500));
                profile.without(dead);
                profile.demand().cache = Some(0);
            }
            StandingFault::Overload => profile.overload(),
            StandingFault::LargeGrid => profile.large(&mut rng),
        }
        profile
    }
}

/// A process dies and stays away for as long as the fault stands.
fn death(node: usize, rng: &mut Rng) -> InjectedFault {
    InjectedFault::Crash { node, down: LASTS + rng.between(0, 500) * MS }
}

/// A grid of three on good links, with apps on each node.
fn calm(rng: &mut Rng) -> Profile {
    Profile {
        theme: Theme::Standing,
        members: 3,
        spares: 0,
        clients: 0,
        segments: rng.between(4, 8) as u16,
        caches: vec![Replicas::Count(2)],
        keys: 8,
        max_entries: None,
        apps: 2,
        think: 40 * MS,
        quality: Quality { base: 200 * US, jitter: rng.between(100, 800) * US, loss: 0, double: 0, straggler: 0 },
        capacity: None,
        value_bytes: 0,
        timing: Timing::default(),
        standing: Some(Standing { start_gap: 300 * MS, ..Standing::default() }),
        pods: false,
        tight: false,
        chunky: false,
        faults: Vec::new(),
    }
}

impl Profile {
    fn demand(&mut self) -> &mut Standing {
        self.standing.get_or_insert_default()
    }

    /// These faults stand, one shortly after the other; who stays is served again after `bound`.
    fn stands(&mut self, faults: Vec<InjectedFault>, bound: Duration) {
        let mut at = BEGINS;
        for fault in faults {
            self.faults.push(Planned { at, fault });
            at += 500 * MS;
        }
        let last = self.faults.last().map_or(BEGINS, |f| f.at);
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let members = self.members;
        let demand = self.demand();
        demand.served_from = last + bound;
        demand.until = BEGINS + LASTS - SEC;
        demand.stay = (0..members).collect();
    }

    /// This node is the one that the fault concerns.
    fn without(&mut self, node: usize) {
        let demand = self.demand();
        demand.apart.push(node);
        demand.stay.retain(|n| *n != node);
    }

    /// A link is cut; the rule for asymmetric cuts may put one of its ends out, and only that one.
    fn cut(&mut self, data: bool, detection: bool, both: bool, rng: &mut Rng) {
        self.members = rng.between(3, 5) as usize;
        let from = rng.index(self.members);
        let to = (from + 1 + rng.index(self.members - 1)) % self.members;
        let cut = InjectedFault::Cut { from, to, both, data, detection, last: LASTS };
        self.stands(vec![cut], Duration::from_secs(6));
        let demand = self.demand();
        demand.either = vec![from, to];
        demand.stay.retain(|n| *n != from && *n != to);
    }

    fn leaver_and_death(&mut self, rng: &mut Rng) {
        let [leaver, dead] = if rng.percent(50) { [2, 1] } else { [1, 2] };
        let trap = InjectedFault::AtStop { then: Box::new(InjectedFault::Crash { node: dead, down: LASTS }) };
        let slow = InjectedFault::RegistrySlow { last: LASTS };
        self.faults.push(Planned { at: BEGINS - 10 * MS, fault: trap });
        if rng.percent(50) {
            self.faults.push(Planned { at: BEGINS - 5 * MS, fault: slow });
        }
        let leave = InjectedFault::Drain { node: leaver, back: 2 * LASTS };
        // To hand over, to be removed, and to be without the dead one; the registry may take its time for each.
        self.stands(vec![leave], Duration::from_secs(12));
        self.without(leaver);
        self.without(dead);
    }

    /// Links whose queues hold half a second, and apps that write more than they carry: as a gigabit with 64 MiB before it,
    /// made small enough to be simulated.
    fn overload(&mut self) {
        (self.segments, self.keys, self.apps, self.think) = (8, 64, 120, 400 * MS);
        self.value_bytes = 32 << 10;
        let slower = SLOWER as u64;
        self.capacity = Some(Capacity { bytes_per_second: 125_000_000 / slower, queue_bytes: (64 << 20) / slower });
        self.stands(Vec::new(), Duration::ZERO);
        self.demand().overload = Some(1_000);
    }

    /// Members, segments and times other than the usual ones.
    fn large(&mut self, rng: &mut Rng) {
        self.members = if rng.percent(10) { 60 } else { rng.between(12, 24) as usize };
        self.segments = if rng.percent(10) { 1024 } else { 64 };
        self.caches = vec![Replicas::Count(3)];
        (self.apps, self.think) = (1, 400 * MS);
        let slower = rng.between(2, 4) as u32;
        let usual = Timing::default();
        self.timing = Timing {
            ping: usual.ping * slower,
            lease: usual.lease * slower,
            suspect: usual.suspect * slower,
            data_suspect: usual.data_suspect * slower,
            orphan_wait: usual.orphan_wait,
        };
        let [one, other] = [1 + rng.index(5), 6 + rng.index(5)];
        self.stands(vec![death(one, rng), death(other, rng)], Duration::from_secs(9));
        self.without(one);
        self.without(other);
        self.demand().start_gap = 100 * MS;
    }
}
