use std::net::SocketAddr;

use serde_json::json;
use sidegrid_core::document::{Agreed, AgreedCache, FORMAT, HASH_RULE, Timing};
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::view::{GroupPlacement, Incoming, Replicas, View};
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};

use super::*;
use crate::serving::WebhookStanding;

const SEGMENTS: u16 = 4;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Member `web-<id>` of pod `uid-<id>` at `site/rack/machine`.
fn member(id: u64, place: &str) -> Member {
    let mut parts = place.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let address = SocketAddr::from(([10, 0, 0, 1], 7800));
    Member {
        id: MemberId(id),
        name: format!("web-{id}"),
        identity: PlatformIdentity::Pod { uid: format!("uid-{id}") },
        incarnation: 1,
        data_address: address,
        failure_detection_address: address,
        locality: Locality { site: next(), rack: next(), machine: next() },
        protocols: (1, 1),
        joined: id,
    }
}

/// A document of members at these places with a cache `sessions` of two owners, the first two members in each group,
/// and `config`, replicated.
fn document(places: &[&str]) -> Document {
    let members: Vec<Member> = (0u64..).zip(places).map(|(id, place)| member(id, place)).collect();
    let group = |owners: u16| GroupPlacement {
        owners: (0..owners.min(u16::try_from(members.len()).unwrap())).collect(),
        incoming: Default::default(),
        dropped: Default::default(),
        primary_since: ViewNumber(1),
        empty_since: ViewNumber(1),
    };
    let mut groups = vec![group(2); usize::from(SEGMENTS)];
    groups.extend(vec![group(1); usize::from(SEGMENTS)]);
    let view = View {
        number: ViewNumber(7),
        classes: vec![Replicas::Count(2), Replicas::All],
        segments: SEGMENTS,
        groups,
        next_joined: 99,
        members,
    };
    assert!(view.is_sound());
    let caches = vec![
        AgreedCache { name: "config".into(), replicas: Replicas::All },
        AgreedCache { name: "sessions".into(), replicas: Replicas::Count(2) },
    ];
    Document {
        format: FORMAT,
        cluster: ClusterUid(1),
        revision: 1,
        ballot: 0,
        view,
        unsealed: Vec::new(),
        departed: Vec::new(),
        proofs: Default::default(),
        vacant: Default::default(),
        agreed: Agreed { segments: SEGMENTS, hash: HASH_RULE.into(), caches, timing: Timing::default() },
    }
}

fn cluster(caches: serde_json::Value) -> CacheCluster {
    let mut cluster = CacheCluster::new("web", serde_json::from_value(json!({"caches": caches})).unwrap());
    cluster.metadata.generation = Some(3);
    cluster
}

fn both() -> CacheCluster {
    cluster(json!({"sessions": {}, "config": {"mode": "replicated"}}))
}

fn pod(id: u64) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("web-{id}"), "uid": format!("uid-{id}"), "labels": {}},
        "spec": {
            "containers": [],
            "nodeName": format!("node-{id}"),
            "initContainers": [{"name": "sidegrid", "image": "reg.local:5000/sidegrid.dev/sidecar:0.1.0"}],
        },
        "status": {"initContainerStatuses": [{
            "name": "sidegrid", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}},
        }]},
    }))
    .unwrap()
}

/// Nothing stands in the way of these.
fn seen<'a>(cluster: &'a CacheCluster, document: Option<&'a Document>, pods: &'a [Pod]) -> Seen<'a> {
    Seen {
        cluster,
        document,
        document_fault: None,
        pods,
        settings_fault: None,
        webhook_fault: None,
        certificates: Fact::yes(ConditionReason::AuthorityReady, "fine"),
        guard: Fact::yes(ConditionReason::Guarded, "fine"),
    }
}

fn tell(cluster: &CacheCluster, document: Option<&Document>, pods: &[Pod], now: i64) -> CacheClusterStatus {
    status(&seen(cluster, document, pods), at(now))
}

/// `True Reason` of a condition.
fn says(status: &CacheClusterStatus, kind: &str) -> String {
    let condition = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    format!("{} {}", condition.status, condition.reason)
}

