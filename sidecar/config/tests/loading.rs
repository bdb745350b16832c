//! Settings from all sources: what wins, where it came from, and every fault that there can be.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use sidegrid_config::*;

/// Loads a file of this text.
fn load(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, Vec<String>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let sources = Sources {
        base: Base::Serve,
        file: Some(file.path().to_owned()),
        env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        sets: sets.iter().map(|s| (*s).to_owned()).collect(),
    };
    let name = file.path().display().to_string();
    Settings::load(sources).map_err(|f| f.to_string().lines().map(|l| l.replace(&name, "FILE")).collect())
}

fn faults(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
    load(yaml, env, sets).map(|l| panic!("loaded {l:?}")).unwrap_err()
}

/// Where a program made the settings, its users gave no argument that an error could name.
#[test]
fn errors_of_a_tree_name_no_source() {
    let tree = |yaml: &str| serde_yaml::from_str::<serde_json::Value>(yaml).unwrap();
    let good = tree("{cluster: {name: web}, caches: {s: {maxBytes: 64Mi, ttl: 1h30m, owners: null}}}");
    let loaded = Settings::of_tree(Base::Serve, &good).unwrap();
    assert_eq!(loaded.settings.caches["s"].max_bytes, Some(64 << 20));
    assert_eq!(loaded.settings.caches["s"].ttl, Some(Duration::from_secs(5_400)));
    assert_eq!(loaded.origins["cluster.name"], Origin::Caller);
    let bad = tree("{caches: {s: {maxBytes: 64mb, ttl: 30}, t: {mode: local, owners: 3}}}");
    assert_eq!(
        Settings::of_tree(Base::Serve, &bad).unwrap_err().to_string().lines().collect::<Vec<_>>(),
        [
            "caches.s.maxBytes: \"64mb\" has an unknown unit; give 4KiB to 1TiB, in Ki, Mi, Gi (or KiB, MiB, GiB) or bytes",
            "caches.s.ttl: \"30\" has no unit (in seconds it is 30s); give 1ms to 3650d, in ms, s, m, h or d",
            "caches.t.owners: contradicts mode local: a local cache is held by this member alone; remove it, or set mode to distributed",
        ]
    );
}

#[test]
fn the_example_of_the_design_loads_but_for_what_is_not_built() {
    let yaml = r#"
cluster:  {name: web, partition: {policy: fence}}
member:   {name: web-1, site: eu-1, rack: rack-7, machine: node-3}
registry: {kind: file, path: /var/lib/sidegrid/registry}
network:  {bindAddress: SITE_LOCAL, dataPort: 7800, failureDetectionPort: 57800, advertised: {address: 10.0.0.7, port: 17800, failureDetectionPort: 15780}}
tls:      {mode: auto, rotationIntervalDays: 30}
http:     {listen: "127.0.0.1:7080", socket: /run/sidegrid/http.sock, allowedHosts: [], allowedOrigins: []}
resp:     {enabled: false, listen: "127.0.0.1:6379"}
admin:    {listen: "0.0.0.0:7990"}
caches:
  sessions:  {mode: distributed, owners: 2, ttl: 30m, maxEntries: 10000, maxBytes: 64MiB, whenFull: evict}
  work:      {mode: replicated, ttl: 1m}
  keys:      {mode: local, maxEntries: 1000, ttl: 1h}
  plain:
"#;
    let settings = load(yaml, &[], &[]).unwrap().settings;
    assert_eq!(settings.cluster.name, "web");
    assert_eq!(settings.network.advertised.port, Some(17_800));
    let sessions = &settings.caches["sessions"];
    assert_eq!(sessions.copies(), Copies::Count(2));
    assert_eq!(sessions.ttl, Some(Duration::from_secs(1_800)));
    assert_eq!(sessions.max_bytes, Some(64 << 20));
    assert_eq!(settings.caches["work"].copies(), Copies::All);
    assert_eq!(settings.caches["keys"].copies(), Copies::Local);
    assert_eq!(settings.caches["plain"], Cache::default());
    assert_eq!(settings.caches["plain"].copies(), Copies::Count(2));
}

