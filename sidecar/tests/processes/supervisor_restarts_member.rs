//! The supervisor starts the member again when it died, and neither outlives the other.

use rustix::process::{Signal, kill_process};

use crate::support::{Sidecar, gone};

const LOCAL: &[&str] = &["caches.default.mode=local"];

#[test]
fn a_killed_member_is_replaced_and_serves_on_the_same_port() {
    let mut sidecar = Sidecar::start("serve", LOCAL);
    sidecar.ready();
    sidecar.entry("default", "k").put("v");
    let first = sidecar.member();
    kill_process(first, Signal::KILL).unwrap();
    // Connections wait in the queue that the supervisor keeps open: the very next one is served.
    assert_eq!(sidecar.entry("default", "k").get(), None, "a local cache starts empty");
    assert_ne!(sidecar.member(), first);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.ended().code(), Some(0));
    sidecar.quiet(&["the member died"]);
}

#[test]
fn a_member_ends_with_its_supervisor() {
    let mut sidecar = Sidecar::start("serve", LOCAL);
    sidecar.ready();
    let member = sidecar.member();
    sidecar.signal(Signal::KILL);
    sidecar.ended();
    gone(member);
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The registry's folder can't be made: the member never joins, and goes on trying.
    let registry = folder.path().join("file");
    std::fs::write(&registry, "in the way").unwrap();
    let path = format!("registry.path={}", registry.join("registry").display());
    let mut sidecar = Sidecar::start("serve", &["caches.sessions.mode=distributed", &path]);
    sidecar.logged("can't begin an incarnation");
    let member = sidecar.member();
    sidecar.signal(Signal::TERM);
    sidecar.logged("handing over");
    sidecar.signal(Signal::TERM);
    let code = sidecar.ended().code();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    gone(member);
}
