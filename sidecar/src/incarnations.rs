//! The order of a pod's incarnations over the restarts of its container.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Numbers incarnations by the calendar, in nanoseconds since 1970, but never back: the last number is kept in a file.
///
/// The platform dates the end of a container by the same machine's calendar. An incarnation with a number before that end
/// began before it; a calendar that was set back only makes numbers larger than the truth, and so proves less.
#[derive(Debug)]
pub(crate) struct Incarnations {
    path: PathBuf,
}

impl Incarnations {
    /// Those of the member `name` of `cluster`, whose folder must be there.
    pub(crate) fn of(folder: &Path, cluster: &str, name: &str) -> Incarnations {
        Incarnations { path: folder.join(format!("{cluster}.{name}.incarnation")) }
    }

    /// The number of an incarnation that begins when the calendar says `calendar`. It is on disk when this returns.
    /// Blocks for a few file operations.
    ///
    /// # Errors
    /// When the file can't be read or written, or holds no number.
    pub(crate) fn next(&self, calendar: u64) -> io::Result<u64> {
        let last = self.last()?;
        let next = calendar.max(last.saturating_add(1));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(draft, "{next}")?;
        draft.as_file().sync_all()?;
        draft.persist(&self.path).map_err(|error| error.error)?;
        Ok(next)
    }

    fn last(&self) -> io::Result<u64> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let invalid = |_| {
            let fault = format!("{} holds no number; remove it", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, fault)
        };
        text.trim().parse().map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_calendar_and_never_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let incarnations = || Incarnations::of(folder.path(), "web", "web-1");
        assert_eq!(incarnations().next(1_000).unwrap(), 1_000);
        assert_eq!(incarnations().next(2_000).unwrap(), 2_000);
        assert_eq!(incarnations().next(500).unwrap(), 2_001, "the calendar was set back");
        assert_eq!(Incarnations::of(folder.path(), "web", "web-2").next(500).unwrap(), 500);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "no draft is left: {names:?}");
        fs::write(folder.path().join("web.web-1.incarnation"), "x").unwrap();
        assert_eq!(incarnations().next(3_000).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
