//! What a CacheCluster asks for, as the settings file that its sidecars read.

use aws_lc_rs::digest::SHA256;
use serde_json::{Map, Value, json};
use sidegrid_config::{Base, Settings};

use crate::crd::{CacheCluster, CacheClusterSpec, CacheSpec, TlsMode, WhenFull};
use crate::names::{AUTHORITY_KEY, CONFIG_VOLUME, REGISTRY_PORT, SERVICE, SOCKET_FILE, SOCKET_VOLUME, TOKEN_VOLUME};
use crate::webhook::nanos;

/// Owners of a distributed cache that names none.
const OWNERS: u16 = 2;
/// Log level of a sidecar whose CacheCluster names none.
const LOG_LEVEL: &str = "info";

/// The settings file of `cluster`'s sidecars; `own_ns` is the operator's namespace. JSON text, hence YAML too. It
/// holds nothing of one pod: that comes from the pod's environment, which outweighs the file.
#[must_use]
pub fn file(cluster: &CacheCluster, own_ns: &str) -> String {
    let mut text = serde_json::to_string_pretty(&tree(cluster, own_ns)).unwrap_or_default();
    text.push('\n');
    text
}

/// Checks the settings as a sidecar would, so that a fault shows at the CacheCluster and not in pods that don't start.
///
/// # Errors
/// Every fault, each naming the setting and the fix.
pub fn check(cluster: &CacheCluster, own_ns: &str) -> Result<(), String> {
    let mut tree = tree(cluster, own_ns);
    // As the webhook adds them in each pod.
    tree["member"]["podUid"] = json!("of-each-pod");
    tree["http"]["socket"] = json!(format!("{}/{SOCKET_FILE}", SOCKET_VOLUME.1));
    let mut errors = resource_errors(&cluster.spec);
    if let Err(error) = Settings::of_tree(Base::Serve, &tree) {
        errors.insert(0, error.to_string());
    }
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// What Kubernetes would refuse of the sidecar's resources in each pod, where nothing would name the CacheCluster.
fn resource_errors(spec: &CacheClusterSpec) -> Vec<String> {
    let Some(resources) = &spec.sidecar.resources else { return Vec::new() };
    let mut errors = Vec::new();
    for (side, all) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        for (name, quantity) in all.iter().flatten() {
            let path = format!("spec.sidecar.resources.{side}.{name}");
            let is_known = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
            if !is_known && !name.starts_with("hugepages-") && !name.contains('/') {
                errors.push(format!("{path}: is no resource; give cpu, memory or ephemeral-storage"));
            }
            if nanos(&quantity.0).is_none_or(|nanos| nanos < 0) {
                let text = &quantity.0;
                errors
                    .push(format!("{path}: {text:?} is no quantity; give one such as 512Mi of memory or 500m of CPU"));
            }
        }
    }
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        let Some((asked, most)) = nanos(&request.0).zip(limit.and_then(|limit| nanos(&limit.0))) else { continue };
        if asked > most {
            errors.push(format!(
                "spec.sidecar.resources.requests.{name}: {} is above limits.{name}; lower it, or raise the limit",
                request.0
            ));
        }
    }
    errors
}

