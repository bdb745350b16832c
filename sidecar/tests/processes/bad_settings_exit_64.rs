//! Bad settings and a bad command line end the start with code 64 and every fault listed.

use crate::support::program;

#[test]
fn every_fault_is_listed_with_its_path_and_its_remedy() {
    let sets = ["--set", "caches.sessions.owners=0", "--set", "http.lisen=127.0.0.1:7081"];
    for command in ["serve", "dev", "drain"] {
        let output = program().arg(command).args(sets).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{told}");
        assert!(told.contains("2 errors"), "{told}");
        assert!(told.contains("caches.sessions.owners: 0 is out of range; give 1 to "), "{told}");
        assert!(told.contains("http.lisen: "), "{told}");
    }
}

#[test]
fn a_command_line_that_means_nothing_is_refused_with_the_same_code() {
    for arguments in [&["sevre"][..], &["serve", "--nonsense"], &["drain", "--timeout", "30"], &[]] {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_no_faults() {
    for arguments in [&["--help"][..], &["version"], &["serve", "--help"]] {
        let output = program().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("sidegrid"), "{told}");
        assert!(!told.contains("member-of"), "{told}");
    }
}

#[test]
fn without_a_member_there_is_nothing_to_drain() {
    let folder = tempfile::tempdir().unwrap();
    let state = format!("member.stateDir={}", folder.path().display());
    let output = program().args(["drain", "--set", &state]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    // A control socket that is not there says nothing about the process.
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("can't tell whether a member runs here") && told.contains("SIGTERM"), "{told}");
}
