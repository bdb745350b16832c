//! Who leads each group: the present primary where it stays and its load allows, else the least loaded.

use smallvec::SmallVec;

use super::{Planner, Roles};
use crate::ids::GroupId;
use crate::view::{GroupPlacement, MemberIndex};

/// Rounds of evening out. The first moves what is above the mean, the others what only a neighbour can take; bounded
/// since each looks at every group, and a later planned change goes on.
const ROUNDS: usize = 16;

/// How many groups each member leads.
struct Load {
    of: Vec<usize>,
}

impl Load {
    fn get(&self, member: MemberIndex) -> usize {
        self.of[usize::from(member)]
    }

    fn add(&mut self, member: MemberIndex) {
        self.of[usize::from(member)] += 1;
    }

    fn shift(&mut self, from: MemberIndex, to: MemberIndex) {
        self.of[usize::from(from)] -= 1;
        self.of[usize::from(to)] += 1;
    }
}

impl Planner<'_> {
    /// Puts each group's primary first. With `Roles::All` the other owners are implied, so none is listed.
    pub(super) fn choose_primaries(&self, ids: &[GroupId], planned: &mut [GroupPlacement], roles: Roles) {
        let mut load = Load { of: vec![0; self.members.len()] };
        let before: Vec<_> = ids.iter().map(|&g| self.primary_before(g)).collect();
        let kept: Vec<Option<MemberIndex>> = before
            .iter()
            .zip(planned.iter())
            .map(|(before, placed)| before.filter(|&p| self.may_stay_primary(p, placed, roles)))
            .collect();
        kept.iter().flatten().for_each(|&p| load.add(p));
        for ((&group, placed), kept) in ids.iter().zip(planned.iter_mut()).zip(&kept) {
            if self.is_vacant(placed, roles) {
                continue;
            }
            let chosen = kept.unwrap_or_else(|| self.least_loaded(placed, roles, &load));
            if kept.is_none() {
                load.add(chosen);
            }
            self.lead(group, placed, chosen, roles);
        }
        if !self.change.exclusion {
            self.even_primaries(ids, planned, roles, &mut load);
        }
    }

    fn primary_before(&self, group: GroupId) -> Option<MemberIndex> {
        self.view.placement(group).owners.first().and_then(|&i| self.new_index(i))
    }

    /// A leaving primary stays until the group's copies elsewhere are complete.
    fn may_stay_primary(&self, primary: MemberIndex, placed: &GroupPlacement, roles: Roles) -> bool {
        let incoming = || placed.incoming.iter().any(|x| x.member == primary);
        let holds = match roles {
            Roles::Listed => placed.owners.contains(&primary),
            Roles::All => !incoming() && placed.empty_since != self.number,
        };
        if !holds || self.change.exclusion || self.may_own(primary) {
            return holds;
        }
        match roles {
            Roles::Listed => !placed.incoming.is_empty() || !placed.owners.iter().any(|&o| self.may_own(o)),
            Roles::All => self.eligible.iter().all(|e| placed.incoming.iter().any(|x| x.member == *e)),
        }
    }

    fn least_loaded(&self, placed: &GroupPlacement, roles: Roles, load: &Load) -> MemberIndex {
        let key = |i: &MemberIndex| (!self.may_own(*i), load.get(*i), *i);
        let found = match roles {
            Roles::Listed => placed.owners.iter().copied().min_by_key(key),
            Roles::All if placed.empty_since == self.number => placed.owners.first().copied(),
            Roles::All => {
                let incoming: SmallVec<[MemberIndex; 8]> = placed.incoming.iter().map(|x| x.member).collect();
                (0..self.members.len()).map(super::as_index).filter(|i| !incoming.contains(i)).min_by_key(key)
            }
        };
        found.unwrap_or(0)
    }

    fn lead(&self, group: GroupId, placed: &mut GroupPlacement, primary: MemberIndex, roles: Roles) {
        match roles {
            Roles::All => placed.owners = SmallVec::from_slice(&[primary]),
            Roles::Listed => {
                if let Some(at) = placed.owners.iter().position(|&o| o == primary) {
                    placed.owners[..=at].rotate_right(1);
                }
            }
        }
        let kept = placed.empty_since != self.number && self.primary_before(group) == Some(primary);
        placed.primary_since = if kept { self.view.placement(group).primary_since } else { self.number };
    }

    /// Moves the primary role within complete groups until loads differ by at most one, where that can be.
    fn even_primaries(&self, ids: &[GroupId], planned: &mut [GroupPlacement], roles: Roles, load: &mut Load) {
        let mean = planned.len() / self.eligible.len().max(1);
        for round in 0..ROUNDS {
            // At first only from above the mean to below it, so that a role is not moved twice.
            let above = if round == 0 { mean } else { 0 };
            let mut moved = false;
            let mut least = self.least_of_all(load);
            for (&group, placed) in ids.iter().zip(planned.iter_mut()) {
                let Some(&primary) = placed.owners.first() else { continue };
                let now = load.get(primary);
                if !placed.incoming.is_empty() || now <= above || now <= load.get(least) + 1 {
                    continue;
                }
                let best = match roles {
                    Roles::All => Some(least),
                    Roles::Listed => {
                        let owners = placed.owners.iter().copied().filter(|&o| self.may_own(o));
                        owners.min_by_key(|&o| (load.get(o), o))
                    }
                };
                let Some(best) = best.filter(|&b| load.get(b) + 1 < now && (round > 0 || load.get(b) <= mean)) else {
                    continue;
                };
                load.shift(primary, best);
                self.lead(group, placed, best, roles);
                moved = true;
                if best == least {
                    least = self.least_of_all(load);
                }
            }
            if !moved && round > 0 {
                break;
            }
        }
    }

    fn least_of_all(&self, load: &Load) -> MemberIndex {
        self.eligible.iter().copied().min_by_key(|&i| (load.get(i), i)).unwrap_or(0)
    }
}
