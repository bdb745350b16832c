//! One connection: its bytes, and what is known of it by whoever bounds connections.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::Sleep;

/// Bytes read and thrown away after an answer that refused the rest of a body, so that the sender sees the answer
/// and not a reset.
const LINGER_BYTES: usize = 1 << 20;
/// Longest time of that.
const LINGER: Duration = Duration::from_secs(1);

/// A coarse clock shared by all connections of a server: reading it costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Ticks(AtomicU32);

impl Ticks {
    /// Now. Begins at 1: zero stands for "never".
    pub(crate) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed) + 1
    }

    /// One tick later.
    pub(crate) fn advance(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 2
    }
}

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// Finish what is under way and end.
    Finish,
    /// End at once, unless a request has come in meanwhile: then finish it and end.
    Close,
    /// End at once.
    Abort,
}

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The address that it was made to; none on a Unix socket.
    pub(crate) local: Option<IpAddr>,
    ticks: Arc<Ticks>,
    in_flight: AtomicUsize,
    last_moved: AtomicU32,
    head_since: AtomicU32,
    multiplexed: AtomicBool,
    lingers: AtomicBool,
    order: AtomicU8,
    ordered: Notify,
}

impl Connected {
    pub(crate) fn new(local: Option<IpAddr>, ticks: Arc<Ticks>) -> Connected {
        let now = ticks.now();
        Connected {
            local,
            ticks,
            in_flight: AtomicUsize::new(0),
            last_moved: AtomicU32::new(now),
            head_since: AtomicU32::new(now),
            multiplexed: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            order: AtomicU8::new(0),
            ordered: Notify::new(),
        }
    }

    /// A request's head is complete; it is under way until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, multiplexed: bool) -> InFlight {
        self.head_since.store(0, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if multiplexed {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        InFlight(Arc::clone(self))
    }

    /// After the answer under way the rest of what the peer sends is thrown away for a while.
    pub(crate) fn linger(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The tick at which bytes last moved.
    pub(crate) fn last_moved(&self) -> u32 {
        self.last_moved.load(Ordering::Relaxed)
    }

    /// Whether it kept us waiting too long at tick `now`: for the rest of a head, or for anything at all.
    pub(crate) fn is_overdue(&self, now: u32, head_ticks: u32, idle_ticks: u32) -> bool {
        if self.is_busy() {
            return false;
        }
        let head_since = self.head_since.load(Ordering::Relaxed);
        (head_since != 0 && now.saturating_sub(head_since) > head_ticks)
            || now.saturating_sub(self.last_moved()) > idle_ticks
    }

    /// Tells it what to do; a stronger order replaces a weaker one.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
        self.ordered.notify_one();
    }

    /// Waits for an order and gives the strongest so far.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn ordered(&self) -> Order {
        self.ordered.notified().await;
        match self.order.load(Ordering::Relaxed) {
            0 => Order::None,
            1 => Order::Finish,
            2 => Order::Close,
            _ => Order::Abort,
        }
    }

    fn moved(&self) {
        self.last_moved.store(self.ticks.now(), Ordering::Relaxed);
    }

    fn received(&self) {
        self.moved();
        // HTTP/2 sends frames between requests too; there the idle time alone counts.
        if !self.is_busy() && self.head_since.load(Ordering::Relaxed) == 0 && !self.multiplexed.load(Ordering::Relaxed)
        {
            self.head_since.store(self.ticks.now(), Ordering::Relaxed);
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Connected>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.moved();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket of either kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! on_socket {
    ($self:ident, $socket:ident => $call:expr) => {
        match &mut $self.socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

/// A socket that keeps [`Connected`] up to date.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Socket,
    connected: Arc<Connected>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Watched {
    pub(crate) fn new(socket: Socket, connected: Arc<Connected>) -> Watched {
        Watched { socket, connected, lingering: None }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut sleep, mut left) = match self.lingering.take() {
            Some(lingering) => lingering,
            None => (Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES),
        };
        let mut scratch = [0; 8 << 10];
        while left > 0 {
            let mut buffer = ReadBuf::new(&mut scratch);
            match on_socket!(self, socket => Pin::new(socket).poll_read(cx, &mut buffer)) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    left = left.saturating_sub(buffer.filled().len());
                }
                // The peer has closed, or is gone.
                Poll::Ready(_) => break,
                Poll::Pending if sleep.as_mut().poll(cx).is_pending() => {
                    self.lingering = Some((sleep, left));
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = on_socket!(this, socket => Pin::new(socket).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            this.connected.received();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_socket!(this, socket => Pin::new(socket).poll_write(cx, bytes));
        if matches!(written, Poll::Ready(Ok(1..))) {
            this.connected.moved();
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_socket!(this, socket => Pin::new(socket).poll_write_vectored(cx, slices));
        if matches!(written, Poll::Ready(Ok(1..))) {
            this.connected.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        on_socket!(this, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(on_socket!(this, socket => Pin::new(socket).poll_shutdown(cx)))?;
        }
        if this.connected.lingers.load(Ordering::Relaxed) { this.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}
