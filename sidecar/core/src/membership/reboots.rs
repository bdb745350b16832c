//! Members that are only likely to have ended, since another boot of their machine id runs (P-3).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Membership;
use crate::document::Proof;
use crate::event::Notice;
use crate::ids::MemberId;
use crate::member::{EndEvidence, Member, PlatformIdentity};
use crate::message::Message;
use crate::planted_bug::Bug;
use crate::step_context::StepContext;
use crate::time::Time;

/// A claim that is not made again for so long is void: who made it may have gone.
const CLAIM_LASTS: Duration = Duration::from_secs(2);
/// A doubled identity is reported again this often.
const REPORT_AGAIN: Duration = Duration::from_secs(60);

/// Members of the view that a joiner of another boot takes for its predecessors, and when it last said so.
#[derive(Debug, Default)]
pub(super) struct Reboots {
    claims: BTreeMap<MemberId, Time>,
    reported_at: Option<Time>,
}

impl Reboots {
    fn claim(&mut self, old: MemberId, now: Time) {
        self.claims.retain(|_, at| now.since(*at) < CLAIM_LASTS);
        self.claims.insert(old, now);
    }

    fn is_claimed(&self, member: MemberId, now: Time) -> bool {
        self.claims.get(&member).is_some_and(|at| now.since(*at) < CLAIM_LASTS)
    }

    fn report_is_due(&mut self, now: Time) -> bool {
        let due = self.reported_at.is_none_or(|at| now.since(at) >= REPORT_AGAIN);
        if due {
            self.reported_at = Some(now);
        }
        due
    }
}

impl Membership {
    /// A joiner holds its identity exclusively: what it proves, and what it only makes likely. False when it is refused,
    /// since one that it would replace still answers.
    pub(super) fn take_evidence(&mut self, cx: &mut StepContext<'_>, joiner: &Member) -> bool {
        let Some(view) = self.view.clone() else { return true };
        let departed = self.document.iter().flat_map(|d| &d.departed);
        let shown = |m: &Member| match joiner.shows_end_of(m) {
            None if cx.bug(Bug::LocksIgnored) && m.incarnation < joiner.incarnation => {
                Some((m.id, EndEvidence::Certain))
            }
            evidence => Some((m.id, evidence?)),
        };
        let ended: Vec<_> = view.members.iter().chain(departed).filter_map(shown).collect();
        let mut admitted = true;
        for (old, evidence) in ended {
            if evidence == EndEvidence::Certain || cx.bug(Bug::AnotherBootIsProof) {
                self.learn_death(cx, old, Proof::NewerIncarnation);
                continue;
            }
            let Some(member) = view.member(old).filter(|_| !self.dead.contains_key(&old)) else { continue };
            self.reboots.claim(old, cx.now);
            if self.answers_nobody(cx, old) {
                self.learn_death(cx, old, Proof::NewerIncarnation);
            } else {
                admitted = false;
                self.refuse_double(cx, joiner.id, member);
            }
        }
        admitted
    }

    /// Whether no member that could tell has had an echo of `old` for a full lease and promise. One that can't tell, being
    /// suspected here, might have: it counts as silent only when it is dead, or has a claim on it too.
    fn answers_nobody(&self, cx: &StepContext<'_>, old: MemberId) -> bool {
        let Some(view) = self.view.as_ref().filter(|_| old != cx.me) else { return false };
        let needed = self.timing.lease + self.timing.promise();
        let long = |since: Time| cx.now.since(since) >= needed;
        let silent_here = |id: MemberId| self.links.silent_since(id, &self.lease).is_some_and(long);
        let silent_to = |id: MemberId| {
            let ended = self.dead.contains_key(&id) || self.reboots.is_claimed(id, cx.now) && silent_here(id);
            ended || self.links.reported_since(id, old).is_some_and(long)
        };
        silent_here(old) && view.others(cx.me).filter(|id| *id != old).all(silent_to)
    }

    /// Says on both sides what is doubled.
    fn refuse_double(&mut self, cx: &mut StepContext<'_>, joiner: MemberId, member: &Member) {
        let PlatformIdentity::Host { machine, .. } = &member.identity else { return };
        let (name, machine) = (member.name.clone(), machine.clone());
        cx.send(joiner, Message::JoinRefused(doubled(&name, &machine)));
        if self.reboots.report_is_due(cx.now) {
            cx.notice(Notice::DoubledIdentity { name, machine });
        }
    }

    /// A joiner's own predecessors of another boot, when no member answers it who could know better: after a full lease and
    /// promise without anybody.
    pub(super) fn judge_own_predecessors(&self, now: Time, candidates: &[Member]) -> Vec<MemberId> {
        let needed = self.timing.lease + self.timing.promise();
        let alone = self.nobody_since.is_some_and(|since| now.since(since) >= needed);
        let mine = &self.setup.me;
        let counts = |m: &&Member| match mine.shows_end_of(m) {
            Some(EndEvidence::Certain) => true,
            Some(EndEvidence::AnotherBoot) => alone,
            None => false,
        };
        // The copies of the one before in this same process have not gone with it (V-9): it releases.
        let goes_on = self.setup.formerly.filter(|_| self.vacancies.kept().is_some());
        candidates.iter().filter(counts).map(|m| m.id).filter(|id| Some(*id) != goes_on).collect()
    }
}

fn doubled(name: &str, machine: &str) -> String {
    format!(
        "member.name: a member {name:?} of machine id {machine} runs and answers, on another boot than this one: give each \
         machine that was made from an image its own /etc/machine-id (empty the file in the image), or set another member.name"
    )
}
