//! Reconciliations against an API server in memory that lists, applies and knows the status subresource.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use serde_json::{Value, json};

use super::*;

const UID: &str = "00000000-0000-0000-0000-0000000000c1";
const OWN: &str = "/api/v1/namespaces/sidegrid-system";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
const BUDGETS: &str = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets";
const CLUSTERS: &str = "/apis/sidegrid.dev/v1alpha1/namespaces/shop/cacheclusters";

/// Objects by path, and the changes that were asked for.
type Kept = (BTreeMap<String, Value>, Vec<String>);

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(Body::new(body), 1 << 20).await.unwrap();
                let sent = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = server.answer(&head.method, head.uri.path(), sent);
                let mut response = Response::new(Body::from(answer.to_string()));
                *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "default")
    }

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().0.insert(path.to_owned(), object);
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().0.get(path).cloned()
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }

    fn reasons(&self) -> Vec<String> {
        let inner = self.0.lock().unwrap();
        let events = inner.0.iter().filter(|(path, _)| path.contains("/events/"));
        events
            .map(|(_, e)| format!("{} {}", e["regarding"]["kind"].as_str().unwrap(), e["reason"].as_str().unwrap()))
            .collect()
    }

    fn answer(&self, method: &Method, path: &str, sent: Value) -> (u16, Value) {
        let (objects, changes) = &mut *self.0.lock().unwrap();
        if method != Method::GET && !path.contains("/events") {
            changes.push(format!("{method} {path}"));
        }
        let object = path.trim_end_matches("/status").to_owned();
        let missing = (404, json!({"status": "Failure", "message": "", "reason": "NotFound", "code": 404}));
        match method.as_str() {
            "POST" => {
                let name = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                objects.insert(name, sent.clone());
                (201, sent)
            }
            "PATCH" => {
                let there = objects.entry(object).or_insert_with(|| json!({}));
                json_patch::merge(there, &sent);
                (200, there.clone())
            }
            "DELETE" => objects.remove(&object).map_or(missing, |gone| (200, gone)),
            _ => {
                if let Some(there) = objects.get(path) {
                    return (200, there.clone());
                }
                let name = path.rsplit('/').next().unwrap();
                if !["pods", "poddisruptionbudgets", "cacheclusters"].contains(&name) {
                    return missing;
                }
                let below = format!("{path}/");
                let items: Vec<&Value> =
                    objects.iter().filter(|(p, _)| p.starts_with(&below)).map(|(_, o)| o).collect();
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
            }
        }
    }

    fn cluster(&self) -> Arc<CacheCluster> {
        Arc::new(serde_json::from_value(self.get(&format!("{CLUSTERS}/web")).unwrap()).unwrap())
    }

    fn context(&self) -> Arc<Reconciler> {
        self.context_with(WebhookStanding::InPlace)
    }

    fn context_with(&self, standing: WebhookStanding) -> Arc<Reconciler> {
        let client = self.client();
        let documents = Documents::new(client.clone(), "sidegrid-system");
        let (_, webhook) = watch::channel(standing);
        Arc::new(Reconciler::new(client, "sidegrid-system", "replica-1", documents, Arc::default(), webhook))
    }
}

fn server(caches: Value) -> Server {
    let server = Server::default();
    let cluster = json!({
        "apiVersion": "sidegrid.dev/v1alpha1", "kind": "CacheCluster",
        "metadata": {"name": "web", "namespace": "shop", "uid": UID, "generation": 1, "resourceVersion": "1"},
        "spec": {"caches": caches},
    });
    server.put(&format!("{CLUSTERS}/web"), cluster);
    server
}

fn pod(server: &Server, name: &str, injected: bool) {
    let containers = if injected { json!([{"name": "sidegrid"}]) } else { json!([]) };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": {"sidegrid.dev/cluster": "web", "app": "shop"}},
        "spec": {"containers": [], "initContainers": containers},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    server.put(&format!("{PODS}/{name}"), pod);
}

fn condition(server: &Server, kind: &str) -> String {
    let cluster = server.cluster();
    let status = cluster.status.as_ref().unwrap();
    let condition = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    format!("{} {}", condition.status, condition.reason)
}

