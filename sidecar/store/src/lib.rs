//! The sharded in-memory store: entries, expiry, eviction, byte accounting.
//!
//! [`Store`] holds what this member has of the clustered caches, one lock a replica group, and never removes a value
//! by itself: it names what is due and what should go, and the core orders the removals (E-1). [`LocalCache`] is the
//! same machinery for a cache that no other member sees, and does remove by itself.
//!
//! Lock order: a group's lock, then a cache's eviction lock. Who holds an eviction lock only *tries* a group's lock.

mod account;
mod chunks;
mod content_types;
mod deadlines;
mod eviction;
mod evictor;
mod local;
mod packed;
mod settings;
mod shard;
mod slot;
mod store;

pub use account::Figures;
pub use local::{Full, LocalCache, LocalFigures};
pub use settings::{CacheBounds, Policy, StoreSettings, WhenFull};
pub use store::Store;
