//! Targets: which members should hold each group, near the present copies, spread over topology, evenly loaded.
//!
//! Work is linear in copies, times the members for each copy that has to move: a coordinator plans within one step, and
//! a step that takes long delays everything else (L-4).

use smallvec::SmallVec;

use super::topology::{Spread, Taken, Topology};
use super::{COSTS, Copies};
use crate::view::MemberIndex;

pub(super) type Set = SmallVec<[MemberIndex; 4]>;

/// Rounds of levelling. One nearly always does, the next finds nothing more; bounded since each looks at every copy.
const ROUNDS: usize = 4;

/// For each group, the members that should hold it: `count` of them, or all eligible ones if there are fewer.
pub(super) fn targets(topology: &Topology, eligible: &[MemberIndex], count: usize, copies: &[Copies]) -> Vec<Set> {
    let count = count.min(eligible.len()).max(1);
    let mut balance = Balance::new(topology, eligible, count);
    let mut targets: Vec<Set> = copies.iter().map(|copies| balance.keep(copies, count)).collect();
    for (target, copies) in targets.iter_mut().zip(copies) {
        balance.hold(target);
        balance.fill(target, count);
        balance.widen(target, copies);
        balance.let_go(target);
    }
    balance.level(&mut targets, copies);
    targets
}

struct Balance<'a> {
    eligible: &'a [MemberIndex],
    /// The same, by index.
    may: Vec<bool>,
    /// Targets that each member is in, by index.
    load: Vec<usize>,
    /// Places of the group at hand.
    taken: Taken<'a>,
    /// What no group can exceed.
    widest: Spread,
}

impl<'a> Balance<'a> {
    fn new(topology: &'a Topology, eligible: &'a [MemberIndex], count: usize) -> Self {
        let size = eligible.iter().max().map_or(0, |&most| usize::from(most) + 1);
        let mut may = vec![false; size];
        eligible.iter().for_each(|&i| may[usize::from(i)] = true);
        let widest = topology.widest(eligible, count);
        Balance { eligible, may, load: vec![0; size], taken: Taken::new(topology), widest }
    }

    fn load(&self, member: MemberIndex) -> usize {
        self.load[usize::from(member)]
    }

    fn may(&self, member: MemberIndex) -> bool {
        self.may.get(usize::from(member)).copied().unwrap_or(false)
    }

    fn hold(&mut self, set: &[MemberIndex]) {
        set.iter().for_each(|&i| self.taken.add(i));
    }

    fn let_go(&mut self, set: &[MemberIndex]) {
        set.iter().for_each(|&i| self.taken.remove(i));
    }

    /// Present copies first: those being filled or just complete (a move that was decided goes on), then owners.
    fn keep(&mut self, copies: &Copies, count: usize) -> Set {
        let (before, completed) = copies.owners.split_at(copies.owners.len() - copies.completed);
        let decided = copies.incoming.iter().map(|x| x.member).chain(completed.iter().copied());
        let mut target: Set = decided.filter(|&i| self.may(i)).take(count).collect();
        let mut owners: Set = before.iter().copied().filter(|&o| self.may(o) && !target.contains(&o)).collect();
        if target.len() + owners.len() <= count {
            target.append(&mut owners);
        } else {
            self.keep_some(copies, &mut target, &mut owners, count);
        }
        target.iter().for_each(|&i| self.load[usize::from(i)] += 1);
        target
    }

    /// Of more copies than are needed, those that are spread widest and least loaded.
    fn keep_some(&mut self, copies: &Copies, target: &mut Set, owners: &mut Set, count: usize) {
        self.hold(target);
        while target.len() < count {
            let first = copies.owners.first().copied();
            let best = (0..owners.len()).max_by_key(|&at| {
                let owner = owners[at];
                (self.taken.gain(owner), usize::MAX - self.load(owner), first == Some(owner))
            });
            let Some(best) = best.map(|at| owners.swap_remove(at)) else { break };
            self.taken.add(best);
            target.push(best);
        }
        self.let_go(target);
    }

    fn fill(&mut self, target: &mut Set, count: usize) {
        while target.len() < count {
            let Some(best) = self.widest_addition(target) else { break };
            self.put(target, best);
        }
    }

    /// Who is not in the set and spreads it widest; of these, the least loaded.
    fn widest_addition(&self, target: &Set) -> Option<MemberIndex> {
        let free = self.eligible.iter().copied().filter(|i| !target.contains(i));
        free.min_by_key(|&i| (usize::MAX - self.taken.gain(i), self.load(i), i))
    }

    fn put(&mut self, target: &mut Set, member: MemberIndex) {
        self.load[usize::from(member)] += 1;
        self.taken.add(member);
        target.push(member);
    }

    /// Replaces copies while that spreads the group wider. While it is not at its widest some copy shares a place that
    /// another one could take alone, so each replacement widens.
    fn widen(&mut self, target: &mut Set, copies: &Copies) {
        while self.taken.spread() < self.widest {
            let before = self.taken.spread();
            let spare =
                target.iter().copied().enumerate().min_by_key(|&(_, i)| {
                    (self.taken.loss(i), copies.cost_of_moving_from(i), usize::MAX - self.load(i))
                });
            let Some((at, from)) = spare else { return };
            self.taken.remove(from);
            self.load[usize::from(from)] -= 1;
            target.swap_remove(at);
            let to = self.widest_addition(target).unwrap_or(from);
            self.put(target, to);
            if self.taken.spread() <= before {
                return;
            }
        }
    }

