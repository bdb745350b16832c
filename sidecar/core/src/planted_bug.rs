//! Planted bugs: each leaves out one rule, so that the simulator can show that it would see the rule missing.
//!
//! Without the `planted-bugs` feature, which only `tests/sim` turns on, [`Bugs`] is empty and can't be made otherwise.

/// The rules that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// Serve without a lease.
    NoLease,
    /// A voter goes on answering the suspects' pings.
    VotersEchoOn,
    /// Echo pings of any view and count such echoes.
    EchoAnyView,
    /// Swap without waiting out the promises.
    PromisesNotWaited,
    /// Exclude without the half rule.
    NoHalfRule,
    /// Count only the present view, not the unsealed ones.
    UnsealedIgnored,
    /// Make planned changes before every member has installed and before older views are sealed.
    PlannedDoesNotWait,
    /// Serve as new primary without collecting from the other owners.
    NoCollect,
    /// Serve as new primary without sending again what was collected.
    NoResend,
    /// Acknowledge when the owners hold a write, without the incoming copies.
    IncomingSkipped,
    /// Acknowledge without waiting for a dropped owner to install the view.
    DroppedNotAwaited,
    /// Answer reads from copies that are not clean.
    DirtyReads,
    /// Check lease and role at admission only, not at release.
    NoReleaseCheck,
    /// Forget operation ids, so that a retry applies again.
    RetriesApplyAgain,
    /// Give a vote back after a time without the registry.
    VotesTimeOut,
    /// Forget tombstones at once.
    NoTombstones,
    /// An incoming copy goes on after its primary changed.
    TransferSurvivesPrimary,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 17] = [
        Bug::NoLease,
        Bug::VotersEchoOn,
        Bug::EchoAnyView,
        Bug::PromisesNotWaited,
        Bug::NoHalfRule,
        Bug::UnsealedIgnored,
        Bug::PlannedDoesNotWait,
        Bug::NoCollect,
        Bug::NoResend,
        Bug::IncomingSkipped,
        Bug::DroppedNotAwaited,
        Bug::DirtyReads,
        Bug::NoReleaseCheck,
        Bug::RetriesApplyAgain,
        Bug::VotesTimeOut,
        Bug::NoTombstones,
        Bug::TransferSurvivesPrimary,
    ];
}

/// The bugs planted in one core: none in production.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bugs {
    #[cfg(feature = "planted-bugs")]
    planted: Option<Bug>,
}

impl Bugs {
    /// Plants one.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn plant(bug: Bug) -> Bugs {
        Bugs { planted: Some(bug) }
    }

    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "same shape as with the feature")]
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }
}
