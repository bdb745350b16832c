//! Which machine this is, and which boot of it.

use std::fs;
use std::io;
use std::path::Path;

const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's id of this boot: the same in all containers on it, and never seen again.
///
/// # Errors
/// What the system says, or [`io::ErrorKind::InvalidData`] if the id has not its form.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string(BOOT_ID_FILE)?;
    id_in(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{BOOT_ID_FILE} holds no id")))
}

/// The machine's id, from `/etc/machine-id` or else D-Bus's copy; where there is none, the boot's own id.
///
/// With the boot's id, a later boot counts as another machine: it then proves nothing of incarnations before it (P-1),
/// which is the safe side. An id kept in a file of ours would not be: a folder that moves between machines would
/// take it along and make two machines look like two boots of one.
///
/// # Errors
/// Those of [`boot_id`], when it is needed.
pub fn machine_id() -> io::Result<String> {
    machine_id_in(&MACHINE_ID_FILES.map(Path::new))
}

fn machine_id_in(files: &[&Path]) -> io::Result<String> {
    match files.iter().find_map(|file| id_in(&fs::read_to_string(file).ok()?)) {
        Some(id) => Ok(id),
        None => boot_id(),
    }
}

/// The id in a file's text: 128 bits in hex, with or without dashes, not all zero. systemd writes the word
/// `uninitialized` where the id is still to be made.
fn id_in(text: &str) -> Option<String> {
    let id: String = text.trim().chars().filter(|&c| c != '-').collect();
    let number = u128::from_str_radix(&id, 16).ok()?;
    (id.len() == 32 && number != 0).then(|| id.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_with_an_id_decides() {
        let dir = tempfile::tempdir().unwrap();
        let [missing, unmade, second] = ["missing", "unmade", "second"].map(|name| dir.path().join(name));
        fs::write(&unmade, "uninitialized\n").unwrap();
        fs::write(&second, "0123456789ABCDEF0123456789abcdef\n").unwrap();
        let id = machine_id_in(&[&missing, &unmade, &second]).unwrap();
        assert_eq!(id, "0123456789abcdef0123456789abcdef");
        assert_eq!(machine_id_in(&[&missing, &unmade]).unwrap(), boot_id().unwrap());
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one() {
        for text in
            ["", "0", "00000000000000000000000000000000", "0123456789abcdef0123456789abcdeg", "+123456789abcdef"]
        {
            assert_eq!(id_in(text), None, "{text}");
        }
        assert_eq!(boot_id().unwrap().len(), 32);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
