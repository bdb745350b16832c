//! The one list of settings: names, what each may hold, and what it is for. It drives the checks, the names of
//! environment variables, the suggestions for misspelt names and the table in the user documentation.

use std::fmt::Write as _;
use std::time::Duration;

use crate::settings::Settings;
use crate::text::{format_size, format_span};

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its path; `*` stands for the name of a cache.
    pub path: &'static str,
    /// What it may hold.
    pub kind: ValueType,
    /// What it is for, as a clause.
    pub about: &'static str,
}

/// What a setting may hold.
#[derive(Clone, Copy, Debug)]
pub enum ValueType {
    /// Any text of up to 255 bytes without control characters.
    Text,
    /// A name: 1 to 63 letters, digits, `-`, `_` or `.`, beginning with a letter or digit.
    Name,
    /// A member's name: as `Name`, and up to 253 of them, since that is what pods are called.
    MemberName,
    /// A path of the file system.
    Path,
    /// An absolute path that a Unix socket can be bound to, or nothing.
    UnixSocketOrNone,
    /// One of `now`; those of `later` are announced and not built.
    Word {
        /// Available.
        now: &'static [&'static str],
        /// Not available yet.
        later: &'static [&'static str],
    },
    /// `true` or `false`.
    FlagNotYet,
    /// A whole number within bounds, both included.
    Whole(u64, u64),
    /// A duration within bounds in milliseconds, both included.
    Span(u64, u64),
    /// A size within bounds in bytes, both included.
    Size(u64, u64),
    /// `address:port`.
    Socket,
    /// An IP address.
    Address,
    /// An IP address or one of the words and patterns that choose one.
    Bind,
    /// Host names without port.
    Hosts,
    /// Origins: `scheme://host` or `scheme://host:port`.
    Origins,
    /// `https://host` or `https://host:port`.
    HttpsUrl,
    /// Names of presets: none is built yet.
    PresetsNotYet,
    /// Announced and not built: any value is a fault.
    NotYet,
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn field(path: &'static str, kind: ValueType, about: &'static str) -> Field {
    Field { path, kind, about }
}

const fn words(now: &'static [&'static str], later: &'static [&'static str]) -> ValueType {
    ValueType::Word { now, later }
}

/// Longest path of a Unix socket, in bytes: what the system's address holds, without the zero at its end.
pub(crate) const MAX_UNIX_SOCKET: usize = 107;
/// Words that choose a bind address.
pub(crate) const BIND_WORDS: &[&str] = &["SITE_LOCAL", "LOOPBACK", "LINK_LOCAL", "GLOBAL", "NON_LOOPBACK"];
/// Prefixes of patterns that choose a bind address.
pub(crate) const BIND_PATTERNS: &[&str] = &["match-interface:", "match-address:", "match-host:"];