fn states(status: &CacheClusterStatus) -> Vec<(&str, &str)> {
    status.members.iter().map(|m| (m.name.as_str(), m.state.as_str())).collect()
}

#[test]
fn a_whole_cluster_is_ready_and_says_where_members_are() {
    let document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let status = tell(&both(), Some(&document), &[pod(2), pod(0), pod(1)], 5);
    assert_eq!((status.view, status.ready.as_str(), status.observed_generation), (7, "3/3", 3));
    assert_eq!(states(&status), [("web-0", "Member"), ("web-1", "Member"), ("web-2", "Member")]);
    let first = &status.members[0];
    assert_eq!(
        (first.node.as_str(), first.site.as_str(), first.rack.as_str(), first.machine.as_str(), first.version.as_str()),
        ("node-0", "eu", "a", "n0", "0.1.0")
    );
    assert_eq!(status.segments, crate::crd::SegmentStatus { total: 8, under_replicated: 0 });
    assert_eq!(status.survives, "pod,node,zone");
    assert_eq!(says(&status, "Ready"), "True AllMembersJoined");
    assert_eq!(says(&status, "Degraded"), "False FullyReplicated");
    assert_eq!(says(&status, "Rebalancing"), "False Settled");
    assert_eq!(says(&status, "InjectionReady"), "True AllInjected");
}

#[test]
fn what_is_survived_follows_the_true_placement() {
    let survives = |places: &[&str]| tell(&both(), Some(&document(places)), &[], 0).survives;
    assert_eq!(survives(&["eu/a/n0"]), "nothing");
    assert_eq!(survives(&["eu/a/n0", "eu/a/n0"]), "pod");
    assert_eq!(survives(&["eu/a/n0", "eu/a/n1"]), "pod,node");
    assert_eq!(survives(&["eu/a/n0", "us/a/n0"]), "pod,node,zone");
    // What is not known is no difference.
    assert_eq!(survives(&["//", "//n1"]), "pod");
    // The third member would help, but holds no copy of `sessions`.
    assert_eq!(survives(&["eu/a/n0", "eu/a/n0", "eu/b/n2"]), "pod");
}

/// Racks may be anything, such as rows in one hall.
#[test]
fn zones_are_told_by_labels_that_mean_zones() {
    let survives = |topology: serde_json::Value, places: &[&str]| {
        let mut cluster = both();
        cluster.spec.topology = serde_json::from_value(topology).unwrap();
        tell(&cluster, Some(&document(places)), &[], 0).survives
    };
    let rows = json!({"rack": "example.org/row"});
    assert_eq!(survives(rows.clone(), &["eu/a/n0", "eu/b/n1"]), "pod,node");
    // Two regions are two zones.
    assert_eq!(survives(rows, &["eu/a/n0", "us/a/n1"]), "pod,node,zone");
    let halls = json!({"rack": "example.org/row", "site": "example.org/hall"});
    assert_eq!(survives(halls, &["h1/a/n0", "h2/b/n1"]), "pod,node");
    let site = json!({"rack": "example.org/row", "site": "topology.kubernetes.io/zone"});
    assert_eq!(survives(site.clone(), &["z1/a/n0", "z2/a/n1"]), "pod,node,zone");
    assert_eq!(survives(site, &["z1/a/n0", "z1/b/n1"]), "pod,node");
    let machine = json!({"rack": "example.org/row", "machine": "topology.kubernetes.io/zone"});
    assert_eq!(survives(machine, &["eu/a/z1", "eu/a/z2"]), "pod,node,zone");
}

