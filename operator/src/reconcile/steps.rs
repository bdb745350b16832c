//! The steps of a CacheCluster that is there.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, Resource};
use serde_json::json;
use sidegrid_core::document::Document;

use super::error::ReconcileError;
use super::events::Reason;
use super::{Fetched, MANAGED_BY_LABEL, Target, guard};
use crate::crd::CacheCluster;
use crate::names::{
    AUTHORITY_KEY, CLUSTER_LABEL, FIELD_MANAGER, FINALIZER, MANAGED_BY, SETTINGS_KEY, settings_config_map,
};
use crate::status::{ConditionReason, Fact, Seen, State, is_finished, is_injected};
use crate::webhook::images;

fn applied() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Puts the finalizer on, before anything is made that it must clean up.
pub(super) async fn finalizer(target: &Target<'_>) -> Result<(), ReconcileError> {
    let metadata = &target.cluster.metadata;
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    set_finalizers(target, &finalizers).await
}

/// Replaces the list of finalizers, unless the object has changed since it was read.
pub(super) async fn set_finalizers(target: &Target<'_>, finalizers: &[String]) -> Result<(), ReconcileError> {
    let version = target.cluster.metadata.resource_version.as_deref();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    let clusters: Api<CacheCluster> = Api::namespaced(target.context.client.clone(), target.namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    clusters
        .patch(target.name, &params, &Patch::Merge(patch))
        .await
        .map_err(ReconcileError::api("setting the CacheCluster's finalizers"))?;
    Ok(())
}

fn owned(target: &Target<'_>, annotations: Option<BTreeMap<String, String>>) -> ObjectMeta {
    let owner: Option<OwnerReference> = target.cluster.controller_owner_ref(&());
    ObjectMeta {
        name: Some(settings_config_map(target.name)),
        namespace: Some(target.namespace.to_owned()),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            // Not the pods' label: that one is for pods.
            ("app.kubernetes.io/instance".to_owned(), target.name.to_owned()),
        ])),
        annotations,
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Whether what is there is this CacheCluster's.
fn is_own(target: &Target<'_>, there: &ObjectMeta) -> bool {
    there.owner_references.iter().flatten().any(|owner| owner.uid == target.uid)
}

/// Keeps the ConfigMap that the cluster's pods mount.
pub(super) async fn settings(target: &Target<'_>) -> Result<(), ReconcileError> {
    let own_ns = &target.context.own_ns;
    crate::settings::check(target.cluster, own_ns).map_err(ReconcileError::Invalid)?;
    images::check(target.cluster, &target.context.images)
        .map_err(|problem| ReconcileError::Invalid(format!("{}: {problem}; {}", images::FIELD, images::FIX)))?;
    let serving = crate::serving::ensure(&target.context.client, own_ns).await?;
    let maps: Api<ConfigMap> = Api::namespaced(target.context.client.clone(), target.namespace);
    let name = settings_config_map(target.name);
    let there = maps.get_opt(&name).await.map_err(ReconcileError::api("reading the settings ConfigMap"))?;
    let data = BTreeMap::from([
        (SETTINGS_KEY.to_owned(), crate::settings::file(target.cluster, own_ns)),
        (AUTHORITY_KEY.to_owned(), serving.authority_pem().to_owned()),
    ]);
    if let Some(there) = there {
        if !is_own(target, &there.metadata) {
            return Err(ReconcileError::Taken { kind: "ConfigMap", name });
        }
        if there.data.as_ref() == Some(&data) {
            return Ok(());
        }
    }
    let map = ConfigMap { metadata: owned(target, None), data: Some(data), ..ConfigMap::default() };
    maps.patch(&name, &applied(), &Patch::Apply(&map))
        .await
        .map_err(ReconcileError::api("applying the settings ConfigMap"))?;
    Ok(())
}

/// What became of the guard.
pub(super) struct Guarded {
    /// What the condition says.
    pub(super) fact: Fact,
    /// When it must be looked at again.
    pub(super) again: Option<Duration>,
}

/// Keeps the budget, or takes it away while somebody else's selects the pods.
pub(super) async fn guard(
    target: &Target<'_>,
    pods: &[Pod],
    document: Option<&Document>,
) -> Result<Guarded, ReconcileError> {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(target.context.client.clone(), target.namespace);
    let name = settings_config_map(target.name);
    let all =
        budgets.list(&ListParams::default()).await.map_err(ReconcileError::api("listing PodDisruptionBudgets"))?.items;
    let there = all.iter().find(|b| b.metadata.name.as_deref() == Some(&name));
    if let Some(there) = there
        && !is_own(target, &there.metadata)
    {
        return Err(ReconcileError::Taken { kind: "PodDisruptionBudget", name });
    }
    if let Some(other) = guard::other(&all, &name, pods) {
        return other_budget(target, &budgets, there, other).await;
    }
    let before = there.and_then(guard::said);
    let max = target.cluster.spec.disruption.max_unavailable;
    let conditions = target.cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let filling = conditions.iter().find(|c| c.type_ == "Rebalancing" && c.status == "True");
    let filling_since = filling.map(|condition| condition.last_transition_time.0);
    let sight = guard::Sight { pods, document, filling_since, now: Timestamp::now() };
    let budget = guard::budget(&sight, max, before);
    if before != Some(budget) {
        let since = budget.lower_since.map(|s| BTreeMap::from([(guard::LOWER_SINCE.to_owned(), s.to_string())]));
        let object = PodDisruptionBudget {
            metadata: owned(target, since),
            spec: Some(guard::spec(target.name, budget)),
            ..PodDisruptionBudget::default()
        };
        budgets
            .patch(&name, &applied(), &Patch::Apply(&object))
            .await
            .map_err(ReconcileError::api("applying the PodDisruptionBudget"))?;
    }
    let again = guard::again(budget);
    if target.had_no_members() && document.is_none() {
        let fact = Fact::unknown(ConditionReason::NoMembers, "no member has joined yet: there is nobody to guard");
        return Ok(Guarded { fact, again });
    }
    let says = format!("PodDisruptionBudget {name} keeps {} ready pods from eviction", budget.min_available);
    Ok(Guarded { fact: Fact::yes(ConditionReason::Guarded, says), again })
}

