//! Who a member is and where it is.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::MemberId;

/// Where a member runs, from coarse to fine. Copies of one segment go to different sites, else racks, else machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// The site: a region or data centre. Empty when not told.
    pub site: String,
    /// The rack: a rack or zone within the site. Empty when not told.
    pub rack: String,
    /// The machine: a node. Empty when not told.
    pub machine: String,
}

impl Locality {
    /// How near two places are: 3 same machine, 2 same rack, 1 same site, 0 none of these. An empty name equals
    /// only an empty name at the same level.
    #[must_use]
    pub fn nearness(&self, other: &Locality) -> u8 {
        if self.site != other.site {
            0
        } else if self.rack != other.rack {
            1
        } else if self.machine != other.machine {
            2
        } else {
            3
        }
    }
}

/// What ties incarnations together for proofs of death: two incarnations with equal identity can't run at one time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PlatformIdentity {
    /// Kubernetes: the pod's UID.
    Pod {
        /// `metadata.uid`.
        uid: String,
    },
    /// Elsewhere: a name locked exclusively on one boot of one machine.
    Host {
        /// `/etc/machine-id` or what stands for it.
        machine: String,
        /// The kernel's boot id.
        boot: String,
        /// The lock file that an incarnation holds for life; names both the cluster and the member.
        lock: String,
    },
}

impl PlatformIdentity {
    /// Whether a running incarnation with identity `self`, holding its lock, proves that one with identity `older`
    /// has ended (P-1): the same pod; the same machine after another boot; or the same lock on the same machine.
    #[must_use]
    pub fn proves_end_of(&self, older: &PlatformIdentity) -> bool {
        match (self, older) {
            (PlatformIdentity::Pod { uid }, PlatformIdentity::Pod { uid: other }) => uid == other,
            (
                PlatformIdentity::Host { machine, boot, lock },
                PlatformIdentity::Host { machine: old_machine, boot: old_boot, lock: old_lock },
            ) => machine == old_machine && !machine.is_empty() && (boot != old_boot || lock == old_lock),
            _ => false,
        }
    }
}

/// A member or client as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// This incarnation.
    pub id: MemberId,
    /// The stable name: the pod's or host's.
    pub name: String,
    /// For proofs of death.
    pub identity: PlatformIdentity,
    /// Where others reach its data port.
    pub data_address: SocketAddr,
    /// Where others reach its failure-detection port.
    pub failure_detection_address: SocketAddr,
    /// For placement and for the nearest read.
    pub locality: Locality,
    /// Oldest and newest protocol version it speaks.
    pub protocols: (u16, u16),
    /// Place in join order: larger is newer. Zero until it has joined.
    pub joined: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(machine: &str, boot: &str, lock: &str) -> PlatformIdentity {
        PlatformIdentity::Host { machine: machine.into(), boot: boot.into(), lock: lock.into() }
    }

    #[test]
    fn only_what_excludes_running_side_by_side_is_proof() {
        assert!(host("m", "b", "l").proves_end_of(&host("m", "b", "l")));
        assert!(host("m", "b2", "l2").proves_end_of(&host("m", "b", "l")));
        assert!(!host("m", "b", "l2").proves_end_of(&host("m", "b", "l")));
        assert!(!host("m2", "b", "l").proves_end_of(&host("m", "b", "l")));
        assert!(!host("", "b2", "l").proves_end_of(&host("", "b", "l")));
        assert!(!PlatformIdentity::Pod { uid: "u".into() }.proves_end_of(&host("m", "b", "l")));
    }
}
