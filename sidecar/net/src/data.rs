//! A data connection in use: frames in both directions until one of them ends.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::codec::{CodecError, Frame};
use crate::connection::{Connection, ConnectionError, Reader};
use crate::context::MeshContext;
use crate::counters::Plane;
use crate::mesh::{Inbound, InboundPermit};
use crate::outbox::Outbox;

/// Frames are joined into one write of about this size.
const BATCH: usize = 64 << 10;

/// Reads messages into the driver's queue and writes those of `outbox`; gives why it ended.
pub(crate) async fn run(context: &MeshContext, connection: Connection, outbox: &Outbox) -> ConnectionError {
    let Connection { peer, mut reader, mut writer } = connection;
    let reading = async {
        loop {
            if let Err(error) = take_in(context, peer, &mut reader).await {
                return error;
            }
        }
    };
    let mut batch = Batch::default();
    let writing = async {
        loop {
            if let Err(error) = batch.write(context, outbox, &mut writer).await {
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
async fn take_in(
    context: &MeshContext,
    peer: sidegrid_core::MemberId,
    reader: &mut Reader,
) -> Result<(), ConnectionError> {
    let frame = reader.next().await?;
    context.count(Plane::Data).received(frame.len());
    let share = frame.len().min(context.limits.inbound_bytes);
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    let room = Arc::clone(&context.inbound_bytes).acquire_many_owned(share).await;
    let held = InboundPermit::new(room.map_err(|_| ConnectionError::DriverGone)?);
    let envelope = match frame.decode()? {
        Frame::Envelope(envelope) => *envelope,
        other => return Err(CodecError::WrongKind { kind: other.kind() }.into()),
    };
    let message = Inbound::Envelope { from: peer, envelope, held };
    context.inbound.send(message).await.map_err(|_| ConnectionError::DriverGone)
}

/// The writer's buffers, kept from one write to the next.
#[derive(Default)]
struct Batch {
    frames: Vec<Bytes>,
    joined: BytesMut,
}

impl Batch {
    /// Writes what waits, small frames joined, and flushes once nothing waits any more.
    async fn write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &MeshContext,
        outbox: &Outbox,
        writer: &mut W,
    ) -> std::io::Result<()> {
        outbox.take(&mut self.frames, BATCH).await;
        let (frames, bytes) = (self.frames.len(), self.frames.iter().map(Bytes::len).sum());
        for frame in self.frames.drain(..) {
            if frame.len() < BATCH / 4 {
                self.joined.extend_from_slice(&frame);
                continue;
            }
            // A large one is not worth copying.
            if !self.joined.is_empty() {
                writer.write_all(&self.joined).await?;
                self.joined.clear();
            }
            writer.write_all(&frame).await?;
        }
        if !self.joined.is_empty() {
            writer.write_all(&self.joined).await?;
            self.joined.clear();
        }
        if outbox.is_empty() {
            writer.flush().await?;
        }
        context.count(Plane::Data).sent(frames, bytes);
        Ok(())
    }
}
