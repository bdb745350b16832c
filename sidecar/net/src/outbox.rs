//! What waits to be written to one peer: control messages in one lane, data in another.
//!
//! Control leaves first, so that votes, views and acknowledgements don't stand behind values; and each lane has bounds of
//! its own, so that data can never fill the queue of control (B-1).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sidegrid_core::MemberId;
use sidegrid_core::message::MessageClass;
use tokio::sync::Notify;

use crate::codec::{PART_BYTES, encode_part};
use crate::limits::{LaneLimits, NetLimits};

/// A bounded queue of frames: many push, one writer takes.
#[derive(Debug)]
pub(crate) struct Outbox {
    peer: MemberId,
    state: Mutex<State>,
    /// A frame came in. Holds one permit, so a wake-up between two waits is not lost.
    wake: Notify,
    /// Nothing waits and nothing is being written any more.
    idle: Notify,
}

#[derive(Debug)]
struct State {
    control: Lane,
    data: Lane,
    writing: bool,
    /// Control alone filled the last batch although data waited: data has the next turn, so that it never starves.
    passed_over: bool,
}

#[derive(Debug)]
struct Lane {
    frames: VecDeque<Bytes>,
    /// How much of the first frame was taken.
    taken: usize,
    bytes: usize,
    limits: LaneLimits,
    /// Frames refused since the lane was empty.
    refused: u64,
}

impl Lane {
    fn new(limits: LaneLimits) -> Lane {
        Lane { frames: VecDeque::new(), taken: 0, bytes: 0, limits, refused: 0 }
    }

    fn push(&mut self, frame: Bytes) -> bool {
        if self.frames.len() >= self.limits.frames || self.bytes + frame.len() > self.limits.bytes {
            self.refused += 1;
            return false;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        true
    }

    /// Moves frames into `batch` until that holds `bytes` or more. With `parts`, a large one is taken part by part.
    fn take(&mut self, batch: &mut Batch, bytes: usize, parts: bool) {
        while batch.bytes < bytes
            && let Some(first) = self.frames.front()
        {
            let left = first.len() - self.taken;
            if !parts || (self.taken == 0 && left <= PART_BYTES) {
                let frame = self.frames.pop_front().unwrap_or_default();
                self.bytes -= frame.len();
                batch.push(frame, 1);
                continue;
            }
            let part = first.slice(self.taken..self.taken + left.min(PART_BYTES));
            self.bytes -= part.len();
            self.taken += part.len();
            let is_last = part.len() == left;
            let (header, body) = encode_part(part);
            batch.push(header, 0);
            batch.push(body, usize::from(is_last));
            if is_last {
                self.taken = 0;
                self.frames.pop_front();
            }
        }
        if self.frames.is_empty() && self.frames.capacity() > KEPT_CAPACITY {
            self.frames = VecDeque::new();
        }
    }

    fn clear(&mut self) -> usize {
        let frames = std::mem::take(&mut self.frames).len();
        (self.taken, self.bytes) = (0, 0);
        frames
    }

    /// How many were refused, once the lane has run empty.
    fn refused_once_empty(&mut self) -> Option<u64> {
        let refused = if self.frames.is_empty() { std::mem::take(&mut self.refused) } else { 0 };
        (refused > 0).then_some(refused)
    }
}

/// What is written next.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In order.
    pub(crate) pieces: Vec<Bytes>,
    /// Frames that end in it.
    pub(crate) frames: usize,
    /// Bytes of all pieces.
    pub(crate) bytes: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes, frames: usize) {
        self.bytes += piece.len();
        self.frames += frames;
        self.pieces.push(piece);
    }

    /// Nothing is left in it.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        (self.frames, self.bytes) = (0, 0);
    }
}

