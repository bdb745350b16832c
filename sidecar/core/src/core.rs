//! The core: one owner of all protocol state, stepped by events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::data::origin::Origin;
use crate::data::{Data, Kept};
use crate::document::Agreed;
use crate::event::{Effect, Effects, Event, Notice, Port};
use crate::gate::Gate;
use crate::ids::{ClusterUid, GroupId, MemberId};
use crate::lease::Lease;
use crate::limits::Limits;
use crate::member::Member;
use crate::membership::{Decided, Membership, classes};
use crate::message::{Envelope, Message, WaitsFor};
use crate::operation::{Applied, Refusal, RefusalReason};
use crate::planted_bug::{Bug, Bugs};
use crate::snapshot::{Participation, Snapshot};
use crate::step_context::StepContext;
use crate::storage::Storage;
use crate::time::Time;

/// What a core is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This incarnation.
    pub me: Member,
    /// Whether this incarnation holds what makes its platform identity exclusive (P-1).
    pub exclusive: bool,
    /// Whether to become a member; a client only forwards.
    pub joins: bool,
    /// What this node's own settings say that all must agree on; must match the document's.
    pub agreed: Agreed,
    /// The cluster to create when the registry is empty; none: wait for whoever is told to create it.
    pub creates: Option<ClusterUid>,
    /// An incarnation that ran before in this same process and is over.
    pub formerly: Option<MemberId>,
    /// Bounds.
    pub limits: Limits,
    /// Seeds backoff and tie-breaks.
    pub seed: u64,
    /// None in production.
    pub bugs: Bugs,
}

/// After this long without lease a member takes no further operations.
const CUT_OFF_AFTER: Duration = Duration::from_millis(300);

/// Ticks within `suspect` while nothing is under way.
const QUIET_TICKS: u32 = 8;

/// One incarnation's protocol state.
#[derive(Debug)]
pub struct Core<S: Storage> {
    me: Member,
    limits: Limits,
    bugs: Bugs,
    gate: Arc<Gate>,
    lease: Arc<Lease>,
    membership: Membership,
    data: Data<S>,
    origin: Origin,
    ticked: Time,
    /// Nothing is under way: turns are only needed for silence, expiry and the echoes (L-4).
    quiet: bool,
    had_lease: bool,
    /// When the lease last came or went.
    lease_turned: Time,
    reported_complete: Time,
}

impl<S: Storage> Core<S> {
    /// A core that knows no view yet. Its store must be empty.
    pub fn new(setup: Setup, store: Arc<S>, now: Time) -> Core<S> {
        let classes = classes(&setup);
        let segments = setup.agreed.segments;
        let caches: Vec<_> = setup.agreed.caches.iter().map(|c| c.replicas).collect();
        let gate = Arc::new(Gate::new(classes.len() * usize::from(segments)));
        let lease = Arc::new(Lease::new(setup.me.id, setup.agreed.timing, Arc::clone(&gate), setup.bugs, now));
        let data = Data::new(store, Arc::clone(&gate), &classes, &caches, segments);
        Core {
            me: setup.me.clone(),
            limits: setup.limits,
            bugs: setup.bugs,
            gate,
            lease: Arc::clone(&lease),
            membership: Membership::new(setup, lease, now),
            data,
            origin: Origin::default(),
            ticked: now,
            quiet: false,
            had_lease: false,
            lease_turned: now,
            reported_complete: Time::ZERO,
        }
    }

    /// A core that takes over the copies that an incarnation of the same process has kept; its store is theirs.
    pub fn resume(setup: Setup, kept: Kept<S>, now: Time) -> Core<S> {
        let mut core = Core::new(setup, Arc::clone(&kept.store), now);
        let of = kept.of;
        core.data.adopt(kept);
        core.membership.keep_copies(of, core.data.kept());
        core
    }

    /// Ends a superseded incarnation: the copies that it held in sync, for the next one of the same process to come back
    /// with (V-9). None when there are none, or when it was not superseded: then others go on with theirs.
    #[must_use]
    pub fn into_kept(self) -> Option<Kept<S>> {
        let superseded = self.membership.participation() == Participation::Superseded;
        self.data.close();
        let kept = self.data.into_kept(self.me.id);
        (superseded && kept.groups() > 0).then_some(kept)
    }

