//! Whether one value suits one setting.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::schema::{BIND_PATTERNS, BIND_WORDS, MAX_UNIX_SOCKET, ValueType, one_of};
use crate::suggest::nearest;
use crate::text::{format_size, format_span, parse_size, parse_span};

/// Longest text of any kind, in bytes.
const MAX_TEXT: usize = 255;
/// Longest path, in bytes.
const MAX_PATH: usize = 4_096;
/// Longest list.
const MAX_LIST: usize = 256;

/// What is wrong with a value and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

fn wrong<T>(problem: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { problem: problem.into(), remedy: remedy.into() })
}

/// Checks `value` and brings it into the form that the settings types read. A value of null is not passed here.
pub(crate) fn check(kind: ValueType, value: &Value) -> Result<Value, Wrong> {
    let give = || format!("give {}", kind.accepts());
    match kind {
        ValueType::NotYet => wrong("is not available yet", "remove it"),
        ValueType::PresetsNotYet => match value {
            Value::Array(list) if list.is_empty() => Ok(value.clone()),
            _ => wrong("presets are not available yet", "remove them and define the caches below caches"),
        },
        ValueType::FlagNotYet => match as_flag(value) {
            Some(false) => Ok(Value::Bool(false)),
            Some(true) => wrong("is not available yet", "set it to false or remove it"),
            None => wrong(format!("{} is neither true nor false", shown(value)), give()),
        },
        ValueType::Whole(min, max) => match as_whole(value) {
            Some(n) if (min..=max).contains(&n) => Ok(n.into()),
            Some(_) => wrong(format!("{} is out of range", shown(value)), give()),
            None if is_numeric(value) => wrong(format!("{} is out of range", shown(value)), give()),
            None => wrong(format!("{} is not a whole number", shown(value)), give()),
        },
        ValueType::Hosts => list(value, kind, is_host),
        ValueType::Origins => list(value, kind, is_origin),
        _ => {
            let Some(text) = as_text(value) else {
                return wrong(format!("{} is not a text", shown(value)), give());
            };
            check_text(kind, &text)
        }
    }
}

fn check_text(kind: ValueType, text: &str) -> Result<Value, Wrong> {
    let give = || format!("give {}", kind.accepts());
    let max = match kind {
        ValueType::Path => MAX_PATH,
        ValueType::UnixSocketOrNone => MAX_UNIX_SOCKET,
        _ => MAX_TEXT,
    };
    if text.len() > max || text.chars().any(char::is_control) {
        return wrong(format!("is longer than {max} bytes or holds control characters"), give());
    }
    let fine = Ok(Value::String(text.into()));
    match kind {
        ValueType::Name if !is_name(text) => wrong(format!("{text:?} is not a name"), give()),
        ValueType::MemberName if !is_name_within(text, MAX_POD_NAME) => {
            wrong(format!("{text:?} is not a name"), give())
        }
        ValueType::Path if text.is_empty() => wrong("is empty", give()),
        ValueType::UnixSocketOrNone if text.is_empty() => Ok(Value::Null),
        ValueType::UnixSocketOrNone if !text.starts_with('/') => wrong(format!("{text:?} is not absolute"), give()),
        ValueType::UnixSocketOrNone if is_folder(text) => wrong(format!("{text:?} is a folder's path"), give()),
        ValueType::Word { now, later } => match text {
            _ if now.contains(&text) => fine,
            _ if later.contains(&text) => wrong(format!("{text} is not available yet"), give()),
            _ => match nearest(text, now.iter().copied()) {
                Some(near) => {
                    wrong(format!("{text:?} is unknown"), format!("did you mean {near}? Give {}", one_of(now)))
                }
                None => wrong(format!("{text:?} is unknown"), give()),
            },
        },
        ValueType::Span(min, max) => match parse_span(text) {
            Ok(span) if span < Duration::from_millis(min) || span > Duration::from_millis(max) => {
                wrong(format!("{text} is out of range"), give())
            }
            Ok(span) => Ok(Value::String(format_span(span))),
            Err(problem) => wrong(format!("{text:?} {problem}"), format!("{}, in ms, s, m, h or d", give())),
        },
        ValueType::Size(min, max) => match parse_size(text) {
            Ok(bytes) if bytes < min || bytes > max => wrong(format!("{text} is out of range"), give()),
            Ok(bytes) => Ok(Value::String(format_size(bytes))),
            Err(problem) => {
                wrong(format!("{text:?} {problem}"), format!("{}, in Ki, Mi, Gi (or KiB, MiB, GiB) or bytes", give()))
            }
        },
        ValueType::Socket if text.parse::<SocketAddr>().is_err() => {
            wrong(format!("{text:?} is not an address and port"), give())
        }
        ValueType::Address if text.parse::<IpAddr>().is_err() => {
            wrong(format!("{text:?} is not an IP address"), give())
        }
        ValueType::HttpsUrl if https_host(text).is_none() => wrong(format!("{text:?} is not such a URL"), give()),
        ValueType::Bind if !is_bind(text) => wrong(format!("{text:?} is no way to choose an address"), give()),
        _ => fine,
    }
}