#[test]
fn nothing_at_all_gives_the_documented_defaults() {
    let loaded = Settings::load(Sources::default()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.origins.is_empty());
    let http = loaded.settings.http;
    assert_eq!(http.listen, "127.0.0.1:7080".parse().unwrap());
    assert_eq!(http.max_value_bytes, 8 << 20);
    assert_eq!(loaded.settings.network.failure_detection_port, 57_800);
}

#[test]
fn dev_needs_nothing() {
    let settings = Settings::dev();
    assert_eq!(settings.caches["default"].mode, Mode::Local);
    assert_eq!(settings.http.socket, None);
    assert_eq!(settings.admin.listen, "127.0.0.1:7990".parse().unwrap());
}

#[test]
fn arguments_outweigh_variables_which_outweigh_the_file() {
    let yaml =
        "http: {listen: '127.0.0.1:1', maxConnections: 1, maxValueBytes: 1KiB}\ncaches: {user-Sessions: {owners: 1}}";
    let env = [
        ("SIDEGRID_HTTP_LISTEN", "127.0.0.1:2"),
        ("SIDEGRID_HTTP_MAX_CONNECTIONS", "2"),
        ("SIDEGRID_CACHES_USER_SESSIONS_OWNERS", "2"),
        ("SIDEGRID_CACHES_USER_SESSIONS_MAX_ENTRIES", "9"),
        ("SIDEGRID_CACHES_EXTRA_TTL", "1h"),
        ("SIDEGRID_CONFIG", "/elsewhere"),
        ("SIDEGRID_INTERNAL_MEMBER", "1"),
        ("OTHER_HTTP_LISTEN", "x"),
    ];
    let sets = ["http.listen=127.0.0.1:3", "caches.extra.mode=local", "caches.more.mode=replicated", "http.socket="];
    let loaded = load(yaml, &env, &sets).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.http.listen.port(), 3);
    assert_eq!(settings.http.max_connections, 2);
    assert_eq!(settings.http.max_value_bytes, 1024);
    assert_eq!(settings.http.socket, None);
    assert_eq!(settings.caches["user-Sessions"].owners, Some(2));
    assert_eq!(settings.caches["user-Sessions"].max_entries, Some(9));
    assert_eq!(settings.caches["extra"].ttl, Some(Duration::from_secs(3_600)));
    assert_eq!(settings.caches["more"].mode, Mode::Replicated);
    assert_eq!(loaded.origins["http.listen"], Origin::Set);
    assert_eq!(loaded.origins["http.maxConnections"], Origin::Environment("SIDEGRID_HTTP_MAX_CONNECTIONS".into()));
    assert!(matches!(loaded.origins["http.maxValueBytes"], Origin::File(_)));
    assert!(!loaded.origins.contains_key("admin.listen"));
}

#[test]
fn the_unix_socket_is_set_moved_and_left_out_by_every_source() {
    let socket = |yaml, env: &[_], sets: &[_]| load(yaml, env, sets).unwrap().settings.http.socket;
    assert_eq!(socket("", &[], &[]), Some("/run/sidegrid/http.sock".into()));
    assert_eq!(socket("http: {socket: /run/a}", &[], &[]), Some("/run/a".into()));
    assert_eq!(socket("http: {socket: /run/a}", &[("SIDEGRID_HTTP_SOCKET", "/run/b")], &[]), Some("/run/b".into()));
    let env = [("SIDEGRID_HTTP_SOCKET", "/run/b")];
    assert_eq!(socket("", &env, &["http.socket=/run/c"]), Some("/run/c".into()));
    assert_eq!(socket("http: {socket: ''}", &[], &[]), None);
    assert_eq!(socket("", &[("SIDEGRID_HTTP_SOCKET", "")], &[]), None);
}

