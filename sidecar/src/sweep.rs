//! Removes expired entries of `local` caches, a bounded number at a time. Those of clustered caches are removed in
//! order by the core (E-1).

use std::time::Duration;

use crate::grid::Grid;
use crate::spawner::Spawner;

const PERIOD: Duration = Duration::from_millis(100);
/// Entries removed from one cache in one go.
const BATCH: usize = 256;
/// Goes in one period, so that a cache with very many expired entries leaves others a turn.
const GOES: usize = 64;

/// Starts to sweep, until the process stops.
pub(crate) fn start(grid: &Grid, spawner: &Spawner) {
    if grid.caches().iter().all(|cache| cache.clustered.is_some()) {
        return;
    }
    let (grid, stopping) = (grid.clone(), spawner.stopping().clone());
    spawner.spawn_critical("sweep", async move {
        while !stopping.is_cancelled() {
            // Both branches are cancel safe.
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            for cache in grid.caches() {
                let mut goes = GOES;
                while goes > 0 && cache.sweep(grid.clock().now(), BATCH) {
                    goes -= 1;
                    tokio::task::yield_now().await;
                }
            }
        }
    });
}
