//! Short readable forms for traces: members as `n0#1`, views and documents on one line.

use std::fmt::Write as _;

use sidegrid_core::MemberId;
use sidegrid_core::document::Document;
use sidegrid_core::event::{Effect, Event, Notice, RegistryAnswer, RegistryCall};
use sidegrid_core::member::Member;
use sidegrid_core::message::{Envelope, Message, Write, WriteBody};
use sidegrid_core::view::{Replicas, View};

use crate::node::{incarnation_of, node_of};

/// A member's short name: node and incarnation.
pub(crate) fn label(id: MemberId) -> String {
    format!("n{}#{}", node_of(id), incarnation_of(id))
}

/// Labels one after the other.
pub(crate) fn labels(ids: impl IntoIterator<Item = MemberId>) -> String {
    let mut text = String::new();
    for id in ids {
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { " " }, label(id));
    }
    text
}

/// A view: members in join order, then each group's owners (`+` incoming, `-` dropped), as node numbers.
pub(crate) fn view(view: &View) -> String {
    let mut text = format!("v{}[{}]", view.number, labels(view.ids()));
    for group in view.group_ids() {
        let place = view.placement(group);
        let node = |i: &u16| view.members.get(usize::from(*i)).map_or(99, |m| node_of(m.id));
        let owners: Vec<String> = place.owners.iter().map(|i| node(i).to_string()).collect();
        let all = if view.replicas(group) == Replicas::All { "*" } else { "" };
        let _ = write!(text, " g{}:{}{all}", group.0, owners.join(","));
        for incoming in &place.incoming {
            let _ = write!(text, "+{}(since {})", node(&incoming.member), incoming.since);
        }
        for dropped in &place.dropped {
            let _ = write!(text, "-{}", node(dropped));
        }
        if place.primary_since == view.number {
            text.push('!');
        }
        if place.empty_since == view.number {
            text.push('0');
        }
    }
    text
}

/// A document.
pub(crate) fn document(document: &Document) -> String {
    let mut text = format!("doc r{} b{} {}", document.revision, document.ballot, view(&document.view));
    for unsealed in &document.unsealed {
        let _ = write!(text, " unsealed v{}[{}]", unsealed.number, labels(unsealed.members.iter().copied()));
    }
    for (id, proof) in &document.proofs {
        let _ = write!(text, " proof {}={proof:?}", label(*id));
    }
    text
}

fn write_short(write: &Write) -> String {
    let key = String::from_utf8_lossy(&write.key);
    let body = match &write.body {
        WriteBody::Tombstone => "tombstone".to_owned(),
        WriteBody::Entry { value, remaining, .. } => {
            let ttl = remaining.map_or_else(String::new, |r| format!(" ttl {r:?}"));
            format!("{}{ttl}", String::from_utf8_lossy(value))
        }
    };
    let id: String = write.results.iter().map(|r| format!(" of {}/{}", label(r.id.origin), r.id.sequence)).collect();
    format!("{}/{key}={body}@{}{id}", write.cache.0, write.version)
}

fn writes_short(writes: &[Write]) -> String {
    writes.iter().map(write_short).collect::<Vec<_>>().join(", ")
}

/// A message with what its sender says of itself.
pub(crate) fn envelope(envelope: &Envelope) -> String {
    format!("v{} past{} {}", envelope.view, envelope.confirmed_past, message(&envelope.message))
}

fn message(message: &Message) -> String {
    match message {
        Message::ViewIs(v) => format!("ViewIs {}", view(v)),
        Message::Join { member, exclusive, reached, formerly, .. } => format!(
            "Join {} exclusive={exclusive} reached=[{}] formerly={}",
            label(member.id),
            labels(reached.iter().copied()),
            formerly.map_or_else(|| "-".into(), label)
        ),
        Message::Replicate { group, writes, stable } => {
            format!("Replicate g{} [{}] stable {stable}", group.0, writes_short(writes))
        }
        Message::Replicated { group, versions } => {
            let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
            format!("Replicated g{} [{}]", group.0, versions.join(" "))
        }
        Message::Stable(list) => {
            let list: Vec<String> = list.iter().map(|(g, v)| format!("g{}:{v}", g.0)).collect();
            format!("Stable {}", list.join(" "))
        }
        Message::Collect { group, above } => format!("Collect g{} above {above}", group.0),
        Message::Collected { group, above, stable, writes, results } => format!(
            "Collected g{} above {above} stable {stable} [{}] results={}",
            group.0,
            writes_short(writes),
            results.len()
        ),
        Message::Part { group, transfer, part, writes, last, results, stable } => format!(
            "Part g{} t{transfer} p{part} [{}] last={last} results={} stable {stable}",
            group.0,
            writes_short(writes),
            results.len()
        ),
        Message::Forward { id, attempt, over_below, operation } => format!(
            "Forward {}/{}.{attempt} below {over_below} c{} {} {:?}{}",
            label(id.origin),
            id.sequence,
            operation.cache.0,
            String::from_utf8_lossy(&operation.key),
            operation.kind,
            operation.idempotency.map_or_else(String::new, |i| format!(" idem {:x}", i.key))
        ),
        Message::Forwarded { id, attempt, result } => {
            format!("Forwarded {}/{}.{attempt} {result:?}", label(id.origin), id.sequence)
        }
        other => format!("{other:?}"),
    }
}