fn list(value: &Value, kind: ValueType, fits: fn(&str) -> bool) -> Result<Value, Wrong> {
    let give = || format!("give {}", kind.accepts());
    let Value::Array(items) = value else { return wrong(format!("{} is not a list", shown(value)), give()) };
    if items.len() > MAX_LIST {
        return wrong(format!("has {} items", items.len()), format!("give at most {MAX_LIST}"));
    }
    for item in items {
        match item {
            Value::String(text) if text.len() <= MAX_TEXT && fits(text) => {}
            other => return wrong(format!("{} does not belong there", shown(other)), give()),
        }
    }
    Ok(value.clone())
}

fn as_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn as_whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whether it is a whole number that `u64` can't hold.
fn is_numeric(value: &Value) -> bool {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return false,
    };
    let digits = text.strip_prefix('-').unwrap_or(&text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Numbers count as text, since a file may well say `rack: 7`.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A value in a message: short, on one line, and nothing of what is below it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() <= 60 => match text.parse::<i128>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("{text:?}"),
        },
        Value::String(text) => format!("{:?}...", text.chars().take(60).collect::<String>()),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a group of settings".into(),
    }
}

/// Longest name of a pod, in bytes.
const MAX_POD_NAME: usize = 253;

/// A name of a cluster or preset.
pub(crate) fn is_name(text: &str) -> bool {
    is_name_within(text, 63)
}

