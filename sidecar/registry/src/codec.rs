//! The document as text, checked on the way in and on the way out.
//!
//! What the check refuses would make a member panic or misplace keys, so it must neither get into a registry nor,
//! edited or restored by hand, out of it. Whether a document follows from the protocol is not judged here.

use serde::Deserialize;
use sidegrid_core::document::{Document, Expected, FORMAT};
use sidegrid_core::view::View;

/// The oldest document format that this build reads.
pub const OLDEST_FORMAT: u16 = if FORMAT > 1 { FORMAT - 1 } else { 1 };

/// The most bytes that a document may have; a document of a thousand members has well under a tenth of it.
pub const MAX_DOCUMENT_BYTES: usize = 16 << 20;

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentCodecError {
    /// It can't be understood, or contradicts itself.
    #[error("{0}")]
    Content(String),
    /// It is of a format that this build does not speak.
    #[error("its format is {found}, this build speaks {oldest} to {newest}")]
    Format {
        /// The format found.
        found: u16,
        /// [`OLDEST_FORMAT`].
        oldest: u16,
        /// [`FORMAT`].
        newest: u16,
    },
}

/// All that is read of a document before its format is known to be spoken.
#[derive(Deserialize)]
struct Head {
    format: u16,
}

/// The document as one line of JSON, at most [`MAX_DOCUMENT_BYTES`].
///
/// # Errors
/// [`DocumentCodecError`] if the document is not one that [`decode`] would take.
pub fn encode(document: &Document) -> Result<Vec<u8>, DocumentCodecError> {
    check_format(document.format)?;
    check(document)?;
    let mut bytes =
        serde_json::to_vec(document).map_err(|e| DocumentCodecError::Content(format!("it has no text form: {e}")))?;
    bytes.push(b'\n');
    check_size(bytes.len())?;
    Ok(bytes)
}

/// The document of these bytes.
///
/// # Errors
/// [`DocumentCodecError::Format`] if its format is not spoken (F-1), whatever else is in it; else
/// [`DocumentCodecError::Content`] if it can't be read or contradicts itself.
pub fn decode(bytes: &[u8]) -> Result<Document, DocumentCodecError> {
    check_size(bytes.len())?;
    if bytes.is_empty() {
        return Err(content("the document is empty"));
    }
    let unreadable = |e: serde_json::Error| DocumentCodecError::Content(format!("the document can't be read: {e}"));
    let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
    check_format(head.format)?;
    let document: Document = serde_json::from_slice(bytes).map_err(unreadable)?;
    check(&document)?;
    Ok(document)
}

/// Whether `next` may replace a document that `expected` describes: the cluster is the same, the revision is the
/// next one, and view and ballot don't go back.
///
/// # Errors
/// [`DocumentCodecError::Content`] with what is wrong.
pub fn check_swap(expected: &Expected, next: &Document) -> Result<(), DocumentCodecError> {
    if next.cluster != expected.cluster {
        return Err(DocumentCodecError::Content(format!(
            "a swap can't change the cluster from {} to {}",
            expected.cluster, next.cluster
        )));
    }
    if expected.revision.checked_add(1) != Some(next.revision) {
        return Err(DocumentCodecError::Content(format!(
            "a swap of revision {} can't give revision {}",
            expected.revision, next.revision
        )));
    }
    if next.version() < expected.version {
        return Err(DocumentCodecError::Content(format!(
            "a swap can't go back from view {} ballot {} to view {} ballot {}",
            expected.version.view, expected.version.ballot, next.view.number, next.ballot
        )));
    }
    Ok(())
}

fn content(fault: &str) -> DocumentCodecError {
    DocumentCodecError::Content(fault.to_owned())
}

fn check_format(found: u16) -> Result<(), DocumentCodecError> {
    if (OLDEST_FORMAT..=FORMAT).contains(&found) {
        Ok(())
    } else {
        Err(DocumentCodecError::Format { found, oldest: OLDEST_FORMAT, newest: FORMAT })
    }
}

fn check_size(bytes: usize) -> Result<(), DocumentCodecError> {
    if bytes <= MAX_DOCUMENT_BYTES {
        Ok(())
    } else {
        Err(DocumentCodecError::Content(format!("the document has more than {MAX_DOCUMENT_BYTES} bytes")))
    }
}

fn check(document: &Document) -> Result<(), DocumentCodecError> {
    let view = &document.view;
    if view.segments == 0 || view.segments != document.agreed.segments {
        return Err(DocumentCodecError::Content(format!(
            "the view has {} segments where {} are agreed",
            view.segments, document.agreed.segments
        )));
    }
    check_members(view)?;
    check_groups(view)
}

fn check_members(view: &View) -> Result<(), DocumentCodecError> {
    if view.members.len() > usize::from(u16::MAX) {
        return Err(content("the view has more members than an index can tell apart"));
    }
    let mut ids: Vec<_> = view.ids().collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(DocumentCodecError::Content(format!("member {} is in the view twice", pair[0]))),
        None => Ok(()),
    }
}

