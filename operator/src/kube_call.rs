//! Calls of the API server within bounds of time, and what their ends mean.
//!
//! A change whose answer is lost may have been made: that is told apart from one that was refused.

use std::future::Future;
use std::time::Duration;

use kube::core::Status;

/// How long one call may take: below the time after which a sidecar gives up a request that makes two of them.
const CALL_TIME: Duration = Duration::from_millis(2_500);

/// Why a call of the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// 409: the object is there already, or has changed. Nothing was changed.
    #[error("conflict: {0}")]
    Conflict(String),
    /// 404 to a change: the object, or its namespace, is not there. Nothing was changed.
    #[error("not found: {0}")]
    NotFound(String),
    /// 413 and 422, and 400: it will never be taken. Nothing was changed.
    #[error("refused for good: {0}")]
    Invalid(String),
    /// Refused for now, or not asked at all. Nothing was changed.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The answer to a change was lost.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// A reading call.
///
/// # Errors
/// [`CallError`], never `Unknown`.
pub async fn read<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIME, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(refused(&status, false)),
        Ok(Err(error)) => Err(CallError::Unavailable(error.to_string())),
        Err(_) => Err(CallError::Unavailable(late())),
    }
}

/// A changing call.
///
/// # Errors
/// [`CallError`].
pub async fn change<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIME, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(refused(&status, true)),
        // Before anything was sent.
        Ok(Err(error @ kube::Error::BuildRequest(_))) => Err(CallError::Invalid(error.to_string())),
        Ok(Err(error)) => Err(CallError::Unknown(error.to_string())),
        Err(_) => Err(CallError::Unknown(late())),
    }
}

fn late() -> String {
    format!("no answer of the API server within {CALL_TIME:?}")
}

fn refused(status: &Status, is_change: bool) -> CallError {
    let says = format!("{} ({} {})", status.message, status.code, status.reason);
    match status.code {
        409 => CallError::Conflict(says),
        404 => CallError::NotFound(says),
        400 | 413 | 422 => CallError::Invalid(says),
        401 | 403 | 429 => CallError::Unavailable(says),
        // Whatever else a server says of a change, its storage may have taken it.
        _ if is_change => CallError::Unknown(says),
        _ => CallError::Unavailable(says),
    }
}
