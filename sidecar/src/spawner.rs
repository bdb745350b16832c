//! The tracked spawner: the only place that starts tasks and threads, each with a name.
//!
//! A *critical* task's end, by return or panic, is reported once through [`Spawner::critical_ended`], and the process
//! then stops in order.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks on one runtime and knows which are left. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    runtime: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
    ended: watch::Sender<Option<&'static str>>,
}

impl Spawner {
    /// A spawner on this runtime.
    pub(crate) fn new(runtime: Handle) -> Spawner {
        Spawner {
            runtime,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            ended: watch::Sender::new(None),
        }
    }

    /// Starts a task. It should end soon after [`Spawner::stopping`] is cancelled.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let named = async move {
            tracing::trace!(task = name, "started");
            task.await;
        };
        self.tracker.spawn_on(named, &self.runtime);
    }

    /// Starts a task whose end before [`Spawner::stop`] ends the process.
    pub(crate) fn spawn_critical(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.guard(name);
        self.spawn(name, async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Starts an operating-system thread whose end before [`Spawner::stop`] ends the process.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub(crate) fn thread_critical(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let guard = self.guard(name);
        let tracked = self.tracker.token();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _tracked = tracked;
            let _guard = guard;
            body();
        })?;
        Ok(())
    }

    fn guard(&self, name: &'static str) -> EndGuard {
        EndGuard { name, stopping: self.stopping.clone(), ended: self.ended.clone() }
    }

    /// Cancelled when everything shall end; tasks that wait for nothing else in particular wait for this.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
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

/// Reports the end of a critical task, also when it panics.
struct EndGuard {
    name: &'static str,
    stopping: CancellationToken,
    ended: watch::Sender<Option<&'static str>>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.stopping.is_cancelled() {
            self.ended.send_if_modified(|first| {
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
        assert!(spawner.tracker.is_empty());
    }
}
