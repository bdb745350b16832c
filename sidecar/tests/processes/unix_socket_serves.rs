//! The cache API on a Unix socket: it outlives members, is replaced when it is dead, and is left to whoever has it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::{Answer, Sidecar, exchange, gone};

const LOCAL: &str = "caches.default.mode=local";
const ENTRY: &str = "/v1/caches/default/entries/k";

/// Longest wait for an answer: generous, since a member may have to start first.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request over the socket. None when the connection fails, or nobody answers.
fn over(socket: &Path, method: &str, body: &[u8]) -> Option<Answer> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(stream, method, ENTRY, body)
}

#[test]
fn what_is_put_over_the_socket_is_read_at_the_port_and_a_killed_member_is_replaced_at_once() {
    let mut sidecar = Sidecar::start("serve", &[LOCAL]);
    sidecar.ready();
    let socket = sidecar.socket();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "other users of the pod connect");
    assert_eq!(over(&socket, "PUT", b"v").unwrap().status, 201);
    assert_eq!(sidecar.entry("default", "k").get().as_deref(), Some("v"));

    let first = sidecar.member();
    kill_process(first, Signal::KILL).unwrap();
    gone(first);
    // The supervisor keeps the socket: the very next connection waits in its queue for the new member.
    assert_eq!(over(&socket, "PUT", b"again").unwrap().status, 201, "a local cache starts empty");
    assert_eq!(sidecar.entry("default", "k").get().as_deref(), Some("again"));
    assert_ne!(sidecar.member(), first);

    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.ended().code(), Some(0));
    assert!(!socket.exists(), "the file goes in an orderly end");
    sidecar.quiet(&["the member died"]);
}

#[test]
fn a_dead_predecessors_socket_is_replaced_and_a_living_ones_is_not() {
    let mut first = Sidecar::start("serve", &[LOCAL]);
    first.ready();
    let socket = first.socket();
    let same = format!("http.socket={}", socket.display());

    let mut second = Sidecar::start("serve", &[LOCAL, &same]);
    assert_eq!(second.ended().code(), Some(1));
    second.logged("http.socket: can't listen on ");
    second.logged("another process listens there; choose another path or none");
    assert_eq!(over(&socket, "PUT", b"v").unwrap().status, 201, "the first goes on");

    let member = first.member();
    first.signal(Signal::KILL);
    first.ended();
    gone(member);
    assert!(socket.exists(), "nobody was left to remove it");
    let third = Sidecar::start("serve", &[LOCAL, &same]);
    third.ready();
    assert_eq!(over(&socket, "PUT", b"v").unwrap().status, 201);
}
