use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use serde_json::{Value, json};
use sidegrid_core::MemberId;
use sidegrid_core::document::{Document, Proof, UnsealedView};
use sidegrid_core::recovery::VIEW_JUMP;
use sidegrid_net::service::Peer;
use sidegrid_net::{LeafRequest, MemberIdentity, MemberNames};
use sidegrid_registry::api::{EnrolRequest, Enrolment, RepublishRequest, SwapRequest};
use sidegrid_registry::{decode, encode};
use tower::ServiceExt;

use std::time::Duration;

use super::bounds::{MAX_BODY, MAX_ENROL_BODY, MEMBERS_REQUESTS, REQUEST_TIME, UNAUTHENTICATED_REQUESTS};
use super::token::unsigned;
use super::*;
use crate::authority;
use crate::fake_api::{CLUSTER, FakeApi, NS, UID, document_of, own};
use crate::serving::Source;

/// What the API server takes for the token of pod web-1.
pub(super) fn token() -> String {
    token_of("pod-1")
}

/// What may be a token of the pod with this uid; the API server knows only that of `pod-1`.
fn token_of(uid: &str) -> String {
    unsigned(&json!({"aud": ["sidegrid"], "kubernetes.io": {"pod": {"name": "web-1", "uid": uid}}}))
}

const POD: &str = "/api/v1/namespaces/shop/pods/web-1";
const GRID: &str = "/apis/sidegrid.dev/v1alpha1/namespaces/shop/cacheclusters/web";
const NODE: &str = "/api/v1/nodes/node1";
/// The client of the cluster.
const JOB: u64 = 9;

fn pod(uid: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": "web-1", "namespace": "shop", "uid": uid, "labels": {"sidegrid.dev/cluster": "web"}},
        "spec": {"nodeName": "node1", "containers": []},
        "status": {"phase": phase},
    })
}

/// A pod with its token, node and CacheCluster, and the authority.
pub(super) async fn world() -> (FakeApi, RegistryState) {
    let api = FakeApi::own();
    for path in [POD, GRID, NODE] {
        api.allow(path.rsplit_once('/').unwrap().0);
    }
    api.put(POD, pod("pod-1", "Pending"));
    // Members 2 and 3, and a Job's pod.
    for (member, role) in [(2, "member"), (3, "member"), (JOB, "client")] {
        let mut other = pod(&format!("pod-{member}"), "Running");
        other["metadata"]["labels"]["sidegrid.dev/role"] = json!(role);
        api.put(&format!("/api/v1/namespaces/shop/pods/web-{member}"), other);
    }
    api.put(GRID, json!({"metadata": {"name": "web", "uid": UID}, "spec": {"caches": {}}}));
    let labels = json!({"topology.kubernetes.io/zone": "zone-a", "topology.kubernetes.io/region": "r1"});
    api.put(NODE, json!({"metadata": {"name": "node1", "labels": labels}}));
    let extra = json!({
        "authentication.kubernetes.io/pod-name": ["web-1"], "authentication.kubernetes.io/pod-uid": ["pod-1"],
    });
    let user = json!({"username": "system:serviceaccount:shop:default", "extra": extra});
    api.token(&token(), json!({"authenticated": true, "audiences": ["sidegrid"], "user": user}));
    authority::ensure(&api.client(), NS, UID, false).await.unwrap();
    let state = RegistryState::new(api.client(), NS);
    (api, state)
}

fn request(method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::from(body)).unwrap()
}

