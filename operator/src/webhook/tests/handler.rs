//! The webhook as the API server asks it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::fake_api::FakeApi;
use crate::webhook::{Lookup, LookupError, PATH, WebhookState, router};

/// One CacheCluster, `web`, in these namespaces. Of namespace `down` and `slow` it can't be read or there is no answer,
/// of `shop-down` and `shop-slow` the same is so of the Namespace alone. `shop-mesh` is in Istio.
struct One;

impl Lookup for One {
    async fn cluster(&self, namespace: &str, name: &str) -> Result<Option<CacheCluster>, LookupError> {
        match (namespace, name) {
            ("shop" | "shop-down" | "shop-slow" | "shop-mesh", "web") => Ok(Some(cluster())),
            ("down", _) => Err(LookupError::Cluster("connection refused".into())),
            ("slow", _) => std::future::pending().await,
            _ => Ok(None),
        }
    }

    async fn namespace(&self, name: &str) -> Result<ObjectMeta, LookupError> {
        match name {
            "shop" => Ok(ObjectMeta::default()),
            "shop-mesh" => Ok(serde_json::from_value(json!({"labels": {"istio-injection": "enabled"}})).unwrap()),
            "shop-slow" => std::future::pending().await,
            _ => Err(LookupError::Namespace("connection lost".into())),
        }
    }
}

/// A request for the creation of a pod, with these changes.
fn request(changes: Value) -> Value {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "u"},
            "object": raw(json!({"metadata": {"creationTimestamp": null}})),
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    });
    merge(&mut review["request"], changes);
    review
}

