//! Accepting and serving connections within bounds: how many, of one source address and of all, how long a handshake or
//! head may take, how long one is kept.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use sidegrid_net::service::{Peer, ServiceStream, ServiceTls};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::shares::{Place, ServeLimits, Shares};

const HANDSHAKE_TIME: Duration = Duration::from_secs(3);
/// For a request's head.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// A connection without a request for this long ends: less than the time between two reads of a member that has nothing to
/// do, so that members don't fill the seats, and whoever says nothing does not either.
const IDLE_TIME: Duration = Duration::from_secs(15);
/// Between two looks whether a connection is idle.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// After this a connection ends with the request under way, so that a peer's leaf is checked again now and then.
const MAX_AGE: Duration = Duration::from_secs(600);
/// What requests under way are given when the server stops or a connection is too old.
const GRACE: Duration = Duration::from_secs(10);
/// Largest head of a request, and what is buffered of a connection.
const MAX_BUFFER: usize = 64 << 10;
/// Requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// Pause after a failed accept: the process is out of file descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a request comes from: the address at the other end of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub IpAddr);

/// Serves `router` on `listener` until `shutdown`. Then connections are taken for `drain` longer, since whoever finds the
/// replica by name may not have heard yet that it ends, and requests under way are let finish for some seconds. The handlers
/// find who called as an extension of type [`Peer`], if a certificate was shown, and from where as a [`Source`].
///
/// # Cancel safety
/// Dropping it takes no more connections; those that are open end by themselves.
pub async fn serve(listener: TcpListener, tls: ServiceTls, router: Router, limits: ServeLimits, shutdown: Ending) {
    let shares = Shares::new(limits);
    let tracker = TaskTracker::new();
    let ends = CancellationToken::new();
    let over = async {
        shutdown.token.cancelled().await;
        tokio::time::sleep(shutdown.drain).await;
    };
    let mut over = std::pin::pin!(over);
    loop {
        // Each branch is cancel safe: what was not accepted stays in the backlog.
        let accepted = tokio::select! {
            () = over.as_mut() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, from)) => {
                let source = from.ip().to_canonical();
                // Closed at once where there is no place for it: the cheapest refusal.
                let Some(place) = shares.take(source) else { continue };
                let (tls, router, ends) = (tls.clone(), router.clone(), ends.clone());
                tracker.spawn(async move {
                    let cut_off = place.ends.clone();
                    // Both branches are cancel safe: the connection is closed.
                    tokio::select! {
                        () = cut_off.cancelled() => tracing::debug!(%source, "closed, for one of a source with fewer"),
                        () = connection(tcp, Source(source), place, tls, router, ends) => {}
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    ends.cancel();
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "requests under way were cut off by the end");
    }
}

/// When serving ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Cancelled when the program shall end.
    pub token: CancellationToken,
    /// How long connections are taken after that.
    pub drain: Duration,
}

async fn connection(
    tcp: TcpStream,
    source: Source,
    place: Place,
    tls: ServiceTls,
    router: Router,
    ends: CancellationToken,
) {
    // Without it answers wait for acknowledgements; a socket that refuses it still works.
    let _ = tcp.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(tcp)).await {
        Ok(Ok((stream, peer))) => requests(stream, peer, source, place, router, ends).await,
        Ok(Err(error)) => tracing::debug!(reason = error.reason(), %error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

/// What a connection is doing.
#[derive(Clone)]
struct Activity(Arc<Mutex<(u32, Instant)>>);

impl Activity {
    fn new() -> Activity {
        Activity(Arc::new(Mutex::new((0, Instant::now()))))
    }

    /// A request is under way for as long as what this gives.
    fn begin(&self) -> Underway {
        self.change(|underway| underway.saturating_add(1));
        Underway(self.clone())
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (change(state.0), Instant::now());
    }

    /// Ends when there has been no request for a while.
    async fn idle(&self) {
        loop {
            tokio::time::sleep(IDLE_LOOK).await;
            let (underway, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if underway == 0 && since.elapsed() >= IDLE_TIME {
                return;
            }
        }
    }
}

/// A request that is under way.
struct Underway(Activity);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.change(|underway| underway.saturating_sub(1));
    }
}

async fn requests(
    stream: ServiceStream,
    peer: Option<Peer>,
    source: Source,
    place: Place,
    router: Router,
    ends: CancellationToken,
) {
    let activity = Activity::new();
    let (counted, place) = (activity.clone(), Arc::new(place));
    let service = tower::service_fn(move |request: Request<Incoming>| {
        let underway = counted.begin();
        place.prove();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(source);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(underway);
            answer
        }
    });
    let builder = builder();
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    // Each branch is cancel safe: the connection is polled on.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = ends.cancelled() => {}
        () = tokio::time::sleep(MAX_AGE) => {}
        () = activity.idle() => {}
    }
    serving.as_mut().graceful_shutdown();
    // Whoever is not done by then is cut off.
    let _ = tokio::time::timeout(GRACE, serving).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_BUFFER as u32)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_its_last_request_and_never_during_one() {
        let activity = Activity::new();
        let began = Instant::now();
        activity.idle().await;
        assert!(began.elapsed() >= IDLE_TIME && began.elapsed() <= IDLE_TIME + IDLE_LOOK, "{:?}", began.elapsed());

        let underway = activity.begin();
        assert!(tokio::time::timeout(4 * IDLE_TIME, activity.idle()).await.is_err(), "a request is under way");
        drop(underway);
        let ended = Instant::now();
        activity.idle().await;
        assert!(ended.elapsed() >= IDLE_TIME, "{:?}", ended.elapsed());
    }
}
