//! What this node knows of members for the counting of exclusions and seals (V-5, S-1, P-2).

use super::Membership;
use crate::document::Proof;
use crate::ids::{MemberId, ViewNumber};
use crate::sealing::Standing;
use crate::time::Time;

/// Members' standing as an exclusion counts it: proofs count at once, and are waited for afterwards.
pub(super) struct Now<'a>(pub(super) &'a Membership);

/// Members' standing as sealing counts it: proofs count after a full promise time.
pub(super) struct Aged<'a>(pub(super) &'a Membership, pub(super) Time);

impl Membership {
    pub(super) fn standing_confirmed(&self, member: MemberId) -> ViewNumber {
        if member == self.setup.me.id {
            return self.confirmed_past;
        }
        self.peers.get(&member).map_or(ViewNumber::NONE, |p| p.confirmed_past)
    }

    pub(super) fn standing_released(&self, member: MemberId) -> bool {
        self.dead.get(&member).is_some_and(|d| d.proof == Proof::Released)
    }
}

impl Standing for Now<'_> {
    fn confirmed_past(&self, member: MemberId) -> ViewNumber {
        self.0.standing_confirmed(member)
    }
    fn is_dead(&self, member: MemberId) -> bool {
        self.0.dead.contains_key(&member)
    }
    fn is_released(&self, member: MemberId) -> bool {
        self.0.standing_released(member)
    }
}

impl Standing for Aged<'_> {
    fn confirmed_past(&self, member: MemberId) -> ViewNumber {
        self.0.standing_confirmed(member)
    }
    fn is_dead(&self, member: MemberId) -> bool {
        let promise = self.0.timing.promise();
        self.0.dead.get(&member).is_some_and(|d| self.1.since(d.learned) >= promise)
    }
    fn is_released(&self, member: MemberId) -> bool {
        self.0.standing_released(member)
    }
}
