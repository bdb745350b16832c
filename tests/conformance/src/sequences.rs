//! What one caller at a time must see.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use sidegrid_core::document::{Document, DocumentVersion, Expected};
use sidegrid_core::{ClusterUid, ViewNumber};
use sidegrid_registry::{Registry, Secret, Swap};

use crate::documents::{first, mark_of, next, of_size};
use crate::lossy::Lossy;
use crate::proposer::{Attempt, propose};
use crate::{History, Place};

pub(crate) const CLUSTER: ClusterUid = ClusterUid(0xc1);
/// Changes made through a lossy registry; with one loss in three, dozens of each sort.
const LOSSY_CHANGES: usize = 120;

/// Creates revision 1 and returns it.
pub(crate) async fn created(registry: &dyn Registry) -> Document {
    let document = first(CLUSTER, 3);
    assert!(registry.create(document.clone()).await.expect("creating").is_done(), "nothing was there");
    document
}

pub(crate) async fn there(registry: &dyn Registry) -> Option<Document> {
    registry.read().await.expect("reading")
}

/// What is there instead of what must be there, told in a line.
fn found(document: Option<&Document>) -> String {
    document.map_or("nothing".to_owned(), |document| {
        let (mark, after) = mark_of(document);
        let Expected { cluster, version, revision } = document.expected();
        format!("revision {revision} ({version:?}, marked {mark:?} after {after:?}) of cluster {cluster}")
    })
}

pub(crate) async fn must_show(registry: &dyn Registry, document: Option<&Document>, why: &str) {
    let there = there(registry).await;
    assert!(there.as_ref() == document, "{why}: read {} for {}", found(there.as_ref()), found(document));
}

pub(crate) fn must_conflict(outcome: &Swap, document: Option<&Document>, why: &str) {
    match outcome {
        Swap::Done => panic!("{why}: done where {} is", found(document)),
        Swap::Conflict(there) => {
            assert!(there.as_ref() == document, "{why}: shown {} for {}", found(there.as_ref()), found(document));
        }
    }
}

async fn swapped(registry: &dyn Registry, current: &Document, mark: &str) -> Document {
    let document = next(current, mark);
    let done = registry.swap(current.expected(), document.clone()).await.expect("swapping");
    assert!(done.is_done(), "a swap of what is there must be done");
    document
}

/// A document and a secret outlast the instance that put them there.
pub(crate) async fn holds_what_was_put(place: &impl Place) {
    let registry = place.open();
    must_show(&*registry, None, "an empty place").await;
    let keeps_authority = place.keeps_authority();
    if keeps_authority {
        assert!(registry.authority().await.expect("reading").is_none(), "an empty place");
    }
    let one = created(&*registry).await;
    must_show(&*registry, Some(&one), "the document that was put there").await;
    let again = registry.create(next(&one, "again")).await.expect("creating");
    must_conflict(&again, Some(&one), "a document is created once");
    let two = swapped(&*registry, &one, "a").await;
    let secret = Secret::new((0..=255).collect());
    if keeps_authority {
        assert_eq!(registry.create_authority(secret.clone()).await.expect("creating"), secret);
    }
    drop(registry);
    let restarted = place.open();
    must_show(&*restarted, Some(&two), "the document outlasts its writer").await;
    if keeps_authority {
        assert_eq!(restarted.authority().await.expect("reading"), Some(secret), "the secret outlasts its writer");
    }
    swapped(&*restarted, &two, "b").await;
}

/// G-1: cluster uid, view, ballot and revision are each compared, and a conflict shows what is there.
pub(crate) async fn compares_each_part(place: &impl Place) {
    let registry = place.open();
    let mut current = created(&*registry).await;
    for round in 0..4 {
        current = swapped(&*registry, &current, &format!("a{round}")).await;
    }
    let right = current.expected();
    let version = |view: u64, ballot: u64| DocumentVersion { view: ViewNumber(view), ballot };
    let (view, ballot) = (right.version.view.0, right.version.ballot);
    assert!(view > 1 && ballot > 0, "there must be older ones to expect");
    let wrong = [
        ("cluster", Expected { cluster: ClusterUid(CLUSTER.0 + 1), ..right }),
        ("view", Expected { version: version(view - 1, ballot), ..right }),
        ("ballot", Expected { version: version(view, ballot - 1), ..right }),
        ("revision", Expected { revision: right.revision - 1, ..right }),
        ("revision", Expected { revision: right.revision + 1, ..right }),
    ];
    for (part, expected) in wrong {
        let document = Document {
            cluster: expected.cluster,
            revision: expected.revision + 1,
            ..next(&current, "must not be written")
        };
        let outcome = registry.swap(expected, document).await;
        if part == "cluster" && place.is_of_one_cluster() {
            let refused = outcome.expect_err("another cluster's");
            assert_eq!(refused.reason(), "unavailable", "{refused}");
            continue;
        }
        must_conflict(&outcome.expect("swapping"), Some(&current), &format!("another {part} must conflict"));
    }
    must_show(&*registry, Some(&current), "a conflict changes nothing").await;
    swapped(&*registry, &current, "b").await;
}

