//! Whom we keep connections to, and which of those stand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sidegrid_core::MemberId;
use sidegrid_core::member::Member;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::limits::NetLimits;
use crate::outbox::Outbox;
use crate::plane::Plane;

/// A peer and the state of our own connections to it.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Who and where.
    pub(crate) member: Member,
    /// What its data connection shall write.
    pub(crate) outbox: Outbox,
    /// It shall be pinged at once.
    pub(crate) ping_back: Notify,
    standing: Mutex<[bool; 2]>,
    /// It is no peer any more.
    pub(crate) dropped: CancellationToken,
}

impl Peer {
    fn new(member: Member, limits: &NetLimits) -> Peer {
        Peer {
            outbox: Outbox::new(member.id, limits),
            member,
            ping_back: Notify::new(),
            standing: Mutex::default(),
            dropped: CancellationToken::new(),
        }
    }

    /// Whether our connection of this plane stands.
    pub(crate) fn stands(&self, plane: Plane) -> bool {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)[plane as usize]
    }

    /// Notes that it stands or not; whether both do now.
    pub(crate) fn set_standing(&self, plane: Plane, stands: bool) -> bool {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing[plane as usize] = stands;
        *standing == [true; 2]
    }
}

/// The set of peers.
#[derive(Debug)]
pub(crate) struct Peers {
    map: RwLock<BTreeMap<MemberId, Arc<Peer>>>,
    changed: watch::Sender<u64>,
}

impl Default for Peers {
    fn default() -> Self {
        Peers { map: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl Peers {
    /// The peer with this id.
    pub(crate) fn get(&self, id: MemberId) -> Option<Arc<Peer>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All peers.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Replaces the set. Connections to those who stay at the same addresses stay too.
    pub(crate) fn set(&self, me: MemberId, members: Vec<Member>, limits: &NetLimits) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut *map);
        for member in members {
            if member.id == me {
                continue;
            }
            let kept = old.remove(&member.id).filter(|peer| {
                let stays = peer.member.data_address == member.data_address
                    && peer.member.failure_detection_address == member.failure_detection_address;
                if !stays {
                    peer.dropped.cancel();
                }
                stays
            });
            map.insert(member.id, kept.unwrap_or_else(|| Arc::new(Peer::new(member, limits))));
        }
        drop(map);
        for peer in old.into_values() {
            peer.dropped.cancel();
        }
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Changes whenever the set does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
