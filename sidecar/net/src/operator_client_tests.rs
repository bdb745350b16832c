//! Against a server with a certificate of its own, on loopback.

use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use sidegrid_core::{ClusterUid, MemberId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::authority::Authority;
use crate::identity::MemberIdentity;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that says how many certificates its peer showed. Gives the port and its own certificate.
async fn serve(name: &str, tasks: &mut JoinSet<()>, members: Option<&Authority>) -> (u16, String) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]).unwrap();
    let builder = match members {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.cert_pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
            let _gone = stream.write_all(&[u8::try_from(shown).unwrap()]).await;
            let _gone = stream.shutdown().await;
        }
    });
    (port, cert.pem())
}

fn authority_file(pem: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    file
}

fn some_certificate() -> String {
    let key = KeyPair::generate().unwrap();
    CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}

async fn certificates_seen(client: &OperatorClient, shows_leaf: bool) -> io::Result<u8> {
    let mut stream = timeout(PATIENCE, client.connect(shows_leaf)).await.expect("in time")?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    timeout(PATIENCE, stream.read_u8()).await.expect("in time")
}

#[tokio::test]
async fn the_leaf_is_shown_where_it_shall_be() {
    let mut tasks = JoinSet::new();
    let cluster = ClusterUid(7);
    let members = Authority::generate(cluster, Duration::from_secs(3_600)).unwrap();
    let (port, pem) = serve("localhost", &mut tasks, Some(&members)).await;
    let file = authority_file(&pem);
    let client = OperatorClient::new("localhost", port, file.path().to_owned()).unwrap();
    assert_eq!(certificates_seen(&client, false).await.unwrap(), 0);
    let error = certificates_seen(&client, true).await.unwrap_err();
    assert!(error.to_string().contains("not certified yet"), "{error}");
    let identity = MemberIdentity { cluster, member: MemberId(1) };
    client.set_leaf(members.issue(identity, Duration::from_secs(600)).unwrap());
    assert_eq!(certificates_seen(&client, true).await.unwrap(), 1);
    assert_eq!(certificates_seen(&client, false).await.unwrap(), 0, "enrolling shows a token instead");
}

#[tokio::test]
async fn the_server_must_be_the_url_s_host_and_of_the_authority_that_the_file_names_now() {
    let mut tasks = JoinSet::new();
    let (port, pem) = serve("localhost", &mut tasks, None).await;
    let (_, other_pem) = serve("localhost", &mut tasks, None).await;
    let file = authority_file(&other_pem);
    let client = OperatorClient::new("localhost", port, file.path().to_owned()).unwrap();
    let error = certificates_seen(&client, false).await.unwrap_err();
    assert!(error.to_string().contains("handshake"), "{error}");
    // Rotated with overlap: the next connection goes by the new file.
    std::fs::write(file.path(), format!("{other_pem}{pem}")).unwrap();
    assert_eq!(certificates_seen(&client, false).await.unwrap(), 0);

    let by_address = OperatorClient::new("127.0.0.1", port, file.path().to_owned()).unwrap();
    let error = certificates_seen(&by_address, false).await.unwrap_err();
    assert!(error.to_string().contains("handshake"), "the certificate is not for that name: {error}");

    std::fs::write(file.path(), "").unwrap();
    let error = certificates_seen(&client, false).await.unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}

/// A pod whose resolver doesn't know the cluster's names.
#[tokio::test]
async fn an_address_beside_the_name_needs_no_resolver() {
    let mut tasks = JoinSet::new();
    let (port, pem) = serve("operator.invalid", &mut tasks, None).await;
    let file = authority_file(&pem);
    let at = |address: &str| {
        let address = Some(address.parse().unwrap());
        OperatorClient::with_address("operator.invalid", port, address, file.path().to_owned()).unwrap()
    };
    assert_eq!(certificates_seen(&at("127.0.0.1"), false).await.unwrap(), 0);
    // Neither: both are told.
    let error = certificates_seen(&at("127.0.0.9"), false).await.unwrap_err().to_string();
    assert!(
        error.contains("operator.invalid can't be resolved") || error.contains("names can't be resolved"),
        "{error}"
    );
    assert!(error.contains("127.0.0.9"), "{error}");
}

/// The operator was installed anew, and its address of before belongs to nobody, or to another.
#[tokio::test]
async fn the_name_is_asked_for_where_the_address_is_not_the_operators() {
    let mut tasks = JoinSet::new();
    let (port, pem) = serve("localhost", &mut tasks, None).await;
    let file = authority_file(&pem);
    let other = TcpListener::bind(("127.0.0.8", port)).await.unwrap();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = other.accept().await {
            drop(tcp);
        }
    });
    for address in ["127.0.0.9", "127.0.0.8"] {
        let address = Some(address.parse().unwrap());
        let client = OperatorClient::with_address("localhost", port, address, file.path().to_owned()).unwrap();
        assert_eq!(certificates_seen(&client, false).await.unwrap(), 0, "{address:?}");
    }
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let file = authority_file(&some_certificate());
    let client = OperatorClient::new("127.0.0.1", port, file.path().to_owned()).unwrap();
    let error = certificates_seen(&client, false).await.unwrap_err();
    assert!(error.to_string().contains("can't be reached"), "{error}");
    assert!(OperatorClient::new("no host", 1, file.path().to_owned()).is_err());
}

/// A name server that takes questions and says nothing must not look like an operator that is away.
#[tokio::test]
async fn a_name_server_that_does_not_answer_is_named_before_the_connection_is_given_up() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let file = authority_file(&some_certificate());
    let client = OperatorClient::new("operator.test", 1, file.path().to_owned()).unwrap();
    let mut server = NameServerConfig::udp(silent.local_addr().unwrap().ip());
    server.connections[0].port = silent.local_addr().unwrap().port();
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *client.0.resolver.lock().unwrap() = Some(builder.build().unwrap());
    // As long as a connection may take in all.
    let error = timeout(Duration::from_millis(1_500), client.connect(false)).await.expect("in time").unwrap_err();
    assert!(error.to_string().contains("DNS") && error.to_string().contains("dnsPolicy"), "{error}");
}