fn is_name_within(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether a path can name nothing but a folder.
fn is_folder(path: &str) -> bool {
    ["/", "/.", "/.."].iter().any(|end| path.ends_with(end))
}

fn is_bind(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || BIND_WORDS.contains(&text)
        || BIND_PATTERNS.iter().any(|p| text.strip_prefix(p).is_some_and(|rest| !rest.is_empty()))
}

fn is_host(text: &str) -> bool {
    let unbracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    unbracketed.parse::<IpAddr>().is_ok()
        || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')))
}

/// Host and port of `https://host` or `https://host:port`, a single `/` after it allowed; an IPv6 address is in brackets
/// in the URL and without them here.
pub(crate) fn https_host(url: &str) -> Option<(&str, u16)> {
    let rest = url.strip_prefix("https://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)?),
        _ => (rest, 443),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let fits = bare.map_or(!host.contains(':'), |bare| bare.parse::<Ipv6Addr>().is_ok());
    (fits && is_host(host)).then_some((bare.unwrap_or(host), port))
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        && is_host(host)
        && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(kind: ValueType, value: Value) -> String {
        match check(kind, &value) {
            Ok(fine) => format!("fine: {fine}"),
            Err(wrong) => format!("{}; {}", wrong.problem, wrong.remedy),
        }
    }

    #[test]
    fn each_kind_of_number_says_what_is_wrong_and_what_to_give() {
        let cases = [
            (ValueType::Whole(1, 64), json!(0), "0 is out of range; give 1 to 64"),
            (ValueType::Whole(1, 64), json!("65"), "65 is out of range; give 1 to 64"),
            (ValueType::Whole(1, 64), json!(-1), "-1 is out of range; give 1 to 64"),
            (
                ValueType::Whole(1, 64),
                json!("99999999999999999999999"),
                "99999999999999999999999 is out of range; give 1 to 64",
            ),
            (ValueType::Whole(1, 64), json!("two"), "\"two\" is not a whole number; give 1 to 64"),
            (ValueType::Whole(1, 64), json!(1.5), "1.5 is not a whole number; give 1 to 64"),
            (ValueType::Whole(1, 64), json!([1]), "a list is not a whole number; give 1 to 64"),
            (
                ValueType::Span(1000, 60_000),
                json!("30"),
                "\"30\" has no unit (in seconds it is 30s); give 1s to 1m, in ms, s, m, h or d",
            ),
            (
                ValueType::Span(1000, 60_000),
                json!(30),
                "\"30\" has no unit (in seconds it is 30s); give 1s to 1m, in ms, s, m, h or d",
            ),
            (ValueType::Span(1000, 60_000), json!("2m"), "2m is out of range; give 1s to 1m"),
            (ValueType::Size(1, 1024), json!("2KiB"), "2KiB is out of range; give 1 to 1KiB"),
            (
                ValueType::Size(1, 1024),
                json!("2Kb"),
                "\"2Kb\" has an unknown unit; give 1 to 1KiB, in Ki, Mi, Gi (or KiB, MiB, GiB) or bytes",
            ),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(problem(kind, value), expected);
        }
    }

    #[test]
    fn each_kind_of_text_says_what_is_wrong_and_what_to_give() {
        let word = ValueType::Word { now: &["distributed", "local"], later: &["invalidation"] };
        let cases = [
            (word, json!("invalidation"), "invalidation is not available yet; give distributed or local"),
            (
                word,
                json!("distribted"),
                "\"distribted\" is unknown; did you mean distributed? Give distributed or local",
            ),
            (word, json!("x"), "\"x\" is unknown; give distributed or local"),
            (word, json!(true), "true is not a text; give distributed or local"),
            (ValueType::FlagNotYet, json!(true), "is not available yet; set it to false or remove it"),
            (ValueType::FlagNotYet, json!("yes"), "\"yes\" is neither true nor false; give false"),
            (ValueType::NotYet, json!("5m"), "is not available yet; remove it"),
            (ValueType::Address, json!("localhost"), "\"localhost\" is not an IP address; give an IP address"),
            (ValueType::Path, json!(""), "is empty; give a path"),
            (
                ValueType::HttpsUrl,
                json!("http://a:8443"),
                "\"http://a:8443\" is not such a URL; give a URL without path such as https://operator.example:8443",
            ),
            (
                ValueType::Hosts,
                json!(["a:80"]),
                "\"a:80\" does not belong there; give host names or addresses without port",
            ),
            (
                ValueType::Origins,
                json!(["app.example"]),
                "\"app.example\" does not belong there; give origins such as https://app.example",
            ),
            (
                ValueType::Origins,
                json!(["https://a/b"]),
                "\"https://a/b\" does not belong there; give origins such as https://app.example",
            ),
            (
                ValueType::PresetsNotYet,
                json!(["keycloak"]),
                "presets are not available yet; remove them and define the caches below caches",
            ),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(problem(kind, value), expected);
        }
    }

    #[test]
    fn texts_names_and_addresses_say_what_is_wrong() {
        assert!(
            problem(ValueType::Socket, json!("7080")).contains("is not an address and port; give an address and port")
        );
        assert!(
            problem(ValueType::Bind, json!("eth0"))
                .contains("is no way to choose an address; give an IP address, SITE")
        );
        assert!(problem(ValueType::Bind, json!("match-host:")).contains("is no way"));
        assert!(problem(ValueType::Text, json!("a\nb")).contains("control characters"));
        assert!(problem(ValueType::Name, json!("-x")).contains("is not a name"));
        assert!(problem(ValueType::MemberName, json!("n".repeat(254))).contains("is not a name; give 1 to 253"));
        assert!(check(ValueType::MemberName, &json!("n".repeat(253))).is_ok());
        assert!(check(ValueType::Name, &json!("n".repeat(64))).is_err());
    }

    #[test]
    fn a_unix_sockets_path_is_absolute_short_and_of_a_file() {
        let path = |length: usize| format!("/{}", "s".repeat(length - 1));
        assert_eq!(check(ValueType::UnixSocketOrNone, &json!(path(107))), Ok(json!(path(107))));
        assert_eq!(check(ValueType::UnixSocketOrNone, &json!("")), Ok(Value::Null));
        for (bad, expected) in [
            (path(108).as_str(), "is longer than 107 bytes or holds control characters"),
            ("run/http.sock", "\"run/http.sock\" is not absolute"),
            ("/run/sidegrid/", "\"/run/sidegrid/\" is a folder's path"),
            ("/run/..", "\"/run/..\" is a folder's path"),
        ] {
            let remedy = "give an absolute path of at most 107 bytes, or nothing";
            assert_eq!(problem(ValueType::UnixSocketOrNone, json!(bad)), format!("{expected}; {remedy}"));
        }
    }

    #[test]
    fn a_url_tells_host_and_port() {
        assert_eq!(https_host("https://operator.ns.svc:8443"), Some(("operator.ns.svc", 8443)));
        assert_eq!(https_host("https://operator.ns.svc/"), Some(("operator.ns.svc", 443)));
        assert_eq!(https_host("https://[::1]:8443"), Some(("::1", 8443)));
        assert_eq!(https_host("https://[::1]"), Some(("::1", 443)));
        for bad in
            ["", "https://", "https://a:0", "https://a:x", "https://a/path", "https://u@a", "https://::1:80", "a:1"]
        {
            assert_eq!(https_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_fits_is_kept_or_normalised() {
        assert_eq!(check(ValueType::Whole(0, 9), &json!("7")), Ok(json!(7)));
        assert_eq!(check(ValueType::Span(0, 90_000), &json!("60s")), Ok(json!("1m")));
        assert_eq!(check(ValueType::Span(0, 5_400_000), &json!("1h30m")), Ok(json!("90m")));
        assert_eq!(check(ValueType::Size(0, 4096), &json!(1024)), Ok(json!("1KiB")));
        assert_eq!(check(ValueType::Size(0, 4096), &json!("2Ki")), Ok(json!("2KiB")));
        assert_eq!(check(ValueType::Text, &json!(7)), Ok(json!("7")));
        assert_eq!(check(ValueType::Socket, &json!("[::1]:0")), Ok(json!("[::1]:0")));
        assert_eq!(check(ValueType::Bind, &json!("match-interface:eth.*")), Ok(json!("match-interface:eth.*")));
        assert_eq!(check(ValueType::Hosts, &json!(["::1", "app.example"])), Ok(json!(["::1", "app.example"])));
        assert_eq!(check(ValueType::Origins, &json!(["http://[::1]:80"])), Ok(json!(["http://[::1]:80"])));
    }
}
