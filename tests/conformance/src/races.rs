//! What many callers at once must see.

use std::sync::Arc;

use sidegrid_core::ClusterUid;
use sidegrid_registry::Secret;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::documents::{first, mark_of, marked};
use crate::lossy::Lossy;
use crate::proposer::win;
use crate::sequences::{CLUSTER, created, must_conflict, there};
use crate::{History, Place};

const CREATORS: u128 = 32;
const PROPOSERS: usize = 16;
const WINS_EACH: usize = 50;
const LOSSY_PROPOSERS: u64 = 8;
const LOSSY_WINS_EACH: usize = 25;

/// Many creators at once: one is done, and the others are shown its document.
pub(crate) async fn one_creator(place: &impl Place) {
    let start = Arc::new(Barrier::new(usize::try_from(CREATORS).expect("few")));
    let mut creators = JoinSet::new();
    for creator in 1..=CREATORS {
        let (registry, start) = (place.open(), Arc::clone(&start));
        let cluster = if place.is_of_one_cluster() { CLUSTER } else { ClusterUid(creator) };
        creators.spawn(async move {
            start.wait().await;
            let mark = format!("creator{creator}");
            let document = marked(first(cluster, 3), &mark);
            (mark, registry.create(document).await.expect("creating"))
        });
    }
    let outcomes = creators.join_all().await;
    let winners: Vec<&str> =
        outcomes.iter().filter(|(_, swap)| swap.is_done()).map(|(mark, _)| mark.as_str()).collect();
    let kept = there(&*place.open()).await.expect("a document");
    assert_eq!(winners, [mark_of(&kept).0], "there is one creator, and it is the one whose document is kept");
    for (mark, outcome) in outcomes {
        if mark != mark_of(&kept).0 {
            must_conflict(&outcome, Some(&kept), "a loser is shown the winner's document");
        }
    }
}

/// Many authorities at once: all are given the same one, for good.
pub(crate) async fn one_authority(place: &impl Place) {
    let start = Arc::new(Barrier::new(usize::try_from(CREATORS).expect("few")));
    let mut creators = JoinSet::new();
    for creator in 1..=CREATORS {
        let (registry, start) = (place.open(), Arc::clone(&start));
        creators.spawn(async move {
            start.wait().await;
            let secret = Secret::new(format!("authority {creator}").repeat(100).into_bytes());
            registry.create_authority(secret).await.expect("creating")
        });
    }
    let given = creators.join_all().await;
    let kept = place.open().authority().await.expect("reading").expect("an authority");
    assert!(given.iter().all(|secret| *secret == kept), "all are given the authority that is kept");
    let late = place.open().create_authority(Secret::new(b"late".to_vec())).await.expect("creating");
    assert_eq!(late, kept, "a later authority is not taken");
}

/// G-1: many proposers at once: each revision has one winner, none is left out, and each follows the one before.
pub(crate) async fn one_winner_a_revision(place: &impl Place) {
    let one = created(&*place.open()).await;
    let start = Arc::new(Barrier::new(PROPOSERS));
    let mut proposers = JoinSet::new();
    for proposer in 0..PROPOSERS {
        let (registry, start) = (place.open(), Arc::clone(&start));
        proposers.spawn(async move {
            start.wait().await;
            win(&*registry, &format!("p{proposer}"), WINS_EACH, |_| {}).await
        });
    }
    let mut history = History::default();
    proposers.join_all().await.into_iter().for_each(|seen| history.add(seen));
    let last = there(&*place.open()).await.expect("a document");
    history.check(&one, &last);
    let wins = u64::try_from(PROPOSERS * WINS_EACH).expect("few");
    assert_eq!(last.revision, one.revision + wins, "one revision for each acknowledged change");
}

/// G-1 and G-2 together.
pub(crate) async fn one_winner_a_revision_though_answers_are_lost(place: &impl Place) {
    let one = created(&*place.open()).await;
    let mut proposers = JoinSet::new();
    for proposer in 0..LOSSY_PROPOSERS {
        let registry = Lossy::new(place.open(), proposer, 4);
        proposers.spawn(async move { win(&registry, &format!("p{proposer}"), LOSSY_WINS_EACH, |_| {}).await });
    }
    let mut history = History::default();
    proposers.join_all().await.into_iter().for_each(|seen| history.add(seen));
    let last = there(&*place.open()).await.expect("a document");
    history.check(&one, &last);
}
