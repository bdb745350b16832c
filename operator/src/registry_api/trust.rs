//! Keeps whose leaves are let in equal to the authorities' Secrets.

use std::collections::HashSet;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use sidegrid_core::ClusterUid;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::authority::{CERTIFICATE_KEY, cluster_uid, text};
use crate::names::{self, CLUSTER_UID_LABEL};

pub(super) async fn keep(shared: &Shared, shutdown: CancellationToken) {
    let secrets: Api<Secret> = Api::namespaced(shared.client.clone(), &shared.own_ns);
    let events = watcher(secrets, Config::default().labels(CLUSTER_UID_LABEL)).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    loop {
        // Both branches are cancel safe.
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => apply(shared, &mut listed, &event),
            Some(Err(error)) => tracing::warn!(%error, "the authorities can't be watched; trusted are those known"),
            None => return,
        }
    }
}

fn apply(shared: &Shared, listed: &mut HashSet<ClusterUid>, event: &Event<Secret>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(secret) => listed.extend(set(shared, secret)),
        Event::InitDone => {
            shared.trusted.retain(|cluster| listed.contains(&cluster));
            shared.authorities.forget_all();
            shared.trust_is_listed.cancel();
        }
        Event::Apply(secret) => {
            if let Some(cluster) = set(shared, secret) {
                shared.authorities.forget(cluster);
            }
        }
        Event::Delete(secret) => {
            if let Some((cluster, _)) = authority_of(secret) {
                shared.trusted.remove(cluster);
                shared.authorities.forget(cluster);
            }
        }
    }
}

fn authority_of(secret: &Secret) -> Option<(ClusterUid, &str)> {
    let uid = secret.metadata.labels.as_ref()?.get(CLUSTER_UID_LABEL)?;
    let is_authority = secret.metadata.name.as_deref() == Some(&names::authority_secret(uid));
    Some((cluster_uid(uid).filter(|_| is_authority)?, text(secret, CERTIFICATE_KEY).unwrap_or_default()))
}

fn set(shared: &Shared, secret: &Secret) -> Option<ClusterUid> {
    let (cluster, pem) = authority_of(secret)?;
    if let Err(error) = shared.trusted.set(cluster, pem) {
        tracing::warn!(%cluster, %error, "the cluster's authority can't be used; its members can't call");
    }
    Some(cluster)
}
