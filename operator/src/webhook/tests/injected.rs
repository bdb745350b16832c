//! What injection adds.

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::{Value, json};
use sidegrid_config::{Settings, Sources};

use super::*;

const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

#[test]
fn the_sidecar_is_the_first_init_container_and_a_native_one() {
    let changes = json!({"spec": {"initContainers": [{"name": "migrate", "image": "m:1"}]}});
    let pod = injected(changes, &cluster());
    let names: Vec<_> = spec(&pod).init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["sidegrid", "migrate"]);
    let expected = json!({
        "name": "sidegrid",
        "image": "sidegrid.dev/sidecar:0.1.0",
        "command": ["/sidegrid"],
        "args": ["serve"],
        "restartPolicy": "Always",
        "env": [
            {"name": "SIDEGRID_CONFIG", "value": "/etc/sidegrid/sidegrid.yaml"},
            {"name": "SIDEGRID_MEMBER_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SIDEGRID_MEMBER_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "SIDEGRID_NETWORK_BIND_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "SIDEGRID_MEMBER_ROLE", "value": "member"},
            {"name": "SIDEGRID_LOG_FORMAT", "value": "json"},
            {"name": "SIDEGRID_HTTP_LISTEN", "value": "127.0.0.1:7080"},
            {"name": "SIDEGRID_NETWORK_DATA_PORT", "value": "7800"},
            {"name": "SIDEGRID_NETWORK_FAILURE_DETECTION_PORT", "value": "57800"},
            {"name": "SIDEGRID_HTTP_SOCKET", "value": "/run/sidegrid-socket/http.sock"},
        ],
        "ports": [
            {"name": "sidegrid-data", "containerPort": 7800, "protocol": "TCP"},
            {"name": "sidegrid-fd", "containerPort": 57800, "protocol": "TCP"},
            {"name": "sidegrid-admin", "containerPort": 7990, "protocol": "TCP"},
        ],
        "startupProbe": {
            "httpGet": {"path": "/startupz", "port": 7990},
            "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 1800,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": 7990},
            "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": 7990},
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["/sidegrid", "drain", "--timeout", "25s"]}}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "sidegrid-run", "mountPath": "/run/sidegrid"},
            {"name": "sidegrid-socket", "mountPath": "/run/sidegrid-socket"},
            {"name": "sidegrid-config", "mountPath": "/etc/sidegrid", "readOnly": true},
            {"name": "sidegrid-token", "mountPath": "/var/run/secrets/sidegrid.dev", "readOnly": true},
            {"name": "sidegrid-no-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
    });
    assert_eq!(serde_json::to_value(sidecar(&pod)).unwrap(), expected);
    let digest = crate::settings::digest(&cluster().spec);
    let left = json!({"sidegrid.dev/injected": "0.1.0", "sidegrid.dev/settings": digest});
    assert_eq!(at(&pod, "/metadata/annotations"), left);
}

#[test]
fn a_sidecar_understands_its_environment() {
    let pod = injected(json!({}), &cluster());
    let value = |variable: &EnvVar| match variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref()) {
        Some(field) if field.field_path == "status.podIP" => "10.0.0.1".to_owned(),
        Some(_) => "of-each-pod".to_owned(),
        None => variable.value.clone().unwrap(),
    };
    let env = sidecar(&pod).env.iter().flatten().map(|variable| (variable.name.clone(), value(variable))).collect();
    let read = Settings::load(Sources { env, ..Sources::default() }).unwrap().settings;
    assert_eq!(read.http.socket.unwrap().to_str(), Some("/run/sidegrid-socket/http.sock"));
    assert_eq!(read.network.bind_address.to_string(), "10.0.0.1");
}