impl Outbox {
    pub(crate) fn new(peer: MemberId, limits: &NetLimits) -> Outbox {
        let (control, data) = (Lane::new(limits.control_queue), Lane::new(limits.data_queue));
        Outbox {
            peer,
            state: Mutex::new(State { control, data, writing: false, passed_over: false }),
            wake: Notify::new(),
            idle: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame; false when that would pass a bound of its lane. The first one refused since the lane was empty is
    /// logged, and so is how many were once it is empty again.
    pub(crate) fn push(&self, class: MessageClass, frame: Bytes) -> bool {
        let mut state = self.state();
        let lane = match class {
            MessageClass::Control => &mut state.control,
            MessageClass::Data => &mut state.data,
        };
        let queued = lane.push(frame);
        let (first_refused, frames, bytes) = (lane.refused == 1 && !queued, lane.frames.len(), lane.bytes);
        drop(state);
        if first_refused {
            tracing::warn!(peer = %self.peer, ?class, frames, bytes, "the queue to this peer is full; dropping messages");
        }
        self.wake.notify_one();
        queued
    }

    /// Moves waiting frames into `batch` until it holds `bytes` or more, waiting for at least one; with `parts`, large
    /// ones in parts, between which control messages go ahead. Calling it again says that the batch before was written.
    ///
    /// # Cancel safety
    /// Frames are taken only as it returns.
    pub(crate) async fn take(&self, batch: &mut Batch, bytes: usize, parts: bool) {
        loop {
            if self.try_take(batch, bytes, parts) {
                return;
            }
            self.wake.notified().await;
        }
    }

    fn try_take(&self, batch: &mut Batch, bytes: usize, parts: bool) -> bool {
        let mut state = self.state();
        let before = batch.bytes;
        if std::mem::take(&mut state.passed_over) {
            // One part or frame, however full the lane of control.
            state.data.take(batch, 1, parts);
        }
        // Whole, always: of two frames in parts at one time the receiver couldn't tell which part is whose.
        state.control.take(batch, bytes, false);
        state.passed_over = batch.bytes >= bytes && !state.data.frames.is_empty();
        state.data.take(batch, bytes, parts);
        let took = batch.bytes > before;
        state.writing = took;
        if !took {
            self.idle.notify_waiters();
        }
        let relieved = [
            (MessageClass::Control, state.control.refused_once_empty()),
            (MessageClass::Data, state.data.refused_once_empty()),
        ];
        drop(state);
        for (class, refused) in relieved {
            if let Some(refused) = refused {
                tracing::warn!(peer = %self.peer, ?class, refused, "the queue to this peer is empty again");
            }
        }
        took
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.control.frames.is_empty() && state.data.frames.is_empty()
    }

    /// Drops everything that waits; returns how many frames that were.
    pub(crate) fn clear(&self) -> usize {
        let mut state = self.state();
        let frames = state.control.clear() + state.data.clear();
        (state.writing, state.passed_over) = (false, false);
        self.idle.notify_waiters();
        frames
    }

    /// The connection has ended: drops the data that waits, which the core sends again on the next one, and keeps control
    /// messages for it. Returns how many frames were dropped.
    pub(crate) fn connection_ended(&self) -> usize {
        let mut state = self.state();
        let frames = state.data.clear();
        (state.writing, state.passed_over) = (false, false);
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
                if state.control.frames.is_empty() && state.data.frames.is_empty() && !state.writing {
                    return;
                }
            }
            changed.await;
        }
    }
}

