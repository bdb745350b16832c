//! Pings, on a thread of their own, so that neither bulk data nor a busy core delays them.
//!
//! Pings go out on the connection that we dialed; whoever gets one answers on the same connection, at once and
//! without asking the core (L-2, L-4 and V-2 are the lease's to keep).

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use sidegrid_core::MemberId;
use sidegrid_core::message::Ping;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::accepted::accept;
use crate::codec::{CodecError, Cut, Frame, encode_ping};
use crate::connection::{Connection, ConnectionError};
use crate::context::MeshContext;
use crate::counters::Plane;
use crate::peers::{Peer, keep_links};

const PLANE: Plane = Plane::FailureDetection;

/// Pings matter more than all else that the process does; granted only to the privileged.
const NICE: i32 = -10;

/// The running thread.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Starts the thread. It ends when the context stops.
    ///
    /// # Errors
    /// When there can be no thread or no event loop on it.
    pub(crate) fn start(context: Arc<MeshContext>, listener: Option<std::net::TcpListener>) -> io::Result<Thread> {
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        let handle = std::thread::Builder::new().name("sidegrid-pings".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!("pings run at ordinary priority: {error}");
            }
            runtime.block_on(run(context, listener, &ready));
            // Closes what connections are left before anybody is told that it is over.
            drop(runtime);
            let _ = end.send(());
        })?;
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Thread { handle, ended })
    }

    /// Waits until the thread has ended; the context has been stopped before.
    pub(crate) async fn ended(self) {
        // An error means that the thread panicked, which `Critical` has told.
        let _ = self.ended.await;
        let _ = self.handle.join();
    }
}

async fn run(
    context: Arc<MeshContext>,
    listener: Option<std::net::TcpListener>,
    ready: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let listener = match listener.map(TcpListener::from_std).transpose() {
        Ok(listener) => listener,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let tasks = TaskTracker::new();
    let accepting = async {
        match listener {
            Some(listener) => accept(Arc::clone(&context), PLANE, listener, tasks.clone()).await,
            None => std::future::pending().await,
        }
    };
    let linking = keep_links(Arc::clone(&context), PLANE, tasks.clone());
    context
        .critical("failure-detection", async {
            tokio::select! {
                () = accepting => {}
                () = linking => {}
            }
        })
        .await;
    tasks.close();
    tasks.wait().await;
}

/// Pings a peer on the connection that we dialed, and takes its echoes (L-6).
pub(crate) async fn run_dialed(context: &MeshContext, peer: &Peer, connection: Connection) -> ConnectionError {
    let Connection { peer: id, mut reader, mut writer } = connection;
    let mut ping_now = context.ping_now.subscribe();
    // At once, then each period.
    let mut due = Instant::now();
    loop {
        let took = tokio::select! {
            () = sleep_until(due) => {
                due = Instant::now() + context.lease.ping_period();
                ping(context, &mut writer).await
            }
            Ok(()) = ping_now.changed() => ping(context, &mut writer).await,
            () = peer.ping_back.notified() => ping(context, &mut writer).await,
            frame = reader.next() => match frame {
                Ok(frame) => take(context, id, &frame, &mut writer).await.map(|ping_back| {
                    if ping_back {
                        peer.ping_back.notify_one();
                    }
                }),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = took {
            return error;
        }
    }
}

/// Answers the pings of whoever dialed us.
pub(crate) async fn run_accepted(context: &MeshContext, connection: Connection) -> ConnectionError {
    let Connection { peer: id, mut reader, mut writer } = connection;
    loop {
        let took = match reader.next().await {
            Ok(frame) => take(context, id, &frame, &mut writer).await,
            Err(error) => return error,
        };
        let answered = match took {
            Ok(true) => match context.peers.get(id).filter(|peer| peer.stands(PLANE)) {
                Some(peer) => {
                    peer.ping_back.notify_one();
                    Ok(())
                }
                None => ping(context, &mut writer).await,
            },
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = answered {
            return error;
        }
    }
}

/// Takes a ping or echo and answers it; whether the peer shall be pinged back.
async fn take<W: AsyncWrite + Unpin>(
    context: &MeshContext,
    from: MemberId,
    frame: &Cut,
    writer: &mut W,
) -> Result<bool, ConnectionError> {
    context.count(PLANE).received(frame.len());
    let ping = match frame.decode()? {
        Frame::Ping(ping) => ping,
        other => return Err(CodecError::WrongKind { kind: other.kind() }.into()),
    };
    let heard = context.lease.on_ping(context.clock.now(), from, ping);
    if let Some(answer) = heard.answer {
        write(context, writer, &answer).await?;
    }
    context.reports.heard(from, &ping);
    Ok(heard.ping_back)
}

async fn ping<W: AsyncWrite + Unpin>(context: &MeshContext, writer: &mut W) -> Result<(), ConnectionError> {
    match context.lease.ping(context.clock.now()) {
        Some(ping) => write(context, writer, &ping).await,
        None => Ok(()),
    }
}

/// Bounded: a peer whose kernel takes not even a ping must not keep us from reading what it sent.
async fn write<W: AsyncWrite + Unpin>(
    context: &MeshContext,
    writer: &mut W,
    ping: &Ping,
) -> Result<(), ConnectionError> {
    let frame = encode_ping(ping);
    let writing = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    match timeout(context.limits.ping_unacknowledged, writing).await {
        Ok(Ok(())) => {
            context.count(PLANE).sent(1, frame.len());
            Ok(())
        }
        Ok(Err(error)) => Err(ConnectionError::of_stream(error)),
        Err(_) => Err(ConnectionError::Stuck),
    }
}
