//! Signals for a process without a runtime: which have arrived, waited for with a bound.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// The signals that a supervisor listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: UnixStream,
    terminate: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
    hangup: Arc<AtomicBool>,
}

/// What has arrived since the last look. An ended child wakes without being named here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) terminate: bool,
    pub(crate) interrupt: bool,
    pub(crate) hangup: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system has no handle for it left.
    pub(crate) fn listen() -> io::Result<Signals> {
        let (wake, waker) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        let listen = |signal| {
            let arrived = Arc::new(AtomicBool::new(false));
            // The flag first: whoever is woken finds it set.
            flag::register(signal, Arc::clone(&arrived))?;
            pipe::register(signal, waker.try_clone()?)?;
            io::Result::Ok(arrived)
        };
        listen(SIGCHLD)?;
        Ok(Signals { wake, terminate: listen(SIGTERM)?, interrupt: listen(SIGINT)?, hangup: listen(SIGHUP)? })
    }

    /// Waits until a signal arrives or `limit` has passed. May return early with nothing.
    ///
    /// # Errors
    /// When the system fails the wait.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<Received> {
        self.wake.set_read_timeout(limit)?;
        match self.wake.read(&mut [0; 64]) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(Received {
            terminate: self.terminate.swap(false, Ordering::SeqCst),
            interrupt: self.interrupt.swap(false, Ordering::SeqCst),
            hangup: self.hangup.swap(false, Ordering::SeqCst),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn an_arrived_signal_is_told_once() {
        let mut signals = Signals::listen().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        let mut received = Received::default();
        while received == Received::default() {
            received = signals.wait(Some(Duration::from_secs(10))).unwrap();
        }
        assert_eq!(received, Received { hangup: true, ..Received::default() });
        assert_eq!(signals.wait(Some(Duration::from_millis(1))).unwrap(), Received::default());
    }
}
