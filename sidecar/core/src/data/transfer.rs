//! State transfer: an incoming copy pulls the group from its serving primary, part by part, while writes go on (T-1).

use super::Data;
use super::group::{Retry, Role};
use super::owner::{caches_of, write_of};
use super::results::value_bytes;
use crate::event::Notice;
use crate::ids::{GroupId, MemberId, Version, ViewNumber};
use crate::message::{Message, RememberedResult, Write, WriteBody};
use crate::step_context::StepContext;
use crate::storage::{CacheKey, Storage};

/// The receiving side.
#[derive(Debug)]
pub(super) struct Filling {
    /// The view that made this copy incoming.
    pub(super) since: ViewNumber,
    pub(super) transfer: u64,
    next_part: u64,
    /// Whether a part was asked for, and when it is asked for again.
    asked: bool,
    asks: Retry,
    pub(super) complete: bool,
    records: usize,
    bytes: usize,
}

impl Filling {
    pub(super) fn new(since: ViewNumber, transfer: u64) -> Filling {
        Filling {
            since,
            transfer,
            next_part: 0,
            asked: false,
            asks: Retry::default(),
            complete: false,
            records: 0,
            bytes: 0,
        }
    }
}

/// The sending side: the keys to send, fixed when the transfer began; writes after that reach the copy by themselves.
#[derive(Debug)]
pub(super) struct Sending {
    transfer: u64,
    keys: Vec<CacheKey>,
    /// Remembered results, sent after the keys; taken when those have been.
    results: Option<Vec<RememberedResult>>,
    /// Where the part last sent, and the one after it, begin, in keys and then results.
    part: u64,
    begins: usize,
    ends: usize,
    /// Whether `ends` is told already: a part that is asked for again must not end later than its first answer, which
    /// is the one that may have come.
    sent: bool,
}

/// One part as received.
pub(super) struct Part {
    pub(super) transfer: u64,
    pub(super) part: u64,
    pub(super) writes: Vec<Write>,
    pub(super) last: bool,
    pub(super) results: Vec<RememberedResult>,
    pub(super) stable: Version,
}

impl<S: Storage> Data<S> {
    /// Starts waiting transfers while there is room, and asks again for parts that did not come.
    pub(super) fn resend_pulls(&mut self, cx: &mut StepContext<'_>) {
        for index in 0..self.groups.len() {
            let group = self.groups[index].id;
            let Role::Incoming(filling) = &mut self.groups[index].role else { continue };
            if filling.complete {
                continue;
            }
            let waiting = !filling.asked;
            if waiting && self.filling.len() >= cx.limits.transfers && !self.filling.contains(&group) {
                continue;
            }
            if waiting {
                self.pull(cx, group);
            } else if filling.asks.is_due(cx.now, cx.limits.resend * 2) {
                self.ask_for_part(cx, group);
            }
        }
    }

    /// A request to this peer, or the part that it sent, may have been lost with a connection.
    pub(super) fn pull_again_from(&mut self, cx: &mut StepContext<'_>, peer: MemberId) {
        for group in self.filling.clone() {
            if self.view.as_ref().and_then(|v| v.primary(group)) == Some(peer) {
                self.pull(cx, group);
            }
        }
    }

    /// Asks for the next part for the first time.
    fn pull(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        if let Role::Incoming(filling) = &mut self.groups[group.index()].role {
            filling.asked = true;
            filling.asks.begin(cx.now);
        }
        self.ask_for_part(cx, group);
    }

    fn ask_for_part(&mut self, cx: &mut StepContext<'_>, group: GroupId) {
        let Some(primary) = self.view.as_ref().and_then(|v| v.primary(group)) else { return };
        let Role::Incoming(filling) = &self.groups[group.index()].role else { return };
        let (transfer, part) = (filling.transfer, filling.next_part);
        self.filling.insert(group);
        if primary != cx.me {
            cx.send(primary, Message::Pull { group, transfer, part });
        }
    }

    /// An incoming member asks for a part.
    pub(super) fn on_pull(
        &mut self,
        cx: &mut StepContext<'_>,
        from: MemberId,
        group: GroupId,
        transfer: u64,
        part: u64,
    ) {
        self.links.progressed(from, cx.now);
        let Some(view) = self.view.clone() else { return };
        let expected = self.group(group).is_some_and(super::group::Group::is_serving)
            && view.incoming(group).iter().any(|(id, _)| *id == from);
        if !expected {
            return;
        }
        let known = self.group(group).and_then(super::group::Group::primary).and_then(|p| p.sending.get(&from));
        let (newer, same) = known.map_or((true, false), |s| (transfer > s.transfer, transfer == s.transfer));
        let keys = if newer && part == 0 { self.store.keys(group) } else { Vec::new() };
        let Some(primary) = self.groups[group.index()].primary_mut() else { return };
        if newer && part > 0 {
            cx.send(from, Message::PullRefused { group, transfer });
            return;
        }
        if newer {
            primary
                .sending
                .insert(from, Sending { transfer, keys, results: None, part: 0, begins: 0, ends: 0, sent: false });
        } else if !same {
            return;
        }
        let Some(sending) = primary.sending.get_mut(&from) else { return };
        if part == sending.part + 1 {
            sending.part = part;
            sending.begins = sending.ends;
            sending.sent = false;
        } else if part != sending.part {
            // A late request for a part that has come.
            return;
        }
        self.send_part(cx, from, group);
    }

