//! Frames: whatever is written reads back, and whatever comes is an error at worst.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sidegrid_core::document::DocumentVersion;
use sidegrid_core::member::{Locality, Member, PlatformIdentity};
use sidegrid_core::message::{
    Envelope, Eviction, KeptCopies, Message, RememberedKey, RememberedResult, Write, WriteBody,
};
use sidegrid_core::operation::{
    Answer, Applied, Condition, EntryView, Idempotency, Operation, OperationId, OperationKind, Outcome, Refusal,
    RefusalReason,
};
use sidegrid_core::view::{GroupPlacement, Incoming, Replicas, View};
use sidegrid_core::{CacheId, GroupId, MemberId, Version, ViewNumber};
use sidegrid_net::codec::{CodecError, FORMAT, FrameType, decode_whole};
use sidegrid_net::{decode_envelope, encode_envelope};

fn version() -> impl Strategy<Value = Version> {
    any::<(u64, u64)>().prop_map(|(view, counter)| Version { view: ViewNumber(view), counter })
}

fn id() -> impl Strategy<Value = MemberId> {
    any::<u64>().prop_map(MemberId)
}

fn group() -> impl Strategy<Value = GroupId> {
    any::<u32>().prop_map(GroupId)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<(u64, u32)>().prop_map(|(s, n)| Duration::new(s, n % 1_000_000_000))
}

fn content_type() -> impl Strategy<Value = Option<Arc<str>>> {
    proptest::option::of(".{0,20}".prop_map(Arc::from))
}

fn operation_id() -> impl Strategy<Value = OperationId> {
    (id(), any::<u64>()).prop_map(|(origin, sequence)| OperationId { origin, sequence })
}

fn kept() -> impl Strategy<Value = KeptCopies> {
    (id(), vec(any::<u32>(), 0..4))
        .prop_map(|(of, groups)| KeptCopies { of, groups: groups.into_iter().map(GroupId).collect() })
}

fn member() -> impl Strategy<Value = Member> {
    let identity = prop_oneof![
        ".{0,40}".prop_map(|uid| PlatformIdentity::Pod { uid }),
        (".{0,9}", ".{0,9}", ".{0,9}").prop_map(|(machine, boot, lock)| PlatformIdentity::Host { machine, boot, lock }),
    ];
    let address = || any::<(std::net::IpAddr, u16)>().prop_map(std::net::SocketAddr::from);
    let locality = (".{0,9}", ".{0,9}", ".{0,9}");
    (id(), ".{0,20}", identity, address(), address(), locality, any::<(u16, u16)>(), any::<(u64, u64)>()).prop_map(
        |(
            id,
            name,
            identity,
            data_address,
            failure_detection_address,
            (site, rack, machine),
            protocols,
            (joined, incarnation),
        )| {
            let locality = Locality { site, rack, machine };
            Member {
                id,
                name,
                identity,
                data_address,
                failure_detection_address,
                locality,
                protocols,
                joined,
                incarnation,
            }
        },
    )
}

fn view() -> impl Strategy<Value = View> {
    let incoming = any::<(u16, u64)>().prop_map(|(member, since)| Incoming { member, since: ViewNumber(since) });
    let placement = (vec(any::<u16>(), 0..5), vec(incoming, 0..3), vec(any::<u16>(), 0..2), any::<(u64, u64)>());
    let placement = placement.prop_map(|(owners, incoming, dropped, (primary, empty))| GroupPlacement {
        owners: owners.into(),
        incoming: incoming.into(),
        dropped: dropped.into(),
        primary_since: ViewNumber(primary),
        empty_since: ViewNumber(empty),
    });
    let class = prop_oneof![any::<u16>().prop_map(Replicas::Count), Just(Replicas::All)];
    (any::<(u64, u16, u64)>(), vec(member(), 0..4), vec(class, 0..3), vec(placement, 0..9)).prop_map(
        |((number, segments, next_joined), members, classes, groups)| View {
            number: ViewNumber(number),
            members,
            classes,
            segments,
            groups,
            next_joined,
        },
    )
}

