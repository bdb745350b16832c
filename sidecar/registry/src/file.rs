//! Kind `file`: one JSON document at a path, for members that share a machine.
//!
//! Beside the document `registry` lie `registry.lock`, which is locked for the moment of a change,
//! `registry.authority`, the certificate authority's secret, and `registry.created`, which keeps a member that starts
//! while the document is away from making another (two clusters would serve the same keys). That mark lies in the folder
//! that it guards, so each running member that has seen the document puts it back, and the authority, when they are gone:
//! who starts then finds a cluster that lost its document, not an empty place. A change is written to a draft, brought to disk, and
//! only then, under the lock and after a fresh read, put in the document's place by one rename. So a reader needs no
//! lock, a crash at any step leaves the old or the new document, and a process that is stopped in the middle of a
//! change holds the lock with a probability that is as small as that moment.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::Mode;
use sidegrid_core::document::{Document, Expected};
use tokio::sync::{Mutex, Semaphore};

use crate::codec::{self, MAX_DOCUMENT_BYTES};
use crate::error::RegistryError;
use crate::file_lock::FileLock;
use crate::folder::{Folder, ReadFault};
use crate::registry::{Registry, Swap};
use crate::secret::{MAX_SECRET_BYTES, Secret};

/// How long a change waits for the lock; below the time after which the core gives a call up.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long a call waits for the calls of the same instance before it.
const TURN_WAIT: Duration = Duration::from_secs(4);
/// Calls of one instance under way or waiting; one more is refused (B-1).
const CALLS_AT_ONCE: usize = 64;

/// A registry in a file.
///
/// Calls of one instance are made one after the other, in the order in which they came, also those that their callers
/// have given up: so a read tells for good what became of a change before it (G-2).
#[derive(Debug)]
pub struct FileRegistry {
    files: Arc<Files>,
    turn: Arc<Mutex<()>>,
    calls: Arc<Semaphore>,
}

impl FileRegistry {
    /// The registry whose document is at `path`. Touches nothing yet; the folder is made (mode 0700) by the first
    /// creation.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] if `path` can't name a file.
    pub fn new(path: impl AsRef<Path>) -> Result<FileRegistry, RegistryError> {
        let files = Files::new(path.as_ref(), LOCK_WAIT)?;
        Ok(FileRegistry {
            files: Arc::new(files),
            turn: Arc::new(Mutex::new(())),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        })
    }

    /// The absolute path of the document.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.files.path
    }

    /// Runs `work` on a thread that may block, in turn. It runs to its end even if this call is dropped, and holds
    /// its turn until then.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Files) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let counted = Arc::clone(&self.calls)
            .try_acquire_owned()
            .map_err(|_| self.files.unavailable(call.doing, "too many calls are waiting"))?;
        let turn = tokio::time::timeout(TURN_WAIT, Arc::clone(&self.turn).lock_owned())
            .await
            .map_err(|_| self.files.unavailable(call.doing, "an earlier call has not ended"))?;
        let files = Arc::clone(&self.files);
        let job = tokio::task::spawn_blocking(move || {
            let _until_the_end = (turn, counted);
            work(&files)
        });
        job.await.map_err(|error| {
            if call.changes { self.files.unknown(call.doing, error) } else { self.files.unavailable(call.doing, error) }
        })?
    }
}

#[derive(Clone, Copy)]
struct Call {
    doing: &'static str,
    changes: bool,
}

#[async_trait]
impl Registry for FileRegistry {
    async fn read(&self) -> Result<Option<Document>, RegistryError> {
        self.run(Call { doing: "reading", changes: false }, Files::read).await
    }

    async fn create(&self, document: Document) -> Result<Swap, RegistryError> {
        self.run(Call { doing: "creating", changes: true }, move |files| files.create(&document)).await
    }

    async fn swap(&self, expected: Expected, next: Document) -> Result<Swap, RegistryError> {
        codec::check_swap(&expected, &next)?;
        self.run(Call { doing: "swapping", changes: true }, move |files| files.swap(&expected, &next)).await
    }

    async fn authority(&self) -> Result<Option<Secret>, RegistryError> {
        self.run(Call { doing: "reading the authority", changes: false }, Files::authority).await
    }

    async fn create_authority(&self, secret: Secret) -> Result<Secret, RegistryError> {
        if secret.expose().is_empty() || secret.expose().len() > MAX_SECRET_BYTES {
            return Err(RegistryError::Invalid { fault: format!("a secret has 1 to {MAX_SECRET_BYTES} bytes") });
        }
        self.run(Call { doing: "creating the authority", changes: true }, |files| files.create_authority(secret)).await
    }

    async fn tend(&self) -> Result<(), RegistryError> {
        self.run(Call { doing: "looking after its files", changes: true }, Files::tend).await
    }
}

