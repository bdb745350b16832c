//! How members talk: frames, mutual TLS, peer identity, connections and the choice of an address.
//!
//! Start at [`Mesh`]: one incarnation's connections to its peers. [`codec`] holds the frames, [`tls`] the rules of
//! identity, `failure_detection.rs` the thread that pings.

mod accepted;
pub mod address;
pub mod authority;
pub mod clock;
pub mod codec;
mod connection;
mod context;
pub mod counters;
mod data;
mod failure_detection;
pub mod heartbeat;
pub mod identity;
pub mod limits;
pub mod listeners;
pub mod mesh;
pub mod operator_client;
mod outbox;
mod peers;
mod reports;
pub mod service;
pub mod tls;

pub use authority::{Authority, AuthorityError, Leaf, LeafRequest};
pub use clock::Clock;
pub use codec::{CodecError, decode_envelope, encode_envelope};
pub use counters::{Counters, Plane};
pub use heartbeat::Heartbeat;
pub use identity::{MemberIdentity, MemberNames};
pub use limits::NetLimits;
pub use listeners::Listeners;
pub use mesh::{Inbound, Mesh, MeshSettings, NetError};
pub use operator_client::{OperatorClient, OperatorStream};
pub use tls::{TlsConfig, TlsError, TlsMode};
