//! The trace: a line for everything that happens, in the order of time.

use std::fmt;
use std::io::Write;

use sidegrid_core::MemberId;
use sidegrid_core::event::{Effect, Event, RegistryAnswer, RegistryCall};
use sidegrid_core::lease::Heard;
use sidegrid_core::message::Ping;
use sidegrid_core::storage::CacheKey;

use crate::clock::Instant;
use crate::format;
pub(crate) use crate::format::label;
use crate::world::World;

/// What of a run is written.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Nothing before this many seconds.
    pub from: f64,
    /// Nothing after this many seconds.
    pub until: f64,
    /// Only this node, and what belongs to none.
    pub node: Option<usize>,
    /// Pings, echoes, idle ticks and notes of them too.
    pub pings: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { from: 0.0, until: f64::MAX, node: None, pings: false }
    }
}

/// Where a trace goes.
pub(crate) struct Trace {
    out: Box<dyn Write>,
    selection: Selection,
}

impl Trace {
    /// A trace into `out`.
    pub(crate) fn new(out: Box<dyn Write>, selection: Selection) -> Trace {
        Trace { out, selection }
    }

    /// Writes a line. Of a node: who, its view, its local clock.
    pub(crate) fn line(&mut self, now: Instant, who: Option<(usize, &str)>, line: fmt::Arguments<'_>) {
        let seconds = now as f64 / 1e9;
        if seconds < self.selection.from || seconds > self.selection.until {
            return;
        }
        if who.is_some_and(|(node, _)| self.selection.node.is_some_and(|wanted| wanted != node)) {
            return;
        }
        let text = format::shorten(&line.to_string());
        let who = who.map_or("*", |(_, who)| who);
        // A closed pipe (`| head`) is no fault of the run.
        let _ = writeln!(self.out, "{seconds:>10.6} {who:<9} {text}");
    }
}

impl World {
    fn who(&self, node: usize) -> String {
        self.nodes[node].life.as_ref().map_or_else(|| format!("n{node}"), |l| format!("{}@{}", label(l.id), l.view))
    }

    fn wants_pings(&self) -> bool {
        self.trace.as_ref().is_some_and(|t| t.selection.pings)
    }

    fn node_line(&mut self, node: usize, line: fmt::Arguments<'_>) {
        let who = self.who(node);
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.line(now, Some((node, &who)), line);
        }
    }

    /// An event on its way into a core.
    pub(crate) fn trace_event(&mut self, node: usize, event: &Event) {
        if self.trace.is_none() || (matches!(event, Event::Tick | Event::Heard { .. }) && !self.wants_pings()) {
            return;
        }
        self.node_line(node, format_args!("<- {}", format::event(event)));
    }

    /// An effect on its way out of a core.
    pub(crate) fn trace_effect(&mut self, node: usize, effect: &Effect) {
        if self.trace.is_none() || (matches!(effect, Effect::PingNow) && !self.wants_pings()) {
            return;
        }
        self.node_line(node, format_args!("   -> {}", format::effect(effect)));
    }

    /// A ping or echo that arrived.
    pub(crate) fn trace_ping(&mut self, node: usize, from: MemberId, ping: Ping, heard: Heard) {
        if !self.wants_pings() {
            return;
        }
        let kind = if ping.echo.is_some() { "echo" } else { "ping" };
        let until = self.nodes[node].life.as_ref().map(|l| l.gate.lease_until());
        let answered = if heard.answer.is_some() { "answered" } else { "silent" };
        let ping_back = if heard.ping_back { " pinging back" } else { "" };
        self.node_line(
            node,
            format_args!(
                "<~ {kind} of {} v{} past{} {answered}{ping_back}; lease until {until:?}",
                label(from),
                ping.view,
                ping.confirmed_past
            ),
        );
    }

    /// A call that reached the registry.
    pub(crate) fn trace_registry(&mut self, node: usize, id: MemberId, call: &RegistryCall, answer: &RegistryAnswer) {
        if self.trace.is_none() || (matches!(call, RegistryCall::Read) && !self.wants_pings()) {
            return;
        }
        let line = match answer {
            RegistryAnswer::Swapped => "SWAPPED".to_owned(),
            other => format::answer_short(other),
        };
        self.note(format_args!("REGISTRY {} (n{node}) {} => {line}", label(id), format::call(call)));
    }

    /// A read that the gate answered.
    pub(crate) fn traced_read(&mut self, node: usize, key: &CacheKey, how: &str) {
        if self.trace.is_some() {
            let name = String::from_utf8_lossy(&key.key).into_owned();
            self.node_line(node, format_args!("<> read c{} {name}: {how}", key.cache.0));
        }
    }
}
