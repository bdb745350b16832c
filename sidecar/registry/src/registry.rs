//! The contract of every registry kind.

use async_trait::async_trait;
use sidegrid_core::ViewNumber;
use sidegrid_core::document::{Document, Expected};

use crate::error::RegistryError;
use crate::secret::Secret;

/// What became of a create or swap whose outcome is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is never stored")]
pub enum Swap {
    /// Done: the registry holds the new document, and keeps it over a restart of whatever holds it.
    Done,
    /// Certainly not done; what was there instead, if anything.
    Conflict(Option<Document>),
}

impl Swap {
    /// Whether it was done.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Swap::Done)
    }
}

/// One cluster's document and its certificate authority.
///
/// All instances on one place, in any number of processes, see one order of changes. A registry never repairs:
/// a missing, older or unreadable document is reported as it is, and left as it is.
///
/// # Cancel safety
/// A dropped call may or may not take effect, like one that ended with [`RegistryError::Unknown`]. Either takes
/// effect, if at all, before a later call of the *same instance* is answered, so that reading settles it (G-2). A
/// kind whose backend could still apply it afterwards must rule that out before it answers.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Reads the document afresh, never from a cache; `None` if there is none.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], [`RegistryError::Corrupt`] or [`RegistryError::Format`].
    async fn read(&self) -> Result<Option<Document>, RegistryError>;

    /// Creates the document; conflicts with any document that is there. One that was created once and is missing is not
    /// made anew: whoever starts meanwhile would make a second cluster.
    ///
    /// # Errors
    /// Any [`RegistryError`]; [`RegistryError::Corrupt`] when the document was lost.
    async fn create(&self, document: Document) -> Result<Swap, RegistryError>;

    /// Replaces the document by `next` if a fresh read matches `expected` in cluster uid, view, ballot and revision
    /// (G-1). Never creates: a missing document is a conflict with `None`.
    ///
    /// # Errors
    /// Any [`RegistryError`]; [`RegistryError::Invalid`] if `next` can't follow `expected` (see
    /// [`check_swap`](crate::check_swap)).
    async fn swap(&self, expected: Expected, next: Document) -> Result<Swap, RegistryError>;

    /// Reads the certificate authority's secret; `None` if there is none yet.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] or [`RegistryError::Corrupt`].
    async fn authority(&self) -> Result<Option<Secret>, RegistryError>;

    /// Stores the certificate authority's secret unless there is one already, and returns the one that is kept: the
    /// first one wins for good.
    ///
    /// # Errors
    /// Any [`RegistryError`] but [`RegistryError::Format`].
    async fn create_authority(&self, secret: Secret) -> Result<Secret, RegistryError>;

    /// Says which view this member has installed as the newest and which document it knows, after the registry showed none
    /// or an older one (G-4). A kind that can gather a majority's word repairs by it; the others do nothing.
    ///
    /// # Errors
    /// Any [`RegistryError`].
    async fn republish(&self, _view: ViewNumber, _document: Document) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Looks after what it keeps beside the document, which a running member must not rely on being found later. Called
    /// every few seconds for as long as a member runs; cheap while all is there.
    ///
    /// # Errors
    /// What is missing and can't be put back.
    async fn tend(&self) -> Result<(), RegistryError> {
        Ok(())
    }
}
