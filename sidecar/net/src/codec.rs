//! Frames: `{length: u32 big-endian, format: u8, kind: u8}` and a postcard body. The length counts what follows it.
//!
//! Decoding takes bytes of anybody: each fault is an error, nothing panics, and no more is held than one frame of the
//! largest allowed size.

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sidegrid_core::ClusterUid;
use sidegrid_core::member::Member;
use sidegrid_core::message::{Envelope, Ping};

use crate::plane::Plane;

/// The newest frame format that this build speaks (F-1). A frame carries the format that its kind came in with, and is
/// sent to those alone who have said that they read it.
pub const FORMAT: u8 = 2;
/// The oldest frame format that this build reads.
pub const OLDEST_FORMAT: u8 = 2;

/// Bytes before the body.
const HEADER: usize = 6;
/// Bytes of the header that the length counts.
const COUNTED: usize = 2;
/// Largest hello: names and addresses.
pub(crate) const HELLO_BYTES: usize = 16 << 10;
/// Largest ping.
pub(crate) const PING_BYTES: usize = 1 << 10;
/// Frames of data above this size are sent in parts of it, so that control messages can go between them.
pub(crate) const PART_BYTES: usize = 32 << 10;
/// The format in which parts came in.
pub(crate) const PARTS_FORMAT: u8 = 2;

/// The kinds of frame, as they stand in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// First on each connection, in both directions.
    Hello = 1,
    /// A message of the core.
    Envelope = 2,
    /// A ping or its echo.
    Ping = 3,
    /// A part of a frame with a message; the parts of one follow each other, other frames between them.
    Part = 4,
}

impl FrameType {
    fn of(byte: u8) -> Option<FrameType> {
        match byte {
            1 => Some(FrameType::Hello),
            2 => Some(FrameType::Envelope),
            3 => Some(FrameType::Ping),
            4 => Some(FrameType::Part),
            _ => None,
        }
    }

    /// The format that it came in with.
    const fn format(self) -> u8 {
        match self {
            FrameType::Hello | FrameType::Envelope | FrameType::Ping => OLDEST_FORMAT,
            FrameType::Part => PARTS_FORMAT,
        }
    }
}

/// How each side of a connection introduces itself: the dialer first, then the side that accepted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest and newest frame format that the sender reads.
    pub formats: (u8, u8),
    /// Its cluster.
    pub cluster: ClusterUid,
    /// The port that it means to talk to.
    pub plane: Plane,
    /// Itself; the id must be its certificate's.
    pub member: Member,
}

/// A frame that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An introduction.
    Hello(Box<Hello>),
    /// A message.
    Envelope(Box<Envelope>),
    /// A ping or its echo.
    Ping(Ping),
}

/// Bytes that are no frame this build takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame's format is not one that this build speaks (F-1).
    #[error("frame format {format} is not among those spoken here, {OLDEST_FORMAT} to {FORMAT}")]
    UnknownFormat {
        /// As received.
        format: u8,
    },
    /// There is no such kind of frame.
    #[error("unknown kind of frame {kind}")]
    UnknownKind {
        /// As received.
        kind: u8,
    },
    /// Another kind of frame was due here.
    #[error("a frame of kind {kind:?} is out of place")]
    WrongKind {
        /// As received.
        kind: FrameType,
    },
    /// The frame is larger than allowed.
    #[error("a frame of {length} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// As its header says.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// The frame is shorter than its header, or the bytes end within it.
    #[error("the frame is cut short")]
    Truncated,
    /// The body is not what its kind says.
    #[error("the frame's body is malformed")]
    Malformed,
    /// Bytes follow the frame or its body.
    #[error("{bytes} bytes follow where the frame ends")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl CodecError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            CodecError::UnknownFormat { .. } => "unknown-format",
            CodecError::UnknownKind { .. } => "unknown-kind",
            CodecError::WrongKind { .. } => "wrong-kind",
            CodecError::TooLarge { .. } => "frame-too-large",
            CodecError::Truncated => "frame-truncated",
            CodecError::Malformed => "frame-malformed",
            CodecError::Trailing { .. } => "frame-trailing",
        }
    }
}

/// The whole frame of a message.
///
/// # Panics
/// Never with the protocol's types, which postcard can always write; a frame of 4 GiB or more would.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    encode(FrameType::Envelope, envelope)
}

