//! Conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Seen, State, count, expected, in_view, is_finished, is_injected, missing};
use crate::crd::CacheClusterStatus;
use crate::names::SETTINGS_ANNOTATION;
use crate::reason::reasons;

reasons! {
    /// Reasons of conditions; one may be of several.
    ConditionReason {
        /// Every member is in the view.
        AllMembersJoined,
        /// No pod is to be a member.
        NoMembers,
        /// Some are not in the view, or out of reach.
        MembersMissing,
        /// The document can't be told.
        DocumentUnknown,
        /// Sidecars would refuse the settings.
        InvalidSettings,
        /// A name that is needed belongs to somebody else.
        NameTaken,
        /// The settings could not be given to pods.
        SettingsUnavailable,
        /// The CacheCluster is being deleted, and pods still run.
        Deleting,
        /// Segments have too few copies.
        UnderReplicated,
        /// All of them have theirs.
        FullyReplicated,
        /// Copies of segments are being filled.
        CopiesBeingFilled,
        /// None is.
        Settled,
        /// Members are certified.
        AuthorityReady,
        /// They can't be.
        AuthorityUnavailable,
        /// Every labelled pod has the sidecar.
        AllInjected,
        /// One has not.
        PodsMissed,
        /// The webhook configuration is not there.
        WebhookMissing,
        /// It does not hold the operator's authority.
        WebhookUntrusted,
        /// Evictions are guarded.
        Guarded,
        /// Another budget selects the pods.
        OtherBudget,
        /// The API server did not do what was asked.
        Unavailable,
        /// Every pod was made with the present settings.
        AllCurrent,
        /// Some were made with others.
        PodsOutdated,
        /// No member has joined yet.
        NoView,
    }
}

/// Whether what a condition says holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It does.
    True,
    /// It doesn't.
    False,
    /// Nothing has been observed that says.
    Unknown,
}

impl Truth {
    /// As in a condition's `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// What a condition says: whether it holds, a word, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Whether it holds.
    pub truth: Truth,
    /// A stable word.
    pub reason: ConditionReason,
    /// What is the case, and what to do when something is wrong.
    pub message: String,
}

impl Fact {
    /// It holds.
    #[must_use]
    pub fn yes(reason: ConditionReason, message: impl Into<String>) -> Fact {
        Fact { truth: Truth::True, reason, message: message.into() }
    }

    /// It doesn't.
    #[must_use]
    pub fn no(reason: ConditionReason, message: impl Into<String>) -> Fact {
        Fact { truth: Truth::False, reason, message: message.into() }
    }

    /// Nobody knows yet.
    #[must_use]
    pub fn unknown(reason: ConditionReason, message: impl Into<String>) -> Fact {
        Fact { truth: Truth::Unknown, reason, message: message.into() }
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
        ("Rebalancing", self::rebalancing(seen, rebalancing)),
        ("CertificatesReady", seen.certificates.clone()),
        ("InjectionReady", injection(seen, status)),
        ("SettingsCurrent", settings_current(seen)),
        ("EvictionGuarded", seen.guard.clone()),
    ];
    let generation = seen.cluster.metadata.generation;
    facts.into_iter().map(|(kind, fact)| condition(kind, fact, generation, before, now)).collect()
}

fn condition(kind: &str, fact: Fact, generation: Option<i64>, before: &[Condition], now: Timestamp) -> Condition {
    let status = fact.truth.as_str();
    let same = before.iter().find(|c| c.type_ == kind && c.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.word().to_owned(),
        message: fact.message,
        observed_generation: generation,
        last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
    }
}

fn ready(seen: &Seen<'_>, status: &CacheClusterStatus) -> Fact {
    let (inside, expected) = (in_view(&status.members), expected(&status.members));
    if is_being_deleted(seen) {
        let says = format!(
            "it is being deleted and goes with its last pod; {inside} of {expected} members are in the view. Scale their \
             workloads down or take the label off them, which can't replace a pod from now on; to keep the cache, make the \
             CacheCluster anew once it has gone"
        );
        return Fact::no(ConditionReason::Deleting, says);
    }
    if let Some(fault) = &seen.settings_fault {
        return fault.clone();
    }
    if let Some(fault) = &seen.document_fault {
        return Fact::no(ConditionReason::DocumentUnknown, fault.clone());
    }
    if expected == 0 {
        let label = crate::names::CLUSTER_LABEL;
        let name = seen.cluster.metadata.name.as_deref().unwrap_or_default();
        return Fact::no(
            ConditionReason::NoMembers,
            format!(
                "there is no pod with the label {label}: {name}. Put it on the pods of a workload of this namespace \
                 (spec.template.metadata.labels). Where it is there already, pods were asked for and none came to be: the \
                 events of the ReplicaSet, StatefulSet or Job say why; for a quota or limit range set \
                 spec.sidecar.resources here"
            ),
        );
    }
    if inside < expected {
        let why = missing::told(&status.members, seen.pods);
        let why = if why.is_empty() { why } else { format!(": {why}") };
        let says = format!("{inside} of {expected} members are in the view{why}");
        return Fact::no(ConditionReason::MembersMissing, says);
    }
    Fact::yes(ConditionReason::AllMembersJoined, format!("all {inside} members are in view {}", status.view))
}

