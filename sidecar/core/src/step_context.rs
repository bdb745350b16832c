//! What every handler of one step gets.

use crate::event::{Effect, Effects, Notice};
use crate::ids::{MemberId, ViewNumber};
use crate::limits::Limits;
use crate::message::{Envelope, Message};
use crate::planted_bug::{Bug, Bugs};
use crate::time::Time;

/// The surroundings of one step.
pub(crate) struct StepContext<'a> {
    pub(crate) now: Time,
    pub(crate) me: MemberId,
    /// The installed view's number.
    pub(crate) view: ViewNumber,
    pub(crate) confirmed_past: ViewNumber,
    pub(crate) limits: Limits,
    pub(crate) bugs: Bugs,
    pub(crate) effects: &'a mut Effects,
}

impl StepContext<'_> {
    pub(crate) fn send(&mut self, to: MemberId, message: Message) {
        debug_assert_ne!(to, self.me, "a member does not send to itself");
        let envelope = Envelope { view: self.view, confirmed_past: self.confirmed_past, message };
        self.effects.push(Effect::Send { to, envelope });
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    pub(crate) fn bug(&self, bug: Bug) -> bool {
        self.bugs.has(bug)
    }
}
