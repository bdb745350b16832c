//! Runs the core: the one owner of an incarnation's protocol state.
//!
//! Each turn takes a bounded number of queued events, steps the core for each, and carries its effects out. Nothing
//! here blocks: the turns are what keeps the member's echoes alive (L-4).

use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::core::Core;
use sidegrid_core::event::{CallId, Port, RegistryAnswer, RegistryCall};
use sidegrid_core::limits::Limits;
use sidegrid_core::message::{Envelope, Message};
use sidegrid_core::operation::{Applied, Refusal, RefusalReason};
use sidegrid_core::{ClusterUid, Effect, Effects, Event, Kept, MemberId, Time};
use sidegrid_net::{Clock, Inbound, Mesh, Plane, TlsMode};
use sidegrid_registry::Registry;
use sidegrid_store::Store;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::grid::{Grid, Phase, Submit};
use crate::notices::Chronicle;
use crate::spawner::Spawner;
use crate::trust::Trust;

mod registry_calls;
mod renewal;
mod tickets;

use registry_calls::RegistryCalls;
use renewal::Renewal;
use tickets::Tickets;

/// Events taken in one turn from each source.
const TURN: usize = 256;
/// How often people and metrics are shown a new copy of the core's state, changes apart.
const PUBLISH: Duration = Duration::from_millis(200);
/// How long what has been queued for peers may take to leave, when an incarnation ends.
const FLUSH: Duration = Duration::from_millis(200);

/// How an incarnation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is out of the view or its copy is void: another follows.
    Superseded,
    /// The process stops.
    Stopped,
    /// A part of the mesh ended by itself.
    MeshFailed(&'static str),
}

/// What comes in.
#[derive(Debug)]
pub(crate) struct Sources {
    /// From apps.
    pub(crate) submits: mpsc::Receiver<Submit>,
    /// From peers.
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    /// Whether this node shall hand over and leave.
    pub(crate) drain: watch::Receiver<bool>,
    /// The process stops.
    pub(crate) stopping: CancellationToken,
}

/// One incarnation's core and what it acts through.
pub(crate) struct Driver {
    pub(crate) me: MemberId,
    pub(crate) core: Core<Store>,
    pub(crate) mesh: Mesh,
    pub(crate) trust: Arc<Trust>,
    pub(crate) cluster: ClusterUid,
    /// When its certificate is to be renewed for the first time; none: never.
    pub(crate) renew_after: Option<Duration>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) grid: Grid,
    pub(crate) clock: Clock,
    pub(crate) spawner: Spawner,
    pub(crate) limits: Limits,
    /// When this process began, or this incarnation, if it is not the process's first.
    pub(crate) began: Time,
    /// Whether this is the process's first incarnation.
    pub(crate) first: bool,
}

impl Driver {
    /// Runs the incarnation to its end, then closes its connections and refuses what is left. Returns how it ended, and the
    /// copies that the next one comes back with (V-9).
    ///
    /// # Cancel safety
    /// Not cancel safe: to be run to its end.
    pub(crate) async fn run(self, mut sources: Sources) -> (End, Option<Kept<Store>>) {
        let (calls, mut answers) = RegistryCalls::new(
            Arc::clone(&self.registry),
            self.cluster,
            self.limits.registry_timeout,
            self.spawner.clone(),
            self.grid.clone(),
        );
        let mut turns = Turns {
            core: self.core,
            mesh: &self.mesh,
            grid: &self.grid,
            chronicle: Chronicle::new(self.grid.clone()),
            calls,
            tickets: Tickets::default(),
            effects: Effects::new(),
            refused_calls: Vec::new(),
            changed: true,
            superseded: false,
            asked_to_join: false,
            first: self.first,
            clock: self.clock.clone(),
            began: self.began,
        };
        let now = self.clock.now();
        let renewal = Renewal::new(self.trust, self.me, self.cluster, self.spawner.clone(), self.renew_after, now);
        let mut upkeep = Upkeep { publish_at: now, renewal };
        let end = turns.run(&mut sources, &mut answers, |now, turns| upkeep.keep(now, turns)).await;
        self.grid.detach();
        turns.tickets.refuse_all();
        refuse_queued(&mut sources.submits);
        self.mesh.flush(FLUSH).await;
        let kept = turns.core.into_kept();
        self.mesh.stop().await;
        (end, kept)
    }
}

/// Refuses what the core never saw: certainly not applied (O-3).
fn refuse_queued(submits: &mut mpsc::Receiver<Submit>) {
    submits.close();
    while let Ok(submit) = submits.try_recv() {
        let _gone = submit.reply.send(Err(Refusal { reason: RefusalReason::NoOwner, applied: Applied::No }));
    }
}

/// What is done a few times a second.
struct Upkeep {
    publish_at: Time,
    renewal: Renewal,
}

impl Upkeep {
    fn keep(&mut self, now: Time, turns: &mut Turns<'_>) {
        turns.chronicle.tend(now);
        if std::mem::take(&mut turns.changed) || now >= self.publish_at {
            self.publish_at = now + PUBLISH;
            turns.grid.publish(turns.core.snapshot(now));
        }
        if let Some(tls) = self.renewal.keep(now) {
            turns.grid.counters().certificate_rotations.add_one();
            if let TlsMode::Mutual(config) = tls {
                turns.mesh.set_tls(config);
            }
        }
    }
}

