//! The bytes of one record in one allocation of exactly their size, so that what is counted is what is held: a value
//! that came as a slice of a larger buffer does not keep that buffer.

use std::sync::Arc;

use bytes::Bytes;
use sidegrid_core::storage::StoredEntry;
use sidegrid_core::{CacheId, Version, ViewNumber};

/// Bytes before the key: cache (2), flags (1), content type's number (1), length of the key (4).
pub(crate) const HEADER: usize = 8;
/// Bytes of an `ETag` that is not the record's version.
const ETAG: usize = 16;
/// Bytes of the length of a content type that is kept here.
const TYPE_LENGTH: usize = 4;

const TOMBSTONE: u8 = 1;
const HAS_ETAG: u8 = 2;
const HAS_TYPE: u8 = 4;

/// Number that stands for "no content type in the group's table".
pub(crate) const NO_TYPE: u8 = u8::MAX;

/// Header, key, `ETag` if it is not the version, content type if the group's table has no room for it, value.
#[derive(Clone, Debug)]
pub(crate) struct Packed(Arc<[u8]>);

impl Packed {
    /// The record of a removed key.
    pub(crate) fn tombstone(cache: CacheId, key: &[u8]) -> Packed {
        Packed::build(cache, key, TOMBSTONE, &[])
    }

    /// A value, without its content type: that is [`Packed::set_type`]'s, or `inline_type`.
    pub(crate) fn value(
        cache: CacheId,
        key: &[u8],
        version: Version,
        entry: &StoredEntry,
        inline_type: Option<&str>,
    ) -> Packed {
        let view = entry.etag.view.0.to_le_bytes();
        let counter = entry.etag.counter.to_le_bytes();
        let length = inline_type.map(|text| length_of(text.as_bytes()).to_le_bytes());
        let mut parts: [&[u8]; 5] = [&[], &[], &[], &[], &entry.value];
        let mut flags = 0;
        if entry.etag != version {
            flags |= HAS_ETAG;
            parts[0] = &view;
            parts[1] = &counter;
        }
        if let (Some(text), Some(length)) = (inline_type, &length) {
            flags |= HAS_TYPE;
            parts[2] = length;
            parts[3] = text.as_bytes();
        }
        Packed::build(cache, key, flags, &parts)
    }

    fn build(cache: CacheId, key: &[u8], flags: u8, parts: &[&[u8]]) -> Packed {
        let length = HEADER + key.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let room = Arc::get_mut(&mut bytes).expect("just made, so not shared");
        room[..2].copy_from_slice(&cache.0.to_le_bytes());
        room[2] = flags;
        room[3] = NO_TYPE;
        room[4..HEADER].copy_from_slice(&length_of(key).to_le_bytes());
        let mut at = HEADER;
        for part in std::iter::once(&key).chain(parts) {
            room[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Packed(bytes)
    }

    /// Sets the content type's number in the group's table.
    ///
    /// # Panics
    /// When the record has been shared already.
    pub(crate) fn set_type(&mut self, number: u8) {
        Arc::get_mut(&mut self.0).expect("set before the record is shared")[3] = number;
    }

    /// The content type's number in the group's table, or [`NO_TYPE`].
    pub(crate) fn type_number(&self) -> u8 {
        self.0[3]
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.0[2] & TOMBSTONE != 0
    }

    pub(crate) fn cache(&self) -> CacheId {
        CacheId(u16::from_le_bytes([self.0[0], self.0[1]]))
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0[HEADER..self.key_end()]
    }

    /// Whether this is the record of that key: cache, length and bytes in one pass.
    pub(crate) fn is_of(&self, cache: CacheId, key: &[u8]) -> bool {
        self.cache() == cache && self.key() == key
    }

    /// The `ETag`, when it is not the record's version.
    pub(crate) fn etag(&self) -> Option<Version> {
        (self.0[2] & HAS_ETAG != 0).then(|| {
            let at = self.key_end();
            Version { view: ViewNumber(self.u64_at(at)), counter: self.u64_at(at + 8) }
        })
    }

    /// The content type, when it is kept here.
    pub(crate) fn inline_type(&self) -> Option<Arc<str>> {
        (self.0[2] & HAS_TYPE != 0).then(|| {
            let start = self.type_at() + TYPE_LENGTH;
            String::from_utf8_lossy(&self.0[start..self.value_at()]).into()
        })
    }

    /// The value, sharing this allocation.
    pub(crate) fn into_value(self) -> Bytes {
        let start = self.value_at();
        Bytes::from_owner(Value { record: self.0, start })
    }

    /// Bytes allocated, without the counts of the `Arc`.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn key_end(&self) -> usize {
        HEADER + self.u32_at(4)
    }

    fn type_at(&self) -> usize {
        self.key_end() + if self.0[2] & HAS_ETAG == 0 { 0 } else { ETAG }
    }

    fn value_at(&self) -> usize {
        let at = self.type_at();
        if self.0[2] & HAS_TYPE == 0 { at } else { at + TYPE_LENGTH + self.u32_at(at) }
    }

    fn u32_at(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes")) as usize
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}

/// Keys have at most 1,024 bytes, and content types fit a header.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and content types are far shorter than 4 GiB")
}

struct Value {
    record: Arc<[u8]>,
    start: usize,
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.record[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidegrid_core::Time;

    fn version(view: u64, counter: u64) -> Version {
        Version { view: ViewNumber(view), counter }
    }

    #[test]
    fn every_part_reads_back() {
        for etag in [version(1, 2), version(3, u64::MAX)] {
            for text in [None, Some("text/plain; charset=utf-8")] {
                for value in [&b""[..], b"value"] {
                    let value = Bytes::from_static(value);
                    let entry = StoredEntry {
                        value: value.clone(),
                        content_type: None,
                        etag,
                        deadline: None,
                        written: Time::ZERO,
                    };
                    let mut packed = Packed::value(CacheId(513), b"key", version(1, 2), &entry, text);
                    packed.set_type(7);
                    assert!(packed.is_of(CacheId(513), b"key") && !packed.is_of(CacheId(1), b"key"));
                    assert_eq!(packed.etag().unwrap_or(version(1, 2)), etag);
                    assert_eq!(packed.inline_type().as_deref(), text);
                    assert_eq!((packed.type_number(), packed.is_tombstone()), (7, false));
                    assert_eq!(packed.into_value(), value);
                }
            }
        }
        let tombstone = Packed::tombstone(CacheId(0), b"k");
        assert!(tombstone.is_tombstone() && tombstone.len() == HEADER + 1);
    }
}
