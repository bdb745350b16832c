//! How a document that was lost, or put back to an older version, is made again from what members know (G-4). Pure; for
//! registries that can gather their word.
//!
//! The danger is a newer view that some have installed and the registry has forgotten: what is made again must not stand
//! beside it. So
//! - more than half of a view's members must say, all within a short while, that they know of none newer;
//! - who has said so installs none that a peer shows until the registry is mended, or, having stopped saying so, until what
//!   it said no longer counts (a newer view could not be served in without some of them);
//! - what is made again is a view of its own, with the same members and placement and a number that nobody else has given;
//! - the registry marks the newest view apart from the document, before it tells anybody of that view. What members say
//!   covers the loss of the mark too, for most changes of a view, but not for all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::{Document, FORMAT, UnsealedView};
use crate::ids::{MemberId, ViewNumber};

/// What the view number of a document that was made again goes on by: more than changes could have been made, unknown to
/// more than half of a view.
pub const VIEW_JUMP: u64 = 1_000;
/// What ballot and revision go on by, so that every vote and swap of before is void.
const JUMP: u64 = 1 << 20;
/// Statements kept at most; a view's members each have one.
const MAX_STATEMENTS: usize = 4_096;

/// When a statement was made, in milliseconds of the registry's clock.
pub type Millis = u64;

/// How long a statement counts. Members make theirs again each second while the registry is behind, and keep to it for as
/// long.
pub const STATEMENT_LASTS: Millis = 5_000;
/// How long a member keeps to its last statement, should a peer show it a newer view: until it no longer counts anywhere,
/// its way there included.
pub const KEPT: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    view: ViewNumber,
    at: Millis,
}

impl Statement {
    /// Also a time ahead of ours does not make it last longer: places of a registry have clocks of their own.
    const fn is_fresh(&self, now: Millis) -> bool {
        now.abs_diff(self.at) < STATEMENT_LASTS
    }
}

/// What members have said since the registry fell behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    newest: Option<Document>,
    members: BTreeMap<MemberId, Statement>,
}

/// Order of a cluster's documents.
#[must_use]
pub fn rank(document: &Document) -> (ViewNumber, u64, u64) {
    (document.view.number, document.ballot, document.revision)
}

/// Whether a registry that holds `stored` is behind a member that knows of `view` and `document`. Within one view the
/// revision alone tells, as for members (G-3): what was put back may have gone on with ballots of its own.
#[must_use]
pub fn is_behind(stored: Option<&Document>, view: ViewNumber, document: &Document) -> bool {
    let older = |stored: &Document| {
        let same_view = stored.view.number == document.view.number;
        stored.view.number < view || rank(stored) < rank(document) || same_view && stored.revision < document.revision
    };
    stored.is_none_or(older)
}

/// What to put in the place of a document that was put back within the newest view, by the word of a single member: no
/// view comes of it, and nobody's role changes. What was proved since is kept, and every vote and swap of before is void.
#[must_use]
pub fn caught_up(stored: &Document, view: ViewNumber, document: &Document) -> Option<Document> {
    let within = view == stored.view.number && document.view == stored.view;
    if !within || !is_behind(Some(stored), view, document) {
        return None;
    }
    let mut next = document.clone();
    for (member, proof) in &stored.proofs {
        next.proofs.entry(*member).or_insert(*proof);
    }
    (next.ballot, next.revision) = (document.ballot.max(stored.ballot), document.revision.max(stored.revision));
    beyond_all(next)
}

impl Statements {
    /// The newest document that was shown.
    #[must_use]
    pub fn newest(&self) -> Option<&Document> {
        self.newest.as_ref()
    }

