//! The suite passes what is right and refuses each fault: a check that can't fail checks nothing.

use sidegrid_conformance::{MemoryFault, MemoryPlace, suite};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_right_registry_passes() {
    suite(MemoryPlace::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_fault_is_found() {
    let mut missed = Vec::new();
    for fault in MemoryFault::ALL {
        let mut run = JoinSet::new();
        run.spawn(suite(move || MemoryPlace::with(fault)));
        if run.join_next().await.is_some_and(|ended| ended.is_ok()) {
            missed.push(fault);
        }
    }
    assert!(missed.is_empty(), "faults that no check finds: {missed:?}");
}