#[test]
fn caches_tell_each_for_itself() {
    let mut document = document(&["eu/a/n0", "eu/a/n0", "eu/b/n2"]);
    let asked = cluster(json!({
        "sessions": {}, "config": {"mode": "replicated"}, "scratch": {"mode": "local"}, "new": {"owners": 3},
    }));
    let of = |document: &Document, name: &str| {
        let status = tell(&asked, Some(document), &[], 0);
        let survives = status.caches.iter().find(|c| c.name == name).unwrap().survives;
        (survives.pod, survives.node, survives.zone)
    };
    assert_eq!(of(&document, "sessions"), (true, false, false));
    assert_eq!(of(&document, "config"), (true, true, true));
    assert_eq!(of(&document, "scratch"), (false, false, false));
    assert_eq!(of(&document, "new"), (false, false, false));
    // One segment whose second copy is not in sync is enough.
    document.view.groups[3].owners.truncate(1);
    document.view.groups[3].incoming.push(Incoming { member: 1, since: ViewNumber(7) });
    assert_eq!(of(&document, "sessions"), (false, false, false));
    let status = tell(&both(), Some(&document), &[pod(0), pod(1), pod(2)], 0);
    assert_eq!((status.segments.under_replicated, status.survives.as_str()), (1, "nothing"));
    assert_eq!(says(&status, "Degraded"), "True UnderReplicated");
    assert_eq!(says(&status, "Rebalancing"), "True CopiesBeingFilled");
}

#[test]
fn a_replicated_group_counts_members_that_are_being_filled_as_missing() {
    let mut document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let group = usize::from(SEGMENTS);
    document.view.groups[group].incoming.push(Incoming { member: 2, since: ViewNumber(7) });
    assert_eq!(tell(&both(), Some(&document), &[], 0).segments.under_replicated, 1);
}

#[test]
fn pods_are_told_by_how_they_stand() {
    let document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let mut pods: Vec<Pod> = (0..6).map(pod).collect();
    pods[0].metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let stopped = json!({"terminated": {"exitCode": 1}});
    pods[1].status.as_mut().unwrap().init_container_statuses.as_mut().unwrap()[0].state =
        serde_json::from_value(stopped).unwrap();
    pods[4].metadata.labels = Some([("sidegrid.dev/role".to_owned(), "client".to_owned())].into());
    pods[5].spec.as_mut().unwrap().init_containers = None;
    let mut finished = pod(6);
    finished.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
    pods.push(finished);
    pods.remove(2);
    let status = tell(&both(), Some(&document), &pods, 0);
    assert_eq!(
        states(&status),
        [
            ("web-0", "Leaving"),
            ("web-1", "Unreachable"),
            ("web-2", "Unreachable"),
            ("web-3", "Joining"),
            ("web-4", "Client"),
            ("web-5", "NotInjected"),
        ]
    );
    assert_eq!(status.ready, "0/3");
    assert_eq!(says(&status, "Ready"), "False MembersMissing");
    assert_eq!(says(&status, "Degraded"), "True MembersMissing");
    assert_eq!(says(&status, "InjectionReady"), "False PodsMissed");
}

#[test]
fn nothing_yet_and_nothing_known_are_different() {
    let status = tell(&both(), None, &[], 0);
    assert_eq!((status.view, status.ready.as_str()), (0, "0/0"));
    assert_eq!(says(&status, "Ready"), "False NoMembers");
    assert!(message(&status, "Ready").contains("spec.sidecar.resources"), "{}", message(&status, "Ready"));
    assert_eq!(says(&status, "Degraded"), "Unknown NoView");
    assert_eq!(says(&status, "Rebalancing"), "Unknown NoView");
    let mut cluster = both();
    cluster.status = Some(tell(&cluster, Some(&document(&["eu/a/n0", "eu/b/n1"])), &[pod(0), pod(1)], 0));
    let fault = Some("ConfigMap document-u is missing".into());
    let seen = Seen { document_fault: fault, ..seen(&cluster, None, &[]) };
    let told = super::status(&seen, at(9));
    assert_eq!((told.view, told.ready.as_str(), told.members.len()), (7, "2/2", 2), "what was known is told on");
    assert_eq!(says(&told, "Ready"), "False DocumentUnknown");
    assert_eq!(says(&told, "Degraded"), "True DocumentUnknown");
    assert_eq!(says(&told, "Rebalancing"), "Unknown DocumentUnknown");
}