fn entry() -> impl Strategy<Value = EntryView> {
    (bytes(), content_type(), version(), proptest::option::of(duration()), duration())
        .prop_map(|(value, content_type, etag, remaining, age)| EntryView { value, content_type, etag, remaining, age })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        entry().prop_map(Outcome::Found),
        Just(Outcome::Absent),
        (any::<bool>(), version(), proptest::option::of(entry()))
            .prop_map(|(created, etag, previous)| Outcome::Stored { created, etag, previous }),
        proptest::option::of(entry()).prop_map(|previous| Outcome::Deleted { previous }),
        version().prop_map(|etag| Outcome::Touched { etag }),
        (any::<i64>(), version(), proptest::option::of(duration()))
            .prop_map(|(value, etag, remaining)| Outcome::Counter { value, etag, remaining }),
        proptest::option::of(version()).prop_map(|current| Outcome::ConditionFailed { current }),
        Just(Outcome::NotANumber),
        Just(Outcome::Overflow),
    ]
}

fn remembered() -> impl Strategy<Value = RememberedResult> {
    let key = any::<Option<(u128, u64, u64)>>();
    (operation_id(), any::<u16>(), key, duration(), any::<u64>(), version(), outcome()).prop_map(
        |(id, cache, key, age, over_below, version, outcome)| RememberedResult {
            id,
            cache: CacheId(cache),
            idempotency: key.map(|(key, fingerprint, entry)| RememberedKey { key, fingerprint, entry }),
            age,
            over_below,
            version,
            outcome,
        },
    )
}

fn write() -> impl Strategy<Value = Write> {
    let body = prop_oneof![
        (bytes(), content_type(), version(), proptest::option::of(duration()), duration()).prop_map(
            |(value, content_type, etag, remaining, age)| WriteBody::Entry {
                value,
                content_type,
                etag,
                remaining,
                age
            }
        ),
        Just(WriteBody::Tombstone),
    ];
    (any::<u16>(), bytes(), version(), body, vec(remembered(), 0..2))
        .prop_map(|(cache, key, version, body, results)| Write { cache: CacheId(cache), key, version, body, results })
}

fn operation() -> impl Strategy<Value = Operation> {
    let condition = || {
        prop_oneof![
            Just(Condition::Always),
            Just(Condition::Absent),
            Just(Condition::Present),
            vec(version(), 0..3).prop_map(|v| Condition::Matches(v.into())),
            vec(version(), 0..3).prop_map(|v| Condition::MatchesNone(v.into())),
            vec(version(), 0..3).prop_map(|v| Condition::PresentNone(v.into())),
        ]
    };
    let ttl = || proptest::option::of(duration());
    let kind = prop_oneof![
        Just(OperationKind::Get),
        (bytes(), content_type(), ttl(), condition(), any::<bool>()).prop_map(
            |(value, content_type, ttl, condition, return_previous)| OperationKind::Put {
                value,
                content_type,
                ttl,
                condition,
                return_previous
            }
        ),
        (condition(), any::<bool>())
            .prop_map(|(condition, return_previous)| OperationKind::Delete { condition, return_previous }),
        (ttl(), condition()).prop_map(|(ttl, condition)| OperationKind::Touch { ttl, condition }),
        (any::<(i64, i64)>(), ttl()).prop_map(|((by, initial), ttl)| OperationKind::Increment { by, initial, ttl }),
    ];
    let idempotency = (any::<(u128, u64)>(), proptest::option::of(duration()))
        .prop_map(|((key, fingerprint), age)| Idempotency { key, fingerprint, age });
    let idempotency = proptest::option::of(idempotency);
    (any::<u16>(), bytes(), kind, idempotency).prop_map(|(cache, key, kind, idempotency)| Operation {
        cache: CacheId(cache),
        key,
        kind,
        idempotency,
    })
}

fn document_version() -> impl Strategy<Value = DocumentVersion> {
    any::<(u64, u64)>().prop_map(|(view, ballot)| DocumentVersion { view: ViewNumber(view), ballot })
}