/// An event.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::Message { from, envelope: e } => format!("from {} {}", label(*from), envelope(e)),
        Event::Registry { call, answer } => format!("registry #{} {}", call.0, answer_short(answer)),
        Event::Heard { from, view, confirmed_past } => {
            format!("heard {} v{view} past{confirmed_past}", label(*from))
        }
        Event::Submit { ticket, operation, deadline } => format!(
            "submit t{} c{} {} {:?} until {deadline:?}{}",
            ticket.0,
            operation.cache.0,
            String::from_utf8_lossy(&operation.key),
            operation.kind,
            operation.idempotency.map_or_else(String::new, |i| format!(" idem {:x}", i.key))
        ),
        other => format!("{other:?}"),
    }
}

/// A registry call.
pub(crate) fn call(call: &RegistryCall) -> String {
    match call {
        RegistryCall::Read => "Read".into(),
        RegistryCall::Create(next) => format!("Create {}", document(next)),
        RegistryCall::Swap { expected, next } => format!(
            "Swap r{} v{} b{} -> {}",
            expected.revision,
            expected.version.view,
            expected.version.ballot,
            document(next)
        ),
    }
}

/// A registry's answer.
pub(crate) fn answer_short(answer: &RegistryAnswer) -> String {
    match answer {
        RegistryAnswer::Document(Some(d)) => document(d),
        RegistryAnswer::Conflict(Some(d)) => format!("CONFLICT {}", document(d)),
        other => format!("{other:?}"),
    }
}

/// An effect.
pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, envelope: e } => format!("to {} {}", label(*to), envelope(e)),
        Effect::Peers(peers) => format!("peers [{}]", peers.iter().map(peer).collect::<Vec<_>>().join(" ")),
        Effect::Registry { call: id, request } => format!("registry #{} {}", id.0, call(request)),
        Effect::Reply { ticket, result } => format!("reply t{} {result:?}", ticket.0),
        Effect::Notice(Notice::ViewInstalled { view: v, joined, left, took }) => {
            format!("NOTICE installed {} joined {joined:?} left {left:?} took {took:?}", view(v))
        }
        Effect::Notice(notice) => format!("NOTICE {notice:?}"),
        Effect::Superseded => "SUPERSEDED".into(),
        other => format!("{other:?}"),
    }
}

fn peer(member: &Member) -> String {
    format!("{}{}", label(member.id), if member.joined == 0 { "?" } else { "" })
}

/// Replaces ids in their long form (16 hex digits) by their short one, and likewise versions.
pub(crate) fn shorten(text: &str) -> String {
    let text = &short_versions(text);
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if run == 16
            && let Ok(id) = u64::from_str_radix(&text[at..at + 16], 16)
        {
            out.push_str(&text[kept..at]);
            out.push_str(&label(MemberId(id)));
            kept = at + 16;
        }
        at += run.max(1);
    }
    out.push_str(&text[kept..]);
    out
}

fn short_versions(text: &str) -> String {
    const LONG: &str = "Version { view: ViewNumber(";
    let mut parts = text.split(LONG);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once("), counter: ").and_then(|(view, rest)| Some((view, rest.split_once(" }")?))) {
            Some((view, (counter, rest))) => {
                let _ = write!(out, "{view}-{counter}{rest}");
            }
            None => {
                out.push_str(LONG);
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use sidegrid_core::{Version, ViewNumber};

    use super::*;

    #[test]
    fn long_ids_become_short_ones_wherever_they_stand() {
        let id = MemberId(0xabcd_1234_5678_0302);
        assert_eq!(shorten(&format!("x [{id}] é {id:?}, 12ab")), "x [n2#3] é n2#3, 12ab");
    }

    #[test]
    fn versions_are_shown_as_apps_see_them() {
        let version = Version { view: ViewNumber(17), counter: 115 };
        assert_eq!(shorten(&format!("{:?} and {version:?}.", Some(version))), "Some(17-115) and 17-115.");
    }
}
