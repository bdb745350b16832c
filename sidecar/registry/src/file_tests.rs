//! What is particular to the kind `file`; what every kind must do is in `tests/conformance`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use sidegrid_core::ClusterUid;
use sidegrid_core::document::FORMAT;
use tempfile::TempDir;

use super::*;
use crate::codec::tests::document;

struct Place {
    dir: TempDir,
    files: Files,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(&dir.path().join("state/registry"), Duration::from_millis(5)).unwrap();
    Place { dir, files }
}

impl Place {
    fn created() -> Place {
        let place = place();
        assert_eq!(place.files.create(&document()).unwrap(), Swap::Done);
        place
    }

    fn names(&self) -> Vec<String> {
        let folder = self.dir.path().join("state");
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn swap(&self) -> Result<Swap, RegistryError> {
        self.files.swap(&document().expected(), &next())
    }
}

fn next() -> Document {
    Document { revision: 2, ..document() }
}

#[test]
fn reading_and_swapping_make_nothing() {
    let place = place();
    assert_eq!(place.files.read().unwrap(), None);
    assert!(place.files.authority().unwrap().is_none());
    assert_eq!(place.swap().unwrap(), Swap::Conflict(None));
    assert!(!place.dir.path().join("state").exists());
}

#[test]
fn all_is_for_the_owner_alone() {
    let place = Place::created();
    place.files.create_authority(Secret::new(b"key".to_vec())).unwrap();
    assert!(place.swap().unwrap().is_done());
    assert_eq!(place.names(), ["registry", "registry.authority", "registry.created", "registry.lock"]);
    for name in place.names() {
        let mode = fs::metadata(place.dir.path().join("state").join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(place.dir.path().join("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Each file that a crash can leave, at each step of a change.
#[test]
fn what_a_crash_leaves_is_ignored_and_cleaned() {
    let place = Place::created();
    let folder = place.dir.path().join("state");
    let whole = codec::encode(&next()).unwrap();
    let old = codec::encode(&document()).unwrap();
    for (draft, content) in [
        (".registry.0000000000000001.draft", &b""[..]),
        (".registry.0000000000000002.draft", &whole[..whole.len() / 2]),
        (".registry.0000000000000003.draft", &whole[..]),
        (".registry.0000000000000004.draft", &old[..]),
        (".registry.authority.0000000000000005.draft", b"half a k"),
    ] {
        fs::write(folder.join(draft), content).unwrap();
    }
    let restarted = Files::new(&place.files.path, LOCK_WAIT).unwrap();
    assert_eq!(restarted.read().unwrap(), Some(document()));
    assert!(restarted.authority().unwrap().is_none());
    assert!(restarted.swap(&document().expected(), &next()).unwrap().is_done());
    assert_eq!(restarted.read().unwrap(), Some(next()));
    assert_eq!(place.names(), ["registry", "registry.created", "registry.lock"]);
}

#[test]
fn what_cannot_be_understood_is_named_and_never_overwritten() {
    let newer = format!("{{\"format\":{}}}", FORMAT + 1);
    for (content, reason) in
        [("", "corrupt"), ("{\"format\":1,", "corrupt"), ("{}", "corrupt"), (newer.as_str(), "format")]
    {
        let place = Place::created();
        fs::write(&place.files.path, content).unwrap();
        for error in
            [place.files.read().unwrap_err(), place.swap().unwrap_err(), place.files.create(&document()).unwrap_err()]
        {
            assert_eq!(error.reason(), reason, "{content}: {error}");
            assert!(error.to_string().contains("state/registry"), "{error}");
            assert!(!error.is_retryable());
        }
        assert_eq!(fs::read_to_string(&place.files.path).unwrap(), content);
    }
}

#[test]
fn neither_a_link_nor_a_folder_is_a_document() {
    let place = Place::created();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::rename(&place.files.path, &elsewhere).unwrap();
    symlink(&elsewhere, &place.files.path).unwrap();
    assert!(place.swap().unwrap_err().to_string().contains("symbolic link"));
    fs::remove_file(&place.files.path).unwrap();
    fs::create_dir(&place.files.path).unwrap();
    assert_eq!(place.files.read().unwrap_err().reason(), "corrupt");
    assert_eq!(place.files.create(&document()).unwrap_err().reason(), "corrupt");
}

#[test]
fn a_document_taken_away_is_not_brought_back() {
    let place = Place::created();
    let away = place.dir.path().join("away");
    fs::rename(&place.files.path, &away).unwrap();
    assert_eq!(place.files.read().unwrap(), None);
    assert_eq!(place.swap().unwrap(), Swap::Conflict(None));
    assert!(!place.files.path.exists());
    fs::rename(&away, &place.files.path).unwrap();
    assert!(place.swap().unwrap().is_done());
    fs::rename(place.dir.path().join("state"), place.dir.path().join("gone")).unwrap();
    assert_eq!(place.files.read().unwrap(), None);
    assert_eq!(place.swap().unwrap(), Swap::Conflict(None));
    assert!(!place.dir.path().join("state").exists());
}

#[test]
fn a_held_lock_ends_the_wait_and_changes_nothing_but_does_not_stop_readers() {
    let place = Place::created();
    let folder = Folder::open(&place.files.folder).unwrap().unwrap();
    let held = FileLock::try_take(&folder.handle, &place.files.lock).unwrap().expect("free");
    let error = place.swap().unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("unavailable", true));
    assert_eq!(place.files.read().unwrap(), Some(document()));
    assert_eq!(place.names(), ["registry", "registry.created", "registry.lock"]);
    drop(held);
    assert!(place.swap().unwrap().is_done());
}

#[test]
fn an_empty_or_immense_secret_is_refused_and_a_truncated_one_reported() {
    let place = Place::created();
    fs::write(place.dir.path().join("state/registry.authority"), b"").unwrap();
    for error in
        [place.files.authority().unwrap_err(), place.files.create_authority(Secret::new(b"key".to_vec())).unwrap_err()]
    {
        assert_eq!(error.reason(), "corrupt");
        assert!(error.to_string().contains("registry.authority"), "{error}");
    }
}

#[tokio::test]
async fn what_can_never_be_stored_is_refused() {
    let place = Place::created();
    let registry = FileRegistry::new(&place.files.path).unwrap();
    for secret in [Vec::new(), vec![1; MAX_SECRET_BYTES + 1]] {
        assert_eq!(registry.create_authority(Secret::new(secret)).await.unwrap_err().reason(), "invalid");
    }
    let bad = Document { cluster: ClusterUid(9), ..next() };
    assert_eq!(registry.swap(document().expected(), bad).await.unwrap_err().reason(), "invalid");
    assert!(FileRegistry::new("/").is_err());
}

/// B-1
#[tokio::test]
async fn calls_beyond_the_bound_are_refused() {
    let place = Place::created();
    let registry = FileRegistry::new(&place.files.path).unwrap();
    let all = Arc::clone(&registry.calls).try_acquire_many_owned(u32::try_from(CALLS_AT_ONCE).unwrap()).unwrap();
    let error = registry.read().await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("unavailable", true));
    drop(all);
    assert_eq!(registry.read().await.unwrap(), Some(document()));
}

/// A running member takes the place of the folder's memory: who starts meanwhile finds a cluster that lost its document.
#[test]
fn files_removed_under_a_running_member_make_no_second_cluster() {
    for everything in [true, false] {
        let place = place();
        place.files.create_authority(Secret::new(b"key".to_vec())).unwrap();
        place.files.create(&document()).unwrap();
        let folder = place.dir.path().join("state");
        if everything {
            fs::remove_dir_all(&folder).unwrap();
        } else {
            for name in ["registry", "registry.created"] {
                fs::remove_file(folder.join(name)).unwrap();
            }
        }
        place.files.tend().unwrap();
        let newcomer = Files::new(&place.files.path, LOCK_WAIT).unwrap();
        assert_eq!(newcomer.read().unwrap(), None);
        let error = newcomer.create(&document()).unwrap_err();
        assert_eq!(error.reason(), "corrupt", "{error}");
        assert_eq!(newcomer.create_authority(Secret::new(b"new".to_vec())).unwrap().expose(), b"key");
        fs::remove_file(folder.join("registry.authority")).unwrap();
        let error = newcomer.create_authority(Secret::new(b"new".to_vec())).unwrap_err();
        assert!(error.to_string().contains("registry.created"), "{error}");
        place.files.tend().unwrap();
        assert_eq!(newcomer.authority().unwrap().unwrap().expose(), b"key");
    }
}

#[test]
fn what_has_seen_no_document_tends_nothing() {
    let place = place();
    place.files.tend().unwrap();
    assert!(!place.dir.path().join("state").exists());
    let created = Place::created();
    let other = Files::new(&created.files.path, LOCK_WAIT).unwrap();
    fs::remove_file(created.dir.path().join("state/registry.created")).unwrap();
    other.tend().unwrap();
    assert_eq!(created.names(), ["registry", "registry.lock"], "it has not looked yet");
    other.read().unwrap();
    other.tend().unwrap();
    assert_eq!(created.names(), ["registry", "registry.created", "registry.lock"]);
}