async fn post(body: impl Into<Body>) -> (StatusCode, Value) {
    // Only the cluster that never answers is waited for so long.
    let state = WebhookState { patience: Duration::from_millis(50), ..WebhookState::new(One, settings()) };
    let request = Request::post(PATH).header("content-type", "application/json").body(body.into()).unwrap();
    let response = router(state).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The answer to a request with these changes.
async fn answer(changes: Value) -> Value {
    let (status, review) = post(request(changes).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["kind"], "AdmissionReview");
    assert_eq!(review["response"]["uid"], "0c9a8d74");
    review["response"].clone()
}

/// The patch of an answer: bytes, which the types here write as numbers. The API server reads those as it does base64.
fn patch_of(answer: &Value) -> json_patch::Patch {
    assert_eq!(answer["patchType"], "JSONPatch");
    let bytes: Vec<u8> = serde_json::from_value(answer["patch"].clone()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_labelled_pod_is_patched_to_the_injected_one_and_a_dry_run_as_well() {
    for dry_run in [false, true] {
        let answer = answer(json!({"dryRun": dry_run})).await;
        assert_eq!(answer["allowed"], true);
        let mut patched = raw(json!({}));
        json_patch::patch(&mut patched, &patch_of(&answer)).unwrap();
        assert_eq!(serde_json::from_value::<Pod>(patched).unwrap(), injected(json!({}), &cluster()));
    }
}

#[tokio::test]
async fn an_injected_pod_needs_no_patch() {
    let answer = answer(json!({"object": injected(json!({}), &cluster())})).await;
    assert_eq!((&answer["allowed"], &answer["patch"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn what_is_no_labelled_new_pod_goes_through_untouched() {
    for changes in [
        json!({"object": {"metadata": {"labels": {"sidegrid.dev/cluster": null}}}}),
        json!({"operation": "UPDATE"}),
        json!({"operation": "DELETE", "object": null}),
        json!({"subResource": "ephemeralcontainers"}),
        json!({"resource": {"resource": "deployments"}}),
    ] {
        let answer = answer(changes.clone()).await;
        assert_eq!((&answer["allowed"], &answer["patch"]), (&json!(true), &Value::Null), "{changes}");
    }
}

#[tokio::test]
async fn refusals_tell_code_field_and_fix() {
    for (changes, code, words) in [
        (json!({"namespace": "other"}), 403, "metadata.labels[sidegrid.dev/cluster]: there is no CacheCluster \"web\""),
        (json!({"object": {"spec": {"hostNetwork": true}}}), 403, "spec.hostNetwork: "),
        (json!({"object": {"metadata": {"labels": {"sidegrid.dev/cluster": "../x"}}}}), 422, "metadata.labels["),
        (json!({"object": {"metadata": {"labels": {"sidegrid.dev/role": "x"}}}}), 422, "member or client"),
        (json!({"object": null}), 400, "request.object: is missing"),
        (json!({"object": {"spec": null}}), 400, "spec: is missing"),
        (json!({"object": {"spec": 7}}), 400, "no AdmissionReview of a pod"),
        (json!({"namespace": null}), 400, "request.namespace: is missing"),
        (json!({"operation": "FLY"}), 400, "no AdmissionReview of a pod"),
        (json!({"namespace": "down"}), 503, "the CacheCluster can't be read: connection refused; try again"),
        (json!({"namespace": "shop-down"}), 503, "the Namespace can't be read: connection lost; try again"),
    ] {
        let answer = answer(changes.clone()).await;
        assert_eq!(answer["allowed"], false, "{changes}");
        assert_eq!(answer["status"]["code"], code, "{changes} {answer}");
        assert!(answer["status"]["message"].as_str().unwrap().contains(words), "{changes} {answer}");
        assert_eq!(answer["patch"], Value::Null);
    }
}

#[tokio::test]
async fn what_is_not_read_in_time_is_asked_for_again() {
    for namespace in ["slow", "shop-slow"] {
        let answer = answer(json!({"namespace": namespace})).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(503)), "{namespace}");
    }
}

#[tokio::test]
async fn the_namespace_is_read_for_pods_that_leave_a_mesh_to_it_alone() {
    let meshed = answer(json!({"namespace": "shop-mesh"})).await;
    let text = serde_json::to_string(&patch_of(&meshed)).unwrap();
    assert!(text.contains("excludeInboundPorts") && !text.contains("linkerd"), "{text}");
    // These would be refused if it were asked for their Namespace.
    let decided = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}});
    assert_eq!(answer(json!({"namespace": "shop-down", "object": decided})).await["allowed"], true);
}

#[tokio::test]
async fn the_api_server_is_asked_for_cluster_and_namespace() {
    let (clusters, namespaces) = ("/apis/sidegrid.dev/v1alpha1/namespaces/shop/cacheclusters", "/api/v1/namespaces");
    let api = FakeApi::with(&[clusters, namespaces]);
    let client = api.client();
    assert!(client.cluster("shop", "web").await.unwrap().is_none());
    api.put(&format!("{clusters}/web"), serde_json::to_value(cluster()).unwrap());
    assert_eq!(client.cluster("shop", "web").await.unwrap().unwrap().spec, cluster().spec);
    assert!(matches!(client.namespace("shop").await, Err(LookupError::Namespace(_))));
    let labels = json!({"name": "shop", "labels": {"istio-injection": "enabled"}});
    api.put(&format!("{namespaces}/shop"), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": labels}));
    let found = client.namespace("shop").await.unwrap();
    assert_eq!(found.labels.unwrap()["istio-injection"], "enabled");
    api.done();
}

#[tokio::test]
async fn what_is_no_review_is_answered_with_400() {
    for body in
        ["", "{", "[]", "7", r#"{"request": 1}"#, r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#]
    {
        let (status, review) = post(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(review["response"]["allowed"], false, "{body}");
        assert_eq!(review["response"]["status"]["code"], 400, "{body}");
    }
    let mut beta = request(json!({}));
    beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let (_, review) = post(beta.to_string()).await;
    assert_eq!((&review["response"]["allowed"], &review["response"]["uid"]), (&json!(false), &json!("0c9a8d74")));
    let (status, _) = post(vec![b' '; 5 << 20]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_come_keep_nobody_waiting() {
    let routes = router(WebhookState::new(One, settings()));
    let ask = |body: Body| routes.clone().oneshot(Request::post(PATH).body(body).unwrap());
    let never = || Body::from_stream(futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
    let slow = futures::future::join_all((0..100).map(|_| ask(never())));
    let quick = async {
        let began = tokio::time::Instant::now();
        let status = ask(Body::from(request(json!({})).to_string())).await.unwrap().status();
        (status, began.elapsed())
    };
    let (slow, (status, took)) = tokio::join!(slow, quick);
    assert_eq!(status, StatusCode::OK);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(slow.into_iter().all(|answer| answer.unwrap().status() == StatusCode::REQUEST_TIMEOUT));
}

#[tokio::test]
async fn what_is_held_of_bodies_is_bounded() {
    assert_eq!(post(vec![b' '; 5 << 20]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}
