//! TLS of the operator's services: the registry API, whose callers may show a member's leaf, and the webhook.

mod identity;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use identity::{ServiceAuthority, ServiceLeaf, has_names, is_renewal_due};
pub use trust::{MAX_CLUSTERS, Peer, TrustedClusters};

use crate::tls::TlsError;
use trust::LeafVerifier;

/// A connection after its handshake.
pub type ServiceStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The certificate that services show. Shared: what is replaced counts from the next handshake on.
#[derive(Clone)]
pub struct ServiceCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl fmt::Debug for ServiceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCertificate")
    }
}

impl ServiceCertificate {
    /// Shows `leaf`.
    ///
    /// # Errors
    /// [`TlsError::Unusable`] when certificate or key can't be read, or don't belong together.
    pub fn new(leaf: &ServiceLeaf) -> Result<ServiceCertificate, TlsError> {
        Ok(ServiceCertificate(Arc::new(RwLock::new(certified(leaf)?))))
    }

    /// Shows `leaf` from now on.
    ///
    /// # Errors
    /// As of [`ServiceCertificate::new`]; the one before is then shown on.
    pub fn replace(&self, leaf: &ServiceLeaf) -> Result<(), TlsError> {
        let next = certified(leaf)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

fn certified(leaf: &ServiceLeaf) -> Result<Arc<CertifiedKey>, TlsError> {
    let unusable = |e: String| TlsError::Unusable(e);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.cert_pem.as_bytes()).collect();
    let chain = chain.map_err(|e| unusable(e.to_string()))?;
    // What is wrong with a key is not said: it might show a part of it.
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|_| unusable("private key".to_owned()))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    Ok(Arc::new(certified.map_err(|e| unusable(e.to_string()))?))
}

impl ResolvesServerCert for ServiceCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The server's side of a service's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServiceTls(Arc<ServerConfig>);

impl ServiceTls {
    /// For the registry API: TLS 1.3, and a caller may show the leaf of a member of a cluster in `trusted`. A leaf
    /// that is shown and not accepted ends the handshake. Sessions are never resumed, so each connection shows its
    /// leaf afresh.
    ///
    /// # Errors
    /// [`TlsError::Unusable`], never with this crate's own provider.
    pub fn registry(certificate: ServiceCertificate, trusted: TrustedClusters) -> Result<ServiceTls, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| TlsError::Unusable(e.to_string()))?;
        let mut config = builder
            .with_client_cert_verifier(Arc::new(LeafVerifier(trusted)))
            .with_cert_resolver(Arc::new(certificate));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ServiceTls::with_protocols(config))
    }

    /// For the webhook: TLS 1.2 too, since it is the API server that chooses, and no certificate of the caller's.
    ///
    /// # Errors
    /// [`TlsError::Unusable`], never with this crate's own provider.
    pub fn webhook(certificate: ServiceCertificate) -> Result<ServiceTls, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| TlsError::Unusable(e.to_string()))?;
        Ok(ServiceTls::with_protocols(builder.with_no_client_auth().with_cert_resolver(Arc::new(certificate))))
    }

    fn with_protocols(mut config: ServerConfig) -> ServiceTls {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        ServiceTls(Arc::new(config))
    }

    /// The server's side of a handshake; gives who dialed, if it showed a leaf. The caller bounds its time.
    ///
    /// # Errors
    /// [`TlsError`] when the handshake fails.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn accept(&self, tcp: TcpStream) -> Result<(ServiceStream, Option<Peer>), TlsError> {
        let accepting = TlsAcceptor::from(Arc::clone(&self.0)).accept(tcp);
        let stream = accepting.await.map_err(|e| TlsError::of_io(&e))?;
        let peer = Peer::of(&stream)?;
        Ok((stream, peer))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