/// Two budgets over one pod make every eviction of it fail, so ours goes.
async fn other_budget(
    target: &Target<'_>,
    budgets: &Api<PodDisruptionBudget>,
    there: Option<&PodDisruptionBudget>,
    other: &str,
) -> Result<Guarded, ReconcileError> {
    let says = format!(
        "PodDisruptionBudget {other} selects the pods, so the operator makes none; two would make every eviction fail. \
         Delete {other} to have the operator guard the members"
    );
    if let Some(there) = there {
        delete(budgets, there).await?;
        target.context.events.tell(&target.cluster.object_ref(&()), Reason::OtherBudget, says.clone()).await;
    }
    Ok(Guarded { fact: Fact::no(ConditionReason::OtherBudget, says), again: None })
}

async fn delete(budgets: &Api<PodDisruptionBudget>, there: &PodDisruptionBudget) -> Result<(), ReconcileError> {
    let same = Preconditions { uid: there.metadata.uid.clone(), ..Preconditions::default() };
    let name = there.metadata.name.as_deref().unwrap_or_default();
    match budgets.delete(name, &DeleteParams::default().preconditions(same)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ReconcileError::api("deleting the PodDisruptionBudget")(error)),
    }
}

/// Takes the guard away from a CacheCluster that is being deleted. Pods that are evicted don't come back then, so that
/// any number would hold a drain up for good: at the last pods, or at once where one isn't healthy. Each still hands over
/// before it ends.
pub(super) async fn unguard(target: &Target<'_>) -> Result<Fact, ReconcileError> {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(target.context.client.clone(), target.namespace);
    let name = settings_config_map(target.name);
    let all =
        budgets.list(&ListParams::default()).await.map_err(ReconcileError::api("listing PodDisruptionBudgets"))?.items;
    let own = all.iter().find(|b| b.metadata.name.as_deref() == Some(&name) && is_own(target, &b.metadata));
    if let Some(there) = own {
        delete(&budgets, there).await?;
    }
    Ok(Fact::no(ConditionReason::Deleting, "it is being deleted: its pods don't come back, so none is kept"))
}

/// Tells of labelled pods without a sidecar, each once: those that the status before doesn't tell of.
pub(super) async fn missed(target: &Target<'_>, pods: &[Pod]) {
    let before = target.cluster.status.as_ref().map(|s| s.members.as_slice()).unwrap_or_default();
    let known = |name: &str| before.iter().any(|m| m.name == name && m.state == State::NotInjected.word());
    for pod in pods.iter().filter(|p| !is_injected(p) && !is_finished(p) && p.metadata.deletion_timestamp.is_none()) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        if known(name) {
            continue;
        }
        let note = format!(
            "pod {name} has the label {CLUSTER_LABEL}: {} and no sidecar: it was made while the webhook was away, or \
             labelled later; delete it to have it made anew",
            target.name
        );
        let events = &target.context.events;
        events.tell(&pod.object_ref(&()), Reason::NotInjected, note.clone()).await;
        events.tell(&target.cluster.object_ref(&()), Reason::NotInjected, note).await;
    }
}

/// Tells the status, when it changed.
pub(super) async fn status(
    target: &Target<'_>,
    fetched: &Fetched,
    settings_fault: Option<Fact>,
    certificates: Fact,
    guard: Fact,
) -> Result<(), ReconcileError> {
    let seen = Seen {
        cluster: target.cluster,
        document: fetched.document.as_ref(),
        document_fault: fetched.document_fault.clone(),
        pods: &fetched.pods,
        settings_fault,
        webhook_fault: target.context.webhook.borrow().fault(),
        certificates,
        guard,
    };
    let status = crate::status::status(&seen, Timestamp::now());
    if target.cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let clusters: Api<CacheCluster> = Api::namespaced(target.context.client.clone(), target.namespace);
    let patch = json!({
        "apiVersion": CacheCluster::api_version(&()),
        "kind": CacheCluster::kind(&()),
        // The uid, so that the status of a CacheCluster that was made anew meanwhile is not written.
        "metadata": {"name": target.name, "uid": target.uid},
        "status": status,
    });
    clusters
        .patch_status(target.name, &applied(), &Patch::Apply(patch))
        .await
        .map_err(ReconcileError::api("applying the status"))?;
    let before = target.cluster.status.as_ref().and_then(|status| status.last_loss.as_ref());
    if let Some(loss) = status.last_loss.as_ref().filter(|loss| before != Some(loss)) {
        let note = format!(
            "every copy of {} of {} segments was gone, the last in view {}: they started empty",
            loss.segments, status.segments.total, loss.view
        );
        target.context.events.tell(&target.cluster.object_ref(&()), Reason::DataLost, note).await;
    }
    Ok(())
}
