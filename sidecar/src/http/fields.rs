//! The header fields that mean something here, and how often each may stand.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderName, HeaderValue, IF_MATCH,
    IF_NONE_MATCH, ORIGIN,
};
use sidegrid_core::operation::{Idempotency, OperationKind};
use xxhash_rust::xxh3::Xxh3;

use super::grammar::{self, Reader};
use super::problem::{Problem, ProblemType};
use super::query::MAX_TTL;

/// Longest time that a request may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest `Idempotency-Key`.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Longest `Content-Type`.
const MAX_CONTENT_TYPE: usize = 255;

/// When a UUID of version 7 was made, since 1970 (RFC 9562, 5.7).
fn made_at(key: &[u8]) -> Option<Duration> {
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

/// A field that is read here. The numbers are places in [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Accept,
    CacheControl,
    ContentEncoding,
    ContentRange,
    ContentType,
    Host,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Origin,
    Fill,
    Timeout,
}

/// How often a field may stand in a request (RFC 9110, 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Multiplicity {
    /// One line; more are refused, since which of them counts would be a guess.
    Once,
    /// A list, over any number of lines.
    List,
}

/// Every field that is read, and how often it may stand.
const TABLE: [(Field, &str, Multiplicity); 12] = [
    (Field::Accept, "Accept", Multiplicity::List),
    (Field::CacheControl, "Cache-Control", Multiplicity::List),
    (Field::ContentEncoding, "Content-Encoding", Multiplicity::List),
    (Field::ContentRange, "Content-Range", Multiplicity::Once),
    (Field::ContentType, "Content-Type", Multiplicity::Once),
    (Field::Host, "Host", Multiplicity::Once),
    (Field::IdempotencyKey, "Idempotency-Key", Multiplicity::Once),
    (Field::IfMatch, "If-Match", Multiplicity::List),
    (Field::IfNoneMatch, "If-None-Match", Multiplicity::List),
    (Field::Origin, "Origin", Multiplicity::Once),
    (Field::Fill, "Sidegrid-Fill", Multiplicity::Once),
    (Field::Timeout, "Sidegrid-Timeout", Multiplicity::Once),
];

impl Field {
    /// Its name as people write it.
    pub(crate) const fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The field of this name. Compares constants first: most names of a request are of other fields.
    fn of(name: &HeaderName) -> Option<Field> {
        Some(match *name {
            ACCEPT => Field::Accept,
            CACHE_CONTROL => Field::CacheControl,
            CONTENT_ENCODING => Field::ContentEncoding,
            CONTENT_RANGE => Field::ContentRange,
            CONTENT_TYPE => Field::ContentType,
            HOST => Field::Host,
            IF_MATCH => Field::IfMatch,
            IF_NONE_MATCH => Field::IfNoneMatch,
            ORIGIN => Field::Origin,
            _ => match name.as_str() {
                "idempotency-key" => Field::IdempotencyKey,
                "sidegrid-fill" => Field::Fill,
                "sidegrid-timeout" => Field::Timeout,
                _ => return None,
            },
        })
    }
}

/// The fields of one request. Which of them are there is found in one pass; each is looked up when it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    headers: &'a HeaderMap,
    present: u16,
}

