//! What connections have to tell the driver, newest first lost last: one slot for each peer, so that neither a full
//! channel nor a busy core ever holds up the failure-detection thread.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sidegrid_core::message::Ping;
use sidegrid_core::{MemberId, ViewNumber};
use tokio::sync::{Notify, mpsc};

use crate::mesh::Inbound;

/// Slots of what is not yet told. Bounded by the peers and the accepted connections.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    slots: Mutex<BTreeMap<MemberId, Slot>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    /// Reached, else unreachable.
    reached: Option<bool>,
    /// View and confirmed past.
    heard: Option<(ViewNumber, ViewNumber)>,
}

impl Reports {
    /// Both connections to the peer stand.
    pub(crate) fn reached(&self, peer: MemberId) {
        self.put(peer, |slot| slot.reached = Some(true));
    }

    /// A connection to the peer ended and a dial failed.
    pub(crate) fn unreachable(&self, peer: MemberId) {
        self.put(peer, |slot| slot.reached = Some(false));
    }

    /// A ping or echo of the peer came in.
    pub(crate) fn heard(&self, peer: MemberId, ping: &Ping) {
        self.put(peer, |slot| slot.heard = Some((ping.view, ping.confirmed_past)));
    }

    fn put(&self, peer: MemberId, set: impl FnOnce(&mut Slot)) {
        set(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default());
        self.wake.notify_one();
    }

    /// Tells the driver, for ever; when it no longer listens there is nobody to tell.
    ///
    /// # Cancel safety
    /// What was taken and not yet told is lost; it is cancelled only when the mesh stops.
    pub(crate) async fn tell(&self, driver: &mpsc::Sender<Inbound>) {
        loop {
            self.wake.notified().await;
            let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
            for (peer, slot) in slots {
                let reach = slot.reached.map(|r| if r { Inbound::Reached(peer) } else { Inbound::Unreachable(peer) });
                let heard =
                    slot.heard.map(|(view, confirmed_past)| Inbound::Heard { from: peer, view, confirmed_past });
                for report in reach.into_iter().chain(heard) {
                    let _ = driver.send(report).await;
                }
            }
        }
    }
}