    /// Moves copies from more to less loaded members, while loads differ by more than one and the spread allows it.
    fn level(&mut self, targets: &mut [Set], copies: &[Copies]) {
        if self.is_level() {
            return;
        }
        self.reuse(targets, copies);
        // First from above the mean to below it, which is all there is to do where topology does not interfere.
        self.level_to_mean(targets, copies);
        for _ in 0..ROUNDS {
            if self.is_level() || !self.level_round(targets, copies) {
                return;
            }
        }
    }

    fn least_load(&self) -> usize {
        self.eligible.iter().map(|&i| self.load(i)).min().unwrap_or(0)
    }

    fn is_level(&self) -> bool {
        let most = self.eligible.iter().map(|&i| self.load(i)).max().unwrap_or(0);
        most <= self.least_load() + 1
    }

    /// Moves that cost nothing: to members that hold an in-sync copy besides.
    fn reuse(&mut self, targets: &mut [Set], copies: &[Copies]) {
        for (target, copies) in targets.iter_mut().zip(copies) {
            for &to in &copies.owners {
                if !self.may(to) || target.contains(&to) {
                    continue;
                }
                let fullest = target.iter().copied().max_by_key(|&i| (self.load(i), i));
                if let Some(from) = fullest.filter(|&from| self.load(from) > self.load(to) + 1) {
                    self.hold(target);
                    let least = self.taken.loss(from);
                    self.taken.remove(from);
                    let fits = self.taken.gains(to, least);
                    self.taken.add(from);
                    self.let_go(target);
                    if fits {
                        self.replace(target, from, to);
                    }
                }
            }
        }
    }

    fn replace(&mut self, target: &mut Set, from: MemberIndex, to: MemberIndex) {
        self.load[usize::from(from)] -= 1;
        self.load[usize::from(to)] += 1;
        if let Some(slot) = target.iter_mut().find(|i| **i == from) {
            *slot = to;
        }
    }

    fn level_to_mean(&mut self, targets: &mut [Set], copies: &[Copies]) {
        let total: usize = self.eligible.iter().map(|&i| self.load(i)).sum();
        let mean = total / self.eligible.len().max(1);
        let mut queues = self.queues(targets, copies);
        let mut givers: Vec<MemberIndex> = self.eligible.iter().copied().filter(|&i| self.load(i) > mean + 1).collect();
        givers.sort_by_key(|&i| usize::MAX - self.load(i));
        for from in givers {
            while self.load(from) > mean + 1 {
                let Some(group) = queues[usize::from(from)].iter_mut().find_map(Vec::pop) else { break };
                if let Some(to) = self.taker(&targets[group], from).filter(|&to| self.load(to) <= mean) {
                    self.replace(&mut targets[group], from, to);
                }
            }
        }
    }

    /// One look at every copy: the most loaded member gives first, its cheapest copy first, to the least loaded that
    /// may have it. So loads are levelled from the top, and nothing is moved twice. Returns whether anything moved.
    fn level_round(&mut self, targets: &mut [Set], copies: &[Copies]) -> bool {
        let mut queues = self.queues(targets, copies);
        let mut moved = false;
        let mut open: Set = self.eligible.iter().copied().collect();
        while let Some(at) = (0..open.len()).max_by_key(|&at| (self.load(open[at]), usize::MAX - at)) {
            let from = open[at];
            if self.load(from) <= self.least_load() + 1 {
                break;
            }
            let gave = loop {
                let Some(group) = queues[usize::from(from)].iter_mut().find_map(Vec::pop) else { break false };
                if let Some(to) = self.taker(&targets[group], from) {
                    self.replace(&mut targets[group], from, to);
                    break true;
                }
            };
            moved |= gave;
            if !gave {
                open.swap_remove(at);
            }
        }
        moved
    }

    /// For each member that may have to give, the groups that it should hold, by what it costs to move each.
    fn queues(&self, targets: &[Set], copies: &[Copies]) -> Vec<[Vec<usize>; COSTS]> {
        let mut queues: Vec<[Vec<usize>; COSTS]> = vec![Default::default(); self.load.len()];
        let enough = self.least_load() + 1;
        for (group, (target, copies)) in targets.iter().zip(copies).enumerate() {
            for &member in target.iter().filter(|&&i| self.load(i) > enough) {
                queues[usize::from(member)][copies.cost_of_moving_from(member)].push(group);
            }
        }
        queues
    }

    /// The least loaded member that may take a copy from `from` without narrowing the group's spread.
    fn taker(&mut self, target: &Set, from: MemberIndex) -> Option<MemberIndex> {
        self.hold(target);
        let least = self.taken.loss(from);
        self.taken.remove(from);
        let mut bound = self.load(from).saturating_sub(1);
        let mut best = None;
        for &to in self.eligible {
            if self.load(to) < bound && self.taken.gains(to, least) && !target.contains(&to) {
                bound = self.load(to);
                best = Some(to);
            }
        }
        self.taken.add(from);
        self.let_go(target);
        best
    }
}