#[test]
fn volumes_carry_settings_a_socket_and_a_token_for_the_sidecar_alone() {
    let pod = injected(json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}]}}), &cluster());
    let expected = json!([
        {"name": "data", "emptyDir": {}},
        {"name": "sidegrid-run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "sidegrid-socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "sidegrid-no-token", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "sidegrid-config", "configMap": {"name": "web-sidegrid"}},
        {"name": "sidegrid-token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "sidegrid", "path": "token", "expirationSeconds": 3600}},
        ]}},
    ]);
    assert_eq!(at(&pod, "/spec/volumes"), expected);
    let shared = json!([{"name": "sidegrid-socket", "mountPath": "/run/sidegrid", "readOnly": true}]);
    assert_eq!(at(&pod, "/spec/containers/0/volumeMounts"), shared);
}

#[test]
fn the_clusters_own_choices_are_followed() {
    let cluster = cluster_with(
        "web",
        json!({
            "sidecar": {
                "image": "mirror/sidecar:2", "imagePullPolicy": "Never", "http": {"port": 8181},
                "resources": {"requests": {"cpu": "1"}},
            },
            "network": {"dataPort": 40000, "failureDetectionPort": 50000, "reservePorts": true},
        }),
    );
    let pod = injected(json!({"spec": {"terminationGracePeriodSeconds": 90}}), &cluster);
    let sidecar = sidecar(&pod);
    assert_eq!(sidecar.image.as_deref(), Some("mirror/sidecar:2"));
    assert_eq!(sidecar.image_pull_policy.as_deref(), Some("Never"));
    assert_eq!(serde_json::to_value(&sidecar.resources).unwrap(), json!({"requests": {"cpu": "1"}}));
    let ports: Vec<_> = sidecar.ports.iter().flatten().map(|port| port.container_port).collect();
    assert_eq!(ports, [40000, 50000, 7990]);
    assert_eq!(at(&pod, "/spec/initContainers/0/lifecycle/preStop/exec/command/3"), "85s");
    assert_eq!(at(&pod, "/spec/containers/0/env/0/value"), "http://127.0.0.1:8181");
    assert_eq!(at(&pod, "/spec/securityContext/sysctls"), json!([{"name": RESERVED, "value": "40000,50000"}]));
}

#[test]
fn app_containers_and_native_sidecars_are_told_the_address_unless_they_have_one() {
    let changes = json!({"spec": {
        "initContainers": [
            {"name": "migrate", "image": "m:1"},
            {"name": "proxy", "image": "p:1", "restartPolicy": "Always"},
        ],
        "containers": [
            {"name": "app", "image": "a:1", "env": [{"name": "A", "value": "1"}]},
            {"name": "own", "image": "b:1", "env": [{"name": "SIDEGRID_URL", "value": "http://elsewhere"}]},
        ],
    }});
    let pod = injected(changes, &cluster());
    let url = json!({"name": "SIDEGRID_URL", "value": "http://127.0.0.1:7080"});
    let own = json!({"name": "SIDEGRID_URL", "value": "http://elsewhere"});
    assert_eq!(at(&pod, "/spec/containers/0/env"), json!([{"name": "A", "value": "1"}, url, socket()]));
    assert_eq!(at(&pod, "/spec/containers/1/env"), json!([own, socket()]));
    // The sidecar serves before either of them starts.
    for index in [1, 2] {
        assert_eq!(at(&pod, &format!("/spec/initContainers/{index}/env")), json!([url, socket()]));
        assert_eq!(at(&pod, &format!("/spec/initContainers/{index}/volumeMounts/0/mountPath")), "/run/sidegrid");
    }
}

/// Another webhook may put its own before the sidecar: nothing serves yet while it runs.
#[test]
fn a_plain_init_container_before_the_sidecar_is_told_nothing() {
    let mut pod = injected(json!({}), &cluster());
    let init = pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap();
    init.insert(0, serde_json::from_value(json!({"name": "early", "image": "e:1"})).unwrap());
    init.push(serde_json::from_value(json!({"name": "late", "image": "l:1"})).unwrap());
    let again = inject(&pod, &cluster(), None, &settings()).unwrap();
    assert_eq!(at(&again, "/spec/initContainers/0/env"), Value::Null);
    assert_eq!(at(&again, "/spec/initContainers/2/env/0/name"), "SIDEGRID_URL");
}

