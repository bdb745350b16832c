//! Who a certificate says its holder is.

use std::fmt;
use std::str::FromStr;

use sidegrid_core::{ClusterUid, MemberId};

/// What stands in the URI SAN of a leaf: `sidegrid://<cluster uid>/<member id>`, both in lower-case hex of full width.
///
/// Path segments after the member id are allowed and not looked at, so that a later version may add where the member
/// runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIdentity {
    /// The cluster whose authority signed.
    pub cluster: ClusterUid,
    /// The incarnation.
    pub member: MemberId,
}

/// The scheme of identity URIs, with what follows it.
pub(crate) const SCHEME: &str = "sidegrid://";

impl fmt::Display for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.cluster, self.member)
    }
}

/// Where in Kubernetes a member runs: what the operator adds to the URI SAN of a leaf that it signs.
///
/// For people and logs: peers decide by [`MemberIdentity`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberNames {
    namespace: String,
    cluster: String,
    pod: String,
}

impl MemberNames {
    /// The names, each of lower-case letters, digits, `-` and `.` as Kubernetes has them, so that none can hold what
    /// separates them.
    ///
    /// # Errors
    /// [`NotAnIdentity`] when one is empty, longer than 253 bytes or has another character.
    pub fn new(namespace: &str, cluster: &str, pod: &str) -> Result<MemberNames, NotAnIdentity> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        let named = |name: &str| (1..=253).contains(&name.len()) && name.bytes().all(plain);
        if [namespace, cluster, pod].into_iter().all(named) {
            Ok(MemberNames { namespace: namespace.to_owned(), cluster: cluster.to_owned(), pod: pod.to_owned() })
        } else {
            Err(NotAnIdentity)
        }
    }

    /// The names in an identity URI; `None` when it has none, or others than these three.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<MemberNames> {
        let path = uri.strip_prefix(SCHEME)?;
        let segments: Vec<&str> = path.split('/').take(6).collect();
        match segments[..] {
            [_, _, namespace, cluster, pod] => MemberNames::new(namespace, cluster, pod).ok(),
            _ => None,
        }
    }

    /// The pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The CacheCluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The pod's name.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }
}

impl fmt::Display for MemberNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.cluster, self.pod)
    }
}

/// A text that is no identity URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identity of the form sidegrid://<cluster uid>/<member id>")]
pub struct NotAnIdentity;

impl FromStr for MemberIdentity {
    type Err = NotAnIdentity;

    fn from_str(uri: &str) -> Result<Self, NotAnIdentity> {
        let path = uri.strip_prefix(SCHEME).ok_or(NotAnIdentity)?;
        let mut segments = path.split('/');
        let cluster = hex(segments.next(), 32)?.parse().map_err(|_| NotAnIdentity)?;
        let member = hex(segments.next(), 16)?.parse().map_err(|_| NotAnIdentity)?;
        Ok(MemberIdentity { cluster, member })
    }
}

/// One spelling only, so that two names never mean one member.
fn hex(segment: Option<&str>, width: usize) -> Result<&str, NotAnIdentity> {
    let plain = |s: &&str| s.len() == width && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    segment.filter(plain).ok_or(NotAnIdentity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_has_one_spelling() {
        let identity = MemberIdentity { cluster: ClusterUid(0xc1), member: MemberId(0xab) };
        let uri = identity.to_string();
        assert_eq!(uri, "sidegrid://000000000000000000000000000000c1/00000000000000ab");
        assert_eq!(uri.parse(), Ok(identity));
        assert_eq!(format!("{uri}/shop/grid/web-1").parse(), Ok(identity));
        for bad in [
            "sidegrid://c1/ab",
            "https://000000000000000000000000000000c1/00000000000000ab",
            "sidegrid://000000000000000000000000000000C1/00000000000000ab",
            "sidegrid://+00000000000000000000000000000c1/00000000000000ab",
            "sidegrid://000000000000000000000000000000c1",
            "",
        ] {
            assert_eq!(bad.parse::<MemberIdentity>(), Err(NotAnIdentity), "{bad}");
        }
    }

    #[test]
    fn names_read_back_and_hold_no_separator() {
        let names = MemberNames::new("shop", "grid", "web-1").unwrap();
        let identity = MemberIdentity { cluster: ClusterUid(0xc1), member: MemberId(0xab) };
        let uri = format!("{identity}/{names}");
        assert_eq!(MemberNames::of_uri(&uri), Some(names));
        assert_eq!(MemberNames::of_uri(&identity.to_string()), None);
        assert_eq!(MemberNames::of_uri(&format!("{uri}/more")), None);
        for bad in ["", "a/b", "Web", "a b", "ü"] {
            assert_eq!(MemberNames::new("shop", bad, "web-1"), Err(NotAnIdentity), "{bad}");
        }
    }
}
