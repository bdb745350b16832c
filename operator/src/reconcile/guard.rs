//! The eviction guard: a PodDisruptionBudget that the operator keeps up to date.
//!
//! Its number follows the pods that Kubernetes counts as healthy, so that one eviction is let through as soon as the one
//! before has been made up for. It rises at once and falls when the grid has shown that it can do with fewer members:
//! soon when each is in the view and every copy is filled, late otherwise. So neither a pod whose replacement is on its
//! way nor one that never serves holds it for long.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::core::{Selector, SelectorExt};
use sidegrid_core::document::Document;

use crate::names::{CLUSTER_LABEL, ROLE_LABEL};
use crate::status::{State, is_client, is_filling, is_finished, is_injected, is_member, is_ready, state};

/// How long fewer pods must have been seen before the budget is lowered, while each that is there is a member and every
/// copy is filled: longer than a StatefulSet takes to make a pod anew.
pub const LOWER_SETTLED_AFTER: Duration = Duration::from_secs(5);
/// How long otherwise.
pub const LOWER_AFTER: Duration = Duration::from_secs(60);
/// How long pods that are not ready are kept from eviction, as others are, while copies are being filled.
pub const HOLD_UNREADY: Duration = Duration::from_secs(60);
/// Annotation of the budget: since when, in seconds of Unix time, fewer pods have been seen.
pub const LOWER_SINCE: &str = "sidegrid.dev/fewer-since";

/// What the guard goes by.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The pods that bear the cluster's label.
    pub pods: &'a [Pod],
    /// The document, as far as it is known.
    pub document: Option<&'a Document>,
    /// Since when copies are being filled, by the status before; none: they were not.
    pub filling_since: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
}

/// What the budget should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `minAvailable`.
    pub min_available: i32,
    /// Since when fewer pods are seen than it was made for, in seconds of Unix time.
    pub lower_since: Option<i64>,
    /// Whether pods that are not ready are kept from eviction as well, since copies are being filled.
    pub holds_unready: bool,
}

/// The name of a budget of somebody else's that selects one of `pods`; `own` is our own one's name.
#[must_use]
pub fn other<'a>(budgets: &'a [PodDisruptionBudget], own: &str, pods: &[Pod]) -> Option<&'a str> {
    let none = BTreeMap::new();
    let others = budgets.iter().filter(|b| b.metadata.name.as_deref() != Some(own));
    others
        .filter(|budget| {
            let selector = budget.spec.as_ref().and_then(|s| s.selector.clone());
            let Some(selector) = selector else { return false };
            let selector = Selector::try_from(selector);
            // One that can't be understood here may select them.
            let labels = |pod: &'_ Pod| pod.metadata.labels.clone().unwrap_or_else(|| none.clone());
            pods.iter().filter(|p| is_guarded(p)).any(|p| selector.as_ref().map_or(true, |s| s.matches(&labels(p))))
        })
        .find_map(|budget| budget.metadata.name.as_deref())
}

/// Whether the pod is to be a member. A missed one is not worth taking the guard from those that are.
fn is_guarded(pod: &Pod) -> bool {
    is_injected(pod) && counts(pod)
}

/// Whether the budget's selector matches the pod and it has not finished.
fn counts(pod: &Pod) -> bool {
    !is_client(pod) && !is_finished(pod)
}

/// Whether a pod on its way out still stands for one that is wanted: until it is gone, where its controller makes the
/// next one only then. A ReplicaSet replaces a pod as soon as it is told to go, and two would be counted for one.
fn stands_for_its_successor(pod: &Pod, now: Timestamp) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    let is_replaced_at_once = controllers.any(|owner| ["ReplicaSet", "ReplicationController"].contains(&&*owner.kind));
    // Past its grace it is on a node that doesn't answer: nobody knows when it will be gone.
    let overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 < now);
    !is_replaced_at_once && !overdue
}

