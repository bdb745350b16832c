//! A CacheCluster that is being deleted: its authority and document stay until no pod with the sidecar is left, so
//! that members can go on and leave in order. Meanwhile its status is told on, and nothing keeps its pods from eviction.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DeleteParams;
use kube::runtime::controller::Action;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::error::ReconcileError;
use super::events::Reason;
use super::{Fetched, Target, certified, fault_of, fetch, steps};
use crate::names::{CLUSTER_LABEL, FINALIZER, authority_secret, document_config_map};
use crate::status::{ConditionReason, Fact, is_finished, is_injected};

/// Pods' ends are watched; this is for a watch that missed one.
const AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn step(target: &Target<'_>) -> Result<Action, ReconcileError> {
    let metadata = &target.cluster.metadata;
    let finalizers = metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(Action::await_change());
    }
    let fetched = fetch(target).await?;
    let left = fetched.pods.iter().filter(|p| is_injected(p) && !is_finished(p)).count();
    let events = &target.context.events;
    let about = target.cluster.object_ref(&());
    if left > 0 {
        let note = format!(
            "{left} pods with the sidecar still run; authority and document are kept until they are gone. Their workloads \
             can't replace a pod from now on: scale them down, or take the label {CLUSTER_LABEL} off their templates"
        );
        events.tell(&about, Reason::WaitingForPods, note).await;
        return remain(target, &fetched).await;
    }
    let (client, own_ns) = (&target.context.client, &target.context.own_ns);
    // The document first: an authority without a document is where every cluster begins, a document without an
    // authority is nowhere.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), own_ns);
    gone(&maps, &document_config_map(target.uid), "deleting the cluster's document").await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    gone(&secrets, &authority_secret(target.uid), "deleting the cluster's authority").await?;
    let rest: Vec<String> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
    events.tell(&about, Reason::Deleted, "the last pod is gone; authority and document are deleted".to_owned()).await;
    steps::set_finalizers(target, &rest).await?;
    Ok(Action::await_change())
}

/// Keeps what is left as it should be.
async fn remain(target: &Target<'_>, fetched: &Fetched) -> Result<Action, ReconcileError> {
    let guard = steps::unguard(target).await;
    let guarded = match &guard {
        Ok(fact) => fact.clone(),
        Err(fault) => fault_of(target, fault, ConditionReason::Unavailable).await,
    };
    // Read alone: one that is missing is not made for what is going.
    let authority = crate::authority::read(&target.context.client, &target.context.own_ns, target.uid).await;
    let certificates = match &authority {
        Ok(None) => Fact::no(ConditionReason::AuthorityUnavailable, "there is no authority, and it is being deleted"),
        Ok(Some(_)) => certified(None),
        Err(fault) => certified(Some(fault)),
    };
    steps::status(target, fetched, None, certificates, guarded).await?;
    guard?;
    Ok(Action::requeue(AGAIN))
}

async fn gone<K>(api: &Api<K>, name: &str, what: &'static str) -> Result<(), ReconcileError>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ReconcileError::api(what)(error)),
    }
}
