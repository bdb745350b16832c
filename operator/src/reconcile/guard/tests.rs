//! The guard over schedules of pods, as its budget follows them.

use serde_json::{Value, json};
use sidegrid_core::ViewNumber;
use sidegrid_core::view::Incoming;

use super::*;
use crate::fake_api::{document_of, member_of};

fn pod(labels: Value) -> Pod {
    let spec = json!({"containers": [], "initContainers": [{"name": "sidegrid"}]});
    serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap()
}

/// A pod of a ReplicaSet with this number as its uid, ready or not.
fn replica(id: u64, ready: bool) -> Pod {
    let status = if ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("web-{id}"), "uid": format!("pod-{id}"),
            "labels": {"sidegrid.dev/cluster": "web", "app": "shop"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "w", "uid": "r", "controller": true}],
        },
        "spec": {"containers": [], "initContainers": [{"name": "sidegrid"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": status}],
            "initContainerStatuses": [{
                "name": "sidegrid", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}},
            }],
        },
    }))
    .unwrap()
}

fn replicas(ids: impl IntoIterator<Item = u64>) -> Vec<Pod> {
    ids.into_iter().map(|id| replica(id, true)).collect()
}

fn members(count: u64) -> Vec<Pod> {
    replicas(1..=count)
}

/// The pod on its way out, with grace until this second.
fn going(mut pod: Pod, until: i64) -> Pod {
    pod.metadata.deletion_timestamp = serde_json::from_value(json!(at(until).to_string())).unwrap();
    pod
}

fn of_stateful_set(mut pod: Pod) -> Pod {
    pod.metadata.owner_references.as_mut().unwrap()[0].kind = "StatefulSet".into();
    pod
}

fn missed(id: u64) -> Pod {
    let mut pod = replica(id, true);
    pod.spec.as_mut().unwrap().init_containers = None;
    pod
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The budget of one member that may be away, for these pods and this view, every copy filled.
fn next(pods: &[Pod], view: &[u64], before: Option<Budget>, second: i64) -> Budget {
    let mut document = document_of(view, 7);
    document.view.members = view.iter().map(|id| member_of(*id, &format!("pod-{id}"), 1)).collect();
    let sight = Sight { pods, document: Some(&document), filling_since: None, now: at(second) };
    budget(&sight, 1, before)
}

fn says(min_available: i32, lower_since: Option<i64>) -> Budget {
    Budget { min_available, lower_since, holds_unready: false }
}

/// A drain of a node with three of nine members: after each eviction the number is that of nine again as soon as the
/// replacement serves, and at no time that of ten.
#[test]
fn a_drain_takes_as_long_as_its_replacements() {
    let (mut ids, mut now): (Vec<u64>, i64) = ((1..=9).collect(), 0);
    let mut before = Some(next(&replicas(ids.clone()), &ids, None, now));
    assert_eq!(before, Some(says(8, None)));
    for evicted in 1..=3_u64 {
        let (out, new) = (going(replica(evicted, true), now + 30), 100 + evicted);
        let left: Vec<u64> = ids.iter().copied().filter(|id| *id != evicted).collect();
        // Told to go; its replacement is made and joins; then it has gone.
        let mut pods = replicas(left.clone());
        pods.push(out.clone());
        before = Some(next(&pods, &ids, before, now + 1));
        assert_eq!(before.unwrap().min_available, 8, "nobody else goes meanwhile");
        pods.push(replica(new, false));
        before = Some(next(&pods, &ids, before, now + 2));
        assert_eq!(before.unwrap().min_available, 8);
        pods.pop();
        pods.push(replica(new, true));
        ids = left.into_iter().chain([new]).collect();
        before = Some(next(&pods, &ids, before, now + 4));
        assert_eq!(before, Some(says(8, None)), "nine are ready: the next may go");
        now += 5;
        before = Some(next(&replicas(ids.clone()), &ids, before, now));
        assert_eq!(before, Some(says(8, None)));
    }
}

#[test]
fn after_a_scale_down_the_number_falls_once_the_rest_is_whole() {
    let before = Some(next(&members(10), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], None, 0));
    let mut pods = members(3);
    pods.extend((4..=10).map(|id| going(replica(id, true), 60)));
    let going_on = next(&pods, &[1, 2, 3, 9, 10], before, 10);
    assert_eq!(going_on, says(9, Some(10)));
    assert_eq!(next(&pods, &[1, 2, 3, 9, 10], Some(going_on), 14), going_on, "some still hand over");
    assert_eq!(next(&members(3), &[1, 2, 3], Some(going_on), 15), says(2, None));
    // A view that still names those that have gone keeps nothing up: each pod that is there is a member.
    assert_eq!(next(&members(3), &[1, 2, 3, 4], Some(going_on), 15), says(2, None));
}

