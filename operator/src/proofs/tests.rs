use axum::http::Method;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sidegrid_core::MemberId;

use super::*;
use crate::fake_api::{FakeApi, NS, Trouble, UID, document_of, member_of, own};

/// 2026-11-24T17:00:00Z, in nanoseconds.
const AT: u64 = 1_795_539_600_000_000_000;
const POD: &str = "/api/v1/namespaces/shop/pods/web-1";

fn pod(state: &Value) -> Value {
    json!({
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "pod-1", "labels": {"sidegrid.dev/cluster": "web"}},
        "status": {"initContainerStatuses": [
            {"name": "other", "image": "", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-11-24T18:00:00Z"}}},
            {"name": "sidegrid", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state},
        ]},
    })
}

fn terminated() -> Value {
    json!({"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-11-24T17:00:00Z"}})
}

fn of(state: &Value) -> Option<Ended> {
    ended(&serde_json::from_value::<Pod>(pod(state)).unwrap())
}

#[test]
fn only_a_known_end_of_the_sidecar_itself_proves() {
    assert_eq!(of(&terminated()).unwrap().at, AT);
    for nothing in [
        json!({"running": {"startedAt": "2026-11-24T17:00:00Z"}}),
        json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": "2026-11-24T17:00:00Z"}}),
        json!({"terminated": {"exitCode": 255, "reason": "Error", "finishedAt": "2026-11-24T17:00:00Z"}}),
        json!({"terminated": {"exitCode": 137, "reason": "Unknown", "finishedAt": "2026-11-24T17:00:00Z"}}),
        json!({"terminated": {"exitCode": 137}}),
        json!({}),
    ] {
        assert_eq!(of(&nothing), None, "{nothing}");
    }
    let failed = json!({"metadata": {"name": "web-1"}, "status": {"phase": "Failed"}});
    assert_eq!(ended(&serde_json::from_value::<Pod>(failed).unwrap()), None);
}

/// A crash loop: the container waits, or runs again, and only its last state says that it ended.
#[test]
fn an_earlier_end_proves_what_had_started_before_it() {
    let end_of = |state: Value, last: Value| {
        let mut pod = pod(&state);
        pod["status"]["initContainerStatuses"][1]["lastState"] = last;
        ended(&serde_json::from_value::<Pod>(pod).unwrap()).map(|ended| ended.at)
    };
    let waiting = || json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(end_of(waiting(), terminated()), Some(AT));
    assert_eq!(end_of(json!({"running": {"startedAt": "2026-11-24T17:00:09Z"}}), terminated()), Some(AT));
    assert_eq!(end_of(json!({}), terminated()), Some(AT));
    let earlier = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-24T16:00:00Z"}});
    assert_eq!(end_of(terminated(), earlier), Some(AT), "the latest end counts");
    // Made up: the node has lost sight of it.
    let made_up = json!({"terminated": {"exitCode": 255, "reason": "Unknown", "finishedAt": "2026-11-24T17:00:00Z"}});
    assert_eq!(end_of(waiting(), made_up.clone()), None);
    assert_eq!(end_of(made_up, terminated()), None, "the end that counts is not known");

    let mut document = document_of(&[1, 2], 4);
    let looping = Ended { at: AT, ..of(&terminated()).unwrap() };
    // The incarnation that was begun after that end may run.
    document.view.members[0].incarnation = AT + 1;
    assert_eq!(proved(&document, &looping), None);
    document.view.members[0].incarnation = AT - 1;
    assert!(proved(&document, &looping).unwrap().proofs.contains_key(&MemberId(1)));
}

#[test]
fn who_started_before_the_end_is_proved_and_nobody_else() {
    let ended = of(&terminated()).unwrap();
    let mut document = document_of(&[1, 2], 4);
    document.view.members[0].incarnation = AT - 1;
    document.departed = vec![member_of(5, "pod-1", AT - 2), member_of(6, "pod-2", 1)];
    let next = proved(&document, &ended).unwrap();
    let dead: Vec<_> = next.proofs.iter().map(|(id, proof)| (id.0, *proof)).collect();
    assert_eq!(dead, [(1, Proof::Platform), (5, Proof::Platform)]);
    let same = Document { revision: document.revision + 1, proofs: next.proofs.clone(), ..document.clone() };
    assert_eq!(next, same);
    assert_eq!(proved(&next, &ended), None);

    // Started within the second of the end, or after it: it may be a new one.
    document.view.members[0].incarnation = AT;
    document.departed.clear();
    assert_eq!(proved(&document, &ended), None);
    // A proof that is there stays as it is.
    document.view.members[0].incarnation = 1;
    document.proofs.insert(MemberId(1), Proof::Released);
    assert_eq!(proved(&document, &ended), None);
}