fn with_token(mut request: Request<Body>, token: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// As [`serve`](crate::serving::serve) says it of a connection with the certificate of a member's own pod.
fn with_leaf(request: Request<Body>, member: u64) -> Request<Body> {
    with_leaf_of(request, member, member)
}

/// With the certificate of an incarnation of the pod with this number.
fn with_leaf_of(mut request: Request<Body>, member: u64, pod: u64) -> Request<Body> {
    let identity = MemberIdentity { cluster: CLUSTER, member: MemberId(member) };
    let names = MemberNames::new("shop", "web", &format!("web-{pod}")).unwrap();
    let names = names.with_pod_uid(&format!("pod-{pod}")).ok();
    request.extensions_mut().insert(Peer { identity, names });
    request
}

async fn ask(state: &RegistryState, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router(state.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        assert!(response.headers().contains_key("retry-after"));
    }
    (status, to_bytes(response.into_body(), MAX_BODY).await.unwrap().to_vec())
}

fn enrolment(member: u64) -> (LeafRequest, Vec<u8>) {
    let key = LeafRequest::new().unwrap();
    let asked = EnrolRequest { member: MemberId(member), request: key.request_pem().unwrap() };
    (key, serde_json::to_vec(&asked).unwrap())
}

async fn enrol(state: &RegistryState, token: &str, member: u64) -> (StatusCode, Vec<u8>) {
    ask(state, with_token(request("POST", "/v1/enrol", enrolment(member).1), token)).await
}

fn reason_of(body: &[u8]) -> String {
    serde_json::from_slice::<Value>(body).unwrap()["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_pods_token_becomes_its_leaf() {
    let (api, state) = world().await;
    let (key, body) = enrolment(7);
    let (status, answer) = ask(&state, with_token(request("POST", "/v1/enrol", body), &token())).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    let got: Enrolment = serde_json::from_slice(&answer).unwrap();
    assert_eq!((got.cluster, got.pod_uid.as_str()), (CLUSTER, "pod-1"));
    // A day, a third of it over: hours, and yet more than an operator is away.
    assert_eq!(got.renew_after_s, 8 * 3_600);
    let locality = &got.locality;
    assert_eq!([&locality.site[..], &locality.rack, &locality.machine], ["r1", "zone-a", "node1"]);
    // The leaf is for this member of this cluster, signed by what it is told to trust.
    let leaf = key.into_leaf(&got.certificate).unwrap();
    sidegrid_net::TlsConfig::new(&got.authorities, &leaf, CLUSTER, MemberId(7)).unwrap();
    assert!(state.trusted().contains(CLUSTER));
    assert_eq!(state.counters().requests(CountedRequest::Enrol, Outcome::Done), 1);
    api.done();
}

#[tokio::test]
async fn whoever_is_not_a_living_pod_of_a_cachecluster_gets_no_leaf() {
    let (api, state) = world().await;
    assert_eq!(enrol(&state, &token_of("another"), 7).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&state, request("POST", "/v1/enrol", enrolment(7).1)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(enrol(&state, &token(), 0).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let garbage = with_token(request("POST", "/v1/enrol", b"{}".to_vec()), &token());
    assert_eq!(ask(&state, garbage).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let asked = EnrolRequest { member: MemberId(7), request: "nonsense".into() };
    let bad_request = with_token(request("POST", "/v1/enrol", serde_json::to_vec(&asked).unwrap()), &token());
    assert_eq!(ask(&state, bad_request).await.0, StatusCode::UNPROCESSABLE_ENTITY);

    // Another pod of the same name, one that has ended, one without the label.
    api.put(POD, pod("pod-2", "Running"));
    assert_eq!(enrol(&state, &token(), 7).await.0, StatusCode::FORBIDDEN);
    api.put(POD, pod("pod-1", "Succeeded"));
    assert_eq!(enrol(&state, &token(), 7).await.0, StatusCode::FORBIDDEN);
    let mut unlabelled = pod("pod-1", "Running");
    unlabelled["metadata"]["labels"] = json!({});
    api.put(POD, unlabelled);
    assert_eq!(enrol(&state, &token(), 7).await.0, StatusCode::FORBIDDEN);
    api.put(POD, pod("pod-1", "Running"));

    // The id of a member that is another pod's; its own is fine.
    state.documents().create(UID, &document_of(&[1, 2], 1)).await.unwrap();
    assert_eq!(enrol(&state, &token(), 2).await.0, StatusCode::FORBIDDEN);
    assert_eq!(enrol(&state, &token(), 1).await.0, StatusCode::OK);

    let grid = api.get(GRID).unwrap();
    api.remove(GRID);
    let (status, body) = enrol(&state, &token(), 7).await;
    assert_eq!((status, reason_of(&body).as_str()), (StatusCode::NOT_FOUND, "unknown_cluster"));
    api.put(GRID, grid);
    api.remove(NODE);
    assert_eq!(enrol(&state, &token(), 7).await.0, StatusCode::SERVICE_UNAVAILABLE);
    api.done();
}

#[tokio::test]
async fn a_leaf_reads_creates_and_swaps_its_clusters_document() {
    let (api, state) = world().await;
    let first = document_of(&[1], 1);
    let bytes = encode(&first).unwrap();
    let read = || with_leaf(request("GET", "/v1/document", vec![]), 1);
    // Not without a leaf, and not of a cluster that is not known (any more).
    assert_eq!(ask(&state, request("GET", "/v1/document", vec![])).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&state, read()).await.0, StatusCode::FORBIDDEN);
    let authority = authority::ensure(&api.client(), NS, UID, false).await.unwrap();
    state.trusted().set(CLUSTER, authority.authorities_pem()).unwrap();

    let (status, body) = ask(&state, read()).await;
    assert_eq!((status, reason_of(&body).as_str()), (StatusCode::NOT_FOUND, "no_document"));
    let create = || with_leaf(request("POST", "/v1/document", bytes.clone()), 1);
    assert_eq!(ask(&state, create()).await.0, StatusCode::CREATED);
    let (status, body) = ask(&state, create()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["there"], serde_json::to_value(&first).unwrap());
    assert_eq!(decode(&ask(&state, read()).await.1), Ok(first.clone()));

    let next = Document { revision: 2, ..first.clone() };
    let swap = |next: &Document| {
        let body = serde_json::to_vec(&SwapRequest { expected: first.expected(), next: next.clone() }).unwrap();
        with_leaf(request("PUT", "/v1/document", body), 1)
    };
    assert_eq!(ask(&state, swap(&Document { revision: 3, ..next.clone() })).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ask(&state, swap(&next)).await.0, StatusCode::OK);
    assert_eq!(ask(&state, swap(&next)).await.0, StatusCode::CONFLICT);
    let foreign = Document { cluster: sidegrid_core::ClusterUid(1), ..first.clone() };
    let foreign = with_leaf(request("POST", "/v1/document", encode(&foreign).unwrap()), 1);
    assert_eq!(ask(&state, foreign).await.0, StatusCode::FORBIDDEN);
    let huge = with_leaf(request("POST", "/v1/document", vec![b' '; MAX_BODY + 1]), 1);
    assert_eq!(ask(&state, huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    api.remove(&own(&format!("configmaps/document-{UID}")));
    assert_eq!(ask(&state, read()).await.0, StatusCode::GONE);
    assert_eq!(ask(&state, create()).await.0, StatusCode::GONE);
    api.done();
}

async fn trust(api: &FakeApi, state: &RegistryState) {
    let authority = authority::ensure(&api.client(), NS, UID, false).await.unwrap();
    state.trusted().set(CLUSTER, authority.authorities_pem()).unwrap();
}

fn swap_of(present: &Document, next: &Document) -> Request<Body> {
    let body = serde_json::to_vec(&SwapRequest { expected: present.expected(), next: next.clone() }).unwrap();
    request("PUT", "/v1/document", body)
}

fn publish_of(document: &Document) -> Request<Body> {
    let known = RepublishRequest { view: document.view.number, document: document.clone() };
    request("POST", "/v1/republish", serde_json::to_vec(&known).unwrap())
}

/// G-5.
#[tokio::test]
async fn a_change_is_bound_to_its_caller() {
    let (api, state) = world().await;
    trust(&api, &state).await;
    let first = document_of(&[1], 1);
    let create = |document: &Document| request("POST", "/v1/document", encode(document).unwrap());
    let forbidden = |(status, body): (StatusCode, Vec<u8>)| {
        assert_eq!((status, reason_of(&body).as_str()), (StatusCode::FORBIDDEN, "forbidden"));
        String::from_utf8(body).unwrap()
    };
    // A client, another's view, and another's id.
    assert!(forbidden(ask(&state, with_leaf(create(&document_of(&[JOB], 1)), JOB)).await).contains("client"));
    forbidden(ask(&state, with_leaf(create(&first), 2)).await);
    forbidden(ask(&state, with_leaf_of(create(&first), 1, 2)).await);
    assert_eq!(ask(&state, with_leaf(create(&first), 1)).await.0, StatusCode::CREATED);

    let voided = Document { revision: 2, ballot: 1, ..first.clone() };
    let swap = || swap_of(&first, &voided);
    forbidden(ask(&state, with_leaf(swap(), JOB)).await);
    assert!(forbidden(ask(&state, with_leaf(swap(), 2)).await).contains("not in view 1"));
    forbidden(ask(&state, with_leaf_of(swap(), 1, 2)).await);
    // Whoever claims the next view for itself.
    let mut claimed = document_of(&[2], 2);
    claimed.revision = 2;
    claimed.unsealed = vec![UnsealedView { number: first.view.number, members: vec![MemberId(1)] }];
    claimed.departed = first.view.members.clone();
    forbidden(ask(&state, with_leaf(swap_of(&first, &claimed), 2)).await);
    claimed.proofs.insert(MemberId(1), Proof::Released);
    forbidden(ask(&state, with_leaf(swap_of(&first, &claimed), 2)).await);
    assert_eq!(ask(&state, with_leaf(swap(), 1)).await.0, StatusCode::OK);
    // Its certificate ends with its pod.
    let third = Document { revision: 3, ballot: 2, ..first.clone() };
    api.put(POD, pod("pod-1", "Succeeded"));
    forbidden(ask(&state, with_leaf(swap_of(&voided, &third), 1)).await);
    forbidden(ask(&state, with_leaf(request("GET", "/v1/document", vec![]), 1)).await);
    api.remove(POD);
    assert!(forbidden(ask(&state, with_leaf(swap_of(&voided, &third), 1)).await).contains("gone"));
    assert_eq!(state.documents().read(UID).await.unwrap(), Some(voided));
    api.done();
}

/// G-4: a view that is only claimed proves nothing, and each member counts once, as who it was certified.
#[tokio::test]
async fn a_lost_document_is_made_again_of_the_marked_view_alone() {
    let (api, state) = world().await;
    trust(&api, &state).await;
    let known = document_of(&[1, 2, 3], 4);
    state.documents().create(UID, &known).await.unwrap();
    api.remove(&own(&format!("configmaps/document-{UID}")));
    let nothing = async |publish: Request<Body>, status: StatusCode| {
        assert_eq!(ask(&state, publish).await.0, status);
        assert!(api.get(&own(&format!("configmaps/document-{UID}"))).is_none());
    };
    // One caller that claims a view of itself alone, newer or under the marked number, or an older one.
    for view in [3, 4, 5, 6] {
        nothing(with_leaf(publish_of(&document_of(&[2], view)), 2), StatusCode::ACCEPTED).await;
    }
    // The view itself, shown by a client, by one who is not in it, and by one pod under the ids of all.
    nothing(with_leaf(publish_of(&known), JOB), StatusCode::FORBIDDEN).await;
    nothing(with_leaf_of(publish_of(&known), 7, 2), StatusCode::ACCEPTED).await;
    for member in [1, 2, 3] {
        nothing(with_leaf_of(publish_of(&known), member, 1), StatusCode::ACCEPTED).await;
    }
    // One that claims a newer view holds nobody up.
    nothing(with_leaf(publish_of(&document_of(&[1, 2, 3], 9)), 3), StatusCode::ACCEPTED).await;
    assert_eq!(ask(&state, with_leaf(publish_of(&known), 2)).await.0, StatusCode::ACCEPTED);
    let back = state.documents().read(UID).await.unwrap().unwrap();
    assert_eq!((back.view.number.0, &back.view.members), (4 + VIEW_JUMP, &known.view.members));
    // Put back within its view it is mended by one of its members, and by nobody else.
    let newer = Document { revision: back.revision + 5, ..back.clone() };
    for (member, pod) in [(7, 2), (1, 2)] {
        assert_eq!(ask(&state, with_leaf_of(publish_of(&newer), member, pod)).await.0, StatusCode::ACCEPTED);
        assert_eq!(state.documents().read(UID).await.unwrap().as_ref(), Some(&back));
    }
    assert_eq!(ask(&state, with_leaf(publish_of(&newer), 1)).await.0, StatusCode::ACCEPTED);
    assert!(state.documents().read(UID).await.unwrap().unwrap().revision > newer.revision);
    api.done();
}

#[tokio::test]
async fn a_lost_document_comes_back_when_more_than_half_of_its_view_know_it() {
    let (api, state) = world().await;
    trust(&api, &state).await;
    let known = document_of(&[1, 2, 3], 4);
    state.documents().create(UID, &known).await.unwrap();
    let path = own(&format!("configmaps/document-{UID}"));
    // One of them heard of the view from a peer.
    let older = document_of(&[1, 2, 3], 3);
    let publish = |member| {
        let document = if member == 3 { older.clone() } else { known.clone() };
        let known = RepublishRequest { view: known.view.number, document };
        with_leaf(request("POST", "/v1/republish", serde_json::to_vec(&known).unwrap()), member)
    };
    // While it is there, nothing is kept.
    assert_eq!(ask(&state, publish(1)).await.0, StatusCode::ACCEPTED);
    assert!(api.get(&own(&format!("configmaps/republished-{UID}"))).is_none());

    api.remove(&path);
    for _ in 0..3 {
        assert_eq!(ask(&state, publish(1)).await.0, StatusCode::ACCEPTED);
    }
    assert!(api.get(&path).is_none());
    // Through another replica.
    let other = RegistryState::new(api.client(), NS);
    trust(&api, &other).await;
    assert_eq!(ask(&other, publish(3)).await.0, StatusCode::ACCEPTED);
    // It can't know how old the first one's statement is until that is made once more.
    assert!(api.get(&path).is_none());
    assert_eq!(ask(&state, publish(1)).await.0, StatusCode::ACCEPTED);
    assert_eq!(ask(&other, publish(3)).await.0, StatusCode::ACCEPTED);
    let back = state.documents().read(UID).await.unwrap().unwrap();
    assert_eq!(back.view.number.0, known.view.number.0 + VIEW_JUMP);
    assert!(back.revision > known.revision && back.ballot > known.ballot);
    assert!(api.get(&own(&format!("configmaps/republished-{UID}"))).is_none());

    // Put back to what it was before, it is as good as lost, and comes back the same way.
    let text = String::from_utf8(encode(&known).unwrap()).unwrap();
    api.put(&path, json!({"metadata": {"name": "d"}, "data": {"document": text}}));
    let (status, body) = ask(&state, with_leaf(request("GET", "/v1/document", vec![]), 1)).await;
    assert_eq!((status, reason_of(&body).as_str()), (StatusCode::GONE, "lost"));
    let newest = serde_json::to_vec(&RepublishRequest { view: back.view.number, document: back.clone() }).unwrap();
    for member in [1, 2] {
        let publish = with_leaf(request("POST", "/v1/republish", newest.clone()), member);
        assert_eq!(ask(&state, publish).await.0, StatusCode::ACCEPTED);
    }
    let again = state.documents().read(UID).await.unwrap().unwrap();
    assert_eq!(again.view.number.0, back.view.number.0 + VIEW_JUMP);

    // Put back within its view, one member's word mends it; nothing moves.
    let known = Document { revision: again.revision + 1, ..again.clone() };
    let publish = serde_json::to_vec(&RepublishRequest { view: known.view.number, document: known.clone() }).unwrap();
    assert_eq!(ask(&state, with_leaf(request("POST", "/v1/republish", publish), 1)).await.0, StatusCode::ACCEPTED);
    let mended = state.documents().read(UID).await.unwrap().unwrap();
    assert_eq!(mended.view, again.view);
    assert!(mended.revision > known.revision && mended.ballot > known.ballot);
    api.done();
}

#[tokio::test]
async fn too_much_at_once_is_told_to_come_again() {
    let (_, state) = world().await;
    let read = || with_leaf(request("GET", "/v1/document", vec![]), 1);
    let overloaded = (StatusCode::SERVICE_UNAVAILABLE, "overloaded".to_owned());
    let told = |(status, body): (StatusCode, Vec<u8>)| (status, reason_of(&body));

    // Each kind of caller has permits of its own.
    let taken =
        state.0.unauthenticated.permits.acquire_many(u32::try_from(UNAUTHENTICATED_REQUESTS).unwrap()).await.unwrap();
    assert_eq!(told(enrol(&state, &token(), 7).await), overloaded);
    assert_eq!(told(ask(&state, read()).await).0, StatusCode::FORBIDDEN);
    drop(taken);
    let taken = state.0.members.permits.acquire_many(u32::try_from(MEMBERS_REQUESTS).unwrap()).await.unwrap();
    assert_eq!(told(ask(&state, read()).await), overloaded);
    assert_eq!(enrol(&state, &token(), 7).await.0, StatusCode::OK);
    drop(taken);
    assert_eq!(told(ask(&state, read()).await).0, StatusCode::NOT_FOUND);
    assert_eq!(state.counters().requests(CountedRequest::Enrol, Outcome::Refused), 1);
}

#[tokio::test]
async fn a_caller_without_a_token_takes_no_permit_and_a_token_brings_no_large_body() {
    let (_, state) = world().await;
    let all = u32::try_from(UNAUTHENTICATED_REQUESTS).unwrap();
    let taken = state.0.unauthenticated.permits.acquire_many(all).await.unwrap();
    let (status, body) = ask(&state, request("POST", "/v1/enrol", vec![])).await;
    assert_eq!((status, reason_of(&body).as_str()), (StatusCode::UNAUTHORIZED, "unauthenticated"));
    drop(taken);
    for path in ["/v1/enrol", "/v1/document"] {
        let large = with_token(request("POST", path, vec![b' '; MAX_ENROL_BODY + 1]), &token());
        assert_eq!(ask(&state, large).await.0, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_do_not_come_keep_nobody_waiting() {
    let (_, state) = world().await;
    let authority = authority::ensure(&state.0.client, NS, UID, false).await.unwrap();
    state.trusted().set(CLUSTER, authority.authorities_pem()).unwrap();
    // A first part comes, the rest never.
    let never = || {
        let begun = futures::stream::iter([Ok::<_, std::io::Error>(vec![b' '; 8 << 10])]);
        Body::from_stream(begun.chain(futures::stream::pending()))
    };
    let post = |path: &str| Request::builder().method("POST").uri(path).body(never()).unwrap();
    // From many places, of both kinds of callers more than there are permits.
    let from = |number: u8, mut request: Request<Body>| {
        request.extensions_mut().insert(Source([10, 0, 0, number].into()));
        request
    };
    let others = (0..150).map(|n| ask(&state, from(n, with_token(post("/v1/enrol"), &token()))));
    let members = (0..100).map(|n| ask(&state, from(n, with_leaf(post("/v1/document"), 1))));
    let (others, members) = (futures::future::join_all(others), futures::future::join_all(members));
    let quick = async {
        // After they have begun.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = tokio::time::Instant::now();
        let create = with_leaf(request("POST", "/v1/document", encode(&document_of(&[1], 1)).unwrap()), 1);
        let statuses =
            (ask(&state, create).await.0, ask(&state, with_token(request("GET", "/x", vec![]), &token())).await.0);
        (statuses, began.elapsed())
    };
    let began = tokio::time::Instant::now();
    let (others, members, (statuses, took)) = tokio::join!(others, members, quick);
    assert!(began.elapsed() < 2 * REQUEST_TIME, "{:?}", began.elapsed());
    assert_eq!(statuses, (StatusCode::CREATED, StatusCode::NOT_FOUND));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let told = |answers: &[(StatusCode, Vec<u8>)], status| answers.iter().filter(|(told, _)| *told == status).count();
    assert_eq!(told(&others, StatusCode::REQUEST_TIMEOUT), 150);
    assert_eq!(told(&members, StatusCode::REQUEST_TIMEOUT), 100);
}
