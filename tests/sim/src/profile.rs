//! What a seed chooses: the shape of the grid, how good its links are, and the faults it is given.

use sidegrid_core::document::Timing;
use sidegrid_core::planted_bug::Bug;
use sidegrid_core::view::Replicas;

use crate::clock::{Instant, MS, SEC, US};
use crate::faults::{InjectedFault, Planned};
use crate::network::{Capacity, Quality};
use crate::rng::Rng;
use crate::standing::Standing;

/// When the first fault may begin.
pub(crate) const FORMED: Instant = 4 * SEC;
/// When all faults are over.
pub(crate) const HEALED: Instant = 60 * SEC;
/// When the apps stop.
pub(crate) const APPS_STOP: Instant = 72 * SEC;
/// When every app asks for every key.
pub(crate) const FINAL: Instant = 73 * SEC;
/// When the run ends, unless a write is on its way to the copies just then.
pub(crate) const END: Instant = 76 * SEC;
/// When it ends even so.
pub(crate) const LATEST_END: Instant = END + SEC;

/// What kind of trouble a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Processes die and are started again.
    Crashes,
    /// Many die at once.
    Storms,
    /// Links are cut.
    Cuts,
    /// Nodes stop and go on.
    Pauses,
    /// Members come and leave in order.
    Planned,
    /// The registry is away, slow, or loses answers.
    Registry,
    /// Trouble at the very moment at which a view is decided.
    Changes,
    /// Anything.
    Mixed,
    /// One fault, which stands.
    Standing,
}

const THEMES: [Theme; 8] = [
    Theme::Crashes,
    Theme::Storms,
    Theme::Cuts,
    Theme::Pauses,
    Theme::Planned,
    Theme::Registry,
    Theme::Changes,
    Theme::Mixed,
];

/// All that a seed chooses.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// What the run is about.
    pub(crate) theme: Theme,
    /// Nodes that start as members.
    pub(crate) members: usize,
    /// Nodes that are started as members by a fault.
    pub(crate) spares: usize,
    /// Nodes that only forward.
    pub(crate) clients: usize,
    /// Segments.
    pub(crate) segments: u16,
    /// One cache for each.
    pub(crate) caches: Vec<Replicas>,
    /// Keys of each cache, the last of which is a counter.
    pub(crate) keys: usize,
    /// Most live entries of a cache on one node; none: no eviction.
    pub(crate) max_entries: Option<usize>,
    /// Apps on each node.
    pub(crate) apps: usize,
    /// Mean pause between an app's operations.
    pub(crate) think: u64,
    /// The links.
    pub(crate) quality: Quality,
    /// What a link carries; none: everything.
    pub(crate) capacity: Option<Capacity>,
    /// Bytes of the largest values; zero: as short as they can be.
    pub(crate) value_bytes: usize,
    /// The cluster's timing.
    pub(crate) timing: Timing,
    /// What the fault that stands may do to whom, in a run about one.
    pub(crate) standing: Option<Standing>,
    /// Whether nodes are pods, else hosts.
    pub(crate) pods: bool,
    /// Whether bounds are so small that they are met.
    pub(crate) tight: bool,
    /// Whether a state transfer takes many steps.
    pub(crate) chunky: bool,
    /// The faults, by time.
    pub(crate) faults: Vec<Planned>,
}

impl Profile {
    /// The profile of a seed.
    pub(crate) fn of(seed: u64, bug: Option<Bug>) -> Profile {
        let mut rng = Rng::new(seed, 11);
        let theme = match bug {
            Some(bug) => theme_for(bug, &mut rng),
            None => rng.pick(&THEMES),
        };
        let members = match rng.below(10) {
            0 => 2,
            1..=6 => 3,
            7..=8 => 4,
            _ => 5,
        };
        let spares = if matches!(theme, Theme::Planned | Theme::Changes | Theme::Mixed) { rng.index(3) } else { 0 };
        let mut profile = Profile {
            theme,
            members,
            spares,
            clients: usize::from(rng.percent(30)),
            segments: rng.between(3, 6) as u16,
            caches: caches(&mut rng),
            keys: rng.between(3, 4) as usize,
            max_entries: rng.percent(8).then_some(2),
            apps: rng.between(1, 2) as usize,
            think: if theme == Theme::Changes { rng.between(20, 80) } else { rng.between(60, 250) } * MS,
            quality: quality(&mut rng),
            capacity: None,
            value_bytes: 0,
            timing: Timing::default(),
            standing: None,
            pods: rng.percent(50),
            tight: rng.percent(10),
            chunky: rng.percent(25),
            faults: Vec::new(),
        };
        if bug == Some(Bug::TransferSurvivesPrimary) {
            profile.slow_transfers(&mut rng);
            return profile;
        }
        match bug {
            Some(Bug::NoBoundOnOperations) => (profile.tight, profile.apps) = (true, 8),
            Some(Bug::EvictsByItself) => profile.max_entries = Some(2),
            _ => {}
        }
        profile.faults = faults(&profile, bug.is_some(), &mut rng);
        profile
    }

