//! Pings and echoes on one connection.
//!
//! Pings go out on the connection that we dialed; each is answered on the same connection, at once and without asking the
//! core (L-2, L-4 and V-2 are the lease's to keep).

use sidegrid_core::MemberId;
use sidegrid_core::message::Ping;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::codec::{CodecError, Cut, Frame, encode_ping};
use crate::connection::{Connection, ConnectionError};
use crate::mesh_state::MeshState;
use crate::peers::Peer;
use crate::plane::Plane;

const PLANE: Plane = Plane::FailureDetection;

/// Pings a peer on the connection that we dialed, and takes its echoes (L-6).
pub(crate) async fn run_dialed(mesh: &MeshState, peer: &Peer, connection: Connection) -> ConnectionError {
    let Connection { peer: id, mut reader, mut writer, .. } = connection;
    let mut ping_now = mesh.ping_now.subscribe();
    // At once, then each period.
    let mut due = Instant::now();
    loop {
        let took = tokio::select! {
            () = sleep_until(due) => {
                due = Instant::now() + mesh.lease.ping_period();
                ping(mesh, &mut writer).await
            }
            Ok(()) = ping_now.changed() => ping(mesh, &mut writer).await,
            () = peer.ping_back.notified() => ping(mesh, &mut writer).await,
            frame = reader.next() => match frame {
                Ok(frame) => take(mesh, id, &frame, &mut writer).await.map(|ping_back| {
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
pub(crate) async fn run_accepted(mesh: &MeshState, connection: Connection) -> ConnectionError {
    let Connection { peer: id, mut reader, mut writer, .. } = connection;
    loop {
        let took = match reader.next().await {
            Ok(frame) => take(mesh, id, &frame, &mut writer).await,
            Err(error) => return error,
        };
        let answered = match took {
            Ok(true) => match mesh.peers.get(id).filter(|peer| peer.stands(PLANE)) {
                Some(peer) => {
                    peer.ping_back.notify_one();
                    Ok(())
                }
                None => ping(mesh, &mut writer).await,
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
    mesh: &MeshState,
    from: MemberId,
    frame: &Cut,
    writer: &mut W,
) -> Result<bool, ConnectionError> {
    mesh.count(PLANE).received(frame.len());
    let ping = match frame.decode()? {
        Frame::Ping(ping) => ping,
        other => return Err(CodecError::WrongKind { kind: other.kind() }.into()),
    };
    let heard = mesh.lease.on_ping(mesh.clock.now(), from, ping);
    if let Some(answer) = heard.answer {
        write(mesh, writer, &answer).await?;
    }
    mesh.reports.heard(from, &ping);
    Ok(heard.ping_back)
}

async fn ping<W: AsyncWrite + Unpin>(mesh: &MeshState, writer: &mut W) -> Result<(), ConnectionError> {
    match mesh.lease.ping(mesh.clock.now()) {
        Some(ping) => write(mesh, writer, &ping).await,
        None => Ok(()),
    }
}

/// Bounded: a peer whose kernel takes not even a ping must not keep us from reading what it sent.
async fn write<W: AsyncWrite + Unpin>(mesh: &MeshState, writer: &mut W, ping: &Ping) -> Result<(), ConnectionError> {
    let frame = encode_ping(ping);
    let writing = async {
        writer.write_all(&frame).await?;
        writer.flush().await
    };
    match timeout(mesh.limits.ping_unacknowledged, writing).await {
        Ok(Ok(())) => {
            mesh.count(PLANE).sent(1, frame.len());
            Ok(())
        }
        Ok(Err(error)) => Err(ConnectionError::of_stream(error)),
        Err(_) => Err(ConnectionError::Stuck),
    }
}
