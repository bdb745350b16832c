//! Lease and promise: the part of the core that the failure-detection thread shares.
//!
//! Both sides take a short lock: the failure-detection thread to answer a ping and to note an echo, the core to
//! install views and to give votes. So a vote and an echo can't cross (V-2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::document::Timing;
use crate::gate::Gate;
use crate::ids::{MemberId, ViewNumber};
use crate::message::{Ping, PingStatus};
use crate::planted_bug::{Bug, Bugs};
use crate::time::Time;

/// The lease this member holds and the promises it has given.
#[derive(Debug)]
pub struct Lease {
    gate: Arc<Gate>,
    bugs: Bugs,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    me: MemberId,
    timing: Timing,
    view: ViewNumber,
    confirmed_past: ViewNumber,
    /// What our pings say of us.
    status: PingStatus,
    /// What each member's newest ping or echo said of it.
    statuses: BTreeMap<MemberId, PingStatus>,
    members: Vec<MemberId>,
    /// Send time, by our clock, of the newest ping of this view that each peer echoed.
    echoed: BTreeMap<MemberId, Time>,
    /// Newest echo of any view: the peer is alive.
    heard: BTreeMap<MemberId, Time>,
    /// Until when our promise to each pinger runs, over all views.
    promised: BTreeMap<MemberId, Time>,
    /// Whose pings we don't answer: votes given.
    blocked: BTreeSet<MemberId>,
    /// Released: no ping is answered any more, for good.
    stopped: bool,
    last_turn: Time,
}

/// What the failure-detection thread does after a ping or echo came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The answer to send at once, if the ping may be answered.
    pub answer: Option<Ping>,
    /// Whether to ping the peer back at once: it has just installed our view, and its echo is missing.
    pub ping_back: bool,
}

