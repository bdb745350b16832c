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
        // Some show only when calls race, which on a busy machine they may not do every time.
        let mut found = false;
        for _ in 0..3 {
            let mut run = JoinSet::new();
            run.spawn(suite(move || MemoryPlace::with(fault)));
            found |= run.join_next().await.is_some_and(|ended| ended.is_err());
            if found {
                break;
            }
        }
        if !found {
            missed.push(fault);
        }
    }
    assert!(missed.is_empty(), "faults that no check finds: {missed:?}");
}