#[test]
fn lists_come_from_text_too() {
    let loaded = load(
        "",
        &[("SIDEGRID_HTTP_ALLOWED_HOSTS", "a.example, b.example")],
        &["http.allowedOrigins=[https://a.example]"],
    )
    .unwrap();
    assert_eq!(loaded.settings.http.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(loaded.settings.http.allowed_origins, ["https://a.example"]);
}

#[test]
fn variables_that_kubernetes_makes_of_a_service_are_no_settings() {
    let env = [
        ("SIDEGRID_SERVICE_HOST", "10.0.0.1"),
        ("SIDEGRID_SERVICE_PORT_HTTP", "7080"),
        ("SIDEGRID_PORT", "tcp://10.0.0.1:7080"),
        ("SIDEGRID_PORT_7080_TCP_ADDR", "10.0.0.1"),
        ("SIDEGRID_WEBHOOK_PORT_443_TCP", "tcp://10.0.0.1:443"),
        ("SIDEGRID_NETWORK_DATA_PORT", "7801"),
    ];
    assert_eq!(load("", &env, &[]).unwrap().settings.network.data_port, 7_801);
}

#[test]
fn every_fault_is_reported_at_once_with_path_and_remedy() {
    let yaml = r"
htp: {listen: x}
http: {listen: 7080, alowedHosts: []}
cluster: web
caches:
  sessions: {owners: 0, ttl: 30, maxIdle: 5m}
  realms: {mode: invalidation, owners: 3}
  work: {mode: replicated, owners: 2}
  keys: {mode: local, owners: 1, whenFull: reject}
  bad.name: {}
";
    let found =
        faults(yaml, &[("SIDEGRID_HTPP_LISTEN", "x"), ("SIDEGRID_CACHES_SESIONS_OWNERS", "1")], &["tls.mode", "a.b=1"]);
    assert_eq!(
        found,
        [
            "SIDEGRID_CACHES_SESIONS_OWNERS: names no cache: there is none like sesions; define it in the file or by --set, or name one of keys, realms, sessions, work (from SIDEGRID_CACHES_SESIONS_OWNERS)",
            "SIDEGRID_HTPP_LISTEN: is unknown; did you mean SIDEGRID_HTTP_LISTEN? (from SIDEGRID_HTPP_LISTEN)",
            "a: is unknown; give one of cluster, member, registry, network, tls, http, resp, admin, caches, presets, metrics, runtime, shutdown, log, or remove it (from --set)",
            "caches.bad.name: is not a name of a cache; give 1 to 63 letters, digits, - or _, beginning with a letter or digit",
            "caches.keys.owners: contradicts mode local: a local cache is held by this member alone; remove it, or set mode to distributed",
            "caches.keys.whenFull: reject never applies to a cache without bounds; give maxEntries or maxBytes, or set it to evict",
            "caches.realms.mode: invalidation is not available yet; give distributed, replicated or local",
            "caches.sessions.maxIdle: is not available yet; remove it",
            "caches.sessions.owners: 0 is out of range; give 1 to 64",
            "caches.sessions.ttl: \"30\" has no unit (in seconds it is 30s); give 1ms to 3650d, in ms, s, m, h or d",
            "caches.work.owners: contradicts mode replicated: a replicated cache is held by every member; remove it, or set mode to distributed",
            "cluster: is a group of settings, not a value; give settings below it, such as cluster.name",
            "htp: is unknown; did you mean http?",
            "http.alowedHosts: is unknown; did you mean allowedHosts?",
            "http.listen: \"7080\" is not an address and port; give an address and port such as 127.0.0.1:7080 or [::1]:7080",
            "tls.mode: has no =; give path=value, such as http.listen=127.0.0.1:7081 (from --set)",
        ]
    );
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_ignored() {
    for (set, expected) in [
        ("caches.a.mode=invalidation", "caches.a.mode: invalidation is not available yet"),
        ("caches.a.maxIdle=5m", "caches.a.maxIdle: is not available yet"),
        ("resp.enabled=true", "resp.enabled: is not available yet"),
        ("presets=keycloak", "presets: presets are not available yet"),
        ("registry.kind=postgres", "registry.kind: postgres is not available yet"),
        ("registry.kind=etcd", "registry.kind: etcd is not available yet"),
        ("tls.mode=files", "tls.mode: files is not available yet"),
        ("metrics.histograms=true", "metrics.histograms: is not available yet"),
        ("cluster.partition.policy=serve", "cluster.partition.policy: \"serve\" is unknown; give fence"),
    ] {
        let found = faults("", &[], &[set]);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{set}: {found:?}");
    }
}

#[test]
fn contradictions_are_found() {
    let cases: &[(&[&str], &str)] = &[
        (&["http.listen=127.0.0.1:7990"], "http.listen: port 7990 is taken by admin.listen as well"),
        (&["network.dataPort=57800"], "network.dataPort: port 57800 is taken by network.failureDetectionPort as well"),
        (&["network.dataPort=7990"], "network.dataPort: port 7990 is taken by admin.listen as well"),
        (
            &["network.bindAddress=LOOPBACK", "network.dataPort=7080"],
            "network.dataPort: port 7080 is taken by http.listen",
        ),
        (&["cluster.timing.suspect=150ms"], "cluster.timing.suspect: 150ms is less than two pings of 100ms"),
        (&["cluster.timing.ping=300ms"], "cluster.timing.ping: 400ms is less than two pings of 300ms"),
        (&["cluster.timing.lease=300ms"], "cluster.timing.lease: 300ms is less than the suspicion time of 400ms"),
        (&["caches.a.whenFull=reject"], "caches.a.whenFull: reject never applies"),
        (
            &["http.socket=/run/sidegrid/default.web-1.sock"],
            "http.socket: names like default.web-1.sock in member.stateDir are of lock and control socket",
        ),
        (&["http.socket=/run//sidegrid"], "http.socket: /run//sidegrid is taken by member.stateDir as well"),
        (&["registry.path=/run/sidegrid/http.sock/a"], "registry.path: /run/sidegrid/http.sock is taken by"),
    ];
    for (sets, expected) in cases {
        let found = faults("", &[], sets);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{sets:?}: {found:?}");
    }
    for fine in [
        vec!["http.listen=127.0.0.1:7800"],
        vec![
            "http.listen=127.0.0.1:0",
            "admin.listen=127.0.0.1:0",
            "network.dataPort=0",
            "network.failureDetectionPort=0",
        ],
        vec!["caches.a.whenFull=reject", "caches.a.maxBytes=1MiB"],
        vec!["http.socket=/run/default.web-1.sock"],
        vec!["cluster.name=http"],
        vec!["registry.token=/run/sidegrid/http.sock"],
    ] {
        load("", &[], &fine).unwrap();
    }
}

#[test]
fn faults_of_files_name_the_file() {
    assert!(faults("http: [", &[], &[])[0].starts_with("FILE: is not YAML: "));
    assert!(faults("http: {}\nhttp: {}", &[], &[])[0].starts_with("FILE: is not YAML: duplicate entry"));
    assert!(faults("- a", &[], &[])[0].starts_with("settings: is a group of settings, not a value"));
    let huge = format!("# {}", "x".repeat(1 << 20));
    assert!(faults(&huge, &[], &[])[0].starts_with("FILE: is longer than 1048576 bytes"));
    let missing = Sources { file: Some("/nonexistent/settings.yaml".into()), ..Sources::default() };
    let text = Settings::load(missing).unwrap_err().to_string();
    assert!(text.starts_with("/nonexistent/settings.yaml: can't be read: "), "{text}");
}

#[test]
fn two_caches_that_look_alike_in_a_variable_are_told_apart_by_a_fault() {
    let found = faults("caches: {a-b: , A_B: }", &[("SIDEGRID_CACHES_A_B_OWNERS", "1")], &[]);
    assert!(found[0].contains("names more than one cache: A_B, a-b"), "{found:?}");
}

#[test]
fn a_value_below_an_unknown_name_is_never_shown() {
    let found = faults(
        "registry: {password: hunter2}",
        &[("SIDEGRID_REGISTRY_PASSWORD", "hunter2")],
        &["registry.password=hunter2"],
    );
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|f| !f.contains("hunter2")), "{found:?}");
}

