//! Identifiers, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $width:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $width, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                <$int>::from_str_radix(text, 16).map($name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0.to_le_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
                } else {
                    let bytes = <&[u8]>::deserialize(deserializer)?;
                    Ok($name(<$int>::from_le_bytes(bytes.try_into().map_err(D::Error::custom)?)))
                }
            }
        }
    };
}

hex_id!(
    /// One process incarnation of a member or client: random, new at each start, never zero.
    MemberId, u64, "16"
);
hex_id!(
    /// The cluster's own identity, made once with the document and carried in certificates and frames.
    ClusterUid, u128, "32"
);

/// The number of a view: +1 for each change, never restarted. Zero means that no view is installed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewNumber(pub u64);

impl ViewNumber {
    /// No view.
    pub const NONE: ViewNumber = ViewNumber(0);

    /// The number of the view that follows this one.
    #[must_use]
    pub const fn next(self) -> ViewNumber {
        ViewNumber(self.0 + 1)
    }
}

impl fmt::Display for ViewNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The order of writes within a group: the view in which its primary took it, then a counter that never goes back
/// within the group. Shown to apps as the `ETag`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// View of the primary when it ordered the write.
    pub view: ViewNumber,
    /// Place in the group's order; one group's in-sync copies never hold two writes of the same counter.
    pub counter: u64,
}

impl Version {
    /// Before every write.
    pub const ZERO: Version = Version { view: ViewNumber(0), counter: 0 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.view, self.counter)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (view, counter) = text.split_once('-').unwrap_or((text, ""));
        Ok(Version { view: ViewNumber(view.parse()?), counter: counter.parse()? })
    }
}

/// A clustered cache: its index in the document's list of caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheId(pub u16);

/// A segment of the key space: `xxh3_64(key or its {tag}) mod N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u16);

impl SegmentId {
    /// The segment of `key` among `segments`. When the key holds a non-empty `{tag}` (the first `{` and the next `}`
    /// after it), the tag alone is hashed, so that keys with one tag share a segment.
    ///
    /// # Panics
    /// If `segments` is zero.
    #[must_use]
    pub fn of(key: &[u8], segments: u16) -> SegmentId {
        let hash = xxhash_rust::xxh3::xxh3_64(hash_tag(key).unwrap_or(key));
        SegmentId(u16::try_from(hash % u64::from(segments)).unwrap_or(0))
    }
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&b| b == b'{')?;
    let tag = &key[open + 1..];
    let close = tag.iter().position(|&b| b == b'}')?;
    (close > 0).then(|| &tag[..close])
}

/// A replica group: one segment of all caches with the same replica count. It has one primary, one order of writes
/// and one stable watermark. Dense: `class × segments + segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group of a segment in the class of caches with one replica count.
    #[must_use]
    pub fn new(class: usize, segment: SegmentId, segments: u16) -> GroupId {
        GroupId(u32::try_from(class).unwrap_or(u32::MAX) * u32::from(segments) + u32::from(segment.0))
    }

    /// As an index into dense tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_decides_the_segment() {
        assert_eq!(SegmentId::of(b"{user7}:cart", 256), SegmentId::of(b"x{user7}", 256));
        assert_eq!(SegmentId::of(b"{}a", 256), SegmentId::of(b"{}a", 256));
        assert_ne!(hash_tag(b"{}a"), Some(&b""[..]));
        assert_eq!(hash_tag(b"a{b}c{d}"), Some(&b"b"[..]));
    }

    #[test]
    fn versions_order_by_view_then_counter_and_read_back() {
        let older = Version { view: ViewNumber(1), counter: 9 };
        let newer = Version { view: ViewNumber(2), counter: 3 };
        assert!(older < newer);
        assert_eq!(newer.to_string().parse::<Version>(), Ok(newer));
        assert!("7".parse::<Version>().is_err());
    }

    #[test]
    fn ids_keep_their_form_in_text_and_binary() {
        let id = MemberId(0xab);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"00000000000000ab\"");
        let bytes = postcard::to_stdvec(&id).unwrap();
        assert_eq!(postcard::from_bytes::<MemberId>(&bytes).unwrap(), id);
    }
}
