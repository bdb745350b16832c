//! Header fields: collected in one pass, since most requests have few and looking up each by name costs more.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderValue, IF_MATCH, IF_NONE_MATCH, ORIGIN,
};
use sidegrid_core::operation::{Idempotency, OperationKind};
use xxhash_rust::xxh3::Xxh3;

use super::problem::{Problem, ProblemType};

/// Longest time that a request may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest `Idempotency-Key`.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Longest `Content-Type`.
const MAX_CONTENT_TYPE: usize = 255;

/// When a UUID of version 7 was made, since 1970 (RFC 9562, 5.7); in quotes or without.
fn made_at(key: &[u8]) -> Option<Duration> {
    let key = key.strip_prefix(b"\"").and_then(|k| k.strip_suffix(b"\"")).unwrap_or(key);
    let is_one = key.len() == 36
        && key.iter().enumerate().all(|(i, c)| match i {
            8 | 13 | 18 | 23 => *c == b'-',
            14 => *c == b'7',
            19 => matches!(c.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => c.is_ascii_hexdigit(),
        });
    let digits = [key.get(..8)?, key.get(9..13)?].concat();
    let millis = u64::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
    is_one.then_some(Duration::from_millis(millis))
}

/// The fields that mean something here.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) host: Option<&'a HeaderValue>,
    /// More than one `Host`.
    pub(crate) hosts_differ: bool,
    pub(crate) origin: Option<&'a HeaderValue>,
    pub(crate) if_match: Vec<&'a HeaderValue>,
    pub(crate) if_none_match: Vec<&'a HeaderValue>,
    cache_control: Option<&'a HeaderValue>,
    content_type: Option<&'a HeaderValue>,
    idempotency_key: Option<&'a HeaderValue>,
    timeout: Option<&'a HeaderValue>,
    fill: bool,
    content_encoding: bool,
    content_range: bool,
}

impl<'a> Fields<'a> {
    /// Collects them.
    pub(crate) fn of(headers: &'a HeaderMap) -> Fields<'a> {
        let mut fields = Fields::default();
        for (name, value) in headers {
            match *name {
                HOST => {
                    fields.hosts_differ |= fields.host.is_some();
                    fields.host = Some(value);
                }
                ORIGIN => fields.origin = Some(value),
                IF_MATCH => fields.if_match.push(value),
                IF_NONE_MATCH => fields.if_none_match.push(value),
                CACHE_CONTROL => fields.cache_control = Some(value),
                CONTENT_TYPE => fields.content_type = Some(value),
                CONTENT_ENCODING => fields.content_encoding = true,
                CONTENT_RANGE => fields.content_range = true,
                _ => match name.as_str() {
                    "idempotency-key" => fields.idempotency_key = Some(value),
                    "sidegrid-timeout" => fields.timeout = Some(value),
                    "sidegrid-fill" => fields.fill = true,
                    _ => {}
                },
            }
        }
        fields
    }

    /// What the app allows the operation, or `default`.
    ///
    /// # Errors
    /// A `Sidegrid-Timeout` that is no duration or out of range.
    pub(crate) fn timeout(&self, default: Duration) -> Result<Duration, Problem> {
        let Some(value) = self.timeout else { return Ok(default) };
        let give = "give a duration of 1ms to 10m, such as 500ms";
        let text = value.to_str().unwrap_or_default();
        match sidegrid_config::parse_span(text) {
            Ok(span) if !span.is_zero() && span <= MAX_TIMEOUT => Ok(span),
            _ => Err(Problem::header("Sidegrid-Timeout", give)),
        }
    }

    /// The `Idempotency-Key`, hashed with what it is for, so that one key given to two entries is two operations; and how
    /// long ago it was made, if it is a UUID of version 7, by this machine's calendar.
    ///
    /// # Errors
    /// One of a length that is not 1 to 255, or with other than visible ASCII characters.
    pub(crate) fn idempotency(
        &self,
        cache: &str,
        key: &[u8],
        kind: &OperationKind,
    ) -> Result<Option<Idempotency>, Problem> {
        let Some(value) = self.idempotency_key else { return Ok(None) };
        let bytes = value.as_bytes();
        let fits = (1..=MAX_IDEMPOTENCY_KEY).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        if !fits {
            return Err(Problem::header("Idempotency-Key", "give 1 to 255 visible ASCII characters"));
        }
        let mut hash = Xxh3::new();
        // Neither names nor visible characters hold NUL, and the entry's key comes last.
        for part in [cache.as_bytes(), b"\0", bytes, b"\0", key] {
            hash.update(part);
        }
        let now = Duration::from_nanos(sidegrid_net::clock::calendar_nanos());
        let age = made_at(bytes).map(|made| now.saturating_sub(made));
        Ok(Some(Idempotency::new(hash.digest128(), kind, age)))
    }

    /// `max-age` of `Cache-Control` as a time to live; other directives don't concern a store.
    ///
    /// # Errors
    /// A `max-age` that is no number of seconds, or zero.
    pub(crate) fn max_age(&self) -> Result<Option<Duration>, Problem> {
        let Some(value) = self.cache_control else { return Ok(None) };
        let text = value.to_str().map_err(|_| Problem::header("Cache-Control", "is not ASCII text"))?;
        for directive in text.split(',') {
            let Some((name, seconds)) = directive.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("max-age") {
                let seconds = seconds.trim().trim_matches('"').parse::<u32>().ok().filter(|&s| s > 0);
                let wrong = || Problem::header("Cache-Control", "max-age: give seconds, from 1");
                return seconds.map(|s| Some(Duration::from_secs(s.into()))).ok_or_else(wrong);
            }
        }
        Ok(None)
    }

    /// The `Content-Type` to keep.
    ///
    /// # Errors
    /// One that is too long or not visible ASCII.
    pub(crate) fn content_type(&self) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.content_type else { return Ok(None) };
        match value.to_str() {
            Ok(text) if text.len() <= MAX_CONTENT_TYPE => Ok(Some(text).filter(|t| !t.is_empty())),
            _ => Err(Problem::header("Content-Type", "give up to 255 visible ASCII characters")),
        }
    }

    /// Refuses what would be stored and not given back, or is not built yet.
    ///
    /// # Errors
    /// Such a field.
    pub(crate) fn refuse_unkept(&self) -> Result<(), Problem> {
        if self.fill {
            return Err(Problem::new(ProblemType::NotAvailableYet, "the header Sidegrid-Fill is not available yet"));
        }
        if self.content_encoding {
            return Err(Problem::header("Content-Encoding", "is not kept; store the bytes and say so in Content-Type"));
        }
        if self.content_range {
            return Err(Problem::header("Content-Range", "a value is stored as a whole"));
        }
        Ok(())
    }
}
