//! Each cluster's document: a ConfigMap in the operator's own namespace, changed only by compare-and-swap.
//!
//! Every read is live, never from an informer. A swap compares on such a read and replaces with its resourceVersion,
//! so that the API server refuses it when anything came between.
//!
//! A document is created once: the API server's "already exists" is the arbiter, and then the authority's Secret is
//! marked, by an annotation, with the document's view, as after each swap that makes a view. So a ConfigMap that is missing
//! means "none yet" without the mark and "lost" with it, and one of an older view than the mark was put back and is as
//! good as lost: whoever starts and finds all of its members dead would begin a second cluster. The mark is read before the
//! document and written after it, so that it is never ahead. A crash between the two leaves it behind; but nobody is told
//! of a view, nor that a swap was done, before it is marked. So no member can know of a newer view than the mark, and no
//! older one is made again under it (G-4).

mod mark;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use sidegrid_core::document::{Document, Expected};
use sidegrid_core::recovery::Observed;
use sidegrid_core::rights::ChangeError;
use sidegrid_core::view::View;
use sidegrid_core::{Time, ViewNumber};
use sidegrid_registry::{DocumentCodecError, Swap, check_swap, decode, encode};
use tokio::time::Instant;

use crate::authority::{cluster_uid, labels, post};
pub(crate) use crate::document::mark::Mark;
pub use crate::document::mark::VIEW_ANNOTATION;
use crate::kube_call::{self, CallError};
use crate::names::{self, DOCUMENT_KEY, FIELD_MANAGER};

/// The most bytes of a document here: a ConfigMap holds 1 MiB in all.
pub const MAX_BYTES: usize = (1 << 20) - (16 << 10);
/// Tries of marking a view, each after another replica was faster.
const MARK_TRIES: usize = 4;
/// Clusters whose mark is known to be there; beyond them it is looked for again.
const MAX_MARKED: usize = 4096;

/// Why there is no answer about a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The API server could not be asked. Nothing was changed.
    #[error("the document can't be reached: {0}")]
    Unavailable(String),
    /// The answer to a change was lost: it may have been made. Reading settles it.
    #[error("the document may or may not have been changed: {0}")]
    Unknown(String),
    /// It was created once and is missing, or was put back to an older view.
    #[error(
        "ConfigMap {0} is missing or was put back to an older one; wait until more than half of the newest view's members have published it again, or put the newest back"
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
    /// The caller may not make this change. Nothing was changed.
    #[error("the change is refused: {0}")]
    Refused(#[from] ChangeError),
}

impl DocumentError {
    fn of_read(error: CallError) -> DocumentError {
        DocumentError::Unavailable(error.to_string())
    }

    /// Of a change, after the conflicts have been dealt with.
    fn of_change(error: CallError) -> DocumentError {
        match error {
            CallError::Invalid(says) => DocumentError::Invalid(says),
            CallError::Unknown(says) => DocumentError::Unknown(says),
            other => DocumentError::Unavailable(other.to_string()),
        }
    }
}

impl From<DocumentCodecError> for DocumentError {
    fn from(fault: DocumentCodecError) -> DocumentError {
        DocumentError::Invalid(fault.to_string())
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
    marked: Arc<Mutex<HashMap<String, Mark>>>,
    /// What this replica has seen of members' statements about a lost document.
    observed: Arc<Mutex<HashMap<String, Observed>>>,
    started: Instant,
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
        let (marked, observed) = (Arc::default(), Arc::default());
        Documents { client, own_ns: own_ns.into(), marked, observed, started: Instant::now() }
    }

    /// Runs `f` on what this replica has observed of the statements about the document of `uid`, with its own clock.
    pub(crate) fn observe<T>(&self, uid: &str, f: impl FnOnce(&mut Observed, Time) -> T) -> T {
        let since = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut all = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_MARKED && !all.contains_key(uid) {
            // What was observed is observed again within seconds.
            all.clear();
        }
        f(all.entry(uid.to_owned()).or_default(), Time::from_nanos(since))
    }

