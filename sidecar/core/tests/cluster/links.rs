//! Data links of limited speed: what is sent queues, as in an outbox and a network card.

use std::collections::BTreeMap;
use std::time::Duration;

use sidegrid_core::Time;
use sidegrid_core::message::{Envelope, Message, WriteBody};

/// Bytes that may queue on one link; more is dropped.
const OUTBOX: u64 = 64 << 20;

#[derive(Default)]
pub(crate) struct Links {
    /// Bytes a second of each link; none: as fast as one likes.
    pub(crate) speed: Option<u64>,
    /// Writes put on a link, by receiver, group and counter.
    pub(crate) writes: BTreeMap<(u64, u32, u64), usize>,
    /// The longest that something queued.
    pub(crate) longest: Duration,
    free_at: BTreeMap<(u64, u64), Time>,
    on_wire: BTreeMap<(Time, u64), (u64, u64, Envelope)>,
    next: u64,
}

impl Links {
    pub(crate) fn are_limited(&self) -> bool {
        self.speed.is_some()
    }

    pub(crate) fn push(&mut self, now: Time, from: u64, to: u64, envelope: Envelope) {
        let speed = self.speed.unwrap_or(u64::MAX);
        let takes = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / speed);
        if let Message::Replicate { group, writes, .. } = &envelope.message {
            for write in writes {
                *self.writes.entry((to, group.0, write.version.counter)).or_default() += 1;
            }
        }
        let free_at = self.free_at.entry((from, to)).or_insert(now);
        let begins = (*free_at).max(now);
        if begins.since(now) > takes(OUTBOX) {
            return;
        }
        *free_at = begins + takes(size(&envelope.message));
        self.longest = self.longest.max(free_at.since(now));
        self.next += 1;
        self.on_wire.insert((*free_at, self.next), (from, to, envelope));
    }

    pub(crate) fn arrived(&mut self, now: Time) -> Vec<(u64, u64, Envelope)> {
        let later = self.on_wire.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.on_wire, later).into_values().collect()
    }
}

fn size(message: &Message) -> u64 {
    let writes = match message {
        Message::Replicate { writes, .. } | Message::Collected { writes, .. } | Message::Part { writes, .. } => writes,
        Message::Forward { operation, .. } => return 100 + operation.kind.value_bytes() as u64,
        _ => return 100,
    };
    let value = |body: &WriteBody| match body {
        WriteBody::Entry { value, .. } => value.len(),
        WriteBody::Tombstone => 0,
    };
    100 + writes.iter().map(|w| 60 + w.key.len() as u64 + value(&w.body) as u64).sum::<u64>()
}
