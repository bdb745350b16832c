//! Whether anybody reads the log is no condition of service: neither member nor supervisor waits for a reader or ends
//! with it.

use std::fs::OpenOptions;
use std::io::{PipeWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Signal, kill_process};

use crate::support::{Sidecar, program, request};

const LOCAL: &[&str] = &["caches.default.mode=local", "log.level=trace"];

/// Kills the member often enough that the supervisor's lines alone would fill the smallest pipe, were it not read.
fn serves_on(sidecar: &mut Sidecar) {
    sidecar.ready();
    for round in 0..3 {
        let member = sidecar.member();
        kill_process(member, Signal::KILL).unwrap();
        sidecar.expect("another member", || (sidecar.member() != member).then_some(()));
        sidecar.ready();
        sidecar.entry("default", "k").put(&round.to_string());
    }
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.ended().code(), Some(0));
}

#[test]
fn a_reader_that_has_gone_ends_nobody() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    serves_on(&mut Sidecar::start_with("serve", LOCAL, |program| {
        program.stderr(writer);
    }));
}

#[test]
fn a_full_disk_ends_nobody() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    serves_on(&mut Sidecar::start_with("serve", LOCAL, |program| {
        program.stderr(full);
    }));
}

/// Writes to a pipe until it takes nothing more.
fn fill(mut pipe: &PipeWriter) {
    let flags = fcntl_getfl(pipe).unwrap();
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).unwrap();
    while pipe.write(b"\n").is_ok() {}
    fcntl_setfl(pipe, flags).unwrap();
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    fill(&writer);
    let mut sidecar = Sidecar::start_with("serve", LOCAL, |program| {
        program.stderr(writer);
    });
    serves_on(&mut sidecar);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert_eq!(log.trim(), "", "nothing could be written before the end");
}

#[test]
fn a_command_line_that_means_nothing_has_its_code_without_a_reader() {
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    for arguments in [&["sevre"][..], &["serve", "--set", "http.lisen=1"], &["drain", "--set", "member.stateDir=/none"]]
    {
        let code = |stderr: Stdio| {
            let mut program: Command = program();
            program.args(arguments).stderr(stderr).status().unwrap().code()
        };
        let expected = if arguments[0] == "drain" { 69 } else { 64 };
        assert_eq!((code(gone()), code(full())), (Some(expected), Some(expected)), "{arguments:?}");
    }
}

/// The count is in the metrics, too.
#[test]
fn lost_lines_are_counted() {
    let full = OpenOptions::new().write(true).open(Path::new("/dev/full")).unwrap();
    let set = |program: &mut Command| {
        program.stderr(full);
    };
    let sidecar = Sidecar::start_with("dev", LOCAL, set);
    sidecar.ready();
    sidecar.expect("lost lines in the metrics", || {
        let metrics = request(sidecar.admin, "GET", "/metrics", b"")?.body;
        let metrics = String::from_utf8(metrics).ok()?;
        let lost = metrics.lines().find_map(|line| line.strip_prefix("sidegrid_log_lost_lines_total "))?.to_owned();
        (lost.parse::<u64>().ok()? > 0).then_some(())
    });
}