    /// Reads the document of the CacheCluster with this uid, live; `None` when there is none and none was lost.
    ///
    /// # Errors
    /// [`DocumentError`], never `Unknown` or `Invalid`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read(&self, uid: &str) -> Result<Option<Document>, DocumentError> {
        Ok(self.present(uid).await?.map(|stored| stored.document))
    }

    /// The document, live, unless it is lost.
    async fn present(&self, uid: &str) -> Result<Option<Stored>, DocumentError> {
        let mark = self.newest_mark(uid).await?;
        let stored = self.stored(uid).await?;
        match (&mark, &stored) {
            (Some(mark), None) => return Err(self.lost(uid, mark.view)),
            (Some(mark), Some(stored)) if stored.document.view.number < mark.view => {
                return Err(self.lost(uid, mark.view));
            }
            (Some(mark), Some(stored)) if mark.is_of(&stored.document.view) => {}
            (None, None) => {}
            (_, Some(stored)) => self.mark(uid, &stored.document.view).await?,
        }
        Ok(stored)
    }

    fn lost(&self, uid: &str, mark: ViewNumber) -> DocumentError {
        tracing::debug!(cluster = uid, view = %mark, "the document is lost: it has been seen with this view");
        DocumentError::Lost(names::document_config_map(uid))
    }

    /// Creates the document, unless there is one. One that was lost is not made anew.
    ///
    /// # Errors
    /// [`DocumentError`].
    ///
    /// # Cancel safety
    /// It may or may not be created; reading tells.
    pub async fn create(&self, uid: &str, document: &Document) -> Result<Swap, DocumentError> {
        let object = self.object(uid, document)?;
        if let Some(there) = self.read(uid).await? {
            return Ok(Swap::Conflict(Some(there)));
        }
        let swap = self.make(uid, &object, &document.view).await?;
        if swap.is_done() {
            tracing::info!(cluster = uid, "created the cluster's document");
        }
        Ok(swap)
    }

    /// Replaces the document by `next` if a live read matches `expected`.
    ///
    /// # Errors
    /// [`DocumentError`].
    ///
    /// # Cancel safety
    /// It may or may not be done; reading tells.
    pub async fn swap(&self, uid: &str, expected: &Expected, next: &Document) -> Result<Swap, DocumentError> {
        self.swap_checked(uid, expected, next, |_| Ok(())).await
    }

    /// As [`Documents::swap`], if `check` lets the change be made of what was read (G-5).
    ///
    /// # Errors
    /// [`DocumentError`], among them what `check` says.
    ///
    /// # Cancel safety
    /// It may or may not be done; reading tells.
    pub(crate) async fn swap_checked(
        &self,
        uid: &str,
        expected: &Expected,
        next: &Document,
        check: impl FnOnce(&Document) -> Result<(), ChangeError>,
    ) -> Result<Swap, DocumentError> {
        check_swap(expected, next)?;
        let data = self.data(uid, next)?;
        let Some(stored) = self.present(uid).await? else { return Ok(Swap::Conflict(None)) };
        if stored.document.expected() != *expected {
            return Ok(Swap::Conflict(Some(stored.document)));
        }
        check(&stored.document)?;
        self.replace(uid, stored, data, &next.view).await
    }

    /// Puts `next` where `stored` was read, or creates it where nothing was, whatever else it follows from: for
    /// documents that their members have published again.
    pub(crate) async fn restore(
        &self,
        uid: &str,
        stored: Option<Stored>,
        next: &Document,
    ) -> Result<Swap, DocumentError> {
        let Some(stored) = stored else {
            return self.make(uid, &self.object(uid, next)?, &next.view).await;
        };
        let data = self.data(uid, next)?;
        self.replace(uid, stored, data, &next.view).await
    }

    /// Creates the ConfigMap of the document with this view, and marks the view.
    async fn make(&self, uid: &str, object: &ConfigMap, view: &View) -> Result<Swap, DocumentError> {
        match kube_call::change(self.documents().create(&post(), object)).await {
            Ok(_) => self.mark_after(uid, view).await.map(|()| Swap::Done),
            Err(CallError::Conflict(_)) => self.conflict(uid).await,
            Err(error) => Err(DocumentError::of_change(error)),
        }
    }

    /// Puts `data`, the document with this view, in the place of what was read, and marks the view.
    async fn replace(
        &self,
        uid: &str,
        stored: Stored,
        data: BTreeMap<String, String>,
        view: &View,
    ) -> Result<Swap, DocumentError> {
        // With the resourceVersion of the read, so that nothing can come between.
        let mut object = ConfigMap { data: Some(data), ..stored.object };
        object.metadata.managed_fields = None;
        let (documents, name) = (self.documents(), names::document_config_map(uid));
        match kube_call::change(documents.replace(&name, &post(), &object)).await {
            Ok(_) => self.mark_after(uid, view).await.map(|()| Swap::Done),
            Err(CallError::Conflict(_) | CallError::NotFound(_)) => self.conflict(uid).await,
            Err(error) => Err(DocumentError::of_change(error)),
        }
    }

    /// What is there now, after a change was refused because of it.
    async fn conflict(&self, uid: &str) -> Result<Swap, DocumentError> {
        self.read(uid).await.map(Swap::Conflict)
    }

    /// Reads the document as it is stored, live; `None` when it is missing, for whatever reason.
    pub(crate) async fn stored(&self, uid: &str) -> Result<Option<Stored>, DocumentError> {
        let name = names::document_config_map(uid);
        // Without a resourceVersion: a read that the storage confirms.
        let found = kube_call::read(self.documents().get_opt(&name)).await.map_err(DocumentError::of_read)?;
        let Some(object) = found else { return Ok(None) };
        let corrupt = |fault: String| DocumentError::Corrupt { name: name.clone(), fault };
        let text = object.data.as_ref().and_then(|data| data.get(DOCUMENT_KEY));
        let text = text.ok_or_else(|| corrupt(format!("it has no key {DOCUMENT_KEY}")))?;
        let document = decode(text.as_bytes()).map_err(|e| corrupt(e.to_string()))?;
        if Some(document.cluster) != cluster_uid(uid) {
            return Err(corrupt(format!("it holds the document of cluster {}", document.cluster)));
        }
        Ok(Some(Stored { document, object }))
    }

    fn object(&self, uid: &str, document: &Document) -> Result<ConfigMap, DocumentError> {
        let name = Some(names::document_config_map(uid));
        Ok(ConfigMap {
            metadata: ObjectMeta { name, labels: Some(labels(uid)), ..ObjectMeta::default() },
            data: Some(self.data(uid, document)?),
            ..ConfigMap::default()
        })
    }

    fn data(&self, uid: &str, document: &Document) -> Result<BTreeMap<String, String>, DocumentError> {
        if Some(document.cluster) != cluster_uid(uid) {
            return Err(DocumentError::Invalid(format!(
                "the document is of cluster {}, not of {uid}",
                document.cluster
            )));
        }
        let bytes = encode(document)?;
        if bytes.len() > MAX_BYTES {
            return Err(DocumentError::Invalid(format!(
                "the document has {} bytes, more than {MAX_BYTES}",
                bytes.len()
            )));
        }
        let text = String::from_utf8(bytes).map_err(|e| DocumentError::Invalid(e.to_string()))?;
        Ok(BTreeMap::from([(DOCUMENT_KEY.to_owned(), text)]))
    }

    /// The mark as it is kept, live.
    pub(crate) async fn newest_mark(&self, uid: &str) -> Result<Option<Mark>, DocumentError> {
        Ok(self.read_mark(uid).await?.0)
    }

    /// The mark, and the version of the object that it is on.
    async fn read_mark(&self, uid: &str) -> Result<(Option<Mark>, Option<String>), DocumentError> {
        let name = names::authority_secret(uid);
        let found = kube_call::read(self.secrets().get_metadata_opt(&name)).await.map_err(DocumentError::of_read)?;
        let metadata = found.ok_or_else(|| DocumentError::UnknownCluster(uid.to_owned()))?.metadata;
        Ok((metadata.annotations.as_ref().and_then(Mark::read), metadata.resource_version))
    }

    /// Marks the view as the newest that the document was seen with; makes no call when this replica knows it to be marked.
    async fn mark(&self, uid: &str, view: &View) -> Result<(), DocumentError> {
        let wanted = Mark::of(view);
        if self.marks().get(uid).is_some_and(|marked| marked.view > wanted.view || *marked == wanted) {
            return Ok(());
        }
        let mut tries = 0;
        let newest = loop {
            let (kept, version) = self.read_mark(uid).await?;
            if let Some(kept) = kept
                && (kept.view > wanted.view || kept == wanted)
            {
                break kept;
            }
            tries += 1;
            match self.write_mark(uid, &wanted, version).await {
                Ok(()) => break wanted,
                // Another replica marks too, the same view as a rule.
                Err(CallError::Conflict(_)) if tries < MARK_TRIES => {}
                // Whether it is there or not: the document itself has not been touched by this.
                Err(error) => return Err(DocumentError::Unavailable(error.to_string())),
            }
        };
        let mut marks = self.marks();
        if marks.len() >= MAX_MARKED {
            marks.clear();
        }
        marks.insert(uid.to_owned(), newest);
        Ok(())
    }

    /// With the version that was read, or another replica's newer mark would be overwritten.
    async fn write_mark(&self, uid: &str, mark: &Mark, version: Option<String>) -> Result<(), CallError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": mark.annotations(), "resourceVersion": version}}));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let (secrets, name) = (self.secrets(), names::authority_secret(uid));
        kube_call::change(secrets.patch_metadata(&name, &params, &patch)).await.map(|_| ())
    }

    /// Marks a view after the change that made it. While that fails nobody may be told of the change.
    async fn mark_after(&self, uid: &str, view: &View) -> Result<(), DocumentError> {
        let marked = self.mark(uid, view).await;
        marked.map_err(|error| DocumentError::Unknown(format!("it was, but its view could not be marked: {error}")))
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, HashMap<String, Mark>> {
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
