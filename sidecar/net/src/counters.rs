//! Figures of the transport, kept over incarnations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::plane::Plane;

/// Why a frame was not sent. Loss is part of the protocol's world; growth is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// The queue of data to the peer was at its bound (B-1).
    QueueFull,
    /// The queue of control messages to the peer was at its bound (B-1).
    ControlQueueFull,
    /// The connection ended while the frame waited; the core sends again on the next one.
    ConnectionLost,
    /// The peer could not be dialed while the frame waited.
    Unreachable,
    /// The receiver is no peer and has no connection to us.
    NoRoute,
    /// The frame is larger than any that a peer would take.
    TooLarge,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Dropped; 6] = [
        Dropped::QueueFull,
        Dropped::ControlQueueFull,
        Dropped::ConnectionLost,
        Dropped::Unreachable,
        Dropped::NoRoute,
        Dropped::TooLarge,
    ];

    /// A stable label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Dropped::QueueFull => "queue-full",
            Dropped::ControlQueueFull => "control-queue-full",
            Dropped::ConnectionLost => "connection-lost",
            Dropped::Unreachable => "unreachable",
            Dropped::NoRoute => "no-route",
            Dropped::TooLarge => "too-large",
        }
    }
}

/// Figures of one port.
#[derive(Debug, Default)]
pub struct PlaneCounters {
    frames_out: AtomicU64,
    frames_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    dialed: AtomicU64,
    accepted: AtomicU64,
    refused_at_limit: AtomicU64,
    /// By `reason()`: a fixed set of words, so bounded.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// Figures of one port at one moment; every one counts up from the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaneFigures {
    /// Frames written.
    pub frames_out: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Bytes of frames written, without TLS.
    pub bytes_out: u64,
    /// Bytes of frames read, without TLS.
    pub bytes_in: u64,
    /// Outgoing connections established.
    pub dialed: u64,
    /// Incoming connections established.
    pub accepted: u64,
    /// Incoming connections closed at once because there were too many.
    pub refused_at_limit: u64,
    /// Dials, handshakes and connections that failed, by reason.
    pub failures: BTreeMap<&'static str, u64>,
}

/// All figures of the transport. One for the process: a new incarnation goes on counting.
#[derive(Debug, Default)]
pub struct Counters {
    data: PlaneCounters,
    failure_detection: PlaneCounters,
    drops: [AtomicU64; Dropped::ALL.len()],
}

impl Counters {
    /// The figures of one port.
    #[must_use]
    pub fn figures(&self, plane: Plane) -> PlaneFigures {
        let counters = self.plane(plane);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PlaneFigures {
            frames_out: read(&counters.frames_out),
            frames_in: read(&counters.frames_in),
            bytes_out: read(&counters.bytes_out),
            bytes_in: read(&counters.bytes_in),
            dialed: read(&counters.dialed),
            accepted: read(&counters.accepted),
            refused_at_limit: read(&counters.refused_at_limit),
            failures: counters.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Frames that were not sent.
    #[must_use]
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.drops[reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn plane(&self, plane: Plane) -> &PlaneCounters {
        match plane {
            Plane::Data => &self.data,
            Plane::FailureDetection => &self.failure_detection,
        }
    }

    pub(crate) fn drop_frames(&self, reason: Dropped, frames: usize) {
        self.drops[reason as usize].fetch_add(frames as u64, Ordering::Relaxed);
    }
}

impl PlaneCounters {
    pub(crate) fn sent(&self, frames: usize, bytes: usize) {
        self.frames_out.fetch_add(frames as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn dialed(&self) {
        self.dialed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused_at_limit(&self) {
        self.refused_at_limit.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }
}
