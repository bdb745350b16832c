//! The kind `operator` against the suite, and what becomes of changes whose answers are lost on the way.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::time::Duration;

use sidegrid_conformance::{Mishap, OperatorPlace, Place, first, next, suite};
use sidegrid_core::document::Document;
use sidegrid_core::{ClusterUid, MemberId};
use sidegrid_registry::api::{EnrolRequest, RepublishRequest};
use sidegrid_registry::{Enrol, OperatorLimits, OperatorRegistry, Registry};

/// Short, so that waiting a deadline out is.
fn limits() -> OperatorLimits {
    OperatorLimits {
        dial: Duration::from_secs(10),
        deadline: Duration::from_millis(400),
        slack: Duration::from_secs(10),
        turn: Duration::from_secs(20),
    }
}

async fn created(registry: &OperatorRegistry) -> Document {
    let document = first(ClusterUid(1), 3);
    assert!(registry.create(document.clone()).await.unwrap().is_done());
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_operator_is_a_registry() {
    suite(OperatorPlace::new).await;
}

/// G-2
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_lands_after_its_connection_broke_lands_before_the_next_read() {
    let late = Duration::from_millis(200);
    for mishap in [Mishap::AppliesThenHangsUp, Mishap::HangsUpThenApplies(late), Mishap::DoesNotKnow(late)] {
        let place = OperatorPlace::new();
        let registry = place.registry(limits());
        let one = created(&registry).await;
        let two = next(&one, "late");
        place.next_change(mishap);
        let error = registry.swap(one.expected(), two.clone()).await.unwrap_err();
        assert_eq!(error.reason(), "unknown_outcome", "{mishap:?}: {error}");
        assert_eq!(registry.read().await.unwrap(), Some(two), "{mishap:?}: the read settles it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_operator_says_it_did_not_make_is_known_not_to_be_made() {
    let place = OperatorPlace::new();
    let registry = place.registry(OperatorLimits { deadline: Duration::from_secs(60), ..limits() });
    let one = created(&registry).await;
    place.next_change(Mishap::Refuses);
    let error = registry.swap(one.expected(), next(&one, "a")).await.unwrap_err();
    assert_eq!(error.reason(), "unavailable", "{error}");
    let read = tokio::time::timeout(Duration::from_secs(30), registry.read());
    assert_eq!(read.await.expect("nothing is waited out").unwrap(), Some(one));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_until_there_is_a_new_leaf() {
    let place = OperatorPlace::new();
    let registry = place.registry(limits());
    let one = created(&registry).await;
    for _ in 0..5 {
        assert_eq!(registry.read().await.unwrap().as_ref(), Some(&one));
    }
    assert_eq!(place.dials(), 1);
    registry.renewed();
    registry.read().await.unwrap();
    registry.read().await.unwrap();
    assert_eq!(place.dials(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_document_is_missing_to_readers_lost_to_creators_and_told_again() {
    let place = OperatorPlace::new();
    let registry = place.registry(limits());
    let one = created(&registry).await;
    place.tamper(None).await;
    assert_eq!(registry.read().await.unwrap(), None);
    assert_eq!(registry.create(one.clone()).await.unwrap_err().reason(), "corrupt");
    let view = one.view.number.next();
    registry.republish(view, one.clone()).await.unwrap();
    assert_eq!(place.republished(), [RepublishRequest { view, document: one }]);
    assert_eq!(registry.authority().await.unwrap_err().reason(), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_enrolment_shows_the_token_that_the_file_holds_now() {
    let place = OperatorPlace::new();
    let registry = place.registry(limits());
    let ask = || registry.enrol(EnrolRequest { member: MemberId(7), request: "csr".into() });
    let error = ask().await.unwrap_err();
    assert!(error.to_string().contains("holds no token"), "{error}");
    fs::write(place.token_path(), "first\n").unwrap();
    assert_eq!(ask().await.unwrap().certificate, format!("csr for {}", MemberId(7)));
    fs::write(place.token_path(), "second").unwrap();
    ask().await.unwrap();
    assert_eq!(place.tokens(), ["first", "second"]);
    fs::write(place.token_path(), "bad").unwrap();
    let error = ask().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("not accepted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unavailable_also_for_changes() {
    let place = OperatorPlace::new();
    let registry = place.registry(limits());
    let document = first(ClusterUid(1), 3);
    drop(place);
    assert_eq!(registry.create(document).await.unwrap_err().reason(), "unavailable");
    assert_eq!(registry.read().await.unwrap_err().reason(), "unavailable");
}