fn membership() -> BoxedStrategy<Message> {
    prop_oneof![
        view().prop_map(|view| Message::ViewIs(Arc::new(view))),
        Just(Message::ViewRequest),
        Just(Message::Installed),
        vec(id(), 0..4).prop_map(Message::Suspects),
        (document_version(), any::<u64>(), vec(id(), 0..4))
            .prop_map(|(version, round, suspects)| Message::VoteRequest { version, round, suspects }),
        (document_version(), any::<u64>(), vec((id(), duration()), 0..4))
            .prop_map(|(version, round, promises)| Message::Vote { version, round, promises }),
        (document_version(), any::<u64>()).prop_map(|(version, round)| Message::VoteRelease { version, round }),
        id().prop_map(Message::Reached),
        ".{0,50}".prop_map(Message::JoinRefused),
        id().prop_map(Message::Released),
        (member(), any::<bool>(), vec(id(), 0..4), proptest::option::of(id()), proptest::option::of(kept())).prop_map(
            |(member, exclusive, reached, formerly, kept)| Message::Join {
                member: Box::new(member),
                exclusive,
                reached,
                formerly,
                kept
            }
        ),
        any::<bool>().prop_map(|anyway| Message::LeaveGranted { anyway }),
        Just(Message::Leave),
        Just(Message::Stopped),
        vec(group(), 0..9).prop_map(Message::InSync),
    ]
    .boxed()
}

fn writes() -> BoxedStrategy<Message> {
    let eviction = (group(), any::<u16>(), bytes(), version()).prop_map(|(group, cache, key, version)| Eviction {
        group,
        cache: CacheId(cache),
        key,
        version,
    });
    prop_oneof![
        (group(), vec(write(), 0..4), version()).prop_map(|(group, writes, stable)| Message::Replicate {
            group,
            writes,
            stable
        }),
        (group(), vec(version(), 0..4)).prop_map(|(group, versions)| Message::Replicated { group, versions }),
        vec((group(), version()), 0..9).prop_map(Message::Stable),
        vec(eviction, 0..4).prop_map(Message::Evict),
        vec(any::<u16>().prop_map(CacheId), 0..4).prop_map(Message::Full),
        vec(group(), 0..4).prop_map(Message::StableRequest),
    ]
    .boxed()
}

fn transfer() -> BoxedStrategy<Message> {
    let part = (group(), any::<(u64, u64, bool)>(), vec(write(), 0..4), vec(remembered(), 0..3), version());
    prop_oneof![
        (group(), version()).prop_map(|(group, above)| Message::Collect { group, above }),
        (group(), version(), version(), vec(write(), 0..4), vec(remembered(), 0..3)).prop_map(
            |(group, above, stable, writes, results)| Message::Collected { group, above, stable, writes, results }
        ),
        (group(), any::<(u64, u64)>()).prop_map(|(group, (transfer, part))| Message::Pull { group, transfer, part }),
        part.prop_map(|(group, (transfer, part, last), writes, results, stable)| Message::Part {
            group,
            transfer,
            part,
            writes,
            last,
            results,
            stable
        }),
        (group(), any::<u64>()).prop_map(|(group, transfer)| Message::PullRefused { group, transfer }),
    ]
    .boxed()
}