    /// Aims at T-2: while a copy is filled step by step, its primary is cut off from the other owner and then dies.
    fn slow_transfers(&mut self, rng: &mut Rng) {
        (self.chunky, self.tight, self.members, self.keys) = (true, false, rng.between(3, 4) as usize, 8);
        self.max_entries = None;
        self.caches = vec![rng.pick(&[Replicas::Count(2), Replicas::Count(3), Replicas::All])];
        self.quality = Quality { base: 2 * MS, jitter: rng.between(2, 12) * MS, loss: 0, double: 0, straggler: 0 };
        let mut at = FORMED;
        while at < HEALED - 6 * SEC {
            let [newcomer, primary] = [rng.index(self.members), rng.index(self.members)];
            let other = (primary + 1 + rng.index(self.members - 1)) % self.members;
            let last = rng.between(200, 1000) * MS;
            let cut = InjectedFault::Cut { from: primary, to: other, both: false, data: true, detection: false, last };
            let crash = InjectedFault::Crash { node: primary, down: rng.between(10, 2000) * MS };
            let [first, second] = [rng.between(0, 150) * MS, rng.between(0, 250) * MS];
            self.faults.push(Planned { at, fault: InjectedFault::AtChange { then: Box::new(cut), after: first } });
            self.faults
                .push(Planned { at, fault: InjectedFault::AtChange { then: Box::new(crash), after: first + second } });
            let down = rng.between(10, 100) * MS;
            self.faults.push(Planned { at: at + MS, fault: InjectedFault::Crash { node: newcomer, down } });
            at += rng.between(3000, 6000) * MS;
        }
    }

