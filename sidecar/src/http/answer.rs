//! From the outcome of an operation to an answer.

use std::fmt::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sidegrid_core::Version;
use sidegrid_core::operation::{Answer, EntryView};

use super::Reply;

/// Name of the member whose copy answered.
pub(crate) const OWNER: HeaderName = HeaderName::from_static("sidegrid-owner");
/// Members between this one and the copy that answered.
pub(crate) const HOPS: HeaderName = HeaderName::from_static("sidegrid-hops");
/// `ETag` of the value that `?return=previous` gives back.
pub(crate) const PREVIOUS_ETAG: HeaderName = HeaderName::from_static("sidegrid-previous-etag");

/// Seconds that the entry has left to live, rounded up; absent when it lives for ever. Not `max-age`: that would let a
/// cache between answer with what was replaced since.
pub(crate) const TTL: HeaderName = HeaderName::from_static("sidegrid-ttl");

/// Headers of the largest answer to an operation; room for them is made at once.
const HEADERS: usize = 8;

/// Text that is built without allocating; what does not fit is cut off.
struct Short {
    bytes: [u8; 64],
    length: usize,
}

impl Short {
    fn value(arguments: fmt::Arguments<'_>) -> HeaderValue {
        let mut short = Short { bytes: [0; 64], length: 0 };
        let _ = short.write_fmt(arguments);
        HeaderValue::from_bytes(&short.bytes[..short.length]).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// The `ETag` of a version: `"view-counter"`.
pub(crate) fn etag(version: Version) -> HeaderValue {
    Short::value(format_args!("\"{}-{}\"", version.view.0, version.counter))
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply.headers_mut().reserve(HEADERS);
    reply
}

/// An answer with a body of this type.
pub(crate) fn with_body(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().reserve(HEADERS);
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// An answer in JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Reply {
    // Our own types: writing them can't fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    with_body(StatusCode::OK, HeaderValue::from_static("application/json"), Bytes::from(body))
}

/// An entry: 200, its value and all that is known of it.
pub(crate) fn entry(view: EntryView) -> Reply {
    let content_type = content_type(&view);
    let mut reply = with_body(StatusCode::OK, content_type, view.value);
    describe(&mut reply, view.etag, view.remaining);
    reply
}

/// 304: an entry's headers without its value.
pub(crate) fn not_modified(view: &EntryView) -> Reply {
    let mut reply = empty(StatusCode::NOT_MODIFIED);
    describe(&mut reply, view.etag, view.remaining);
    reply
}

/// What an answer about an entry that is there says of it: its version, and its lifetime if it has one.
pub(crate) fn describe(reply: &mut Reply, version: Version, remaining: Option<Duration>) {
    let headers = reply.headers_mut();
    headers.insert(ETAG, etag(version));
    if let Some(remaining) = remaining {
        headers.insert(TTL, HeaderValue::from(seconds_up(remaining)));
    }
}

/// Whole seconds, rounded up: a living entry never has 0 left.
fn seconds_up(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

/// A value that was replaced or removed: 200, and its own `ETag` beside that of the answer.
pub(crate) fn previous(view: EntryView) -> Reply {
    let content_type = content_type(&view);
    let version = view.etag;
    let mut reply = with_body(StatusCode::OK, content_type, view.value);
    reply.headers_mut().insert(PREVIOUS_ETAG, etag(version));
    reply
}

fn content_type(view: &EntryView) -> HeaderValue {
    let octets = HeaderValue::from_static("application/octet-stream");
    match view.content_type.as_deref() {
        // What we write ourselves, and so meet most often, needs no check.
        None | Some("application/octet-stream") => octets,
        Some("application/json") => HeaderValue::from_static("application/json"),
        Some("text/plain") => HeaderValue::from_static("text/plain"),
        Some(other) => HeaderValue::from_str(other).unwrap_or(octets),
    }
}

/// Who answered, in any answer to a decided operation.
pub(crate) fn sign(reply: &mut Reply, owner: HeaderValue, answer: &Answer) {
    let headers = reply.headers_mut();
    headers.insert(OWNER, owner);
    headers.insert(
        HOPS,
        match answer.hops {
            0 => HeaderValue::from_static("0"),
            1 => HeaderValue::from_static("1"),
            more => HeaderValue::from(u16::from(more)),
        },
    );
}

#[cfg(test)]
mod unit {
    use sidegrid_core::ViewNumber;

    use super::*;

    #[test]
    fn lifetimes_are_rounded_up_and_may_be_of_any_length() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (19_999, 20), (20_000, 20)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds);
        }
        assert_eq!(seconds_up(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_longest_version_fits() {
        let version = Version { view: ViewNumber(u64::MAX), counter: u64::MAX };
        assert_eq!(etag(version), format!("\"{version}\""));
    }
}
