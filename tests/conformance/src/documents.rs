//! Documents to put into a registry.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use sidegrid_core::document::{Agreed, AgreedCache, Document, FORMAT, HASH_RULE, Timing, UnsealedView};
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::view::{GroupPlacement, Incoming, Replicas, View};
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};

/// Few, so that the races are about swapping, not about the text of placements.
const SEGMENTS: u16 = 8;

/// Revision 1, view 1 of a cluster with so many members (at least one) and few segments.
///
/// # Panics
/// If `members` is zero.
#[must_use]
pub fn first(cluster: ClusterUid, members: u16) -> Document {
    of_size(cluster, members, SEGMENTS)
}

/// Revision 1, view 1 of a cluster with so many members (at least one) and segments.
///
/// # Panics
/// If `members` is zero.
#[must_use]
pub fn of_size(cluster: ClusterUid, members: u16, segments: u16) -> Document {
    assert!(members > 0, "a document to test with has members");
    let group = |class: u16, segment: u16| GroupPlacement {
        owners: (0..if class == 0 { members.min(2) } else { 1 }).map(|i| (segment + i) % members).collect(),
        incoming: (members > 2)
            .then(|| Incoming { member: (segment + 2) % members, since: ViewNumber(1) })
            .into_iter()
            .collect(),
        dropped: std::iter::empty().collect(),
        primary_since: ViewNumber(1),
        empty_since: ViewNumber(1),
    };
    Document {
        format: FORMAT,
        cluster,
        revision: 1,
        ballot: 0,
        view: View {
            number: ViewNumber(1),
            members: (0..members).map(member).collect(),
            classes: vec![Replicas::Count(2), Replicas::All],
            segments,
            groups: (0..2).flat_map(|class| (0..segments).map(move |segment| group(class, segment))).collect(),
            next_joined: u64::from(members),
        },
        unsealed: Vec::new(),
        departed: Vec::new(),
        proofs: BTreeMap::new(),
        vacant: BTreeMap::new(),
        agreed: Agreed {
            segments,
            hash: HASH_RULE.to_owned(),
            caches: vec![
                AgreedCache { name: "realms".to_owned(), replicas: Replicas::All },
                AgreedCache { name: "sessions".to_owned(), replicas: Replicas::Count(2) },
            ],
            timing: Timing::default(),
        },
    }
}

/// A document that may follow `current`, marked with `mark` and with the mark of the one it follows. In turn it
/// changes the view, the ballot and neither.
#[must_use]
pub fn next(current: &Document, mark: &str) -> Document {
    let mut next = current.clone();
    next.revision += 1;
    match next.revision % 3 {
        0 => {
            let members = next.view.ids().collect();
            next.unsealed = vec![UnsealedView { number: next.view.number, members }];
            next.view.number = next.view.number.next();
        }
        1 => next.ballot += 1,
        _ => {}
    }
    marked(next, mark)
}

/// The document with a mark, and the mark that it had as that of the one before.
#[must_use]
pub(crate) fn marked(mut document: Document, mark: &str) -> Document {
    let place = &mut document.view.members[0].locality;
    place.rack = std::mem::replace(&mut place.machine, mark.to_owned());
    document
}

/// The mark of a document and the mark of the one it followed.
#[must_use]
pub fn mark_of(document: &Document) -> (&str, &str) {
    let place = &document.view.members[0].locality;
    (&place.machine, &place.rack)
}

fn member(index: u16) -> Member {
    let [high, low] = index.to_be_bytes();
    let address = Ipv4Addr::new(127, 1, high, low);
    Member {
        id: MemberId(0x1000_0000_0000_0000 + u64::from(index)),
        name: format!("web-{index}"),
        identity: PlatformIdentity::Host {
            machine: format!("{index:032x}"),
            boot: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".to_owned(),
            lock: format!("/run/sidegrid/web.web-{index}.lock#801:{index}"),
        },
        incarnation: 1,
        data_address: SocketAddr::from((address, 7800)),
        failure_detection_address: SocketAddr::from((address, 57800)),
        locality: Locality { site: "eu-1".to_owned(), ..Locality::default() },
        protocols: (1, 1),
        joined: u64::from(index),
    }
}
