//! Taking a request's body in before the request takes its turn, so that whoever sends it slowly keeps nobody waiting.

use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body that has arrived, with the room that it takes until this is dropped.
pub(crate) struct Arrived {
    pub(crate) bytes: Vec<u8>,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Why a body was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It ended before its end.
    BrokeOff,
    /// It has more bytes than it may.
    TooLarge,
    /// What is held of all bodies is at its bound.
    NoRoom,
}

/// Takes a body of at most `largest` bytes in. What has arrived of all bodies is bounded by `room`, a permit a byte. The
/// caller bounds the time.
///
/// # Errors
/// [`BodyFault`]; what had arrived is let go.
///
/// # Cancel safety
/// When dropped, what had arrived is let go.
pub(crate) async fn take_in(body: Body, largest: usize, room: &Arc<Semaphore>) -> Result<Arrived, BodyFault> {
    let mut arrived = Arrived { bytes: Vec::new(), room: None };
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| BodyFault::BrokeOff)?;
        if arrived.bytes.len() + chunk.len() > largest {
            return Err(BodyFault::TooLarge);
        }
        let size = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let more = Arc::clone(room).try_acquire_many_owned(size).map_err(|_| BodyFault::NoRoom)?;
        match &mut arrived.room {
            Some(taken) => taken.merge(more),
            None => arrived.room = Some(more),
        }
        arrived.bytes.extend_from_slice(&chunk);
    }
    Ok(arrived)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_two(bytes: usize) -> Body {
        let half = || Ok::<_, std::io::Error>(vec![b' '; bytes / 2]);
        Body::from_stream(futures::stream::iter([half(), half()]))
    }

    #[tokio::test]
    async fn what_is_held_of_all_bodies_is_bounded_and_given_back() {
        let room = Arc::new(Semaphore::new(10));
        let first = take_in(in_two(8), 8, &room).await.ok().unwrap();
        assert_eq!((first.bytes.len(), room.available_permits()), (8, 2));
        assert_eq!(take_in(in_two(8), 8, &room).await.err(), Some(BodyFault::NoRoom));
        assert_eq!(take_in(in_two(10), 8, &room).await.err(), Some(BodyFault::NoRoom));
        drop(first);
        assert_eq!(take_in(in_two(10), 8, &room).await.err(), Some(BodyFault::TooLarge));
        let broken = futures::stream::iter([Ok(vec![b' '; 4]), Err(std::io::Error::other("gone"))]);
        assert_eq!(take_in(Body::from_stream(broken), 8, &room).await.err(), Some(BodyFault::BrokeOff));
        assert_eq!(room.available_permits(), 10);
    }
}
