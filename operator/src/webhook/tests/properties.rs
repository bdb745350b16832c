//! What holds for all pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use super::*;
use crate::webhook::patch;

/// Either of these, or null, which a merge reads as absent.
fn maybe(values: Vec<Value>) -> impl Strategy<Value = Value> {
    let mut values = values;
    values.push(Value::Null);
    prop::sample::select(values)
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let resources = maybe(vec![
        json!({}),
        json!({"requests": {"cpu": "100m"}}),
        json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
    ]);
    let env =
        maybe(vec![json!([]), json!([{"name": "A", "value": "1"}]), json!([{"name": "SIDEGRID_URL", "value": "u"}])]);
    let mounts = maybe(vec![
        json!([]),
        json!([{"name": "v", "mountPath": "/data"}]),
        json!([{"name": "v", "mountPath": "/run"}]),
        json!([{"name": "sidegrid-socket", "mountPath": "/run/sidegrid"}]),
    ]);
    let ports = maybe(vec![json!([{"containerPort": 8080}]), json!([{"containerPort": 7080}])]);
    let restart = maybe(vec![json!("Always")]);
    (resources, env, mounts, ports, restart).prop_map(move |(resources, env, mounts, ports, restart)| {
        // A field that these types don't know, to be kept.
        let mut whole = json!({"name": name, "image": "i:1", "newerField": {"of": name}});
        merge(&mut whole, json!({"resources": resources, "env": env, "volumeMounts": mounts, "ports": ports}));
        if name.starts_with("init") {
            merge(&mut whole, json!({"restartPolicy": restart}));
        }
        whole
    })
}

fn containers(names: [&'static str; 2]) -> impl Strategy<Value = Vec<Value>> {
    let [first, second] = names;
    (container(first), container(second), 0..=2_usize).prop_map(|(first, second, count)| {
        let mut all = vec![first, second];
        all.truncate(count);
        all
    })
}

prop_compose! {
    fn any_pod()(
        app in containers(["app", "sidegrid"]),
        init in prop::option::of(containers(["init-a", "init-b"])),
        affinity in maybe(vec![json!({}), json!({"podAntiAffinity": {}}), json!({"nodeAffinity": {}})]),
        spread in maybe(vec![json!([]), json!([{"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "ScheduleAnyway"}])]),
        sysctls in maybe(vec![
            json!([]),
            json!([{"name": "net.ipv4.ip_local_reserved_ports", "value": "1-2,3"}]),
            json!([{"name": "net.ipv4.ip_local_reserved_ports", "value": " "}, {"name": "x", "value": "y"}]),
        ]),
        volumes in maybe(vec![json!([]), json!([{"name": "v", "emptyDir": {}}])]),
        secrets in maybe(vec![json!([]), json!([{"name": "own"}]), json!([{"name": "pull"}])]),
        grace in maybe(vec![json!(0), json!(90)]),
        annotations in maybe(vec![
            json!({}),
            json!({"sidegrid.dev/injected": "0.0.9"}),
            json!({"sidegrid.dev/settings": "0"}),
            json!({"sidegrid.dev/readiness": "joined"}),
            json!({"sidecar.istio.io/inject": "true", "traffic.sidecar.istio.io/excludeInboundPorts": "1,7800"}),
            json!({"linkerd.io/inject": "disabled", "config.linkerd.io/skip-outbound-ports": "8000-9000"}),
        ]),
        role in maybe(vec![json!("member"), json!("client"), json!("other")]),
        owners in maybe(vec![json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"}])]),
    ) -> Value {
        let mut pod = raw(json!({
            "metadata": {"annotations": annotations, "ownerReferences": owners, "labels": {"sidegrid.dev/role": role}},
            "spec": {
                "affinity": affinity, "topologySpreadConstraints": spread, "volumes": volumes, "imagePullSecrets": secrets,
                "securityContext": {"sysctls": sysctls}, "terminationGracePeriodSeconds": grace,
                "newerField": ["kept"],
            },
        }));
        pod["spec"]["containers"] = Value::Array(app);
        if let Some(init) = init {
            pod["spec"]["initContainers"] = Value::Array(init);
        }
        pod
    }
}

fn any_cluster() -> impl Strategy<Value = CacheCluster> {
    let topology = prop::sample::select(vec![
        json!({}),
        json!({"antiAffinity": "required", "spread": []}),
        json!({"antiAffinity": "none"}),
    ]);
    let mesh = prop::sample::select(vec!["auto", "always", "never"]);
    let secrets = maybe(vec![json!([{"name": "pull"}, {"name": "pull-2"}])]);
    (topology, mesh, secrets).prop_map(|(topology, mesh, secrets)| {
        let spec = json!({"topology": topology, "mesh": {"istio": mesh}, "sidecar": {"imagePullSecrets": secrets}});
        cluster_with("web", spec)
    })
}

fn any_namespace() -> impl Strategy<Value = Option<ObjectMeta>> {
    let some = prop::sample::select(vec![
        json!({"labels": {"istio-injection": "enabled"}}),
        json!({"annotations": {"linkerd.io/inject": "enabled", "config.linkerd.io/skip-inbound-ports": "25"}}),
        json!({}),
    ]);
    prop::option::of(some.prop_map(|meta| serde_json::from_value(meta).unwrap()))
}

proptest! {
    #[test]
    fn injecting_twice_changes_nothing(
        raw in any_pod(),
        cluster in any_cluster(),
        namespace in any_namespace(),
    ) {
        let pod: Pod = serde_json::from_value(raw).unwrap();
        if let Ok(once) = inject(&pod, &cluster, namespace.as_ref(), &settings()) {
            let twice = inject(&once, &cluster, namespace.as_ref(), &settings());
            prop_assert_eq!(twice.as_ref(), Ok(&once));
            prop_assert!(patch::between(&once, &once).unwrap().0.is_empty());
        }
    }

    #[test]
    fn the_patch_makes_the_injected_pod_and_keeps_fields_that_it_does_not_know(
        raw in any_pod(),
        cluster in any_cluster(),
        namespace in any_namespace(),
    ) {
        let pod: Pod = serde_json::from_value(raw.clone()).unwrap();
        if let Ok(injected) = inject(&pod, &cluster, namespace.as_ref(), &settings()) {
            let mut patched = raw.clone();
            json_patch::patch(&mut patched, &patch::between(&pod, &injected).unwrap()).unwrap();
            let kept = |list: &str, shift: usize| {
                let before = raw["spec"][list].as_array().map_or(0, Vec::len);
                (0..before).all(|i| patched["spec"][list][i + shift]["newerField"] == raw["spec"][list][i]["newerField"])
            };
            prop_assert!(kept("containers", 0), "{patched}");
            prop_assert!(kept("initContainers", 1), "{patched}");
            prop_assert_eq!(&patched["spec"]["newerField"], &raw["spec"]["newerField"]);
            prop_assert_eq!(&patched["spec"]["initContainers"][0]["newerField"], &Value::Null);
            prop_assert_eq!(serde_json::from_value::<Pod>(patched).unwrap(), injected);
        }
    }
}

#[test]
fn the_generated_pods_are_often_injected_and_sometimes_refused() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut injected, mut refused) = (0, 0);
    for _ in 0..200 {
        let raw = any_pod().new_tree(&mut runner).unwrap().current();
        let pod: Pod = serde_json::from_value(raw).unwrap();
        match inject(&pod, &cluster(), None, &settings()) {
            Ok(_) => injected += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(injected > 20 && refused > 20, "{injected} {refused}");
}
