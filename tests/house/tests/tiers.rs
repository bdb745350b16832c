//! `tests/tiers.sh` counts rightly, goes on after a failure, and says so in its exit code: CI rests on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sidegrid_house::repository::root;

/// Stands in for `make`: each tier ends in its own way.
const MAKE: &str = r#"#!/bin/sh
case $1 in
  test-rust) echo "test result: ok. 41 passed; 0 failed; 1 ignored"; echo "test result: ok. 1 passed; 0 failed" ;;
  test-go) echo "--- PASS: TestA (0.00s)"; echo "    --- PASS: TestA/part (0.00s)"; echo "ok  a" ;;
  test-plain) echo "bans ok" ;;
  test-red) echo "test result: FAILED. 2 passed; 3 failed"; exit 1 ;;
  test-broken) echo "error: does not compile"; exit 2 ;;
  test-hung) exec sleep 60 ;;
esac
"#;

struct Run {
    lines: Vec<String>,
    succeeded: bool,
}

fn run(name: &str, tiers: &[&str]) -> Run {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let make = folder.join("make");
    fs::write(&make, MAKE).expect("the stand-in");
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).expect("its mode");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(root().join("tests/tiers.sh"))
        .args(tiers)
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", &folder)
        .env("SIDEGRID_TIER_LIMIT", "2")
        .output()
        .expect("the script runs");
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    Run { lines, succeeded: output.status.success() }
}

#[test]
fn counts_are_added_up() {
    let run = run("good", &["rust", "go", "plain"]);
    assert_eq!(run.lines.last().map(String::as_str), Some("44 passed, 0 failed"), "{:#?}", run.lines);
    assert!(run.succeeded);
}

#[test]
fn a_failure_hides_nothing_and_is_told() {
    let run = run("bad", &["red", "broken", "go"]);
    assert_eq!(run.lines.last().map(String::as_str), Some("3 passed, 4 failed"), "{:#?}", run.lines);
    assert!(!run.succeeded);
    assert!(run.lines.iter().any(|line| line.contains("error: does not compile")), "the log's end is shown");
}

#[test]
fn a_tier_that_hangs_is_ended() {
    let run = run("hung", &["hung", "plain"]);
    assert_eq!(run.lines.last().map(String::as_str), Some("1 passed, 1 failed"), "{:#?}", run.lines);
    assert!(!run.succeeded);
}
