//! What the placement says: copies in sync, and what may be lost.

use sidegrid_core::document::Document;
use sidegrid_core::member::Locality;
use sidegrid_core::view::{Replicas, View};
use sidegrid_core::{GroupId, MemberId, ViewNumber};

use crate::crd::{CacheCluster, CacheMode, CacheStatus, SegmentStatus, Survives, TopologySpec};
use crate::names::{REGION_LABEL, ZONE_LABEL};

/// All groups, and those with fewer copies in sync than their caches ask for.
pub(super) fn segments(view: &View) -> SegmentStatus {
    let under = view.group_ids().filter(|&group| {
        let asked = match view.replicas(group) {
            Replicas::Count(count) => usize::from(count),
            Replicas::All => view.members.len().max(1),
        };
        view.owners(group).len() < asked
    });
    let under_replicated = u32::try_from(under.count()).unwrap_or(u32::MAX);
    SegmentStatus { total: u32::try_from(view.groups.len()).unwrap_or(u32::MAX), under_replicated }
}

/// How many groups have started empty since the view `since`, and in which view one last did; none before the first view
/// that was told.
pub(super) fn lost(view: &View, since: u64) -> Option<(u32, ViewNumber)> {
    let empty = view.groups.iter().map(|group| group.empty_since).filter(|at| since > 0 && at.0 > since);
    let newest = empty.clone().max()?;
    Some((u32::try_from(empty.count()).unwrap_or(u32::MAX), newest))
}

/// Whether a copy is being filled somewhere.
pub(super) fn is_rebalancing(view: &View) -> bool {
    view.groups.iter().any(|group| !group.incoming.is_empty())
}

/// What each cache of the CacheCluster survives. A `local` cache has one copy and survives nothing; nor does one that
/// the document doesn't know.
pub(super) fn caches(document: Option<&Document>, cluster: &CacheCluster) -> Vec<CacheStatus> {
    let of = |name: &String| CacheStatus {
        name: name.clone(),
        survives: document.map(|d| survives(d, name, &cluster.spec.topology)).unwrap_or_default(),
    };
    cluster.spec.caches.keys().map(of).collect()
}

fn survives(document: &Document, cache: &str, topology: &TopologySpec) -> Survives {
    let view = &document.view;
    let agreed = document.agreed.caches.iter().find(|c| c.name == cache);
    let class = agreed.and_then(|c| view.classes.iter().position(|class| *class == c.replicas));
    let Some(class) = class else { return Survives::default() };
    let segments = u32::from(view.segments);
    let first = u32::try_from(class).unwrap_or(u32::MAX).saturating_mul(segments);
    let mut all = Survives { pod: segments > 0, node: segments > 0, zone: segments > 0 };
    for group in (first..first.saturating_add(segments)).map(GroupId) {
        if group.index() >= view.groups.len() {
            return Survives::default();
        }
        let group = survived(view, &view.owners(group), topology);
        all = Survives { pod: all.pod && group.pod, node: all.node && group.node, zone: all.zone && group.zone };
    }
    all
}

/// What one group survives: a pod when there are two copies, a node or zone when two copies are surely apart. Copies
/// are compared with the first alone, which can only understate.
fn survived(view: &View, owners: &[MemberId], topology: &TopologySpec) -> Survives {
    let places: Vec<&Locality> = owners.iter().filter_map(|id| view.member(*id)).map(|m| &m.locality).collect();
    let Some((first, rest)) = places.split_first() else { return Survives::default() };
    Survives {
        pod: !rest.is_empty(),
        node: rest.iter().any(|other| are_on_two_nodes(first, other)),
        zone: rest.iter().any(|other| are_in_two_zones(first, other, topology)),
    }
}

/// Whether two names of one level are surely different. An empty one is not known, so it is no difference.
fn differ(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && a != b
}

/// A node has one value of each label, so any difference is one of nodes.
fn are_on_two_nodes(a: &Locality, b: &Locality) -> bool {
    differ(&a.site, &b.site) || differ(&a.rack, &b.rack) || differ(&a.machine, &b.machine)
}

/// Only labels that tell zones are asked: racks of another label may stand side by side in one zone.
fn are_in_two_zones(a: &Locality, b: &Locality, topology: &TopologySpec) -> bool {
    let levels = [
        (&topology.site, &a.site, &b.site),
        (&topology.rack, &a.rack, &b.rack),
        (&topology.machine, &a.machine, &b.machine),
    ];
    // A zone is of one region, so two regions are two zones.
    levels.into_iter().any(|(label, a, b)| [ZONE_LABEL, REGION_LABEL].contains(&label.as_str()) && differ(a, b))
}

/// What all clustered caches survive, such as `pod,node`; `nothing` when some survives nothing, empty when the
/// CacheCluster has no clustered cache.
pub(super) fn summary(caches: &[CacheStatus], cluster: &CacheCluster) -> String {
    let clustered = |name: &str| cluster.spec.caches.get(name).is_some_and(|c| c.mode != CacheMode::Local);
    let clustered: Vec<Survives> = caches.iter().filter(|c| clustered(&c.name)).map(|c| c.survives).collect();
    if clustered.is_empty() {
        return String::new();
    }
    let words = [
        ("pod", clustered.iter().all(|s| s.pod)),
        ("node", clustered.iter().all(|s| s.node)),
        ("zone", clustered.iter().all(|s| s.zone)),
    ];
    let survived: Vec<&str> = words.iter().filter(|(_, yes)| *yes).map(|(word, _)| *word).collect();
    if survived.is_empty() { "nothing".to_owned() } else { survived.join(",") }
}