#[tokio::test]
async fn a_cluster_gets_all_that_its_pods_need_and_then_nothing_more() {
    let server = server(json!({"sessions": {}}));
    for name in ["a", "b", "c"] {
        pod(&server, name, true);
    }
    let context = server.context();
    reconcile(server.cluster(), context.clone()).await.unwrap();
    assert_eq!(server.cluster().metadata.finalizers, Some(vec!["sidegrid.dev/members".to_owned()]));
    let map = server.get(&format!("{MAPS}/web-sidegrid")).unwrap();
    assert_eq!(map["metadata"]["ownerReferences"][0]["uid"], UID);
    assert!(map["data"]["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    assert!(map["data"]["sidegrid.yaml"].as_str().unwrap().contains("sidegrid-operator.sidegrid-system.svc:8443"));
    assert!(server.get(&format!("{OWN}/secrets/authority-{UID}")).is_some());
    let budget = server.get(&format!("{BUDGETS}/web-sidegrid")).unwrap();
    assert_eq!(budget["spec"]["minAvailable"], 2);
    assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    assert_eq!(condition(&server, "Ready"), "False MembersMissing");
    assert_eq!(condition(&server, "CertificatesReady"), "True AuthorityReady");
    // No member has ever been: nothing is known to be well, or guarded.
    for (kind, reason) in [("EvictionGuarded", "NoMembers"), ("Degraded", "NoView"), ("Rebalancing", "NoView")] {
        assert_eq!(condition(&server, kind), format!("Unknown {reason}"));
    }
    assert!(!server.changes().is_empty());
    reconcile(server.cluster(), context).await.unwrap();
    assert_eq!(server.changes(), Vec::<String>::new(), "a second time changes nothing");
}

#[tokio::test]
async fn a_missed_pod_is_told_once_on_both() {
    let server = server(json!({"sessions": {}}));
    pod(&server, "a", false);
    let context = server.context();
    reconcile(server.cluster(), context.clone()).await.unwrap();
    let mut reasons = server.reasons();
    reasons.sort();
    assert_eq!(reasons, ["CacheCluster NotInjected", "Pod NotInjected"]);
    assert_eq!(condition(&server, "InjectionReady"), "False PodsMissed");
    let changes = server.0.lock().unwrap().0.len();
    reconcile(server.cluster(), context).await.unwrap();
    assert_eq!(server.0.lock().unwrap().0.len(), changes, "not told again");
}

#[tokio::test]
async fn another_budget_takes_the_guards_place() {
    let server = server(json!({"sessions": {}}));
    pod(&server, "a", true);
    let context = server.context();
    reconcile(server.cluster(), context.clone()).await.unwrap();
    assert!(server.get(&format!("{BUDGETS}/web-sidegrid")).is_some());
    let theirs = json!({"metadata": {"name": "theirs"}, "spec": {"selector": {"matchLabels": {"app": "shop"}}}});
    server.put(&format!("{BUDGETS}/theirs"), theirs);
    reconcile(server.cluster(), context).await.unwrap();
    assert!(server.get(&format!("{BUDGETS}/web-sidegrid")).is_none());
    assert_eq!(condition(&server, "EvictionGuarded"), "False OtherBudget");
}

#[tokio::test]
async fn what_can_not_be_given_is_said_and_nothing_of_others_is_overwritten() {
    let server = server(json!({"sessions": {"maxBytes": "1B"}}));
    // Only a person can mend it; the guard is looked at again all the same.
    let action = reconcile(server.cluster(), server.context()).await.unwrap();
    assert_ne!(action, Action::await_change());
    assert_eq!(condition(&server, "Ready"), "False InvalidSettings");
    assert_eq!(server.reasons(), ["CacheCluster InvalidSettings"]);

    let server = self::server(json!({"sessions": {}}));
    let mut foreign = server.get(&format!("{CLUSTERS}/web")).unwrap();
    foreign["spec"]["sidecar"] = json!({"image": "example.org/miner:1"});
    server.put(&format!("{CLUSTERS}/web"), foreign);
    reconcile(server.cluster(), server.context()).await.unwrap();
    assert_eq!(condition(&server, "Ready"), "False InvalidSettings");

    let server = self::server(json!({"sessions": {}}));
    let theirs = json!({"metadata": {"name": "web-sidegrid", "namespace": "shop"}, "data": {"mine": "yes"}});
    server.put(&format!("{MAPS}/web-sidegrid"), theirs.clone());
    let fault = reconcile(server.cluster(), server.context()).await.unwrap_err();
    assert_eq!(fault.class(), Class::Taken);
    assert_eq!(server.get(&format!("{MAPS}/web-sidegrid")), Some(theirs));
    assert_eq!(condition(&server, "Ready"), "False NameTaken");
}

#[tokio::test]
async fn deletion_waits_for_the_last_pod_with_a_sidecar() {
    let server = server(json!({"sessions": {}}));
    pod(&server, "a", true);
    let context = server.context();
    reconcile(server.cluster(), context.clone()).await.unwrap();
    let mut cluster = server.get(&format!("{CLUSTERS}/web")).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster["metadata"]["finalizers"] = json!(["other/one", "sidegrid.dev/members"]);
    server.put(&format!("{CLUSTERS}/web"), cluster);
    server.changes();
    reconcile(server.cluster(), context.clone()).await.unwrap();
    assert!(server.reasons().contains(&"CacheCluster WaitingForPods".to_owned()));
    assert!(server.get(&format!("{OWN}/secrets/authority-{UID}")).is_some(), "a pod still runs");
    // Its status is told on, and nothing holds up a drain: no number of the guard's would be right.
    assert!(server.get(&format!("{BUDGETS}/web-sidegrid")).is_none());
    assert_eq!(condition(&server, "Ready"), "False Deleting");
    assert_eq!(condition(&server, "EvictionGuarded"), "False Deleting");
    assert_eq!(condition(&server, "CertificatesReady"), "True AuthorityReady");
    let status = format!("PATCH {CLUSTERS}/web/status");
    assert_eq!(server.changes(), [format!("DELETE {BUDGETS}/web-sidegrid"), status.clone()]);
    reconcile(server.cluster(), context.clone()).await.unwrap();
    assert_eq!(server.changes(), Vec::<String>::new(), "a second time changes nothing");
    pod(&server, "b", true);
    reconcile(server.cluster(), context.clone()).await.unwrap();
    assert_eq!((server.changes(), server.cluster().status.as_ref().unwrap().members.len()), (vec![status], 2));
    pod(&server, "b", false);
    server.put(&format!("{OWN}/configmaps/document-{UID}"), json!({"metadata": {"name": format!("document-{UID}")}}));
    // Pods without the sidecar hold nothing up.
    pod(&server, "a", false);
    reconcile(server.cluster(), context).await.unwrap();
    assert!(server.get(&format!("{OWN}/secrets/authority-{UID}")).is_none());
    assert!(server.get(&format!("{OWN}/configmaps/document-{UID}")).is_none());
    assert_eq!(server.cluster().metadata.finalizers, Some(vec!["other/one".to_owned()]));
}

/// Somebody else's budget of that name is theirs, also while the CacheCluster goes.
#[tokio::test]
async fn deletion_takes_nobody_elses_budget() {
    let server = server(json!({"sessions": {}}));
    pod(&server, "a", true);
    let theirs = json!({"metadata": {"name": "web-sidegrid"}, "spec": {"selector": {"matchLabels": {"app": "other"}}}});
    server.put(&format!("{BUDGETS}/web-sidegrid"), theirs);
    let mut cluster = server.get(&format!("{CLUSTERS}/web")).unwrap();
    cluster["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster["metadata"]["finalizers"] = json!(["sidegrid.dev/members"]);
    server.put(&format!("{CLUSTERS}/web"), cluster);
    reconcile(server.cluster(), server.context()).await.unwrap();
    assert!(server.get(&format!("{BUDGETS}/web-sidegrid")).is_some());
    // It was deleted before anything was made.
    assert_eq!(condition(&server, "CertificatesReady"), "False AuthorityUnavailable");
}

#[tokio::test]
async fn what_is_known_of_the_webhook_is_told() {
    let server = server(json!({"sessions": {}}));
    reconcile(server.cluster(), server.context()).await.unwrap();
    assert_eq!(condition(&server, "InjectionReady"), "True AllInjected");
    reconcile(server.cluster(), server.context_with(WebhookStanding::Missing)).await.unwrap();
    assert_eq!(condition(&server, "InjectionReady"), "False WebhookMissing");
}

#[tokio::test]
async fn each_change_of_the_webhooks_standing_looks_at_all_again() {
    let (stands, webhook) = watch::channel(WebhookStanding::Unknown);
    let mut seen = std::pin::pin!(changes(webhook));
    assert_eq!(futures::poll!(seen.next()), std::task::Poll::Pending);
    stands.send_replace(WebhookStanding::Missing);
    assert_eq!(futures::poll!(seen.next()), std::task::Poll::Ready(Some(())));
    assert_eq!(futures::poll!(seen.next()), std::task::Poll::Pending);
    drop(stands);
    assert_eq!(futures::poll!(seen.next()), std::task::Poll::Ready(None));
}

/// One that can't be read, as an older schema may have let it in, is told and keeps no other from being looked after.
#[tokio::test]
async fn a_malformed_cluster_stops_nothing() {
    let server = server(json!({"sessions": {}}));
    let mut malformed = server.get(&format!("{CLUSTERS}/web")).unwrap();
    malformed["metadata"]["name"] = json!("odd");
    malformed["metadata"]["uid"] = json!("00000000-0000-0000-0000-0000000000c2");
    malformed["spec"]["network"] = json!({"dataPort": "many"});
    server.put(&format!("{CLUSTERS}/odd"), malformed);
    let context = server.context();
    let plain: Api<CacheCluster> = Api::namespaced(server.client(), "shop");
    assert!(plain.list(&ListParams::default()).await.is_err(), "the list as a whole can't be read");
    let guarded: Api<Guarded> = Api::namespaced(server.client(), "shop");
    let mut outcomes = Vec::new();
    for cluster in guarded.list(&ListParams::default()).await.unwrap().items {
        let name = cluster.meta().name.clone().unwrap();
        let done = reconcile_readable(Arc::new(cluster), context.clone()).await;
        outcomes.push((name, done.map_err(|error| error.class()).err()));
    }
    assert_eq!(outcomes, [("odd".to_owned(), Some(Class::Invalid)), ("web".to_owned(), None)]);
    assert!(server.reasons().contains(&"CacheCluster InvalidSettings".to_owned()));
    assert_eq!(condition(&server, "CertificatesReady"), "True AuthorityReady");
}
