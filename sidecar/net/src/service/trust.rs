//! Which cluster's members a service lets in: the cluster that a leaf names decides which authorities may have signed
//! it, so that the authority of one cluster can't make a member of another.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use sidegrid_core::ClusterUid;
use tokio_rustls::server::TlsStream;

use crate::identity::{MemberIdentity, MemberNames};
use crate::tls::{TlsError, uri_of};

/// The most clusters that one service knows.
pub const MAX_CLUSTERS: usize = 4096;

/// Who is at the other end of a connection, proved by its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Cluster and member.
    pub identity: MemberIdentity,
    /// Where it runs, for logs.
    pub names: Option<MemberNames>,
}

impl Peer {
    pub(super) fn of<IO>(stream: &TlsStream<IO>) -> Result<Option<Peer>, TlsError> {
        let certs = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let Some(leaf) = certs.first() else { return Ok(None) };
        let uri = uri_of(leaf)?;
        let identity = uri.parse().map_err(|_| TlsError::NoIdentity)?;
        Ok(Some(Peer { identity, names: MemberNames::of_uri(&uri) }))
    }
}

/// The authorities of each cluster. Shared: what is set counts from the next handshake on.
#[derive(Clone)]
pub struct TrustedClusters {
    provider: Arc<CryptoProvider>,
    clusters: Arc<RwLock<HashMap<ClusterUid, Arc<dyn ClientCertVerifier>>>>,
}

impl fmt::Debug for TrustedClusters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedClusters").field("clusters", &self.count()).finish()
    }
}

impl Default for TrustedClusters {
    fn default() -> TrustedClusters {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        TrustedClusters { provider, clusters: Arc::default() }
    }
}

impl TrustedClusters {
    /// Trusts the authorities in `authorities_pem` (several while one takes over from another) for `cluster`, instead
    /// of what it was trusted for before.
    ///
    /// # Errors
    /// [`TlsError::Unusable`] when they can't be read, there is none, or [`MAX_CLUSTERS`] are known already; the
    /// earlier ones then stay.
    pub fn set(&self, cluster: ClusterUid, authorities_pem: &str) -> Result<(), TlsError> {
        let unusable = |e: String| TlsError::Unusable(e);
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
            let cert = cert.map_err(|e| unusable(e.to_string()))?;
            roots.add(cert).map_err(|e| unusable(e.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider)).build();
        let verifier = verifier.map_err(|e| unusable(e.to_string()))?;
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        if clusters.len() >= MAX_CLUSTERS && !clusters.contains_key(&cluster) {
            return Err(unusable(format!("more than {MAX_CLUSTERS} clusters")));
        }
        clusters.insert(cluster, verifier);
        Ok(())
    }

    /// Trusts nobody for `cluster` from now on.
    pub fn remove(&self, cluster: ClusterUid) {
        self.clusters.write().unwrap_or_else(PoisonError::into_inner).remove(&cluster);
    }

    /// Trusts nobody for a cluster that `keep` doesn't want.
    pub fn retain(&self, keep: impl Fn(ClusterUid) -> bool) {
        self.clusters.write().unwrap_or_else(PoisonError::into_inner).retain(|cluster, _| keep(*cluster));
    }

    /// Whether anybody is trusted for `cluster`.
    #[must_use]
    pub fn contains(&self, cluster: ClusterUid) -> bool {
        self.verifier(cluster).is_some()
    }

    fn count(&self) -> usize {
        self.clusters.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn verifier(&self, cluster: ClusterUid) -> Option<Arc<dyn ClientCertVerifier>> {
        self.clusters.read().unwrap_or_else(PoisonError::into_inner).get(&cluster).cloned()
    }
}

/// Judges a leaf, if one is shown.
#[derive(Debug)]
pub(super) struct LeafVerifier(pub(super) TrustedClusters);

impl ClientCertVerifier for LeafVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: there may be thousands, and a sidecar has but one leaf to show.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // What the leaf says is not believed yet: it only chooses who must have signed it.
        let says = uri_of(leaf).and_then(|uri| uri.parse::<MemberIdentity>().map_err(|_| TlsError::NoIdentity));
        let says = says.map_err(TlsError::into_rustls)?;
        let chains = self.0.verifier(says.cluster).ok_or_else(|| TlsError::UnknownIssuer.into_rustls())?;
        chains.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}