/// Digest of what a pod takes from `spec` when it is made, which is all but `disruption`: 16 lower-case hexadecimal
/// digits of its SHA-256. What is as the defaults have it is left out, so that a field that a later version adds makes no
/// pod look as if it had other settings.
#[must_use]
pub fn digest(spec: &CacheClusterSpec) -> String {
    let mut told = object(spec);
    told.remove("disruption");
    if let Some(Value::Object(sidecar)) = told.get_mut("sidecar") {
        sidecar.retain(|name, value| (name.as_str(), &*value) != ("logLevel", &Value::from(LOG_LEVEL)));
    }
    less(&mut told, &object(&CacheClusterSpec::default()));
    // Their names count, also of those that have nothing but defaults.
    let usual = object(&CacheSpec::default());
    let of = |cache: &CacheSpec| {
        let mut cache = object(&plain(cache));
        less(&mut cache, &usual);
        Value::Object(cache)
    };
    told.insert("caches".to_owned(), spec.caches.iter().map(|(name, cache)| (name.clone(), of(cache))).collect());
    let mut told = Value::Object(told);
    // Whatever order the map keeps, and the fields of the types have.
    told.sort_all_objects();
    let hash = aws_lc_rs::digest::digest(&SHA256, told.to_string().as_bytes());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The cache with what a sidecar makes of it anyway left out, and sizes and times in one form: to write a default out, or
/// `60m` for `1h`, is no change.
fn plain(cache: &CacheSpec) -> CacheSpec {
    let one_form = |text: &String| match sidegrid_config::parse_span(text) {
        Ok(span) => sidegrid_config::format_span(span),
        Err(_) => text.clone(),
    };
    let in_bytes = |text: &String| match sidegrid_config::parse_size(text) {
        Ok(bytes) => bytes.to_string(),
        Err(_) => text.clone(),
    };
    CacheSpec {
        mode: cache.mode,
        owners: cache.owners.filter(|owners| *owners != OWNERS),
        ttl: cache.ttl.as_ref().map(one_form),
        max_entries: cache.max_entries,
        max_bytes: cache.max_bytes.as_ref().map(in_bytes),
        when_full: cache.when_full.filter(|when| *when != WhenFull::Evict),
    }
}

fn object(of: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(of) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Takes away what is the same in `usual`. An object that `usual` doesn't have stays, also when it is empty: that is not
/// the same as none.
fn less(told: &mut Map<String, Value>, usual: &Map<String, Value>) {
    told.retain(|name, value| match (value, usual.get(name)) {
        (Value::Object(below), Some(Value::Object(usual))) => {
            less(below, usual);
            !below.is_empty()
        }
        (value, usual) => Some(&*value) != usual,
    });
}

fn tree(cluster: &CacheCluster, own_ns: &str) -> Value {
    let spec = &cluster.spec;
    let caches: Map<String, Value> = spec.caches.iter().map(|(name, c)| (name.clone(), cache(c))).collect();
    let mode = match spec.tls.mode {
        TlsMode::Auto => "auto",
        TlsMode::Disabled => "disabled",
    };
    json!({
        "cluster": {"name": cluster.metadata.name},
        "registry": {
            "kind": "operator",
            "url": format!("https://{SERVICE}.{own_ns}.svc:{REGISTRY_PORT}"),
            "authority": format!("{}/{AUTHORITY_KEY}", CONFIG_VOLUME.1),
            "token": format!("{}/token", TOKEN_VOLUME.1),
        },
        "network": {
            "dataPort": spec.network.data_port,
            "failureDetectionPort": spec.network.failure_detection_port,
        },
        "tls": {"mode": mode, "rotationIntervalDays": spec.tls.rotation_interval_days},
        "http": {"listen": format!("127.0.0.1:{}", spec.sidecar.http.port)},
        "log": {"level": spec.sidecar.log_level.as_deref().unwrap_or(LOG_LEVEL), "format": "json"},
        "caches": caches,
    })
}

fn cache(spec: &CacheSpec) -> Value {
    // The words of `CacheSpec` are those of the settings file, field by field.
    serde_json::to_value(spec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sidegrid_config::Sources;

    use super::*;
    use crate::crd::{CacheClusterSpec, CacheMode};

    #[test]
    fn resources_that_kubernetes_would_refuse_in_pods_are_named_by_their_path() {
        let faults = |resources: Value| {
            let spec = json!({"caches": {"a": {}}, "sidecar": {"resources": resources}});
            check(&CacheCluster::new("web", serde_json::from_value(spec).unwrap()), "s").err().unwrap_or_default()
        };
        for (resources, says) in [
            (json!({"limits": {"memory": "512MB"}}), "spec.sidecar.resources.limits.memory: \"512MB\" is no quantity"),
            (json!({"requests": {"cpu": "-1"}}), "spec.sidecar.resources.requests.cpu: \"-1\" is no quantity"),
            (json!({"requests": {"memroy": "1Gi"}}), "spec.sidecar.resources.requests.memroy: is no resource"),
            (
                json!({"requests": {"memory": "512Mi"}, "limits": {"memory": "256Mi"}}),
                "spec.sidecar.resources.requests.memory: 512Mi is above limits.memory",
            ),
            (json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}), "requests.cpu: 2 is above limits.cpu"),
        ] {
            assert!(faults(resources.clone()).contains(says), "{resources}: {}", faults(resources.clone()));
        }
        let fine = json!({
            "requests": {"cpu": "0.5", "memory": "512Mi", "example.org/x": "1"},
            "limits": {"cpu": "500m", "memory": "0.5Gi", "hugepages-2Mi": "4Mi"},
        });
        assert_eq!(faults(fine), "");
    }

    fn cluster(caches: Value) -> CacheCluster {
        let spec: CacheClusterSpec = serde_json::from_value(json!({"caches": caches})).unwrap();
        CacheCluster::new("web", spec)
    }

    #[test]
    fn a_sidecar_reads_what_was_asked_for() {
        let mut asked = cluster(json!({
            "sessions": {"owners": 3, "ttl": "30m", "maxBytes": "64MiB", "maxEntries": 1000, "whenFull": "reject"},
            "config": {"mode": "replicated"},
            "scratch": {"mode": "local"},
        }));
        asked.spec.network.data_port = 7801;
        asked.spec.sidecar.http.port = 7081;
        asked.spec.sidecar.log_level = Some("debug".into());
        assert_eq!(check(&asked, "sidegrid-system"), Ok(()));
        let folder = std::env::temp_dir().join(format!("sidegrid-settings-{}", std::process::id()));
        std::fs::write(&folder, file(&asked, "sidegrid-system")).unwrap();
        let sets = vec!["member.podUid=u".to_owned()];
        let sources = Sources { file: Some(folder.clone()), sets, ..Sources::default() };
        let loaded = Settings::load(sources);
        std::fs::remove_file(&folder).unwrap();
        let read = loaded.unwrap().settings;
        assert_eq!(read.cluster.name, "web");
        assert_eq!(read.network.data_port, 7801);
        assert_eq!(read.http.listen.to_string(), "127.0.0.1:7081");
        assert_eq!(read.caches.len(), 3);
        assert_eq!(read.caches["sessions"].owners, Some(3));
        assert_eq!(read.caches["sessions"].max_bytes, Some(64 << 20));
        assert_eq!(read.caches["sessions"].when_full, sidegrid_config::WhenFull::Reject);
        assert_eq!(read.caches["config"].mode, sidegrid_config::Mode::Replicated);
    }

    /// Lock and control socket of a member are files that begin with the cluster's name.
    #[test]
    fn a_cluster_named_as_the_socket_is_not_in_its_way() {
        let spec = serde_json::from_value(json!({"caches": {"a": {}}})).unwrap();
        assert_eq!(check(&CacheCluster::new("http", spec), "s"), Ok(()));
    }

    #[test]
    fn the_digest_follows_all_that_a_pod_takes_from_the_spec_and_nothing_else() {
        let of = |changes: Value| {
            let mut spec = json!({"caches": {"a": {}, "b": {"mode": "local"}}});
            json_patch::merge(&mut spec, &changes);
            digest(&serde_json::from_value(spec).unwrap())
        };
        let plain = of(json!({}));
        assert!(
            plain.len() == 16 && plain.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
            "{plain}"
        );
        assert_eq!(plain, of(json!({"disruption": {"maxUnavailable": 9}})));
        // The defaults, written out.
        let defaults = json!({
            "caches": {"a": {"mode": "distributed"}}, "sidecar": {"http": {"port": 7080}}, "mesh": {"istio": "auto"},
            "network": {"dataPort": 7800, "failureDetectionPort": 57800}, "tls": {"mode": "auto"},
        });
        assert_eq!(plain, of(defaults));
        for same in [
            json!({"caches": {"a": {"owners": 2}}}),
            json!({"caches": {"a": {"whenFull": "evict"}, "b": {"mode": "local", "whenFull": "evict"}}}),
            json!({"sidecar": {"logLevel": "info"}, "network": {"reservePorts": false}}),
        ] {
            assert_eq!(plain, of(same.clone()), "{same}");
        }
        let sized = |ttl: &str, bytes: &str| of(json!({"caches": {"a": {"ttl": ttl, "maxBytes": bytes}}}));
        assert_eq!(sized("60m", "64MiB"), sized("1h", "65536KiB"));
        let mut seen = std::collections::BTreeSet::from([plain]);
        for changes in [
            json!({"caches": {"a": {"ttl": "30m"}}}),
            json!({"caches": {"a": {"maxEntries": 5}}}),
            json!({"caches": {"b": {"maxEntries": 5}}}),
            json!({"caches": {"a": {"whenFull": "reject"}}}),
            json!({"caches": {"a": null, "c": {}}}),
            json!({"sidecar": {"image": "x:1"}}),
            json!({"sidecar": {"resources": {}}}),
            json!({"sidecar": {"resources": {"requests": {"cpu": "1"}}}}),
            json!({"sidecar": {"logLevel": "debug"}}),
            json!({"sidecar": {"http": {"port": 7081}}}),
            json!({"network": {"dataPort": 7801}}),
            json!({"topology": {"antiAffinity": "none"}}),
            json!({"topology": {"spread": []}}),
            json!({"tls": {"rotationIntervalDays": 7}}),
            json!({"mesh": {"istio": "never"}}),
        ] {
            assert!(seen.insert(of(changes.clone())), "{changes}");
        }
    }

    /// A change of it, by a new field say, tells every pod that runs that it has other settings.
    #[test]
    fn the_digest_of_the_same_spec_stays_the_same_from_version_to_version() {
        let spec = json!({"caches": {"a": {"ttl": "30m"}}, "sidecar": {"logLevel": "warn"}});
        assert_eq!(digest(&serde_json::from_value(spec).unwrap()), "d397e1c4760bf2bc");
    }

    #[test]
    fn what_the_schema_lets_through_and_a_sidecar_does_not_is_named() {
        let mut asked = cluster(json!({"sessions": {"maxBytes": "1B"}}));
        let fault = check(&asked, "s").unwrap_err();
        assert!(fault.contains("caches.sessions.maxBytes"), "{fault}");
        asked.spec.caches.insert("x".into(), CacheSpec { when_full: Some(WhenFull::Reject), ..CacheSpec::default() });
        asked
            .spec
            .caches
            .insert("y".into(), CacheSpec { mode: CacheMode::Local, owners: Some(2), ..CacheSpec::default() });
        let fault = check(&asked, "s").unwrap_err();
        assert!(fault.contains("caches.x.whenFull") && fault.contains("caches.y.owners"), "{fault}");
    }
}