    /// Takes note that `member` has installed no newer view than `view`, and knows `document`.
    pub fn add(&mut self, member: MemberId, view: ViewNumber, document: &Document, now: Millis) {
        if self.newest.as_ref().is_none_or(|newest| rank(newest) < rank(document)) {
            self.newest = Some(document.clone());
        }
        self.members.retain(|_, said| said.is_fresh(now));
        if self.members.len() < MAX_STATEMENTS || self.members.contains_key(&member) {
            self.members.insert(member, Statement { view: view.max(document.view.number), at: now });
        }
    }

    /// The document to put back, once more than half of the newest view's members have said that there is none newer.
    /// None also while nobody has shown that view's document, and while the registry itself remembers a newer view than
    /// they know, `mark`: somebody may serve in it.
    #[must_use]
    pub fn settled(&self, now: Millis, mark: ViewNumber) -> Option<Document> {
        let newest = self.newest.as_ref().filter(|newest| newest.view.number >= mark)?;
        if self.members.values().any(|said| said.view > newest.view.number) {
            return None;
        }
        let has_said = |id: &MemberId| {
            let said = self.members.get(id).filter(|said| said.is_fresh(now));
            said.is_some_and(|said| said.view == newest.view.number)
        };
        let count = newest.view.ids().filter(has_said).count();
        if count * 2 <= newest.view.members.len() {
            return None;
        }
        restored(newest)
    }
}

/// The same view under a new number: its owners, fillings and the owners it dropped are as they were, so that whoever
/// had not installed the old one takes the same steps in the new one. The old one counts as unsealed.
fn restored(newest: &Document) -> Option<Document> {
    let mut next = newest.clone();
    let members = newest.view.ids().collect();
    next.unsealed.push(UnsealedView { number: newest.view.number, members });
    next.view.number = ViewNumber(newest.view.number.0.checked_add(VIEW_JUMP)?);
    beyond_all(next)
}

