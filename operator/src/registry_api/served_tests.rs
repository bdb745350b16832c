//! The whole way: the sidecar's own client, TLS, the served routes, and an API server in memory.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::MemberId;
use sidegrid_core::document::Document;
use sidegrid_net::service::{ServiceAuthority, ServiceCertificate, ServiceTls};
use sidegrid_net::{LeafRequest, OperatorClient};
use sidegrid_registry::api::EnrolRequest;
use sidegrid_registry::{Dial, Enrol, OperatorLimits, OperatorRegistry, OperatorSettings, Registry, Stream, Swap};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tests::{token, world};
use super::*;
use crate::fake_api::document_of;
use crate::serving::{Ending, ServeLimits, serve};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

struct Dialer {
    client: OperatorClient,
    shows_leaf: bool,
}

impl Dial for Dialer {
    fn dial<'a, 'b>(&'a self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {
            let stream = self.client.connect(self.shows_leaf).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

pub(super) fn registry(client: &OperatorClient, token: &Path) -> OperatorRegistry {
    let dialer = |shows_leaf| Arc::new(Dialer { client: client.clone(), shows_leaf });
    let settings = OperatorSettings {
        place: "https://localhost".to_owned(),
        host: "localhost".to_owned(),
        token: token.to_owned(),
        enrols: dialer(false),
        asks: dialer(true),
        limits: OperatorLimits::default(),
    };
    OperatorRegistry::new(settings, Handle::current())
}

/// Files that a pod has.
pub(super) struct Files {
    folder: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) token: PathBuf,
}

impl Files {
    pub(super) fn remove(&self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

pub(super) fn files(test: &str) -> Files {
    let folder = std::env::temp_dir().join(format!("sidegrid-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = Files { ca: folder.join("ca.crt"), token: folder.join("token"), folder };
    std::fs::write(&files.token, token()).unwrap();
    files
}

pub(super) fn operator_client(port: u16, files: &Files) -> OperatorClient {
    OperatorClient::new("localhost", port, files.ca.clone()).unwrap()
}

#[tokio::test]
async fn a_sidecar_enrols_and_changes_its_document_over_tls() {
    let (api, state) = world().await;
    let files = files("served");
    let authority = ServiceAuthority::generate("test", DAY).unwrap();
    std::fs::write(&files.ca, &authority.cert_pem).unwrap();

    let certificate = ServiceCertificate::new(&authority.issue(&["localhost".to_owned()], DAY).unwrap()).unwrap();
    let tls = ServiceTls::registry(certificate, state.trusted()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ending = Ending { token: CancellationToken::new(), drain: Duration::ZERO };
    let tasks = TaskTracker::new();
    tasks.spawn(serve(listener, tls, router(state.clone()), ServeLimits::default(), ending.clone()));

    let client = operator_client(port, &files);
    let registry = registry(&client, &files.token);
    let key = LeafRequest::new().unwrap();
    let request = EnrolRequest { member: MemberId(1), request: key.request_pem().unwrap() };
    let enrolment = registry.enrol(request).await.unwrap();
    client.set_leaf(key.into_leaf(&enrolment.certificate).unwrap());

    assert_eq!(registry.read().await.unwrap(), None);
    let first = document_of(&[1], 1);
    assert_eq!(registry.create(first.clone()).await.unwrap(), Swap::Done);
    assert_eq!(registry.create(first.clone()).await.unwrap(), Swap::Conflict(Some(first.clone())));
    let next = Document { revision: 2, ..first.clone() };
    assert_eq!(registry.swap(first.expected(), next.clone()).await.unwrap(), Swap::Done);
    assert_eq!(registry.read().await.unwrap(), Some(next));

    // Served by the operator, but nobody's member any more: the handshake fails.
    state.trusted().remove(enrolment.cluster);
    registry.renewed();
    assert!(registry.read().await.unwrap_err().is_retryable());

    ending.token.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.unwrap();
    files.remove();
    api.done();
}
