//! Bounds of the transport (B-1).

use std::time::Duration;

/// What the transport may hold and how long it waits. Each is a hard bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// Largest frame read or written, in bytes after its length field. A write that replaces a value of the largest
    /// size and gives the old one back carries both.
    pub frame_bytes: usize,
    /// Control messages waiting for one peer.
    pub control_queue: LaneLimits,
    /// Data waiting for one peer.
    pub data_queue: LaneLimits,
    /// Bytes that the kernel takes for one data connection and has not yet sent, beside those in flight: what a control
    /// message still waits behind once written.
    pub unsent_bytes: u32,
    /// Bytes of received frames that the driver has not let go of, over all senders; readers wait above it. At least
    /// `frame_bytes`.
    pub inbound_bytes: usize,
    /// Accepted connections for each port; one more is closed at once.
    pub connections: usize,
    /// Accepted connections for each port that have not yet shown who they are; more wait in the kernel's backlog.
    pub handshakes: usize,
    /// TLS handshake and hello of one connection, together.
    pub handshake_timeout: Duration,
    /// A TCP connect.
    pub connect_timeout: Duration,
    /// First wait between two dials; doubles.
    pub redial_min: Duration,
    /// Longest wait between two dials.
    pub redial_max: Duration,
    /// How long written data bytes may stay unacknowledged by the peer's kernel before the connection is given up: a
    /// cut must not leave a connection waiting for its next retransmission long after it has healed.
    pub data_unacknowledged: Duration,
    /// The same for pings.
    pub ping_unacknowledged: Duration,
}

/// Bounds of one lane of the queue to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits {
    /// Frames.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        NetLimits {
            frame_bytes: 17 << 20,
            control_queue: LaneLimits { frames: 16_384, bytes: 17 << 20 },
            data_queue: LaneLimits { frames: 16_384, bytes: 64 << 20 },
            unsent_bytes: 128 << 10,
            inbound_bytes: 64 << 20,
            connections: 4_096,
            handshakes: 128,
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_millis(200),
            redial_min: Duration::from_millis(10),
            redial_max: Duration::from_millis(500),
            data_unacknowledged: Duration::from_secs(2),
            ping_unacknowledged: Duration::from_secs(1),
        }
    }
}
