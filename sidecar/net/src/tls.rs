//! Mutual TLS 1.3, and whom a certificate lets in.
//!
//! A chain is judged by webpki against the cluster's authority alone; no host name plays a part. Then the leaf's URI
//! SAN must name this cluster, and when a known member is dialed, that member. Sessions are never resumed, so each
//! connection shows its certificate afresh.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};
use sidegrid_core::{ClusterUid, MemberId};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use x509_parser::extensions::GeneralName;

use crate::authority::Leaf;
use crate::clock::seconds_since_1970;
use crate::identity::{MemberIdentity, SCHEME};

/// How connections are secured.
#[derive(Clone, Debug)]
pub enum TlsMode {
    /// TLS 1.3 with certificates on both sides.
    Mutual(TlsConfig),
    /// Plain TCP: peers are whom their hello says. For networks that secure themselves; a mesh warns of it.
    Disabled,
}

/// What one incarnation trusts and shows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    cluster: ClusterUid,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    own: Arc<SingleCertAndKey>,
    /// Between which times our own certificate is valid, in seconds since 1970.
    valid: (i64, i64),
    server: Arc<ServerConfig>,
}

impl TlsConfig {
    /// Trusts leaves signed by the authorities in `ca_pem` (several while one takes over from another) that name
    /// `cluster`, and shows `leaf`, which must name `me` in `cluster`.
    ///
    /// # Errors
    /// When a certificate or the key can't be used, or the leaf is another's.
    pub fn new(ca_pem: &str, leaf: &Leaf, cluster: ClusterUid, me: MemberId) -> Result<TlsConfig, TlsError> {
        let unusable = |e: rustls::Error| TlsError::Unusable(e.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let cert = cert.map_err(|e| TlsError::Unusable(e.to_string()))?;
            roots.add(cert).map_err(unusable)?;
        }
        if roots.is_empty() {
            return Err(TlsError::Unusable("no certificate authority".to_owned()));
        }
        check_identity(&leaf.cert, cluster, Some(me))?;
        let key = provider.key_provider.load_private_key(leaf.key.clone_key()).map_err(unusable)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![leaf.cert.clone()], key)));

        let roots = Arc::new(roots);
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let chains = chains.map_err(|e| TlsError::Unusable(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(DialerVerifier { chains, cluster }))
            .with_cert_resolver(Arc::clone(&own) as _);
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(TlsConfig { cluster, provider, roots, own, valid: validity(&leaf.cert)?, server: Arc::new(server) })
    }

    /// Whether our own certificate is valid by this machine's calendar.
    pub(crate) fn is_in_date(&self) -> bool {
        let now = seconds_since_1970();
        (self.valid.0..=self.valid.1).contains(&now)
    }

    /// The server's side of a handshake; gives who dialed.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, MemberIdentity), TlsError> {
        let accepting = TlsAcceptor::from(Arc::clone(&self.server)).accept(tcp);
        let stream = TlsStream::from(accepting.await.map_err(|e| TlsError::of_io(&e))?);
        let identity = peer_identity(&stream)?;
        Ok((stream, identity))
    }

    /// The client's side of a handshake with a known member.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub(crate) async fn dial(
        &self,
        tcp: TcpStream,
        peer: IpAddr,
        expected: MemberId,
    ) -> Result<(TlsStream<TcpStream>, MemberIdentity), TlsError> {
        let config = self.client(expected)?;
        let dialing = TlsConnector::from(config).connect(ServerName::IpAddress(peer.into()), tcp);
        let stream = TlsStream::from(dialing.await.map_err(|e| TlsError::of_io(&e))?);
        let identity = peer_identity(&stream)?;
        Ok((stream, identity))
    }

    fn client(&self, expected: MemberId) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = ListenerVerifier {
            cluster: self.cluster,
            expected,
            provider: Arc::clone(&self.provider),
            roots: Arc::clone(&self.roots),
        };
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| TlsError::Unusable(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.own) as _);
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Arc::new(client))
    }
}

fn validity(cert: &CertificateDer<'_>) -> Result<(i64, i64), TlsError> {
    let (_, cert) = x509_parser::parse_x509_certificate(cert).map_err(|e| TlsError::Unusable(e.to_string()))?;
    Ok((cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp()))
}

fn peer_identity(stream: &TlsStream<TcpStream>) -> Result<MemberIdentity, TlsError> {
    let certs = stream.get_ref().1.peer_certificates().unwrap_or_default();
    identity_of(certs.first().ok_or(TlsError::NoCertificate)?)
}

/// Who the leaf says its holder is. Exactly one identity URI, or none: two would let the reader choose.
fn identity_of(leaf: &CertificateDer<'_>) -> Result<MemberIdentity, TlsError> {
    uri_of(leaf)?.parse().map_err(|_| TlsError::NoIdentity)
}

/// The leaf's one identity URI.
pub(crate) fn uri_of(leaf: &CertificateDer<'_>) -> Result<String, TlsError> {
    let (_, cert) = x509_parser::parse_x509_certificate(leaf).map_err(|_| TlsError::NoIdentity)?;
    let names = cert.subject_alternative_name().ok().flatten().ok_or(TlsError::NoIdentity)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.to_owned()),
        _ => Err(TlsError::NoIdentity),
    }
}

