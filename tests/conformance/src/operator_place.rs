//! Places of the kind `operator`: an operator in memory, which answers over plain TCP as the API says.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use sidegrid_core::document::Document;
use sidegrid_core::member::Locality;
use sidegrid_registry::api::{ApiProblem, Conflict, EnrolRequest, Enrolment, RepublishRequest, SwapRequest, reason};
use sidegrid_registry::{
    DEADLINE_HEADER, Dial, OperatorLimits, OperatorRegistry, OperatorSettings, Registry, Stream, check_swap, decode,
    encode,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::Place;

/// What the operator does with the next change beside doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It closes the connection and makes the change this much later.
    HangsUpThenApplies(Duration),
    /// It makes the change and closes the connection.
    AppliesThenHangsUp,
    /// It answers 503 and makes nothing.
    Refuses,
    /// It answers that a change was on its way, and makes it this much later.
    DoesNotKnow(Duration),
}

#[derive(Default)]
struct ServerState {
    document: Option<Document>,
    was_created: bool,
    mishap: Option<Mishap>,
    tokens: Vec<String>,
    republished: Vec<RepublishRequest>,
}

/// An operator of its own, which ends with it.
pub struct OperatorPlace {
    held: Arc<Mutex<ServerState>>,
    address: SocketAddr,
    dials: Arc<AtomicUsize>,
    token: tempfile::NamedTempFile,
    _server: JoinSet<()>,
}

impl OperatorPlace {
    /// An operator that holds nothing. To be made within a runtime.
    ///
    /// # Panics
    /// If no port or file can be had.
    #[must_use]
    pub fn new() -> OperatorPlace {
        let held: Arc<Mutex<ServerState>> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&held)));
        let token = tempfile::NamedTempFile::new().expect("a file");
        OperatorPlace { held, address, dials: Arc::default(), token, _server: server }
    }

    /// A new instance with these bounds.
    #[must_use]
    pub fn registry(&self, limits: OperatorLimits) -> OperatorRegistry {
        let dial = Arc::new(PlainDial { address: self.address, dials: Arc::clone(&self.dials) });
        let settings = OperatorSettings {
            place: format!("http://{}", self.address),
            host: self.address.to_string(),
            token: self.token.path().to_owned(),
            enrols: Arc::clone(&dial) as Arc<dyn Dial>,
            asks: dial,
            limits,
        };
        OperatorRegistry::new(settings, Handle::current())
    }

    /// What happens with the next change.
    pub fn next_change(&self, mishap: Mishap) {
        lock(&self.held).mishap = Some(mishap);
    }

    /// Connections made to it so far.
    #[must_use]
    pub fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }

    /// Where the token is read from.
    #[must_use]
    pub fn token_path(&self) -> PathBuf {
        self.token.path().to_owned()
    }

    /// Tokens shown so far.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        lock(&self.held).tokens.clone()
    }

    /// Documents that were published again.
    #[must_use]
    pub fn republished(&self) -> Vec<RepublishRequest> {
        lock(&self.held).republished.clone()
    }
}

impl Default for OperatorPlace {
    fn default() -> OperatorPlace {
        OperatorPlace::new()
    }
}

#[async_trait]
impl Place for OperatorPlace {
    fn open(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry(OperatorLimits::default()))
    }

    async fn tamper(&self, document: Option<&Document>) {
        lock(&self.held).document = document.cloned();
    }

    fn keeps_authority(&self) -> bool {
        false
    }
}

struct PlainDial {
    address: SocketAddr,
    dials: Arc<AtomicUsize>,
}

#[async_trait]
impl Dial for PlainDial {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(TcpStream::connect(self.address).await?))
    }
}

fn lock(held: &Mutex<ServerState>) -> MutexGuard<'_, ServerState> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, held: Arc<Mutex<ServerState>>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let held = Arc::clone(&held);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&held)));
            // A mishap ends a connection by an error.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