/// The message of a whole frame.
///
/// # Errors
/// What keeps the bytes from being exactly one frame with a message.
pub fn decode_envelope(frame: Bytes) -> Result<Envelope, CodecError> {
    match decode_whole(&frame, usize::MAX)? {
        Frame::Envelope(envelope) => Ok(*envelope),
        other => Err(CodecError::WrongKind { kind: other.kind() }),
    }
}

/// The frame in `bytes`, which must be exactly one, of at most `limit` bytes after its length field.
///
/// # Errors
/// What keeps the bytes from being exactly one frame.
pub fn decode_whole(bytes: &[u8], limit: usize) -> Result<Frame, CodecError> {
    let Some(header) = Header::read(bytes, limit)? else { return Err(CodecError::Truncated) };
    let (body, rest) = bytes[HEADER..].split_at_checked(header.body).ok_or(CodecError::Truncated)?;
    if !rest.is_empty() {
        return Err(CodecError::Trailing { bytes: rest.len() });
    }
    Raw { kind: header.kind, body }.decode()
}

/// The whole frame of an introduction.
pub(crate) fn encode_hello(hello: &Hello) -> Bytes {
    encode(FrameType::Hello, hello)
}

/// The whole frame of a ping or echo.
pub(crate) fn encode_ping(ping: &Ping) -> Bytes {
    encode(FrameType::Ping, ping)
}

/// The header of a frame with this part of another frame, and the part, which follows it.
pub(crate) fn encode_part(part: Bytes) -> (Bytes, Bytes) {
    let length = u32::try_from(part.len() + COUNTED).expect("a part is far smaller than 4 GiB");
    let mut header = length.to_be_bytes().to_vec();
    header.extend([FrameType::Part.format(), FrameType::Part as u8]);
    (Bytes::from(header), part)
}

/// Bytes that a frame has after its length field, which is what bounds count.
pub(crate) fn counted(frame: &Bytes) -> usize {
    frame.len() - HEADER + COUNTED
}

fn encode<T: Serialize>(kind: FrameType, body: &T) -> Bytes {
    let header = vec![0, 0, 0, 0, kind.format(), kind as u8];
    let mut frame = postcard::to_extend(body, header).expect("the protocol's types can be written");
    let length = u32::try_from(frame.len() - HEADER + COUNTED).expect("a frame is far smaller than 4 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Bytes::from(frame)
}

struct Header {
    kind: FrameType,
    body: usize,
}

impl Header {
    /// The header at the start of `bytes`; none while it is not yet whole. Judges the length as soon as it is there.
    fn read(bytes: &[u8], limit: usize) -> Result<Option<Header>, CodecError> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        // A length that does not fit is one that is too large.
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length < COUNTED {
            return Err(CodecError::Truncated);
        }
        if length > limit {
            return Err(CodecError::TooLarge { length, limit });
        }
        let Some(&[format, kind]) = rest.first_chunk::<COUNTED>() else { return Ok(None) };
        if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
            return Err(CodecError::UnknownFormat { format });
        }
        let kind = FrameType::of(kind).ok_or(CodecError::UnknownKind { kind })?;
        Ok(Some(Header { kind, body: length - COUNTED }))
    }
}

struct Raw<'a> {
    kind: FrameType,
    body: &'a [u8],
}

impl Raw<'_> {
    fn decode(&self) -> Result<Frame, CodecError> {
        Ok(match self.kind {
            FrameType::Hello => Frame::Hello(Box::new(self.body()?)),
            FrameType::Envelope => Frame::Envelope(Box::new(self.body()?)),
            FrameType::Ping => Frame::Ping(self.body()?),
            FrameType::Part => return Err(CodecError::WrongKind { kind: FrameType::Part }),
        })
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        match postcard::take_from_bytes(self.body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(CodecError::Trailing { bytes: rest.len() }),
            Err(_) => Err(CodecError::Malformed),
        }
    }
}

impl Frame {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> FrameType {
        match self {
            Frame::Hello(_) => FrameType::Hello,
            Frame::Envelope(_) => FrameType::Envelope,
            Frame::Ping(_) => FrameType::Ping,
        }
    }
}

/// Cuts a stream of bytes into frames that are not yet decoded, so that a reader can make room for one first.
#[derive(Debug)]
pub(crate) struct Cutter {
    stream: BytesMut,
    limit: usize,
    /// The parts of a frame that have come; none where no frame may come in parts.
    parts: Option<BytesMut>,
}

