//! `sidegrid dev`: caches work at once.

use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::support::{Sidecar, exchange, request};

#[test]
fn what_is_put_is_got_back_and_the_end_is_orderly() {
    let mut dev = Sidecar::start("dev", &[]);
    dev.ready();
    let entry = dev.entry("default", "hello");
    assert_eq!(entry.get(), None);
    entry.put("world");
    assert_eq!(entry.get().as_deref(), Some("world"));
    let socket = UnixStream::connect(dev.socket()).unwrap();
    let answer = exchange(socket, "GET", "/v1/caches/default/entries/hello", b"").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"world"[..]));
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().code(), Some(0));
    dev.quiet(&[]);
}

#[test]
fn it_prints_commands_that_work() {
    let dev = Sidecar::start("dev", &[]);
    dev.ready();
    let greeting = dev.output();
    let commands: Vec<&str> = greeting.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(commands.len(), 3, "{greeting}");
    for command in commands {
        assert!(command.contains(&format!("http://{}", dev.http)), "{command}");
    }
}

/// Also with a clustered cache, which takes a moment.
#[test]
fn it_says_when_it_is_ready_by_a_line_and_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready");
    std::fs::write(&file, "of an earlier run").unwrap();
    let mut dev = Sidecar::start_with("dev", &["caches.sessions.mode=distributed"], |program| {
        program.arg("--ready-file").arg(&file);
    });
    let url = dev.expect("the file", || std::fs::read_to_string(&file).ok().filter(|text| text.starts_with("http")));
    assert_eq!(url, format!("http://{}\n", dev.http));
    // No retry is needed any more.
    let put = request(dev.http, "PUT", "/v1/caches/sessions/entries/s1", b"alice").unwrap();
    assert_eq!(put.status, 201);
    dev.expect("the line", || dev.output().lines().any(|line| line == "sidegrid dev: ready").then_some(()));
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended().code(), Some(0));
    assert!(!file.exists());
}

#[test]
fn a_clustered_cache_works_in_a_cluster_of_one() {
    let mut dev = Sidecar::start("dev", &["caches.sessions.mode=distributed"]);
    dev.ready();
    let entry = dev.entry("sessions", "s1");
    entry.put("alice");
    assert_eq!(entry.get().as_deref(), Some("alice"));
    let listed = request(dev.http, "GET", "/v1/caches", b"").unwrap();
    assert!(String::from_utf8(listed.body).unwrap().contains("sessions"));
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().code(), Some(0));
    dev.quiet(&[]);
}
