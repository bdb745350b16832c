//! The registry kind `operator` against the suite of all kinds: the sidecar's own client, the routes and documents of this
//! operator, and an API server in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use sidegrid_conformance::{Place, suite};
use sidegrid_core::MemberId;
use sidegrid_core::document::Document;
use sidegrid_net::service::Peer;
use sidegrid_net::{MemberIdentity, MemberNames};
use sidegrid_registry::{Dial, OperatorLimits, OperatorRegistry, OperatorSettings, Registry, Stream, encode};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::*;
use crate::authority;
use crate::fake_api::{CLUSTER, FakeApi, NS, UID, own};

/// What a connection holds on its way.
const PIPE: usize = 64 << 10;

/// An operator of its own, reached without TLS: who calls is told as TLS would tell it.
struct ServedPlace {
    api: FakeApi,
    state: RegistryState,
    opened: AtomicU64,
}

impl ServedPlace {
    async fn new() -> ServedPlace {
        let api = FakeApi::own();
        api.allow("/api/v1/namespaces/shop/pods");
        let labels = json!({"sidegrid.dev/cluster": "web"});
        let pod = json!({"metadata": {"name": "web-1", "uid": "pod-1", "labels": labels}, "spec": {"containers": []}});
        api.put("/api/v1/namespaces/shop/pods/web-1", pod);
        let authority = authority::ensure(&api.client(), NS, UID, false).await.unwrap();
        // The suite is about comparing and swapping: its documents follow from nothing that members do.
        let rights = Rights { creation: |_, _| Ok(()), change: |_, _, _, _| Ok(()) };
        let state = RegistryState::with_rights(api.client(), NS, rights);
        state.trusted().set(CLUSTER, authority.authorities_pem()).unwrap();
        ServedPlace { api, state, opened: AtomicU64::new(1) }
    }
}

#[async_trait::async_trait]
impl Place for ServedPlace {
    fn open(&self) -> Arc<dyn Registry> {
        let member = MemberId(self.opened.fetch_add(1, Ordering::Relaxed));
        let dial = Arc::new(PipeDial { state: self.state.clone(), member, tasks: TaskTracker::new() });
        let settings = OperatorSettings {
            place: "the test's operator".to_owned(),
            host: "operator".to_owned(),
            token: "/nowhere".into(),
            enrols: Arc::clone(&dial) as Arc<dyn Dial>,
            asks: dial,
            limits: OperatorLimits::default(),
        };
        Arc::new(OperatorRegistry::new(settings, Handle::current()))
    }

    async fn tamper(&self, document: Option<&Document>) {
        let path = own(&format!("configmaps/document-{UID}"));
        match document {
            None => self.api.remove(&path),
            Some(document) => {
                let text = String::from_utf8(encode(document).unwrap()).unwrap();
                self.api.put(&path, json!({"metadata": {"name": "d"}, "data": {"document": text}}));
            }
        }
    }

    fn keeps_authority(&self) -> bool {
        false
    }

    fn is_of_one_cluster(&self) -> bool {
        true
    }

    fn remembers_views(&self) -> bool {
        true
    }
}

struct PipeDial {
    state: RegistryState,
    member: MemberId,
    tasks: TaskTracker,
}

#[async_trait::async_trait]
impl Dial for PipeDial {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let identity = MemberIdentity { cluster: CLUSTER, member: self.member };
        let names = MemberNames::new("shop", "web", "web-1").unwrap().with_pod_uid("pod-1").ok();
        let peer = Peer { identity, names };
        let routes = router(self.state.clone()).map_request(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            request
        });
        self.tasks.spawn(async move {
            // It ends with the caller's end.
            let _ended =
                http1::Builder::new().serve_connection(TokioIo::new(theirs), TowerToHyperService::new(routes)).await;
        });
        Ok(Box::new(ours))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_operator_is_a_registry() {
    let handle = Handle::current();
    suite(|| tokio::task::block_in_place(|| handle.block_on(ServedPlace::new()))).await;
}
