//! Who is not let in, on both ports.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sidegrid_core::{ClusterUid, MemberId};
use sidegrid_net::{Authority, LeafRequest, MemberIdentity, Plane, TlsConfig, TlsMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::node::{CLUSTER, DAY, Node, Options, any_port, authority, eventually, leaf};

/// Takes any server: what is tried is the server's judgement.
#[derive(Debug)]
struct TakesAll;

impl ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client without a certificate gets nothing, not even a hello.
#[tokio::test]
async fn no_certificate_no_entry() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12][..]] {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAll))
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        for plane in Plane::ALL {
            let tcp = TcpStream::connect(ports.address(plane).unwrap()).await.unwrap();
            let read = async {
                let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
                let mut bytes = Vec::new();
                tls.read_to_end(&mut bytes).await.map(|_| bytes)
            };
            let read: Result<Vec<u8>, std::io::Error> = read.await;
            assert!(read.is_err(), "{plane}: {read:?}");
        }
    }
    for plane in Plane::ALL {
        eventually("a refusal", || node.failures(plane, "no-certificate") == 1).await;
        // TLS 1.2 is not spoken.
        eventually("a refusal", || node.failures(plane, "handshake-failed") == 1).await;
        assert_eq!(node.figures(plane).accepted, 0);
    }
}

/// Dials `node` with these certificates, and tells the reasons that both sides then count on both ports.
async fn refused(node: &Node, id: u64, tls: TlsConfig, theirs: &str, ours: &str) {
    let before: Vec<u64> = Plane::ALL.map(|plane| node.failures(plane, ours)).to_vec();
    let stranger = Node::with(id, None, Options { tls: TlsMode::Mutual(tls), ..Options::of(id) });
    stranger.mesh.set_peers(vec![node.member.clone()]);
    for (plane, before) in Plane::ALL.into_iter().zip(before) {
        eventually(&format!("{theirs} at the stranger"), || stranger.failures(plane, theirs) > 0).await;
        eventually(&format!("{ours} at the node"), || node.failures(plane, ours) > before).await;
        assert_eq!((stranger.figures(plane).dialed, node.figures(plane).accepted), (0, 0));
    }
    stranger.mesh.stop().await;
}

/// A member of another cluster: its authority is unknown here, and ours there.
#[tokio::test]
async fn a_member_of_another_cluster_is_refused() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    let other = Authority::generate(ClusterUid(0xc2), DAY).unwrap();
    let id = MemberId(2);

    // It trusts nobody but its own.
    let tls = TlsConfig::new(&other.cert_pem, &leaf(&other, ClusterUid(0xc2), 2), ClusterUid(0xc2), id).unwrap();
    refused(&node, 2, tls, "unknown-issuer", "refused-by-peer").await;

    // It takes us in, and claims to be of this cluster; but its authority is another.
    let both = format!("{}{}", authority().cert_pem, other.cert_pem);
    let tls = TlsConfig::new(&both, &leaf(&other, CLUSTER, 2), CLUSTER, id).unwrap();
    refused(&node, 2, tls, "refused-by-peer", "unknown-issuer").await;

    // One authority for two clusters: the cluster in the certificate tells them apart, at either end.
    let tls = TlsConfig::new(&authority().cert_pem, &leaf(authority(), ClusterUid(0xc2), 2), ClusterUid(0xc2), id);
    refused(&node, 2, tls.unwrap(), "foreign-cluster", "refused-by-peer").await;
}

/// The other way round: who dials judges too, and the dialed one who sees a foreign cluster's certificate.
#[tokio::test]
async fn a_certificate_of_a_foreign_cluster_is_refused_by_the_listener() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    let config = {
        let request = LeafRequest::new().unwrap();
        let identity = MemberIdentity { cluster: ClusterUid(0xc2), member: MemberId(2) };
        let (cert, key) = {
            // A key pair of the test's own, since a leaf's never leaves it.
            let key = rcgen::KeyPair::generate().unwrap();
            let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
            (authority().sign(&csr, identity, DAY).unwrap(), key)
        };
        assert!(request.into_leaf(&cert).is_err(), "a certificate for another key");
        let cert = rustls::pki_types::pem::PemObject::from_pem_slice(cert.as_bytes()).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAll))
            .with_client_auth_cert(vec![cert], key)
            .unwrap()
    };
    let connector = TlsConnector::from(Arc::new(config));
    for plane in Plane::ALL {
        let tcp = TcpStream::connect(ports.address(plane).unwrap()).await.unwrap();
        let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        let mut bytes = Vec::new();
        let read = tls.read_to_end(&mut bytes).await;
        assert!(read.is_err() && bytes.is_empty(), "{plane}: {read:?}");
        eventually("a refusal", || node.failures(plane, "foreign-cluster") == 1).await;
    }
}

