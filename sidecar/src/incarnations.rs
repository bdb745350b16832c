//! The order of a pod's incarnations over the restarts of its container.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Numbers incarnations by the calendar, in nanoseconds since 1970, but never back: the last number is kept in a file.
///
/// The platform dates the end of a container by the same machine's calendar, and an incarnation with a number before that
/// end is taken to have begun before it. If the calendar was set back since the last incarnation began, that one's end may
/// be dated later than this one's beginning. So a number is never less than the last one and the time that the boot clock
/// says has passed since: a calendar that was set back makes numbers larger than the truth, which proves less. (Not seen:
/// a calendar that was set forward and back again within one incarnation.)
#[derive(Debug)]
pub(crate) struct Incarnations {
    path: PathBuf,
}

impl Incarnations {
    /// Those of the member `name` of `cluster`, whose folder must be there.
    pub(crate) fn of(folder: &Path, cluster: &str, name: &str) -> Incarnations {
        Incarnations { path: folder.join(format!("{cluster}.{name}.incarnation")) }
    }

    /// The number of an incarnation that begins when the calendar says `calendar` and the boot clock says `uptime`, both in
    /// nanoseconds. It is on disk when this returns. Blocks for a few file operations.
    ///
    /// # Errors
    /// When the file can't be read or written, or holds no number.
    pub(crate) fn next(&self, calendar: u64, uptime: u64) -> io::Result<u64> {
        let (last, then) = self.last()?;
        // Less than then: the machine was started anew, and says nothing of the time between.
        let passed = uptime.saturating_sub(then).max(1);
        let next = calendar.max(last.saturating_add(passed));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(draft, "{next} {uptime}")?;
        draft.as_file().sync_all()?;
        draft.persist(&self.path).map_err(|error| error.error)?;
        Ok(next)
    }

    /// The last number, and what the boot clock said then.
    fn last(&self) -> io::Result<(u64, u64)> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            // Nothing has passed since what never was.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, u64::MAX)),
            Err(error) => return Err(error),
        };
        let numbers =
            text.trim().split_once(' ').and_then(|(last, then)| Some((last.parse().ok()?, then.parse().ok()?)));
        numbers.ok_or_else(|| {
            let fault = format!("{} holds no number; remove it", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, fault)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_calendar_and_never_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let incarnations = || Incarnations::of(folder.path(), "web", "web-1");
        assert_eq!(incarnations().next(1_000, 10).unwrap(), 1_000);
        assert_eq!(incarnations().next(2_000, 1_010).unwrap(), 2_000);
        // The last one ended at 2_600 at the latest, by the calendar as it was.
        assert_eq!(incarnations().next(500, 1_610).unwrap(), 2_600, "the calendar was set back");
        assert_eq!(incarnations().next(500, 5).unwrap(), 2_601, "and the machine started anew");
        assert_eq!(Incarnations::of(folder.path(), "web", "web-2").next(500, 1_700).unwrap(), 500);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "no draft is left: {names:?}");
        fs::write(folder.path().join("web.web-1.incarnation"), "x").unwrap();
        assert_eq!(incarnations().next(3_000, 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