impl<'a> Fields<'a> {
    /// Finds them.
    ///
    /// # Errors
    /// A field that may stand once and comes in several lines.
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Fields<'a>, Problem> {
        let mut present = 0;
        for field in headers.keys().filter_map(Field::of) {
            present |= field.bit();
        }
        // Keys come once each; several lines of one show in the number of values.
        if headers.len() > headers.keys_len() {
            for (field, name, multiplicity) in &TABLE {
                let several = multiplicity == &Multiplicity::Once
                    && present & field.bit() != 0
                    && headers.get_all(*name).iter().nth(1).is_some();
                if several {
                    return Err(Problem::header(name, "is given more than once; give it once"));
                }
            }
        }
        Ok(Fields { headers, present })
    }

    /// The one line of a field.
    pub(crate) fn line(&self, field: Field) -> Option<&'a HeaderValue> {
        if self.present & field.bit() == 0 { None } else { self.headers.get(field.name()) }
    }

    /// Whether the field is there, empty or not.
    pub(crate) fn has(&self, field: Field) -> bool {
        self.present & field.bit() != 0
    }

    /// All lines of a field; none where it is absent.
    pub(crate) fn lines(&self, field: Field) -> impl Iterator<Item = &'a HeaderValue> {
        self.has(field).then(|| self.headers.get_all(field.name())).into_iter().flatten()
    }

    /// What the app allows the operation, or `default`.
    ///
    /// # Errors
    /// A `Sidegrid-Timeout` that is no duration or out of range.
    pub(crate) fn timeout(&self, default: Duration) -> Result<Duration, Problem> {
        let Some(value) = self.line(Field::Timeout) else { return Ok(default) };
        match sidegrid_config::parse_span(value.to_str().unwrap_or_default()) {
            Ok(span) if !span.is_zero() && span <= MAX_TIMEOUT => Ok(span),
            _ => Err(Problem::header(Field::Timeout.name(), "give a duration of 1ms to 10m, such as 500ms")),
        }
    }

    /// The `Idempotency-Key`, hashed with what it is for, so that one key given to two entries is two operations; and how
    /// long ago it was made, if it is a UUID of version 7, by this machine's calendar.
    ///
    /// # Errors
    /// One that is no single key of 1 to 255 visible ASCII characters.
    pub(crate) fn idempotency(
        &self,
        cache: &str,
        key: &[u8],
        kind: &OperationKind,
    ) -> Result<Option<Idempotency>, Problem> {
        let Some(value) = self.line(Field::IdempotencyKey) else { return Ok(None) };
        let given = idempotency_key(value).ok_or_else(|| {
            let give = "give one key of 1 to 255 visible ASCII characters; one with a comma in double quotes";
            Problem::header(Field::IdempotencyKey.name(), give)
        })?;
        let mut hash = Xxh3::new();
        // Neither names nor visible characters hold NUL, and the entry's key comes last.
        for part in [cache.as_bytes(), b"\0", &given, b"\0", key] {
            hash.update(part);
        }
        let now = Duration::from_nanos(sidegrid_net::clock::calendar_nanos());
        let age = made_at(&given).map(|made| now.saturating_sub(made));
        Ok(Some(Idempotency::new(hash.digest128(), kind, age)))
    }

    /// `max-age` of `Cache-Control` as a time to live of at most ten years; other directives don't concern a store.
    ///
    /// # Errors
    /// A field that is no list of directives, a `max-age` that is no number of seconds from 1, or several that differ
    /// (RFC 9111, 4.2.1).
    pub(crate) fn max_age(&self) -> Result<Option<Duration>, Problem> {
        let wrong = |what| Problem::header(Field::CacheControl.name(), what);
        let directives = grammar::list(self.lines(Field::CacheControl), Reader::parameter)
            .ok_or_else(|| wrong("give directives separated by commas, such as max-age=60"))?;
        let mut found = None;
        for directive in directives.iter().filter(|d| d.name.eq_ignore_ascii_case("max-age")) {
            let seconds = directive.value.as_deref().and_then(delta_seconds).filter(|&seconds| seconds > 0);
            let age = Duration::from_secs(seconds.ok_or_else(|| wrong("max-age: give seconds, from 1"))?).min(MAX_TTL);
            if found.is_some_and(|before| before != age) {
                return Err(wrong("max-age: is given with different values; give one"));
            }
            found = Some(age);
        }
        Ok(found)
    }

    /// The `Content-Type` to keep.
    ///
    /// # Errors
    /// One that is too long or no media type, such as two of them that were joined.
    pub(crate) fn content_type(&self) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.line(Field::ContentType).filter(|v| !v.is_empty()) else { return Ok(None) };
        let fits = value.len() <= MAX_CONTENT_TYPE && grammar::one(value, Reader::media_type).is_some();
        match value.to_str() {
            Ok(text) if fits => Ok(Some(text)),
            _ => Err(Problem::header(
                Field::ContentType.name(),
                "give one media type of up to 255 ASCII characters, such as text/plain;charset=utf-8",
            )),
        }
    }

    /// Refuses what is not built yet.
    ///
    /// # Errors
    /// Such a field.
    pub(crate) fn refuse_unavailable(&self) -> Result<(), Problem> {
        if self.has(Field::Fill) {
            return Err(Problem::new(ProblemType::NotAvailableYet, "the header Sidegrid-Fill is not available yet"));
        }
        Ok(())
    }

    /// Refuses what would be stored and not given back.
    ///
    /// # Errors
    /// Such a field.
    pub(crate) fn refuse_unkept(&self) -> Result<(), Problem> {
        let codings = grammar::list(self.lines(Field::ContentEncoding), Reader::token);
        // `identity` says that there is none.
        if !codings.is_some_and(|codings| codings.iter().all(|c| c.eq_ignore_ascii_case("identity"))) {
            return Err(Problem::header(
                Field::ContentEncoding.name(),
                "is not kept; store the bytes and say so in Content-Type",
            ));
        }
        if self.has(Field::ContentRange) {
            return Err(Problem::header(Field::ContentRange.name(), "a value is stored as a whole; leave it out"));
        }
        Ok(())
    }
}

