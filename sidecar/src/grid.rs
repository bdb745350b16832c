//! The one handle through which HTTP, admin and command line use the grid.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sidegrid_config::Cache;
use sidegrid_core::operation::{Answer, OperationKind, Refusal};
use sidegrid_core::snapshot::Snapshot;
use sidegrid_core::{CacheId, GroupId, SegmentId};

/// A cache as the API sees it.
#[derive(Debug)]
pub(crate) struct CacheHandle {
    /// Its name.
    pub(crate) name: String,
    /// Its settings.
    pub(crate) settings: Cache,
    /// Its id in the document; none for a `local` cache.
    pub(crate) clustered: Option<CacheId>,
}

/// Where a key lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its segment.
    pub(crate) segment: SegmentId,
    /// Its replica group.
    pub(crate) group: GroupId,
}

/// Figures of one cache on this member.
#[derive(Clone, Copy, Debug, Default)]
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
