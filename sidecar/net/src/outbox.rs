//! What waits to be written to one peer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::NetLimits;

/// A bounded queue of frames (B-1): many push, one writer takes.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    max_frames: usize,
    max_bytes: usize,
    /// A frame came in. Holds one permit, so a wake-up between two waits is not lost.
    wake: Notify,
    /// Nothing waits and nothing is being written any more.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    writing: bool,
}

impl Outbox {
    pub(crate) fn new(limits: &NetLimits) -> Outbox {
        Outbox {
            state: Mutex::default(),
            max_frames: limits.queue_frames,
            max_bytes: limits.queue_bytes,
            wake: Notify::new(),
            idle: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; false when that would pass a bound.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut state = self.state();
        if state.frames.len() >= self.max_frames || state.bytes + frame.len() > self.max_bytes {
            return false;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// Moves waiting frames into `batch` until it holds `bytes` or more, waiting for at least one. Calling it again
    /// says that the batch before was written.
    ///
    /// # Cancel safety
    /// Frames are taken only as it returns.
    pub(crate) async fn take(&self, batch: &mut Vec<Bytes>, bytes: usize) {
        loop {
            if self.try_take(batch, bytes) {
                return;
            }
            self.wake.notified().await;
        }
    }

    fn try_take(&self, batch: &mut Vec<Bytes>, bytes: usize) -> bool {
        let mut state = self.state();
        let mut taken = 0;
        while taken < bytes
            && let Some(frame) = state.frames.pop_front()
        {
            taken += frame.len();
            batch.push(frame);
        }
        state.bytes -= taken;
        state.writing = taken > 0;
        if state.frames.is_empty() && state.frames.capacity() > KEPT_CAPACITY {
            state.frames = VecDeque::new();
        }
        if taken == 0 {
            self.idle.notify_waiters();
        }
        taken > 0
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().frames.is_empty()
    }

    /// Gives up everything that waits; tells how many frames that were.
    pub(crate) fn clear(&self) -> usize {
        let mut state = self.state();
        let frames = std::mem::take(&mut *state).frames.len();
        self.idle.notify_waiters();
        frames
    }

    /// Waits until nothing waits and nothing is being written.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn drained(&self) {
        loop {
            // Registered before looking, so that a change between is not missed.
            let mut changed = std::pin::pin!(self.idle.notified());
            changed.as_mut().enable();
            {
                let state = self.state();
                if state.frames.is_empty() && !state.writing {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Bytes that wait now.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.state().bytes
    }
}

/// Room for this many frames is kept when the queue runs empty.
const KEPT_CAPACITY: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(queue_frames: usize, queue_bytes: usize) -> Outbox {
        Outbox::new(&NetLimits { queue_frames, queue_bytes, ..NetLimits::default() })
    }

    /// B-1
    #[test]
    fn both_bounds_hold_and_taking_makes_room() {
        let outbox = outbox(3, 100);
        assert!(outbox.push(Bytes::from_static(&[0; 60])));
        assert!(!outbox.push(Bytes::from_static(&[0; 60])), "bytes");
        assert!(outbox.push(Bytes::from_static(&[0; 1])) && outbox.push(Bytes::from_static(&[0; 1])));
        assert!(!outbox.push(Bytes::from_static(&[0; 1])), "frames");
        let mut batch = Vec::new();
        assert!(outbox.try_take(&mut batch, 61));
        assert_eq!((batch.len(), outbox.bytes()), (2, 1));
        assert!(outbox.push(Bytes::from_static(&[0; 60])));
    }

    #[tokio::test]
    async fn drained_waits_for_the_batch_that_is_being_written() {
        let outbox = outbox(10, 100);
        outbox.drained().await;
        outbox.push(Bytes::from_static(b"frame"));
        let mut batch = Vec::new();
        outbox.take(&mut batch, 10).await;
        let mut drained = std::pin::pin!(outbox.drained());
        tokio::select! {
            biased;
            () = &mut drained => panic!("the batch is still being written"),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            biased;
            () = outbox.take(&mut batch, 10) => panic!("there is no more"),
            () = drained => {}
        }
    }
}