/// A key as it stands there, or in quotes as a string of structured fields (RFC 8941, 3.3.3). A comma outside of quotes
/// is where a party between may have joined two lines.
fn idempotency_key(value: &HeaderValue) -> Option<Vec<u8>> {
    let quoted = value.as_bytes().starts_with(b"\"");
    let key = if quoted { grammar::one(value, Reader::quoted_string)?.into_owned() } else { value.as_bytes().to_vec() };
    let fits = |byte: &u8| byte.is_ascii_graphic() && (quoted || *byte != b',');
    ((1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) && key.iter().all(fits)).then_some(key)
}

/// Digits alone; a number beyond all bounds counts as the largest (RFC 9111, 1.2.2).
fn delta_seconds(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod unit {
    use super::*;

    type Lines = &'static [(&'static str, &'static str)];

    fn headers(lines: Lines) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn max_age(lines: Lines) -> Result<Option<u64>, String> {
        let headers = headers(lines);
        let age = Fields::of(&headers).unwrap().max_age();
        age.map(|age| age.map(|a| a.as_secs())).map_err(|p| p.detail.into_owned())
    }

    #[test]
    fn the_table_is_in_the_order_of_the_fields_and_each_is_found_by_its_name() {
        for (place, (field, name, _)) in TABLE.iter().enumerate() {
            assert_eq!(*field as usize, place, "{name}");
            assert_eq!(Field::of(&name.parse().unwrap()), Some(*field), "{name}");
        }
    }

    #[test]
    fn what_may_stand_once_is_refused_when_it_comes_twice_and_lists_are_not() {
        for (_, name, multiplicity) in TABLE {
            let mut headers = HeaderMap::new();
            for value in ["a", "a"] {
                headers.append(name, HeaderValue::from_static(value));
            }
            let detail = Fields::of(&headers).err().map(|p| p.detail.into_owned());
            match multiplicity {
                Multiplicity::Once => assert!(detail.unwrap().starts_with(&format!("{name}: is given more than once"))),
                Multiplicity::List => assert_eq!(detail, None, "{name}"),
            }
        }
        assert!(Fields::of(&headers(&[("x-other", "a"), ("x-other", "b"), ("host", "c")])).is_ok());
    }

    #[test]
    fn max_age_is_read_from_a_list_of_directives() {
        assert_eq!(max_age(&[]), Ok(None));
        assert_eq!(max_age(&[("cache-control", "max-age=10"), ("cache-control", "no-transform")]), Ok(Some(10)));
        assert_eq!(max_age(&[("cache-control", "no-transform"), ("cache-control", "max-age=10")]), Ok(Some(10)));
        assert_eq!(max_age(&[("cache-control", ", no-cache,,\tMAX-AGE=10 ,")]), Ok(Some(10)));
        assert_eq!(max_age(&[("cache-control", "max-age=\"10\"")]), Ok(Some(10)));
        assert_eq!(max_age(&[("cache-control", "private=\"x-a, max-age=10\"")]), Ok(None));
        assert_eq!(max_age(&[("cache-control", "private=\"a\\\", max-age=10\", max-age=7")]), Ok(Some(7)));
        assert_eq!(max_age(&[("cache-control", "x-max-age=10, s-maxage=9")]), Ok(None));
        assert_eq!(max_age(&[("cache-control", "max-age=10, max-age=010")]), Ok(Some(10)));
        let ten_years = MAX_TTL.as_secs();
        assert_eq!(max_age(&[("cache-control", "max-age=2147483648")]), Ok(Some(ten_years)));
        assert_eq!(max_age(&[("cache-control", "max-age=99999999999999999999999")]), Ok(Some(ten_years)));
    }

    #[test]
    fn a_max_age_that_says_no_time_is_refused() {
        for wrong in ["max-age=0", "max-age=-1", "max-age=+1", "max-age=1.5", "max-age", "max-age=\"\"", "max-age=1s"] {
            let mut headers = HeaderMap::new();
            headers.append("cache-control", HeaderValue::from_static(wrong));
            let detail = Fields::of(&headers).unwrap().max_age().unwrap_err().detail;
            assert_eq!(detail, "Cache-Control: max-age: give seconds, from 1", "{wrong}");
        }
        assert!(max_age(&[("cache-control", "max-age=10"), ("cache-control", "max-age=600")]).is_err());
        for broken in ["max-age=", "private=\"a, max-age=10", "max-age =10", "max-age=10 no-cache", "=1", "a;b"] {
            let mut headers = HeaderMap::new();
            headers.append("cache-control", HeaderValue::from_static(broken));
            let detail = Fields::of(&headers).unwrap().max_age().unwrap_err().detail;
            assert!(detail.starts_with("Cache-Control: give directives"), "{broken}: {detail}");
        }
    }

    #[test]
    fn an_idempotency_key_is_one_in_quotes_or_not() {
        let key = |text: &'static str| idempotency_key(&HeaderValue::from_static(text));
        assert_eq!(key("k-1").unwrap(), b"k-1");
        assert_eq!(key("\"k-1\""), key("k-1"), "as a structured field's string");
        assert_eq!(key("\"k,\\\"1\"").unwrap(), b"k,\"1");
        for wrong in ["", "k1,k2", "k1, k2", "a b", "\"k1\", \"k2\"", "\"\"", "\"k1", "\"a b\""] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_content_type_is_one_media_type() {
        let kept = |lines: Lines| {
            let headers = headers(lines);
            Fields::of(&headers).unwrap().content_type().map(|t| t.map(str::to_owned)).ok()
        };
        assert_eq!(kept(&[]), Some(None));
        assert_eq!(kept(&[("content-type", "")]), Some(None));
        for fine in ["text/css", "text/plain; charset=utf-8", "application/json;", "a/b;c=\"d, e\""] {
            let mut headers = HeaderMap::new();
            headers.append("content-type", HeaderValue::from_static(fine));
            assert_eq!(Fields::of(&headers).unwrap().content_type().unwrap(), Some(fine));
        }
        for wrong in ["text/plain, application/json", "text", "text/plain charset", "text/\u{7f}"] {
            let Ok(value) = HeaderValue::from_bytes(wrong.as_bytes()) else { continue };
            let mut headers = HeaderMap::new();
            headers.append("content-type", value);
            assert!(Fields::of(&headers).unwrap().content_type().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_coding_is_none_and_any_other_is_not_kept() {
        for (value, kept) in [("", true), (" , ", true), ("identity", true), ("gzip", false), ("identity, br", false)] {
            let mut headers = HeaderMap::new();
            headers.append("content-encoding", HeaderValue::from_static(value));
            assert_eq!(Fields::of(&headers).unwrap().refuse_unkept().is_ok(), kept, "{value}");
        }
    }
}
