//! What connections report to the driver: one slot for each peer, in which newer reports replace older ones, so that
//! neither a full channel nor a busy core ever holds up the failure-detection thread.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sidegrid_core::message::Ping;
use sidegrid_core::{MemberId, ViewNumber};
use tokio::sync::{Notify, mpsc};

use crate::inbound::Inbound;
use crate::plane::Plane;

/// Slots of what is not yet reported. Bounded by the peers and the accepted connections.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    slots: Mutex<BTreeMap<MemberId, Slot>>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    /// For each plane: connected anew, else unreachable. Planes are apart: what one shows says nothing of the other.
    links: [Option<Link>; 2],
    /// Both planes are connected.
    reached: bool,
    /// View and confirmed past.
    heard: Option<(ViewNumber, ViewNumber)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connected,
    Unreachable,
}

impl Reports {
    /// A new connection to the peer stands; `both` when one on the other plane does too.
    pub(crate) fn connected(&self, peer: MemberId, plane: Plane, both: bool) {
        self.put(peer, |slot| {
            slot.links[plane as usize] = Some(Link::Connected);
            slot.reached = both;
        });
    }

    /// A connection to the peer ended and a dial failed.
    pub(crate) fn unreachable(&self, peer: MemberId, plane: Plane) {
        self.put(peer, |slot| {
            slot.links[plane as usize] = Some(Link::Unreachable);
            slot.reached = false;
        });
    }

    /// A ping or echo of the peer came in.
    pub(crate) fn heard(&self, peer: MemberId, ping: &Ping) {
        self.put(peer, |slot| slot.heard = Some((ping.view, ping.confirmed_past)));
    }

    fn put(&self, peer: MemberId, set: impl FnOnce(&mut Slot)) {
        set(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default());
        self.wake.notify_one();
    }

    /// What is to be reported now, in order.
    fn take(&self) -> Vec<Inbound> {
        let slots = std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reports = Vec::new();
        for (peer, slot) in slots {
            for plane in Plane::ALL {
                reports.extend(slot.links[plane as usize].map(|link| match link {
                    Link::Connected => Inbound::Connected { peer, plane },
                    Link::Unreachable => Inbound::Unreachable { peer, plane },
                }));
            }
            reports.extend(slot.reached.then_some(Inbound::Reached(peer)));
            let heard = slot.heard.map(|(view, confirmed_past)| Inbound::Heard { from: peer, view, confirmed_past });
            reports.extend(heard);
        }
        reports
    }

    /// Passes reports to the driver, for ever; when it has ended there is nobody to report to.
    ///
    /// # Cancel safety
    /// What was taken and not yet passed on is lost; it is cancelled only when the mesh stops.
    pub(crate) async fn pass_on(&self, driver: &mpsc::Sender<Inbound>) {
        loop {
            self.wake.notified().await;
            for report in self.take() {
                let _driver_ended = driver.send(report).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: MemberId = MemberId(2);

    fn taken(reports: &Reports) -> Vec<String> {
        let said = |report: &Inbound| match report {
            Inbound::Unreachable { plane, .. } => format!("no {plane}"),
            Inbound::Connected { plane, .. } => format!("new {plane}"),
            Inbound::Reached(_) => "both".to_owned(),
            Inbound::Heard { .. } => "heard".to_owned(),
            Inbound::Envelope { .. } => "envelope".to_owned(),
        };
        reports.take().iter().map(said).collect()
    }

    /// A link is both ports: pings, and whatever the other port shows, leave what a port's own connection reported.
    #[test]
    fn neither_pings_nor_the_other_port_replace_what_a_port_reported() {
        let reports = Reports::default();
        let ping = Ping {
            view: ViewNumber(3),
            sent: 1,
            confirmed_past: ViewNumber(2),
            echo: None,
            status: sidegrid_core::message::PingStatus::default(),
        };
        reports.unreachable(PEER, Plane::Data);
        reports.heard(PEER, &ping);
        reports.connected(PEER, Plane::FailureDetection, false);
        reports.heard(PEER, &ping);
        assert_eq!(taken(&reports), ["no data", "new failure_detection", "heard"]);
        assert_eq!(taken(&reports), [] as [&str; 0]);
    }

    #[test]
    fn the_newest_report_of_a_port_stays_and_both_means_now() {
        let reports = Reports::default();
        reports.connected(PEER, Plane::FailureDetection, false);
        reports.connected(PEER, Plane::Data, true);
        reports.unreachable(PEER, Plane::FailureDetection);
        assert_eq!(taken(&reports), ["new data", "no failure_detection"]);
        reports.unreachable(PEER, Plane::Data);
        reports.connected(PEER, Plane::Data, false);
        reports.connected(PEER, Plane::FailureDetection, true);
        assert_eq!(taken(&reports), ["new data", "new failure_detection", "both"]);
    }
}
