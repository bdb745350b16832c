//! From settings to what all members must agree on, and from a key to its group.

use sidegrid_config::{Copies, Settings};
use sidegrid_core::document::{Agreed, AgreedCache, HASH_RULE, Timing};
use sidegrid_core::view::Replicas;
use sidegrid_core::{CacheId, GroupId, SegmentId};

use crate::grid::Place;

/// What these settings say that all members must agree on. `local` caches are nobody else's business.
pub(crate) fn agreed(settings: &Settings) -> Agreed {
    let timing = &settings.cluster.timing;
    Agreed {
        segments: settings.cluster.segments,
        hash: HASH_RULE.to_owned(),
        caches: clustered(settings).map(|(name, replicas)| AgreedCache { name: name.to_owned(), replicas }).collect(),
        timing: Timing {
            ping: timing.ping,
            lease: timing.lease,
            suspect: timing.suspect,
            data_suspect: timing.data_suspect,
            orphan_wait: timing.orphan_wait,
        },
    }
}

/// The clustered caches in the order of their ids: by name.
pub(crate) fn clustered(settings: &Settings) -> impl Iterator<Item = (&str, Replicas)> {
    settings.caches.iter().filter_map(|(name, cache)| {
        let replicas = match cache.copies() {
            Copies::Local => return None,
            Copies::All => Replicas::All,
            Copies::Count(count) => Replicas::Count(count),
        };
        Some((name.as_str(), replicas))
    })
}

/// The classes of groups: one for each replica count in use, ascending, as in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    segments: u16,
    replicas: Vec<Replicas>,
    /// Name, id and class of each clustered cache.
    caches: Vec<(String, CacheId, usize)>,
}

impl Classes {
    pub(crate) fn of(settings: &Settings) -> Classes {
        let mut replicas: Vec<Replicas> = clustered(settings).map(|(_, replicas)| replicas).collect();
        replicas.sort_unstable();
        replicas.dedup();
        let caches = clustered(settings)
            .zip(0u16..)
            .filter_map(|((name, count), id)| {
                let class = replicas.binary_search(&count).ok()?;
                Some((name.to_owned(), CacheId(id), class))
            })
            .collect();
        Classes { segments: settings.cluster.segments, replicas, caches }
    }

    /// Id and class of a clustered cache.
    pub(crate) fn cache(&self, name: &str) -> Option<(CacheId, usize)> {
        self.caches.iter().find(|(known, ..)| known == name).map(|&(_, id, class)| (id, class))
    }

    /// Where a key of a cache of this class lives.
    pub(crate) fn place(&self, class: usize, key: &[u8]) -> Place {
        let segment = SegmentId::of(key, self.segments);
        Place { segment, group: GroupId::new(class, segment, self.segments) }
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.replicas.len() * usize::from(self.segments)
    }

    /// Whether there is any clustered cache.
    pub(crate) fn any(&self) -> bool {
        !self.replicas.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use sidegrid_config::{Cache, Mode};

    use super::*;

    fn settings(caches: &[(&str, Mode, Option<u16>)]) -> Settings {
        let mut settings = Settings::default();
        for &(name, mode, owners) in caches {
            settings.caches.insert(name.to_owned(), Cache { mode, owners, ..Cache::default() });
        }
        settings
    }

    #[test]
    fn ids_go_by_name_and_classes_by_replica_count() {
        let settings = settings(&[
            ("z", Mode::Distributed, Some(1)),
            ("a", Mode::Replicated, None),
            ("m", Mode::Local, None),
            ("k", Mode::Distributed, Some(3)),
            ("b", Mode::Distributed, Some(1)),
        ]);
        let names: Vec<_> = agreed(&settings).caches.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b", "k", "z"]);
        let classes = Classes::of(&settings);
        assert_eq!(classes.cache("a"), Some((CacheId(0), 2)));
        assert_eq!(classes.cache("b"), Some((CacheId(1), 0)));
        assert_eq!(classes.cache("k"), Some((CacheId(2), 1)));
        assert_eq!(classes.cache("z"), Some((CacheId(3), 0)));
        assert_eq!(classes.cache("m"), None);
        assert_eq!(classes.groups(), 3 * 256);
        let place = classes.place(2, b"key");
        assert_eq!(place.group.index(), 2 * 256 + usize::from(place.segment.0));
    }

    #[test]
    fn local_caches_alone_need_no_cluster() {
        assert!(!Classes::of(&settings(&[("m", Mode::Local, None)])).any());
    }
}