/// One frame as cut from the stream.
#[derive(Debug)]
pub(crate) struct Cut(Bytes);

impl Cutter {
    /// Allows frames of up to `limit` bytes after their length field, none in parts.
    pub(crate) fn new(limit: usize) -> Cutter {
        Cutter { stream: BytesMut::new(), limit, parts: None }
    }

    /// Allows another size from the next frame on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Allows frames in parts from the next one on. The whole keeps to the limit too.
    pub(crate) fn allow_parts(&mut self) {
        self.parts.get_or_insert_default();
    }

    /// The next whole frame, if it has come.
    ///
    /// # Errors
    /// The stream is not one of frames, and nothing more can be cut from it.
    pub(crate) fn cut(&mut self) -> Result<Option<Cut>, CodecError> {
        while let Some(header) = Header::read(&self.stream, self.limit)? {
            let whole = HEADER + header.body;
            if self.stream.len() < whole {
                return Ok(None);
            }
            if header.kind == FrameType::Part {
                if let Some(frame) = self.take_part(whole)? {
                    return Ok(Some(Cut(frame)));
                }
                continue;
            }
            let frame = if whole < COPIED {
                // A copy of its own, so that a small frame kept somewhere does not keep the buffer of its neighbours.
                let frame = Bytes::copy_from_slice(&self.stream[..whole]);
                self.stream.advance(whole);
                frame
            } else {
                self.stream.split_to(whole).freeze()
            };
            return Ok(Some(Cut(frame)));
        }
        Ok(None)
    }

    /// Adds the part at the start of the stream, a frame of `whole` bytes; the frame that it completes, if any.
    fn take_part(&mut self, whole: usize) -> Result<Option<Bytes>, CodecError> {
        let parts = self.parts.as_mut().ok_or(CodecError::WrongKind { kind: FrameType::Part })?;
        if whole == HEADER {
            return Err(CodecError::Malformed);
        }
        parts.extend_from_slice(&self.stream[HEADER..whole]);
        self.stream.advance(whole);
        let Some(header) = Header::read(parts, self.limit)? else { return Ok(None) };
        if header.kind != FrameType::Envelope {
            return Err(CodecError::WrongKind { kind: header.kind });
        }
        let end = HEADER + header.body;
        if parts.len() > end {
            return Err(CodecError::Trailing { bytes: parts.len() - end });
        }
        Ok((parts.len() == end).then(|| std::mem::take(parts).freeze()))
    }

    /// Where the next bytes of the stream go. Grows with what has come, not with what a header announces.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.stream.capacity() - self.stream.len() < READ_MIN {
            self.stream.reserve(self.stream.len().clamp(READ_MIN, READ_MAX));
        }
        &mut self.stream
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.stream.is_empty() && self.parts.as_ref().is_none_or(BytesMut::is_empty)
    }
}

/// Frames below this size are copied out of the buffer.
const COPIED: usize = 16 << 10;
/// Least and most that a reader's buffer grows at once.
const READ_MIN: usize = 4 << 10;
const READ_MAX: usize = 256 << 10;

