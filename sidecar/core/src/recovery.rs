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
use crate::time::Time;

/// What the view number of a document that was made again goes on by: more than changes could have been made, unknown to
/// more than half of a view.
pub const VIEW_JUMP: u64 = 1_000;
/// What ballot and revision go on by, so that every vote and swap of before is void.
const JUMP: u64 = 1 << 20;
/// Statements kept at most; a view's members each have one.
const MAX_STATEMENTS: usize = 4_096;

/// How long a statement counts. Members make theirs again each second while the registry is behind, and keep to it for as
/// long.
pub const STATEMENT_LASTS: Duration = Duration::from_secs(5);
/// How long a member keeps to its last statement, should a peer show it a newer view: until it no longer counts anywhere,
/// its way there included.
pub const KEPT: Duration = Duration::from_secs(15);

/// What a member said last, and how often it has said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    view: ViewNumber,
    count: u64,
}

/// What members have said since the registry fell behind. A registry with several places shares it among them; it holds no
/// times, since their clocks are not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    newest: Option<Document>,
    members: BTreeMap<MemberId, Statement>,
}

/// What one place of the registry has itself observed of statements, by its own clock. Never shared, never stored: a place
/// that starts again observes anew.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    members: BTreeMap<MemberId, Observation>,
    looked: Option<Time>,
}

/// One member's last statement as this place saw it.
#[derive(Clone, Copy, Debug)]
struct Observation {
    count: u64,
    /// The statement was there at this time already.
    seen: Time,
    /// The statement was not there before this time; none: nobody here can tell how old it is.
    not_before: Option<Time>,
}

impl Observed {
    /// Looks at the shared statements. One that was made between two looks is as young as the time between them; one that
    /// was there at the first look, or that went back, may be of any age.
    pub fn look(&mut self, statements: &Statements, now: Time) {
        self.members.retain(|member, _| statements.members.contains_key(member));
        for (member, said) in &statements.members {
            let seen = self.members.get(member);
            if seen.is_some_and(|seen| seen.count == said.count) {
                continue;
            }
            let not_before = self.looked.filter(|_| seen.is_some_and(|seen| seen.count < said.count));
            self.members.insert(*member, Observation { count: said.count, seen: now, not_before });
        }
        self.looked = Some(now);
    }

    /// The member has told this place itself.
    fn heard(&mut self, member: MemberId, count: u64, now: Time) {
        self.members.insert(member, Observation { count, seen: now, not_before: Some(now) });
    }

    /// Whether the member's statement is certainly younger than what statements last.
    fn is_fresh(&self, member: MemberId, said: Statement, now: Time) -> bool {
        let same = self.members.get(&member).filter(|seen| seen.count == said.count);
        same.and_then(|seen| seen.not_before).is_some_and(|at| now.since(at) < STATEMENT_LASTS)
    }

    /// Whether the member's statement is certainly older than that.
    fn is_over(&self, member: MemberId, said: Statement, now: Time) -> bool {
        let same = self.members.get(&member).filter(|seen| seen.count == said.count);
        same.is_some_and(|seen| now.since(seen.seen) >= STATEMENT_LASTS)
    }
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

    /// Takes note that `member`, which says so to this place itself, has installed no newer view than `view` and knows
    /// `document`. `observed` has looked at these statements; `now` is the place's own clock.
    pub fn add(&mut self, observed: &mut Observed, member: MemberId, view: ViewNumber, document: &Document, now: Time) {
        if self.newest.as_ref().is_none_or(|newest| rank(newest) < rank(document)) {
            self.newest = Some(document.clone());
        }
        self.members.retain(|id, said| *id == member || !observed.is_over(*id, *said, now));
        if self.members.len() < MAX_STATEMENTS || self.members.contains_key(&member) {
            let count = self.members.get(&member).map_or(0, |said| said.count).saturating_add(1);
            self.members.insert(member, Statement { view: view.max(document.view.number), count });
            observed.heard(member, count, now);
        }
    }

