//! Ends a process one of whose threads stands still for good.
//!
//! Such a thread is a bug of its own, and nothing but a restart gets out of it: the supervisor sees only ends, and probes
//! may be answered by other threads all the while. The measure is the thread alone, never lease, registry or peers: it
//! has not come back to its runtime over several looks in a row. Looks are counted, not time, so that a process that was
//! paused as a whole isn't taken for one that stands still.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::shutdown::EXIT_PART_ENDED;
use crate::spawner::Spawner;

/// Between two beats.
const BEAT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Looks in a row without a beat between them.
const MOST_MISSED: u32 = 6;

/// Knows which threads must beat. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchdog(Arc<Mutex<Vec<Watched>>>);

#[derive(Debug)]
struct Watched {
    name: &'static str,
    beats: Arc<AtomicU64>,
    seen: u64,
    missed: u32,
}

/// The beat of one thread; it is watched for as long as this lives.
#[derive(Debug)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    /// Beats while `work` runs: to be run by the thread's own runtime.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub(crate) async fn during<T>(self, work: impl Future<Output = T>) -> T {
        // `work` is polled to its end or dropped with this; the other branch holds nothing.
        tokio::select! {
            biased;
            never = self.beat() => match never {},
            done = work => done,
        }
    }

    async fn beat(&self) -> Infallible {
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }
}

impl Watchdog {
    /// A beat to be watched from now on.
    pub(crate) fn beat(&self, name: &'static str) -> Beat {
        let beats = Arc::new(AtomicU64::new(0));
        self.0.lock().push(Watched { name, beats: Arc::clone(&beats), seen: 0, missed: 0 });
        Beat(beats)
    }

    /// The name of a thread that has missed too many looks by now.
    fn look(&self) -> Option<&'static str> {
        let mut watched = self.0.lock();
        // Its thread has ended, which is another's business.
        watched.retain(|watched| Arc::strong_count(&watched.beats) > 1);
        watched.iter_mut().for_each(|watched| {
            let beats = watched.beats.load(Ordering::Relaxed);
            watched.missed = if beats == watched.seen { watched.missed + 1 } else { 0 };
            watched.seen = beats;
        });
        watched.iter().find(|watched| watched.missed >= MOST_MISSED).map(|watched| watched.name)
    }
}

/// Watches the runtime of `spawner` and all that beats, on a thread and a runtime of its own, until the process stops.
///
/// # Errors
/// When the system refuses a thread or its runtime.
pub(crate) fn start(spawner: &Spawner) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (watchdog, stopping) = (spawner.watchdog().clone(), spawner.stopping().clone());
    let beat = watchdog.beat("workers");
    let until = stopping.clone();
    spawner.spawn_critical("beat", async move { beat.during(until.cancelled()).await });
    spawner.thread_critical("watchdog", move || {
        if let Some(name) = runtime.block_on(watch(&watchdog, LOOK, &stopping)) {
            tracing::error!("the thread {name} has stood still for half a minute: ending, to be started again");
            sidegrid_log::flush();
            // Nothing can be ended in order: what would have to end stands still.
            std::process::exit(i32::from(EXIT_PART_ENDED));
        }
    })
}

/// Looks until something stands still, or the process stops.
async fn watch(watchdog: &Watchdog, period: Duration, stopping: &CancellationToken) -> Option<&'static str> {
    loop {
        // Both branches are cancel safe.
        tokio::select! {
            () = stopping.cancelled() => return None,
            () = tokio::time::sleep(period) => {}
        }
        if let Some(name) = watchdog.look() {
            return Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_thread_that_never_comes_back_is_named() {
        let watchdog = Watchdog::default();
        let beat = watchdog.beat("stuck");
        let (release, stuck) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime().block_on(beat.during(async {
                let _released = stuck.recv();
            }));
        });
        let found = runtime().block_on(watch(&watchdog, Duration::from_millis(1), &CancellationToken::new()));
        assert_eq!(found, Some("stuck"));
        drop(release);
        thread.join().unwrap();
        assert_eq!(watchdog.look(), None, "a thread that has ended is not watched any more");
    }

    #[test]
    fn a_beat_between_looks_is_enough() {
        let watchdog = Watchdog::default();
        let beat = watchdog.beat("slow");
        for _ in 0..4 {
            (1..MOST_MISSED).for_each(|_| assert_eq!(watchdog.look(), None));
            beat.0.fetch_add(1, Ordering::Relaxed);
            assert_eq!(watchdog.look(), None);
        }
        (1..MOST_MISSED).for_each(|_| assert_eq!(watchdog.look(), None));
        assert_eq!(watchdog.look(), Some("slow"));
    }

    #[test]
    fn watching_ends_with_the_process() {
        let stopping = CancellationToken::new();
        stopping.cancel();
        assert_eq!(runtime().block_on(watch(&Watchdog::default(), LOOK, &stopping)), None);
    }
}
