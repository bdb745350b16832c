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
/// Peers decide by [`MemberIdentity`] alone; the operator by the pod's uid too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberNames {
    namespace: String,
    cluster: String,
    pod: String,
    pod_uid: Option<String>,
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
            let (namespace, cluster, pod) = (namespace.to_owned(), cluster.to_owned(), pod.to_owned());
            Ok(MemberNames { namespace, cluster, pod, pod_uid: None })
        } else {
            Err(NotAnIdentity)
        }
    }

    /// With the pod's `metadata.uid`: another pod of the same name is another pod, and the certificate ends with this one.
    ///
    /// # Errors
    /// [`NotAnIdentity`] when it is empty, longer than 64 bytes or has anything but lower-case letters, digits and `-`.
    pub fn with_pod_uid(self, uid: &str) -> Result<MemberNames, NotAnIdentity> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if (1..=64).contains(&uid.len()) && uid.bytes().all(plain) {
            Ok(MemberNames { pod_uid: Some(uid.to_owned()), ..self })
        } else {
            Err(NotAnIdentity)
        }
    }

    /// The names in an identity URI; `None` when it has none, or others than these.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<MemberNames> {
        let path = uri.strip_prefix(SCHEME)?;
        let segments: Vec<&str> = path.split('/').take(7).collect();
        match segments[..] {
            [_, _, namespace, cluster, pod] => MemberNames::new(namespace, cluster, pod).ok(),
            [_, _, namespace, cluster, pod, uid] => {
                MemberNames::new(namespace, cluster, pod).and_then(|names| names.with_pod_uid(uid)).ok()
            }
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

    /// The pod's uid, if whoever signed gave it.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        self.pod_uid.as_deref()
    }
}

impl fmt::Display for MemberNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.cluster, self.pod)?;
        self.pod_uid.as_ref().map_or(Ok(()), |uid| write!(f, "/{uid}"))
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
        let of_pod = MemberNames::new("shop", "grid", "web-1").unwrap().with_pod_uid("0a-1").unwrap();
        assert_eq!(MemberNames::of_uri(&format!("{uri}/0a-1")).as_ref(), Some(&of_pod));
        assert_eq!(of_pod.pod_uid(), Some("0a-1"));
        assert_eq!(MemberNames::of_uri(&format!("{uri}/0a-1/more")), None);
        assert!(MemberNames::new("shop", "grid", "web-1").unwrap().with_pod_uid("0A/1").is_err());
        for bad in ["", "a/b", "Web", "a b", "ü"] {
            assert_eq!(MemberNames::new("shop", bad, "web-1"), Err(NotAnIdentity), "{bad}");
        }
    }
}