/// User, group and sysctls are the namespace's to rule over.
#[test]
fn nothing_is_injected_that_a_namespaces_policy_may_want_otherwise() {
    let security = |of_pod: Value, sidecar: Value| {
        let cluster = cluster_with("web", json!({"sidecar": sidecar}));
        let pod = injected(json!({"spec": {"securityContext": of_pod}}), &cluster);
        assert_eq!(at(&pod, "/spec/securityContext"), of_pod, "the pod's own stays");
        let of = at(&pod, "/spec/initContainers/0/securityContext");
        (of["runAsUser"].clone(), of["runAsGroup"].clone(), of["seccompProfile"]["type"].clone())
    };
    let (none, default) = (Value::Null, json!("RuntimeDefault"));
    assert_eq!(security(none.clone(), json!({})), (none.clone(), none.clone(), default.clone()));
    assert_eq!(security(json!({"runAsUser": 1000}), json!({})), (none.clone(), none.clone(), default.clone()));
    // The pod's root would be refused by the kubelet, as the sidecar never runs as root.
    assert_eq!(security(json!({"runAsUser": 0}), json!({})), (json!(65_532), none.clone(), default.clone()));
    let given = json!({"runAsUser": 7, "runAsGroup": 8});
    assert_eq!(security(json!({"runAsUser": 0}), given), (json!(7), json!(8), default.clone()));
    let local = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}});
    assert_eq!(security(local, json!({})), (none.clone(), none.clone(), none.clone()), "the pod's own profile");
    let unconfined = json!({"seccompProfile": {"type": "Unconfined"}});
    assert_eq!(security(unconfined, json!({})), (none.clone(), none, default));
}

#[test]
fn the_operators_address_is_given_beside_its_name() {
    let variable = |service_address: Option<std::net::IpAddr>| {
        let settings = InjectSettings { service_address, ..settings() };
        let pod = inject(&pod(json!({})), &cluster(), None, &settings).unwrap();
        at(&pod, "/spec/initContainers/0/env/10")
    };
    assert_eq!(variable(None), Value::Null);
    let said = |at: &str| json!({"name": "SIDEGRID_OPERATOR_SERVICE_HOST", "value": at});
    assert_eq!(variable("10.96.0.7".parse().ok()), said("10.96.0.7"));
    assert_eq!(variable("fd00::7".parse().ok()), said("fd00::7"));
}

/// The variable that tells the socket.
fn socket() -> Value {
    json!({"name": "SIDEGRID_SOCKET", "value": "/run/sidegrid/http.sock"})
}

/// Environment and mounts of the app's container, which has these of its own.
fn told(env: Value, mounts: Value) -> (Value, Value) {
    let app = json!({"name": "app", "image": "a:1", "env": env, "volumeMounts": mounts});
    let pod = injected(json!({"spec": {"containers": [app]}}), &cluster());
    (at(&pod, "/spec/containers/0/env"), at(&pod, "/spec/containers/0/volumeMounts"))
}

#[test]
fn a_container_with_something_where_the_socket_goes_keeps_it_and_is_told_no_socket() {
    for path in ["/run/sidegrid", "/run", "/run/sidegrid/deeper", "/var/run/"] {
        let own = json!([{"name": "own", "mountPath": path}]);
        let (env, mounts) = told(Value::Null, own.clone());
        assert_eq!((env.as_array().unwrap().len(), mounts), (1, own), "{path}");
    }
    let device = json!({"name": "app", "volumeDevices": [{"name": "disk", "devicePath": "/run/sidegrid"}]});
    let pod = injected(json!({"spec": {"containers": [device]}}), &cluster());
    assert_eq!(at(&pod, "/spec/containers/0/volumeMounts"), Value::Null);

    let beside = json!([{"name": "own", "mountPath": "/"}, {"name": "own", "mountPath": "/run/other"}]);
    let (env, mounts) = told(Value::Null, beside);
    assert_eq!((&env[1], &mounts[2]["mountPath"]), (&socket(), &json!("/run/sidegrid")));

    let own = json!([{"name": "SIDEGRID_SOCKET", "value": "/elsewhere"}]);
    let (env, _) = told(own.clone(), Value::Null);
    assert_eq!((&env[0], env.as_array().unwrap().len()), (&own[0], 2));
}

