//! What proposers saw, and whether one registry can have shown it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use sidegrid_core::document::Document;

use crate::documents::mark_of;

/// One change of the document as its proposer saw it. The text form has one line, for processes to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The revision that it made.
    pub revision: u64,
    /// The mark that it left.
    pub mark: String,
    /// The mark that it replaced.
    pub after: String,
}

impl Step {
    /// The change that makes `document`.
    #[must_use]
    pub fn to(document: &Document) -> Step {
        let (mark, after) = mark_of(document);
        Step { revision: document.revision, mark: mark.to_owned(), after: after.to_owned() }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.revision, self.mark, self.after)
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Step, String> {
        let mut parts = line.split(',');
        let (Some(revision), Some(mark), Some(after), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("not a step: {line:?}"));
        };
        let revision = revision.parse().map_err(|e| format!("{line:?}: {e}"))?;
        Ok(Step { revision, mark: mark.to_owned(), after: after.to_owned() })
    }
}

/// All changes that were tried.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Those that the registry called done.
    pub won: Vec<Step>,
    /// Those whose outcome their proposers don't know.
    pub unsure: Vec<Step>,
}

impl History {
    /// Adds what another proposer saw.
    pub fn add(&mut self, other: History) {
        self.won.extend(other.won);
        self.unsure.extend(other.unsure);
    }

    /// Checks that the changes from `first` to `last` are one chain without a gap, with one winner a revision.
    ///
    /// # Panics
    /// If they are not.
    pub fn check(&self, first: &Document, last: &Document) {
        let mut won = BTreeMap::new();
        for step in &self.won {
            if let Some(other) = won.insert(step.revision, step) {
                panic!("two winners of one revision: {other} and {step}");
            }
            assert!(
                step.revision <= last.revision,
                "an acknowledged change is gone: {step}, {} is last",
                last.revision
            );
        }
        let mut before = BTreeSet::from([mark_of(first).0]);
        for revision in first.revision + 1..=last.revision {
            let candidates: Vec<&Step> = match won.get(&revision) {
                Some(step) => vec![step],
                None => self.unsure.iter().filter(|step| step.revision == revision).collect(),
            };
            let fitting = candidates.iter().filter(|step| before.contains(step.after.as_str()));
            let marks: BTreeSet<&str> = fitting.map(|step| step.mark.as_str()).collect();
            assert!(!marks.is_empty(), "no change to revision {revision} follows {before:?}: {candidates:?}");
            before = marks;
        }
        assert!(before.contains(mark_of(last).0), "the last document is none of the last changes: {before:?}");
    }
}

#[cfg(test)]
mod tests {
    use sidegrid_core::ClusterUid;

    use super::*;
    use crate::documents::{first, next};

    fn chain() -> (Document, Document, Vec<Step>) {
        let one = first(ClusterUid(1), 1);
        let two = next(&one, "a");
        let three = next(&two, "b");
        let steps = vec![Step::to(&two), Step::to(&three)];
        (one, three, steps)
    }

    #[test]
    fn a_chain_holds_with_unsure_links_too() {
        let (one, three, steps) = chain();
        History { won: steps.clone(), unsure: Vec::new() }.check(&one, &three);
        let astray = Step { revision: 2, mark: "z".into(), after: String::new() };
        History { won: vec![steps[1].clone()], unsure: vec![astray, steps[0].clone()] }.check(&one, &three);
        assert_eq!(steps[1].to_string().parse(), Ok(steps[1].clone()));
    }

    #[test]
    #[should_panic(expected = "two winners")]
    fn two_winners_are_seen() {
        let (one, three, mut steps) = chain();
        steps.push(Step { mark: "c".into(), ..steps[1].clone() });
        History { won: steps, unsure: Vec::new() }.check(&one, &three);
    }

    #[test]
    #[should_panic(expected = "no change to revision 2")]
    fn a_gap_is_seen() {
        let (one, three, steps) = chain();
        History { won: steps[1..].to_vec(), unsure: Vec::new() }.check(&one, &three);
    }

    #[test]
    #[should_panic(expected = "is gone")]
    fn a_lost_change_is_seen() {
        let (one, _, steps) = chain();
        History { won: steps, unsure: Vec::new() }.check(&one, &one);
    }
}