/// Whoever answers with another member's certificate than the one dialed is not talked to.
#[tokio::test]
async fn another_member_than_the_dialed_one_is_refused() {
    let (a_ports, b_ports) = (any_port(), any_port());
    let a = Node::start(1, &a_ports);
    let b = Node::start(2, &b_ports);
    let mut expected = b.member.clone();
    expected.id = MemberId(3);
    a.mesh.set_peers(vec![expected]);
    a.say(MemberId(3), "for nobody else");
    for plane in Plane::ALL {
        eventually("a refusal", || a.failures(plane, "unexpected-member") > 0).await;
        assert_eq!((a.figures(plane).dialed, b.figures(plane).accepted), (0, 0));
    }
}

/// A hello can't claim another id than the certificate's, nor can a leaf be used as somebody else.
#[tokio::test]
async fn a_hello_must_be_its_certificates() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    // The certificate is member 2's, the hello says 5.
    let liar = Node::with(5, None, Options { ..Options::of(2) });
    liar.mesh.set_peers(vec![node.member.clone()]);
    for plane in Plane::ALL {
        eventually("a refusal", || node.failures(plane, "unexpected-member") > 0).await;
        assert_eq!(node.figures(plane).accepted, 0);
    }
    let ca = authority();
    let error = TlsConfig::new(&ca.cert_pem, &leaf(ca, CLUSTER, 2), CLUSTER, MemberId(5)).unwrap_err();
    assert_eq!(error.reason(), "unexpected-member");
    let error = TlsConfig::new(&ca.cert_pem, &leaf(ca, CLUSTER, 2), ClusterUid(9), MemberId(2)).unwrap_err();
    assert_eq!(error.reason(), "foreign-cluster");
}

/// An expired certificate is refused at either end.
#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    let ca = authority();
    let request = LeafRequest::new().unwrap();
    let expired = {
        let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(2) };
        let csr = rcgen::CertificateSigningRequestParams::from_pem(&request.request_pem().unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.subject_alt_names = vec![rcgen::SanType::URI(identity.to_string().try_into().unwrap())];
        let key = rcgen::KeyPair::from_pem(&ca.key_pem).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ca.cert_pem, key).unwrap();
        params.signed_by(&csr.public_key, &issuer).unwrap().pem()
    };
    let expired = request.into_leaf(&expired).unwrap();
    let tls = TlsConfig::new(&ca.cert_pem, &expired, CLUSTER, MemberId(2)).unwrap();
    let stranger = Node::with(2, None, Options { tls: TlsMode::Mutual(tls), ..Options::of(2) });
    stranger.mesh.set_peers(vec![node.member.clone()]);
    for plane in Plane::ALL {
        eventually("a refusal", || node.failures(plane, "certificate-expired") > 0).await;
        eventually("the reason's arrival", || stranger.failures(plane, "refused-by-peer") > 0).await;
    }
}

/// Bytes that are no TLS, and nothing at all, end the connection and nothing else.
#[tokio::test]
async fn noise_is_refused() {
    let ports = any_port();
    let node = Node::start(1, &ports);
    for plane in Plane::ALL {
        for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b""] {
            let mut tcp = TcpStream::connect(ports.address(plane).unwrap()).await.unwrap();
            // The other side may close while we write.
            let _ = tcp.write_all(noise).await;
            let _ = tcp.shutdown().await;
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest).await;
        }
        eventually("refusals", || node.figures(plane).failures.values().sum::<u64>() == 3).await;
    }
}