/// A StatefulSet makes a pod anew only when the old one has gone.
#[test]
fn a_stateful_sets_pod_counts_until_it_comes_back() {
    let set = |ids: &[u64]| -> Vec<Pod> { ids.iter().map(|id| of_stateful_set(replica(*id, true))).collect() };
    let before = Some(next(&set(&[1, 2, 3]), &[1, 2, 3], None, 0));
    let mut pods = set(&[2, 3]);
    pods.push(going(of_stateful_set(replica(1, true)), 30));
    let before = next(&pods, &[1, 2, 3], before, 9);
    assert_eq!(before, says(2, None), "it stands for its successor");
    let gone = next(&set(&[2, 3]), &[2, 3], Some(before), 10);
    assert_eq!(gone, says(2, Some(10)));
    assert_eq!(next(&set(&[2, 3]), &[2, 3], Some(gone), 14), gone, "there is time to make it");
    let mut pods = set(&[2, 3]);
    pods.push(of_stateful_set(replica(4, false)));
    assert_eq!(next(&pods, &[2, 3], Some(gone), 40), gone, "and to join");
    assert_eq!(next(&pods, &[2, 3], Some(gone), 70), says(1, None), "but not for ever");
    // One on a node that doesn't answer is waited for no longer than any other.
    let mut pods = set(&[2, 3]);
    pods.push(going(of_stateful_set(replica(1, true)), 30));
    assert_eq!(next(&pods, &[2, 3], Some(says(2, None)), 31).lower_since, Some(31));
}

/// Three members whose apps crash: the grid is whole, so their pods may go, ready or not.
#[test]
fn pods_that_never_were_ready_hold_no_drain_up() {
    let pods: Vec<Pod> = (1..=3).map(|id| replica(id, false)).collect();
    let first = next(&pods, &[1, 2, 3], None, 0);
    assert_eq!(first, says(0, None));
    assert_eq!(spec("web", first).unhealthy_pod_eviction_policy.as_deref(), Some("AlwaysAllow"));
    // One that is well is guarded beside those that aren't, and not held by them for ever.
    let mut mixed = members(3);
    mixed.extend([replica(4, false), replica(5, false)]);
    assert_eq!(next(&mixed, &[1, 2, 3, 4, 5], None, 0), says(2, None));
    let crashed = next(&mixed, &[1, 2, 3, 4, 5], Some(says(4, None)), 10);
    assert_eq!(crashed, says(4, Some(10)));
    assert_eq!(next(&mixed, &[1, 2, 3, 4, 5], Some(crashed), 15), says(2, None));
    // One that can't be placed isn't a member: it holds the number for a minute.
    let pending = next(&mixed, &[1, 2, 3, 4], Some(says(4, None)), 10);
    assert_eq!(next(&mixed, &[1, 2, 3, 4], Some(pending), 69), pending);
    assert_eq!(next(&mixed, &[1, 2, 3, 4], Some(pending), 70), says(2, None));
}

