//! How members talk: frames, mutual TLS, peer identity, connections and the choice of an address.
//!
//! Start at [`Mesh`]: one incarnation's connections to its peers. [`codec`] holds the frames, [`tls`] the rules of
//! identity, `failure_detection.rs` the thread that pings.

mod accept;
mod accepted;
pub mod address;
pub mod authority;
pub mod clock;
pub mod codec;
mod connection;
pub mod counters;
mod data;
mod failure_detection;
mod handshakes;
pub mod heartbeat;
pub mod identity;
pub mod inbound;
pub mod limits;
mod links;
pub mod listeners;
pub mod mesh;
mod mesh_state;
pub mod operator_client;
mod outbox;
mod peers;
mod pings;
pub mod plane;
mod reports;
pub mod service;
pub mod tls;

pub use authority::{Authority, AuthorityError, Leaf, LeafRequest};
pub use clock::Clock;
pub use codec::{CodecError, decode_envelope, encode_envelope};
pub use counters::Counters;
pub use heartbeat::Heartbeat;
pub use identity::{MemberIdentity, MemberNames};
pub use inbound::{Inbound, InboundPermit};
pub use limits::{LaneLimits, NetLimits};
pub use listeners::Listeners;
pub use mesh::{Mesh, MeshSettings, NetError};
pub use operator_client::{OperatorClient, OperatorStream};
pub use plane::Plane;
pub use tls::{TlsConfig, TlsError, TlsMode};
