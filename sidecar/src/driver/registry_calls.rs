//! Registry calls: each in a task of its own with a bounded wait, its answer an event.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sidegrid_core::document::Document;
use sidegrid_core::event::{CallId, RegistryAnswer, RegistryCall};
use sidegrid_core::{ClusterUid, ViewNumber};
use sidegrid_registry::{Registry, RegistryError, Swap};
use tokio::sync::{Semaphore, mpsc};

use crate::grid::Grid;
use crate::spawner::Spawner;

/// Calls under way at once. The core asks for one at a time; a few more may still wait out their time.
const CALLS_AT_ONCE: usize = 16;

/// Makes the core's registry calls.
#[derive(Clone)]
pub(super) struct RegistryCalls {
    registry: Arc<dyn Registry>,
    cluster: ClusterUid,
    timeout: Duration,
    spawner: Spawner,
    grid: Grid,
    permits: Arc<Semaphore>,
    /// One publishing at a time.
    republishes: Arc<Semaphore>,
    /// The fault told last: one that a person must mend is told once, not at every try.
    told: Arc<Mutex<String>>,
    answers: mpsc::Sender<(CallId, RegistryAnswer)>,
}

impl RegistryCalls {
    /// Where the answers come out.
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        cluster: ClusterUid,
        timeout: Duration,
        spawner: Spawner,
        grid: Grid,
    ) -> (RegistryCalls, mpsc::Receiver<(CallId, RegistryAnswer)>) {
        // One place for each call under way: giving an answer never waits.
        let (answers, receiver) = mpsc::channel(CALLS_AT_ONCE);
        let permits = Arc::new(Semaphore::new(CALLS_AT_ONCE));
        let (told, republishes) = (Arc::default(), Arc::new(Semaphore::new(1)));
        (RegistryCalls { registry, cluster, timeout, spawner, grid, permits, republishes, told, answers }, receiver)
    }

    /// Starts a call. False, and nothing started, when there are too many under way (B-1).
    pub(super) fn start(&self, call: CallId, request: RegistryCall) -> bool {
        self.grid.counters().registry_calls.add_one();
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.grid.counters().registry_errors.add_one();
            return false;
        };
        let calls = self.clone();
        self.spawner.spawn("registry call", async move {
            let answer = calls.answer(request).await;
            // Refused only when the incarnation that asked is over.
            let _over = calls.answers.try_send((call, answer));
            drop(permit);
        });
        true
    }

    /// Tells the registry what this member knows (G-4), unless it is still being told the last time's.
    pub(super) fn republish(&self, view: ViewNumber, document: Arc<Document>) {
        let Ok(permit) = Arc::clone(&self.republishes).try_acquire_owned() else { return };
        let calls = self.clone();
        self.spawner.spawn("registry republish", async move {
            let told = calls.registry.republish(view, Arc::unwrap_or_clone(document));
            match tokio::time::timeout(calls.timeout, told).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!("the newest document could not be published again: {error}"),
                Err(_) => tracing::debug!("the newest document could not be published again in time"),
            }
            drop(permit);
        });
    }

    async fn answer(&self, request: RegistryCall) -> RegistryAnswer {
        let answered = tokio::time::timeout(self.timeout, self.ask(request)).await;
        let failure = match answered {
            Ok(Ok(answer)) => match self.foreign(&answer) {
                None => {
                    if matches!(answer, RegistryAnswer::Document(Some(_)) | RegistryAnswer::Swapped) {
                        self.told().clear();
                    }
                    return answer;
                }
                Some(cluster) => {
                    self.tell(format!("the registry's document is of another cluster, {cluster}; not following it"));
                    "foreign_cluster"
                }
            },
            Ok(Err(error)) => {
                if error.is_retryable() {
                    self.warn(error.to_string());
                } else {
                    self.tell(error.to_string());
                }
                error.cause()
            }
            Err(_) => "timeout",
        };
        tracing::debug!(failure, "registry call failed");
        self.grid.counters().registry_errors.add_one();
        RegistryAnswer::Failed
    }

    fn told(&self) -> MutexGuard<'_, String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, fault: String) {
        let mut told = self.told();
        if *told != fault {
            tracing::error!("{fault}");
            *told = fault;
        }
    }

    /// What may go away by itself, with what the system said: once for each cause, until the registry answers again.
    fn warn(&self, error: String) {
        let mut told = self.told();
        if *told != error {
            tracing::warn!("{error}");
            *told = error;
        }
    }

    async fn ask(&self, request: RegistryCall) -> Result<RegistryAnswer, RegistryError> {
        let swapped = |swap| match swap {
            Swap::Done => RegistryAnswer::Swapped,
            Swap::Conflict(there) => RegistryAnswer::Conflict(there.map(Arc::new)),
        };
        match request {
            RegistryCall::Read => Ok(RegistryAnswer::Document(self.registry.read().await?.map(Arc::new))),
            RegistryCall::Create(document) => self.registry.create(Arc::unwrap_or_clone(document)).await.map(swapped),
            RegistryCall::Swap { expected, next } => {
                self.registry.swap(expected, Arc::unwrap_or_clone(next)).await.map(swapped)
            }
        }
    }

    /// The other cluster that a document is of: its members hold certificates that ours don't trust.
    fn foreign(&self, answer: &RegistryAnswer) -> Option<ClusterUid> {
        let there: Option<&Arc<Document>> = match answer {
            RegistryAnswer::Document(there) | RegistryAnswer::Conflict(there) => there.as_ref(),
            _ => None,
        };
        there.map(|document| document.cluster).filter(|&cluster| cluster != self.cluster)
    }
}