    /// The document to put back, once more than half of the newest view's members have said, all within what a statement
    /// lasts, that there is none newer. None also while nobody has shown that view's document, and while the registry
    /// itself remembers a newer view than they know, `mark`: a member may serve in it.
    #[must_use]
    pub fn settled(&self, observed: &Observed, now: Time, mark: ViewNumber) -> Option<Document> {
        let newest = self.newest.as_ref().filter(|newest| newest.view.number >= mark)?;
        let knows_newer =
            |(id, said): (&MemberId, &Statement)| said.view > newest.view.number && !observed.is_over(*id, *said, now);
        if self.members.iter().any(knows_newer) {
            return None;
        }
        let has_said = |id: &MemberId| {
            let said = self.members.get(id).filter(|said| observed.is_fresh(*id, **said, now));
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
            vacant: BTreeMap::new(),
            agreed: Agreed { segments: 1, hash: HASH_RULE.into(), caches: vec![], timing: Timing::default() },
        }
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    /// A registry with one place.
    #[derive(Default)]
    struct Place {
        statements: Statements,
        observed: Observed,
    }

    impl Place {
        fn add(&mut self, member: MemberId, view: ViewNumber, document: &Document, now: Time) {
            self.statements.add(&mut self.observed, member, view, document, now);
        }

        fn settled(&self, now: Time, mark: ViewNumber) -> Option<Document> {
            self.statements.settled(&self.observed, now, mark)
        }
    }

    /// G-4: two places share what was said and not their clocks, which are an hour apart. Each counts only what it has
    /// seen being said, however old that is by its own clock.
    #[test]
    fn places_whose_clocks_differ_count_what_they_saw_being_said() {
        let known = document(&[1, 2, 3], 3);
        let mut shared = Statements::default();
        let (mut one, mut other) = (Observed::default(), Observed::default());
        let hour = 3_600;
        for second in 0..3 {
            one.look(&shared, at(hour + second));
            shared.add(&mut one, MemberId(1), known.view.number, &known, at(hour + second));
            other.look(&shared, at(second));
            let settled = shared.settled(&other, at(second), ViewNumber::NONE);
            assert!(settled.is_none(), "the second member has not said anything yet");
        }
        shared.add(&mut other, MemberId(2), known.view.number, &known, at(3));
        assert!(
            shared.settled(&other, at(3), ViewNumber::NONE).is_some(),
            "it saw the first say it, and heard the second"
        );
        assert!(shared.settled(&one, at(hour + 3), ViewNumber::NONE).is_none(), "it has not seen the second say it");
        let mut fresh = Observed::default();
        fresh.look(&shared, at(4));
        shared.add(&mut fresh, MemberId(3), known.view.number, &known, at(4));
        assert!(shared.settled(&fresh, at(4), ViewNumber::NONE).is_none(), "what it found there may be of any age");
        // Nobody says anything more: for the other, too, it counts for its time only.
        other.look(&shared, at(4));
        assert!(shared.settled(&other, at(9), ViewNumber::NONE).is_none());
    }

    /// G-4: a statement of a newer view holds all up for as long as it may be young, also at a place that found it there.
    #[test]
    fn a_newer_view_that_was_found_there_stops_all_until_it_is_certainly_over() {
        let (known, newer) = (document(&[1], 3), ViewNumber(4));
        let mut shared = Statements::default();
        shared.add(&mut Observed::default(), MemberId(7), newer, &known, at(900));
        let mut place = Observed::default();
        place.look(&shared, at(10));
        shared.add(&mut place, MemberId(1), known.view.number, &known, at(14));
        assert!(shared.settled(&place, at(14), ViewNumber::NONE).is_none());
        assert!(shared.settled(&place, at(15), ViewNumber::NONE).is_some());
    }

    /// G-4: more than half of the newest view, whether or not each has its document.
    #[test]
    fn more_than_half_of_the_newest_view_make_it_again_under_a_number_of_its_own() {
        let (old, new) = (document(&[1, 2, 3], 4), document(&[1, 2, 3], 5));
        let mut said = Place::default();
        said.add(MemberId(1), old.view.number, &new, at(0));
        assert_eq!(said.settled(at(0), ViewNumber::NONE), None);
        // Of an older view, of no member, and the same again: none makes it more.
        said.add(MemberId(2), old.view.number, &old, at(0));
        said.add(MemberId(9), new.view.number, &new, at(0));
        said.add(MemberId(1), new.view.number, &new, at(0));
        assert_eq!(said.settled(at(0), ViewNumber::NONE), None);
        // It has the view from a peer, without its document.
        said.add(MemberId(2), new.view.number, &old, at(0));
        let made = said.settled(at(0), ViewNumber::NONE).expect("two of three");
        assert_eq!(made.view.number.0, 5 + VIEW_JUMP);
        assert_eq!((&made.view.members, &made.view.groups), (&new.view.members, &new.view.groups));
        assert_eq!(made.unsealed.last().map(|u| u.number), Some(new.view.number));
        assert_eq!(said.settled(at(0), new.view.number.next()), None, "the registry remembers a newer one");
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
        let mut said = Place::default();
        said.add(MemberId(1), two.view.number, &two, at(0));
        assert_eq!(said.settled(at(0), ViewNumber::NONE), None);
        said.add(MemberId(2), two.view.number, &two, at(0));
        assert!(said.settled(at(0), ViewNumber::NONE).is_some());
        said.add(MemberId(7), ViewNumber(4), &two, at(0));
        assert_eq!(said.settled(at(0), ViewNumber::NONE), None);
    }

    #[test]
    fn what_was_said_long_ago_does_not_count() {
        let known = document(&[1, 2, 3], 3);
        let mut said = Place::default();
        said.add(MemberId(1), known.view.number, &known, at(0));
        said.add(MemberId(2), known.view.number, &known, at(5));
        assert_eq!(said.settled(at(5), ViewNumber::NONE), None);
        said.add(MemberId(1), known.view.number, &known, at(6));
        assert!(said.settled(at(6), ViewNumber::NONE).is_some());
        assert_eq!(said.settled(at(15), ViewNumber::NONE), None);
    }

    #[test]
    fn it_is_bounded() {
        let known = document(&[1], 1);
        let mut said = Place::default();
        for id in 0..2 * MAX_STATEMENTS as u64 {
            said.add(MemberId(id), known.view.number, &known, at(0));
        }
        assert_eq!(said.statements.members.len(), MAX_STATEMENTS);
    }
}