#[test]
fn too_many_caches_are_refused() {
    let yaml: String = (0..300).fold("caches:\n".to_owned(), |y, i| y + &format!("  c{i}: {{}}\n"));
    assert!(faults(&yaml, &[], &[]).iter().all(|f| f.contains("define at most 256")));
}

proptest! {
    /// Whatever the sources say, loading ends in settings or faults, and the checks let nothing through that the
    /// types can't read.
    #[test]
    fn checks_and_types_agree(field in 0..FIELDS.len(), text in "\\PC{0,24}|[0-9]{1,22}(ms|s|m|h|d|KiB|MiB)?|true|false") {
        let path = FIELDS[field].path.replace('*', "c");
        let sources = Sources { sets: vec![format!("{path}={text}")], ..Sources::default() };
        if let Err(faults) = Settings::load(sources) {
            prop_assert!(!faults.0.is_empty());
            prop_assert!(faults.0.iter().all(|f| f.path != "settings"), "{faults}");
        }
    }

    /// What was loaded, written as a file, loads to the same.
    #[test]
    fn settings_read_back(owners in 1u16..=64, ttl in 1u64..100_000_000, bytes in 4096u64..1 << 40, port in 1u16..7000) {
        let mut settings = Settings::default();
        settings.http.listen.set_port(port);
        settings.caches.insert("c".into(), Cache {
            owners: Some(owners), ttl: Some(Duration::from_millis(ttl)), max_bytes: Some(bytes), ..Cache::default()
        });
        let yaml = serde_yaml::to_string(&settings).unwrap();
        prop_assert_eq!(load(&yaml, &[], &[]).unwrap().settings, settings);
    }

    /// No file makes loading panic.
    #[test]
    fn no_text_panics(yaml in "\\PC{0,200}") {
        let _ = load(&yaml, &[], &[]);
    }
}