fn operations() -> BoxedStrategy<Message> {
    let reason = prop_oneof![Just(RefusalReason::NoLease), Just(RefusalReason::UnknownOperation)];
    let applied = prop_oneof![Just(Applied::No), Just(Applied::Unknown)];
    let result = prop_oneof![
        (outcome(), id(), any::<u8>()).prop_map(|(outcome, owner, hops)| Ok(Answer { outcome, owner, hops })),
        (reason, applied).prop_map(|(reason, applied)| Err(Refusal { reason, applied })),
    ];
    prop_oneof![
        (operation_id(), any::<(u32, u64)>(), operation())
            .prop_map(|(id, (attempt, over_below), operation)| Message::Forward { id, attempt, over_below, operation }),
        (operation_id(), any::<u32>(), result).prop_map(|(id, attempt, result)| Message::Forwarded {
            id,
            attempt,
            result
        }),
    ]
    .boxed()
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (any::<(u64, u64)>(), prop_oneof![membership(), writes(), transfer(), operations()]).prop_map(
        |((view, confirmed_past), message)| Envelope {
            view: ViewNumber(view),
            confirmed_past: ViewNumber(confirmed_past),
            message,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(envelope in envelope()) {
        let frame = encode_envelope(&envelope);
        prop_assert_eq!(decode_envelope(frame), Ok(envelope));
    }

    #[test]
    fn arbitrary_bytes_are_errors_at_worst(bytes in vec(any::<u8>(), 0..2_000)) {
        let _ = decode_whole(&bytes, 1_000);
    }

    /// Past the header, where postcard reads.
    #[test]
    fn arbitrary_bodies_are_errors_at_worst(kind in 1_u8..=3, body in vec(any::<u8>(), 0..2_000)) {
        let mut frame = u32::try_from(body.len() + 2).unwrap().to_be_bytes().to_vec();
        frame.extend([FORMAT, kind]);
        frame.extend(body);
        let _ = decode_whole(&frame, usize::MAX);
    }

    /// A frame that was cut, or had one byte changed, is never taken for a longer or shorter one.
    #[test]
    fn damaged_frames_are_errors_or_other_frames(envelope in envelope(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let frame = encode_envelope(&envelope);
        let at = at.index(frame.len());
        prop_assert_eq!(decode_envelope(frame.slice(..at)), Err(CodecError::Truncated));
        let mut longer = frame.to_vec();
        longer.push(to);
        prop_assert_eq!(decode_envelope(longer.into()), Err(CodecError::Trailing { bytes: 1 }));
        let mut changed = frame.to_vec();
        changed[at] = to;
        let _ = decode_envelope(changed.into());
    }
}

fn sample() -> Vec<u8> {
    let message = Message::JoinRefused("no".to_owned());
    encode_envelope(&Envelope { view: ViewNumber(1), confirmed_past: ViewNumber(0), message }).to_vec()
}

/// F-1: a format that is not spoken is refused by name, before anything else of the frame is looked at.
#[test]
fn an_unknown_format_is_refused() {
    for format in [0, FORMAT + 1, 255] {
        let mut frame = sample();
        frame[4] = format;
        frame[5] = 200;
        assert_eq!(decode_envelope(frame.into()), Err(CodecError::UnknownFormat { format }));
    }
}

#[test]
fn each_fault_of_a_header_has_its_name() {
    let mut frame = sample();
    frame[5] = 9;
    assert_eq!(decode_envelope(frame.into()), Err(CodecError::UnknownKind { kind: 9 }));

    // A whole, valid ping where a message is due.
    let mut frame = vec![0, 0, 0, 0, FORMAT, FrameType::Ping as u8];
    frame.extend([1, 2, 3, 0, 0, 0]);
    frame[3] = u8::try_from(frame.len() - 4).unwrap();
    assert_eq!(decode_envelope(frame.into()), Err(CodecError::WrongKind { kind: FrameType::Ping }));

    let frame = sample();
    let length = frame.len() - 4;
    assert_eq!(
        decode_whole(&frame, length - 1),
        Err(CodecError::TooLarge { length, limit: length - 1 }),
        "one byte above the bound"
    );
    assert!(decode_whole(&frame, length).is_ok());
    assert_eq!(decode_whole(&[0, 0, 0, 1, FORMAT], 100), Err(CodecError::Truncated));

    // A text that says it is longer than the frame.
    let mut frame = sample();
    let text = frame.len() - 3;
    frame[text] = 0x7f;
    assert_eq!(decode_envelope(frame.into()), Err(CodecError::Malformed));
}

/// Every seed of the fuzz corpus; those named `valid-*` must also read.
#[test]
fn the_corpus_is_replayed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/frames");
    let mut valid = 0;
    for seed in std::fs::read_dir(&folder).unwrap() {
        let path = seed.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let decoded = decode_whole(&bytes, 17 << 20);
        let named_valid = path.file_name().unwrap().to_string_lossy().starts_with("valid-");
        assert_eq!(decoded.is_ok(), named_valid, "{}: {decoded:?}", path.display());
        valid += usize::from(named_valid);
    }
    assert!(valid >= 3, "the corpus in {} is gone", folder.display());
}
