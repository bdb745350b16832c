//! What can go wrong with a registry.

use std::error::Error;

use crate::codec::DocumentCodecError;

/// Why a registry call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry could not be asked. Nothing was changed.
    #[error("registry {place}: {doing} failed: {source}")]
    Unavailable {
        /// Where the registry is.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A change was on its way when the answer was lost: it may have been made or not. Resolved by reading (G-2).
    #[error("registry {place}: the outcome is unknown, {doing} failed: {source}")]
    Unknown {
        /// Where the registry is.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// Why the answer was lost.
        source: Box<dyn Error + Send + Sync>,
    },
    /// What is there can't be understood. It is left as it is: a person must look.
    #[error("registry {place}: {fault}; it was left as it is")]
    Corrupt {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        fault: String,
    },
    /// What is there was written in a format that this build does not speak (F-1). It is left as it is.
    #[error("registry {place}: its format is {found}, this build speaks {oldest} to {newest}; it was left as it is")]
    Format {
        /// Where it is.
        place: String,
        /// The format found.
        found: u16,
        /// The oldest format that this build speaks.
        oldest: u16,
        /// The newest format that this build speaks.
        newest: u16,
    },
    /// What the caller asks for can't be done, ever. Nothing was changed.
    #[error("refused by the registry: {fault}")]
    Invalid {
        /// What is wrong with it.
        fault: String,
    },
}

impl RegistryError {
    /// A stable word, for metric labels and conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            RegistryError::Unavailable { .. } => "unavailable",
            RegistryError::Unknown { .. } => "unknown_outcome",
            RegistryError::Corrupt { .. } => "corrupt",
            RegistryError::Format { .. } => "format",
            RegistryError::Invalid { .. } => "invalid",
        }
    }

    /// Whether it may go away by itself. After [`RegistryError::Unknown`], read before trying again.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, RegistryError::Unavailable { .. } | RegistryError::Unknown { .. })
    }

    /// What a kind answers when it finds `fault` in what is stored at `place`.
    #[must_use]
    pub fn found(place: String, fault: DocumentCodecError) -> RegistryError {
        match fault {
            DocumentCodecError::Content(fault) => RegistryError::Corrupt { place, fault },
            DocumentCodecError::Format { found, oldest, newest } => {
                RegistryError::Format { place, found, oldest, newest }
            }
        }
    }
}

/// What a caller hears when it tries to store a document with `fault`.
impl From<DocumentCodecError> for RegistryError {
    fn from(fault: DocumentCodecError) -> RegistryError {
        RegistryError::Invalid { fault: fault.to_string() }
    }
}
