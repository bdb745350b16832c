//! The lock that an incarnation holds on its name for life.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::file_lock::FileLock;
use crate::folder::Folder;

/// The longest file name that common file systems take, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

/// An exclusive lock on a member's name, which the kernel gives back when the process ends, however it ends, and
/// which children don't inherit over `exec`.
///
/// While it is held, no other incarnation can hold a lock with the same [`NameLock::identity`]: so an incarnation
/// that holds it proves that the one which held it before has ended (P-1). Hold it as long as the process runs.
#[derive(Debug)]
pub struct NameLock {
    cluster: String,
    name: String,
    identity: String,
    path: PathBuf,
    lock: FileLock,
    /// Held too, on the file that is at the path now, after the first one was removed from there.
    again: Option<FileLock>,
}

/// What became of a lock's file.
#[derive(Debug)]
pub enum NameLockState {
    /// The path leads to what is locked.
    Kept,
    /// It did not; a new file there is locked now, so that the name stays taken.
    MadeAgain,
}

/// Why a name could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum NameLockError {
    /// Another process holds it: one of the same cluster and name runs on this machine.
    #[error("another process runs as {name} of cluster {cluster}: it holds {path}")]
    Held {
        /// The cluster.
        cluster: String,
        /// The name.
        name: String,
        /// The lock file.
        path: String,
    },
    /// Cluster or name can't be part of a file's name: empty, or too long.
    #[error("cluster {cluster:?} and name {name:?} make no usable file name: {fault}")]
    Name {
        /// The cluster.
        cluster: String,
        /// The name.
        name: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// The system says so.
    #[error("locking {path} failed: {source}")]
    Io {
        /// The lock file.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl NameLockError {
    /// A stable word, for metric labels and conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            NameLockError::Held { .. } => "name_held",
            NameLockError::Name { .. } => "name_unusable",
            NameLockError::Io { .. } => "name_lock_failed",
        }
    }

    /// Whether it may go away by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, NameLockError::Held { .. } | NameLockError::Io { .. })
    }
}

impl NameLock {
    /// Takes the lock `<dir>/<cluster>.<name>.lock` or says at once that it is held. Makes `dir` (mode 0700) if it is
    /// missing. Does a few file operations on the calling thread.
    ///
    /// # Errors
    /// [`NameLockError`].
    pub fn acquire(dir: &Path, cluster: &str, name: &str) -> Result<NameLock, NameLockError> {
        let file = file_name(cluster, name).map_err(|fault| NameLockError::Name {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            fault,
        })?;
        let failed = |source| NameLockError::Io { path: dir.join(&file).display().to_string(), source };
        let folder = Folder::make(dir).map_err(failed)?;
        let path = fs::canonicalize(dir).map_err(failed)?.join(&file);
        let Some(lock) = FileLock::try_take(&folder.handle, file.as_ref()).map_err(failed)? else {
            return Err(NameLockError::Held {
                cluster: cluster.to_owned(),
                name: name.to_owned(),
                path: path.display().to_string(),
            });
        };
        // Of the files that exist at one time on one running kernel, open ones included, no two share device and
        // inode number. Paths do: each container has its own.
        let stat = lock.stat().map_err(failed)?;
        let identity = format!("{}#{:x}:{}", path.display(), stat.st_dev, stat.st_ino);
        Ok(NameLock { cluster: cluster.to_owned(), name: name.to_owned(), identity, path, lock, again: None })
    }

