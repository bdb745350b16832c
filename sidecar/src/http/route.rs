//! Paths.

use std::borrow::Cow;

use bytes::Bytes;

use super::problem::{Problem, ProblemType};

/// Longest key in bytes, percent-decoded.
pub(crate) const MAX_KEY: usize = 1_024;

/// What a path names. Parts are as they stand in the path, percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/v1/caches/{cache}/entries/{key}`
    Entry { cache: &'a str, key: &'a str },
    /// `/v1/caches/{cache}/entries/{key}/increment`
    Increment { cache: &'a str, key: &'a str },
    /// `/v1/caches/{cache}`
    Cache { cache: &'a str },
    /// `/v1/caches`
    Caches,
    /// `/v1/cluster`
    Cluster,
    /// `/v1/cluster/explain`
    Explain,
    /// `/openapi.json`
    OpenApi,
    /// Announced and not built.
    NotYet,
    /// Nothing.
    Unknown,
}

impl Route<'_> {
    /// What `path` names.
    pub(crate) fn of(path: &str) -> Route<'_> {
        if let Some(below) = path.strip_prefix("/v1/caches/") {
            return below_caches(below);
        }
        match path {
            "/v1/caches" => Route::Caches,
            "/v1/cluster" => Route::Cluster,
            "/v1/cluster/explain" => Route::Explain,
            "/openapi.json" => Route::OpenApi,
            _ => Route::Unknown,
        }
    }

    /// The methods that the path has, as an `Allow` header lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Route::Entry { .. } => "GET, HEAD, PUT, DELETE, PATCH",
            Route::Increment { .. } => "POST",
            _ => "GET, HEAD",
        }
    }
}

fn below_caches(below: &str) -> Route<'_> {
    let Some((cache, rest)) = below.split_once('/') else {
        return if below.is_empty() { Route::Unknown } else { Route::Cache { cache: below } };
    };
    match rest.split_once('/') {
        Some(("entries", entry)) => match entry.split_once('/') {
            None => Route::Entry { cache, key: entry },
            Some((key, "increment")) => Route::Increment { cache, key },
            Some(_) => Route::Unknown,
        },
        // Clients that resolve `.` and `..` come here and above with requests that are meant for an entry: no method on
        // these paths may change anything unless a parameter of its own asks for it.
        None if matches!(rest, "entries" | "batch" | "events") => Route::NotYet,
        _ => Route::Unknown,
    }
}

/// The key that a part of a path stands for.
///
/// # Errors
/// Of a length that is not 1 to 1,024 bytes, or a broken percent-encoding.
pub(crate) fn key(part: &str) -> Result<Bytes, Problem> {
    let bad = |detail| Problem::new(ProblemType::BadKey, detail);
    let decoded = decode(part, false).ok_or_else(|| bad("a % is not followed by two hexadecimal digits"))?;
    match decoded.len() {
        0 => Err(bad("it is empty; give 1 to 1024 bytes, percent-encoded")),
        1..=MAX_KEY => Ok(Bytes::copy_from_slice(&decoded)),
        _ => Err(bad("it is longer than 1024 bytes after percent-decoding")),
    }
}

/// Decodes percent-encoding; `+` stands for a space in a `query`. None when it is broken.
pub(crate) fn decode(part: &str, query: bool) -> Option<Cow<'_, [u8]>> {
    let bytes = part.as_bytes();
    if !bytes.iter().any(|&b| b == b'%' || (query && b == b'+')) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex(*rest.next()?)? << 4 | hex(*rest.next()?)?,
            b'+' if query => b' ',
            other => other,
        });
    }
    Some(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// A key in the form that a path takes.
pub(crate) fn encode(key: &[u8]) -> String {
    let mut encoded = String::with_capacity(key.len());
    for &byte in key {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod unit {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let cases = [
            ("/v1/caches/a/entries/k", Route::Entry { cache: "a", key: "k" }),
            ("/v1/caches/a/entries/", Route::Entry { cache: "a", key: "" }),
            ("/v1/caches/a/entries/increment", Route::Entry { cache: "a", key: "increment" }),
            ("/v1/caches/a/entries/k%2Fl", Route::Entry { cache: "a", key: "k%2Fl" }),
            ("/v1/caches/a/entries/k/increment", Route::Increment { cache: "a", key: "k" }),
            ("/v1/caches/a/entries/k/l", Route::Unknown),
            ("/v1/caches/a/entries", Route::NotYet),
            ("/v1/caches/a/batch", Route::NotYet),
            ("/v1/caches/a/events", Route::NotYet),
            ("/v1/caches/a/other", Route::Unknown),
            ("/v1/caches/a", Route::Cache { cache: "a" }),
            ("/v1/caches/", Route::Unknown),
            ("/v1/caches", Route::Caches),
            ("/v1/cluster", Route::Cluster),
            ("/v1/cluster/explain", Route::Explain),
            ("/openapi.json", Route::OpenApi),
            ("/", Route::Unknown),
            ("*", Route::Unknown),
        ];
        for (path, route) in cases {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn keys_are_bounded_and_decoded() {
        assert_eq!(key("a%2Fb%00+").unwrap(), &b"a/b\0+"[..]);
        assert!(key("").is_err());
        assert!(key("%").is_err());
        assert!(key("%4").is_err());
        assert!(key("%zz").is_err());
        assert!(key(&"%41".repeat(1024)).is_ok());
        assert!(key(&"a".repeat(1025)).is_err());
        assert_eq!(decode("a+b", true).unwrap(), &b"a b"[..]);
    }

    proptest! {
        #[test]
        fn keys_survive_a_path(bytes in prop::collection::vec(any::<u8>(), 1..1024)) {
            prop_assert_eq!(key(&encode(&bytes)).unwrap(), bytes);
        }
    }
}