impl Lease {
    /// No lease, no promise, no view.
    #[must_use]
    pub fn new(me: MemberId, timing: Timing, gate: Arc<Gate>, bugs: Bugs, now: Time) -> Lease {
        let state = State {
            me,
            timing,
            view: ViewNumber::NONE,
            confirmed_past: ViewNumber::NONE,
            status: PingStatus::default(),
            statuses: BTreeMap::new(),
            members: Vec::new(),
            echoed: BTreeMap::new(),
            heard: BTreeMap::new(),
            promised: BTreeMap::new(),
            blocked: BTreeSet::new(),
            stopped: false,
            last_turn: now,
        };
        Lease { gate, bugs, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ping to send now. None while there is nothing to ping for: no view, not a member, or stopped.
    #[must_use]
    pub fn ping(&self, now: Time) -> Option<Ping> {
        let state = self.state();
        let member = state.members.contains(&state.me);
        (member && !state.stopped).then(|| state.ping(now, None))
    }

    /// Between two pings to one peer: grows with the number of members, so that heartbeats stay a small part of a
    /// core (L-6).
    #[must_use]
    pub fn ping_period(&self) -> Duration {
        self.state().timing.ping
    }

    /// Takes a ping of `from`: notes what it echoes, and answers it unless a vote, a release, another view or a core
    /// that has not turned within the suspicion time forbids (L-2, L-4, V-2). An answer is a promise (L-3).
    pub fn on_ping(&self, now: Time, from: MemberId, ping: Ping) -> Heard {
        let mut state = self.state();
        if state.members.contains(&from) {
            state.statuses.insert(from, ping.status);
        }
        if let Some((view, sent)) = ping.echo {
            state.on_echo(now, from, view, Time::from_nanos(sent), &self.bugs);
            self.gate.set_lease(state.lease_until(&self.bugs));
            return Heard { answer: None, ping_back: false };
        }
        let blocked = state.blocked.contains(&from) && !self.bugs.has(Bug::VotersEchoOn);
        let same_view = ping.view == state.view || self.bugs.has(Bug::EchoAnyView);
        let wedged = now.since(state.last_turn) > state.timing.suspect && !self.bugs.has(Bug::EchoWhileWedged);
        let member = state.members.contains(&from) && state.members.contains(&state.me);
        if state.stopped || blocked || !same_view || wedged || !member {
            return Heard { answer: None, ping_back: false };
        }
        let promise = now + state.timing.promise();
        let promised = state.promised.entry(from).or_insert(promise);
        *promised = promise.max(*promised);
        let ping_back = !state.echoed.contains_key(&from);
        Heard { answer: Some(state.ping(now, Some((ping.view, ping.sent)))), ping_back }
    }

    pub(crate) fn install(&self, view: ViewNumber, members: Vec<MemberId>, timing: Timing, now: Time) {
        let mut state = self.state();
        state.view = view;
        state.echoed.clear();
        for &member in &members {
            // A member is given the suspicion time from when it came in.
            state.heard.entry(member).or_insert(now);
        }
        state.heard.retain(|id, _| members.contains(id));
        state.statuses.retain(|id, _| members.contains(id));
        state.promised.retain(|_, until| *until > now);
        state.blocked.clear();
        state.members = members;
        state.timing = timing;
        self.gate.set_lease(state.lease_until(&self.bugs));
    }

    /// Gives a vote against `suspects`: answers none of their pings from now on (V-2). Returns how long the promises
    /// to each still run.
    pub(crate) fn block(&self, suspects: &[MemberId], now: Time) -> Vec<(MemberId, Duration)> {
        let mut state = self.state();
        state.blocked.extend(suspects.iter().copied());
        let told = |until: &&Time| **until > now && !self.bugs.has(Bug::PromisesNotTold);
        suspects
            .iter()
            .map(|&id| (id, state.promised.get(&id).filter(told).map_or(Duration::ZERO, |until| until.since(now))))
            .collect()
    }

    /// Takes votes back: only `still` stay blocked.
    pub(crate) fn unblock_except(&self, still: &BTreeSet<MemberId>) {
        self.state().blocked.retain(|id| still.contains(id));
    }

    /// Stops for good: no ping, no echo, no lease.
    pub(crate) fn stop(&self) {
        self.state().stopped = true;
        self.gate.set_lease(Time::ZERO);
    }

    /// Until when any promise given so far runs.
    pub(crate) fn last_promise(&self) -> Time {
        self.state().promised.values().copied().max().unwrap_or(Time::ZERO)
    }

    /// The reading at which the lease runs out.
    pub(crate) fn lease_until(&self) -> Time {
        self.gate.lease_until()
    }

    pub(crate) fn turned(&self, now: Time, confirmed_past: ViewNumber, status: PingStatus) {
        let mut state = self.state();
        state.last_turn = now;
        state.confirmed_past = confirmed_past;
        state.status = status;
    }

    /// When the first of the other members will have been silent for `limit`; never while there is none.
    pub(crate) fn first_silence(&self, limit: Duration) -> Time {
        let state = self.state();
        let others = state.heard.iter().filter(|(id, _)| **id != state.me);
        others.map(|(_, heard)| *heard + limit).min().unwrap_or(Time::NEVER)
    }

    /// What the member's newest ping or echo said of it.
    pub(crate) fn status_of(&self, member: MemberId) -> PingStatus {
        self.state().statuses.get(&member).copied().unwrap_or_default()
    }

    /// When the peer last echoed, in any view; none for a peer that is no member.
    pub(crate) fn last_heard(&self, peer: MemberId) -> Option<Time> {
        self.state().heard.get(&peer).copied()
    }
}

impl State {
    fn ping(&self, now: Time, echo: Option<(ViewNumber, u64)>) -> Ping {
        Ping { view: self.view, sent: now.as_nanos(), confirmed_past: self.confirmed_past, status: self.status, echo }
    }

    fn on_echo(&mut self, now: Time, from: MemberId, view: ViewNumber, sent: Time, bugs: &Bugs) {
        if sent > now {
            return;
        }
        if let Some(heard) = self.heard.get_mut(&from) {
            *heard = sent.max(*heard);
        }
        let counts = view == self.view || bugs.has(Bug::EchoAnyView);
        if counts && !self.stopped && self.members.contains(&from) {
            let echoed = self.echoed.entry(from).or_insert(sent);
            *echoed = sent.max(*echoed);
        }
    }

    /// The lease: for more than half of the members, itself counted, an echo of a ping sent less than a lease ago
    /// (L-1).
    fn lease_until(&self, bugs: &Bugs) -> Time {
        if self.stopped || !self.members.contains(&self.me) {
            return Time::ZERO;
        }
        if self.members.len() == 1 || bugs.has(Bug::NoLease) {
            return Time::NEVER;
        }
        let mut sent: Vec<Time> = self.echoed.values().copied().collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        let peers_needed = self.members.len() / 2;
        sent.get(peers_needed - 1).map_or(Time::ZERO, |&sent| sent + self.timing.lease)
    }
}

#[cfg(test)]
mod tests;