    /// For `PlatformIdentity::Host`: on one boot of one machine, equal texts mean the same lock.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Looks whether the lock's path still leads to it, for the next comer locks what is there. If not, that is locked too;
    /// the identity stays that of the first file, which nobody else can ever lock. Does a few file operations on the
    /// calling thread.
    ///
    /// # Errors
    /// [`NameLockError::Held`] when another process has the name by now, [`NameLockError::Io`] when it can't be locked.
    pub fn tend(&mut self) -> Result<NameLockState, NameLockError> {
        let failed = |source| NameLockError::Io { path: self.path.display().to_string(), source };
        let at = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let there = match rustix::fs::lstat(&self.path) {
            Ok(stat) => Some(at(stat)),
            Err(rustix::io::Errno::NOENT) => None,
            Err(error) => return Err(failed(error.into())),
        };
        for held in self.again.iter().chain([&self.lock]) {
            if there == Some(at(held.stat().map_err(failed)?)) {
                return Ok(NameLockState::Kept);
            }
        }
        let (Some(dir), Some(file)) = (self.path.parent(), self.path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let folder = Folder::make(dir).map_err(failed)?;
        match FileLock::try_take(&folder.handle, file).map_err(failed)? {
            Some(lock) => {
                self.again = Some(lock);
                Ok(NameLockState::MadeAgain)
            }
            None => {
                let (cluster, name) = (self.cluster.clone(), self.name.clone());
                Err(NameLockError::Held { cluster, name, path: self.path.display().to_string() })
            }
        }
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// One file name for each pair of cluster and name: all but letters, digits, `-` and `_` is written as `%xx`, so that
/// no name leads out of the folder; dots stay in the name, where the first one can't be taken for another.
fn file_name(cluster: &str, name: &str) -> Result<String, &'static str> {
    if cluster.is_empty() || name.is_empty() {
        return Err("both must be given");
    }
    let mut file = String::new();
    escape(cluster, false, &mut file);
    file.push('.');
    escape(name, true, &mut file);
    file.push_str(".lock");
    if file.len() > MAX_FILE_NAME_BYTES { Err("they are too long") } else { Ok(file) }
}

fn escape(text: &str, keep_dots: bool, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && keep_dots) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-1: two incarnations with equal identity never hold their locks at one time.
    #[test]
    fn the_name_is_held_once_and_the_next_holder_has_the_same_identity() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = NameLock::acquire(&run, "web", "web-1").unwrap();
        let error = NameLock::acquire(&run, "web", "web-1").unwrap_err();
        assert!(matches!(error, NameLockError::Held { .. }), "{error}");
        assert!(error.to_string().contains("web.web-1.lock"));
        let other = NameLock::acquire(&run, "web", "web-2").unwrap();
        assert_ne!(first.identity(), other.identity());
        let identity = first.identity().to_owned();
        drop(first);
        assert_eq!(NameLock::acquire(&run, "web", "web-1").unwrap().identity(), identity);
    }

    /// P-1: whoever deletes the lock file lets a second holder in, which must then prove nothing.
    #[test]
    fn a_second_holder_beside_a_deleted_lock_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = NameLock::acquire(dir.path(), "web", "web-1").unwrap();
        fs::remove_file(first.path()).unwrap();
        let second = NameLock::acquire(dir.path(), "web", "web-1").unwrap();
        assert_ne!(first.identity(), second.identity());
    }

    #[test]
    fn a_lock_removed_from_its_path_is_taken_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let mut first = NameLock::acquire(&run, "web", "web-1").unwrap();
        let identity = first.identity().to_owned();
        assert!(matches!(first.tend(), Ok(NameLockState::Kept)));
        for round in 0..3 {
            if round == 1 {
                fs::remove_file(first.path()).unwrap();
            } else {
                fs::remove_dir_all(&run).unwrap();
            }
            assert!(matches!(first.tend(), Ok(NameLockState::MadeAgain)));
            assert!(matches!(first.tend(), Ok(NameLockState::Kept)));
            assert!(matches!(NameLock::acquire(&run, "web", "web-1"), Err(NameLockError::Held { .. })));
        }
        assert_eq!(first.identity(), identity);

        fs::remove_file(first.path()).unwrap();
        let second = NameLock::acquire(&run, "web", "web-1").unwrap();
        let error = first.tend().unwrap_err();
        assert!(matches!(error, NameLockError::Held { .. }) && error.to_string().contains("web-1"), "{error}");
        drop(second);
        assert!(matches!(first.tend(), Ok(NameLockState::MadeAgain)));
    }

    #[test]
    fn one_folder_by_two_paths_is_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let first = NameLock::acquire(&real, "web", "web-1").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(NameLock::acquire(&link, "web", "web-1"), Err(NameLockError::Held { .. })));
        let identity = first.identity().to_owned();
        drop(first);
        assert_eq!(NameLock::acquire(&link, "web", "web-1").unwrap().identity(), identity);
    }

    #[test]
    fn no_two_pairs_share_a_file_and_none_leads_out_of_the_folder() {
        assert_eq!(file_name("web", "web-1.example.org").unwrap(), "web.web-1.example.org.lock");
        assert_ne!(file_name("a.b", "c"), file_name("a", "b.c"));
        assert_ne!(file_name("a", "%2f"), file_name("a", "/"));
        assert!(!file_name("..", "../../x").unwrap().contains('/'));
        assert!(file_name("", "x").is_err() && file_name("x", "").is_err());
        assert!(file_name("x", &"y".repeat(300)).is_err());
    }
}
