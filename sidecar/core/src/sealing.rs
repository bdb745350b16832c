//! Which older views might still be served in, and whether an exclusion leaves them harmless (V-5, S-1). Pure.

use std::collections::BTreeSet;

use crate::document::UnsealedView;
use crate::ids::{MemberId, ViewNumber};

/// What is known of members for the counting.
pub(crate) trait Standing {
    /// Newest view that the member is confirmed past, or has released past.
    fn confirmed_past(&self, member: MemberId) -> ViewNumber;
    /// Whether it is proved dead.
    fn is_dead(&self, member: MemberId) -> bool;
    /// Whether it has released.
    fn is_released(&self, member: MemberId) -> bool;
}

/// The views that may not be taken as sealed, of `candidates`. Here a proof counts only once a full promise time has
/// passed since it was learned (P-2): that is for `standing` to say.
pub(crate) fn unsealed(candidates: impl Iterator<Item = UnsealedView>, standing: &impl Standing) -> Vec<UnsealedView> {
    candidates
        .filter(|u| {
            let open = u.members.iter().filter(|&&y| {
                standing.confirmed_past(y) < u.number && !standing.is_released(y) && !standing.is_dead(y)
            });
            open.count() > u.members.len() / 2
        })
        .collect()
}

/// Whether an exclusion may go on, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// At most half of every view that counts is outside the voters.
    Allowed {
        /// Members whose proof of death was needed for that: a full promise time since each must have passed (P-2).
        needs_dead: BTreeSet<MemberId>,
    },
    /// More than half of one may still be serving or promising.
    Minority {
        /// The view.
        view: ViewNumber,
    },
}

/// Judges an exclusion that leaves `voters`, over the present view and the unsealed ones (V-5).
pub(crate) fn judge<'a>(
    views: impl Iterator<Item = (ViewNumber, &'a [MemberId])>,
    voters: &BTreeSet<MemberId>,
    standing: &impl Standing,
) -> Verdict {
    let mut needs_dead = BTreeSet::new();
    for (number, members) in views {
        let half = members.len() / 2;
        let outside: Vec<MemberId> = members
            .iter()
            .copied()
            .filter(|y| !voters.contains(y) && !standing.is_released(*y) && standing.confirmed_past(*y) < number)
            .collect();
        if outside.len() <= half {
            continue;
        }
        let dead: Vec<MemberId> = outside.iter().copied().filter(|&y| standing.is_dead(y)).collect();
        if outside.len() - dead.len() > half {
            return Verdict::Minority { view: number };
        }
        needs_dead.extend(dead);
    }
    Verdict::Allowed { needs_dead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Known {
        dead: Vec<u64>,
        released: Vec<u64>,
        confirmed: Vec<(u64, u64)>,
    }

    impl Standing for Known {
        fn confirmed_past(&self, member: MemberId) -> ViewNumber {
            ViewNumber(self.confirmed.iter().find(|(m, _)| *m == member.0).map_or(0, |(_, v)| *v))
        }
        fn is_dead(&self, member: MemberId) -> bool {
            self.dead.contains(&member.0)
        }
        fn is_released(&self, member: MemberId) -> bool {
            self.released.contains(&member.0)
        }
    }

    fn ids(ids: &[u64]) -> Vec<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    fn verdict(views: &[(u64, &[u64])], voters: &[u64], known: &Known) -> Verdict {
        let views: Vec<_> = views.iter().map(|(n, m)| (ViewNumber(*n), ids(m))).collect();
        let voters = ids(voters).into_iter().collect();
        judge(views.iter().map(|(n, m)| (*n, m.as_slice())), &voters, known)
    }

    /// V-5: half may go, more may not without proof, and older views count.
    #[test]
    fn at_most_half_may_be_outside() {
        let none = Known::default();
        let allowed = Verdict::Allowed { needs_dead: BTreeSet::new() };
        assert_eq!(verdict(&[(1, &[1, 2])], &[1], &none), allowed);
        assert_eq!(verdict(&[(1, &[1, 2, 3])], &[1, 2], &none), allowed);
        assert_eq!(verdict(&[(1, &[1, 2, 3])], &[1], &none), Verdict::Minority { view: ViewNumber(1) });
        let story: &[(u64, &[u64])] = &[(2, &[1, 2, 3, 4]), (1, &[1, 2, 3])];
        assert_eq!(verdict(story, &[1, 4], &none), Verdict::Minority { view: ViewNumber(1) });
        let confirmed = Known { confirmed: vec![(2, 1)], ..Known::default() };
        assert_eq!(verdict(story, &[1, 4], &confirmed), allowed);
    }

    /// P-2 and C-4: the dead discount only with a wait, the released at once.
    #[test]
    fn proof_and_release_discount() {
        let dead = Known { dead: vec![2], ..Known::default() };
        let needs = Verdict::Allowed { needs_dead: ids(&[2]).into_iter().collect() };
        assert_eq!(verdict(&[(1, &[1, 2, 3])], &[1], &dead), needs);
        let released = Known { released: vec![2], ..Known::default() };
        assert_eq!(verdict(&[(1, &[1, 2, 3])], &[1], &released), Verdict::Allowed { needs_dead: BTreeSet::new() });
    }

    /// S-1: a view is sealed once at most half of it may not be confirmed past it.
    #[test]
    fn sealed_by_half_of_its_members() {
        let view = UnsealedView { number: ViewNumber(3), members: ids(&[1, 2, 3]) };
        let one = Known { confirmed: vec![(1, 3)], ..Known::default() };
        assert_eq!(unsealed([view.clone()].into_iter(), &one).len(), 1);
        let two = Known { confirmed: vec![(1, 3), (2, 5)], ..Known::default() };
        assert_eq!(unsealed([view.clone()].into_iter(), &two).len(), 0);
        let dead = Known { confirmed: vec![(1, 3)], dead: vec![2], ..Known::default() };
        assert_eq!(unsealed([view.clone()].into_iter(), &one).len(), 1);
        assert_eq!(unsealed([view].into_iter(), &dead).len(), 0);
    }
}
