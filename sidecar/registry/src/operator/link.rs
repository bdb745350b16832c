//! One connection to the operator, made anew when it is broken, and what is asked over it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sidegrid_core::ViewNumber;
use sidegrid_core::document::{Document, Expected};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{DEADLINE_HEADER, Dial, OperatorLimits};
use crate::api::{EnrolRequest, RepublishRequest, SwapRequest};
use crate::codec::MAX_DOCUMENT_BYTES;
use crate::error::RegistryError;

/// The most bytes of an answer: a document, wrapped.
const MAX_ANSWER_BYTES: usize = MAX_DOCUMENT_BYTES + (64 << 10);

/// What is asked.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) doing: &'static str,
    /// Whether it may change something: a lost answer leaves the outcome open.
    pub(super) changes: bool,
    method: Method,
    path: &'static str,
    body: Bytes,
    token: Option<HeaderValue>,
}

impl Question {
    pub(super) fn read() -> Question {
        Question::of("reading", false, Method::GET, "/v1/document", Vec::new())
    }

    pub(super) fn create(document: Vec<u8>) -> Question {
        Question::of("creating", true, Method::POST, "/v1/document", document)
    }

    pub(super) fn swap(expected: Expected, next: Document) -> Result<Question, RegistryError> {
        let body = serde_json::to_vec(&SwapRequest { expected, next }).map_err(unwritable)?;
        Ok(Question::of("swapping", true, Method::PUT, "/v1/document", body))
    }

    /// Not a change that anything later depends on: the operator takes it or leaves it.
    pub(super) fn republish(view: ViewNumber, document: Document) -> Result<Question, RegistryError> {
        let body = serde_json::to_vec(&RepublishRequest { view, document }).map_err(unwritable)?;
        Ok(Question::of("publishing the newest document again", false, Method::POST, "/v1/republish", body))
    }

    /// Asking a second time does no harm: it is no change in the sense of G-2.
    pub(super) fn enrol(request: &EnrolRequest, token: &str) -> Result<Question, RegistryError> {
        let body = serde_json::to_vec(request).map_err(unwritable)?;
        let mut question = Question::of("enrolling", false, Method::POST, "/v1/enrol", body);
        let mut token = HeaderValue::try_from(format!("Bearer {token}")).map_err(unwritable)?;
        token.set_sensitive(true);
        question.token = Some(token);
        Ok(question)
    }

    fn of(doing: &'static str, changes: bool, method: Method, path: &'static str, body: Vec<u8>) -> Question {
        Question { doing, changes, method, path, body: Bytes::from(body), token: None }
    }
}

fn unwritable(error: impl Error) -> RegistryError {
    RegistryError::Invalid { fault: format!("the request has no text form: {error}") }
}

/// What the operator answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
struct Lost {
    /// Whether the request may have reached the operator.
    sent: bool,
    why: Box<dyn Error + Send + Sync>,
}

impl Lost {
    fn unsent(why: impl Into<Box<dyn Error + Send + Sync>>) -> Lost {
        Lost { sent: false, why: why.into() }
    }

    fn sent(why: impl Into<Box<dyn Error + Send + Sync>>) -> Lost {
        Lost { sent: true, why: why.into() }
    }
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the connection's bytes; aborted with it.
    _driver: JoinSet<()>,
}

/// One connection at a time.
pub(super) struct Link {
    dial: Arc<dyn Dial>,
    pub(super) place: String,
    host: String,
    limits: OperatorLimits,
    open: Option<Open>,
    /// Until when a change whose answer was lost may still be applied.
    unsettled_until: Option<Instant>,
}

impl Link {
    pub(super) fn new(dial: Arc<dyn Dial>, place: String, host: String, limits: OperatorLimits) -> Link {
        Link { dial, place, host, limits, open: None, unsettled_until: None }
    }

    /// Closes the connection; the next question makes a new one.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }

    /// A change may still be applied: nothing more is asked before it can't be.
    pub(super) fn unsettle(&mut self) {
        self.unsettled_until = Some(Instant::now() + self.limits.deadline);
    }

    /// Asks. An idle connection that turns out to be closed is made anew once; nothing that may have arrived is sent a
    /// second time, but for what changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`], or [`RegistryError::Unknown`] for a change that may have arrived.
    pub(super) async fn ask(&mut self, question: &Question) -> Result<Answer, RegistryError> {
        if let Some(until) = self.unsettled_until {
            sleep_until(until).await;
            self.unsettled_until = None;
        }
        let reused = self.open.is_some();
        let mut outcome = self.ask_once(question).await;
        if let Err(lost) = &outcome
            && reused
            && (!lost.sent || !question.changes)
        {
            outcome = self.ask_once(question).await;
        }
        outcome.map_err(|lost| self.error(question, lost))
    }

    fn error(&mut self, question: &Question, lost: Lost) -> RegistryError {
        let (place, doing, source) = (self.place.clone(), question.doing, lost.why);
        if question.changes && lost.sent {
            self.unsettle();
            RegistryError::Unknown { place, doing, source }
        } else {
            RegistryError::Unavailable { place, doing, source }
        }
    }

    async fn ask_once(&mut self, question: &Question) -> Result<Answer, Lost> {
        let mut open = match self.open.take().filter(|open| !open.sender.is_closed()) {
            Some(open) => open,
            None => timeout(self.limits.dial, self.connect())
                .await
                .map_err(|_| Lost::unsent(format!("no connection within {} ms", self.limits.dial.as_millis())))??,
        };
        let request = self.request(question)?;
        let patience = self.patience(question);
        // A connection whose answer did not come whole is dropped here, and not asked again.
        let asked = timeout(patience, exchange(&mut open.sender, request)).await;
        let answer = asked.map_err(|_| Lost::sent(format!("no answer within {} ms", patience.as_millis())))??;
        self.open = Some(open);
        Ok(answer)
    }

    /// A read is not worth the wait for an answer that comes late.
    fn patience(&self, question: &Question) -> Duration {
        if question.changes { self.limits.deadline + self.limits.slack } else { self.limits.deadline }
    }

    async fn connect(&self) -> Result<Open, Lost> {
        let stream = self.dial.dial().await.map_err(Lost::unsent)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Lost::unsent)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the operator ended");
            }
        });
        Ok(Open { sender, _driver: driver })
    }

    fn request(&self, question: &Question) -> Result<Request<Full<Bytes>>, Lost> {
        let mut builder = Request::builder()
            .method(question.method.clone())
            .uri(question.path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .header(DEADLINE_HEADER, self.limits.deadline.as_millis().to_string());
        if let Some(token) = &question.token {
            builder = builder.header(AUTHORIZATION, token.clone());
        }
        builder.body(Full::new(question.body.clone())).map_err(Lost::unsent)
    }
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
    sender.ready().await.map_err(Lost::unsent)?;
    let response = sender.try_send_request(request).await.map_err(|mut error| {
        // Given back: not a byte of it was written.
        let sent = error.take_message().is_none();
        Lost { sent, why: error.into_error().into() }
    })?;
    read_whole(response).await
}

async fn read_whole(response: Response<Incoming>) -> Result<Answer, Lost> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(Lost::sent)?;
    Ok(Answer { status, body: body.to_bytes() })
}