/// Every setting.
pub const FIELDS: &[Field] = &[
    field("cluster.name", ValueType::Name, "clusters of different names are apart on a shared registry"),
    field("cluster.partition.policy", words(&["fence"], &[]), "a minority refuses service until it is heard again"),
    field("cluster.segments", ValueType::Whole(1, 16_384), "segments of the key space; fixed when the cluster is made"),
    field("cluster.timing.ping", ValueType::Span(10, MINUTE), "between two pings to a peer"),
    field("cluster.timing.lease", ValueType::Span(50, 10 * MINUTE), "how long an echoed ping lets its sender serve"),
    field("cluster.timing.suspect", ValueType::Span(20, 10 * MINUTE), "no echo for this long: suspected"),
    field(
        "cluster.timing.dataSuspect",
        ValueType::Span(50, 10 * MINUTE),
        "a replication unacknowledged this long: suspected",
    ),
    field(
        "cluster.timing.orphanWait",
        ValueType::Span(0, HOUR),
        "how long to wait for the owner of a segment's last copy",
    ),
    field(
        "member.name",
        ValueType::MemberName,
        "stable name of this member; by default the host's. One of more than 63 characters is shortened, apart from others",
    ),
    field("member.site", ValueType::Text, "region or data centre; copies go to different ones when possible"),
    field("member.rack", ValueType::Text, "rack or zone"),
    field("member.machine", ValueType::Text, "machine"),
    field("member.stateDir", ValueType::Path, "folder of the member's name lock and control socket"),
    field("member.role", words(&["member", "client"], &[]), "a `client` holds no data, it only forwards"),
    field("member.podUid", ValueType::Text, "uid of the pod that it runs in; empty: none"),
    field(
        "registry.kind",
        words(&["file", "operator"], &["postgres", "object-store", "etcd", "kubernetes", "multicast"]),
        "what decides views",
    ),
    field("registry.path", ValueType::Path, "for `file`: where it is kept"),
    field("registry.url", ValueType::HttpsUrl, "for `operator`: where it is reached"),
    field(
        "registry.authority",
        ValueType::Path,
        "for `operator`: file of the authorities that may sign its certificate",
    ),
    field("registry.token", ValueType::Path, "for `operator`: file of the pod's token"),
    field("network.bindAddress", ValueType::Bind, "address between members: an IP, a word or a pattern"),
    field("network.dataPort", ValueType::Whole(0, 65_535), "data between members; 0 picks a free port"),
    field("network.failureDetectionPort", ValueType::Whole(0, 65_535), "pings between members; 0 picks a free port"),
    field("network.advertised.address", ValueType::Address, "what others are told, behind address translation"),
    field("network.advertised.port", ValueType::Whole(1, 65_535), "the same for the data port"),
    field(
        "network.advertised.failureDetectionPort",
        ValueType::Whole(1, 65_535),
        "the same for the failure-detection port",
    ),
    field("tls.mode", words(&["auto", "disabled"], &["files"]), "where certificates between members come from"),
    field("tls.rotationIntervalDays", ValueType::Whole(1, 365), "certificates are valid for twice as long"),
    field("http.listen", ValueType::Socket, "the cache API; port 0 picks a free one"),
    field("http.socket", ValueType::UnixSocketOrNone, "the cache API on a Unix socket; empty: none"),
    field("http.allowedHosts", ValueType::Hosts, "`Host` names accepted beside this host's own"),
    field("http.allowedOrigins", ValueType::Origins, "`Origin`s accepted"),
    field("http.maxValueBytes", ValueType::Size(1, 64 << 20), "largest value"),
    field(
        "http.maxConnections",
        ValueType::Whole(1, 65_536),
        "connections at once; beyond it the longest idle one is closed",
    ),
    field("http.headerTimeout", ValueType::Span(100, 10 * MINUTE), "how long a request's head may take"),
    field("http.bodyTimeout", ValueType::Span(100, HOUR), "how long a request's body may take"),
    field("http.idleTimeout", ValueType::Span(SECOND, DAY), "how long a connection may be idle between requests"),
    field("http.requestTimeout", ValueType::Span(100, 10 * MINUTE), "how long an operation may take"),
    field("resp.enabled", ValueType::FlagNotYet, "the same caches over RESP"),
    field("resp.listen", ValueType::Socket, "its address"),
    field("admin.listen", ValueType::Socket, "health and metrics; port 0 picks a free one; 0.0.0.0 takes IPv6 too"),
    field("caches.*.mode", words(&["distributed", "replicated", "local"], &["invalidation"]), "how the cache is kept"),
    field("caches.*.owners", ValueType::Whole(1, 64), "copies of each entry; `distributed` only"),
    field(
        "caches.*.ttl",
        ValueType::Span(1, 3_650 * DAY),
        "time to live of entries stored without one; empty: for ever",
    ),
    field("caches.*.maxIdle", ValueType::NotYet, "removal of entries that nobody reads"),
    field("caches.*.maxEntries", ValueType::Whole(1, 1_000_000_000), "bound on entries per member"),
    field("caches.*.maxBytes", ValueType::Size(4 << 10, 1 << 40), "bound on bytes per member, true overhead included"),
    field("caches.*.whenFull", words(&["evict", "reject"], &[]), "what happens at a bound; `reject` answers 507"),
    field("presets", ValueType::PresetsNotYet, "named sets of caches"),
    field("metrics.histograms", ValueType::FlagNotYet, "latency histograms per operation"),
    field(
        "runtime.workerThreads",
        ValueType::Whole(1, 64),
        "threads that serve; by default one a processor of the container's limit, at most 4",
    ),
    field(
        "runtime.memoryLimit",
        ValueType::Size(32 << 20, 1 << 44),
        "memory that the process keeps below; by default the control group's limit",
    ),
    field("shutdown.grace", ValueType::Span(0, HOUR), "how long handing over may take after SIGTERM"),
    field("log.level", words(&["error", "warn", "info", "debug", "trace"], &[]), "least severe level shown"),
    field("log.format", words(&["text", "json"], &[]), "form of a line"),
];

/// The field of a concrete path such as `caches.sessions.owners`.
pub(crate) fn field_of(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|f| matches(f.path, path))
}

/// Whether a concrete path is a group that holds fields.
pub(crate) fn is_group(path: &str) -> bool {
    path.is_empty()
        || FIELDS.iter().any(|f| {
            let depth = path.split('.').count();
            let prefix: Vec<&str> = f.path.split('.').take(depth).collect();
            f.path.split('.').count() > depth && matches(&prefix.join("."), path)
        })
}

/// The names that may stand directly below a group; `*` for names of the user's choice.
pub(crate) fn children(group: &str) -> Vec<&'static str> {
    let depth = if group.is_empty() { 0 } else { group.split('.').count() };
    let mut names: Vec<&'static str> = FIELDS
        .iter()
        .filter(|f| {
            let prefix: Vec<&str> = f.path.split('.').take(depth).collect();
            depth == 0 || matches(&prefix.join("."), group)
        })
        .filter_map(|f| f.path.split('.').nth(depth))
        .collect();
    names.dedup();
    names
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('.');
    pattern.split('.').all(|p| parts.next().is_some_and(|x| p == "*" || p == x)) && parts.next().is_none()
}

