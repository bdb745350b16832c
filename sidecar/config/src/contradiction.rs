//! Settings that are fine by themselves and not together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::setting_error::{Origin, SettingError};
use crate::settings::{Cache, Mode, Network, RegistryKind, Settings, WhenFull};
use crate::text::format_span;

/// Every contradiction, except those that rest on a setting which is at fault itself.
pub(crate) fn contradictions(
    settings: &Settings,
    origins: &BTreeMap<String, Origin>,
    faulty: &BTreeSet<String>,
) -> Vec<SettingError> {
    let mut found = Found { origins, faulty, faults: Vec::new() };
    for (name, cache) in &settings.caches {
        of_cache(&mut found, name, cache);
    }
    of_registry(&mut found, settings);
    of_timing(&mut found, settings);
    of_ports(&mut found, settings);
    of_socket(&mut found, settings);
    found.faults
}

struct Found<'a> {
    origins: &'a BTreeMap<String, Origin>,
    faulty: &'a BTreeSet<String>,
    faults: Vec<SettingError>,
}

impl Found<'_> {
    /// Reports a contradiction at the first of `paths` that was set by somebody.
    fn add(&mut self, paths: &[&str], problem: String, remedy: String) {
        if paths.iter().any(|p| self.faulty.contains(*p)) {
            return;
        }
        let set = paths.iter().find(|p| self.origins.contains_key(**p));
        let Some(path) = set.or(paths.first()) else { return };
        let origin = self.origins.get(*path).cloned().unwrap_or(Origin::Default);
        self.faults.push(SettingError { path: (*path).to_owned(), problem, remedy, origin });
    }
}

fn of_cache(found: &mut Found<'_>, name: &str, cache: &Cache) {
    let path = |setting: &str| format!("caches.{name}.{setting}");
    let (mode, owners, full) = (path("mode"), path("owners"), path("whenFull"));
    if cache.owners.is_some() {
        let why = match cache.mode {
            Mode::Distributed => None,
            Mode::Replicated => Some("a replicated cache is held by every member"),
            Mode::Local => Some("a local cache is held by this member alone"),
        };
        if let Some(why) = why {
            let remedy = "remove it, or set mode to distributed".to_owned();
            found.add(&[&owners, &mode], format!("contradicts mode {}: {why}", cache.mode.as_str()), remedy);
        }
    }
    if cache.when_full == WhenFull::Reject && cache.max_entries.is_none() && cache.max_bytes.is_none() {
        let bounds = [path("maxEntries"), path("maxBytes")];
        let problem = "reject never applies to a cache without bounds".to_owned();
        found.add(&[&full, &bounds[0], &bounds[1]], problem, "give maxEntries or maxBytes, or set it to evict".into());
    }
}

/// What the operator's registry can't do without. The other kinds pass it over.
fn of_registry(found: &mut Found<'_>, settings: &Settings) {
    let registry = &settings.registry;
    if registry.kind != RegistryKind::Operator {
        return;
    }
    let needed = [
        ("registry.url", registry.url.is_some(), "https://sidegrid-operator.sidegrid-system.svc:8443"),
        ("registry.authority", registry.authority.is_some(), "the path of a PEM file"),
        ("registry.token", registry.token.is_some(), "the path of the token's file"),
        ("member.podUid", !settings.member.pod_uid.is_empty(), "the pod's metadata.uid"),
    ];
    for (path, _, example) in needed.into_iter().filter(|(_, set, _)| !set) {
        let problem = "is missing, and registry.kind operator needs it".to_owned();
        found.add(&[path], problem, format!("give {example}, or set registry.kind to file"));
    }
}

fn of_timing(found: &mut Found<'_>, settings: &Settings) {
    let timing = settings.cluster.timing;
    let [ping, suspect, lease] = ["cluster.timing.ping", "cluster.timing.suspect", "cluster.timing.lease"];
    if timing.suspect < timing.ping * 2 {
        let problem = format!(
            "{} is less than two pings of {}: one late echo would look like a death",
            format_span(timing.suspect),
            format_span(timing.ping)
        );
        found.add(&[suspect, ping], problem, "raise suspect or lower ping".into());
    }
    if timing.lease < timing.suspect {
        let problem = format!(
            "{} is less than the suspicion time of {}: a member would stop serving before anyone acts",
            format_span(timing.lease),
            format_span(timing.suspect)
        );
        found.add(&[lease, suspect], problem, "raise lease or lower suspect".into());
    }
}

fn of_ports(found: &mut Found<'_>, settings: &Settings) {
    let between = bound_to(&settings.network);
    let ports: [(&str, Option<IpAddr>, u16); 4] = [
        ("http.listen", Some(settings.http.listen.ip()), settings.http.listen.port()),
        ("admin.listen", Some(settings.admin.listen.ip()), settings.admin.listen.port()),
        ("network.dataPort", between, settings.network.data_port),
        ("network.failureDetectionPort", between, settings.network.failure_detection_port),
    ];
    for (i, (path, address, port)) in ports.iter().enumerate() {
        for (other, other_address, other_port) in &ports[..i] {
            let both_between = path.starts_with("network.") && other.starts_with("network.");
            if *port != 0 && port == other_port && (both_between || overlap(*address, *other_address)) {
                // Said of the one that somebody set.
                let (path, other) = if found.origins.contains_key(*path) { (path, other) } else { (other, path) };
                let problem = format!("port {port} is taken by {other} as well");
                found.add(&[path, other], problem, "give each its own port".into());
            }
        }
    }
}

/// The address that members will be reached at, where the settings alone tell it.
fn bound_to(network: &Network) -> Option<IpAddr> {
    match network.bind_address.as_str() {
        "LOOPBACK" => Some(SocketAddr::from(([127, 0, 0, 1], 0)).ip()),
        text => text.parse().ok(),
    }
}

/// Whether two listeners on one port would meet. An address not known yet is taken to be a real interface's.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (Some(a), None) | (None, Some(a)) => a.is_unspecified(),
        (None, None) => true,
    }
}

/// The cache API's socket must not stand where the process keeps something else, or a folder of it.
fn of_socket(found: &mut Found<'_>, settings: &Settings) {
    let Some(socket) = settings.http.socket.as_deref() else { return };
    let (path, state_dir) = ("http.socket", settings.member.state_dir.as_path());
    let (registry, of_operator) = (&settings.registry, settings.registry.kind == RegistryKind::Operator);
    let owned = [
        ("member.stateDir", Some(state_dir)),
        ("registry.path", Some(registry.path.as_path()).filter(|_| !of_operator)),
        ("registry.authority", registry.authority.as_deref().filter(|_| of_operator)),
        ("registry.token", registry.token.as_deref().filter(|_| of_operator)),
    ];
    for (other, owned) in owned {
        if owned.is_some_and(|owned| owned.starts_with(socket)) {
            let problem = format!("{} is taken by {other} as well", socket.display());
            found.add(&[path, other], problem, "give each its own path".into());
        }
    }
    // Name lock, control socket and the number of the incarnation: cluster, member, ending. The member's name may come
    // from the host, which is not known here.
    let cluster = settings.cluster.name.as_str();
    let file = socket.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let of_member = file.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('.'));
    if socket.parent() == Some(state_dir) && of_member.is_some_and(|rest| rest.contains('.')) {
        let problem = format!("names like {cluster}.web-1.sock in member.stateDir are of lock and control socket");
        found.add(&[path, "member.stateDir", "cluster.name"], problem, "choose another name or folder".into());
    }
}
