//! Exclusive locks on files, given back by the kernel however their holder ends.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

/// First pause between two tries; doubles to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Short, since whoever holds the registry's lock needs it for less than a millisecond.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);
/// How often a lock file that was replaced just when it was locked is tried again at once.
const REPLACED_TRIES: usize = 8;

/// An exclusive `flock` on a file in a folder, held until it is dropped or the process ends. Children don't inherit
/// it over `exec`.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: OwnedFd,
}

impl FileLock {
    /// Takes the lock on `name` in `folder` if nobody holds it; makes the file (mode 0600) if there is none.
    ///
    /// # Errors
    /// What the system says; the lock being held is `None`, not an error.
    pub(crate) fn try_take(folder: impl AsFd, name: &OsStr) -> io::Result<Option<FileLock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        for _ in 0..REPLACED_TRIES {
            let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?;
            if !try_flock(&file)? {
                return Ok(None);
            }
            // Who deletes a lock file lets a second holder in beside the first. The lock counts only while the file
            // that is locked is the one that the next comer would lock.
            let locked = rustix::fs::fstat(&file)?;
            match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (locked.st_dev, locked.st_ino) => {
                    return Ok(Some(FileLock { file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("the lock file is being replaced all the time"))
    }

    /// Like [`FileLock::try_take`], but tries again for at least `wait` if the lock is held. Blocks the thread.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::TimedOut`] if the lock was held throughout.
    pub(crate) fn take(folder: impl AsFd, name: &OsStr, wait: Duration) -> io::Result<FileLock> {
        // Counted in pauses, not by a clock: a process that was stopped meanwhile still gets all of its tries.
        let mut left = wait;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(lock) = FileLock::try_take(&folder, name)? {
                return Ok(lock);
            }
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("another process held it for {wait:?}")));
            }
            let now = pause.min(left);
            thread::sleep(now);
            left -= now;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What the system says of the locked file.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.file)?)
    }
}

/// Takes the exclusive lock of an open file if nobody holds it.
pub(crate) fn try_flock(file: impl AsFd) -> io::Result<bool> {
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_wait_ends() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let name = OsStr::new("a.lock");
        let first = FileLock::try_take(&folder, name).unwrap().expect("free");
        assert!(FileLock::try_take(&folder, name).unwrap().is_none());
        let error = FileLock::take(&folder, name, Duration::from_millis(3)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        FileLock::take(&folder, name, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_deleted_lock_file_is_locked_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        let name = OsStr::new("a.lock");
        let old = FileLock::try_take(&folder, name).unwrap().expect("free");
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let new = FileLock::try_take(&folder, name).unwrap().expect("a new file");
        assert_ne!(old.stat().unwrap().st_ino, new.stat().unwrap().st_ino);
    }
}