/// The blocking side.
#[derive(Debug)]
struct Files {
    path: PathBuf,
    folder: PathBuf,
    document: OsString,
    authority: OsString,
    lock: OsString,
    /// Says that the document was created once: one that is missing then was lost, and is not made anew.
    created: OsString,
    lock_wait: Duration,
    /// Whether drafts that crashed processes left were swept; once is enough, since each crash is followed by a start.
    swept: AtomicBool,
    /// Whether this process has seen the document: then there is a cluster, whatever the folder shows.
    seen: AtomicBool,
    /// The authority that this process has seen.
    kept_authority: std::sync::Mutex<Option<Secret>>,
}

impl Files {
    fn new(path: &Path, lock_wait: Duration) -> Result<Files, RegistryError> {
        let invalid = |why: &str| RegistryError::Invalid { fault: format!("the path {path:?} {why}") };
        // Absolute at once, so that a later change of the working directory changes nothing.
        let path = std::path::absolute(path).map_err(|e| invalid(&format!("can't be used: {e}")))?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid("names no file"));
        };
        let beside = |suffix: &str| {
            let mut beside = name.to_owned();
            beside.push(suffix);
            beside
        };
        Ok(Files {
            folder: folder.to_owned(),
            document: name.to_owned(),
            authority: beside(".authority"),
            lock: beside(".lock"),
            created: beside(".created"),
            lock_wait,
            swept: AtomicBool::new(false),
            seen: AtomicBool::new(false),
            kept_authority: std::sync::Mutex::default(),
            path,
        })
    }

    fn read(&self) -> Result<Option<Document>, RegistryError> {
        match self.open("opening the folder")? {
            Some(folder) => self.document(&folder),
            None => Ok(None),
        }
    }

    fn create(&self, document: &Document) -> Result<Swap, RegistryError> {
        let bytes = codec::encode(document)?;
        let folder = Folder::make(&self.folder).map_err(|e| self.unavailable("making the folder", e))?;
        if let Some(there) = self.document(&folder)? {
            return Ok(Swap::Conflict(Some(there)));
        }
        self.sweep(&folder);
        let draft =
            folder.draft(&self.document, &bytes).map_err(|e| self.unavailable("writing the new document", e))?;
        let lock = self.lock(&folder)?;
        if self.was_created(&folder)? && self.document(&folder)?.is_none() {
            return Err(RegistryError::Corrupt { place: self.place(), fault: self.lost() });
        }
        if !draft.publish(&self.document).map_err(|e| self.unknown("putting the new document in place", e))? {
            return self.document(&folder).map(Swap::Conflict);
        }
        self.seen.store(true, Ordering::Relaxed);
        self.mark_created(&folder)?;
        drop(lock);
        folder.sync().map_err(|e| self.unknown("bringing the folder to disk", e))?;
        Ok(Swap::Done)
    }

    /// Puts mark and authority back if this process has seen the document and they are gone, with their folder or alone.
    fn tend(&self) -> Result<(), RegistryError> {
        if !self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kept = self.kept_authority().clone();
        if let Some(folder) = self.open("opening the folder")?
            && folder.has(&self.created)
            && (kept.is_none() || folder.has(&self.authority))
        {
            return Ok(());
        }
        let folder = Folder::make(&self.folder).map_err(|e| self.unavailable("making the folder again", e))?;
        self.mark_created(&folder)?;
        if let Some(secret) = kept {
            let draft = folder.draft(&self.authority, secret.expose());
            let draft = draft.map_err(|e| self.unavailable("writing the authority again", e))?;
            draft.publish(&self.authority).map_err(|e| self.unknown("putting the authority back", e))?;
        }
        folder.sync().map_err(|e| self.unknown("bringing the folder to disk", e))?;
        tracing::error!(
            registry = %self.place(),
            "files of the registry were removed under a running member; put back what says that the cluster exists"
        );
        Ok(())
    }

    fn kept_authority(&self) -> MutexGuard<'_, Option<Secret>> {
        self.kept_authority.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_created(&self, folder: &Folder) -> Result<bool, RegistryError> {
        Ok(self.content(folder, &self.created, MAX_DOCUMENT_BYTES)?.is_some())
    }

    /// A crash between the document and its mark leaves a document without mark: the next change makes it up.
    fn mark_created(&self, folder: &Folder) -> Result<(), RegistryError> {
        if self.was_created(folder)? {
            return Ok(());
        }
        let text = b"The document beside this file was created once. Remove both to begin a new cluster.\n";
        let draft =
            folder.draft(&self.created, text).map_err(|e| self.unknown("marking the document as created", e))?;
        draft.publish(&self.created).map_err(|e| self.unknown("marking the document as created", e))?;
        Ok(())
    }

    fn lost(&self) -> String {
        let mark = self.folder.join(&self.created);
        format!(
            "the document is missing although it was created once; put it back, or end all members and remove {} to begin \
             a new cluster",
            mark.display()
        )
    }

    fn swap(&self, expected: &Expected, next: &Document) -> Result<Swap, RegistryError> {
        let bytes = codec::encode(next)?;
        let Some(folder) = self.open("opening the folder")? else { return Ok(Swap::Conflict(None)) };
        // Only spares the writing; what counts is the read under the lock.
        let early = self.document(&folder)?;
        if !matches(early.as_ref(), expected) {
            return Ok(Swap::Conflict(early));
        }
        self.sweep(&folder);
        let draft =
            folder.draft(&self.document, &bytes).map_err(|e| self.unavailable("writing the new document", e))?;
        let lock = self.lock(&folder)?;
        // G-1: compares on a fresh read, which nobody can outdate while the lock is held.
        let current = self.document(&folder)?;
        if !matches(current.as_ref(), expected) {
            return Ok(Swap::Conflict(current));
        }
        if !draft.replace(&self.document).map_err(|e| self.unknown("putting the new document in place", e))? {
            return self.document(&folder).map(Swap::Conflict);
        }
        self.seen.store(true, Ordering::Relaxed);
        self.mark_created(&folder)?;
        drop(lock);
        folder.sync().map_err(|e| self.unknown("bringing the folder to disk", e))?;
        Ok(Swap::Done)
    }

    fn authority(&self) -> Result<Option<Secret>, RegistryError> {
        match self.open("opening the folder")? {
            Some(folder) => self.secret(&folder),
            None => Ok(None),
        }
    }

    fn create_authority(&self, secret: Secret) -> Result<Secret, RegistryError> {
        let folder = Folder::make(&self.folder).map_err(|e| self.unavailable("making the folder", e))?;
        if let Some(winner) = self.secret(&folder)? {
            return Ok(winner);
        }
        if self.was_created(&folder)? && self.document(&folder)?.is_none() {
            // Another authority would make members that those of the cluster don't let in.
            return Err(RegistryError::Corrupt { place: self.place(), fault: self.lost() });
        }
        let draft =
            folder.draft(&self.authority, secret.expose()).map_err(|e| self.unavailable("writing the authority", e))?;
        // No lock: linking a name that is not there has one winner by itself.
        let won = draft.publish(&self.authority).map_err(|e| self.unknown("putting the authority in place", e))?;
        // The loser too: what it is about to use must outlast a power cut.
        folder.sync().map_err(|e| self.unknown("bringing the folder to disk", e))?;
        if won {
            *self.kept_authority() = Some(secret.clone());
            return Ok(secret);
        }
        let taken = || self.unavailable("reading the authority", "it was taken away while it was being created");
        self.secret(&folder)?.ok_or_else(taken)
    }

    fn open(&self, doing: &'static str) -> Result<Option<Folder>, RegistryError> {
        Folder::open(&self.folder).map_err(|e| self.unavailable(doing, e))
    }

    fn lock(&self, folder: &Folder) -> Result<FileLock, RegistryError> {
        FileLock::take(&folder.handle, &self.lock, self.lock_wait).map_err(|e| self.unavailable("taking the lock", e))
    }

    fn document(&self, folder: &Folder) -> Result<Option<Document>, RegistryError> {
        let Some((bytes, _)) = self.content(folder, &self.document, MAX_DOCUMENT_BYTES)? else { return Ok(None) };
        let document = codec::decode(&bytes).map_err(|fault| RegistryError::found(self.place(), fault))?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(Some(document))
    }

    fn secret(&self, folder: &Folder) -> Result<Option<Secret>, RegistryError> {
        let Some((bytes, mode)) = self.content(folder, &self.authority, MAX_SECRET_BYTES)? else { return Ok(None) };
        let place = self.folder.join(&self.authority).display().to_string();
        if bytes.is_empty() {
            return Err(RegistryError::Corrupt { place, fault: "the authority is empty".into() });
        }
        if mode.intersects(Mode::RWXG | Mode::RWXO) {
            tracing::warn!(file = %place, "the certificate authority's key can be read by others; set its mode to 0600");
        }
        let secret = Secret::new(bytes);
        *self.kept_authority() = Some(secret.clone());
        Ok(Some(secret))
    }

    fn content(&self, folder: &Folder, name: &OsStr, max: usize) -> Result<Option<(Vec<u8>, Mode)>, RegistryError> {
        folder.read(name, max).map_err(|fault| {
            let place = self.folder.join(name).display().to_string();
            match fault {
                ReadFault::Io(error) => RegistryError::Unavailable { place, doing: "reading", source: Box::new(error) },
                ReadFault::Content(fault) => RegistryError::Corrupt { place, fault },
            }
        })
    }

    /// Removes what crashes have left. A change does not fail for it.
    fn sweep(&self, folder: &Folder) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        for name in [&self.document, &self.authority] {
            match folder.sweep(name) {
                Ok(0) => {}
                Ok(swept) => {
                    tracing::info!(swept, registry = %self.path.display(), "removed drafts that a crash had left");
                }
                Err(error) => {
                    tracing::warn!(%error, registry = %self.path.display(), "drafts that a crash had left can't be removed");
                }
            }
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn unavailable(&self, doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> RegistryError {
        RegistryError::Unavailable { place: self.place(), doing, source: source.into() }
    }

    fn unknown(&self, doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> RegistryError {
        RegistryError::Unknown { place: self.place(), doing, source: source.into() }
    }
}

/// G-1: cluster uid, view, ballot and revision.
fn matches(current: Option<&Document>, expected: &Expected) -> bool {
    current.is_some_and(|document| document.expected() == *expected)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