/// What the budget should say when it says `before`; `max_unavailable` members may be away at once.
#[must_use]
pub fn budget(sight: &Sight<'_>, max_unavailable: u16, before: Option<Budget>) -> Budget {
    let wanted = i32::try_from(counted(sight)).unwrap_or(i32::MAX).saturating_sub(i32::from(max_unavailable)).max(0);
    let holds_unready = holds_unready(sight);
    let now = sight.now.as_second();
    match before {
        Some(before) if wanted < before.min_available => {
            let since = before.lower_since.filter(|since| *since <= now).unwrap_or(now);
            let waited = Duration::from_secs(u64::try_from(now - since).unwrap_or(0));
            let wait = if is_settled(sight) { LOWER_SETTLED_AFTER } else { LOWER_AFTER };
            let (min_available, lower_since) =
                if waited >= wait { (wanted, None) } else { (before.min_available, Some(since)) };
            Budget { min_available, lower_since, holds_unready }
        }
        _ => Budget { min_available: wanted, lower_since: None, holds_unready },
    }
}

/// Pods that Kubernetes takes for healthy, and those on their way out that stand for one.
fn counted(sight: &Sight<'_>) -> usize {
    let counts = |pod: &&Pod| {
        let goes = pod.metadata.deletion_timestamp.is_some();
        // Kubernetes counts a missed pod too: a number made of members alone would let it stand in for one.
        counts(pod) && is_ready(pod) && (!goes || stands_for_its_successor(pod, sight.now))
    };
    sight.pods.iter().filter(counts).count()
}

/// Whether the grid needs nobody else: no pod is on its way out, each that is there is a member that serves, and every copy
/// is filled.
fn is_settled(sight: &Sight<'_>) -> bool {
    let Some(document) = sight.document.filter(|document| !is_filling(document)) else { return false };
    let mut guarded = sight.pods.iter().filter(|pod| is_guarded(pod));
    guarded.all(|pod| state(pod, is_member(document, pod), sight.now) == State::Member)
}

/// Whether two pods that are not ready could take the last copies with them: while copies are being filled, for a while.
fn holds_unready(sight: &Sight<'_>) -> bool {
    let waited = sight.filling_since.map_or(0, |since| sight.now.as_second() - since.as_second());
    sight.document.is_some_and(is_filling) && waited < i64::try_from(HOLD_UNREADY.as_secs()).unwrap_or(i64::MAX)
}

/// When the budget must be looked at again though nothing changes.
#[must_use]
pub fn again(budget: Budget) -> Option<Duration> {
    let lowered = budget.lower_since.map(|_| LOWER_SETTLED_AFTER);
    lowered.or_else(|| budget.holds_unready.then_some(HOLD_UNREADY))
}

/// Pods that are not ready may be evicted whatever the number says: a crashing app holds no drain up, and its sidecar
/// hands over before it ends.
const ALWAYS_ALLOW: &str = "AlwaysAllow";
/// They are kept as others are.
const IF_HEALTHY_BUDGET: &str = "IfHealthyBudget";

/// What a budget that is there says.
#[must_use]
pub fn said(budget: &PodDisruptionBudget) -> Option<Budget> {
    let Some(IntOrString::Int(min_available)) = budget.spec.as_ref()?.min_available else { return None };
    let since = budget.metadata.annotations.as_ref().and_then(|a| a.get(LOWER_SINCE));
    let policy = budget.spec.as_ref()?.unhealthy_pod_eviction_policy.as_deref();
    Some(Budget {
        min_available,
        lower_since: since.and_then(|s| s.parse().ok()),
        holds_unready: policy != Some(ALWAYS_ALLOW),
    })
}

/// The budget's spec for the members of `cluster`: all pods with its label, clients left out.
#[must_use]
pub fn spec(cluster: &str, budget: Budget) -> PodDisruptionBudgetSpec {
    let clients = LabelSelectorRequirement {
        key: ROLE_LABEL.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec!["client".to_owned()]),
    };
    let policy = if budget.holds_unready { IF_HEALTHY_BUDGET } else { ALWAYS_ALLOW };
    PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(budget.min_available)),
        unhealthy_pod_eviction_policy: Some(policy.to_owned()),
        selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned())])),
            match_expressions: Some(vec![clients]),
        }),
        ..PodDisruptionBudgetSpec::default()
    }
}

#[cfg(test)]
mod tests;
