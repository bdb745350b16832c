use axum::http::Method;
use serde_json::json;

use super::*;
use crate::fake_api::{CLUSTER, FakeApi, NS, Trouble, UID, document_of, own};

fn secret() -> String {
    own(&format!("secrets/authority-{UID}"))
}

fn config_map() -> String {
    own(&format!("configmaps/document-{UID}"))
}

fn server() -> (FakeApi, Documents) {
    let api = FakeApi::own();
    api.put(&secret(), json!({"metadata": {"name": format!("authority-{UID}")}}));
    let documents = Documents::new(api.client(), NS);
    (api, documents)
}

fn is_marked(api: &FakeApi) -> bool {
    api.get(&secret()).unwrap()["metadata"]["annotations"][VIEW_ANNOTATION].is_string()
}

fn next(document: &Document) -> Document {
    Document { revision: document.revision + 1, ballot: document.ballot + 1, ..document.clone() }
}

#[tokio::test]
async fn a_document_is_created_once_read_and_swapped() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    assert_eq!(documents.read(UID).await.unwrap(), None);
    assert!(documents.create(UID, &first).await.unwrap().is_done());
    assert!(is_marked(&api));
    assert_eq!(documents.read(UID).await.unwrap(), Some(first.clone()));
    let other = document_of(&[2], 1);
    assert_eq!(documents.create(UID, &other).await.unwrap(), Swap::Conflict(Some(first.clone())));

    let second = next(&first);
    assert!(documents.swap(UID, &first.expected(), &second).await.unwrap().is_done());
    assert_eq!(documents.swap(UID, &first.expected(), &second).await.unwrap(), Swap::Conflict(Some(second.clone())));
    assert!(matches!(documents.swap(UID, &second.expected(), &first).await, Err(DocumentError::Invalid(_))));
    assert_eq!(documents.read(UID).await.unwrap(), Some(second));
    api.done();
}

#[tokio::test]
async fn a_document_that_was_lost_is_not_made_anew() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    documents.create(UID, &first).await.unwrap();
    api.remove(&config_map());
    assert!(matches!(documents.read(UID).await, Err(DocumentError::Lost(_))));
    assert!(matches!(documents.create(UID, &first).await, Err(DocumentError::Lost(_))));
    assert!(matches!(documents.swap(UID, &first.expected(), &next(&first)).await, Err(DocumentError::Lost(_))));
    assert!(api.get(&config_map()).is_none());
}

#[tokio::test]
async fn of_two_creations_at_once_one_is_told_of_the_other() {
    let (api, documents) = server();
    let winner = document_of(&[2], 1);
    let text = String::from_utf8(encode(&winner).unwrap()).unwrap();
    api.race(&secret(), json!({"metadata": {"name": "s"}}));
    api.race(&config_map(), json!({"metadata": {"name": "d"}, "data": {"document": text}}));
    // The loser's first look finds nothing; then the winner's is there.
    let swap = documents.create(UID, &document_of(&[1], 1)).await.unwrap();
    assert_eq!(swap, Swap::Conflict(Some(winner)));
}

#[tokio::test]
async fn nobody_is_told_of_a_view_before_it_is_marked() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    api.trouble(Method::PATCH, UID, Trouble::Status(500));
    assert!(matches!(documents.create(UID, &first).await, Err(DocumentError::Unknown(_))));
    assert!(!is_marked(&api));
    api.trouble(Method::PATCH, UID, Trouble::Status(500));
    assert!(matches!(documents.read(UID).await, Err(DocumentError::Unavailable(_))));
    assert_eq!(documents.read(UID).await.unwrap(), Some(first.clone()));
    assert!(is_marked(&api));

    let mut second = next(&first);
    second.view.number = first.view.number.next();
    api.trouble(Method::PATCH, UID, Trouble::Status(500));
    assert!(matches!(documents.swap(UID, &first.expected(), &second).await, Err(DocumentError::Unknown(_))));
    // Also who lost a race is told of it only then.
    api.trouble(Method::PATCH, UID, Trouble::Status(500));
    assert!(documents.swap(UID, &first.expected(), &next(&first)).await.is_err());
    assert_eq!(
        documents.swap(UID, &first.expected(), &next(&first)).await.unwrap(),
        Swap::Conflict(Some(second.clone()))
    );
    assert_eq!(documents.newest_mark(UID).await.unwrap().map(|mark| mark.view), Some(second.view.number));
    // A document of before is as good as none from then on.
    api.remove(&config_map());
    let text = String::from_utf8(encode(&first).unwrap()).unwrap();
    api.put(&config_map(), json!({"metadata": {"name": "d"}, "data": {"document": text}}));
    assert!(matches!(documents.read(UID).await, Err(DocumentError::Lost(_))));
}

#[tokio::test]
async fn replicas_that_mark_at_once_are_no_fault() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    api.trouble(Method::PATCH, UID, Trouble::Status(409));
    assert!(documents.create(UID, &first).await.unwrap().is_done());
    assert!(is_marked(&api));
}

#[tokio::test]
async fn a_change_between_read_and_write_is_a_conflict_with_what_is_there() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    documents.create(UID, &first).await.unwrap();
    let faster = next(&first);
    let text = String::from_utf8(encode(&faster).unwrap()).unwrap();
    api.race(&config_map(), json!({"metadata": {"name": "d"}, "data": {"document": text}}));
    let mine = Document { revision: 2, ..first.clone() };
    assert_eq!(documents.swap(UID, &first.expected(), &mine).await.unwrap(), Swap::Conflict(Some(faster)));
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_reading_settles_it() {
    let (api, documents) = server();
    let first = document_of(&[1], 1);
    api.trouble(Method::POST, "configmaps", Trouble::AnswerLost);
    assert!(matches!(documents.create(UID, &first).await, Err(DocumentError::Unknown(_))));
    assert_eq!(documents.read(UID).await.unwrap(), Some(first.clone()));
    let second = next(&first);
    api.trouble(Method::PUT, UID, Trouble::AnswerLost);
    assert!(matches!(documents.swap(UID, &first.expected(), &second).await, Err(DocumentError::Unknown(_))));
    assert_eq!(documents.read(UID).await.unwrap(), Some(second.clone()));
    api.trouble(Method::GET, UID, Trouble::AnswerLost);
    assert!(matches!(
        documents.swap(UID, &second.expected(), &next(&second)).await,
        Err(DocumentError::Unavailable(_))
    ));
}

#[tokio::test]
async fn what_is_not_the_clusters_or_not_readable_is_refused() {
    let (api, documents) = server();
    let foreign = Document { cluster: sidegrid_core::ClusterUid(CLUSTER.0 + 1), ..document_of(&[1], 1) };
    assert!(matches!(documents.create(UID, &foreign).await, Err(DocumentError::Invalid(_))));
    api.put(&config_map(), json!({"metadata": {"name": "d"}, "data": {"document": "{"}}));
    assert!(matches!(documents.read(UID).await, Err(DocumentError::Corrupt { .. })));
    let text = String::from_utf8(encode(&foreign).unwrap()).unwrap();
    api.put(&config_map(), json!({"metadata": {"name": "d"}, "data": {"document": text}}));
    assert!(matches!(documents.read(UID).await, Err(DocumentError::Corrupt { .. })));
    api.remove(&config_map());
    api.remove(&secret());
    assert!(matches!(documents.read(UID).await, Err(DocumentError::UnknownCluster(_))));
}
