//! For tests: an API server in memory. It keeps objects by path with resourceVersions, refuses as the real one does,
//! and takes an unexpected call for a failure of the test.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use sidegrid_core::document::{Agreed, Document, FORMAT, HASH_RULE, Timing};
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::view::{GroupPlacement, Replicas, View};
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};

/// The operator's own namespace in tests.
pub(crate) const NS: &str = "sidegrid-system";
/// A CacheCluster's uid, and the cluster's.
pub(crate) const UID: &str = "00000000-0000-0000-0000-0000000000c1";
pub(crate) const CLUSTER: ClusterUid = ClusterUid(0xc1);

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is answered with this status and not done.
    Status(u16),
}

#[derive(Default)]
struct Server {
    objects: BTreeMap<String, Value>,
    collections: Vec<String>,
    /// What a review of each token says.
    tokens: BTreeMap<String, Value>,
    version: u64,
    troubles: VecDeque<(Method, String, Trouble)>,
    /// Put in the place of an object right after it was read for the first time: somebody was faster.
    races: Vec<(String, Value)>,
    /// Collections that may be listed.
    listable: Vec<String>,
    calls: Vec<String>,
    unexpected: Vec<String>,
}

/// The server. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FakeApi(Arc<Mutex<Server>>);

impl FakeApi {
    /// Knows these collections alone.
    pub(crate) fn with(collections: &[&str]) -> FakeApi {
        let api = FakeApi::default();
        api.0.lock().unwrap().collections = collections.iter().map(|c| (*c).to_owned()).collect();
        api
    }

    /// Knows the operator's own Secrets and ConfigMaps.
    pub(crate) fn own() -> FakeApi {
        FakeApi::with(&[&own("secrets"), &own("configmaps")])
    }

    pub(crate) fn allow(&self, collection: &str) {
        self.0.lock().unwrap().collections.push(collection.to_owned());
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(Body::new(body), 8 << 20).await.unwrap();
                let path = head.uri.path().to_owned();
                let answer = api.0.lock().unwrap().answer(&head.method, &path, &body);
                answer.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionReset))
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut server = self.0.lock().unwrap();
        server.store(path, object);
    }

    /// Lists this collection, too.
    pub(crate) fn lists(&self, collection: &str) {
        let mut server = self.0.lock().unwrap();
        server.listable.push(collection.to_owned());
        if !server.collections.iter().any(|known| known == collection) {
            server.collections.push(collection.to_owned());
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path);
    }

    pub(crate) fn token(&self, token: &str, status: Value) {
        self.0.lock().unwrap().tokens.insert(token.to_owned(), status);
    }

    /// The next call of this method whose path ends so goes wrong.
    pub(crate) fn trouble(&self, method: Method, path_end: &str, trouble: Trouble) {
        self.0.lock().unwrap().troubles.push_back((method, path_end.to_owned(), trouble));
    }

    /// Somebody stores `object` right after the next read of `path`.
    pub(crate) fn race(&self, path: &str, object: Value) {
        self.0.lock().unwrap().races.push((path.to_owned(), object));
    }

    /// How many calls there were whose `METHOD path` contains this.
    pub(crate) fn calls(&self, containing: &str) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|call| call.contains(containing)).count()
    }

    /// Fails the test if there was a call that it did not expect.
    pub(crate) fn done(&self) {
        let server = self.0.lock().unwrap();
        assert!(server.unexpected.is_empty(), "unexpected calls: {:?}", server.unexpected);
    }
}

impl Server {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Option<Response<Body>> {
        self.calls.push(format!("{method} {path}"));
        let trouble = self.troubles.iter().position(|(m, end, _)| m == method && path.ends_with(end.as_str()));
        let trouble = trouble.and_then(|at| self.troubles.remove(at)).map(|(_, _, trouble)| trouble);
        if let Some(Trouble::Status(code)) = trouble {
            return Some(status(code, "as the test wants it"));
        }
        let answer = self.perform(method, path, body);
        if let Some(at) = self.races.iter().position(|(of, _)| method == Method::GET && of == path) {
            let (of, object) = self.races.remove(at);
            self.store(&of, object);
        }
        if matches!(trouble, Some(Trouble::AnswerLost)) { None } else { Some(answer) }
    }

