//! The cluster's certificate authority and the leaves that it signs.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sidegrid_core::ClusterUid;

use crate::clock::calendar;
use crate::identity::{MemberIdentity, MemberNames};

/// Certificates are valid from this long before they are made, for machines whose calendars differ.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// A certificate authority: whoever holds it can make members. Kept in the registry; the key is never shown.
pub struct Authority {
    /// Its certificate: every member trusts what it signed.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).field("key_pem", &"redacted").finish()
    }
}

impl Authority {
    /// Makes the authority of a new cluster: RSA-2048, since every TLS stack and every auditor's tool takes it. Takes
    /// up to some seconds of processor time: call it off the event loop.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn generate(cluster: ClusterUid, validity: Duration) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(AuthorityError::Generate)?;
        let mut params = dated(validity);
        params.distinguished_name = name(&format!("sidegrid cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(AuthorityError::Sign)?.pem();
        Ok(Authority { cert_pem, key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Takes up an authority that was made before.
    ///
    /// # Errors
    /// When certificate or key can't be read, or don't belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Authority, AuthorityError> {
        let issuer = read_issuer(cert_pem, key_pem)?;
        Ok(Authority { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned(), issuer })
    }

    /// Signs a member's request. Only its public key is taken from it, after its proof that the asker holds the
    /// private one; what the certificate says is `identity` alone. The caller decides that the asker may be that.
    ///
    /// # Errors
    /// When the request is malformed or its proof doesn't hold.
    pub fn sign(
        &self,
        request_pem: &str,
        identity: MemberIdentity,
        validity: Duration,
    ) -> Result<String, AuthorityError> {
        self.sign_uri(request_pem, identity, &identity.to_string(), validity)
    }

    /// As [`Authority::sign`], with where the member runs after the identity in the URI SAN.
    ///
    /// # Errors
    /// As of [`Authority::sign`].
    pub fn sign_named(
        &self,
        request_pem: &str,
        identity: MemberIdentity,
        names: &MemberNames,
        validity: Duration,
    ) -> Result<String, AuthorityError> {
        self.sign_uri(request_pem, identity, &format!("{identity}/{names}"), validity)
    }

    fn sign_uri(
        &self,
        request_pem: &str,
        identity: MemberIdentity,
        uri: &str,
        validity: Duration,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(AuthorityError::Request)?;
        let mut params = dated(validity);
        params.distinguished_name = name(&format!("sidegrid member {}", identity.member));
        let uri = uri.to_owned().try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&request.public_key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(leaf.pem())
    }

    /// Makes a leaf where the authority itself is at hand: the request and its signing in one.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn issue(&self, identity: MemberIdentity, validity: Duration) -> Result<Leaf, AuthorityError> {
        let request = LeafRequest::new()?;
        let cert_pem = self.sign(&request.request_pem()?, identity, validity)?;
        request.into_leaf(&cert_pem)
    }
}

/// A member's new key (ECDSA P-256) and the request to certify it. The key never leaves the process that made it.
pub struct LeafRequest {
    key: KeyPair,
}

impl fmt::Debug for LeafRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafRequest")
    }
}

impl LeafRequest {
    /// Makes a key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<LeafRequest, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Generate)?;
        Ok(LeafRequest { key })
    }

    /// The PKCS #10 request, signed with the key. It names nobody: the signer decides.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn request_pem(&self) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&self.key).and_then(|request| request.pem()).map_err(AuthorityError::Sign)
    }

    /// Joins the key with the certificate that was signed for it.
    ///
    /// # Errors
    /// When the certificate can't be read or is for another key.
    pub fn into_leaf(self, cert_pem: &str) -> Result<Leaf, AuthorityError> {
        let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| AuthorityError::Certificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&cert).map_err(|_| AuthorityError::Certificate)?;
        if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&self.key) {
            return Err(AuthorityError::Mismatch);
        }
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Ok(Leaf { cert, key: PrivateKeyDer::Pkcs8(key) })
    }
}

/// A member's certificate and key. The key is never shown.
pub struct Leaf {
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

/// What signs for an authority that was made before: certificate and key that can be read and belong together.
pub(crate) fn read_issuer(cert_pem: &str, key_pem: &str) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Key)?;
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| AuthorityError::Certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| AuthorityError::Certificate)?;
    if !parsed.is_ca() {
        return Err(AuthorityError::Certificate);
    }
    if parsed.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err(AuthorityError::Mismatch);
    }
    Issuer::from_ca_cert_der(&der, key).map_err(|_| AuthorityError::Certificate)
}

/// Params that are valid from a little before now for `validity` from now.
pub(crate) fn dated(validity: Duration) -> CertificateParams {
    let now = calendar();
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + validity).into();
    params
}

