//! Each cluster's document: a ConfigMap in the operator's own namespace, changed only by compare-and-swap.
//!
//! Every read is live, never from an informer. A swap compares on such a read and replaces with its resourceVersion,
//! so that the API server refuses it when anything came between.
//!
//! A document is created once: the API server's "already exists" is the arbiter, and then the authority's Secret is
//! annotated. So a ConfigMap that is missing means "none yet" without the annotation, and "lost" with it. A crash
//! between the two steps leaves a document without its mark: the next swap makes it up.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sidegrid_core::document::{Document, Expected};
use sidegrid_registry::{DocumentFault, Swap, check_swap, decode, encode};

use crate::authority::{cluster_uid, labels, post};
use crate::kube_call::{self, CallError};
use crate::names::{self, DOCUMENT_KEY, FIELD_MANAGER};

/// Annotation of the authority's Secret: the document was created once.
pub const CREATED_ANNOTATION: &str = "sidegrid.dev/document-created";
/// The most bytes of a document here: a ConfigMap holds 1 MiB in all.
pub const MAX_BYTES: usize = (1 << 20) - (16 << 10);
/// Clusters whose mark is known to be there; beyond them it is looked for again.
const MAX_MARKED: usize = 4096;

/// Why there is no answer about a document.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The API server could not be asked. Nothing was changed.
    #[error("the document can't be reached: {0}")]
    Unavailable(String),
    /// The answer to a change was lost: it may have been made. Reading settles it.
    #[error("the document may or may not have been changed: {0}")]
    Unknown(String),
    /// It was created once and is missing.
    #[error(
        "ConfigMap {0} is missing although it was created once; put it back, or wait until more than half of the newest view's members have published it again"
    )]
    Lost(String),
    /// The cluster has no authority, so it is not the operator's.
    #[error("no CacheCluster with uid {0} is known here")]
    UnknownCluster(String),
    /// What is stored can't be understood. It is left as it is.
    #[error("ConfigMap {name}: {fault}; it was left as it is")]
    Corrupt {
        /// The ConfigMap.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// What is asked for can't be done, ever. Nothing was changed.
    #[error("refused: {0}")]
    Invalid(String),
}

impl Fault {
    fn of_read(error: CallError) -> Fault {
        Fault::Unavailable(error.to_string())
    }

    /// Of a change, after the conflicts have been dealt with.
    fn of_change(error: CallError) -> Fault {
        match error {
            CallError::Invalid(says) => Fault::Invalid(says),
            CallError::Unknown(says) => Fault::Unknown(says),
            other => Fault::Unavailable(other.to_string()),
        }
    }
}

impl From<DocumentFault> for Fault {
    fn from(fault: DocumentFault) -> Fault {
        Fault::Invalid(fault.to_string())
    }
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) document: Document,
    object: ConfigMap,
}

/// The documents of all clusters. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    client: Client,
    own_ns: Arc<str>,
    marked: Arc<Mutex<HashSet<String>>>,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").field("namespace", &self.own_ns).finish_non_exhaustive()
    }
}

impl Documents {
    /// Those in the operator's own namespace.
    #[must_use]
    pub fn new(client: Client, own_ns: &str) -> Documents {
        Documents { client, own_ns: own_ns.into(), marked: Arc::default() }
    }

