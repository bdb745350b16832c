//! Groups whose last in-sync owners were excluded (V-9): who may come back with a copy, and when they start empty.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Membership;
use crate::document::{Document, Proof};
use crate::event::Notice;
use crate::ids::{GroupId, MemberId};
use crate::member::Member;
use crate::message::KeptCopies;
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::time::Time;
use crate::view::View;

/// What this node knows of vacant groups, and which copies it has itself kept.
#[derive(Debug, Default)]
pub(super) struct Vacancies {
    /// Since when this node knows each group to be vacant.
    since: BTreeMap<GroupId, Time>,
    /// Copies that this process kept, for the request to join.
    kept: Option<KeptCopies>,
    /// Copies that nodes outside the view said that they keep, and when. Also from requests to join that come too early: what
    /// they prove must not start a group empty before they are in.
    claims: BTreeMap<MemberId, (KeptCopies, Time)>,
}

/// A claim that is not made again for so long gives nobody a group: who made it may have gone. It still keeps the group from
/// starting empty for as long as its owners are waited for.
const CLAIM_LASTS: Duration = Duration::from_secs(2);

impl Vacancies {
    pub(super) fn kept(&self) -> Option<&KeptCopies> {
        self.kept.as_ref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty() && self.kept.is_none()
    }

    /// A node outside the view says which copies it keeps.
    pub(super) fn claim(
        &mut self,
        from: MemberId,
        kept: Option<&KeptCopies>,
        now: Time,
        orphan_wait: Duration,
        limit: usize,
    ) {
        self.claims.retain(|id, (_, at)| *id != from && now.since(*at) < orphan_wait.max(CLAIM_LASTS));
        if let Some(kept) = kept.filter(|_| self.claims.len() < limit) {
            self.claims.insert(from, (kept.clone(), now));
        }
    }

    /// Whether this node keeps a copy of the group that one of its last owners held. Its own id is among these when a view
    /// took it in that it never installed.
    fn keeps(&self, id: MemberId, group: GroupId, owners: &[MemberId], now: Time, lasts: Duration) -> bool {
        let claim = self.claims.get(&id).filter(|(_, at)| now.since(*at) < lasts);
        claim.is_some_and(|(kept, _)| {
            (owners.contains(&kept.of) || owners.contains(&id)) && kept.groups.contains(&group)
        })
    }

    /// A view was installed. Returns how many groups it leaves vacant that were not.
    fn follow(&mut self, view: &View, now: Time) -> usize {
        let vacant: BTreeSet<GroupId> = view.vacant().collect();
        self.since.retain(|group, _| vacant.contains(group));
        let before = self.since.len();
        for group in vacant {
            self.since.entry(group).or_insert(now);
        }
        self.since.len() - before
    }
}

impl Membership {
    /// The copies that this process kept of incarnation `of`.
    pub(crate) fn keep_copies(&mut self, of: MemberId, groups: BTreeSet<GroupId>) {
        self.vacancies.kept = (!groups.is_empty()).then_some(KeptCopies { of, groups });
    }

    /// Copies that are still kept after a view was installed.
    pub(crate) fn still_kept(&mut self, groups: BTreeSet<GroupId>) {
        if let Some(kept) = self.vacancies.kept.take() {
            self.keep_copies(kept.of, groups);
        }
    }

    pub(super) fn follow_vacancies(&mut self, cx: &mut StepContext<'_>, view: &View) {
        let groups = self.vacancies.follow(view, cx.now);
        if groups > 0 {
            cx.notice(Notice::GroupsVacant { groups });
        }
    }

    /// Which vacant groups the next planned change fills: with a joiner that kept a copy of one of their last owners; else,
    /// once all of those are proved dead or `orphanWait` is over, empty. One that a joiner claims waits for it as long.
    pub(super) fn refills(
        &self,
        now: Time,
        document: &Document,
        add: &[Member],
    ) -> BTreeMap<GroupId, Option<MemberId>> {
        let keeps =
            |id: MemberId, group, owners: &[MemberId], lasts| self.vacancies.keeps(id, group, owners, now, lasts);
        let mut refills = BTreeMap::new();
        for (&group, owners) in &document.vacant {
            if let Some(joiner) = add.iter().find(|m| keeps(m.id, group, owners, CLAIM_LASTS)) {
                refills.insert(group, Some(joiner.id));
                continue;
            }
            let claimed = self.vacancies.claims.keys().any(|id| keeps(*id, group, owners, self.timing.orphan_wait));
            // One that has released may live on in its process, and keep its copy.
            let ended = |o: &MemberId| self.dead.get(o).is_some_and(|d| d.proof != Proof::Released);
            let all_dead = owners.iter().all(ended);
            // While the registry was behind, an owner may have kept to an older view and could not come back (G-4).
            let since = self.vacancies.since.get(&group).copied().unwrap_or(now).max(self.registry.seen_behind);
            let waited = now.since(since) >= self.timing.orphan_wait || self.setup.bugs.has(Bug::LastCopiesNotAwaited);
            if all_dead && !claimed || waited {
                refills.insert(group, None);
            }
        }
        refills
    }
}