fn degraded(seen: &Seen<'_>, status: &CacheClusterStatus) -> Fact {
    if let Some(fault) = &seen.document_fault {
        return Fact::yes(
            ConditionReason::DocumentUnknown,
            format!("the grid serves on, but its view can't change: {fault}"),
        );
    }
    let gone = count(&status.members, State::Unreachable);
    if gone > 0 {
        return Fact::yes(
            ConditionReason::MembersMissing,
            format!("{gone} members of the view do not run, are not ready, or are out of reach"),
        );
    }
    if seen.document.is_none() {
        return no_view();
    }
    let segments = status.segments;
    if segments.under_replicated > 0 {
        let (under, total) = (segments.under_replicated, segments.total);
        let why = "more members, or their filling, are waited for";
        return Fact::yes(
            ConditionReason::UnderReplicated,
            format!("{under} of {total} segments have too few copies; {why}"),
        );
    }
    Fact::no(ConditionReason::FullyReplicated, "every segment has all its copies")
}

/// Before the first member there is nothing to observe.
fn no_view() -> Fact {
    Fact::unknown(ConditionReason::NoView, "no member has joined yet")
}

fn rebalancing(seen: &Seen<'_>, is: bool) -> Fact {
    if seen.document.is_none() {
        return match &seen.document_fault {
            Some(fault) => Fact::unknown(ConditionReason::DocumentUnknown, fault.clone()),
            None => no_view(),
        };
    }
    if is {
        Fact::yes(ConditionReason::CopiesBeingFilled, "copies of segments are being filled")
    } else {
        Fact::no(ConditionReason::Settled, "no copy is being filled")
    }
}

fn is_being_deleted(seen: &Seen<'_>) -> bool {
    seen.cluster.metadata.deletion_timestamp.is_some()
}

fn injection(seen: &Seen<'_>, status: &CacheClusterStatus) -> Fact {
    if is_being_deleted(seen) {
        return Fact::no(ConditionReason::Deleting, "it is being deleted: new pods with its label are refused");
    }
    // First: a pod that is made anew meanwhile would be missed again.
    if let Some(fault) = &seen.webhook_fault {
        return fault.clone();
    }
    let missed: Vec<&str> =
        status.members.iter().filter(|m| m.state == State::NotInjected.word()).map(|m| m.name.as_str()).collect();
    match missed.first() {
        None => Fact::yes(ConditionReason::AllInjected, "every labelled pod has the sidecar"),
        Some(first) => Fact::no(
            ConditionReason::PodsMissed,
            format!(
                "{} labelled pods have no sidecar, {first} for one; delete them to have them made anew",
                missed.len()
            ),
        ),
    }
}

/// Whether pods run with what the spec says now: it reaches a pod when it is made. One that an older operator injected
/// doesn't say what it was made with, and counts as made with something else: to trust it could hide a change.
fn settings_current(seen: &Seen<'_>) -> Fact {
    let present = crate::settings::digest(&seen.cluster.spec);
    // Pods on their way out are what a restart of the workload makes of them.
    let pods = seen.pods.iter().filter(|pod| is_injected(pod) && !is_finished(pod));
    let staying = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let made_with = staying.map(|pod| pod.metadata.annotations.as_ref()?.get(SETTINGS_ANNOTATION));
    let (all, outdated) = made_with.fold((0_usize, 0_usize), |(all, outdated), digest| {
        (all + 1, outdated + usize::from(digest != Some(&present)))
    });
    if outdated == 0 {
        return Fact::yes(ConditionReason::AllCurrent, "every pod was made with the present settings");
    }
    // Pods that go while it is being deleted don't come back.
    let remedy =
        if is_being_deleted(seen) { "" } else { ": restart their workload, for example with kubectl rollout restart" };
    let says = format!("{outdated} of {all} pods were made before the present settings{remedy}");
    Fact::no(ConditionReason::PodsOutdated, says)
}