#[test]
fn unready_pods_are_kept_while_copies_are_filled_and_not_for_ever() {
    let pods = members(3);
    let mut document = document_of(&[1, 2, 3], 7);
    document.view.groups[0].incoming.push(Incoming { member: 1, since: ViewNumber(7) });
    let holds = |filling_since: Option<i64>, second: i64| {
        let filling_since = filling_since.map(at);
        let sight = Sight { pods: &pods, document: Some(&document), filling_since, now: at(second) };
        let budget = budget(&sight, 1, None);
        let policy = spec("web", budget).unhealthy_pod_eviction_policy;
        assert_eq!(policy.as_deref() == Some("IfHealthyBudget"), budget.holds_unready);
        budget.holds_unready
    };
    assert!(holds(None, 100) && holds(Some(100), 159));
    assert!(!holds(Some(100), 160));
    // What isn't known is no reason to hold.
    assert!(!budget(&Sight { pods: &pods, document: None, filling_since: None, now: at(0) }, 1, None).holds_unready);
}

#[test]
fn without_a_document_the_number_falls_late() {
    let fewer = |before: Budget, second: i64| {
        let pods = members(4);
        let sight = Sight { pods: &pods, document: None, filling_since: None, now: at(second) };
        budget(&sight, 1, Some(before))
    };
    let gone = fewer(says(4, None), 10);
    assert_eq!(gone, says(4, Some(10)));
    assert_eq!(fewer(gone, 69), gone);
    assert_eq!(fewer(gone, 70), says(3, None));
    // A clock that went back begins anew.
    assert_eq!(fewer(says(4, Some(99)), 70), says(4, Some(70)));
}

#[test]
fn clients_and_finished_pods_do_not_count() {
    let mut pods = members(2);
    pods.push(replica(3, true));
    pods[2].metadata.labels.as_mut().unwrap().insert("sidegrid.dev/role".into(), "client".into());
    pods.push(replica(4, true));
    pods[3].status.as_mut().unwrap().phase = Some("Succeeded".into());
    assert_eq!(next(&pods, &[1, 2], None, 0).min_available, 1);
}

/// Three members and two pods without the sidecar: Kubernetes counts five healthy ones, and two of five would let all
/// members be evicted at once.
#[test]
fn missed_pods_do_not_stand_in_for_members() {
    let mut pods = members(3);
    pods.extend([missed(4), missed(5)]);
    assert_eq!(next(&pods, &[1, 2, 3], None, 0).min_available, 4);
}

#[test]
fn another_budget_that_selects_a_member_is_named() {
    let of = |name: &str, selector: Value| -> PodDisruptionBudget {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"selector": selector}})).unwrap()
    };
    let own = of("web-sidegrid", json!({"matchLabels": {"sidegrid.dev/cluster": "web"}}));
    let stranger = of("db", json!({"matchLabels": {"app": "db"}}));
    let theirs = of("shop", json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["shop"]}]}));
    let everything = of("all", json!({}));
    let pods = members(1);
    assert_eq!(other(&[own.clone(), stranger.clone()], "web-sidegrid", &pods), None);
    assert_eq!(other(&[own, stranger, theirs.clone()], "web-sidegrid", &pods), Some("shop"));
    assert_eq!(other(&[everything], "web-sidegrid", &pods), Some("all"));
    assert_eq!(other(std::slice::from_ref(&theirs), "web-sidegrid", &[]), None);
    assert_eq!(other(&[theirs], "web-sidegrid", &[missed(1)]), None, "no member is theirs");
}

#[test]
fn what_is_written_is_read_again() {
    for holds_unready in [false, true] {
        let written = Budget { min_available: 2, lower_since: Some(7), holds_unready };
        let mut object = PodDisruptionBudget { spec: Some(spec("web", written)), ..PodDisruptionBudget::default() };
        object.metadata.annotations = Some(BTreeMap::from([(LOWER_SINCE.to_owned(), "7".to_owned())]));
        assert_eq!(said(&object), Some(written));
        let selector = Selector::try_from(object.spec.unwrap().selector.unwrap()).unwrap();
        let labels = |pod: Pod| pod.metadata.labels.unwrap();
        assert!(selector.matches(&labels(members(1).remove(0))));
        let client = pod(json!({"sidegrid.dev/cluster": "web", "sidegrid.dev/role": "client"}));
        assert!(!selector.matches(&labels(client)));
    }
}
