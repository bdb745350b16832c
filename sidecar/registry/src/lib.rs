//! The registry: the one arbiter of views, one file a kind.
//!
//! A registry holds one [`Document`](sidegrid_core::document::Document) for a cluster, changed only by
//! compare-and-swap, and the secret of the cluster's certificate authority. [`Registry`] is the contract; every kind
//! passes the suite in `tests/conformance`. [`FileRegistry`] is the kind for members that share a machine,
//! [`OperatorRegistry`] the one for members in pods.
//!
//! Also here, since it rests on the same file locks: [`NameLock`], by which an incarnation proves that the one before
//! it has ended (P-1).

pub mod api;
mod codec;
mod error;
mod file;
mod file_lock;
mod folder;
mod machine;
mod name_lock;
mod operator;
mod registry;
mod secret;

pub use codec::{DocumentCodecError, MAX_DOCUMENT_BYTES, OLDEST_FORMAT, check_swap, decode, encode};
pub use error::RegistryError;
pub use file::FileRegistry;
pub use machine::{boot_id, machine_id};
pub use name_lock::{NameLock, NameLockError, NameLockState};
pub use operator::{DEADLINE_HEADER, Dial, Enrol, OperatorLimits, OperatorRegistry, OperatorSettings, Stream};
pub use registry::{Registry, Swap};
pub use secret::{MAX_SECRET_BYTES, Secret};
