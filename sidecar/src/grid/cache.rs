//! A cache as the API sees it: `local` ones with their own store, clustered ones with their place in the document.

use bytes::Bytes;
use parking_lot::Mutex;
use rand::random;
use sidegrid_config::{Cache, WhenFull};
use sidegrid_core::limits::Limits;
use sidegrid_core::operation::{Applied, Idempotency, OperationKind, Outcome, Refusal, RefusalReason};
use sidegrid_core::{CacheId, Time};
use sidegrid_store::{CacheBounds, LocalCache, Policy, Store};

use crate::agreed::Classes;
use crate::grid::counters::CacheCounters;
use crate::grid::remembered::Remembered;

/// A cache as the API sees it.
#[derive(Debug)]
pub(crate) struct CacheHandle {
    /// Its name.
    pub(crate) name: String,
    /// Its settings.
    pub(crate) settings: Cache,
    /// Its place in the cluster; none for a `local` cache.
    pub(crate) clustered: Option<Clustered>,
    /// Its own store, for a `local` cache.
    pub(super) local: Option<Local>,
}

/// A clustered cache's place.
#[derive(Debug)]
pub(crate) struct Clustered {
    /// Its id in the document.
    pub(crate) id: CacheId,
    /// The class of its groups.
    pub(crate) class: usize,
    /// What happened to it here.
    pub(crate) counters: CacheCounters,
}

/// Figures of one cache on this member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheFigures {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stores: u64,
    pub(crate) removes: u64,
    pub(crate) evictions: u64,
    pub(crate) expirations: u64,
}

impl CacheHandle {
    pub(super) fn new(name: &str, settings: &Cache, classes: &Classes) -> CacheHandle {
        let clustered =
            classes.cache(name).map(|(id, class)| Clustered { id, class, counters: CacheCounters::default() });
        let local = clustered.is_none().then(|| Local::new(settings));
        CacheHandle { name: name.to_owned(), settings: settings.clone(), clustered, local }
    }

    /// Removes up to `max` expired entries of a `local` cache. True when there may be more.
    pub(crate) fn sweep(&self, now: Time, max: usize) -> bool {
        self.local.as_ref().is_some_and(|local| {
            local.forget_results(now);
            local.cache.sweep(now, max) >= max
        })
    }

    pub(super) fn figures(&self, store: Option<&Store>) -> CacheFigures {
        match (&self.local, &self.clustered) {
            (Some(local), _) => local.figures(),
            (None, Some(clustered)) => {
                let held = store.map(|store| store.figures(clustered.id)).unwrap_or_default();
                let counters = &clustered.counters;
                CacheFigures {
                    entries: held.entries,
                    bytes: held.bytes,
                    hits: counters.hits.get(),
                    misses: counters.misses.get(),
                    stores: counters.stores.get(),
                    removes: counters.removes.get(),
                    evictions: counters.evictions.get(),
                    expirations: counters.expirations.get(),
                }
            }
            (None, None) => CacheFigures::default(),
        }
    }
}

/// The bounds that a cache's settings ask for.
pub(crate) fn bounds(settings: &Cache) -> CacheBounds {
    CacheBounds {
        max_entries: settings.max_entries,
        max_bytes: settings.max_bytes,
        when_full: match settings.when_full {
            WhenFull::Evict => sidegrid_store::WhenFull::Evict,
            WhenFull::Reject => sidegrid_store::WhenFull::Reject,
        },
        policy: Policy::default(),
    }
}

/// Locks of a `local` cache.
const LOCAL_SHARDS: usize = 16;

/// The store of a `local` cache, and the results of its operations with an `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct Local {
    cache: LocalCache,
    remembered: Mutex<Remembered>,
}

impl Local {
    fn new(settings: &Cache) -> Local {
        Local {
            cache: LocalCache::new(bounds(settings), LOCAL_SHARDS, random()),
            remembered: Mutex::new(Remembered::new(Limits::default().keyed_result_life)),
        }
    }

    pub(super) fn execute(
        &self,
        key: &Bytes,
        kind: &OperationKind,
        idempotency: Option<Idempotency>,
        now: Time,
    ) -> Result<Outcome, Refusal> {
        let execute = || {
            self.cache
                .execute(key, kind, now)
                .map_err(|_full| Refusal { reason: RefusalReason::Full, applied: Applied::No })
        };
        let Some(idempotency) = idempotency.filter(|_| !kind.is_read()) else { return execute() };
        // Held over the operation, so that two attempts at one time apply once (O-1).
        let mut remembered = self.remembered.lock();
        let before = remembered.bytes();
        let result = remembered.look_up(idempotency, now).and_then(|known| match known {
            Some(outcome) => Ok(outcome),
            None => {
                let entry = xxhash_rust::xxh3::xxh3_64(key);
                remembered.check_budget(entry, self.cache.results_budget())?;
                let outcome = execute()?;
                remembered.insert(idempotency, entry, outcome.clone(), now);
                Ok(outcome)
            }
        });
        let bytes = remembered.bytes();
        drop(remembered);
        self.cache.charge(bytes.cast_signed() - before.cast_signed());
        result
    }

    /// Forgets results whose time is over.
    fn forget_results(&self, now: Time) {
        let mut remembered = self.remembered.lock();
        let before = remembered.bytes();
        remembered.prune(now);
        let bytes = remembered.bytes();
        drop(remembered);
        if bytes != before {
            self.cache.charge(bytes.cast_signed() - before.cast_signed());
        }
    }

    fn figures(&self) -> CacheFigures {
        let figures = self.cache.figures();
        CacheFigures {
            entries: figures.held.entries,
            bytes: figures.held.bytes,
            hits: figures.hits,
            misses: figures.misses,
            stores: figures.stores,
            removes: figures.removes,
            evictions: figures.evictions,
            expirations: figures.expirations,
        }
    }
}