impl Cut {
    /// Bytes of the whole frame.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What it says.
    pub(crate) fn decode(&self) -> Result<Frame, CodecError> {
        decode_whole(&self.0, self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use sidegrid_core::ViewNumber;
    use sidegrid_core::message::PingStatus;

    use super::*;

    fn ping(sent: u64) -> Ping {
        Ping { view: ViewNumber(3), sent, confirmed_past: ViewNumber(2), status: PingStatus::default(), echo: None }
    }

    fn feed(cutter: &mut Cutter, bytes: &[u8]) -> Vec<Frame> {
        cutter.room().extend_from_slice(bytes);
        std::iter::from_fn(|| cutter.cut().unwrap()).map(|cut| cut.decode().unwrap()).collect()
    }

    #[test]
    fn frames_are_cut_however_the_stream_comes() {
        let sent: Vec<u64> = (0..50).map(|n| 1 << n).collect();
        let stream: Vec<u8> = sent.iter().flat_map(|&n| encode_ping(&ping(n))).collect();
        let expected: Vec<Frame> = sent.iter().map(|&n| Frame::Ping(ping(n))).collect();
        for step in [1, 7, 1_000] {
            let mut cutter = Cutter::new(PING_BYTES);
            let cut: Vec<Frame> = stream.chunks(step).flat_map(|chunk| feed(&mut cutter, chunk)).collect();
            assert_eq!(cut, expected);
            assert!(cutter.is_between_frames());
        }
    }

    /// B-1: what a header announces is not what is held.
    #[test]
    fn an_announced_length_takes_no_memory() {
        let limit = 1 << 30;
        let mut cutter = Cutter::new(limit);
        let header = u32::try_from(limit).unwrap().to_be_bytes();
        assert_eq!(feed(&mut cutter, &header), []);
        assert_eq!(feed(&mut cutter, &[FORMAT, FrameType::Envelope as u8]), []);
        assert!(cutter.room().capacity() <= READ_MAX, "{}", cutter.room().capacity());

        let mut cutter = Cutter::new(limit - 1);
        cutter.room().extend_from_slice(&header);
        assert_eq!(cutter.cut().unwrap_err(), CodecError::TooLarge { length: limit, limit: limit - 1 });
    }

    fn envelope(bytes: usize) -> Bytes {
        use sidegrid_core::message::{Envelope, Message};
        let message = Message::JoinRefused("x".repeat(bytes));
        encode_envelope(&Envelope { view: ViewNumber(1), confirmed_past: ViewNumber(0), message })
    }

    fn parts(frame: &Bytes, size: usize) -> Vec<Vec<u8>> {
        let part = |at: usize| encode_part(frame.slice(at..frame.len().min(at + size)));
        (0..frame.len()).step_by(size).map(part).map(|(header, body)| [header, body].concat()).collect()
    }

    fn receiver(limit: usize) -> Cutter {
        let mut cutter = Cutter::new(limit);
        cutter.allow_parts();
        cutter
    }

    #[test]
    fn a_frame_in_parts_is_whole_again_with_others_between() {
        let large = envelope(10_000);
        for size in [1, 3, 7, 999, 20_000] {
            let mut cutter = receiver(20_000);
            let mut stream = Vec::new();
            for (n, part) in (0..).zip(parts(&large, size)) {
                stream.extend(part);
                stream.extend(encode_ping(&ping(n)));
            }
            let mut frames = feed(&mut cutter, &stream);
            let last = frames.len() - 2;
            assert_eq!(frames.remove(last), Frame::Envelope(Box::new(decode_envelope(large.clone()).unwrap())));
            let count = u64::try_from(frames.len()).unwrap();
            assert_eq!(frames, (0..count).map(|n| Frame::Ping(ping(n))).collect::<Vec<_>>());
            assert!(cutter.is_between_frames());
        }
    }

    #[test]
    fn parts_that_make_no_frame_are_refused() {
        let cut = |cutter: &mut Cutter, bytes: &[u8]| {
            cutter.room().extend_from_slice(bytes);
            cutter.cut().map(|cut| cut.is_some())
        };
        let whole = |bytes: &[u8]| parts(&Bytes::copy_from_slice(bytes), 64).concat();
        let small = envelope(9);
        let kind = |kind| Err(CodecError::WrongKind { kind });
        assert_eq!(cut(&mut Cutter::new(100), &whole(&small)), kind(FrameType::Part), "not before both sides agree");
        assert_eq!(cut(&mut receiver(100), &whole(&encode_ping(&ping(1)))), kind(FrameType::Ping));
        assert_eq!(cut(&mut receiver(100), &whole(&whole(&small))), kind(FrameType::Part), "parts of parts");
        assert_eq!(
            cut(&mut receiver(100), &whole(&[&small[..], b"more"].concat())),
            Err(CodecError::Trailing { bytes: 4 })
        );
        assert_eq!(cut(&mut receiver(100), &[0, 0, 0, 2, PARTS_FORMAT, 4]), Err(CodecError::Malformed), "no end");
        let announced = [&1_000_000_u32.to_be_bytes()[..], &[OLDEST_FORMAT, 2]].concat();
        let too_large = CodecError::TooLarge { length: 1_000_000, limit: 100 };
        assert_eq!(cut(&mut receiver(100), &whole(&announced)), Err(too_large), "B-1: the whole keeps to the limit");
        let mut cutter = receiver(100);
        assert_eq!(cut(&mut cutter, &whole(&small[..8])), Ok(false));
        assert!(!cutter.is_between_frames(), "the stream may not end within a frame");
    }
}
