//! Authorities whose CacheCluster is gone: their Secrets and documents are collected.
//!
//! A CacheCluster's finalizer has them deleted with it. Whoever takes the finalizer away and deletes it leaves them over,
//! and what is left over counts against what the operator can trust. Collected is only what is old enough, has had no
//! CacheCluster in two passes, and is deleted as it was read.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::crd::CacheCluster;
use crate::kube_call::{self, CallError};
use crate::names::{self, CLUSTER_UID_LABEL};

/// Between two passes.
const EVERY: Duration = Duration::from_secs(300);
/// Younger authorities are left alone: their CacheCluster may not be listed yet.
const OLD_ENOUGH: SignedDuration = SignedDuration::from_secs(600);
/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Looks for orphans while this replica leads, until `shutdown`.
///
/// # Cancel safety
/// Cancel safe: what was begun may be deleted.
pub async fn collect(client: Client, own_ns: String, leads: watch::Receiver<bool>, shutdown: CancellationToken) {
    let mut seen = HashSet::new();
    loop {
        // Both branches are cancel safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if !*leads.borrow() {
            seen.clear();
            continue;
        }
        match pass(&client, &own_ns, &seen, Timestamp::now()).await {
            Ok(orphans) => seen = orphans,
            Err(error) => tracing::warn!(%error, "authorities without a CacheCluster can't be looked for"),
        }
    }
}

/// One pass: deletes the orphans that were orphans in the pass before too, `seen`, and gives those of now.
async fn pass(
    client: &Client,
    own_ns: &str,
    seen: &HashSet<String>,
    now: Timestamp,
) -> Result<HashSet<String>, CallError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    let authorities = all(&secrets, &ListParams::default().labels(CLUSTER_UID_LABEL)).await?;
    // After the authorities: a CacheCluster that was made since is no reason to delete anything.
    let clusters: Api<CacheCluster> = Api::all(client.clone());
    let living = all(&clusters, &ListParams::default()).await?;
    let living: HashSet<String> = living.into_iter().filter_map(|cluster| cluster.metadata.uid).collect();
    let mut orphans = HashSet::new();
    for authority in authorities {
        let labels = authority.metadata.labels.as_ref();
        let Some(uid) = labels.and_then(|labels| labels.get(CLUSTER_UID_LABEL)).cloned() else { continue };
        let is_authority = authority.metadata.name.as_deref() == Some(&names::authority_secret(&uid));
        let made = authority.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let is_old = made.is_some_and(|made| now.duration_since(made) >= OLD_ENOUGH);
        if !is_authority || !is_old || living.contains(&uid) {
            continue;
        }
        if seen.contains(&uid) {
            delete(client, own_ns, &uid, &authority).await?;
        }
        orphans.insert(uid);
    }
    Ok(orphans)
}

/// All objects of a kind, by their metadata alone, a page at a time.
async fn all<K>(api: &Api<K>, params: &ListParams) -> Result<Vec<PartialObjectMeta<K>>, CallError>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let mut found = Vec::new();
    let mut page = params.clone().limit(PAGE);
    loop {
        let list = kube_call::read(api.list_metadata(&page)).await?;
        found.extend(list.items);
        match list.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => page.continue_token = Some(more),
            None => return Ok(found),
        }
    }
}

/// The document first: an authority without one is found again.
async fn delete(
    client: &Client,
    own_ns: &str,
    uid: &str,
    authority: &PartialObjectMeta<Secret>,
) -> Result<(), CallError> {
    let documents: Api<ConfigMap> = Api::namespaced(client.clone(), own_ns);
    let deleted = kube_call::change(documents.delete(&names::document_config_map(uid), &DeleteParams::default())).await;
    gone(deleted.map(|_| ()))?;
    let preconditions = Preconditions {
        uid: authority.metadata.uid.clone(),
        resource_version: authority.metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    let deleted = kube_call::change(secrets.delete(&names::authority_secret(uid), &params)).await;
    gone(deleted.map(|_| ()))?;
    tracing::info!(cluster = uid, "deleted the authority and the document of a CacheCluster that is gone");
    Ok(())
}

/// What is gone already, or has changed since, is left to the next pass.
fn gone(deleted: Result<(), CallError>) -> Result<(), CallError> {
    match deleted {
        Err(CallError::NotFound(_) | CallError::Conflict(_)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake_api::{FakeApi, NS, UID, own};

    const CLUSTERS: &str = "/apis/sidegrid.dev/v1alpha1/cacheclusters";

    #[tokio::test]
    async fn what_has_no_cachecluster_in_two_passes_is_collected_and_nothing_else() {
        let api = FakeApi::own();
        api.lists(CLUSTERS);
        api.lists(&own("secrets"));
        let path = own(&format!("secrets/authority-{UID}"));
        let secret = |made: &str| {
            let labels = json!({CLUSTER_UID_LABEL: UID});
            json!({"metadata": {"name": format!("authority-{UID}"), "labels": labels, "creationTimestamp": made}})
        };
        api.put(&path, secret("2026-01-01T00:00:00Z"));
        api.put(&own(&format!("configmaps/document-{UID}")), json!({"metadata": {"name": "d"}}));
        api.put(&own("secrets/sidegrid-operator-tls"), json!({"metadata": {"name": "sidegrid-operator-tls"}}));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (late, none) = (at("2026-01-01T01:00:00Z"), HashSet::new());
        let client = api.client();
        // It has its CacheCluster, or is young.
        api.put(&format!("{CLUSTERS}/web"), json!({"metadata": {"name": "web", "uid": UID}}));
        assert!(pass(&client, NS, &HashSet::from([UID.to_owned()]), late).await.unwrap().is_empty());
        api.remove(&format!("{CLUSTERS}/web"));
        assert!(pass(&client, NS, &none, at("2026-01-01T00:05:00Z")).await.unwrap().is_empty());
        // The first pass only remembers it.
        let seen = pass(&client, NS, &none, late).await.unwrap();
        assert_eq!(seen, HashSet::from([UID.to_owned()]));
        assert!(api.get(&path).is_some());
        pass(&client, NS, &seen, late).await.unwrap();
        assert!(api.get(&path).is_none() && api.get(&own(&format!("configmaps/document-{UID}"))).is_none());
        assert!(api.get(&own("secrets/sidegrid-operator-tls")).is_some());
        assert!(pass(&client, NS, &seen, late).await.unwrap().is_empty());
        api.done();
    }
}
