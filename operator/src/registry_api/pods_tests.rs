use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use sidegrid_core::MemberId;

use super::*;
use crate::fake_api::{FakeApi, member_of};

const PODS: &str = "/api/v1/namespaces/shop/pods";

fn object(uid: &str, changes: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "uid": uid, "labels": {"sidegrid.dev/cluster": "web"}},
        "spec": {"containers": []}, "status": {"phase": "Running"},
    });
    json_patch::merge(&mut pod, changes);
    pod
}

fn pod(uid: &str, changes: &Value) -> Pod {
    serde_json::from_value(object(uid, changes)).unwrap()
}

fn names(uid: &str) -> MemberNames {
    MemberNames::new("shop", "web", "web-1").unwrap().with_pod_uid(uid).unwrap()
}

async fn told(pods: &Pods, uid: &str) -> Result<bool, StatusCode> {
    let found = pods.of_certificate(Some(&names(uid))).await;
    found.map(|(_, pod)| pod.is_client).map_err(|problem| problem.into_response().status())
}

#[tokio::test]
async fn a_certificate_ends_with_its_pod() {
    let api = FakeApi::with(&[PODS]);
    let pods = Pods::new(api.client());
    let mut listed = HashMap::new();
    // Nothing is known yet: read live.
    assert_eq!(told(&pods, "u1").await, Err(StatusCode::FORBIDDEN));
    api.put(&format!("{PODS}/web-1"), object("u1", &json!({})));
    assert_eq!(told(&pods, "u1").await, Ok(false));
    assert_eq!(told(&pods, "u2").await, Err(StatusCode::FORBIDDEN), "another pod of the name");
    assert_eq!(pods.of_certificate(None).await.unwrap_err().into_response().status(), StatusCode::UNAUTHORIZED);
    let unnamed = MemberNames::new("shop", "web", "web-1").unwrap();
    assert!(pods.of_certificate(Some(&unnamed)).await.is_err());

    pods.apply(&mut listed, Event::Init);
    pods.apply(&mut listed, Event::InitApply(pod("u1", &json!({}))));
    pods.apply(&mut listed, Event::InitDone);
    let before = api.calls("GET");
    assert_eq!(told(&pods, "u1").await, Ok(false));
    assert_eq!(api.calls("GET"), before, "what is known costs no call");
    for changes in [
        json!({"status": {"phase": "Failed"}}),
        json!({"status": {"phase": "Succeeded"}}),
        json!({"metadata": {"labels": {"sidegrid.dev/cluster": "other"}}}),
    ] {
        pods.apply(&mut listed, Event::Apply(pod("u1", &changes)));
        assert_eq!(told(&pods, "u1").await, Err(StatusCode::FORBIDDEN), "{changes}");
    }
    pods.apply(&mut listed, Event::Apply(pod("u1", &json!({}))));
    api.remove(&format!("{PODS}/web-1"));
    assert_eq!(told(&pods, "u1").await, Ok(false));
    pods.apply(&mut listed, Event::Delete(pod("u1", &json!({}))));
    assert_eq!(told(&pods, "u1").await, Err(StatusCode::FORBIDDEN));
    api.done();
}

#[test]
fn a_client_is_told_by_its_label_or_by_how_it_was_injected() {
    let env = |role: &str| {
        let env = json!([{"name": "SIDEGRID_MEMBER_ROLE", "value": role}]);
        json!({"spec": {"initContainers": [{"name": "sidegrid", "env": env}]}})
    };
    let is_client = |changes: &Value| KnownPod::of(&pod("u", changes)).is_client;
    assert!(is_client(&json!({"metadata": {"labels": {"sidegrid.dev/role": "client"}}})));
    assert!(is_client(&env("client")) && !is_client(&env("member")) && !is_client(&json!({})));
}

#[tokio::test]
async fn only_pods_on_their_way_out_may_have_released() {
    let pods = Pods::new(FakeApi::with(&[PODS]).client());
    let member = member_of(1, "u1", 1);
    assert!(!pods.may_have_released(&member), "nothing is known");
    let mut listed = HashMap::new();
    pods.apply(&mut listed, Event::InitApply(pod("u1", &json!({}))));
    pods.apply(&mut listed, Event::InitDone);
    assert!(!pods.may_have_released(&member));
    pods.apply(
        &mut listed,
        Event::Apply(pod("u1", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))),
    );
    assert!(pods.may_have_released(&member));
    let gone = member_of(2, "u2", 1);
    assert!(pods.may_have_released(&gone) && gone.id == MemberId(2));
}