fn check_identity(
    leaf: &CertificateDer<'_>,
    cluster: ClusterUid,
    expected: Option<MemberId>,
) -> Result<MemberIdentity, TlsError> {
    let identity = identity_of(leaf)?;
    if identity.cluster != cluster {
        return Err(TlsError::ForeignCluster { theirs: identity.cluster, ours: cluster });
    }
    match expected {
        Some(expected) if expected != identity.member => {
            Err(TlsError::UnexpectedMember { found: identity.member, expected })
        }
        _ => Ok(identity),
    }
}

/// Judges who dials us: webpki the chain, this the cluster.
#[derive(Debug)]
struct DialerVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    cluster: ClusterUid,
}

impl ClientCertVerifier for DialerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chains.verify_client_cert(leaf, intermediates, now)?;
        check_identity(leaf, self.cluster, None).map_err(TlsError::into_rustls)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Judges whom we dialed: webpki the chain, this the cluster and the member.
#[derive(Debug)]
struct ListenerVerifier {
    cluster: ClusterUid,
    expected: MemberId,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
}

impl ServerCertVerifier for ListenerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        check_identity(leaf, self.cluster, Some(self.expected)).map_err(TlsError::into_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What is wrong with certificates or a handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The peer showed no certificate.
    #[error("no certificate")]
    NoCertificate,
    /// The peer's certificate was not signed by this cluster's authority.
    #[error("certificate of an unknown issuer")]
    UnknownIssuer,
    /// The peer's certificate has expired.
    #[error("certificate expired")]
    Expired,
    /// The peer's certificate is not valid yet.
    #[error("certificate not valid yet")]
    NotYetValid,
    /// The certificate names no member, or more than one.
    #[error("certificate without exactly one sidegrid:// identity")]
    NoIdentity,
    /// The certificate is of a member of another cluster.
    #[error("certificate of foreign cluster {theirs}, this is {ours}")]
    ForeignCluster {
        /// As in the certificate.
        theirs: ClusterUid,
        /// This cluster.
        ours: ClusterUid,
    },
    /// Another member is where the expected one should be.
    #[error("unexpected member {found}, {expected} was dialed")]
    UnexpectedMember {
        /// As in the certificate.
        found: MemberId,
        /// Who was dialed.
        expected: MemberId,
    },
    /// The peer did not take our certificate or handshake, and said why.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The connection ended within the handshake.
    #[error("connection lost in the handshake: {0}")]
    Lost(io::ErrorKind),
    /// Anything else that is wrong with the handshake.
    #[error("handshake failed: {0}")]
    Handshake(String),
    /// Our own certificates or key can't be used.
    #[error("certificate or key can't be used: {0}")]
    Unusable(String),
}

impl TlsError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            TlsError::NoCertificate => "no-certificate",
            TlsError::UnknownIssuer => "unknown-issuer",
            TlsError::Expired => "certificate-expired",
            TlsError::NotYetValid => "certificate-not-yet-valid",
            TlsError::NoIdentity => "no-identity",
            TlsError::ForeignCluster { .. } => "foreign-cluster",
            TlsError::UnexpectedMember { .. } => "unexpected-member",
            TlsError::Refused(_) => "refused-by-peer",
            TlsError::Lost(_) => "lost-in-handshake",
            TlsError::Handshake(_) => "handshake-failed",
            TlsError::Unusable(_) => "certificate-unusable",
        }
    }

    /// What a stream's error means: rustls puts its own inside.
    pub(crate) fn of_io(error: &io::Error) -> TlsError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => TlsError::of_rustls(inner),
            None => TlsError::Lost(error.kind()),
        }
    }

    fn of_rustls(error: &rustls::Error) -> TlsError {
        use CertificateError as Cert;
        match error {
            rustls::Error::NoCertificatesPresented => TlsError::NoCertificate,
            rustls::Error::AlertReceived(AlertDescription::CloseNotify) => TlsError::Lost(io::ErrorKind::UnexpectedEof),
            rustls::Error::AlertReceived(alert) => TlsError::Refused(format!("{alert:?}")),
            rustls::Error::InvalidCertificate(Cert::UnknownIssuer | Cert::BadSignature) => TlsError::UnknownIssuer,
            rustls::Error::InvalidCertificate(Cert::Expired | Cert::ExpiredContext { .. }) => TlsError::Expired,
            rustls::Error::InvalidCertificate(Cert::NotValidYet | Cert::NotValidYetContext { .. }) => {
                TlsError::NotYetValid
            }
            rustls::Error::InvalidCertificate(Cert::Other(OtherError(inner))) => match inner.downcast_ref::<TlsError>()
            {
                Some(own) => own.clone(),
                None => TlsError::Handshake(error.to_string()),
            },
            other => TlsError::Handshake(other.to_string()),
        }
    }

    /// As a verifier's verdict; [`TlsError::of_rustls`] finds it again.
    pub(crate) fn into_rustls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(self))))
    }
}