#[test]
fn which_member_is_missing_and_why_is_in_the_message() {
    let document = document(&["eu/a/n0"]);
    let with = |id: u64, status: serde_json::Value| {
        let mut pod = pod(id);
        pod.status = serde_json::from_value(status).unwrap();
        pod
    };
    let sidecar = |state: serde_json::Value, last: serde_json::Value| {
        json!({"initContainerStatuses": [{
            "name": "sidegrid", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state,
            "lastState": last,
        }]})
    };
    let unplaced = json!({"conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient memory."},
    ]});
    let ended =
        json!({"terminated": {"exitCode": 64, "reason": "Error", "message": "a line\nnetwork.dataPort: is taken"}});
    let pods = [
        pod(0),
        with(1, unplaced),
        with(2, sidecar(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended)),
        with(3, sidecar(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}), json!({}))),
        with(4, json!({})),
        with(5, json!({})),
    ];
    let told = |pods: &[Pod]| message(&tell(&both(), Some(&document), pods, 0), "Ready");
    assert_eq!(
        told(&pods),
        "1 of 6 members are in the view: web-1: it has no node: 0/3 nodes are available: 3 Insufficient memory.; \
         web-2: its sidecar ended with code 64 (Error): a line network.dataPort: is taken; \
         web-3: its sidecar waits, ImagePullBackOff: no such image; 2 more"
    );
    assert_eq!(
        told(&pods[4..]),
        "0 of 3 members are in the view: web-0: its pod is gone; \
         web-4: its sidecar is starting; web-5: its sidecar is starting"
    );
    let long = json!({"terminated": {"exitCode": 1, "message": "x".repeat(9_000)}});
    assert!(told(&[pod(0), with(1, sidecar(long, json!({})))]).len() < 400, "what a container says is bounded");
}

#[test]
fn a_condition_keeps_its_time_while_it_stays() {
    let mut cluster = both();
    let document = document(&["eu/a/n0", "eu/b/n1"]);
    let time = |status: &CacheClusterStatus, kind: &str| {
        status.conditions.iter().find(|c| c.type_ == kind).unwrap().last_transition_time.0.as_second()
    };
    let first = tell(&cluster, Some(&document), &[pod(0), pod(1)], 10);
    cluster.status = Some(first.clone());
    let same = tell(&cluster, Some(&document), &[pod(0), pod(1)], 20);
    assert_eq!(same, first, "nothing new, nothing to write");
    let less = tell(&cluster, Some(&document), &[pod(0)], 30);
    assert_eq!((time(&less, "Ready"), time(&less, "CertificatesReady")), (30, 10));
}

#[test]
fn groups_that_started_empty_are_told_once_and_kept() {
    let mut document = document(&["r/a/n1", "r/b/n2"]);
    let mut cluster = both();
    let told = |cluster: &CacheCluster, document: &Document, second: i64| {
        let status = tell(cluster, Some(document), &[], second);
        (status.view, status.last_loss)
    };
    // Made empty with the cluster: no loss.
    assert_eq!(told(&cluster, &document, 1), (7, None));
    let before =
        |view: u64, last_loss: Option<LossStatus>| CacheClusterStatus { view, last_loss, ..Default::default() };
    cluster.status = Some(before(7, None));
    document.view.number = ViewNumber(9);
    document.view.groups[0].empty_since = ViewNumber(8);
    document.view.groups[3].empty_since = ViewNumber(9);
    let loss = LossStatus { view: 9, segments: 2, seen: at(5).to_string() };
    assert_eq!(told(&cluster, &document, 5), (9, Some(loss.clone())));
    cluster.status = Some(before(9, Some(loss.clone())));
    assert_eq!(told(&cluster, &document, 6), (9, Some(loss)), "with its time, and not again");
}

