//! Kind `operator`: the operator keeps the document and the authority, and is asked over HTTP (see [`api`](crate::api)).
//!
//! How a connection is made and secured is a [`Dial`]'s: this crate knows no TLS. There are two: one for enrolling,
//! which shows a token with each request, and one for the document, on which the member shows its leaf.
//!
//! **A change whose answer is lost** may still be on its way: the operator could apply it after a later read. Each request
//! therefore says for how long it may be worked on (`sidegrid-deadline-ms`), the operator gives it up after that, and this
//! side asks nothing more of the operator before that time has passed since the connection was given up (G-2).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sidegrid_core::ViewNumber;
use sidegrid_core::document::{Document, Expected};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};

use crate::api::{EnrolRequest, Enrolment};
use crate::codec;
use crate::error::RegistryError;
use crate::registry::{Registry, Swap};
use crate::secret::{MAX_SECRET_BYTES, Secret};

mod answers;
mod link;

use answers::Asker;
use link::{Link, Question};

/// The header that tells the operator for how many milliseconds it may work on a request.
pub const DEADLINE_HEADER: &str = "sidegrid-deadline-ms";

/// Calls of one instance under way or waiting; one more is refused (B-1).
const CALLS_AT_ONCE: usize = 64;

/// A connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Makes connections to the operator.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A new connection, secured and ready for HTTP/1.1.
    ///
    /// # Errors
    /// When there is none to be had now; the text says why.
    async fn dial(&self) -> std::io::Result<Box<dyn Stream>>;
}

/// Certifies members.
#[async_trait]
pub trait Enrol: Send + Sync {
    /// Asks to be certified as an incarnation of this pod.
    ///
    /// # Errors
    /// [`RegistryError::Unavailable`] when it may go away by itself, also after the operator's view of the pod has
    /// caught up; [`RegistryError::Invalid`] when what is asked can't be done.
    ///
    /// # Cancel safety
    /// A dropped call may have made a certificate that nobody uses.
    async fn enrol(&self, request: EnrolRequest) -> Result<Enrolment, RegistryError>;

    /// The member has a new leaf: connections that showed the old one are not used any more.
    fn renewed(&self);
}

/// Where the operator is and how it is reached.
pub struct OperatorSettings {
    /// Its place, for messages: the URL.
    pub place: String,
    /// The host of the URL, for the `Host` header.
    pub host: String,
    /// The file of the pod's token, read at each enrolment.
    pub token: PathBuf,
    /// Makes connections that show nothing.
    pub enrols: Arc<dyn Dial>,
    /// Makes connections that show the member's leaf.
    pub asks: Arc<dyn Dial>,
    /// Bounds.
    pub limits: OperatorLimits,
}

/// How long things may take. With the defaults a call ends within the time after which the core gives it up, but for a
/// read right after a lost answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorLimits {
    /// Making a connection, name resolution and handshake included.
    pub dial: Duration,
    /// How long the operator may work on a request; told with each.
    pub deadline: Duration,
    /// How much longer an answer is waited for.
    pub slack: Duration,
    /// How long a call waits for the calls of the same instance before it.
    pub turn: Duration,
}

impl Default for OperatorLimits {
    fn default() -> OperatorLimits {
        OperatorLimits {
            dial: Duration::from_millis(1_500),
            deadline: Duration::from_secs(2),
            slack: Duration::from_millis(500),
            turn: Duration::from_secs(4),
        }
    }
}

/// A registry that the operator keeps.
///
/// Calls of one instance are made one after the other on one connection, also those that their callers have given up: so a
/// read tells for good what became of a change before it (G-2).
pub struct OperatorRegistry {
    limits: OperatorLimits,
    place: String,
    token: PathBuf,
    runtime: Handle,
    documents: Asker,
    enrolments: Asker,
    stale: Arc<AtomicBool>,
}

impl std::fmt::Debug for OperatorRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorRegistry").field("place", &self.place).finish_non_exhaustive()
    }
}

impl OperatorRegistry {
    /// The registry at this operator. Connects to nothing yet. Its calls run on `runtime`, whichever thread waits for
    /// them; it needs time and network.
    #[must_use]
    pub fn new(settings: OperatorSettings, runtime: Handle) -> OperatorRegistry {
        let OperatorSettings { place, host, token, enrols, asks, limits } = settings;
        let asker = |dial| Asker {
            link: Arc::new(Mutex::new(Link::new(dial, place.clone(), host.clone(), limits))),
            calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        };
        let (documents, enrolments) = (asker(asks), asker(enrols));
        OperatorRegistry { limits, documents, enrolments, place, token, runtime, stale: Arc::default() }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: Question,
        understand: impl FnOnce(&answers::Understood<'_>) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let stale = Arc::clone(&self.stale);
        let before = move |link: &mut Link| {
            if stale.swap(false, Ordering::AcqRel) {
                link.hang_up();
            }
        };
        self.documents.ask(&self.runtime, self.limits.turn, question, before, understand).await
    }

    fn keeps_the_authority<T>() -> Result<T, RegistryError> {
        Err(RegistryError::Invalid { fault: "the operator keeps the authority".into() })
    }

    /// The token is a few kilobytes in memory (a projected volume), so reading it does not block for long.
    fn token(&self) -> Result<String, RegistryError> {
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| RegistryError::Unavailable {
            place: self.token.display().to_string(),
            doing: "reading the pod's token",
            source,
        };
        let token = std::fs::read_to_string(&self.token).map_err(|e| unreadable(e.into()))?;
        let token = token.trim();
        if token.is_empty() || token.len() > MAX_SECRET_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(unreadable("it holds no token".into()));
        }
        Ok(token.to_owned())
    }
}

#[async_trait]
impl Registry for OperatorRegistry {
    async fn read(&self) -> Result<Option<Document>, RegistryError> {
        self.ask(Question::read(), answers::read).await
    }

    async fn create(&self, document: Document) -> Result<Swap, RegistryError> {
        let body = codec::encode(&document)?;
        self.ask(Question::create(body), answers::created).await
    }

    async fn swap(&self, expected: Expected, next: Document) -> Result<Swap, RegistryError> {
        codec::check_swap(&expected, &next)?;
        // Checks it, as the operator will.
        codec::encode(&next)?;
        self.ask(Question::swap(expected, next)?, answers::swapped).await
    }

    async fn authority(&self) -> Result<Option<Secret>, RegistryError> {
        Self::keeps_the_authority()
    }

    async fn create_authority(&self, _secret: Secret) -> Result<Secret, RegistryError> {
        Self::keeps_the_authority()
    }

    async fn republish(&self, view: ViewNumber, document: Document) -> Result<(), RegistryError> {
        // Checks it, as the operator will.
        codec::encode(&document)?;
        self.ask(Question::republish(view, document)?, answers::republished).await
    }
}

#[async_trait]
impl Enrol for OperatorRegistry {
    async fn enrol(&self, request: EnrolRequest) -> Result<Enrolment, RegistryError> {
        let question = Question::enrol(&request, &self.token()?)?;
        // Rare, and the token decides who is asking: a new connection each time.
        let before = |link: &mut Link| link.hang_up();
        self.enrolments.ask(&self.runtime, self.limits.turn, question, before, answers::enrolled).await
    }

    fn renewed(&self) {
        self.stale.store(true, Ordering::Release);
    }
}
