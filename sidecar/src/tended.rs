//! What a running member holds by descriptor and others find by path: looked after, so that it stays found.

use std::sync::Arc;
use std::time::Duration;

use sidegrid_registry::{NameLock, NameLockState, Registry};

use crate::spawner::Spawner;

/// How often it is looked after.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks after the lock on the member's name and what the registry keeps beside its document, for as long as the process
/// runs. Nothing that fails here stops what serves.
pub(crate) fn start(lock: NameLock, registry: Arc<dyn Registry>, spawner: &Spawner) {
    let stopping = spawner.stopping().clone();
    spawner.spawn("name lock and registry files", async move {
        let mut lock = lock;
        let mut reported = Reported::default();
        while stopping.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let tended = tokio::task::spawn_blocking(move || {
                let state = lock.tend();
                (lock, state)
            });
            let state;
            (lock, state) = match tended.await {
                Ok(tended) => tended,
                Err(error) => {
                    tracing::error!("the lock on this member's name is lost: {error}");
                    return;
                }
            };
            reported.lock(state.map(|state| matches!(state, NameLockState::MadeAgain)).map_err(|e| e.to_string()));
            reported.registry(registry.tend().await.err().map(|e| e.to_string()));
        }
        // Held to the end of the process (P-1), which may be later than this task's.
        std::mem::forget(lock);
    });
}

/// Each error once, until it is another.
#[derive(Default)]
struct Reported {
    lock: Option<String>,
    registry: Option<String>,
}

impl Reported {
    fn lock(&mut self, tended: Result<bool, String>) {
        match tended {
            Ok(made_again) => {
                if made_again {
                    tracing::error!(
                        "the lock file of this member's name was removed; it is made again, the name stays taken"
                    );
                }
                self.lock = None;
            }
            Err(error) if self.lock.as_ref() != Some(&error) => {
                tracing::error!("this member's name can be taken by another process: {error}");
                self.lock = Some(error);
            }
            Err(_) => {}
        }
    }

    fn registry(&mut self, error: Option<String>) {
        if let Some(error) = error.as_ref().filter(|error| self.registry.as_ref() != Some(error)) {
            tracing::error!("what keeps a second cluster from being made can't be put back: {error}");
        }
        self.registry = error;
    }
}