type Reply = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, held: Arc<Mutex<ServerState>>) -> io::Result<Reply> {
    if !request.headers().contains_key(DEADLINE_HEADER) {
        return Ok(problem(StatusCode::BAD_REQUEST, reason::INVALID, "no deadline"));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let token = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    match (method, path.as_str()) {
        (Method::GET, "/v1/document") => Ok(read(&lock(&held))),
        (Method::POST, "/v1/document") => Ok(create(&mut lock(&held), &body)),
        (Method::PUT, "/v1/document") => change(&held, body),
        (Method::POST, "/v1/republish") => {
            lock(&held).republished.extend(serde_json::from_slice::<RepublishRequest>(&body));
            Ok(reply(StatusCode::ACCEPTED, Vec::new()))
        }
        (Method::POST, "/v1/enrol") => Ok(enrol(&mut lock(&held), token, &body)),
        _ => Ok(problem(StatusCode::NOT_FOUND, "no_such_path", "no such path")),
    }
}

fn read(held: &ServerState) -> Reply {
    match &held.document {
        Some(document) => reply(StatusCode::OK, encode(document).unwrap_or_default()),
        None => missing(held),
    }
}

fn missing(held: &ServerState) -> Reply {
    if held.was_created {
        problem(StatusCode::GONE, reason::LOST, "it was created once")
    } else {
        problem(StatusCode::NOT_FOUND, reason::NO_DOCUMENT, "none yet")
    }
}

fn create(held: &mut ServerState, body: &[u8]) -> Reply {
    let document = match decode(body) {
        Ok(document) => document,
        Err(fault) => return problem(StatusCode::UNPROCESSABLE_ENTITY, reason::INVALID, &fault.to_string()),
    };
    if held.document.is_some() {
        return conflict(held);
    }
    if held.was_created {
        return missing(held);
    }
    held.was_created = true;
    held.document = Some(document);
    reply(StatusCode::CREATED, Vec::new())
}

fn conflict(held: &ServerState) -> Reply {
    said(StatusCode::CONFLICT, &Conflict { there: held.document.clone() })
}

fn change(held: &Arc<Mutex<ServerState>>, body: Bytes) -> io::Result<Reply> {
    let mishap = lock(held).mishap.take();
    let later = |wait: Duration| {
        let (held, body) = (Arc::clone(held), body.clone());
        Handle::current().spawn(async move {
            tokio::time::sleep(wait).await;
            swap(&mut lock(&held), &body);
        });
    };
    match mishap {
        None => Ok(swap(&mut lock(held), &body)),
        Some(Mishap::AppliesThenHangsUp) => {
            swap(&mut lock(held), &body);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Mishap::HangsUpThenApplies(wait)) => {
            later(wait);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Mishap::DoesNotKnow(wait)) => {
            later(wait);
            Ok(problem(StatusCode::SERVICE_UNAVAILABLE, reason::UNKNOWN_OUTCOME, "its answer was lost"))
        }
        Some(Mishap::Refuses) => Ok(problem(StatusCode::SERVICE_UNAVAILABLE, reason::UNAVAILABLE, "try again")),
    }
}

fn swap(held: &mut ServerState, body: &[u8]) -> Reply {
    let refused = |fault: &str| problem(StatusCode::UNPROCESSABLE_ENTITY, reason::INVALID, fault);
    let SwapRequest { expected, next } = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => return refused(&error.to_string()),
    };
    if let Err(fault) = check_swap(&expected, &next).and_then(|()| encode(&next)) {
        return refused(&fault.to_string());
    }
    if held.document.as_ref().is_none_or(|document| document.expected() != expected) {
        return conflict(held);
    }
    held.document = Some(next);
    reply(StatusCode::OK, Vec::new())
}

fn enrol(held: &mut ServerState, token: Option<String>, body: &[u8]) -> Reply {
    let Some(token) = token.as_deref().and_then(|t| t.strip_prefix("Bearer ")).filter(|t| *t != "bad") else {
        return problem(StatusCode::UNAUTHORIZED, reason::UNAUTHENTICATED, "the token has expired");
    };
    held.tokens.push(token.to_owned());
    let Ok(request) = serde_json::from_slice::<EnrolRequest>(body) else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, reason::INVALID, "no request");
    };
    said(
        StatusCode::OK,
        &Enrolment {
            cluster: sidegrid_core::ClusterUid(1),
            certificate: format!("{} for {}", request.request, request.member),
            authorities: "authorities".into(),
            renew_after_s: 60,
            locality: Locality::default(),
            pod_uid: "pod".into(),
        },
    )
}

fn problem(status: StatusCode, reason: &str, detail: &str) -> Reply {
    said(status, &ApiProblem { reason: reason.to_owned(), detail: detail.to_owned() })
}

fn said(status: StatusCode, what: &impl Serialize) -> Reply {
    reply(status, serde_json::to_vec(what).unwrap_or_default())
}

fn reply(status: StatusCode, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply
}