    fn perform(&mut self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        if path.ends_with("/tokenreviews") {
            let review: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!(["sidegrid"]));
            let token = review["spec"]["token"].as_str().unwrap();
            let said = self.tokens.get(token).cloned().unwrap_or_else(|| json!({"authenticated": false}));
            return ok(&json!({"metadata": {}, "spec": {}, "status": said}));
        }
        if *method == Method::GET && self.listable.iter().any(|known| known == path) {
            let within = |of: &String| of.rsplit_once('/').is_some_and(|(collection, _)| collection == path);
            let items: Vec<&Value> = self.objects.iter().filter(|(of, _)| within(of)).map(|(_, o)| o).collect();
            return ok(&json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
        }
        let collection = if *method == Method::POST { path } else { path.rsplit_once('/').unwrap().0 };
        if !self.collections.iter().any(|known| known == collection) {
            self.unexpected.push(format!("{method} {path}"));
            return status(500, "unexpected");
        }
        let sent = || serde_json::from_slice::<Value>(body).unwrap();
        let there = self.objects.get(path).cloned();
        match (method.as_str(), there) {
            ("POST", _) => {
                let object = sent();
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return status(409, "already exists");
                }
                ok(&self.store(&path, object))
            }
            (_, None) => status(404, "not found"),
            ("GET", Some(there)) => ok(&there),
            ("PUT", Some(there)) => {
                let object = sent();
                if object["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"] {
                    return status(409, "the object has been modified");
                }
                ok(&self.store(path, object))
            }
            ("PATCH", Some(mut there)) => {
                json_patch::merge(&mut there, &sent());
                ok(&self.store(path, there))
            }
            ("DELETE", Some(there)) => {
                self.objects.remove(path);
                ok(&there)
            }
            _ => {
                self.unexpected.push(format!("{method} {path}"));
                status(500, "unexpected")
            }
        }
    }
}

fn ok(object: &Value) -> Response<Body> {
    Response::new(Body::from(object.to_string()))
}

fn status(code: u16, message: &str) -> Response<Body> {
    // The client goes by this word, not by the code.
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Test",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// The path of one of the operator's own collections or objects.
pub(crate) fn own(rest: &str) -> String {
    format!("/api/v1/namespaces/{NS}/{rest}")
}

/// A member of the pod with this uid.
pub(crate) fn member_of(id: u64, pod_uid: &str, incarnation: u64) -> Member {
    let address = "10.0.0.1:7800".parse().unwrap();
    Member {
        id: MemberId(id),
        name: format!("web-{id}"),
        identity: PlatformIdentity::Pod { uid: pod_uid.to_owned() },
        incarnation,
        data_address: address,
        failure_detection_address: address,
        locality: Locality::default(),
        protocols: (1, 1),
        joined: id,
    }
}

/// A document of cluster [`CLUSTER`] with these members, in this view.
pub(crate) fn document_of(members: &[u64], view: u64) -> Document {
    let group = GroupPlacement {
        owners: std::iter::once(0).collect(),
        incoming: Default::default(),
        dropped: Default::default(),
        primary_since: ViewNumber(1),
        empty_since: ViewNumber(1),
    };
    Document {
        format: FORMAT,
        cluster: CLUSTER,
        revision: view,
        ballot: 0,
        view: View {
            number: ViewNumber(view),
            members: members.iter().map(|id| member_of(*id, &format!("pod-{id}"), 10)).collect(),
            classes: vec![Replicas::Count(1)],
            segments: 4,
            groups: vec![group; 4],
            next_joined: 99,
        },
        unsealed: Vec::new(),
        departed: Vec::new(),
        proofs: BTreeMap::new(),
        vacant: BTreeMap::new(),
        agreed: Agreed { segments: 4, hash: HASH_RULE.into(), caches: Vec::new(), timing: Timing::default() },
    }
}
