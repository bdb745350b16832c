//! What the operator's answers mean.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use sidegrid_core::document::Document;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};

use super::link::{Answer, Link, Question};
use crate::api::{ApiProblem, Enrolment, reason};
use crate::codec;
use crate::error::RegistryError;
use crate::registry::Swap;

/// Puts questions, one after the other.
pub(super) struct Asker {
    pub(super) link: Arc<Mutex<Link>>,
    pub(super) calls: Arc<Semaphore>,
}

impl Asker {
    /// Puts a question in turn, on `runtime`. It is asked to its end even if this call is dropped, and keeps its turn
    /// until then.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        runtime: &Handle,
        patience: Duration,
        question: Question,
        before: impl FnOnce(&mut Link) + Send + 'static,
        understand: impl FnOnce(&Understood<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let refused = |why: &'static str| RegistryError::Unavailable {
            place: "operator".into(),
            doing: question.doing,
            source: why.into(),
        };
        let counted = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| refused("too many calls are waiting"))?;
        let mut link = tokio::time::timeout(patience, Arc::clone(&self.link).lock_owned())
            .await
            .map_err(|_| refused("an earlier call has not ended"))?;
        let (doing, changes) = (question.doing, question.changes);
        let job = runtime.spawn(async move {
            let _until_the_end = counted;
            before(&mut link);
            let answer = link.ask(&question).await?;
            let understood = understand(&Understood { answer: &answer, question: &question, place: &link.place });
            if matches!(understood, Err(RegistryError::Unknown { .. })) {
                link.unsettle();
            }
            understood
        });
        job.await.map_err(|error| {
            let (place, source) = ("operator".to_owned(), error.into());
            if changes {
                RegistryError::Unknown { place, doing, source }
            } else {
                RegistryError::Unavailable { place, doing, source }
            }
        })?
    }
}

/// An answer, and what it answers.
pub(super) struct Understood<'a> {
    answer: &'a Answer,
    question: &'a Question,
    place: &'a str,
}

/// A conflict before its document is known to be one.
#[derive(Deserialize)]
struct Conflicting {
    there: Option<serde_json::Value>,
}

pub(super) fn read(got: &Understood<'_>) -> Result<Option<Document>, RegistryError> {
    match got.answer.status {
        StatusCode::OK => got.document(&got.answer.body).map(Some),
        // Lost or never made: missing either way. Who makes it is told which.
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        _ => Err(got.refused()),
    }
}

pub(super) fn created(got: &Understood<'_>) -> Result<Swap, RegistryError> {
    match got.answer.status {
        StatusCode::CREATED | StatusCode::OK => Ok(Swap::Done),
        StatusCode::CONFLICT => got.conflict(),
        _ => Err(got.refused()),
    }
}

pub(super) fn swapped(got: &Understood<'_>) -> Result<Swap, RegistryError> {
    match got.answer.status {
        StatusCode::OK => Ok(Swap::Done),
        StatusCode::CONFLICT => got.conflict(),
        StatusCode::GONE => Ok(Swap::Conflict(None)),
        _ => Err(got.refused()),
    }
}

pub(super) fn republished(got: &Understood<'_>) -> Result<(), RegistryError> {
    if got.answer.status.is_success() { Ok(()) } else { Err(got.refused()) }
}

pub(super) fn enrolled(got: &Understood<'_>) -> Result<Enrolment, RegistryError> {
    match got.answer.status {
        StatusCode::OK | StatusCode::CREATED => serde_json::from_slice(&got.answer.body)
            .map_err(|e| got.corrupt(format!("the enrolment can't be read: {e}"))),
        // What the pod is: asking again changes nothing.
        StatusCode::FORBIDDEN => Err(RegistryError::Invalid { fault: got.says() }),
        _ => Err(got.refused()),
    }
}

fn told(problem: Option<&ApiProblem>) -> String {
    problem.map_or("no reason given".to_owned(), |problem| format!("{} ({})", problem.detail, problem.reason))
}

impl Understood<'_> {
    fn document(&self, bytes: &[u8]) -> Result<Document, RegistryError> {
        codec::decode(bytes).map_err(|fault| RegistryError::found(self.place.to_owned(), fault))
    }

    fn conflict(&self) -> Result<Swap, RegistryError> {
        let unreadable = |e: serde_json::Error| self.corrupt(format!("the conflict can't be read: {e}"));
        let conflict: Conflicting = serde_json::from_slice(&self.answer.body).map_err(unreadable)?;
        let there = match conflict.there {
            None => None,
            Some(there) => Some(self.document(&serde_json::to_vec(&there).map_err(unreadable)?)?),
        };
        Ok(Swap::Conflict(there))
    }

    fn corrupt(&self, fault: String) -> RegistryError {
        RegistryError::Corrupt { place: self.place.to_owned(), fault }
    }

    fn problem(&self) -> Option<ApiProblem> {
        serde_json::from_slice(&self.answer.body).ok()
    }

    fn says(&self) -> String {
        format!("this pod may not do that: {}", told(self.problem().as_ref()))
    }

    /// What every other status says. A change that the operator had begun when it gave up may have been made, unless it
    /// says that nothing was; those that it refuses have not been.
    fn refused(&self) -> RegistryError {
        let (place, doing) = (self.place.to_owned(), self.question.doing);
        let status = self.answer.status;
        let problem = self.problem();
        let reason = problem.as_ref().map_or("", |problem| problem.reason.as_str());
        let told = told(problem.as_ref());
        let why = match status {
            StatusCode::UNAUTHORIZED => format!("the token or certificate is not accepted: {told}"),
            StatusCode::FORBIDDEN => self.says(),
            _ => format!("answered {}: {told}", status.as_u16()),
        };
        let untouched = matches!(reason, reason::UNAVAILABLE | reason::OVERLOADED);
        match status {
            StatusCode::GONE => self.corrupt(format!("the document is missing although it was created once: {told}")),
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                RegistryError::Invalid { fault: why }
            }
            _ if reason == reason::CORRUPT => self.corrupt(told),
            _ if self.question.changes && status.is_server_error() && !untouched => {
                RegistryError::Unknown { place, doing, source: why.into() }
            }
            _ => RegistryError::Unavailable { place, doing, source: why.into() },
        }
    }
}
