//! The grid protocol, sans-IO and deterministic.
//!
//! Time is an argument, randomness a seed, and everything that leaves the core is an [`Effect`]. The rules are
//! stated with numbers in `docs/PROTOCOL.md`; code that keeps one names it (`V-3`).
//!
//! Newcomers start at [`crate::core::Core`], then [`event`], then the folders `membership/` (who is in, who may serve) and
//! `data/` (what happens to a write and a read).

pub mod backoff;
pub mod core;
mod data;
pub mod document;
pub mod evaluate;
pub mod event;
pub mod gate;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod member;
mod membership;
pub mod message;
pub mod operation;
mod placement;
pub mod planted_bug;
pub mod recovery;
pub mod rights;
mod sealing;
pub mod snapshot;
mod step_context;
pub mod storage;
pub mod time;
pub mod view;

pub use backoff::Backoff;
pub use data::Kept;
pub use event::{Effect, Effects, Event};
pub use ids::{CacheId, ClusterUid, GroupId, MemberId, SegmentId, Version, ViewNumber};
pub use time::Time;