    /// Reads the document of the CacheCluster with this uid, live; `None` when there is none and none was lost.
    ///
    /// # Errors
    /// [`Fault`], never `Unknown` or `Invalid`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read(&self, uid: &str) -> Result<Option<Document>, Fault> {
        if let Some(stored) = self.stored(uid).await? {
            return Ok(Some(stored.document));
        }
        if self.is_marked(uid).await? {
            // It may have been created between the two reads.
            let again = self.stored(uid).await?;
            return again.map(|s| Some(s.document)).ok_or_else(|| Fault::Lost(names::document_config_map(uid)));
        }
        Ok(None)
    }

    /// Creates the document, unless there is one. One that was lost is not made anew.
    ///
    /// # Errors
    /// [`Fault`].
    ///
    /// # Cancel safety
    /// It may or may not be created; reading tells.
    pub async fn create(&self, uid: &str, document: &Document) -> Result<Swap, Fault> {
        let object = self.object(uid, document)?;
        if let Some(there) = self.read(uid).await? {
            return Ok(Swap::Conflict(Some(there)));
        }
        match kube_call::change(self.documents().create(&post(), &object)).await {
            Ok(_) => {}
            Err(CallError::Conflict(_)) => return Ok(Swap::Conflict(self.stored(uid).await?.map(|s| s.document))),
            Err(error) => return Err(Fault::of_change(error)),
        }
        // Its creation is certain; a mark that can't be made now is made up by the next swap.
        if let Err(error) = self.mark(uid).await {
            tracing::warn!(cluster = uid, %error, "the document was created but could not be marked as created");
        }
        tracing::info!(cluster = uid, "created the cluster's document");
        Ok(Swap::Done)
    }

    /// Replaces the document by `next` if a live read matches `expected`.
    ///
    /// # Errors
    /// [`Fault`].
    ///
    /// # Cancel safety
    /// It may or may not be done; reading tells.
    pub async fn swap(&self, uid: &str, expected: &Expected, next: &Document) -> Result<Swap, Fault> {
        check_swap(expected, next)?;
        let data = self.data(uid, next)?;
        let Some(stored) = self.stored(uid).await? else { return self.conflict(uid).await };
        if stored.document.expected() != *expected {
            return Ok(Swap::Conflict(Some(stored.document)));
        }
        self.mark(uid).await?;
        self.replace(uid, stored, data).await
    }

    /// Puts `next` where `stored` was read, or creates it where nothing was, whatever else it follows from: for
    /// documents that their members have published again.
    pub(crate) async fn restore(&self, uid: &str, stored: Option<Stored>, next: &Document) -> Result<Swap, Fault> {
        let Some(stored) = stored else {
            let object = self.object(uid, next)?;
            return match kube_call::change(self.documents().create(&post(), &object)).await {
                Ok(_) => self.mark(uid).await.map(|()| Swap::Done),
                Err(CallError::Conflict(_)) => self.conflict(uid).await,
                Err(error) => Err(Fault::of_change(error)),
            };
        };
        let data = self.data(uid, next)?;
        self.replace(uid, stored, data).await
    }

    async fn replace(&self, uid: &str, stored: Stored, data: BTreeMap<String, String>) -> Result<Swap, Fault> {
        // With the resourceVersion of the read, so that nothing can come between.
        let mut object = ConfigMap { data: Some(data), ..stored.object };
        object.metadata.managed_fields = None;
        let (documents, name) = (self.documents(), names::document_config_map(uid));
        match kube_call::change(documents.replace(&name, &post(), &object)).await {
            Ok(_) => Ok(Swap::Done),
            Err(CallError::Conflict(_) | CallError::NotFound(_)) => self.conflict(uid).await,
            Err(error) => Err(Fault::of_change(error)),
        }
    }

    /// What is there now, after a change was refused because of it.
    async fn conflict(&self, uid: &str) -> Result<Swap, Fault> {
        self.read(uid).await.map(Swap::Conflict)
    }

    /// Reads the document as it is stored, live; `None` when it is missing, for whatever reason.
    pub(crate) async fn stored(&self, uid: &str) -> Result<Option<Stored>, Fault> {
        let name = names::document_config_map(uid);
        // Without a resourceVersion: a read that the storage confirms.
        let found = kube_call::read(self.documents().get_opt(&name)).await.map_err(Fault::of_read)?;
        let Some(object) = found else { return Ok(None) };
        let corrupt = |fault: String| Fault::Corrupt { name: name.clone(), fault };
        let text = object.data.as_ref().and_then(|data| data.get(DOCUMENT_KEY));
        let text = text.ok_or_else(|| corrupt(format!("it has no key {DOCUMENT_KEY}")))?;
        let document = decode(text.as_bytes()).map_err(|e| corrupt(e.to_string()))?;
        if Some(document.cluster) != cluster_uid(uid) {
            return Err(corrupt(format!("it holds the document of cluster {}", document.cluster)));
        }
        Ok(Some(Stored { document, object }))
    }

    fn object(&self, uid: &str, document: &Document) -> Result<ConfigMap, Fault> {
        let name = Some(names::document_config_map(uid));
        Ok(ConfigMap {
            metadata: ObjectMeta { name, labels: Some(labels(uid)), ..ObjectMeta::default() },
            data: Some(self.data(uid, document)?),
            ..ConfigMap::default()
        })
    }

    fn data(&self, uid: &str, document: &Document) -> Result<BTreeMap<String, String>, Fault> {
        if Some(document.cluster) != cluster_uid(uid) {
            return Err(Fault::Invalid(format!("the document is of cluster {}, not of {uid}", document.cluster)));
        }
        let bytes = encode(document)?;
        if bytes.len() > MAX_BYTES {
            return Err(Fault::Invalid(format!("the document has {} bytes, more than {MAX_BYTES}", bytes.len())));
        }
        let text = String::from_utf8(bytes).map_err(|e| Fault::Invalid(e.to_string()))?;
        Ok(BTreeMap::from([(DOCUMENT_KEY.to_owned(), text)]))
    }

    async fn is_marked(&self, uid: &str) -> Result<bool, Fault> {
        let secret = self.secrets();
        let name = names::authority_secret(uid);
        let found = kube_call::read(secret.get_metadata_opt(&name)).await.map_err(Fault::of_read)?;
        let found = found.ok_or_else(|| Fault::UnknownCluster(uid.to_owned()))?;
        Ok(found.metadata.annotations.is_some_and(|all| all.get(CREATED_ANNOTATION).is_some_and(|v| v == "true")))
    }

    /// Marks the document as created; makes no call when this replica knows it to be marked.
    async fn mark(&self, uid: &str) -> Result<(), Fault> {
        if self.marks().contains(uid) {
            return Ok(());
        }
        if !self.is_marked(uid).await? {
            let patch = json!({"metadata": {"annotations": {CREATED_ANNOTATION: "true"}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let name = names::authority_secret(uid);
            let (secrets, patch) = (self.secrets(), Patch::Merge(patch));
            // Whether it is there or not: the document itself has not been touched by this.
            let marked = kube_call::change(secrets.patch_metadata(&name, &params, &patch)).await;
            marked.map_err(|e| Fault::Unavailable(e.to_string()))?;
        }
        let mut marks = self.marks();
        if marks.len() >= MAX_MARKED {
            marks.clear();
        }
        marks.insert(uid.to_owned());
        Ok(())
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn documents(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.own_ns)
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.own_ns)
    }
}

#[cfg(test)]
#[path = "document/tests.rs"]
mod tests;