    fn send_part(&mut self, cx: &mut StepContext<'_>, to: MemberId, group: GroupId) {
        let store = std::sync::Arc::clone(&self.store);
        let g = &mut self.groups[group.index()];
        let (stable, results) = (g.stable, &g.results);
        let Role::Primary(primary) = &mut g.role else { return };
        let super::group::Primary { sending, pending, .. } = &mut **primary;
        let Some(sending) = sending.get_mut(&to) else { return };
        let mut writes = Vec::new();
        let (mut at, mut bytes) = (sending.begins, 0);
        let most = if sending.sent { sending.ends } else { usize::MAX };
        while at < sending.keys.len().min(most) && bytes < cx.limits.transfer_chunk_bytes {
            let key = &sending.keys[at];
            if let Some(record) = store.peek(group, key) {
                bytes += key.key.len() + record.entry.as_ref().map_or(0, |e| e.value.len()) + 32;
                // A record above the watermark may reach the copy by this part alone: it brings the results that it covers.
                let covered = pending.range(..=record.version.counter).filter(|(_, p)| p.key == *key);
                let own = covered.flat_map(|(_, p)| &p.results).cloned().collect();
                writes.push(write_of(key, record.version, record.entry.as_ref(), own, cx.now));
            }
            at += 1;
        }
        let mut carried = Vec::new();
        if at >= sending.keys.len() {
            let all = sending.results.get_or_insert_with(|| results.up_to(stable.counter, cx.now));
            for result in &all[at - sending.keys.len()..] {
                if bytes >= cx.limits.transfer_chunk_bytes || at >= most {
                    break;
                }
                bytes += result_bytes(result);
                carried.push(result.clone());
                at += 1;
            }
        }
        sending.ends = at;
        sending.sent = true;
        let last = sending.results.as_ref().is_some_and(|all| at >= sending.keys.len() + all.len());
        let results = carried;
        let (transfer, part) = (sending.transfer, sending.part);
        cx.send(to, Message::Part { group, transfer, part, writes, last, results, stable });
    }

    /// A part came: keeps what is newer than what is held.
    pub(super) fn on_part(&mut self, cx: &mut StepContext<'_>, from: MemberId, group: GroupId, got: Part) {
        if self.view.as_ref().and_then(|v| v.primary(group)) != Some(from) || self.group(group).is_none() {
            return;
        }
        let Role::Incoming(filling) = &mut self.groups[group.index()].role else { return };
        if filling.transfer != got.transfer || filling.next_part != got.part || filling.complete {
            return;
        }
        filling.next_part += 1;
        filling.records += got.writes.len();
        filling.bytes += got.writes.iter().map(|w| w.key.len() + value_len(w)).sum::<usize>();
        self.take_stable(cx, group, got.stable);
        for write in &got.writes {
            self.take_write(cx, group, write);
        }
        self.took_in(cx, &caches_of(&got.writes));
        self.with_results(group, |results| {
            for result in &got.results {
                results.applied(result, &cx.limits, cx.now);
            }
        });
        if !got.last {
            self.pull(cx, group);
            return;
        }
        if let Role::Incoming(filling) = &mut self.groups[group.index()].role {
            filling.complete = true;
            cx.notice(Notice::Transferred { group, records: filling.records, bytes: filling.bytes });
        }
        self.filling.remove(&group);
        self.resend_pulls(cx);
    }

    /// The primary knows no such transfer: begins it again; what came already stays, since it came from this primary.
    pub(super) fn on_pull_refused(&mut self, cx: &mut StepContext<'_>, group: GroupId, transfer: u64) {
        self.next_transfer += 1;
        let next = self.next_transfer;
        let Some(g) = self.groups.get_mut(group.index()) else { return };
        let Role::Incoming(filling) = &mut g.role else { return };
        if filling.transfer == transfer && !filling.complete {
            *filling = Filling::new(filling.since, next);
            self.pull(cx, group);
        }
    }
}

/// About how many bytes a result takes in a message.
pub(super) fn result_bytes(result: &RememberedResult) -> usize {
    96 + value_bytes(&result.outcome)
}

fn value_len(write: &Write) -> usize {
    match &write.body {
        WriteBody::Entry { value, .. } => value.len(),
        WriteBody::Tombstone => 0,
    }
}
