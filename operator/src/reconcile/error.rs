//! Why a reconciliation did not reach its end, and when it is tried again.

use std::time::Duration;

use crate::authority::AuthorityFault;
use crate::serving::ServingFault;

/// Why a reconciliation did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or can't be asked.
    #[error("{what}: {error}")]
    Api {
        /// What was being done.
        what: &'static str,
        /// The client's error.
        error: Box<kube::Error>,
    },
    /// The cluster's authority can't be had.
    #[error("the cluster's authority: {0}")]
    Authority(#[from] AuthorityFault),
    /// The operator's own certificates can't be had.
    #[error("the operator's certificates: {0}")]
    Serving(#[from] ServingFault),
    /// Something of somebody else's has the name that is needed.
    #[error("{kind} {name} is there and is not this CacheCluster's; rename or delete it")]
    Taken {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// What is asked for can't be given to sidecars. Only a change of the CacheCluster helps.
    #[error("the settings are wrong: {0}")]
    Invalid(String),
    /// The CacheCluster lacks what every stored object has.
    #[error("the CacheCluster has no {0}")]
    Incomplete(&'static str),
}

/// What kind of fault it is, which decides when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody changed the object meanwhile: again soon.
    Conflict,
    /// The API server is away or refuses: again, later each time.
    Unavailable,
    /// Somebody else has the name: again now and then.
    Taken,
    /// Only a change of the CacheCluster helps: wait for it.
    Invalid,
}

impl Class {
    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Class::Conflict => "conflict",
            Class::Unavailable => "unavailable",
            Class::Taken => "taken",
            Class::Invalid => "invalid",
        }
    }

    /// How long to wait after the `attempt`th failure in a row, from 1; none: until something changes.
    #[must_use]
    pub fn wait(self, attempt: u32) -> Option<Duration> {
        match self {
            Class::Conflict => Some(Duration::from_millis(500)),
            Class::Unavailable => {
                let doubled = Duration::from_secs(1) * 2u32.pow(attempt.saturating_sub(1).min(6));
                Some(doubled.min(LONGEST_WAIT))
            }
            Class::Taken => Some(LONGEST_WAIT),
            Class::Invalid => None,
        }
    }
}

/// The longest wait between two tries.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl ReconcileError {
    /// Wraps an error of the client with what was being done.
    pub(super) fn api(what: &'static str) -> impl FnOnce(kube::Error) -> ReconcileError {
        move |error| ReconcileError::Api { what, error: Box::new(error) }
    }

    /// What kind of fault it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            ReconcileError::Api { error, .. } => match &**error {
                kube::Error::Api(status) if status.code == 409 => Class::Conflict,
                _ => Class::Unavailable,
            },
            ReconcileError::Authority(_) | ReconcileError::Serving(_) => Class::Unavailable,
            ReconcileError::Taken { .. } => Class::Taken,
            ReconcileError::Invalid(_) | ReconcileError::Incomplete(_) => Class::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_never_end() {
        let waits: Vec<u64> =
            (1..=8).filter_map(|attempt| Class::Unavailable.wait(attempt)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(Class::Unavailable.wait(u32::MAX), Some(LONGEST_WAIT));
        assert_eq!(Class::Invalid.wait(1), None);
        assert!(Class::Conflict.wait(9) < Class::Unavailable.wait(1));
    }

    #[test]
    fn a_conflict_is_told_from_an_absent_server() {
        let status = |code| kube::Error::Api(Box::new(kube::core::Status::failure("no", "x").with_code(code)));
        assert_eq!(ReconcileError::api("x")(status(409)).class(), Class::Conflict);
        assert_eq!(ReconcileError::api("x")(status(503)).class(), Class::Unavailable);
        assert_eq!(ReconcileError::Invalid("x".into()).class(), Class::Invalid);
    }
}