/// The part of an environment variable's name that stands for a camelCase path: `http.maxValueBytes` →
/// `HTTP_MAX_VALUE_BYTES`.
pub(crate) fn environment_name(path: &str) -> String {
    let mut name = String::with_capacity(path.len() + 8);
    for c in path.chars() {
        match c {
            '.' | '-' => name.push('_'),
            c if c.is_ascii_uppercase() => {
                name.push('_');
                name.push(c);
            }
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

impl ValueType {
    /// What it may hold, in words: for remedies and the documentation.
    #[must_use]
    pub fn accepts(self) -> String {
        match self {
            ValueType::Text => "a text of up to 255 bytes".into(),
            ValueType::Name => "1 to 63 letters, digits, -, _ or ., beginning with a letter or digit".into(),
            ValueType::MemberName => "1 to 253 letters, digits, -, _ or ., beginning with a letter or digit".into(),
            ValueType::Path => "a path".into(),
            ValueType::UnixSocketOrNone => format!("an absolute path of at most {MAX_UNIX_SOCKET} bytes, or nothing"),
            ValueType::Word { now, .. } => one_of(now),
            ValueType::FlagNotYet => "false".into(),
            ValueType::Whole(min, max) => format!("{min} to {max}"),
            ValueType::Span(min, max) => {
                format!("{} to {}", format_span(Duration::from_millis(min)), format_span(Duration::from_millis(max)))
            }
            ValueType::Size(min, max) => format!("{} to {}", format_size(min), format_size(max)),
            ValueType::Socket => "an address and port such as 127.0.0.1:7080 or [::1]:7080".into(),
            ValueType::Address => "an IP address".into(),
            ValueType::Bind => format!("an IP address, {}", one_of(&[BIND_WORDS, BIND_PATTERNS].concat())),
            ValueType::Hosts => "host names or addresses without port".into(),
            ValueType::Origins => "origins such as https://app.example".into(),
            ValueType::HttpsUrl => "a URL without path such as https://operator.example:8443".into(),
            ValueType::PresetsNotYet => "an empty list".into(),
            ValueType::NotYet => "nothing".into(),
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The table of all settings for the user documentation, in Markdown.
#[must_use]
pub fn reference() -> String {
    let defaults = defaults();
    let mut table = String::from("| setting | accepts | default | what it is for |\n| --- | --- | --- | --- |\n");
    for field in FIELDS {
        let pointer = format!("/{}", field.path.replace('.', "/"));
        let default = match defaults.pointer(&pointer) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => format!("`{text}`"),
            Some(serde_json::Value::Array(list)) if list.is_empty() => "none".into(),
            Some(serde_json::Value::String(_) | serde_json::Value::Null) | None => match field.path {
                "caches.*.owners" => format!("`{}`", crate::settings::DEFAULT_OWNERS),
                _ => "none".into(),
            },
            Some(other) => format!("`{other}`"),
        };
        let not_yet = match field.kind {
            ValueType::Word { later: [], .. } => String::new(),
            ValueType::Word { later, .. } => format!(" (not available yet: {})", later.join(", ")),
            ValueType::FlagNotYet | ValueType::PresetsNotYet | ValueType::NotYet => " (not available yet)".into(),
            _ => String::new(),
        };
        let about = field.about;
        let accepts = field.kind.accepts();
        // Writing to a string can't fail.
        let _ =
            writeln!(table, "| `{}` | {accepts}{not_yet} | {default} | {about} |", field.path.replace('*', "{name}"));
    }
    table
}

/// The defaults as a tree, with one cache named `*`.
fn defaults() -> serde_json::Value {
    let mut settings = Settings::default();
    settings.caches.insert("*".into(), crate::settings::Cache::default());
    serde_json::to_value(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_and_types_name_the_same_settings() {
        let mut named = Vec::new();
        leaves(&defaults(), String::new(), &mut named);
        for path in &named {
            assert!(field_of(path).is_some(), "{path} is in the types and not in the list");
        }
        // What the types leave out while it is unset.
        let unset = ["caches.*.owners", "caches.*.ttl", "caches.*.maxIdle", "caches.*.maxEntries", "caches.*.maxBytes"];
        for field in FIELDS {
            let known = named.iter().any(|n| n == field.path) || unset.contains(&field.path);
            assert!(known, "{} is in the list and not in the types", field.path);
        }
    }

    fn leaves(tree: &serde_json::Value, path: String, found: &mut Vec<String>) {
        match tree {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    leaves(value, below, found);
                }
            }
            _ => found.push(path),
        }
    }

    #[test]
    fn groups_children_and_variables_follow_from_the_list() {
        assert!(is_group("caches.sessions"));
        assert!(is_group("network.advertised"));
        assert!(!is_group("http.listen"));
        assert!(!is_group("nowhere"));
        assert_eq!(children("admin"), ["listen"]);
        assert_eq!(children("cluster.partition"), ["policy"]);
        assert_eq!(environment_name("http.maxValueBytes"), "HTTP_MAX_VALUE_BYTES");
        let mut names: Vec<String> = FIELDS.iter().map(|f| environment_name(f.path)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len(), "two settings share a variable");
    }
}