/// Space for this many frames is kept when a lane runs empty.
const KEPT_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: MessageClass = MessageClass::Data;
    const CONTROL: MessageClass = MessageClass::Control;

    fn outbox(frames: usize, bytes: usize) -> Outbox {
        let data_queue = LaneLimits { frames, bytes };
        let control_queue = LaneLimits { frames: 4, bytes: 400 };
        Outbox::new(MemberId(2), &NetLimits { data_queue, control_queue, ..NetLimits::default() })
    }

    fn frame(byte: u8, bytes: usize) -> Bytes {
        Bytes::from(vec![byte; bytes])
    }

    /// The first byte of each piece that is no header of a part.
    fn firsts(outbox: &Outbox, bytes: usize) -> Vec<u8> {
        let mut batch = Batch::default();
        outbox.try_take(&mut batch, bytes, false);
        batch.pieces.iter().map(|piece| piece[0]).collect()
    }

    /// B-1
    #[test]
    fn neither_frames_nor_bytes_pass_their_bounds() {
        let outbox = outbox(3, 100);
        assert!((0..3).all(|_| outbox.push(DATA, frame(1, 10))));
        assert!(!outbox.push(DATA, frame(1, 1)), "too many frames");
        assert_eq!(outbox.clear(), 3);
        assert!(outbox.push(DATA, frame(1, 60)));
        assert!(!outbox.push(DATA, frame(1, 41)), "too many bytes");
        assert!(outbox.push(DATA, frame(1, 40)));
        assert_eq!(firsts(&outbox, 61).len(), 2);
        assert!(outbox.push(DATA, frame(1, 100)), "what was taken counts no more");
    }

    #[test]
    fn control_goes_ahead_of_data_and_has_bounds_of_its_own() {
        let outbox = outbox(2, 100);
        assert!(outbox.push(DATA, frame(1, 50)) && outbox.push(DATA, frame(2, 50)));
        assert!(!outbox.push(DATA, frame(3, 1)));
        assert!((10..14).all(|byte| outbox.push(CONTROL, frame(byte, 100))), "data filled the queue of control");
        assert!(!outbox.push(CONTROL, frame(14, 1)), "control is bounded too");
        assert_eq!(firsts(&outbox, 10_000), [10, 11, 12, 13, 1, 2]);
    }

    #[test]
    fn data_never_starves() {
        let outbox = outbox(9, 900);
        outbox.push(DATA, frame(1, 50));
        let mut order = Vec::new();
        for round in 10..14 {
            outbox.push(CONTROL, frame(round, 100));
            outbox.push(CONTROL, frame(round, 100));
            order.extend(firsts(&outbox, 100));
        }
        assert_eq!(order, [10, 1, 10, 11, 11]);
    }

    #[test]
    fn control_goes_between_the_parts_of_a_large_frame() {
        let large = 5 * PART_BYTES / 2;
        let outbox = outbox(2, large);
        assert!(outbox.push(DATA, frame(1, large)));
        let mut batch = Batch::default();
        assert!(outbox.try_take(&mut batch, 1, true));
        assert_eq!((batch.pieces.len(), batch.frames), (2, 0), "a header and a part");
        outbox.push(CONTROL, frame(9, 20));
        batch.clear();
        assert!(outbox.try_take(&mut batch, 21, true));
        assert_eq!((batch.pieces[0][0], batch.frames), (9, 1));
        assert!(outbox.push(DATA, frame(2, PART_BYTES)), "the parts taken count no more");
        batch.clear();
        assert!(outbox.try_take(&mut batch, usize::MAX, true));
        assert_eq!((batch.pieces.len(), batch.frames), (3, 2), "the last part, and a frame that needs none");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_connections_end_drops_data_and_keeps_control() {
        let outbox = outbox(9, 10 * PART_BYTES);
        outbox.push(DATA, frame(1, 3 * PART_BYTES));
        outbox.push(DATA, frame(2, 10));
        assert!(outbox.try_take(&mut Batch::default(), 1, true));
        outbox.push(CONTROL, frame(9, 10));
        assert_eq!(outbox.connection_ended(), 2);
        outbox.push(DATA, frame(3, 10));
        assert_eq!(firsts(&outbox, 1_000), [9, 3], "nothing of a half-written frame is left");
        let state = outbox.state();
        assert_eq!((state.data.bytes, state.control.bytes), (0, 0));
    }

    #[tokio::test]
    async fn drained_waits_for_the_batch_that_is_being_written() {
        let outbox = outbox(10, 100);
        outbox.drained().await;
        outbox.push(DATA, Bytes::from_static(b"frame"));
        let mut batch = Batch::default();
        outbox.take(&mut batch, 10, true).await;
        batch.clear();
        let mut drained = std::pin::pin!(outbox.drained());
        tokio::select! {
            biased;
            () = &mut drained => panic!("the batch is still being written"),
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            biased;
            () = outbox.take(&mut batch, 10, true) => panic!("there is no more"),
            () = drained => {}
        }
    }
}
