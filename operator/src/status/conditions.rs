//! Conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Seen, State, count, expected, in_view};
use crate::crd::CacheClusterStatus;

/// What a condition says: whether it holds, a word, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Whether it holds.
    pub holds: bool,
    /// A stable word.
    pub reason: &'static str,
    /// What is the case, and what to do when something is wrong.
    pub message: String,
}

impl Fact {
    /// It holds.
    #[must_use]
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Fact {
        Fact { holds: true, reason, message: message.into() }
    }

    /// It doesn't.
    #[must_use]
    pub fn no(reason: &'static str, message: impl Into<String>) -> Fact {
        Fact { holds: false, reason, message: message.into() }
    }
}

pub(super) fn conditions(
    seen: &Seen<'_>,
    status: &CacheClusterStatus,
    rebalancing: bool,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let facts = [
        ("Ready", ready(seen, status)),
        ("Degraded", degraded(seen, status)),
        ("Rebalancing", self::rebalancing(rebalancing)),
        ("CertificatesReady", seen.certificates.clone()),
        ("InjectionReady", injection(status)),
        ("EvictionGuarded", seen.guard.clone()),
    ];
    let generation = seen.cluster.metadata.generation;
    facts.into_iter().map(|(kind, fact)| condition(kind, fact, generation, before, now)).collect()
}

fn condition(kind: &str, fact: Fact, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Condition {
    let status = if fact.holds { "True" } else { "False" };
    let same = before.iter().find(|c| c.type_ == kind && c.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.to_owned(),
        message: fact.message,
        observed_generation: generation,
        last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
    }
}

fn ready(seen: &Seen<'_>, status: &CacheClusterStatus) -> Fact {
    if !seen.settings.holds {
        return seen.settings.clone();
    }
    if let Some(fault) = &seen.document_fault {
        return Fact::no("DocumentUnknown", fault.clone());
    }
    let (inside, expected) = (in_view(&status.members), expected(&status.members));
    if expected == 0 {
        let label = crate::names::CLUSTER_LABEL;
        let name = seen.cluster.metadata.name.as_deref().unwrap_or_default();
        return Fact::no("NoMembers", format!("no pod is a member; label pods of this namespace with {label}: {name}"));
    }
    if inside < expected {
        return Fact::no("MembersMissing", format!("{inside} of {expected} members are in the view"));
    }
    Fact::yes("AllMembersJoined", format!("all {inside} members are in view {}", status.view))
}

fn degraded(seen: &Seen<'_>, status: &CacheClusterStatus) -> Fact {
    if let Some(fault) = &seen.document_fault {
        return Fact::yes("DocumentUnknown", format!("the grid serves on, but its view can't change: {fault}"));
    }
    let gone = count(&status.members, State::Unreachable);
    if gone > 0 {
        return Fact::yes(
            "MembersMissing",
            format!("{gone} members of the view do not run, are not ready, or are out of reach"),
        );
    }
    let segments = status.segments;
    if segments.under_replicated > 0 {
        let (under, total) = (segments.under_replicated, segments.total);
        let why = "more members, or their filling, are waited for";
        return Fact::yes("UnderReplicated", format!("{under} of {total} segments have too few copies; {why}"));
    }
    Fact::no("FullyReplicated", "every segment has all its copies")
}

fn rebalancing(is: bool) -> Fact {
    if is {
        Fact::yes("CopiesBeingFilled", "copies of segments are being filled")
    } else {
        Fact::no("Settled", "no copy is being filled")
    }
}

fn injection(status: &CacheClusterStatus) -> Fact {
    let missed: Vec<&str> =
        status.members.iter().filter(|m| m.state == State::NotInjected.word()).map(|m| m.name.as_str()).collect();
    match missed.first() {
        None => Fact::yes("AllInjected", "every labelled pod has the sidecar"),
        Some(first) => Fact::no(
            "PodsMissed",
            format!(
                "{} labelled pods have no sidecar, {first} for one; delete them to have them made anew",
                missed.len()
            ),
        ),
    }
}
