//! The supervisor starts the member again when it died, and neither outlives the other.

use rustix::process::{Signal, kill_process};

use crate::support::{Sidecar, cluster, gone};

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

/// A member that could not join in time has nothing to hand over.
#[test]
fn without_a_registry_the_end_is_orderly_too() {
    let folder = tempfile::tempdir().unwrap();
    // The registry's folder can't be made: the member never joins, and goes on trying.
    let registry = folder.path().join("file");
    std::fs::write(&registry, "in the way").unwrap();
    let path = format!("registry.path={}", registry.join("registry").display());
    let mut sidecar = Sidecar::start("serve", &["caches.sessions.mode=distributed", &path]);
    sidecar.logged("can't begin an incarnation");
    let member = sidecar.member();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.ended().code(), Some(0), "{}", sidecar.log());
    gone(member);
    sidecar.quiet(&["can't begin an incarnation"]);
}

/// L-1, P-1: a member that was paused for longer than its lease is put out, and comes back by itself.
#[test]
fn a_paused_member_begins_again_in_the_same_process() {
    let folder = tempfile::tempdir().unwrap();
    let caches = ["caches.sessions.mode=distributed"];
    let members = cluster(folder.path(), &["a", "b", "c"], &caches, 2);
    members[0].entry("sessions", "k").put("v");
    let process = members[1].member();
    kill_process(process, Signal::STOP).unwrap();
    members[0].logged("left b");
    kill_process(process, Signal::CONT).unwrap();
    members[1].logged("this incarnation is superseded");
    members[1].logged("after this incarnation began");
    members[1].ready();
    assert_eq!(members[1].entry("sessions", "k").get().as_deref(), Some("v"));
    assert_eq!(members[1].member(), process);
}