    /// The longest time that a message may wait for a node or a link that does nothing.
    pub(crate) fn longest_standstill(&self) -> u64 {
        fn of(fault: &InjectedFault) -> u64 {
            match fault {
                InjectedFault::Pause { last, .. }
                | InjectedFault::Wedge { last, .. }
                | InjectedFault::Stall { last, .. } => *last,
                InjectedFault::AtChange { then, .. } | InjectedFault::AtStop { then } => of(then),
                _ => 0,
            }
        }
        self.faults.iter().map(|planned| of(&planned.fault)).sum()
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> usize {
        self.members + self.spares + self.clients
    }
}

fn theme_for(bug: Bug, rng: &mut Rng) -> Theme {
    let choices: &[Theme] = match bug {
        Bug::PromisesNotTold | Bug::VotesNotAwaited | Bug::VotesOfAnyRound => {
            &[Theme::Cuts, Theme::Pauses, Theme::Storms, Theme::Mixed]
        }
        Bug::ConfirmedAtOnce | Bug::ProofEndsPromises | Bug::OldViewsTaken | Bug::CountersBeginAgain => {
            &[Theme::Changes, Theme::Storms, Theme::Crashes]
        }
        Bug::LeaverGoesOn | Bug::ReleasedAtOnce | Bug::LeaversStopTogether | Bug::OldPrimaryNotAwaited => {
            &[Theme::Planned, Theme::Changes]
        }
        Bug::SwapComparesLittle
        | Bug::LostAnswerIsNo
        | Bug::ShownViewsInstalled
        | Bug::OlderDocumentFollowed
        | Bug::RegistryNotRead => &[Theme::Registry],
        Bug::FillingIgnoresWrites | Bug::AnyNumberJoins | Bug::JoinersNotReached | Bug::NeverBeginsAgain => {
            &[Theme::Crashes, Theme::Planned, Theme::Storms]
        }
        Bug::EchoWhileWedged => &[Theme::Pauses],
        Bug::NoPingAtInstall
        | Bug::PeersViewsIgnored
        | Bug::LastCopiesNotAwaited
        | Bug::EveryoneProposes
        | Bug::LocksIgnored
        | Bug::StragglersApplied
        | Bug::RefusedMeansNo
        | Bug::RemovalsNotOrdered
        | Bug::ExpiredIsAbsent
        | Bug::EvictsByItself
        | Bug::NoBoundOnOperations
        | Bug::LinksNotWeighed
        | Bug::AnotherBootIsProof
        | Bug::SendsAgainAtOnce
        | Bug::RoomNotLookedFor
        | Bug::KeysForgotten => &THEMES,
        Bug::NoLease | Bug::VotersEchoOn | Bug::PromisesNotWaited | Bug::NoHalfRule => {
            &[Theme::Cuts, Theme::Pauses, Theme::Mixed]
        }
        Bug::VotesTimeOut => &[Theme::Cuts, Theme::Planned, Theme::Registry, Theme::Mixed],
        Bug::EchoAnyView
        | Bug::UnsealedIgnored
        | Bug::PlannedDoesNotWait
        | Bug::DroppedNotAwaited
        | Bug::TransferSurvivesPrimary => &[Theme::Changes],
        Bug::IncomingSkipped => &[Theme::Planned, Theme::Mixed, Theme::Changes],
        Bug::NoCollect | Bug::NoResend | Bug::RetriesApplyAgain => &[Theme::Crashes, Theme::Cuts, Theme::Mixed],
        Bug::DirtyReads | Bug::NoReleaseCheck | Bug::NoTombstones => &THEMES,
    };
    rng.pick(choices)
}

fn caches(rng: &mut Rng) -> Vec<Replicas> {
    match rng.below(10) {
        0 => vec![Replicas::Count(1), Replicas::Count(2)],
        1..=3 => vec![Replicas::Count(2)],
        4 => vec![Replicas::Count(3)],
        5 => vec![Replicas::All],
        6..=7 => vec![Replicas::Count(2), Replicas::All],
        8 => vec![Replicas::Count(2), Replicas::Count(3)],
        _ => vec![Replicas::Count(1), Replicas::Count(3), Replicas::All],
    }
}

fn quality(rng: &mut Rng) -> Quality {
    let (loss, double, straggler) = match rng.below(10) {
        0..=4 => (0, 0, 500),
        5..=7 => (5_000, 5_000, 5_000),
        _ => (30_000, 30_000, 30_000),
    };
    Quality { base: rng.between(50, 600) * US, jitter: rng.between(50, 3000) * US, loss, double, straggler }
}

/// At least three faults, at least two of which change the view when the grid is whole.
fn faults(profile: &Profile, dense: bool, rng: &mut Rng) -> Vec<Planned> {
    let count = rng.between(4, 7) + if dense { 4 } else { 0 };
    let mut faults = Vec::new();
    for index in 0..count {
        let fault = if index < 2 { changing(profile, rng) } else { any(profile, rng) };
        let at = rng.between(FORMED, HEALED - 6 * SEC);
        if profile.theme == Theme::Changes {
            // Something that changes the view soon after the trap is set, and perhaps a second trap for what follows.
            faults.push(Planned { at: at + rng.between(1, 50) * MS, fault: changer(profile, rng) });
            if rng.percent(50) {
                faults.push(Planned { at: at + rng.between(100, 2000) * MS, fault: any(profile, rng) });
            }
        }
        faults.push(Planned { at, fault });
        // Trouble likes company: a second fault while the first is being dealt with.
        if rng.percent(35) {
            faults.push(Planned { at: at + rng.between(0, 1500) * MS, fault: any(profile, rng) });
        }
    }
    faults.sort_by_key(|f| f.at);
    faults
}

fn changing(profile: &Profile, rng: &mut Rng) -> InjectedFault {
    let node = rng.index(profile.members);
    match profile.theme {
        Theme::Cuts => InjectedFault::Isolate { node, inward: true, outward: true, last: rng.between(1500, 9000) * MS },
        Theme::Pauses => InjectedFault::Pause { node, last: rng.between(1200, 12_000) * MS },
        Theme::Planned => InjectedFault::Drain { node, back: rng.between(500, 4000) * MS },
        Theme::Storms => storm(profile, rng),
        Theme::Crashes | Theme::Registry | Theme::Changes | Theme::Mixed | Theme::Standing => {
            InjectedFault::Crash { node, down: down(rng) }
        }
    }
}

fn any(profile: &Profile, rng: &mut Rng) -> InjectedFault {
    let members = profile.members;
    let node = rng.index(members + profile.spares);
    let other = (node + 1 + rng.index(profile.nodes().max(2) - 1)) % profile.nodes();
    let last = if rng.percent(60) { rng.between(200, 2500) * MS } else { rng.between(2500, 9000) * MS };
    let theme = if rng.percent(75) { profile.theme } else { Theme::Mixed };
    match theme {
        Theme::Crashes => match rng.below(10) {
            0 => InjectedFault::Lose { node },
            _ => InjectedFault::Crash { node, down: down(rng) },
        },
        Theme::Storms => storm(profile, rng),
        Theme::Cuts => cut(profile, node, other, last, rng),
        Theme::Pauses => match rng.below(6) {
            0 => InjectedFault::Wedge { node, last },
            1 => InjectedFault::Stall { node, last },
            _ => InjectedFault::Pause { node, last },
        },
        Theme::Planned => match rng.below(4) {
            0 if profile.spares > 0 => InjectedFault::Start { node: members + rng.index(profile.spares) },
            1 => InjectedFault::Crash { node, down: down(rng) },
            _ => InjectedFault::Drain { node, back: rng.between(100, 4000) * MS },
        },
        Theme::Registry => match rng.below(9) {
            8 => InjectedFault::RegistryStale { last: last * 2 },
            0 => InjectedFault::RegistryAway { last },
            1 => InjectedFault::RegistrySlow { last },
            2 => InjectedFault::RegistryMissing { last },
            3 => InjectedFault::RegistryCutOff { node, last },
            4 => InjectedFault::RegistryLost { put_back: rng.percent(50) },
            5 => InjectedFault::Crash { node, down: down(rng) },
            _ => InjectedFault::RegistryLossy { last: last * 2 },
        },
        Theme::Changes => at_change(profile, node, rng),
        Theme::Mixed | Theme::Standing => match rng.below(14) {
            13 => InjectedFault::RegistryLost { put_back: rng.percent(50) },
            12 => at_change(profile, node, rng),
            0..=1 => InjectedFault::Crash { node, down: down(rng) },
            2 => InjectedFault::Pause { node, last },
            3..=5 => cut(profile, node, other, last, rng),
            6 => InjectedFault::Drain { node, back: rng.between(100, 4000) * MS },
            7 => InjectedFault::RegistryLossy { last },
            8 => InjectedFault::RegistryAway { last },
            9 => InjectedFault::Loss { percent: rng.between(10, 60), last },
            10 => storm(profile, rng),
            _ if profile.spares > 0 => InjectedFault::Start { node: members + rng.index(profile.spares) },
            _ => InjectedFault::Lose { node },
        },
    }
}

/// Something that the grid answers with changes of the view.
fn changer(profile: &Profile, rng: &mut Rng) -> InjectedFault {
    let node = rng.index(profile.members);
    match rng.below(6) {
        0..=2 => InjectedFault::Crash { node, down: down(rng) },
        3 if profile.spares > 0 => InjectedFault::Start { node: profile.members + rng.index(profile.spares) },
        _ => InjectedFault::Drain { node, back: rng.between(100, 1500) * MS },
    }
}

fn at_change(profile: &Profile, node: usize, rng: &mut Rng) -> InjectedFault {
    let last = if rng.percent(60) { rng.between(100, 1500) * MS } else { rng.between(1500, 8000) * MS };
    let after = if rng.percent(60) { 0 } else { rng.between(1, 40) * MS };
    let side = if rng.percent(50) { 1 << node } else { rng.below(1 << profile.nodes()) };
    let then = match rng.below(20) {
        0 => InjectedFault::RegistryLost { put_back: rng.percent(30) },
        1..=13 => {
            let detection = rng.percent(60);
            InjectedFault::Eclipse { side, data: true, detection, registry: rng.percent(70), last }
        }
        14..=15 => InjectedFault::Crash { node, down: down(rng) },
        16..=17 => InjectedFault::Pause { node, last },
        _ => InjectedFault::Loss { percent: rng.between(20, 60), last },
    };
    InjectedFault::AtChange { then: Box::new(then), after }
}

fn cut(profile: &Profile, node: usize, other: usize, last: u64, rng: &mut Rng) -> InjectedFault {
    match rng.below(8) {
        0 => InjectedFault::Isolate { node, inward: true, outward: true, last },
        1 => InjectedFault::Isolate { node, inward: true, outward: false, last },
        2 => InjectedFault::Isolate { node, inward: false, outward: true, last },
        3 => InjectedFault::Split { side: rng.below(1 << profile.nodes()), last },
        4 => InjectedFault::Loss { percent: rng.between(10, 60), last },
        _ => {
            let both = rng.percent(50);
            let channels = rng.below(4);
            InjectedFault::Cut { from: node, to: other, both, data: channels != 0, detection: channels != 1, last }
        }
    }
}

fn storm(profile: &Profile, rng: &mut Rng) -> InjectedFault {
    let all = (1u64 << profile.members) - 1;
    let nodes = if rng.percent(30) { all } else { rng.between(1, all) };
    InjectedFault::Storm { nodes, down: down(rng), apart: rng.pick(&[0, MS, 200 * MS]) }
}

/// How long a process is down: mostly its supervisor starts it at once.
fn down(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..=4 => rng.between(10, 100) * MS,
        5..=7 => rng.between(100, 1500) * MS,
        _ => rng.between(1500, 8000) * MS,
    }
}
