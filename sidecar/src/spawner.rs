//! The tracked spawner: the only place that starts tasks and threads, each with a name.
//!
//! A *critical* task's end, by return or panic, is reported once through [`Spawner::critical_ended`], and the process
//! then stops in order.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::watchdog::Watchdog;

/// Starts tasks on one runtime and knows which are left. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    runtime: Handle,
    tracker: TaskTracker,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    stopping: CancellationToken,
    ended: watch::Sender<Option<&'static str>>,
    watchdog: Watchdog,
}

impl Spawner {
    /// A spawner on this runtime.
    pub(crate) fn new(runtime: Handle) -> Spawner {
        Spawner {
            runtime,
            tracker: TaskTracker::new(),
            running: Arc::default(),
            watchdog: Watchdog::default(),
            stopping: CancellationToken::new(),
            ended: watch::Sender::new(None),
        }
    }

    /// Starts a task. It should end soon after [`Spawner::stopping`] is cancelled.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(self.guard(name, false), task);
    }

    /// Starts a task whose end before [`Spawner::stop`] ends the process.
    pub(crate) fn spawn_critical(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(self.guard(name, true), task);
    }

    fn start(&self, guard: Guard, task: impl Future<Output = ()> + Send + 'static) {
        let guarded = async move {
            tracing::trace!(task = guard.name, "started");
            let _guard = guard;
            task.await;
        };
        let _detached = self.runtime.spawn(guarded);
    }

    /// Starts an operating-system thread whose end before [`Spawner::stop`] ends the process.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(crate) fn thread_critical(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let guard = self.guard(name, true);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _guard = guard;
            body();
        })?;
        Ok(())
    }

    fn guard(&self, name: &'static str, is_critical: bool) -> Guard {
        *self.running.lock().entry(name).or_default() += 1;
        Guard {
            name,
            running: Arc::clone(&self.running),
            critical: is_critical.then(|| (self.stopping.clone(), self.ended.clone())),
            _tracked: self.tracker.token(),
        }
    }

    /// Cancelled when everything shall end; tasks that wait for nothing else in particular wait for this.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// What runs, by name, such as `core, connection ×3`: after [`Spawner::stop`], what holds the end up.
    pub(crate) fn running(&self) -> String {
        let running = self.running.lock();
        let names = running.iter().map(|(name, &count)| match count {
            1 => (*name).to_owned(),
            count => format!("{name} ×{count}"),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Watches threads of this process.
    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The runtime that tasks run on.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Tells every task to end and waits until all have.
    ///
    /// # Cancel safety
    /// Cancel safe; the tasks have been told all the same.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Has the process end as if the critical task of this name had ended.
    pub(crate) fn end(&self, name: &'static str) {
        drop(self.guard(name, true));
    }

    /// Waits for the first critical task that ended too early; gives its name.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn critical_ended(&self) -> &'static str {
        let mut ended = self.ended.subscribe();
        // The sender lives in `self`, so waiting can't fail.
        ended.wait_for(Option::is_some).await.ok().and_then(|name| *name).unwrap_or("unknown")
    }
}

/// Lives as long as a task or thread: names it among those that run, and reports the end of a critical one, also when it
/// panics.
struct Guard {
    name: &'static str,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    critical: Option<(CancellationToken, watch::Sender<Option<&'static str>>)>,
    // Last, so that whoever waited for the end finds no name any more.
    _tracked: TaskTrackerToken,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
        drop(running);
        if let Some((stopping, ended)) = &self.critical
            && !stopping.is_cancelled()
        {
            ended.send_if_modified(|first| {
                let unset = first.is_none();
                first.get_or_insert(self.name);
                unset
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_critical_task_is_its_end() {
        let spawner = Spawner::new(Handle::current());
        spawner.spawn("harmless", async {});
        spawner.spawn_critical("doomed", async { panic!("announced") });
        assert_eq!(spawner.critical_ended().await, "doomed");
    }

    #[tokio::test]
    async fn a_critical_thread_that_returns_has_ended() {
        let spawner = Spawner::new(Handle::current());
        spawner.thread_critical("short", || {}).unwrap();
        assert_eq!(spawner.critical_ended().await, "short");
    }

    #[tokio::test]
    async fn stopping_waits_for_tasks_and_is_no_early_end() {
        let spawner = Spawner::new(Handle::current());
        let stopping = spawner.stopping().clone();
        spawner.spawn_critical("patient", async move { stopping.cancelled().await });
        spawner.stop().await;
        assert!(spawner.ended.borrow().is_none());
        assert_eq!(spawner.running(), "");
    }

    #[tokio::test]
    async fn what_holds_the_end_up_is_named() {
        let spawner = Spawner::new(Handle::current());
        let (release, held) = watch::channel(());
        for name in ["request", "request", "core"] {
            let mut held = held.clone();
            spawner.spawn_critical(name, async move {
                let _released = held.changed().await;
            });
        }
        spawner.spawn("brief", async {});
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), spawner.stop()).await;
        assert!(early.is_err());
        assert_eq!(spawner.running(), "core, request ×2");
        drop(release);
        spawner.stop().await;
        assert_eq!(spawner.running(), "");
    }
}
