//! The events that the reconciler tells, all of them.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::names::FIELD_MANAGER;
use crate::reason::reasons;

reasons! {
    /// Reasons of events.
    Reason {
        /// On pod and CacheCluster: a labelled pod has no sidecar.
        NotInjected,
        /// On the CacheCluster: its settings can't be given to sidecars.
        InvalidSettings,
        /// On the CacheCluster: a name that is needed belongs to somebody else.
        NameTaken,
        /// On the CacheCluster: another PodDisruptionBudget selects its pods.
        OtherBudget,
        /// On the CacheCluster: segments had to start empty, since every copy of them was gone.
        DataLost,
        /// On the CacheCluster: it is being deleted, and pods still run.
        WaitingForPods,
        /// On the CacheCluster: the last pod is gone, its authority and document are deleted.
        Deleted,
    }
}

impl Reason {
    /// Whether a person should look.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        !matches!(self, Reason::WaitingForPods | Reason::Deleted)
    }
}

/// Tells events.
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

/// Longest note that API servers take, in bytes.
const MAX_NOTE: usize = 1_000;

impl Events {
    /// Told by the replica `instance`.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Events {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        Events { recorder: Recorder::new(client, reporter) }
    }

    /// Tells one. A fault is logged: an event is never worth failing for.
    pub async fn tell(&self, about: &ObjectReference, reason: Reason, note: String) {
        let event = Event {
            type_: if reason.is_warning() { EventType::Warning } else { EventType::Normal },
            reason: reason.word().to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        match self.recorder.publish(&event, about).await {
            Ok(()) => {}
            // Its reader has gone with the namespace.
            Err(kube::Error::Api(refused))
                if refused.code == 403 && refused.message.contains("is being terminated") =>
            {
                tracing::debug!(reason = reason.word(), "an event of a namespace that is going");
            }
            Err(fault) => tracing::warn!(%fault, reason = reason.word(), "an event can't be told"),
        }
    }
}