#[test]
fn beside_a_sidecar_without_the_socket_volume_nobody_is_told_a_socket() {
    let mut pod = injected(json!({}), &cluster());
    let spec = pod.spec.as_mut().unwrap();
    let sidecar = &mut spec.init_containers.as_mut().unwrap()[0];
    sidecar.volume_mounts.as_mut().unwrap().retain(|mount| mount.name != "sidegrid-socket");
    spec.containers = serde_json::from_value(json!([{"name": "app"}])).unwrap();
    let again = inject(&pod, &cluster(), None, &settings()).unwrap();
    assert_eq!(at(&again, "/spec/containers/0/env/0/name"), "SIDEGRID_URL");
    assert_eq!(at(&again, "/spec/containers/0/env/1"), Value::Null);
    assert_eq!(at(&again, "/spec/containers/0/volumeMounts"), Value::Null);
}

#[test]
fn pull_secrets_are_added_to_the_pods_own() {
    let cluster = cluster_with("web", json!({"sidecar": {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]}}));
    let secrets =
        |own: Value| at(&injected(json!({"spec": {"imagePullSecrets": own}}), &cluster), "/spec/imagePullSecrets");
    assert_eq!(secrets(Value::Null), json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(secrets(json!([{"name": "b"}, {"name": "c"}])), json!([{"name": "b"}, {"name": "c"}, {"name": "a"}]));
    assert_eq!(at(&injected(json!({}), &super::cluster()), "/spec/imagePullSecrets"), Value::Null);
}

#[test]
fn members_keep_off_each_others_nodes_unless_the_pod_says_otherwise() {
    let members = json!({
        "matchLabels": {"sidegrid.dev/cluster": "web"},
        "matchExpressions": [{"key": "sidegrid.dev/role", "operator": "NotIn", "values": ["client"]}],
    });
    let term = json!({"labelSelector": members, "topologyKey": "kubernetes.io/hostname"});
    let preferred =
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]});
    let spread = json!([{
        "labelSelector": members, "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
    }]);
    let pod = injected(json!({}), &cluster());
    assert_eq!(at(&pod, "/spec/affinity"), json!({"podAntiAffinity": preferred}));
    assert_eq!(at(&pod, "/spec/topologySpreadConstraints"), spread);

    let required = cluster_with("web", json!({"topology": {"antiAffinity": "required", "spread": ["rack", "row"]}}));
    let pod = injected(json!({"spec": {"affinity": {"nodeAffinity": {}}}}), &required);
    assert_eq!(at(&pod, "/spec/affinity/nodeAffinity"), json!({}));
    assert_eq!(
        at(&pod, "/spec/affinity/podAntiAffinity"),
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
    );
    assert_eq!(at(&pod, "/spec/topologySpreadConstraints/1/topologyKey"), "row");

    let none = cluster_with("web", json!({"topology": {"antiAffinity": "none", "spread": []}}));
    let pod = injected(json!({}), &none);
    assert_eq!(at(&pod, "/spec/affinity"), Value::Null);
    assert_eq!(at(&pod, "/spec/topologySpreadConstraints"), Value::Null);

    let own = json!([{"maxSkew": 3, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}]);
    let changes = json!({"spec": {"affinity": {"podAntiAffinity": {}}, "topologySpreadConstraints": own}});
    let pod = injected(changes, &cluster());
    assert_eq!(at(&pod, "/spec/affinity"), json!({"podAntiAffinity": {}}));
    assert_eq!(at(&pod, "/spec/topologySpreadConstraints"), own);
}