#[test]
fn a_pods_settings_load_and_what_the_operator_needs_is_asked_for() {
    let yaml = r#"{"cluster": {"name": "web"}, "registry": {"kind": "operator",
        "url": "https://sidegrid-operator.sidegrid-system.svc:8443", "authority": "/etc/sidegrid/ca.crt",
        "token": "/var/run/secrets/sidegrid.dev/token"}}"#;
    let env = [("SIDEGRID_MEMBER_POD_UID", "0f8a"), ("SIDEGRID_MEMBER_ROLE", "client")];
    let settings = load(yaml, &env, &[]).unwrap().settings;
    assert_eq!(settings.registry.kind, RegistryKind::Operator);
    assert_eq!(settings.registry.endpoint(), Some(("sidegrid-operator.sidegrid-system.svc", 8443)));
    assert_eq!(settings.member.pod_uid, "0f8a");
    assert_eq!(settings.member.role, MemberRole::Client);

    let missing = faults("", &[], &["registry.kind=operator"]);
    let paths: Vec<_> = missing.iter().filter_map(|f| f.split(':').next()).collect();
    assert_eq!(paths, ["member.podUid", "registry.authority", "registry.token", "registry.url"], "{missing:?}");
    assert!(load("", &[], &["registry.url=https://a"]).is_ok(), "the kind file passes it over");
}
