//! What can go wrong with a registry.

use std::error::Error;
use std::io;

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

    /// A stable label of what the system said, where it said something a person can act on; else [`RegistryError::reason`].
    #[must_use]
    pub fn cause(&self) -> &'static str {
        let (RegistryError::Unavailable { source, .. } | RegistryError::Unknown { source, .. }) = self else {
            return self.reason();
        };
        let mut next: Option<&(dyn Error + 'static)> = Some(&**source);
        while let Some(error) = next {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if let Some(label) = kind.and_then(label_of) {
                return label;
            }
            next = error.source();
        }
        self.reason()
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

fn label_of(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::StorageFull => "no_space",
        io::ErrorKind::QuotaExceeded => "quota_exceeded",
        io::ErrorKind::PermissionDenied => "permission_denied",
        io::ErrorKind::ReadOnlyFilesystem => "read_only",
        io::ErrorKind::NotFound => "not_found",
        io::ErrorKind::ConnectionRefused => "connection_refused",
        io::ErrorKind::TimedOut => "timeout",
        _ => return None,
    })
}

/// What a caller hears when it tries to store a document with `fault`.
impl From<DocumentCodecError> for RegistryError {
    fn from(fault: DocumentCodecError) -> RegistryError {
        RegistryError::Invalid { fault: fault.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_word_is_the_cause() {
        let unavailable = |source: Box<dyn Error + Send + Sync>| RegistryError::Unavailable {
            place: "p".into(),
            doing: "writing",
            source,
        };
        for (errno, cause) in [
            (rustix::io::Errno::NOSPC, "no_space"),
            (rustix::io::Errno::DQUOT, "quota_exceeded"),
            (rustix::io::Errno::ACCESS, "permission_denied"),
            (rustix::io::Errno::ROFS, "read_only"),
            (rustix::io::Errno::IO, "unavailable"),
        ] {
            assert_eq!(unavailable(Box::new(io::Error::from(errno))).cause(), cause);
        }
        assert_eq!(unavailable("too many calls".into()).cause(), "unavailable");
        assert_eq!(RegistryError::Invalid { fault: "f".into() }.cause(), "invalid");
    }
}