pub(crate) fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// An authority, key or certificate that can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// No key could be made.
    #[error("can't make a key: {0}")]
    Generate(rcgen::Error),
    /// Nothing could be signed.
    #[error("can't sign: {0}")]
    Sign(rcgen::Error),
    /// The private key can't be read. What was wrong with it is not said: it might show a part of it.
    #[error("can't read the private key")]
    Key(#[source] rcgen::Error),
    /// The certificate can't be read, or is not an authority's where one is wanted.
    #[error("can't use the certificate")]
    Certificate,
    /// The certificate is for another key.
    #[error("certificate and key don't belong together")]
    Mismatch,
    /// The request is malformed, or not signed with the key that it asks for.
    #[error("can't use the certificate request: {0}")]
    Request(rcgen::Error),
}

impl AuthorityError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            AuthorityError::Generate(_) => "key-generation",
            AuthorityError::Sign(_) => "signing",
            AuthorityError::Key(_) => "bad-key",
            AuthorityError::Certificate => "bad-certificate",
            AuthorityError::Mismatch => "key-mismatch",
            AuthorityError::Request(_) => "bad-request",
        }
    }
}

#[cfg(test)]
mod tests {
    use sidegrid_core::MemberId;

    use super::*;

    const CLUSTER: ClusterUid = ClusterUid(0xc1);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_authority_read_back_signs_what_the_first_one_trusts() {
        let made = Authority::generate(CLUSTER, DAY).unwrap();
        let read = Authority::from_pem(&made.cert_pem, &made.key_pem).unwrap();
        let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(0xab) };
        let request = LeafRequest::new().unwrap();
        let cert_pem = read.sign(&request.request_pem().unwrap(), identity, DAY).unwrap();
        let leaf = request.into_leaf(&cert_pem).unwrap();

        let ca = CertificateDer::from_pem_slice(made.cert_pem.as_bytes()).unwrap();
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
        let (_, cert) = x509_parser::parse_x509_certificate(&leaf.cert).unwrap();
        assert_eq!(cert.issuer(), ca.subject());
        assert_eq!(ca.public_key().parsed().unwrap().key_size(), 2048);
        assert!(!cert.is_ca());
        let eku = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(eku.client_auth && eku.server_auth);
        let now = i64::try_from(calendar().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        assert!(cert.validity().not_before.timestamp() <= now - 3_500, "backdated");
        assert!(cert.validity().not_after.timestamp() >= now + 86_000);
    }

    #[test]
    fn keys_are_not_shown() {
        let authority = Authority::generate(CLUSTER, DAY).unwrap();
        let secret = authority.key_pem.lines().nth(1).unwrap();
        assert!(!format!("{authority:?}").contains(secret));
        let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(1) };
        assert_eq!(format!("{:?}", authority.issue(identity, DAY).unwrap()), "Leaf");
        assert_eq!(format!("{:?}", LeafRequest::new().unwrap()), "LeafRequest");
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (one, two) = (Authority::generate(CLUSTER, DAY).unwrap(), Authority::generate(CLUSTER, DAY).unwrap());
        let reason = |cert: &str, key: &str| Authority::from_pem(cert, key).unwrap_err().reason();
        assert_eq!(reason(&one.cert_pem, &two.key_pem), "key-mismatch");
        assert_eq!(reason("nonsense", &one.key_pem), "bad-certificate");
        assert_eq!(reason(&one.cert_pem, "nonsense"), "bad-key");

        let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(1) };
        let request = LeafRequest::new().unwrap();
        let for_another = one.sign(&LeafRequest::new().unwrap().request_pem().unwrap(), identity, DAY).unwrap();
        assert_eq!(request.into_leaf(&for_another).unwrap_err().reason(), "key-mismatch");

        // A leaf is no authority, even with its own key.
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let leaf = one.sign(&csr, identity, DAY).unwrap();
        assert_eq!(reason(&leaf, &key.serialize_pem()), "bad-certificate");
    }

    #[test]
    fn a_request_must_be_signed_with_its_own_key_and_names_nobody() {
        let authority = Authority::generate(CLUSTER, DAY).unwrap();
        let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(1) };
        // A request that asks to be somebody else is signed as who it is.
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let other = MemberIdentity { cluster: CLUSTER, member: MemberId(2) };
        params.subject_alt_names = vec![SanType::URI(other.to_string().try_into().unwrap())];
        let csr = params.serialize_request(&key).unwrap();
        let cert = authority.sign(&csr.pem().unwrap(), identity, DAY).unwrap();
        let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&cert);
        assert!(text.contains(&identity.to_string()) && !text.contains(&other.to_string()));

        // One letter of the signature changed.
        let mut damaged: Vec<char> = csr.pem().unwrap().chars().collect();
        let at = damaged.iter().collect::<String>().find("-----END").unwrap() - 12;
        damaged[at] = if damaged[at] == 'A' { 'B' } else { 'A' };
        let damaged: String = damaged.into_iter().collect();
        assert_eq!(authority.sign(&damaged, identity, DAY).unwrap_err().reason(), "bad-request");
    }
}