#[test]
fn ports_are_reserved_only_where_pod_or_cluster_reserve_some() {
    let (asked, unasked) = (cluster_with("web", json!({"network": {"reservePorts": true}})), cluster());
    let others = json!({"spec": {"securityContext": {"sysctls": [{"name": "x", "value": "1"}]}}});
    assert_eq!(at(&injected(others, &unasked), "/spec/securityContext/sysctls/1"), Value::Null);
    let reserved = |value: Option<&str>| {
        let sysctls = value
            .map(|value| json!([{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": RESERVED, "value": value}]));
        let changes = json!({"spec": {"securityContext": {"fsGroup": 5, "sysctls": sysctls}}});
        let pod = injected(changes, if value.is_some() { &unasked } else { &asked });
        assert_eq!(at(&pod, "/spec/securityContext/fsGroup"), 5);
        at(
            &pod,
            if value.is_some() {
                "/spec/securityContext/sysctls/1/value"
            } else {
                "/spec/securityContext/sysctls/0/value"
            },
        )
    };
    assert_eq!(reserved(None), "57800");
    assert_eq!(reserved(Some("")), "57800");
    assert_eq!(reserved(Some("8080,9148-9150")), "8080,9148-9150,57800");
    assert_eq!(reserved(Some("50000-60000")), "50000-60000");
    assert_eq!(reserved(Some("57800")), "57800");
    assert_eq!(reserved(Some("odd,-")), "odd,-,57800");
}

#[test]
fn clients_hold_no_data_and_are_placed_freely() {
    let job = |labels: Value, kind: &str, group: &str| {
        let owner = json!([{"apiVersion": group, "kind": kind, "name": "j", "uid": "u", "controller": true}]);
        injected(json!({"metadata": {"labels": labels, "ownerReferences": owner}}), &cluster())
    };
    let role =
        |pod: &Pod| (at(pod, "/spec/initContainers/0/env/4/value"), at(pod, "/metadata/labels/sidegrid.dev~1role"));
    let client = job(json!({}), "Job", "batch/v1");
    assert_eq!(role(&client), (json!("client"), json!("client")));
    assert_eq!(at(&client, "/spec/affinity"), Value::Null);
    assert_eq!(at(&client, "/spec/topologySpreadConstraints"), Value::Null);
    assert_eq!(
        role(&job(json!({"sidegrid.dev/role": "member"}), "Job", "batch/v1")),
        (json!("member"), json!("member"))
    );
    assert_eq!(role(&job(json!({"sidegrid.dev/role": "client"}), "ReplicaSet", "apps/v1")).0, "client");
    assert_eq!(role(&job(json!({}), "ReplicaSet", "apps/v1")), (json!("member"), Value::Null));
    assert_eq!(role(&job(json!({}), "Job", "example.org/v1")).0, "member");
}

#[test]
fn readiness_follows_the_annotation() {
    let path = |word: &str| {
        let pod = injected(json!({"metadata": {"annotations": {"sidegrid.dev/readiness": word}}}), &cluster());
        at(&pod, "/spec/initContainers/0/readinessProbe/httpGet/path")
    };
    assert_eq!(path("strict"), "/readyz");
    assert_eq!(path("joined"), "/startupz");
}

#[test]
fn the_sidecar_keeps_the_pods_class() {
    let cluster = cluster_with("web", json!({"caches": {"a": {"maxBytes": "1GiB"}, "b": {"maxBytes": "64MiB"}}}));
    let of = |resources: Value, pod_level: Value| {
        let containers = json!([{"name": "app", "image": "a:1", "resources": resources}]);
        let pod = injected(json!({"spec": {"containers": containers, "resources": pod_level}}), &cluster);
        serde_json::to_value(&sidecar(&pod).resources).unwrap()
    };
    let burstable = json!({"requests": {"cpu": "50m", "memory": "64Mi"}});
    let both = json!({"cpu": "250m", "memory": "1216Mi"});
    let guaranteed = json!({"requests": both, "limits": both});
    assert_eq!(of(Value::Null, Value::Null), Value::Null);
    assert_eq!(of(json!({"requests": {"cpu": "0"}}), Value::Null), Value::Null);
    assert_eq!(of(json!({"limits": {"nvidia.com/gpu": "1"}}), Value::Null), Value::Null);
    assert_eq!(of(json!({"requests": {"cpu": "1"}}), Value::Null), burstable);
    let mut cpu = burstable.clone();
    cpu["limits"] = json!({"cpu": "500m"});
    assert_eq!(of(json!({"limits": {"cpu": "1"}}), Value::Null), cpu);
    // All containers have limits, so a quota may ask for them; the class stays.
    let limited = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "1216Mi"}});
    assert_eq!(
        of(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}), Value::Null),
        limited
    );
    let mut memory = limited;
    memory["limits"].as_object_mut().unwrap().remove("cpu");
    assert_eq!(of(json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}), Value::Null), memory);
    let storage = json!({"requests": {"ephemeral-storage": "16Mi"}, "limits": {"ephemeral-storage": "128Mi"}});
    assert_eq!(of(json!({"limits": {"ephemeral-storage": "1Gi"}}), Value::Null), storage);
    assert_eq!(
        of(
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}),
            Value::Null
        ),
        guaranteed
    );
    assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Value::Null), guaranteed);
    // Under pod-level resources the containers' requests may not exceed the pod's.
    assert_eq!(of(json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "1"}})), Value::Null);
}

