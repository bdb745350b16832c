use serde_json::json;

use super::*;
use crate::fake_api::{CLUSTER, FakeApi, NS, Trouble, UID, own};

const OTHER: &str = "12345678-9abc-def0-1234-56789abcdef0";

#[test]
fn a_uid_is_a_cluster_and_back() {
    assert_eq!(cluster_uid(UID), Some(CLUSTER));
    assert_eq!(uid_text(CLUSTER), UID);
    assert_eq!(uid_text(cluster_uid(OTHER).unwrap()), OTHER);
    for bad in ["", "c1", "123456789abc-def0-1234-56789abcdef0-", &OTHER.to_uppercase(), &OTHER.replace('-', "")] {
        assert_eq!(cluster_uid(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn an_authority_is_made_once_and_read_from_then_on() {
    let api = FakeApi::own();
    let client = api.client();
    assert!(read(&client, NS, UID).await.unwrap().is_none());
    let made = ensure(&client, NS, UID, false).await.unwrap();
    let again = ensure(&client, NS, UID, false).await.unwrap();
    assert_eq!(made.authorities_pem(), again.authorities_pem());
    assert_eq!(api.calls("POST"), 1);
    let secret = api.get(&own(&format!("secrets/authority-{UID}"))).unwrap();
    assert_eq!(secret["metadata"]["labels"]["sidegrid.dev/cluster-uid"], json!(UID));

    let cache = Authorities::new(NS);
    let before = api.calls("GET");
    for _ in 0..3 {
        assert_eq!(cache.get(&client, UID).await.unwrap().unwrap().authorities_pem(), made.authorities_pem());
    }
    assert_eq!(api.calls("GET"), before + 1);
    assert!(cache.get(&client, OTHER).await.unwrap().is_none());
    api.done();
}

#[tokio::test]
async fn the_loser_of_a_race_uses_the_winners() {
    let winners = FakeApi::own();
    let winner = ensure(&winners.client(), NS, UID, false).await.unwrap();
    let path = own(&format!("secrets/authority-{UID}"));
    let api = FakeApi::own();
    // Between the loser's look and its own creation.
    api.race(&path, winners.get(&path).unwrap());
    let lost = ensure(&api.client(), NS, UID, false).await.unwrap();
    assert_eq!(lost.authorities_pem(), winner.authorities_pem());
    assert_eq!(api.calls("POST"), 1);
}

#[tokio::test]
async fn one_that_was_lost_beside_its_document_is_not_made_anew() {
    let api = FakeApi::own();
    api.put(&own(&format!("configmaps/document-{UID}")), json!({"metadata": {"name": "d"}}));
    let fault = ensure(&api.client(), NS, UID, false).await.unwrap_err();
    assert_eq!((fault.reason(), fault.is_retryable()), ("lost", false));
    // Gone with its document, from under members that run.
    api.remove(&own(&format!("configmaps/document-{UID}")));
    assert_eq!(ensure(&api.client(), NS, UID, true).await.unwrap_err().reason(), "lost");
    assert_eq!(api.calls("POST"), 0);
}

#[tokio::test]
async fn what_is_damaged_or_out_of_reach_is_told_and_left() {
    let api = FakeApi::own();
    let path = own(&format!("secrets/authority-{UID}"));
    api.put(&path, json!({"metadata": {"name": "a"}, "data": {"ca.crt": "bm9uc2Vuc2U="}}));
    assert_eq!(ensure(&api.client(), NS, UID, false).await.unwrap_err().reason(), "damaged");
    api.trouble(axum::http::Method::GET, UID, Trouble::Status(500));
    let fault = ensure(&api.client(), NS, UID, false).await.unwrap_err();
    assert_eq!((fault.reason(), fault.is_retryable()), ("unavailable", true));
    assert_eq!(ensure(&api.client(), NS, "web", false).await.unwrap_err().reason(), "invalid");
    assert_eq!(api.calls("PUT") + api.calls("POST"), 0);
    api.done();
}
