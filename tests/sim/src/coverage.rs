//! Which rules of `docs/PROTOCOL.md` a run has exercised: counted where the world sees a rule at work.

use std::collections::BTreeMap;

use sidegrid_core::document::{Document, Proof};
use sidegrid_core::event::{Effect, Notice, RegistryAnswer, RegistryCall};
use sidegrid_core::message::{Message, WriteBody};
use sidegrid_core::operation::{Applied, Refusal, RefusalReason};
use sidegrid_core::view::View;
use sidegrid_core::{GroupId, MemberId, Version};

use crate::queue::Fate;

/// All rules, in the order of the document.
pub(crate) const RULES: [&str; 58] = [
    "L-1", "L-2", "L-3", "L-4", "L-5", "L-6", "V-1", "V-2", "V-3", "V-4", "V-5", "V-6", "V-7", "V-8", "V-9", "V-10",
    "V-11", "S-1", "S-2", "P-1", "P-3", "P-2", "C-1", "C-2", "C-3", "C-4", "C-5", "C-6", "C-7", "C-8", "D-1", "W-1",
    "W-2", "W-3", "W-4", "W-5", "O-1", "O-2", "O-3", "O-4", "R-1", "R-2", "M-1", "M-2", "T-1", "T-2", "E-1", "E-2",
    "E-3", "E-4", "G-1", "G-2", "G-3", "G-4", "G-5", "A-1", "B-1", "F-1",
];

/// How often each rule was seen at work.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    counts: [u64; RULES.len()],
    /// The newest write that was sent of each group, from whom to whom.
    sent: BTreeMap<(MemberId, MemberId, GroupId), Version>,
    /// Of what happens all the time, by [`Often`].
    often: [u64; OFTEN.len()],
}

/// What happens too often for a search by name.
#[derive(Clone, Copy, Debug)]
enum Often {
    Frame,
    PingAnswered,
    PingOfOtherView,
    Replicate,
    Replicated,
}

const OFTEN: [&str; 5] = ["F-1", "L-3", "L-2", "W-4", "W-1"];

impl Default for Coverage {
    fn default() -> Self {
        Coverage { counts: [0; RULES.len()], sent: BTreeMap::new(), often: [0; OFTEN.len()] }
    }
}

impl Coverage {
    /// Counts a rule.
    pub(crate) fn hit(&mut self, rule: &'static str) {
        if let Some(index) = RULES.iter().position(|r| *r == rule) {
            self.counts[index] += 1;
        }
    }