#[test]
fn one_container_without_limits_makes_a_pod_burstable() {
    let bounded = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let containers = json!([{"name": "a", "resources": bounded}, {"name": "b"}]);
    let pod = injected(json!({"spec": {"containers": containers}}), &cluster());
    assert_eq!(at(&pod, "/spec/initContainers/0/resources/limits"), Value::Null);
    let init = json!([{"name": "b"}]);
    let containers = json!([{"name": "a", "resources": bounded}]);
    let pod = injected(json!({"spec": {"containers": containers, "initContainers": init}}), &cluster());
    assert_eq!(at(&pod, "/spec/initContainers/0/resources/limits"), Value::Null);
}

#[test]
fn a_container_that_came_in_later_is_told_the_address() {
    let mut pod = injected(json!({}), &cluster());
    let late = serde_json::from_value(json!({"name": "late", "image": "l:1"})).unwrap();
    pod.spec.as_mut().unwrap().containers.push(late);
    let newer = InjectSettings { version: "0.2.0".into(), ..InjectSettings::new("other:9") };
    let again = inject(&pod, &cluster(), None, &newer).unwrap();
    assert_eq!(at(&again, "/spec/containers/1/env/0/name"), "SIDEGRID_URL");
    // The sidecar itself stays as the operator that injected it made it.
    assert_eq!(sidecar(&again), sidecar(&pod));
    assert_eq!(at(&again, "/metadata/annotations/sidegrid.dev~1injected"), "0.1.0");
}

/// The annotation tells what the sidecar in the pod was made with, and not what is asked for by now.
#[test]
fn an_injected_pod_keeps_the_digest_of_its_settings_when_they_change() {
    let changed = cluster_with("web", json!({"sidecar": {"logLevel": "debug"}}));
    let pod = injected(json!({}), &cluster());
    assert_eq!(inject(&pod, &changed, None, &settings()).unwrap(), pod);
    // What a template says of itself doesn't count.
    let claims = json!({"metadata": {"annotations": {"sidegrid.dev/settings": "x"}}});
    let digest = |pod: &Pod| at(pod, "/metadata/annotations/sidegrid.dev~1settings");
    assert_eq!(digest(&injected(claims, &cluster())), digest(&pod));
    assert_ne!(digest(&injected(json!({}), &changed)), digest(&pod));
}
