//! A data connection in use: frames in both directions until one of them ends.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::codec::{CodecError, Frame};
use crate::connection::{Connection, ConnectionError, Reader};
use crate::inbound::{Inbound, InboundPermit};
use crate::mesh_state::MeshState;
use crate::outbox::{Batch, Outbox};
use crate::plane::Plane;

/// Frames are joined into one write of about this size: what a control message may have to wait for here.
const BATCH: usize = 64 << 10;
/// Frames above this size, which only peers without parts are sent, are not worth copying.
const COPIED: usize = BATCH;

/// Reads messages into the driver's queue and writes those of `outbox`; gives why it ended.
pub(crate) async fn run(mesh: &MeshState, connection: Connection, outbox: &Outbox) -> ConnectionError {
    let Connection { peer, mut reader, mut writer, takes_parts } = connection;
    let reading = async {
        loop {
            if let Err(error) = take_in(mesh, peer, &mut reader).await {
                return error;
            }
        }
    };
    let mut writes = Writes { takes_parts, ..Writes::default() };
    let writing = async {
        loop {
            if let Err(error) = writes.write(mesh, outbox, &mut writer).await {
                return ConnectionError::of_stream(error);
            }
        }
    };
    // Either end ends both; the other half's frames are lost with the connection, as frames may be.
    tokio::select! {
        error = reading => error,
        error = writing => error,
    }
}

/// Reads one message and hands it on, waiting until there is room for it: a busy core slows its senders down, whose
/// queues are bounded in their turn (B-1).
async fn take_in(mesh: &MeshState, peer: sidegrid_core::MemberId, reader: &mut Reader) -> Result<(), ConnectionError> {
    let frame = reader.next().await?;
    mesh.count(Plane::Data).received(frame.len());
    let share = frame.len().min(mesh.limits.inbound_bytes);
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    let room = Arc::clone(&mesh.inbound_bytes).acquire_many_owned(share).await;
    let held = InboundPermit::new(room.map_err(|_| ConnectionError::DriverGone)?);
    let envelope = match frame.decode()? {
        Frame::Envelope(envelope) => *envelope,
        other => return Err(CodecError::WrongKind { kind: other.kind() }.into()),
    };
    let message = Inbound::Envelope { from: peer, envelope, held };
    mesh.inbound.send(message).await.map_err(|_| ConnectionError::DriverGone)
}

/// The writer's buffers, kept from one write to the next.
#[derive(Default)]
struct Writes {
    takes_parts: bool,
    batch: Batch,
    joined: BytesMut,
}

impl Writes {
    /// Writes what waits, small frames joined, and flushes once nothing waits any more.
    async fn write<W: AsyncWrite + Unpin>(
        &mut self,
        mesh: &MeshState,
        outbox: &Outbox,
        writer: &mut W,
    ) -> std::io::Result<()> {
        outbox.take(&mut self.batch, BATCH, self.takes_parts).await;
        for piece in &self.batch.pieces {
            if piece.len() <= COPIED {
                self.joined.extend_from_slice(piece);
                continue;
            }
            if !self.joined.is_empty() {
                writer.write_all(&self.joined).await?;
                self.joined.clear();
            }
            writer.write_all(piece).await?;
        }
        if !self.joined.is_empty() {
            writer.write_all(&self.joined).await?;
            self.joined.clear();
        }
        mesh.count(Plane::Data).sent(self.batch.frames, self.batch.bytes);
        self.batch.clear();
        if outbox.is_empty() {
            // An idle connection keeps no buffer.
            self.joined = BytesMut::new();
            writer.flush().await?;
        }
        Ok(())
    }
}
