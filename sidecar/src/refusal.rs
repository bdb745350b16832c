//! When this pod can't be admitted: how often that is logged, and when it is taken to be for good.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sidegrid_core::Time;

/// The exit code of a member that was refused for good (`EX_NOPERM`): the supervisor ends with it, so that the container's
/// state shows why.
pub(crate) const EXIT_REFUSED: u8 = 77;
/// A refusal that can't pass by itself is waited out this long, should what it rests on only just be changing.
const FOR_GOOD: Duration = Duration::from_secs(10);
/// Where the kubelet reads what a container said at its end.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// And how much of it.
const TERMINATION_BYTES: usize = 4_096;
/// The same line is logged again after this, and then ever more rarely.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// Tries that failed, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// What was logged last, when it is due again, and how long after that.
    logged: Option<(String, Time, Duration)>,
    refused_since: Option<Time>,
}

impl Failures {
    /// A try succeeded.
    pub(crate) fn over(&mut self) {
        *self = Failures::default();
    }

    /// Whether a failure is to be logged now: when it is another than before, and now and then while it lasts.
    pub(crate) fn is_news(&mut self, says: &str, now: Time) -> bool {
        let wait = match &self.logged {
            Some((before, due, _)) if before == says && now < *due => return false,
            Some((before, _, wait)) if before == says => (*wait * 2).min(AGAIN_MAX),
            _ => AGAIN_FIRST,
        };
        self.logged = Some((says.to_owned(), now + wait, wait));
        true
    }

    /// Takes note of a failure that may pass by itself, or that may not. True once the latter has lasted.
    pub(crate) fn is_for_good(&mut self, may_pass: bool, now: Time) -> bool {
        if may_pass {
            self.refused_since = None;
            return false;
        }
        now.since(*self.refused_since.get_or_insert(now)) >= FOR_GOOD
    }
}

/// Leaves a message where the platform shows it as the container's last one. Where there is no such place, the log has it.
pub(crate) fn leave_message(message: &str) {
    leave_message_at(Path::new(TERMINATION_LOG), message);
}

fn leave_message_at(path: &Path, message: &str) {
    let end = message.floor_char_boundary(TERMINATION_BYTES);
    // Never created: outside of a container it would be a stray file.
    let written = OpenOptions::new().write(true).truncate(true).open(path);
    if let Err(error) = written.and_then(|mut file| file.write_all(&message.as_bytes()[..end])) {
        tracing::debug!("{}: the last message can't be left: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Time {
        Time::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn a_failure_that_lasts_is_logged_ever_more_rarely_and_another_at_once() {
        let mut failures = Failures::default();
        let logged = (0..3_600).filter(|s| failures.is_news("no label", second(*s))).count();
        assert!((5..=20).contains(&logged), "{logged} lines in an hour");
        assert!(failures.is_news("no operator", second(3_600)));
        assert!(!failures.is_news("no operator", second(3_601)));
        failures.over();
        assert!(failures.is_news("no operator", second(3_602)));
    }

    #[test]
    fn only_a_refusal_that_lasts_is_for_good() {
        let mut failures = Failures::default();
        assert!(!failures.is_for_good(false, second(1)));
        assert!(!failures.is_for_good(false, second(5)));
        assert!(!failures.is_for_good(true, second(6)), "the operator was away meanwhile");
        assert!(!failures.is_for_good(false, second(12)));
        assert!(failures.is_for_good(false, second(22)));
    }

    #[test]
    fn the_last_message_is_left_whole_characters_only_and_makes_no_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        leave_message_at(file.path(), "an older and longer message than this");
        leave_message_at(file.path(), "refused: no label");
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "refused: no label");
        leave_message_at(file.path(), &"ü".repeat(TERMINATION_BYTES));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap().len(), TERMINATION_BYTES);
        let nowhere = file.path().with_extension("none");
        leave_message_at(&nowhere, "x");
        assert!(!nowhere.exists());
    }
}
