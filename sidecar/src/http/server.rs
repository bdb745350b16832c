//! Serving connections: accept within bounds, speak HTTP/1.1 or HTTP/2, close what keeps us waiting, end in order.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio_util::sync::CancellationToken;

use super::Reply;
pub(crate) use super::connection::Connected;
use super::connection::{Order, Socket, Ticks, Watched};
use super::connections::{Connections, Seat};
use super::listen::Listeners;
use super::problem::{Problem, ProblemType};
use crate::spawner::Spawner;

/// Largest head of a request, and what is buffered of a connection.
const MAX_BUFFER: usize = 64 << 10;
/// Requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What an HTTP/2 client may send ahead, of one stream and in all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Pause after a failed accept: the process is out of file descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the end of the last connection is looked for.
const STOP_POLL: Duration = Duration::from_millis(10);

/// What answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request that came in over `connected`.
    ///
    /// # Cancel safety
    /// Dropped when the peer goes away; leaves nothing behind.
    fn answer(&self, connected: &Connected, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// How long a request's head may take.
    pub(crate) header_timeout: Duration,
    /// How long a connection may be idle.
    pub(crate) idle_timeout: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    connections: Arc<Connections>,
    accepting: CancellationToken,
}

/// How many connections a server has open. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OpenConnections(Arc<Connections>);

impl OpenConnections {
    /// Now.
    pub(crate) fn count(&self) -> usize {
        self.0.count()
    }
}

struct Shared<S> {
    service: S,
    builder: auto::Builder<TokioExecutor>,
    connections: Arc<Connections>,
    ticks: Arc<Ticks>,
    spawner: Spawner,
    accepting: CancellationToken,
    full: Vec<u8>,
}

impl Server {
    /// Begins to serve. It ends with [`Server::stop`], or at once when the spawner stops.
    pub(crate) fn start<S: Service>(listeners: Listeners, limits: Limits, service: S, spawner: &Spawner) -> Server {
        let connections = Arc::new(Connections::new(limits.connections));
        let accepting = spawner.stopping().child_token();
        let shared = Arc::new(Shared {
            service,
            builder: builder(),
            connections: Arc::clone(&connections),
            ticks: Arc::new(Ticks::default()),
            spawner: spawner.clone(),
            accepting: accepting.clone(),
            full: full_answer(),
        });
        spawner.spawn("http-reaper", reap(Arc::clone(&shared), limits));
        spawner.spawn("http-accept", accept(shared, listeners));
        Server { connections, accepting }
    }

    /// Tells how many connections are open, as long as anybody asks.
    pub(crate) fn open_connections(&self) -> OpenConnections {
        OpenConnections(Arc::clone(&self.connections))
    }

    /// Takes no more connections, lets requests under way finish for up to `grace`, and closes the rest.
    ///
    /// # Cancel safety
    /// Cancel safe; connections have been told to finish all the same.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.accepting.cancel();
        self.connections.order_all(Order::Finish);
        let all_ended = async {
            while self.connections.count() > 0 {
                tokio::time::sleep(STOP_POLL).await;
            }
        };
        if tokio::time::timeout(grace, all_ended).await.is_err() {
            self.connections.order_all(Order::Abort);
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Heads are timed by the reaper: hyper's own timer is made and dropped with each request.
    builder.http1().header_read_timeout(None).max_buf_size(MAX_BUFFER).timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_BUFFER as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// What a connection is told when there is no seat for it.
fn full_answer() -> Vec<u8> {
    let problem = Problem::new(ProblemType::Overloaded, "too many connections are open, and none of them is idle");
    let body = problem.to_json();
    let status = problem.kind.about().status;
    let after = problem.retry_after_seconds().unwrap_or(0);
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nretry-after: {after}\r\ncache-control: no-cache\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

async fn reap<S: Service>(shared: Arc<Shared<S>>, limits: Limits) {
    let shortest = limits.header_timeout.min(limits.idle_timeout);
    let tick = (shortest / 4).clamp(Duration::from_millis(25), Duration::from_secs(1));
    let ticks = |timeout: Duration| u32::try_from(timeout.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX);
    let (head, idle) = (ticks(limits.header_timeout), ticks(limits.idle_timeout));
    let mut interval = tokio::time::interval(tick);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Both branches are cancel safe.
        tokio::select! {
            () = shared.spawner.stopping().cancelled() => break,
            _ = interval.tick() => shared.connections.reap(shared.ticks.advance(), head, idle),
        }
    }
    // The spawner waits for the connections' tasks.
    shared.connections.order_all(Order::Abort);
}

async fn accept<S: Service>(shared: Arc<Shared<S>>, listeners: Listeners) {
    let Listeners { tcp, unix } = listeners;
    let next_unix = async || match &unix {
        Some(unix) => unix.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    };
    loop {
        // All branches are cancel safe.
        let accepted = tokio::select! {
            () = shared.accepting.cancelled() => return,
            accepted = tcp.accept() => accepted.map(|(stream, _)| Socket::Tcp(stream)),
            accepted = next_unix() => accepted.map(Socket::Unix),
        };
        match accepted {
            Ok(socket) => admit(&shared, socket),
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit<S: Service>(shared: &Arc<Shared<S>>, socket: Socket) {
    let local = match &socket {
        Socket::Tcp(stream) => {
            // Without it answers wait for acknowledgements; a socket that refuses it still works.
            let _ = stream.set_nodelay(true);
            match stream.local_addr() {
                Ok(address) => Some(address.ip().to_canonical()),
                // It is gone already.
                Err(_) => return,
            }
        }
        Socket::Unix(_) => None,
    };
    let connected = Arc::new(Connected::new(local, Arc::clone(&shared.ticks)));
    let Some(seat) = shared.connections.seat(&connected) else {
        // As a courtesy: whoever can't take it at once goes without.
        let _ = match &socket {
            Socket::Tcp(stream) => stream.try_write(&shared.full),
            Socket::Unix(stream) => stream.try_write(&shared.full),
        };
        return;
    };
    shared.spawner.spawn("http-connection", serve(Arc::clone(shared), socket, connected, seat));
}

async fn serve<S: Service>(shared: Arc<Shared<S>>, socket: Socket, connected: Arc<Connected>, _seat: Seat) {
    let io = TokioIo::new(Watched::new(socket, Arc::clone(&connected)));
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, connected) = (Arc::clone(&shared), Arc::clone(&connected));
        async move {
            let _in_flight = connected.begin(request.version() == Version::HTTP_2);
            let mut reply = shared.service.answer(&connected, request).await;
            // All that is told here may be another thing the next moment. Without this, HTTP lets any cache between
            // reuse a 200 or a 404 without asking (RFC 9110, 15.1).
            reply.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
            Ok::<_, Infallible>(reply)
        }
    });
    let mut connection = std::pin::pin!(shared.builder.serve_connection(io, service));
    loop {
        // Cancel safe: the connection is polled on, and an order that was not waited for stays.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            order = connected.ordered() => match order {
                Order::None => {}
                Order::Abort => return,
                // A request that came in at the last moment is finished first.
                Order::Close if !connected.is_busy() => return,
                Order::Close | Order::Finish => connection.as_mut().graceful_shutdown(),
            },
        }
    }
}
