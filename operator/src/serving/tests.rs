use axum::http::Method;
use serde_json::json;

use super::*;
use crate::fake_api::{FakeApi, NS, Trouble, own};

const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn path() -> String {
    own("secrets/sidegrid-operator-tls")
}

#[tokio::test]
async fn certificates_are_made_once_and_shared() {
    let api = FakeApi::own();
    let made = ensure(&api.client(), NS).await.unwrap();
    assert_eq!(ensure(&api.client(), NS).await.unwrap(), made);
    assert_eq!((api.calls("POST"), api.calls("PUT")), (1, 0));
    assert!(has_names(&made.leaf().cert_pem, &dns_names(NS)).unwrap());
    ServiceCertificate::new(made.leaf()).unwrap();

    // The loser of a race takes the winner's.
    let slow = FakeApi::own();
    slow.race(&path(), api.get(&path()).unwrap());
    assert_eq!(ensure(&slow.client(), NS).await.unwrap(), made);
    api.done();
    slow.done();
}

#[tokio::test]
async fn a_leaf_that_does_not_fit_is_signed_anew_by_the_same_authority() {
    let api = FakeApi::own();
    let first = ensure(&api.client(), NS).await.unwrap();
    // As after a move to another namespace.
    let mut moved = api.get(&path()).unwrap();
    let others = ServiceAuthority::generate("x", DAY).unwrap().issue(&["x".to_owned()], DAY).unwrap();
    let encoded = |text: &str| serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap();
    moved["data"]["tls.crt"] = encoded(&others.cert_pem);
    moved["data"]["tls.key"] = encoded(&others.key_pem);
    api.put(&path(), moved);
    api.trouble(Method::PUT, SERVING_SECRET, Trouble::Status(409));
    let renewed = ensure(&api.client(), NS).await.unwrap();
    assert_eq!(renewed.authority_pem(), first.authority_pem());
    assert_ne!(renewed.leaf(), first.leaf());
    assert!(has_names(&renewed.leaf().cert_pem, &dns_names(NS)).unwrap());
    assert_eq!(ensure(&api.client(), NS).await.unwrap(), renewed);

    api.put(&path(), json!({"metadata": {"name": SERVING_SECRET}, "data": {}}));
    assert!(matches!(ensure(&api.client(), NS).await, Err(ServingFault::Damaged(_))));
}

#[tokio::test]
async fn the_webhook_is_told_of_the_authority_once() {
    let api = FakeApi::with(&[WEBHOOKS]);
    assert_eq!(patch_webhook(&api.client(), "pem").await.unwrap(), WebhookStanding::Missing);
    api.put(&format!("{WEBHOOKS}/sidegrid"), json!({"metadata": {"name": "sidegrid"}, "webhooks": []}));
    assert_eq!(patch_webhook(&api.client(), "pem").await.unwrap(), WebhookStanding::Missing);
    let webhook = json!({
        "name": "pods.sidegrid.dev", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    api.put(&format!("{WEBHOOKS}/sidegrid"), json!({"metadata": {"name": "sidegrid"}, "webhooks": [webhook]}));
    api.trouble(Method::PATCH, "/sidegrid", Trouble::Status(403));
    assert_eq!(patch_webhook(&api.client(), "pem").await.unwrap(), WebhookStanding::Untrusted);
    assert_eq!(patch_webhook(&api.client(), "pem").await.unwrap(), WebhookStanding::InPlace);
    let bundle = &api.get(&format!("{WEBHOOKS}/sidegrid")).unwrap()["webhooks"][0]["clientConfig"]["caBundle"];
    assert_eq!(bundle, "cGVt");
    assert_eq!(patch_webhook(&api.client(), "pem").await.unwrap(), WebhookStanding::InPlace);
    assert_eq!(api.calls("PATCH"), 2, "one was refused, one done");
    api.trouble(Method::GET, "/sidegrid", Trouble::Status(500));
    assert!(patch_webhook(&api.client(), "pem").await.is_err());
    api.done();
}

/// In the middle between two looks at the certificates, which are a minute apart.
#[tokio::test(start_paused = true)]
async fn a_configuration_that_was_installed_anew_is_trusted_within_seconds_and_its_standing_told() {
    let api = FakeApi::with(&[WEBHOOKS, &own("secrets")]);
    let identity = ensure(&api.client(), NS).await.unwrap();
    let fresh = json!({"metadata": {"name": "sidegrid"}, "webhooks": [{
        "name": "pods.sidegrid.dev", "clientConfig": {}, "sideEffects": "None", "admissionReviewVersions": ["v1"],
    }]});
    let (stands, mut standing) = watch::channel(WebhookStanding::default());
    let shutdown = CancellationToken::new();
    let certificate = ServiceCertificate::new(identity.leaf()).unwrap();
    let tasks = tokio_util::task::TaskTracker::new();
    let kept = tasks.spawn(keep(api.client(), NS.to_owned(), certificate, stands, shutdown.clone()));
    let limit = Duration::from_secs(30);
    let mut until = async |wanted: WebhookStanding| {
        let until = standing.wait_for(|known| *known == wanted);
        tokio::time::timeout(limit, until).await.expect("told in time").unwrap();
    };
    until(WebhookStanding::Missing).await;
    api.put(&format!("{WEBHOOKS}/sidegrid"), fresh.clone());
    until(WebhookStanding::InPlace).await;
    let bundle =
        || api.get(&format!("{WEBHOOKS}/sidegrid")).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert!(bundle().is_string());
    // Replaced between two looks.
    api.put(&format!("{WEBHOOKS}/sidegrid"), fresh);
    tokio::time::sleep(2 * WEBHOOK_EVERY).await;
    assert!(bundle().is_string());
    api.remove(&format!("{WEBHOOKS}/sidegrid"));
    until(WebhookStanding::Missing).await;
    shutdown.cancel();
    kept.await.unwrap();
    api.done();
}