    /// Takes one event. Deterministic: the same events at the same times have the same effects.
    ///
    /// After [`Effect::Superseded`], which comes last in its step and after a reply to every operation under way,
    /// nothing has an effect any more.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Effects) {
        if self.membership.participation() == Participation::Superseded {
            return;
        }
        let paused = now.since(self.ticked) > self.membership.timing.suspect / 2;
        if paused {
            self.membership.on_own_pause(now);
        }
        self.quiet &= matches!(event, Event::Tick | Event::Heard { .. });
        let tick = matches!(event, Event::Tick) || now >= self.tick_due();
        let decided = self.take(now, event, effects);
        self.install(now, decided, effects);
        if tick {
            self.ticked = now;
            let mut cx = self.context(now, effects);
            let decided = self.membership.on_tick(&mut cx);
            self.install(now, decided, effects);
        }
        if self.membership.participation() == Participation::Superseded {
            self.origin.abandon(&mut self.context(now, effects), RefusalReason::NoLease);
            effects.push(Effect::Superseded);
            return;
        }
        self.go_on(now, tick, effects);
        if tick {
            self.quiet = self.had_lease && self.origin.len() == 0 && self.membership.is_quiet() && self.data.is_quiet();
        }
        self.lease.turned(now, self.membership.confirmed_past(), self.membership.status());
    }

    fn context<'a>(&self, now: Time, effects: &'a mut Effects) -> StepContext<'a> {
        StepContext {
            now,
            me: self.me.id,
            view: self.membership.view_number(),
            confirmed_past: self.membership.confirmed_past(),
            limits: self.limits,
            bugs: self.bugs,
            effects,
        }
    }

    fn take(&mut self, now: Time, event: Event, effects: &mut Effects) -> Option<Decided> {
        let mut cx = self.context(now, effects);
        match event {
            Event::Tick => {}
            Event::Message { from, envelope } => return self.on_message(&mut cx, from, envelope),
            Event::Heard { from, view, confirmed_past } => {
                self.membership.on_connected(from, Port::FailureDetection);
                if self.membership.on_shown(&mut cx, from, view, confirmed_past) {
                    self.data.on_installed(&mut cx, from);
                }
            }
            Event::Unreachable { peer, port } => self.membership.on_unreachable(&mut cx, peer, port),
            Event::Connected { peer, port } => {
                self.membership.on_connected(peer, port);
                if port == Port::Data {
                    self.data.on_connected(&mut cx, peer);
                    self.origin.on_connected(&cx, peer);
                }
            }
            Event::Reached { peer } => self.membership.on_reached(&mut cx, peer),
            Event::Registry { call, answer } => return self.membership.on_registry(&mut cx, call, answer),
            Event::Submit { ticket, .. } if self.cut_off(now).is_some() => {
                let reason = self.cut_off(now).unwrap_or(RefusalReason::NoLease);
                let refusal = Refusal { reason, applied: Applied::No };
                cx.effects.push(Effect::Reply { ticket, result: Err(refusal) });
            }
            Event::Submit { ticket, operation, deadline } => {
                let here = &self.me.locality;
                self.origin.submit(&mut cx, &mut self.data, here, ticket, operation, deadline);
            }
            Event::Drain => self.membership.on_drain(&mut cx),
        }
        None
    }

    /// Why nothing can be decided for this node's app at present: as a member it has had no lease for a while, so it
    /// reaches no majority and most likely no primary; as anything else it reaches nobody. It says so at once instead of
    /// letting each operation run into its deadline.
    fn cut_off(&self, now: Time) -> Option<RefusalReason> {
        match self.membership.participation() {
            Participation::Member | Participation::Leaving if !self.membership.reaches_nobody() => {
                let long = !self.had_lease && now.since(self.lease_turned) >= CUT_OFF_AFTER;
                long.then_some(RefusalReason::NoLease)
            }
            _ => self.membership.reaches_nobody().then_some(RefusalReason::NoOwner),
        }
    }

    fn on_message(&mut self, cx: &mut StepContext<'_>, from: MemberId, envelope: Envelope) -> Option<Decided> {
        let Envelope { view, confirmed_past, message } = envelope;
        let arrived = self.membership.on_shown(cx, from, view, confirmed_past);
        if arrived {
            self.data.on_installed(cx, from);
        }
        let same_view = view == cx.view || cx.bug(Bug::OldViewsTaken);
        match message {
            Message::Forward { id, attempt, over_below, operation } => {
                if same_view {
                    self.data.admit(cx, from, id, attempt, over_below, operation);
                }
            }
            Message::Forwarded { id, attempt, result } => {
                self.origin.on_answer(cx, from, view, id, attempt, result);
            }
            Message::Replicate { .. }
            | Message::Replicated { .. }
            | Message::Stable(_)
            | Message::Evict(_)
            | Message::Full(_)
            | Message::StableRequest(_)
            | Message::Collect { .. }
            | Message::Collected { .. }
            | Message::Pull { .. }
            | Message::Part { .. }
            | Message::PullRefused { .. } => {
                // W-2: an older view was shown ours above; a newer one is asked for and installed first.
                if same_view {
                    self.data.on_message(cx, from, message);
                }
            }
            other => return self.membership.on_message(cx, from, view, other),
        }
        None
    }

    /// Installs a decided view in both halves: the gate is closed first and opened last (L-5).
    fn install(&mut self, now: Time, decided: Option<Decided>, effects: &mut Effects) {
        let Some(decided) = decided else { return };
        if decided.view.number <= self.membership.view_number() {
            return;
        }
        self.data.close();
        let mut cx = self.context(now, effects);
        self.membership.install(&mut cx, &decided);
        if self.membership.participation() == Participation::Superseded {
            return;
        }
        let present: BTreeSet<MemberId> =
            decided.view.ids().filter(|id| self.membership.has_installed(*id, decided.view.number)).collect();
        self.data.install(&mut cx, &decided.view, &present);
        self.membership.still_kept(self.data.kept());
        self.origin.on_view(&cx, &decided.view);
    }

    /// What follows every event: answers to this node's own app, and on a tick what time brings.
    fn go_on(&mut self, now: Time, tick: bool, effects: &mut Effects) {
        let mut cx = self.context(now, effects);
        if tick || self.data.next_turn().is_some_and(|at| at <= now) {
            self.data.on_tick(&mut cx);
        }
        if tick {
            let stuck = self.data.stuck(now, self.membership.timing.data_suspect);
            self.membership.set_stuck(stuck);
            self.report_complete(&mut cx);
            self.origin.avoid(self.membership.suspected());
        }
        self.origin.on_tick(&mut cx, &mut self.data, &self.me.locality);
        if let Some(reason) = self.cut_off(now).filter(|_| tick) {
            self.origin.abandon(&mut cx, reason);
        }
        let has_lease = self.gate.has_lease(now);
        if has_lease != self.had_lease {
            self.had_lease = has_lease;
            self.lease_turned = now;
            cx.notice(if has_lease { Notice::LeaseGained } else { Notice::LeaseLost });
        }
    }

    /// Tells the coordinator which incoming copies are complete, until it has made them owners.
    fn report_complete(&mut self, cx: &mut StepContext<'_>) {
        if cx.now.since(self.reported_complete) < self.limits.resend {
            return;
        }
        let complete = self.data.complete();
        if !complete.is_empty() {
            self.reported_complete = cx.now;
            self.membership.report_in_sync(cx, complete);
        }
    }

    /// When [`Event::Tick`] is next due, if nothing else happens before.
    #[must_use]
    pub fn next_turn(&self, now: Time) -> Time {
        let next = self.tick_due();
        let next = self.data.next_turn().map_or(next, |at| at.min(next));
        let next = self.origin.next_turn().map_or(next, |at| at.min(next));
        next.max(now)
    }

    /// When the next tick is due. While nothing is under way, ticks come less often: often enough for echoes and for telling
    /// an own pause from others' silence, and at once when a member has been silent for too long.
    fn tick_due(&self) -> Time {
        let soonest = self.ticked + self.limits.tick;
        if !self.quiet {
            return soonest;
        }
        let suspect = self.membership.timing.suspect;
        let silence = self.lease.first_silence(suspect) + Duration::from_millis(1);
        let rarely = (suspect / QUIET_TICKS).min(self.limits.resend);
        (self.ticked + rarely).min(silence).max(soonest)
    }

    /// The read gate, for readers on other threads.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Lease and promise, for the failure-detection thread.
    #[must_use]
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }

    /// Whether this node would answer as primary of the group at `now`: for checkers.
    #[must_use]
    pub fn serving_primary(&self, group: GroupId, now: Time) -> bool {
        self.membership.participation() != Participation::Superseded && self.data.serves(group, now)
    }

    /// Whether this node keeps the copy of a vacant group that an earlier incarnation of its process held: for checkers.
    #[must_use]
    pub fn keeps(&self, group: GroupId) -> bool {
        self.data.kept().contains(&group)
    }

    /// Sizes of internal tables, by name: for checkers of bounded memory.
    #[must_use]
    pub fn table_sizes(&self) -> std::collections::BTreeMap<&'static str, usize> {
        let mut sizes = self.data.table_sizes();
        sizes.insert("operations", self.origin.len());
        sizes.extend(self.membership.table_sizes());
        sizes
    }

    /// What people and metrics are shown. Built on each call; cheap enough for a few times a second.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let view = self.membership.view().cloned();
        let (pending_writes, pending_bytes) = self.data.pending();
        Snapshot {
            participation: self.membership.participation(),
            lease_left: self.gate.lease_until().since(now),
            suspected: self.membership.suspected().collect(),
            unsealed: self.membership.unsealed_count(),
            waits_for: self.membership.status().waits_for.map(WaitsFor::as_str),
            registry_ok: self.membership.registry_ok(),
            reaches_nobody: self.membership.reaches_nobody(),
            groups: self.data.role_counts(),
            operations_in_flight: self.origin.len(),
            pending_writes,
            pending_bytes,
            under_replicated: view.as_ref().map_or(0, |v| v.groups.iter().filter(|g| !g.incoming.is_empty()).count()),
            view,
        }
    }
}
