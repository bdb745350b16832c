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

/// What a later incarnation shows of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndEvidence {
    /// It could not run beside it: the same pod, or the same lock on the same boot, and a later start (P-1).
    Certain,
    /// The same machine id, cluster and member name after another boot. Machine ids are copied with images, so it counts
    /// only once the earlier one answers nobody (P-3).
    AnotherBoot,
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
    /// Order among the incarnations of one platform identity: a later one has a larger number (the machine's boot clock
    /// when it started, in nanoseconds; never compared between machines).
    pub incarnation: u64,
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

impl Member {
    /// What this running incarnation, holding its identity exclusively, shows of `older`.
    ///
    /// A message of an incarnation may come after a later one has joined, so "the same" alone would prove the wrong
    /// one dead.
    #[must_use]
    pub fn shows_end_of(&self, older: &Member) -> Option<EndEvidence> {
        let later = self.id != older.id && self.incarnation > older.incarnation;
        // The clock that counts incarnations begins again with a boot.
        self.identity.succeeds(&older.identity).filter(|evidence| *evidence == EndEvidence::AnotherBoot || later)
    }
}

impl PlatformIdentity {
    /// What the later of two incarnations with these identities shows of the other, which had `older`.
    pub(crate) fn succeeds(&self, older: &PlatformIdentity) -> Option<EndEvidence> {
        let certain = |is: bool| is.then_some(EndEvidence::Certain);
        match (self, older) {
            (PlatformIdentity::Pod { uid }, PlatformIdentity::Pod { uid: other }) => certain(uid == other),
            (
                PlatformIdentity::Host { machine, boot, lock },
                PlatformIdentity::Host { machine: old_machine, boot: old_boot, lock: old_lock },
            ) if machine == old_machine && !machine.is_empty() => {
                let path = |lock: &str| lock.split_once('#').map_or(lock.to_owned(), |(path, _)| path.to_owned());
                if boot == old_boot {
                    return certain(lock == old_lock);
                }
                (path(lock) == path(old_lock)).then_some(EndEvidence::AnotherBoot)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, incarnation: u64, identity: PlatformIdentity) -> Member {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Member {
            id: MemberId(id),
            name: "m".into(),
            identity,
            incarnation,
            data_address: address,
            failure_detection_address: address,
            locality: Locality::default(),
            protocols: (1, 1),
            joined: 0,
        }
    }

    fn host(machine: &str, boot: &str, lock: &str) -> PlatformIdentity {
        PlatformIdentity::Host { machine: machine.into(), boot: boot.into(), lock: lock.into() }
    }

    /// P-1.
    #[test]
    fn only_what_excludes_running_side_by_side_is_proof() {
        let old = member(1, 10, host("m", "b", "l#1"));
        let shows = |incarnation, identity| member(2, incarnation, identity).shows_end_of(&old);
        let proves = |incarnation, identity| shows(incarnation, identity) == Some(EndEvidence::Certain);
        assert!(proves(11, host("m", "b", "l#1")));
        assert!(!proves(9, host("m", "b", "l#1")), "an earlier incarnation proves nothing");
        let another = shows(3, host("m", "b2", "l#2"));
        assert_eq!(another, Some(EndEvidence::AnotherBoot), "the clock began again with the boot, or it is a clone");
        assert_eq!(shows(11, host("m", "b2", "k#1")), None, "another name on a machine with the same id");
        assert!(!proves(11, host("m", "b", "l#2")));
        assert!(!proves(11, host("m2", "b", "l#1")));
        assert_eq!(member(2, 11, host("", "b2", "l")).shows_end_of(&member(1, 1, host("", "b", "l"))), None);
        let pod = || PlatformIdentity::Pod { uid: "u".into() };
        assert!(!proves(11, pod()));
        assert!(member(2, 2, pod()).shows_end_of(&member(1, 1, pod())).is_some());
        assert_eq!(member(2, 1, pod()).shows_end_of(&member(1, 2, pod())), None);
    }
}
