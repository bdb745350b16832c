//! The certificates that the operator's services show: an authority of their own, and leaves with DNS names.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::authority::{AuthorityError, dated, name, read_issuer};
use crate::clock::seconds_since_1970;

/// The authority that signs a service's leaves: ECDSA P-256, which every client of Kubernetes takes.
pub struct ServiceAuthority {
    /// Its certificate.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for ServiceAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAuthority").field("cert_pem", &self.cert_pem).field("key_pem", &"redacted").finish()
    }
}

/// A service's leaf and its key. The key is never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceLeaf {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
}

impl fmt::Debug for ServiceLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceLeaf").field("cert_pem", &self.cert_pem).field("key_pem", &"redacted").finish()
    }
}

impl ServiceAuthority {
    /// Makes one, named `common`.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn generate(common: &str, validity: Duration) -> Result<ServiceAuthority, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Generate)?;
        let mut params = dated(validity);
        params.distinguished_name = name(common);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).map_err(AuthorityError::Sign)?.pem();
        Ok(ServiceAuthority { cert_pem, key_pem: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Takes up one that was made before.
    ///
    /// # Errors
    /// When certificate or key can't be read, or don't belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<ServiceAuthority, AuthorityError> {
        let issuer = read_issuer(cert_pem, key_pem)?;
        Ok(ServiceAuthority { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned(), issuer })
    }

    /// Makes a leaf for a server of these DNS names.
    ///
    /// # Errors
    /// When the key can't be made or a name is no DNS name.
    pub fn issue(&self, dns_names: &[String], validity: Duration) -> Result<ServiceLeaf, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Generate)?;
        let mut params = dated(validity);
        params.distinguished_name = name(dns_names.first().map_or("sidegrid", String::as_str));
        for dns in dns_names {
            params.subject_alt_names.push(SanType::DnsName(dns.clone().try_into().map_err(AuthorityError::Sign)?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(ServiceLeaf { cert_pem: leaf.pem(), key_pem: key.serialize_pem() })
    }
}

/// Whether two thirds of a certificate's life are over, by this machine's calendar.
///
/// # Errors
/// [`AuthorityError::Certificate`] when it can't be read.
pub fn is_renewal_due(cert_pem: &str) -> Result<bool, AuthorityError> {
    is_renewal_due_at(cert_pem, seconds_since_1970())
}

/// `now` in seconds since 1970.
fn is_renewal_due_at(cert_pem: &str, now: i64) -> Result<bool, AuthorityError> {
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| AuthorityError::Certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| AuthorityError::Certificate)?;
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    Ok(now >= from + (to - from) / 3 * 2)
}

/// Whether a leaf has exactly these DNS names.
///
/// # Errors
/// [`AuthorityError::Certificate`] when it can't be read.
pub fn has_names(cert_pem: &str, dns_names: &[String]) -> Result<bool, AuthorityError> {
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| AuthorityError::Certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| AuthorityError::Certificate)?;
    let names = parsed.subject_alternative_name().map_err(|_| AuthorityError::Certificate)?;
    let mut found: Vec<&str> = Vec::new();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        if let x509_parser::extensions::GeneralName::DNSName(name) = name {
            found.push(name);
        }
    }
    let mut wanted: Vec<&str> = dns_names.iter().map(String::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    Ok(found == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_leaf_has_the_names_asked_for_and_is_due_after_two_thirds() {
        let made = ServiceAuthority::generate("sidegrid operator", DAY).unwrap();
        let read = ServiceAuthority::from_pem(&made.cert_pem, &made.key_pem).unwrap();
        let names = ["sidegrid-operator".to_owned(), "sidegrid-operator.sidegrid-system.svc".to_owned()];
        let leaf = read.issue(&names, 90 * DAY).unwrap();
        assert!(has_names(&leaf.cert_pem, &names).unwrap());
        assert!(!has_names(&leaf.cert_pem, &names[..1]).unwrap());
        assert!(!is_renewal_due(&leaf.cert_pem).unwrap());
        let at = |days: i64| seconds_since_1970() + days * 86_400;
        assert!(!is_renewal_due_at(&leaf.cert_pem, at(59)).unwrap());
        assert!(is_renewal_due_at(&leaf.cert_pem, at(61)).unwrap());
        assert!(is_renewal_due("nonsense").is_err());
    }

    #[test]
    fn keys_are_not_shown_and_must_fit() {
        let one = ServiceAuthority::generate("a", DAY).unwrap();
        let two = ServiceAuthority::generate("b", DAY).unwrap();
        let secret = one.key_pem.lines().nth(1).unwrap();
        assert!(!format!("{one:?}").contains(secret));
        let leaf = one.issue(&["a".to_owned()], DAY).unwrap();
        assert!(!format!("{leaf:?}").contains(leaf.key_pem.lines().nth(1).unwrap()));
        assert_eq!(ServiceAuthority::from_pem(&one.cert_pem, &two.key_pem).unwrap_err().reason(), "key-mismatch");
        assert_eq!(ServiceAuthority::from_pem(&leaf.cert_pem, &leaf.key_pem).unwrap_err().reason(), "bad-certificate");
    }
}