/// A swap that leaves out a revision, goes back or changes the cluster is refused whatever is there.
pub(crate) async fn refuses_what_can_not_follow(place: &impl Place) {
    let registry = place.open();
    let one = created(&*registry).await;
    let good = next(&one, "a");
    for bad in [
        Document { revision: 1, ..good.clone() },
        Document { revision: 3, ..good.clone() },
        Document { cluster: ClusterUid(CLUSTER.0 + 1), ..good.clone() },
        Document { format: u16::MAX, ..good.clone() },
    ] {
        let error = registry.swap(one.expected(), bad).await.expect_err("it can't follow");
        assert_eq!(error.reason(), "invalid", "{error}");
    }
    must_show(&*registry, Some(&one), "a refusal changes nothing").await;
}

/// A document that went missing stays missing: a member that starts meanwhile would otherwise make a second cluster of
/// the same name (G-3 is up to the members that run).
pub(crate) async fn missing_is_reported_not_repaired(place: &impl Place) {
    let registry = place.open();
    let one = created(&*registry).await;
    let two = swapped(&*registry, &one, "a").await;
    place.tamper(None).await;
    for instance in [&registry, &place.open()] {
        must_show(&**instance, None, "the document is missing").await;
        let outcome = instance.swap(two.expected(), next(&two, "b")).await.expect("swapping");
        must_conflict(&outcome, None, "a swap never creates");
        must_show(&**instance, None, "the document is still missing").await;
        let error = instance.create(first(one.cluster, 1)).await.expect_err("what was created once is not made anew");
        assert_eq!(error.reason(), "corrupt", "{error}");
        must_show(&**instance, None, "the document is still missing").await;
    }
    place.tamper(Some(&two)).await;
    must_show(&*registry, Some(&two), "the document is back").await;
    swapped(&*registry, &two, "c").await;
}

/// An older document is shown as it is (G-3 is up to the members), or told as missing where how new it was is remembered.
pub(crate) async fn older_is_reported_not_repaired(place: &impl Place) {
    let registry = place.open();
    let old = created(&*registry).await;
    let mut current = old.clone();
    for round in 0..3 {
        current = swapped(&*registry, &current, &format!("a{round}")).await;
    }
    place.tamper(Some(&old)).await;
    if place.remembers_views() {
        for instance in [&registry, &place.open()] {
            must_show(&**instance, None, "the older document is as good as missing").await;
            let outcome = instance.swap(old.expected(), next(&old, "b")).await.expect("swapping");
            must_conflict(&outcome, None, "nothing follows from it");
            let error = instance.create(first(old.cluster, 1)).await.expect_err("it is not made anew either");
            assert_eq!(error.reason(), "corrupt", "{error}");
        }
        place.tamper(Some(&current)).await;
        must_show(&*registry, Some(&current), "the newest is back").await;
        swapped(&*registry, &current, "c").await;
        return;
    }
    for instance in [&registry, &place.open()] {
        must_show(&**instance, Some(&old), "the older document is there").await;
        let outcome = instance.swap(current.expected(), next(&current, "b")).await.expect("swapping");
        must_conflict(&outcome, Some(&old), "a swap compares with what is there");
    }
    swapped(&*registry, &old, "c").await;
}

/// G-2, for callers that stopped waiting: what a later read of the same instance shows stays true.
pub(crate) async fn given_up_calls_are_settled_by_reading(place: &impl Place) {
    let registry = place.open();
    let other = place.open();
    let mut current = created(&*registry).await;
    for round in 0..24 {
        let proposal = next(&current, &format!("given-up{round}"));
        {
            let mut call = pin!(registry.swap(current.expected(), proposal.clone()));
            for _ in 0..round % 4 {
                let polled = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready()));
                if polled.await {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let settled = there(&*registry).await.expect("a document");
        assert!(settled == current || settled == proposal, "neither the old nor the proposed document");
        for _ in 0..4 {
            let seen = there(&*other).await.expect("a document");
            assert!(seen == settled, "a given-up call took effect after a read had settled it");
        }
        current = swapped(&*other, &settled, &format!("b{round}")).await;
    }
}

/// G-2: after a lost answer, reading tells what became of the change.
pub(crate) async fn lost_answers_are_settled_by_reading(place: &impl Place) {
    let registry = place.open();
    let one = created(&*registry).await;
    let lossy = Lossy::new(place.open(), 7, 3);
    let mut history = History::default();
    for change in 0..LOSSY_CHANGES {
        match propose(&lossy, &format!("a{change}")).await {
            Attempt::Won(step) => history.won.push(step),
            Attempt::Lost => {}
            Attempt::Unsure(step) => panic!("nobody else makes changes, so reading tells: {step}"),
        }
    }
    let losses = lossy.losses();
    assert!(losses.calls > 0 && losses.answers > 0, "both sorts must have been met: {losses:?}");
    let last = there(&*registry).await.expect("a document");
    assert_eq!(
        history.won.len(),
        LOSSY_CHANGES - usize::try_from(losses.calls).expect("few"),
        "one for each that arrived"
    );
    history.check(&one, &last);
}

/// A document of 60 members and the default number of segments is as good as a small one.
pub(crate) async fn keeps_large_documents(place: &impl Place) {
    let registry = place.open();
    let large = of_size(CLUSTER, 60, 256);
    assert!(registry.create(large.clone()).await.expect("creating").is_done());
    must_show(&*registry, Some(&large), "the document that was put there").await;
    let two = swapped(&*registry, &large, "a").await;
    must_show(&*place.open(), Some(&two), "the document that was put there").await;
}
