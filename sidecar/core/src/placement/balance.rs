//! Targets: which members should hold each group, near the present copies, spread over topology, evenly loaded.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::Held;
use crate::member::Member;
use crate::view::MemberIndex;

type Set = SmallVec<[MemberIndex; 4]>;

/// For each group, the members that should hold it: `count` of them, or all eligible ones if there are fewer.
pub(super) fn targets(members: &[Member], eligible: &[MemberIndex], count: usize, held: &[Held]) -> Vec<Set> {
    let count = count.min(eligible.len()).max(1);
    let load = eligible.iter().map(|&i| (i, 0)).collect();
    let mut balance = Balance { places: places(members), eligible, load };
    let mut targets: Vec<Set> = Vec::with_capacity(held.len());
    for held in held {
        let target = balance.keep(held, count);
        for member in &target {
            *balance.load.entry(*member).or_default() += 1;
        }
        targets.push(target);
    }
    for target in &mut targets {
        balance.fill(target, count);
    }
    for target in &mut targets {
        balance.spread(target);
    }
    balance.even(&mut targets, held);
    targets
}

/// Site, rack and machine of each member as small numbers; equal numbers, equal places.
fn places(members: &[Member]) -> Vec<[usize; 3]> {
    let first_like = |at: usize, nearness: u8| {
        let here = &members[at].locality;
        members.iter().position(|m| m.locality.nearness(here) >= nearness).unwrap_or(at)
    };
    (0..members.len()).map(|at| [first_like(at, 1), first_like(at, 2), first_like(at, 3)]).collect()
}

struct Balance<'a> {
    places: Vec<[usize; 3]>,
    eligible: &'a [MemberIndex],
    load: BTreeMap<MemberIndex, usize>,
}

/// Distinct sites, racks and machines, in order of preference: more is better.
type Spread = [usize; 3];

impl Balance<'_> {
    fn spread_of(&self, set: &[MemberIndex]) -> Spread {
        let distinct = |level: usize| {
            let place = |i: &MemberIndex| self.places[usize::from(*i)][level];
            (0..set.len()).filter(|&at| !set[..at].iter().any(|other| place(other) == place(&set[at]))).count()
        };
        [distinct(0), distinct(1), distinct(2)]
    }

    /// Present copies first: those being filled (a move that was decided goes on), then owners.
    fn keep(&self, held: &Held, count: usize) -> Set {
        let mut target = Set::new();
        let may = |i: &MemberIndex| self.eligible.contains(i);
        target.extend(held.incoming.iter().map(|x| x.member).filter(may).take(count));
        while target.len() < count {
            let free = held.owners.iter().copied().filter(|o| may(o) && !target.contains(o));
            let best = free.max_by_key(|&o| {
                let with: Set = target.iter().copied().chain([o]).collect();
                let first = held.owners.first() == Some(&o);
                (self.spread_of(&with), usize::MAX - self.load[&o], first)
            });
            let Some(best) = best else { break };
            target.push(best);
        }
        target
    }

    fn fill(&mut self, target: &mut Set, count: usize) {
        while target.len() < count {
            let free = self.eligible.iter().copied().filter(|i| !target.contains(i));
            let best = free.min_by_key(|&i| {
                let with: Set = target.iter().copied().chain([i]).collect();
                (std::cmp::Reverse(self.spread_of(&with)), self.load[&i], i)
            });
            let Some(best) = best else { break };
            *self.load.entry(best).or_default() += 1;
            target.push(best);
        }
    }

    /// Replaces one copy where that spreads the group wider.
    fn spread(&mut self, target: &mut Set) {
        loop {
            let now = self.spread_of(target);
            let mut best: Option<(Spread, usize, usize, MemberIndex)> = None;
            for at in 0..target.len() {
                for &candidate in self.eligible.iter().filter(|c| !target.contains(c)) {
                    let mut with = target.clone();
                    with[at] = candidate;
                    let spread = self.spread_of(&with);
                    let load = usize::MAX - self.load[&candidate];
                    if spread > now && best.is_none_or(|(s, l, ..)| (spread, load) > (s, l)) {
                        best = Some((spread, load, at, candidate));
                    }
                }
            }
            let Some((_, _, at, candidate)) = best else { return };
            *self.load.entry(target[at]).or_default() -= 1;
            *self.load.entry(candidate).or_default() += 1;
            target[at] = candidate;
        }
    }

    /// Moves groups from the most to the least loaded while that keeps their spread.
    fn even(&mut self, targets: &mut [Set], held: &[Held]) {
        let bound = targets.len() * self.eligible.len();
        for _ in 0..bound {
            if !self.move_one(targets, held) {
                return;
            }
        }
    }

    fn move_one(&mut self, targets: &mut [Set], held: &[Held]) -> bool {
        let mut by_load: Vec<(usize, MemberIndex)> = self.load.iter().map(|(&i, &l)| (l, i)).collect();
        by_load.sort_unstable();
        for &(high, from) in by_load.iter().rev() {
            for &(low, to) in &by_load {
                if high <= low + 1 {
                    break;
                }
                if let Some(at) = self.cheapest_move(targets, held, from, to) {
                    let slot = targets[at].iter().position(|&i| i == from).unwrap_or(0);
                    targets[at][slot] = to;
                    *self.load.entry(from).or_default() -= 1;
                    *self.load.entry(to).or_default() += 1;
                    return true;
                }
            }
        }
        false
    }

    /// A group that `from` can give to `to` without losing spread; first one where `to` has a copy or `from` has not.
    fn cheapest_move(&self, targets: &[Set], held: &[Held], from: MemberIndex, to: MemberIndex) -> Option<usize> {
        let mut best: Option<(u8, usize)> = None;
        for (at, target) in targets.iter().enumerate() {
            if !target.contains(&from) || target.contains(&to) {
                continue;
            }
            let with: Set = target.iter().map(|&i| if i == from { to } else { i }).collect();
            if self.spread_of(&with) < self.spread_of(target) {
                continue;
            }
            let has = |i| held[at].owners.contains(&i);
            let cost = match (has(to), has(from)) {
                (true, _) => 0,
                (false, false) => 1,
                (false, true) => 2 + u8::from(held[at].owners.first() == Some(&from)),
            };
            if cost == 0 {
                return Some(at);
            }
            if best.is_none_or(|(c, _)| cost < c) {
                best = Some((cost, at));
            }
        }
        best.map(|(_, at)| at)
    }
}