async fn server() -> (FakeApi, Documents) {
    let api = FakeApi::own();
    api.allow("/api/v1/namespaces/shop/pods");
    api.allow("/apis/sidegrid.dev/v1alpha1/namespaces/shop/cacheclusters");
    api.put(
        "/apis/sidegrid.dev/v1alpha1/namespaces/shop/cacheclusters/web",
        json!({"metadata": {"name": "web", "uid": UID}, "spec": {"caches": {}}}),
    );
    api.put(&own(&format!("secrets/authority-{UID}")), json!({"metadata": {"name": "a"}}));
    let documents = Documents::new(api.client(), NS);
    documents.create(UID, &document_of(&[1, 2], 4)).await.unwrap();
    (api, documents)
}

async fn proofs(documents: &Documents) -> Vec<u64> {
    documents.read(UID).await.unwrap().unwrap().proofs.keys().map(|id| id.0).collect()
}

#[tokio::test]
async fn the_live_pod_decides_and_a_lost_race_is_tried_again() {
    let (api, documents) = server().await;
    let seen = of(&terminated()).unwrap();
    // Running again by now: nothing is proved.
    api.put(POD, pod(&json!({"running": {}})));
    assert_eq!(store(&api.client(), &documents, &seen).await.unwrap(), 0);
    assert!(proofs(&documents).await.is_empty());

    api.put(POD, pod(&terminated()));
    api.trouble(Method::PUT, UID, Trouble::Status(409));
    api.trouble(Method::PUT, UID, Trouble::AnswerLost);
    // The answer that was lost had been done: the next read shows it.
    assert_eq!(store(&api.client(), &documents, &seen).await.unwrap(), 0);
    assert_eq!(proofs(&documents).await, [1]);
    let puts = api.calls("PUT");
    assert_eq!(store(&api.client(), &documents, &seen).await.unwrap(), 0);
    assert_eq!(api.calls("PUT"), puts);
    api.done();
}

#[tokio::test]
async fn an_end_that_was_told_before_the_pod_went_still_counts() {
    let (api, documents) = server().await;
    let seen = of(&terminated()).unwrap();
    assert_eq!(store(&api.client(), &documents, &seen).await.unwrap(), 1);
    assert_eq!(proofs(&documents).await, [1]);
    // Another pod of the same name says nothing of this one.
    let mut other = pod(&json!({"running": {}}));
    other["metadata"]["uid"] = json!("pod-9");
    api.put(POD, other);
    assert_eq!(store(&api.client(), &documents, &seen).await.unwrap(), 0);
    api.done();
}

#[tokio::test]
async fn tries_have_an_end() {
    let (api, documents) = server().await;
    api.put(POD, pod(&terminated()));
    for _ in 0..TRIES {
        api.trouble(Method::PUT, UID, Trouble::Status(409));
    }
    let fault = store(&api.client(), &documents, &of(&terminated()).unwrap()).await.unwrap_err();
    assert!(matches!(fault, ProofFault::Contended));
}

#[tokio::test]
async fn a_proof_waits_for_the_api_server_and_for_a_document_that_is_lost() {
    let (api, documents) = server().await;
    let lost = own(&format!("configmaps/document-{UID}"));
    let document = api.get(&lost).unwrap();
    api.remove(&lost);
    let fault = store(&api.client(), &documents, &of(&terminated()).unwrap()).await.unwrap_err();
    assert!(fault.is_retryable(), "{fault}");
    api.put(&lost, document);
    // The first read of all isn't answered, the next one is.
    api.trouble(Method::GET, "cacheclusters", Trouble::Status(500));
    let waits = [Duration::ZERO];
    store_in_the_end(&api.client(), &documents, &of(&terminated()).unwrap(), &waits).await;
    assert_eq!(proofs(&documents).await, [1]);
}
