//! The document: what the registry holds, and what a swap compares.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterUid, GroupId, MemberId, ViewNumber};
use crate::member::Member;
use crate::view::{Replicas, View};

/// The document format that this build writes; it reads [`FORMAT`] and the one before.
pub const FORMAT: u16 = 1;

/// What the registry keeps for one cluster, changed only by compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`] of the writer.
    pub format: u16,
    /// Made with the document, never changed.
    pub cluster: ClusterUid,
    /// +1 for every change of any kind; the finest thing that a swap compares.
    pub revision: u64,
    /// +1 to void the votes given for the present view (V-4).
    pub ballot: u64,
    /// The newest view.
    pub view: View,
    /// Older views in which somebody might still hold a lease, oldest first (S-1).
    pub unsealed: Vec<UnsealedView>,
    /// Members of unsealed views that are not in the view any more: who they were, so that a newer incarnation still
    /// proves their end.
    #[serde(default)]
    pub departed: Vec<Member>,
    /// Proofs of death and releases, kept while a view that counts the member is not sealed (P-1).
    pub proofs: BTreeMap<MemberId, Proof>,
    /// Groups without an in-sync owner in the view: who were the last ones (V-9).
    #[serde(default)]
    pub vacant: BTreeMap<GroupId, Vec<MemberId>>,
    /// What all members must agree on.
    pub agreed: Agreed,
}

/// What a vote is bound to (V-1): a proposal made on it can win only while it still is the registry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentVersion {
    /// The document's view.
    pub view: ViewNumber,
    /// The document's ballot counter.
    pub ballot: u64,
}

/// What a swap expects to find, on a fresh read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The cluster's identity.
    pub cluster: ClusterUid,
    /// View and ballot.
    pub version: DocumentVersion,
    /// The exact document.
    pub revision: u64,
}

impl Document {
    /// What votes for a change of this document are bound to.
    #[must_use]
    pub fn version(&self) -> DocumentVersion {
        DocumentVersion { view: self.view.number, ballot: self.ballot }
    }

    /// What a swap that replaces this document expects.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected { cluster: self.cluster, version: self.version(), revision: self.revision }
    }

    /// The vacant groups after a change to `view`: who were the last in-sync owners of each (V-9).
    #[must_use]
    pub fn vacant_after(&self, view: &View) -> BTreeMap<GroupId, Vec<MemberId>> {
        let known = self.view.groups.len();
        let last = |group: GroupId| match self.vacant.get(&group) {
            Some(owners) => owners.clone(),
            None => self.view.owners(group).to_vec(),
        };
        view.vacant().filter(|group| group.index() < known).map(|group| (group, last(group))).collect()
    }
}

/// An older view in which somebody might still hold a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsealedView {
    /// Its number.
    pub number: ViewNumber,
    /// Its members.
    pub members: Vec<MemberId>,
}

/// Why a member is known to have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A newer incarnation of the same platform identity runs, which could not run beside it.
    NewerIncarnation,
    /// The platform said that its container ended, or its node.
    Platform,
    /// A person said so.
    Person,
    /// It released: it serves, pings, echoes and votes no more, and its own promises have run out.
    Released,
}

impl Proof {
    /// Whether members store it. What the platform and people say, they store themselves, again if it gets lost (G-5).
    #[must_use]
    pub const fn is_of_members(self) -> bool {
        matches!(self, Proof::NewerIncarnation | Proof::Released)
    }
}

/// A clustered cache, as all members must have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedCache {
    /// Its name.
    pub name: String,
    /// Its replica count.
    pub replicas: Replicas,
}

/// What all members must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Number of segments, fixed when the cluster is made.
    pub segments: u16,
    /// How keys map to segments; a name, so that another rule can be told apart.
    pub hash: String,
    /// The clustered caches, sorted by name; a `CacheId` is an index into this.
    pub caches: Vec<AgreedCache>,
    /// Lease, ping and suspicion times.
    pub timing: Timing,
}

/// Name of the only hash rule: `xxh3_64` of the key or its `{tag}`.
pub const HASH_RULE: &str = "xxh3-64-tag";

/// The times that leases rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between two pings to a peer.
    pub ping: Duration,
    /// How long an echoed ping lets its sender serve, from when it was sent.
    pub lease: Duration,
    /// No echo for this long: suspected.
    pub suspect: Duration,
    /// A replication unacknowledged for this long: suspected.
    pub data_suspect: Duration,
    /// How long a group whose last owners were excluded waits for one of them before it starts empty.
    pub orphan_wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            ping: Duration::from_millis(100),
            lease: Duration::from_millis(600),
            suspect: Duration::from_millis(400),
            data_suspect: Duration::from_secs(1),
            orphan_wait: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// What an answerer gives away with an echo: the lease, stretched by the allowed difference of two clocks (L-3).
    #[must_use]
    pub fn promise(&self) -> Duration {
        self.lease * 11 / 10
    }
}

/// Placements in text formats: base64 of their compact form, since a person reads them with `explain`, not here.
pub(crate) mod compact {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::de::{DeserializeOwned, Error as _};
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return value.serialize(serializer);
        }
        let bytes = postcard::to_stdvec(value).map_err(S::Error::custom)?;
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        if !deserializer.is_human_readable() {
            return T::deserialize(deserializer);
        }
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        postcard::from_bytes(&bytes).map_err(D::Error::custom)
    }
}
