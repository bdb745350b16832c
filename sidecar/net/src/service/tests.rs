use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sidegrid_core::{ClusterUid, MemberId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::authority::{Authority, Leaf, LeafRequest};
use crate::identity::{MemberIdentity, MemberNames};

const DAY: Duration = Duration::from_secs(86_400);
const A: ClusterUid = ClusterUid(0xa);
const B: ClusterUid = ClusterUid(0xb);
const NAME: &str = "sidegrid-operator.sidegrid-system.svc";

fn serving() -> (ServiceAuthority, ServiceCertificate) {
    let authority = ServiceAuthority::generate("sidegrid operator", DAY).unwrap();
    let leaf = authority.issue(&[NAME.to_owned()], DAY).unwrap();
    (authority, ServiceCertificate::new(&leaf).unwrap())
}

fn leaf(authority: &Authority, cluster: ClusterUid) -> Leaf {
    let request = LeafRequest::new().unwrap();
    let identity = MemberIdentity { cluster, member: MemberId(7) };
    let names = MemberNames::new("shop", "web", "web-1").unwrap();
    let cert = authority.sign_named(&request.request_pem().unwrap(), identity, &names, DAY).unwrap();
    request.into_leaf(&cert).unwrap()
}

fn client(
    authority: &ServiceAuthority,
    leaf: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match leaf {
        Some(leaf) => builder.with_client_auth_cert(vec![leaf.cert.clone()], leaf.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// One handshake and one byte each way, so that the client has seen what the server makes of its leaf.
async fn meet(tls: &ServiceTls, config: ClientConfig) -> Result<Option<Peer>, TlsError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let (mut stream, peer) = tls.accept(tcp).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(b"x").await.unwrap();
        Ok(peer)
    };
    let dialing = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        stream.read_u8().await
    };
    let both = async { tokio::join!(server, dialing) };
    let (served, dialed) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(served.is_ok(), dialed.is_ok(), "{served:?} {dialed:?}");
    served
}

#[tokio::test]
async fn a_leaf_lets_in_only_who_the_cluster_that_it_names_has_signed() {
    let (serving, certificate) = serving();
    let trusted = TrustedClusters::default();
    let (a, b) = (Authority::generate(A, DAY).unwrap(), Authority::generate(B, DAY).unwrap());
    trusted.set(A, &a.cert_pem).unwrap();
    trusted.set(B, &b.cert_pem).unwrap();
    let tls = ServiceTls::registry(certificate, trusted.clone()).unwrap();
    let with = |leaf: Option<&Leaf>| client(&serving, leaf, &[&TLS13]);

    assert_eq!(meet(&tls, with(None)).await, Ok(None));
    let peer = meet(&tls, with(Some(&leaf(&a, A)))).await.unwrap().unwrap();
    assert_eq!(peer.identity, MemberIdentity { cluster: A, member: MemberId(7) });
    assert_eq!(peer.names, MemberNames::new("shop", "web", "web-1").ok());

    // A's authority makes no member of B, though both are trusted, each for its own.
    assert_eq!(meet(&tls, with(Some(&leaf(&a, B)))).await, Err(TlsError::UnknownIssuer));
    // Nor does an authority that only has the same name.
    let false_a = Authority::generate(A, DAY).unwrap();
    assert_eq!(meet(&tls, with(Some(&leaf(&false_a, A)))).await, Err(TlsError::UnknownIssuer));

    // The map is shared: both of two authorities while one takes over, and nobody once it is gone.
    trusted.set(A, &format!("{}{}", a.cert_pem, false_a.cert_pem)).unwrap();
    assert!(meet(&tls, with(Some(&leaf(&false_a, A)))).await.is_ok());
    assert!(meet(&tls, with(Some(&leaf(&a, A)))).await.is_ok());
    trusted.remove(A);
    assert_eq!(meet(&tls, with(Some(&leaf(&a, A)))).await, Err(TlsError::UnknownIssuer));
    assert!(trusted.contains(B) && !trusted.contains(A));
    assert!(trusted.set(B, "nonsense").is_err() && trusted.contains(B));
}

#[tokio::test]
async fn the_webhook_speaks_tls_1_2_and_the_registry_does_not() {
    let (serving, certificate) = serving();
    let webhook = ServiceTls::webhook(certificate.clone()).unwrap();
    let registry = ServiceTls::registry(certificate, TrustedClusters::default()).unwrap();
    assert_eq!(meet(&webhook, client(&serving, None, &[&TLS12])).await, Ok(None));
    assert_eq!(meet(&webhook, client(&serving, None, &[&TLS13])).await, Ok(None));
    assert!(meet(&registry, client(&serving, None, &[&TLS12])).await.is_err());
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_from_the_next_handshake_on() {
    let (serving, certificate) = serving();
    let tls = ServiceTls::webhook(certificate.clone()).unwrap();
    let next = ServiceAuthority::generate("another", DAY).unwrap();
    certificate.replace(&next.issue(&[NAME.to_owned()], DAY).unwrap()).unwrap();
    assert!(meet(&tls, client(&serving, None, &[&TLS13])).await.is_err());
    assert_eq!(meet(&tls, client(&next, None, &[&TLS13])).await, Ok(None));

    let mixed = ServiceLeaf { key_pem: next.key_pem.clone(), ..serving.issue(&[NAME.to_owned()], DAY).unwrap() };
    assert!(certificate.replace(&mixed).is_err());
    assert_eq!(meet(&tls, client(&next, None, &[&TLS13])).await, Ok(None));
}