fn check_groups(view: &View) -> Result<(), DocumentCodecError> {
    let expected = view.classes.len() * usize::from(view.segments);
    let left_empty = view.members.is_empty() && view.groups.is_empty();
    if view.groups.len() != expected && !left_empty {
        return Err(DocumentCodecError::Content(format!("the view has {} groups, not {expected}", view.groups.len())));
    }
    let members = view.members.len();
    for (index, group) in view.groups.iter().enumerate() {
        let mut named =
            group.owners.iter().chain(&group.dropped).copied().chain(group.incoming.iter().map(|x| x.member));
        if let Some(member) = named.find(|&member| usize::from(member) >= members) {
            return Err(DocumentCodecError::Content(format!("group {index} names member {member} of {members}")));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use sidegrid_core::document::{Agreed, HASH_RULE, Timing};
    use sidegrid_core::member::{Locality, Member, PlatformIdentity};
    use sidegrid_core::view::{GroupPlacement, Replicas};
    use sidegrid_core::{ClusterUid, MemberId, ViewNumber};

    use super::*;

    /// Revision 1 of a cluster with one member.
    pub(crate) fn document() -> Document {
        let address = "127.0.0.1:7800".parse().unwrap();
        let member = Member {
            id: MemberId(7),
            name: "web-1".into(),
            identity: PlatformIdentity::Pod { uid: "u".into() },
            incarnation: 1,
            data_address: address,
            failure_detection_address: address,
            locality: Locality::default(),
            protocols: (1, 1),
            joined: 1,
        };
        let group = GroupPlacement {
            owners: std::iter::once(0).collect(),
            incoming: Default::default(),
            dropped: Default::default(),
            primary_since: ViewNumber(1),
            empty_since: ViewNumber(1),
        };
        Document {
            format: FORMAT,
            cluster: ClusterUid(5),
            revision: 1,
            ballot: 0,
            view: View {
                number: ViewNumber(1),
                members: vec![member],
                classes: vec![Replicas::Count(1)],
                segments: 4,
                groups: vec![group; 4],
                next_joined: 2,
            },
            unsealed: Vec::new(),
            departed: Vec::new(),
            proofs: BTreeMap::new(),
            vacant: BTreeMap::new(),
            agreed: Agreed { segments: 4, hash: HASH_RULE.into(), caches: Vec::new(), timing: Timing::default() },
        }
    }

    #[test]
    fn a_document_reads_back() {
        let bytes = encode(&document()).unwrap();
        assert_eq!(decode(&bytes), Ok(document()));
    }

    /// F-1: by its format alone, since nothing else of a newer document need be understood.
    #[test]
    fn another_format_is_refused_even_where_the_rest_is_strange() {
        let newer = format!("{{\"format\":{},\"what\":[]}}", FORMAT + 1);
        let fault = DocumentCodecError::Format { found: FORMAT + 1, oldest: OLDEST_FORMAT, newest: FORMAT };
        assert_eq!(decode(newer.as_bytes()), Err(fault.clone()));
        assert_eq!(encode(&Document { format: FORMAT + 1, ..document() }), Err(fault));
        assert!(matches!(decode(b"{\"format\":0}"), Err(DocumentCodecError::Format { found: 0, .. })));
    }

    #[test]
    fn a_torn_document_is_refused_wherever_it_is_torn() {
        let bytes = encode(&document()).unwrap();
        // The last byte is a line end, which a document may lack.
        for length in 0..bytes.len() - 1 {
            assert!(matches!(decode(&bytes[..length]), Err(DocumentCodecError::Content(_))), "{length} bytes");
        }
        let doubled = [bytes.clone(), bytes].concat();
        assert!(decode(&doubled).is_err());
    }

    type Spoil = fn(&mut Document);

    #[test]
    fn what_would_make_a_member_panic_is_refused_both_ways() {
        let spoil: [(&str, Spoil); 6] = [
            ("0 segments", |d| d.view.segments = 0),
            ("where 8 are agreed", |d| d.agreed.segments = 8),
            ("3 groups, not 4", |d| drop(d.view.groups.pop())),
            ("group 2 names member 9 of 1", |d| d.view.groups[2].owners.push(9)),
            ("group 1 names member 1 of 1", |d| d.view.groups[1].dropped.push(1)),
            ("in the view twice", |d| d.view.members.push(d.view.members[0].clone())),
        ];
        for (says, spoil) in spoil {
            let mut bad = document();
            spoil(&mut bad);
            assert!(encode(&bad).unwrap_err().to_string().contains(says), "{says}");
            let text = serde_json::to_vec(&bad).unwrap();
            assert!(decode(&text).unwrap_err().to_string().contains(says), "{says}");
        }
        let mut empty = document();
        empty.view.members.clear();
        empty.view.groups.clear();
        assert_eq!(decode(&encode(&empty).unwrap()), Ok(empty));
    }

    #[test]
    fn a_swap_goes_on_by_one_and_stays_in_its_cluster() {
        let now = document();
        let next = Document { revision: 2, ..document() };
        assert_eq!(check_swap(&now.expected(), &next), Ok(()));
        for bad in [
            Document { revision: 1, ..next.clone() },
            Document { revision: 3, ..next.clone() },
            Document { cluster: ClusterUid(6), ..next.clone() },
            Document { view: View { number: ViewNumber(0), ..next.view.clone() }, ..next.clone() },
        ] {
            assert!(check_swap(&now.expected(), &bad).is_err());
        }
        let last = Expected { revision: u64::MAX, ..now.expected() };
        assert!(check_swap(&last, &Document { revision: 0, ..next }).is_err());
    }
}
