//! The supervisor: a small parent that starts the member, passes signals on and restarts it at once when it died.
//!
//! It has one thread, no runtime and no state but its child, so that it has little to die of. As PID 1 it also reaps
//! whatever is orphaned to it. The member is told the supervisor's process id and ends with it (see
//! [`end_with_supervisor`]); a new incarnation is started only after the wait for the old one has returned, and then
//! takes the name's lock, which is what makes it proof of the old one's death (P-1).

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use sidegrid_net::Clock;

use crate::allocator;
use crate::bound::Bound;
use crate::memory::Cgroup;
use crate::signals::Signals;

/// A member that has run this long did not die of its start: the next restart is immediate again, since writes wait
/// for it. Short enough that a member killed now and then is never kept waiting, long enough that one which can't
/// live is not started all the time.
const STABLE: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// Runs the member until it ends in order or this process is told to stop. Returns the exit code. In a pod also a kill for
/// memory is an end: the container's own restart shows it.
///
/// # Errors
/// When the member can't be started at all, or signals can't be listened to.
pub(crate) fn run(bound: &Bound, in_pod: bool) -> io::Result<u8> {
    let mut signals = Signals::listen()?;
    let cgroup = Cgroup::of_this_process();
    let mut backoff = Backoff::default();
    let clock = Clock::boottime();
    loop {
        let started = clock.now();
        let kills = cgroup.kills();
        let child = start_member(bound)?;
        tracing::debug!(pid = child.as_raw_nonzero().get(), "member started");
        let (status, told) = watch(&mut signals, child)?;
        let code = exit_code(status);
        if told || is_final(status) {
            return Ok(code);
        }
        if is_for_memory(status, kills, cgroup.kills()) {
            let limit = cgroup.limit().map_or_else(|| "no limit".to_owned(), |limit| format!("{} MiB", limit >> 20));
            tracing::error!(
                "the kernel killed the member for memory (limit: {limit}): raise the limit, or lower caches.*.maxBytes"
            );
            if in_pod {
                // The container ends with it, so that its restart count and exit code show what happened.
                return Ok(code);
            }
        }
        let wait = backoff.next(clock.now().since(started));
        tracing::warn!("the member died ({status}); restarting it in {} ms", wait.as_millis());
        if pause(&mut signals, &clock, wait)? {
            return Ok(0);
        }
    }
}

/// Starts this same program as the member. Its standard input carries the listening sockets; its death signal and its
/// own process group keep a terminal's Ctrl-C from reaching it twice.
fn start_member(bound: &Bound) -> io::Result<Pid> {
    // The very file that runs now, whatever has been put in its place since.
    let mut command = Command::new("/proc/self/exe");
    let mut arguments = std::env::args_os();
    command
        .arg0(arguments.next().unwrap_or_else(|| "sidegrid".into()))
        .args(arguments)
        .arg("--member-of")
        .arg(std::process::id().to_string())
        .stdin(Stdio::from(bound.hand_over()?))
        .process_group(0);
    allocator::set_for(&mut command);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the member has no process id"))
}

/// Passes signals on until the member ends; gives its status and whether this process was told to stop.
fn watch(signals: &mut Signals, member: Pid) -> io::Result<(ExitStatus, bool)> {
    let mut told = false;
    loop {
        if let Some(status) = reap(member)? {
            return Ok((status, told));
        }
        let received = signals.wait(None)?;
        for (arrived, signal) in
            [(received.terminate, Signal::TERM), (received.interrupt, Signal::INT), (received.hangup, Signal::HUP)]
        {
            if arrived {
                told |= signal != Signal::HUP;
                // It may just have ended; the wait will tell.
                let _ended = kill_process(member, signal);
            }
        }
    }
}

/// Waits, without blocking, for every child that has ended; gives the member's status if it is among them.
fn reap(member: Pid) -> io::Result<Option<ExitStatus>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == member => return Ok(Some(ExitStatus::from_raw(status.as_raw()))),
            // An orphan of somebody else's, taken over as PID 1.
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits before a restart; true when told to stop meanwhile.
fn pause(signals: &mut Signals, clock: &Clock, wait: Duration) -> io::Result<bool> {
    let until = clock.now() + wait;
    loop {
        let left = until.since(clock.now());
        if left.is_zero() {
            return Ok(false);
        }
        let received = signals.wait(Some(left))?;
        if received.terminate || received.interrupt {
            return Ok(true);
        }
    }
}

/// Whether the kernel ended the member for want of memory: its control group counts such kills.
fn is_for_memory(status: ExitStatus, before: Option<u64>, after: Option<u64>) -> bool {
    status.signal() == Some(Signal::KILL.as_raw()) && before.zip(after).is_some_and(|(before, after)| after > before)
}

/// Whether the member ended by its own decision, so that starting it again would change nothing.
fn is_final(status: ExitStatus) -> bool {
    let by_decision = [0, crate::cli::EXIT_USAGE, crate::refusal::EXIT_REFUSED].map(i32::from);
    status.code().is_some_and(|code| by_decision.contains(&code))
}

/// The member's own exit code, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// How long to wait before the next restart: not at all at first, then ever longer, bounded.
#[derive(Debug, Default)]
struct Backoff {
    wait: Duration,
}

impl Backoff {
    fn next(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.wait = Duration::ZERO;
        }
        let wait = self.wait;
        self.wait = (wait * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        wait
    }
}

/// For the member: makes the kernel end this process when its supervisor ends.
///
/// # Errors
/// When the kernel refuses, or when the supervisor has ended already: the death signal would never come.
pub(crate) fn end_with_supervisor(supervisor: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent == i32::try_from(supervisor).ok() { Ok(()) } else { Err(io::Error::other("the supervisor has ended")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait_ever_longer_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let brief = Duration::from_secs(1);
        assert_eq!(backoff.next(brief), Duration::ZERO);
        assert_eq!(backoff.next(brief), BACKOFF_FIRST);
        assert_eq!(backoff.next(brief), BACKOFF_FIRST * 2);
        for _ in 0..20 {
            assert!(backoff.next(brief) <= BACKOFF_MAX);
        }
        assert_eq!(backoff.next(brief), BACKOFF_MAX);
        assert_eq!(backoff.next(STABLE), Duration::ZERO);
    }

    #[test]
    fn a_kill_for_memory_is_told_from_any_other() {
        let killed = ExitStatus::from_raw(9);
        assert!(is_for_memory(killed, Some(3), Some(4)));
        assert!(!is_for_memory(killed, Some(3), Some(3)));
        assert!(!is_for_memory(killed, None, None));
        assert!(!is_for_memory(ExitStatus::from_raw(0), Some(3), Some(4)), "another process of the group");
    }

    #[test]
    fn only_an_end_by_decision_is_final() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        assert!(is_final(exited(0)));
        assert!(is_final(exited(64)) && is_final(exited(77)));
        assert!(!is_final(exited(1)));
        let killed = ExitStatus::from_raw(9);
        assert!(!is_final(killed));
        assert_eq!(exit_code(killed), 137);
        assert_eq!(exit_code(exited(64)), 64);
    }
}