struct Turns<'a> {
    core: Core<Store>,
    mesh: &'a Mesh,
    grid: &'a Grid,
    chronicle: Chronicle,
    calls: RegistryCalls,
    tickets: Tickets,
    effects: Effects,
    /// Calls that could not be made: answered in the next turn.
    refused_calls: Vec<CallId>,
    /// Whether what people are shown has changed.
    changed: bool,
    superseded: bool,
    asked_to_join: bool,
    /// Whether this is the process's first incarnation.
    first: bool,
    clock: Clock,
    began: Time,
}

impl Turns<'_> {
    async fn run(
        &mut self,
        sources: &mut Sources,
        answers: &mut mpsc::Receiver<(CallId, RegistryAnswer)>,
        mut upkeep: impl FnMut(Time, &mut Self),
    ) -> End {
        let mut submits = Vec::with_capacity(TURN);
        let mut inbound = Vec::with_capacity(TURN);
        self.step(Event::Tick);
        loop {
            let now = self.clock.now();
            let wait = self.core.next_turn(now).since(now);
            // Every branch is cancel safe: what is not chosen has taken nothing from its queue.
            tokio::select! {
                biased;
                () = sources.stopping.cancelled() => return End::Stopped,
                part = self.mesh.failed() => return End::MeshFailed(part),
                Some((call, answer)) = answers.recv() => self.registry_answered(call, answer),
                Ok(()) = sources.drain.changed() => self.drain(*sources.drain.borrow_and_update()),
                () = tokio::time::sleep(wait) => {}
                1.. = sources.inbound.recv_many(&mut inbound, TURN) => {}
                1.. = sources.submits.recv_many(&mut submits, TURN) => {}
            }
            // Whichever woke us, a turn takes from both queues: neither starves the other.
            take_more(&mut sources.inbound, &mut inbound);
            take_more(&mut sources.submits, &mut submits);
            for call in std::mem::take(&mut self.refused_calls) {
                self.registry_answered(call, RegistryAnswer::Failed);
            }
            for event in inbound.drain(..) {
                self.inbound(event);
            }
            for submit in submits.drain(..) {
                self.submit(submit);
            }
            if self.core.next_turn(self.clock.now()) <= self.clock.now() {
                self.step(Event::Tick);
            }
            if self.superseded {
                self.grid.counters().superseded.add_one();
                return End::Superseded;
            }
            upkeep(self.clock.now(), self);
        }
    }

    fn step(&mut self, event: Event) {
        if self.superseded {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.core.step(self.clock.now(), event, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Envelope { from, envelope, held } => {
                self.step(Event::Message { from, envelope });
                drop(held);
            }
            Inbound::Heard { from, view, confirmed_past } => self.step(Event::Heard { from, view, confirmed_past }),
            Inbound::Unreachable { peer, plane } => self.step(Event::Unreachable { peer, port: port_of(plane) }),
            Inbound::Connected { peer, plane } => self.step(Event::Connected { peer, port: port_of(plane) }),
            Inbound::Reached(peer) => self.step(Event::Reached { peer }),
        }
    }

    fn submit(&mut self, submit: Submit) {
        let Submit { operation, deadline, reply } = submit;
        // Whoever asked has gone, or has waited too long already: the core never sees it (O-3).
        if reply.is_closed() {
            return;
        }
        if self.superseded || self.clock.now() >= deadline {
            let reason = if self.superseded { RefusalReason::NoOwner } else { RefusalReason::Timeout };
            let _gone = reply.send(Err(Refusal { reason, applied: Applied::No }));
            return;
        }
        let ticket = self.tickets.take(reply, operation.kind.is_read());
        self.step(Event::Submit { ticket, operation, deadline });
    }

    fn registry_answered(&mut self, call: CallId, answer: RegistryAnswer) {
        if !matches!(answer, RegistryAnswer::Failed) {
            self.chronicle.registry_answered();
        }
        self.step(Event::Registry { call, answer });
    }

    fn drain(&mut self, wanted: bool) {
        if wanted {
            self.step(Event::Drain);
            self.changed = true;
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, envelope } => {
                self.note_join(&envelope);
                self.mesh.send(to, &envelope);
            }
            Effect::Reply { ticket, result } => self.tickets.reply(ticket, result),
            Effect::Peers(peers) => self.mesh.set_peers(peers),
            Effect::PingNow => self.mesh.ping_now(),
            Effect::Registry { call, request } => self.call_registry(call, request),
            Effect::Republish { view, document } => self.calls.republish(view, document),
            Effect::Superseded => self.superseded = true,
            Effect::Left => {
                self.changed = true;
                self.grid.advance(Phase::Drained);
            }
            Effect::JoinRefused(why) => self.chronicle.join_refused(why),
            Effect::Notice(notice) => self.changed |= self.chronicle.tell(self.clock.now(), notice),
        }
    }

    fn call_registry(&mut self, call: CallId, request: RegistryCall) {
        if !self.calls.start(call, request) {
            self.refused_calls.push(call);
        }
    }

    /// How long the way from a process's start to its first request to join is: writes of the keys that its
    /// predecessor owned wait for no more than that.
    fn note_join(&mut self, envelope: &Envelope) {
        if !self.asked_to_join && matches!(envelope.message, Message::Join { .. }) {
            self.asked_to_join = true;
            let since = self.clock.now().since(self.began);
            let what = if self.first { "process" } else { "incarnation" };
            tracing::info!("asking to join, {} ms after this {what} began", since.as_millis());
        }
    }
}

fn port_of(plane: Plane) -> Port {
    match plane {
        Plane::Data => Port::Data,
        Plane::FailureDetection => Port::FailureDetection,
    }
}

fn take_more<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>) {
    while taken.len() < TURN {
        match queue.try_recv() {
            Ok(event) => taken.push(event),
            Err(_) => return,
        }
    }
}
