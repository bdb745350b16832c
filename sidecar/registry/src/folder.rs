//! Files of one folder, changed so that a crash at any step leaves the old or the new one, whole.
//!
//! Everything goes through one open handle of the folder, so that a folder renamed in the middle can't split a change.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::file_lock::try_flock;

/// Ends the name of a draft, which starts with a dot and the name of the file that it is for.
const DRAFT_SUFFIX: &str = ".draft";
/// Names tried for a draft before giving up.
const DRAFT_TRIES: usize = 8;
/// Leftover drafts removed in one go.
const SWEPT_AT_ONCE: usize = 256;

/// Why a file could not be read.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// The system says so.
    Io(io::Error),
    /// It is not what it should be: no regular file, or too large.
    Content(String),
}

impl From<Errno> for ReadFault {
    fn from(error: Errno) -> ReadFault {
        ReadFault::Io(error.into())
    }
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) handle: OwnedFd,
}

impl Folder {
    /// Opens the folder; `None` if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Folder>> {
        match rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(handle) => Ok(Some(Folder { handle })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the folder; makes it, and what is missing above it, with mode 0700, to outlast a power cut.
    pub(crate) fn make(path: &Path) -> io::Result<Folder> {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        for folder in missing.into_iter().rev() {
            match fs::DirBuilder::new().mode(0o700).create(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            if let Some(above) = folder.parent() {
                File::open(above)?.sync_all()?;
            }
        }
        Folder::open(path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The whole content of the file `name` and its mode; `None` if there is none.
    pub(crate) fn read(&self, name: &OsStr, max_bytes: usize) -> Result<Option<(Vec<u8>, Mode)>, ReadFault> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            // A link would be replaced by a file, and who comes by the link takes another lock.
            Err(Errno::LOOP) => return Err(ReadFault::Content("it is a symbolic link; name its target".into())),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadFault::Content("it is not a regular file".into()));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(ReadFault::Io)?;
        if bytes.len() > max_bytes {
            return Err(ReadFault::Content(format!("it has more than {max_bytes} bytes")));
        }
        Ok(Some((bytes, Mode::from_raw_mode(stat.st_mode))))
    }

    /// Whether there is anything of that name; what can't be told counts as there.
    pub(crate) fn has(&self, name: &OsStr) -> bool {
        rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).err() != Some(Errno::NOENT)
    }

    /// Writes a draft of the file `name` (mode 0600) to disk, beside it.
    pub(crate) fn draft(&self, name: &OsStr, bytes: &[u8]) -> io::Result<Draft<'_>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        for _ in 0..DRAFT_TRIES {
            let draft_name = draft_name(name);
            let file = match rustix::fs::openat(&self.handle, &draft_name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut draft = Draft { folder: self, name: draft_name, file };
            // Locked as long as its writer lives, which tells it from a leftover. A sweeper that was faster has
            // taken the name away.
            if !try_flock(&draft.file)? || rustix::fs::fstat(&draft.file)?.st_nlink == 0 {
                continue;
            }
            draft.file.write_all(bytes)?;
            draft.file.sync_all()?;
            return Ok(draft);
        }
        Err(io::Error::other("no draft could be kept"))
    }

    /// Makes all changes of names last over a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }

    /// Removes drafts of the file `name` whose writers have ended.
    pub(crate) fn sweep(&self, name: &OsStr) -> io::Result<usize> {
        let mut leftovers = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let found = entry.file_name().to_bytes();
            if is_draft_of(name, found) {
                leftovers.push(OsStr::from_bytes(found).to_owned());
            }
            if leftovers.len() == SWEPT_AT_ONCE {
                break;
            }
        }
        let mut swept = 0;
        for leftover in leftovers {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = match rustix::fs::openat(&self.handle, &leftover, flags, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if !try_flock(&file)? {
                continue;
            }
            match rustix::fs::unlinkat(&self.handle, &leftover, AtFlags::empty()) {
                Ok(()) => swept += 1,
                // Its writer has ended in order just now, or another sweeper was faster.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(swept)
    }
}

/// A file on disk that is not yet what it is for; removed when dropped.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    folder: &'a Folder,
    name: OsString,
    file: File,
}

impl Draft<'_> {
    /// Makes it the file `name` if there is none; `false` if there is one.
    pub(crate) fn publish(&self, name: &OsStr) -> io::Result<bool> {
        let folder = &self.folder.handle;
        match rustix::fs::linkat(folder, &self.name, folder, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes it the file `name` in place of the one there; `false` if there is none.
    pub(crate) fn replace(&self, name: &OsStr) -> io::Result<bool> {
        let folder = &self.folder.handle;
        // An exchange, unlike a plain rename, can't bring back a file that was taken away a moment ago.
        let exchanged = rustix::fs::renameat_with(folder, &self.name, folder, name, RenameFlags::EXCHANGE);
        let outcome = match exchanged {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::renameat(folder, &self.name, folder, name)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // A name that stays is swept by whoever comes next.
        let _gone = rustix::fs::unlinkat(&self.folder.handle, &self.name, AtFlags::empty());
    }
}

fn draft_name(name: &OsStr) -> OsString {
    // Random, not by process id: two containers on one volume may have the same one.
    let random = RandomState::new().build_hasher().finish();
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(format!(".{random:016x}{DRAFT_SUFFIX}"));
    draft
}

fn is_draft_of(name: &OsStr, found: &[u8]) -> bool {
    found
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(name.as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(DRAFT_SUFFIX.as_bytes()))
        .is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_draft_becomes_the_file_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap().unwrap();
        let name = OsStr::new("doc");
        assert!(!folder.draft(name, b"0").unwrap().replace(name).unwrap(), "nothing to replace");
        assert!(folder.draft(name, b"1").unwrap().publish(name).unwrap());
        assert!(!folder.draft(name, b"2").unwrap().publish(name).unwrap());
        assert_eq!(fs::read(dir.path().join("doc")).unwrap(), b"1");
        assert!(folder.draft(name, b"3").unwrap().replace(name).unwrap());
        drop(folder.draft(name, b"4").unwrap());
        assert_eq!(fs::read(dir.path().join("doc")).unwrap(), b"3");
        assert_eq!(names(dir.path()), ["doc"]);
        let mode = fs::metadata(dir.path().join("doc")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_drafts_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap().unwrap();
        let name = OsStr::new("doc");
        for other in [".doc.0123456789abcdef.draft", ".doc.x.draft", ".other.0123456789abcdef.draft", "doc"] {
            fs::write(dir.path().join(other), b"half").unwrap();
        }
        let alive = folder.draft(name, b"1").unwrap();
        assert_eq!(folder.sweep(name).unwrap(), 1);
        assert!(alive.replace(name).unwrap(), "a live draft is kept");
        drop(alive);
        assert_eq!(names(dir.path()), [".doc.x.draft", ".other.0123456789abcdef.draft", "doc"]);
    }

    #[test]
    fn writers_and_sweepers_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let name = OsStr::new("doc");
        let open = || Folder::open(dir.path()).unwrap().unwrap();
        assert!(open().draft(name, b"0").unwrap().publish(name).unwrap());
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..200 {
                        assert!(open().draft(name, b"1").unwrap().replace(name).unwrap());
                        open().sweep(name).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(dir.path()), ["doc"]);
    }

    #[test]
    fn a_folder_and_what_is_above_it_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert!(Folder::open(&path).unwrap().is_none());
        Folder::make(&path).unwrap();
        Folder::make(&path).unwrap();
        for made in [dir.path().join("a"), path] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