/// Moves ballot and revision on, so that every vote and swap of before is void.
fn beyond_all(mut next: Document) -> Option<Document> {
    next.format = FORMAT;
    next.ballot = next.ballot.checked_add(JUMP)?;
    next.revision = next.revision.checked_add(JUMP)?;
    Some(next)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::document::{Agreed, HASH_RULE, Proof, Timing};
    use crate::ids::ClusterUid;
    use crate::member::{Locality, Member, PlatformIdentity};
    use crate::view::View;

    fn member(id: u64) -> Member {
        Member {
            id: MemberId(id),
            name: format!("n{id}"),
            identity: PlatformIdentity::Host { machine: "m".into(), boot: "b".into(), lock: format!("{id}") },
            incarnation: id,
            data_address: ([127, 0, 0, 1], 1).into(),
            failure_detection_address: ([127, 0, 0, 1], 2).into(),
            locality: Locality::default(),
            protocols: (1, 1),
            joined: id,
        }
    }

    fn document(members: &[u64], view: u64) -> Document {
        let members = members.iter().copied().map(member).collect();
        let number = ViewNumber(view);
        Document {
            format: FORMAT,
            cluster: ClusterUid(1),
            revision: view * 10,
            ballot: 3,
            view: View { number, members, classes: vec![], segments: 1, groups: vec![], next_joined: 9 },
            unsealed: vec![],
            departed: vec![],
            proofs: BTreeMap::new(),
            agreed: Agreed { segments: 1, hash: HASH_RULE.into(), caches: vec![], timing: Timing::default() },
        }
    }

    /// G-4: more than half of the newest view, whether or not each has its document.
    #[test]
    fn more_than_half_of_the_newest_view_make_it_again_under_a_number_of_its_own() {
        let (old, new) = (document(&[1, 2, 3], 4), document(&[1, 2, 3], 5));
        let mut said = Statements::default();
        said.add(MemberId(1), old.view.number, &new, 0);
        assert_eq!(said.settled(0, ViewNumber::NONE), None);
        // Of an older view, a stranger, and the same again: none makes it more.
        said.add(MemberId(2), old.view.number, &old, 0);
        said.add(MemberId(9), new.view.number, &new, 0);
        said.add(MemberId(1), new.view.number, &new, 0);
        assert_eq!(said.settled(0, ViewNumber::NONE), None);
        // It has the view from a peer, without its document.
        said.add(MemberId(2), new.view.number, &old, 0);
        let made = said.settled(0, ViewNumber::NONE).expect("two of three");
        assert_eq!(made.view.number.0, 5 + VIEW_JUMP);
        assert_eq!((&made.view.members, &made.view.groups), (&new.view.members, &new.view.groups));
        assert_eq!(made.unsealed.last().map(|u| u.number), Some(new.view.number));
        assert_eq!(said.settled(0, new.view.number.next()), None, "the registry remembers a newer one");
        assert!(rank(&made) > rank(&new) && made.revision > new.revision + 1 && made.ballot > new.ballot + 1);
        assert!(is_behind(Some(&new), made.view.number, &old) && is_behind(None, ViewNumber(1), &old));
        assert!(!is_behind(Some(&made), new.view.number, &new));
    }

    #[test]
    fn a_document_that_was_put_back_within_its_view_is_mended_by_one_members_word() {
        let mut known = document(&[1, 2, 3], 4);
        let mut stored = known.clone();
        known.revision += 5;
        known.proofs.insert(MemberId(2), Proof::Released);
        // It went on after it was put back, with a ballot and a proof of its own.
        (stored.revision, stored.ballot) = (stored.revision + 1, known.ballot + 2);
        stored.proofs.insert(MemberId(3), Proof::Platform);
        let next = caught_up(&stored, known.view.number, &known).expect("it is behind");
        assert_eq!(next.view, known.view);
        assert_eq!(next.proofs.len(), 2);
        assert!(next.revision > known.revision + 1 && next.ballot > stored.ballot + 1);
        assert!(!is_behind(Some(&next), known.view.number, &known));
        assert_eq!(caught_up(&next, known.view.number, &known), None);
        assert_eq!(caught_up(&stored, known.view.number.next(), &known), None, "it knows of a newer view");
        assert_eq!(caught_up(&document(&[1, 2], 4), known.view.number, &known), None, "another view of that number");
        assert_eq!(caught_up(&document(&[1, 2, 3], 3), known.view.number, &known), None, "put back to an older view");
    }

    #[test]
    fn half_is_not_enough_and_a_newer_view_that_nobody_can_show_stops_all() {
        let two = document(&[1, 2], 3);
        let mut said = Statements::default();
        said.add(MemberId(1), two.view.number, &two, 0);
        assert_eq!(said.settled(0, ViewNumber::NONE), None);
        said.add(MemberId(2), two.view.number, &two, 0);
        assert!(said.settled(0, ViewNumber::NONE).is_some());
        said.add(MemberId(7), ViewNumber(4), &two, 0);
        assert_eq!(said.settled(0, ViewNumber::NONE), None);
    }

    #[test]
    fn what_was_said_long_ago_does_not_count() {
        let known = document(&[1, 2, 3], 3);
        let mut said = Statements::default();
        said.add(MemberId(1), known.view.number, &known, 0);
        said.add(MemberId(2), known.view.number, &known, STATEMENT_LASTS);
        assert_eq!(said.settled(STATEMENT_LASTS, ViewNumber::NONE), None);
        said.add(MemberId(1), known.view.number, &known, STATEMENT_LASTS + 1);
        assert!(said.settled(STATEMENT_LASTS + 1, ViewNumber::NONE).is_some());
        assert_eq!(said.settled(3 * STATEMENT_LASTS, ViewNumber::NONE), None);
    }

    #[test]
    fn it_is_bounded() {
        let known = document(&[1], 1);
        let mut said = Statements::default();
        for id in 0..2 * MAX_STATEMENTS as u64 {
            said.add(MemberId(id), known.view.number, &known, 0);
        }
        assert_eq!(said.members.len(), MAX_STATEMENTS);
    }
}
