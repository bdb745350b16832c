//! TLS.

use sidegrid_core::{ClusterUid, MemberId};

use crate::authority::Leaf;

/// How connections are secured.
#[derive(Clone, Debug)]
pub enum TlsMode {
    /// TLS 1.3 with certificates on both sides.
    Mutual(TlsConfig),
    /// Plain TCP: peers are whom their hello says.
    Disabled,
}

/// Certificates of one incarnation.
#[derive(Clone, Debug)]
pub struct TlsConfig {}

impl TlsConfig {
    /// Trusts leaves of `ca_pem` that name `cluster`, and shows `leaf`.
    ///
    /// # Errors
    /// When a certificate or the key can't be used.
    pub fn new(_ca_pem: &str, _leaf: &Leaf, _cluster: ClusterUid, _me: MemberId) -> Result<TlsConfig, TlsError> {
        unreachable!()
    }
}

/// What is wrong with certificates or a handshake.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {}