#[test]
fn a_member_that_nobody_hears_from_is_not_told_as_one() {
    let document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let mut pods: Vec<Pod> = (0..3).map(pod).collect();
    // Not ready; on a node that went silent; deleted, with its grace over.
    pods[0].status.as_mut().unwrap().init_container_statuses.as_mut().unwrap()[0].ready = false;
    let marked = json!([{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]);
    pods[1].status.as_mut().unwrap().conditions = serde_json::from_value(marked).unwrap();
    pods[2].metadata.deletion_timestamp = serde_json::from_value(json!("1970-01-01T00:00:30Z")).unwrap();
    let words = |status: CacheClusterStatus| status.members.into_iter().map(|m| m.state).collect::<Vec<_>>();
    assert_eq!(words(tell(&both(), Some(&document), &pods, 29)), ["Unreachable", "Unreachable", "Leaving"]);
    let status = tell(&both(), Some(&document), &pods, 31);
    assert_eq!(status.ready, "0/3");
    assert_eq!(says(&status, "Ready"), "False MembersMissing");
    assert_eq!(says(&status, "Degraded"), "True MembersMissing");
    assert_eq!(words(status), ["Unreachable"; 3]);
}

/// A pod whose sidecar was injected under this spec.
fn made_under(id: u64, cluster: &CacheCluster) -> Pod {
    let mut pod = pod(id);
    let digest = crate::settings::digest(&cluster.spec);
    pod.metadata.annotations = Some([("sidegrid.dev/settings".to_owned(), digest)].into());
    pod
}

fn message(status: &CacheClusterStatus, kind: &str) -> String {
    status.conditions.iter().find(|c| c.type_ == kind).unwrap().message.clone()
}

#[test]
fn pods_that_were_made_before_the_present_settings_are_told_and_keep_nothing_from_being_ready() {
    let document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let mut cluster = both();
    assert_eq!(says(&tell(&cluster, None, &[], 0), "SettingsCurrent"), "True AllCurrent");
    let mut pods: Vec<Pod> = (0..3).map(|id| made_under(id, &cluster)).collect();
    cluster.spec.disruption.max_unavailable = 2;
    assert_eq!(says(&tell(&cluster, Some(&document), &pods, 0), "SettingsCurrent"), "True AllCurrent");

    cluster.spec.caches.get_mut("sessions").unwrap().ttl = Some("30m".into());
    pods[2] = made_under(2, &cluster);
    let status = tell(&cluster, Some(&document), &pods, 0);
    assert_eq!(says(&status, "SettingsCurrent"), "False PodsOutdated");
    assert_eq!(
        message(&status, "SettingsCurrent"),
        "2 of 3 pods were made before the present settings: restart their workload, for example with kubectl rollout restart"
    );
    assert_eq!(says(&status, "Ready"), "True AllMembersJoined");

    // One that doesn't say, since an older operator injected it.
    pods = (0..3).map(|id| made_under(id, &cluster)).collect();
    pods[0].metadata.annotations = None;
    assert!(message(&tell(&cluster, Some(&document), &pods, 0), "SettingsCurrent").starts_with("1 of 3 pods"));
    // Those that go, have gone, or have no sidecar, are asked for nothing.
    pods[0].metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    pods[1].metadata.annotations = None;
    pods[1].status.as_mut().unwrap().phase = Some("Succeeded".into());
    pods[2].spec.as_mut().unwrap().init_containers = None;
    assert_eq!(says(&tell(&cluster, Some(&document), &pods, 0), "SettingsCurrent"), "True AllCurrent");
}

#[test]
fn injection_is_not_ready_while_the_webhook_is_not_in_place() {
    let cluster = both();
    for (standing, told) in [
        (WebhookStanding::Unknown, "True AllInjected"),
        (WebhookStanding::InPlace, "True AllInjected"),
        (WebhookStanding::Missing, "False WebhookMissing"),
        (WebhookStanding::Untrusted, "False WebhookUntrusted"),
    ] {
        let seen = Seen { webhook_fault: standing.fault(), ..seen(&cluster, None, &[]) };
        assert_eq!(says(&status(&seen, at(0)), "InjectionReady"), told);
    }
}

#[test]
fn a_cluster_that_is_being_deleted_is_not_told_as_ready_and_nobody_is_asked_to_restart_its_pods() {
    let document = document(&["eu/a/n0", "eu/b/n1", "eu/c/n2"]);
    let mut cluster = both();
    cluster.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let status = tell(&cluster, Some(&document), &[pod(0), pod(1)], 0);
    assert_eq!((says(&status, "Ready"), status.ready.as_str()), ("False Deleting".to_owned(), "2/3"));
    assert!(message(&status, "Ready").contains("2 of 3 members"));
    assert!(message(&status, "Ready").contains("Scale their workloads down"), "it says what to do");
    assert_eq!(says(&status, "InjectionReady"), "False Deleting");
    assert_eq!(says(&status, "Degraded"), "True MembersMissing");
    assert!(!message(&status, "SettingsCurrent").contains("restart"));
}