    fn hits(&mut self, rules: &[&'static str]) {
        for rule in rules {
            self.hit(rule);
        }
    }

    /// Adds another run's counts.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (count, more) in self.often.iter_mut().zip(other.often) {
            *count += more;
        }
    }

    fn often(&mut self, what: Often) {
        self.often[what as usize] += 1;
    }

    /// Each rule with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        RULES.iter().zip(self.counts).map(|(rule, count)| {
            let often = OFTEN.iter().zip(self.often).filter(|(other, _)| *other == rule).map(|(_, count)| count);
            (*rule, count + often.sum::<u64>())
        })
    }

    /// What an effect shows.
    pub(crate) fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::PingNow => self.hit("L-6"),
            Effect::Registry { request: RegistryCall::Read, .. } => self.hit("V-7"),
            Effect::JoinRefused(_) => self.hit("C-8"),
            Effect::Left => self.hits(&["C-3", "C-4"]),
            Effect::Notice(notice) => self.notice(notice),
            _ => {}
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::LeaseLost | Notice::LeaseGained => self.hit("L-1"),
            Notice::Voted { .. } => self.hits(&["V-1", "V-2"]),
            Notice::VotesVoided => self.hit("V-4"),
            Notice::ProvedDead { .. } => self.hit("P-1"),
            Notice::ExclusionWaits { .. } => self.hit("V-5"),
            Notice::GroupsVacant { .. } | Notice::GroupsLost { .. } => self.hit("V-9"),
            Notice::Promoted { resent, .. } => self.hits(if *resent > 0 { &["M-1", "M-2"] } else { &["M-2"] }),
            Notice::Transferred { .. } => self.hit("T-1"),
            Notice::Removed { .. } => self.hits(&["E-1", "E-2"]),
            Notice::RegistryBehind => self.hit("G-3"),
            Notice::RegistryFailed => self.hit("G-2"),
            _ => {}
        }
    }

    /// A write that went out before goes out again, for one of the reasons that there are.
    fn replicated(&mut self, from: MemberId, to: MemberId, group: GroupId, newest: Version) {
        let before = self.sent.entry((from, to, group)).or_insert(Version::ZERO);
        let again = newest <= *before;
        *before = newest.max(*before);
        if again {
            self.hit("W-5");
        }
    }

    /// What a message on its way shows.
    pub(crate) fn message(&mut self, from: MemberId, to: MemberId, message: &Message) {
        self.often(Often::Frame);
        match message {
            Message::VoteRequest { round, .. } if *round > 1 => self.hits(&["V-3", "V-10"]),
            Message::VoteRequest { .. } => self.hit("V-10"),
            Message::Vote { promises, .. } if promises.iter().any(|p| !p.1.is_zero()) => self.hits(&["L-3", "V-6"]),
            Message::VoteRelease { .. } => self.hit("V-4"),
            Message::Join { .. } | Message::Reached(_) => self.hit("C-8"),
            Message::LeaveGranted { .. } => self.hit("C-5"),
            Message::Stopped => self.hit("C-3"),
            Message::Released(_) => self.hit("C-4"),
            Message::ViewRequest => self.hit("W-2"),
            Message::Replicate { group, writes, .. } => {
                self.often(Often::Replicate);
                if let Some(newest) = writes.iter().map(|w| w.version).max() {
                    self.replicated(from, to, *group, newest);
                }
                if writes.iter().any(|w| matches!(w.body, WriteBody::Tombstone)) {
                    self.hit("W-3");
                }
            }
            Message::Replicated { .. } => self.often(Often::Replicated),
            Message::Collected { writes, .. } if !writes.is_empty() => self.hit("M-1"),
            Message::Part { .. } => self.hit("T-1"),
            Message::PullRefused { .. } => self.hit("T-2"),
            Message::Evict(_) => self.hit("E-3"),
            Message::Full(caches) if !caches.is_empty() => self.hit("E-4"),
            Message::Suspects(_) => self.hit("V-11"),
            Message::Forwarded { result: Err(_), .. } => self.hit("O-2"),
            Message::Forward { operation, .. } if operation.idempotency.is_some() => self.hit("O-1"),
            _ => {}
        }
    }

    /// What a refusal that reaches an app shows.
    pub(crate) fn refusal(&mut self, refusal: &Refusal) {
        if refusal.applied == Applied::No {
            self.hit("O-3");
        }
        match refusal.reason {
            RefusalReason::NoLease => self.hit("L-5"),
            RefusalReason::Overloaded => self.hit("B-1"),
            RefusalReason::UnknownOperation => self.hits(&["O-1", "O-4"]),
            RefusalReason::ResultsFull | RefusalReason::IdempotencyMismatch => self.hit("O-4"),
            _ => {}
        }
    }

    /// What the treatment of a ping shows.
    pub(crate) fn ping(&mut self, same_view: bool, answered: bool, wedged: bool) {
        match (same_view, answered) {
            (_, true) => self.often(Often::PingAnswered),
            (false, false) => self.often(Often::PingOfOtherView),
            (true, false) if wedged => self.hit("L-4"),
            (true, false) => self.hit("V-2"),
        }
    }

    /// What a registry's answer shows.
    pub(crate) fn registry(&mut self, answer: &RegistryAnswer, fate: Fate) {
        if matches!(answer, RegistryAnswer::Conflict(_)) {
            self.hit("G-1");
        }
        if fate != Fate::Comes {
            self.hit("G-2");
        }
    }

    /// What a change of the document shows.
    pub(crate) fn change(&mut self, before: &Document, after: &Document) {
        let (old, new) = (&before.view, &after.view);
        if !after.unsealed.is_empty() {
            self.hit("S-1");
        }
        if after.unsealed.len() < before.unsealed.len() {
            self.hit("S-2");
        }
        if after.ballot != before.ballot && old.number == new.number {
            self.hit("V-4");
        }
        let proved = |id| before.proofs.get(&id).or_else(|| after.proofs.get(&id));
        let gone: Vec<_> = old.ids().filter(|id| !new.contains(*id)).collect();
        let joined = new.ids().filter(|id| !old.contains(*id)).count();
        if joined > 1 {
            self.hit("C-2");
        }
        if gone.iter().any(|id| proved(*id).is_some_and(|p| *p != Proof::Released)) {
            self.hit("P-2");
        }
        if gone.iter().any(|id| proved(*id).is_none()) {
            self.hits(&["V-5", "V-6"]);
        }
        if gone.is_empty() && old.number != new.number {
            self.hit("C-1");
            self.planned(old, new);
        }
        if old.groups.len() == new.groups.len() && new.group_ids().any(|g| filled_by_another(old, new, g)) {
            self.hit("T-2");
        }
        if !old.members.is_empty() && gone.len() == old.members.len() {
            self.hit("C-7");
        }
        if old.number != new.number && new.members.len() > 1 {
            self.hit("A-1");
        }
    }

    fn planned(&mut self, old: &View, new: &View) {
        if new.groups.len() != old.groups.len() {
            return;
        }
        let moved = new.group_ids().any(|g| new.primary(g) != old.primary(g));
        if moved {
            self.hit("C-6");
        }
        if new.group_ids().any(|g| !new.placement(g).dropped.is_empty()) {
            self.hit("D-1");
        }
    }
}

/// Whether a copy that was being filled goes on being filled, by another primary.
fn filled_by_another(old: &View, new: &View, group: GroupId) -> bool {
    let before = old.incoming(group);
    old.primary(group) != new.primary(group) && new.incoming(group).iter().any(|i| before.contains(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table's rules are the document's rules, one for one.
    #[test]
    fn the_table_holds_every_rule_of_the_protocol() {
        let text = include_str!("../../../docs/PROTOCOL.md");
        let documented: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
            .filter(|id| id.split_once('-').is_some_and(|(a, b)| a.len() == 1 && b.parse::<u8>().is_ok()))
            .collect();
        assert_eq!(documented, RULES);
    }
}
