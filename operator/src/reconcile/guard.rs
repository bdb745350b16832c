//! The eviction guard: a PodDisruptionBudget that the operator keeps up to date.
//!
//! It is lowered late: a StatefulSet's pod is away for a while before it comes back, and a budget that followed at
//! once would let the next eviction through in between.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::core::{Selector, SelectorExt};

use crate::names::{CLUSTER_LABEL, ROLE_LABEL};
use crate::status::{is_client, is_finished, is_injected};

/// How long fewer pods must have been seen before the budget is lowered.
pub const LOWER_AFTER: Duration = Duration::from_secs(60);
/// Annotation of the budget: since when, in seconds of Unix time, fewer pods have been seen.
pub const LOWER_SINCE: &str = "sidegrid.dev/fewer-since";

/// What the budget should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `minAvailable`.
    pub min_available: i32,
    /// Since when fewer pods are seen than it was made for, in seconds of Unix time.
    pub lower_since: Option<i64>,
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

/// Whether Kubernetes counts the pod in the budget: all that its selector matches and that have not finished. A missed
/// pod is healthy to it, so that a number made of members alone would let it stand in for one that is evicted.
fn counts(pod: &Pod) -> bool {
    !is_client(pod) && !is_finished(pod)
}

/// What the budget should say for `pods` when it says `before`.
#[must_use]
pub fn budget(pods: &[Pod], max_unavailable: u16, before: Option<Budget>, now: Timestamp) -> Budget {
    // Pods on their way out count until they are gone: their place is taken by then, or known to be empty.
    let counted = i32::try_from(pods.iter().filter(|p| counts(p)).count()).unwrap_or(i32::MAX);
    let wanted = counted.saturating_sub(i32::from(max_unavailable)).max(0);
    let now = now.as_second();
    match before {
        Some(before) if wanted < before.min_available => {
            let since = before.lower_since.filter(|since| *since <= now).unwrap_or(now);
            let waited = u64::try_from(now - since).unwrap_or(0);
            if Duration::from_secs(waited) >= LOWER_AFTER {
                Budget { min_available: wanted, lower_since: None }
            } else {
                Budget { min_available: before.min_available, lower_since: Some(since) }
            }
        }
        _ => Budget { min_available: wanted, lower_since: None },
    }
}

/// What a budget that is there says.
#[must_use]
pub fn said(budget: &PodDisruptionBudget) -> Option<Budget> {
    let Some(IntOrString::Int(min_available)) = budget.spec.as_ref()?.min_available else { return None };
    let since = budget.metadata.annotations.as_ref().and_then(|a| a.get(LOWER_SINCE));
    Some(Budget { min_available, lower_since: since.and_then(|s| s.parse().ok()) })
}

/// The budget's spec for the members of `cluster`: all pods with its label, clients left out.
#[must_use]
pub fn spec(cluster: &str, budget: Budget) -> PodDisruptionBudgetSpec {
    let clients = LabelSelectorRequirement {
        key: ROLE_LABEL.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec!["client".to_owned()]),
    };
    PodDisruptionBudgetSpec {
        min_available: Some(IntOrString::Int(budget.min_available)),
        selector: Some(LabelSelector {
            match_labels: Some(BTreeMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned())])),
            match_expressions: Some(vec![clients]),
        }),
        ..PodDisruptionBudgetSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(labels: Value) -> Pod {
        let spec = json!({"containers": [], "initContainers": [{"name": "sidegrid"}]});
        serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap()
    }

    fn members(count: usize) -> Vec<Pod> {
        vec![pod(json!({"sidegrid.dev/cluster": "web", "app": "shop"})); count]
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn rises_at_once_and_falls_late() {
        let first = budget(&members(3), 1, None, at(0));
        assert_eq!(first, Budget { min_available: 2, lower_since: None });
        let more = budget(&members(5), 1, Some(first), at(1));
        assert_eq!(more.min_available, 4);
        let gone = budget(&members(4), 1, Some(more), at(10));
        assert_eq!(gone, Budget { min_available: 4, lower_since: Some(10) });
        assert_eq!(budget(&members(4), 1, Some(gone), at(69)), gone);
        assert_eq!(budget(&members(5), 1, Some(gone), at(60)), Budget { min_available: 4, lower_since: None });
        assert_eq!(budget(&members(4), 1, Some(gone), at(70)), Budget { min_available: 3, lower_since: None });
        assert_eq!(budget(&members(1), 5, None, at(0)).min_available, 0);
    }

    #[test]
    fn clients_and_finished_pods_do_not_count() {
        let mut pods = members(2);
        pods.push(pod(json!({"sidegrid.dev/cluster": "web", "sidegrid.dev/role": "client"})));
        let mut finished = members(1).remove(0);
        finished.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        pods.push(finished);
        assert_eq!(budget(&pods, 1, None, at(0)).min_available, 1);
    }

    fn missed() -> Pod {
        let mut pod = members(1).remove(0);
        pod.spec.as_mut().unwrap().init_containers = None;
        pod
    }

    /// Three members and two pods without the sidecar: Kubernetes counts five healthy ones, and two of five would let all
    /// members be evicted at once.
    #[test]
    fn missed_pods_do_not_stand_in_for_members() {
        let mut pods = members(3);
        pods.extend([missed(), missed()]);
        assert_eq!(budget(&pods, 1, None, at(0)).min_available, 4);
    }

    #[test]
    fn another_budget_that_selects_a_member_is_named() {
        let of = |name: &str, selector: Value| -> PodDisruptionBudget {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"selector": selector}})).unwrap()
        };
        let own = of("web-sidegrid", json!({"matchLabels": {"sidegrid.dev/cluster": "web"}}));
        let stranger = of("db", json!({"matchLabels": {"app": "db"}}));
        let theirs = of("shop", json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}));
        let everything = of("all", json!({}));
        let pods = members(1);
        assert_eq!(other(&[own.clone(), stranger.clone()], "web-sidegrid", &pods), None);
        assert_eq!(other(&[own, stranger, theirs.clone()], "web-sidegrid", &pods), Some("shop"));
        assert_eq!(other(&[everything], "web-sidegrid", &pods), Some("all"));
        assert_eq!(other(std::slice::from_ref(&theirs), "web-sidegrid", &[]), None);
        assert_eq!(other(&[theirs], "web-sidegrid", &[missed()]), None, "no member is theirs");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = Budget { min_available: 2, lower_since: Some(7) };
        let mut object = PodDisruptionBudget { spec: Some(spec("web", written)), ..PodDisruptionBudget::default() };
        object.metadata.annotations = Some(BTreeMap::from([(LOWER_SINCE.to_owned(), "7".to_owned())]));
        assert_eq!(said(&object), Some(written));
        let selector = Selector::try_from(object.spec.unwrap().selector.unwrap()).unwrap();
        let labels = |pod: Pod| pod.metadata.labels.unwrap();
        assert!(selector.matches(&labels(members(1).remove(0))));
        let client = pod(json!({"sidegrid.dev/cluster": "web", "sidegrid.dev/role": "client"}));
        assert!(!selector.matches(&labels(client)));
    }
}
