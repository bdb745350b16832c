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
    /// A voter does not say how long its promises to the suspects still run.
    PromisesNotTold,
    /// Echo pings although the core does not turn.
    EchoWhileWedged,
    /// Ping only when the next ping is due, not at once after installing a view.
    NoPingAtInstall,
    /// Count votes that were given on another document version.
    VotesOfAnyRound,
    /// Swap without the votes of those that are silent and not suspected.
    VotesNotAwaited,
    /// Start an exclusion on the document at hand.
    RegistryNotRead,
    /// Install only the views that the registry shows.
    PeersViewsIgnored,
    /// Exclude the owner of a last copy at once.
    LastCopiesNotAwaited,
    /// Propose without being the coordinator.
    EveryoneProposes,
    /// Call itself confirmed past a view before its promises have run out.
    ConfirmedAtOnce,
    /// Take any later incarnation as proof of another one's end.
    LocksIgnored,
    /// Take a proof as the end of the promises too that the dead member gave.
    ProofEndsPromises,
    /// Admit more joiners in one change than the view has members.
    AnyNumberJoins,
    /// Go on serving, pinging and echoing until the removal is heard of.
    LeaverGoesOn,
    /// Release before the leaver's own promises have run out.
    ReleasedAtOnce,
    /// Let leavers stop although others have.
    LeaversStopTogether,
    /// Serve as new primary before the old one has installed the view.
    OldPrimaryNotAwaited,
    /// Don't begin again when all members are proved dead.
    NeverBeginsAgain,
    /// Admit joiners that have not reached every member.
    JoinersNotReached,
    /// Take messages of the data half that were sent in another view.
    OldViewsTaken,
    /// Begin a new primary's counter at the watermark.
    CountersBeginAgain,
    /// Apply attempts of operations that their origin is over with.
    StragglersApplied,
    /// Say `applied: no` whenever no answer came.
    RefusedMeansNo,
    /// An incoming copy acknowledges writes without holding them.
    FillingIgnoresWrites,
    /// Remove expired and evicted entries at the primary alone.
    RemovalsNotOrdered,
    /// Answer "absent" past a deadline without ordering a removal.
    ExpiredIsAbsent,
    /// Evict what another member is primary of from the own copy.
    EvictsByItself,
    /// The registry compares only the view's number when it swaps.
    SwapComparesLittle,
    /// Take a lost answer to a swap as one that was not done.
    LostAnswerIsNo,
    /// Follow a document that is older than what is known.
    OlderDocumentFollowed,
    /// Install a view that is shown after having said that none is newer.
    ShownViewsInstalled,
    /// Take operations without a bound.
    NoBoundOnOperations,
    /// Exclude whoever is suspected, without weighing the broken links.
    LinksNotWeighed,
    /// Take another boot of the same machine id as proof while the one before answers.
    AnotherBootIsProof,
    /// Send again, on every turn, whatever is outstanding.
    SendsAgainAtOnce,
    /// Take new entries however full a cache is, and remove a few now and then.
    RoomNotLookedFor,
    /// Forget what an app's key was used for.
    KeysForgotten,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 54] = [
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
        Bug::PromisesNotTold,
        Bug::EchoWhileWedged,
        Bug::NoPingAtInstall,
        Bug::VotesOfAnyRound,
        Bug::VotesNotAwaited,
        Bug::RegistryNotRead,
        Bug::PeersViewsIgnored,
        Bug::LastCopiesNotAwaited,
        Bug::EveryoneProposes,
        Bug::ConfirmedAtOnce,
        Bug::LocksIgnored,
        Bug::ProofEndsPromises,
        Bug::AnyNumberJoins,
        Bug::LeaverGoesOn,
        Bug::ReleasedAtOnce,
        Bug::LeaversStopTogether,
        Bug::OldPrimaryNotAwaited,
        Bug::NeverBeginsAgain,
        Bug::JoinersNotReached,
        Bug::OldViewsTaken,
        Bug::CountersBeginAgain,
        Bug::StragglersApplied,
        Bug::RefusedMeansNo,
        Bug::FillingIgnoresWrites,
        Bug::RemovalsNotOrdered,
        Bug::ExpiredIsAbsent,
        Bug::EvictsByItself,
        Bug::SwapComparesLittle,
        Bug::LostAnswerIsNo,
        Bug::OlderDocumentFollowed,
        Bug::ShownViewsInstalled,
        Bug::NoBoundOnOperations,
        Bug::LinksNotWeighed,
        Bug::AnotherBootIsProof,
        Bug::SendsAgainAtOnce,
        Bug::RoomNotLookedFor,
        Bug::KeysForgotten,
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
