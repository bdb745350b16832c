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
