//! Why the process ends, and how: hand over, stop serving, end what runs.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::grid::{Grid, Phase};
use crate::node::{DrainSwitch, REFUSED};
use crate::refusal::EXIT_REFUSED;
use crate::serving::Serving;
use crate::spawner::Spawner;

/// The exit code when a part that must run has ended (`EX_SOFTWARE`): the supervisor starts the member again.
pub(crate) const EXIT_PART_ENDED: u8 = 70;
/// The exit code when a second signal cut the ending short: 128 and SIGINT, as shells say it.
pub(crate) const EXIT_CUT_SHORT: u8 = 130;

/// How long requests under way, and all that runs, may take to end after service has stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How much of it requests under way may take.
const REQUEST_PATIENCE: Duration = Duration::from_secs(3);
/// How often the log says how far handing over is.
const PROGRESS: Duration = Duration::from_secs(2);

/// The signals that end the process. Listened to from its creation.
#[derive(Debug)]
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether a lost terminal ends the process.
    of_terminal: bool,
}

impl EndSignals {
    /// Listens. In a process that belongs to a terminal, SIGHUP ends it; elsewhere it is only acknowledged, since
    /// there is nothing to read again.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen(of_terminal: bool) -> io::Result<EndSignals> {
        Ok(EndSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            of_terminal,
        })
    }

    /// Waits for the next one; gives its name.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        loop {
            // Every branch is cancel safe.
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    if self.of_terminal {
                        return "SIGHUP";
                    }
                    tracing::info!("SIGHUP: settings are read at the start only; nothing was read again");
                }
            }
        }
    }
}

/// Waits for a reason to end, then ends everything in order. Returns the exit code.
///
/// # Cancel safety
/// Not cancel safe: to be run to its end.
pub(crate) async fn wait_and_drain(
    mut signals: EndSignals,
    grid: &Grid,
    switch: &DrainSwitch,
    spawner: &Spawner,
    serving: &Serving,
    grace: Duration,
) -> u8 {
    // Both branches are cancel safe.
    let code = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: handing over, for at most {} s", grace.as_secs());
            hand_over(&mut signals, grid, switch, grace).await
        }
        part = spawner.critical_ended() => {
            if part == REFUSED {
                EXIT_REFUSED
            } else {
                tracing::error!("{part} has ended, which must not end: stopping");
                EXIT_PART_ENDED
            }
        }
    };
    if code == EXIT_CUT_SHORT {
        tracing::warn!("second signal: ending at once");
        return code;
    }
    grid.advance(Phase::Stopping);
    let stop = async {
        // Requests first: what they wait for still runs.
        serving.stop(REQUEST_PATIENCE).await;
        spawner.stop().await;
    };
    // All branches are cancel safe.
    tokio::select! {
        () = stop => tracing::info!("ended"),
        () = tokio::time::sleep(STOP_PATIENCE) => {
            tracing::warn!("not ended within {} s: {}; ending without", STOP_PATIENCE.as_secs(), spawner.running());
        }
        _ = signals.next() => return EXIT_CUT_SHORT,
    }
    code
}

/// Hands over unless that has been done, within the grace; 0, or [`EXIT_CUT_SHORT`] after another signal.
async fn hand_over(signals: &mut EndSignals, grid: &Grid, switch: &DrainSwitch, grace: Duration) -> u8 {
    // All branches are cancel safe; handing over goes on by itself.
    tokio::select! {
        () = switch.drain() => 0,
        _ = signals.next() => EXIT_CUT_SHORT,
        never = report_progress(grid) => match never {},
        () = tokio::time::sleep(grace) => {
            let left = groups_left(grid);
            tracing::warn!("the grace of {} s has passed with {left} groups not handed over", grace.as_secs());
            0
        }
    }
}

async fn report_progress(grid: &Grid) -> Infallible {
    loop {
        tokio::time::sleep(PROGRESS).await;
        tracing::info!("handing over: {} groups left", groups_left(grid));
    }
}

/// Groups that this member still holds a copy of.
pub(crate) fn groups_left(grid: &Grid) -> usize {
    let groups = grid.snapshot().groups;
    groups.primary + groups.promoting + groups.owner
}
