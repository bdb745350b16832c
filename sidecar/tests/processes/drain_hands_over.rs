//! A drained member loses nothing, also with one copy, and goes on as a client until it is stopped.

use rustix::process::Signal;

use crate::support::{cluster, program, request};

const CACHES: &[&str] = &["caches.sessions.mode=distributed", "caches.sessions.owners=1"];

/// C-3, C-4
#[test]
fn everything_is_readable_everywhere_after_a_drain_and_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = cluster(folder.path(), &["a", "b", "c"], CACHES, 1);
    let keys: Vec<String> = (0..40).map(|i| format!("key-{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        members[i % 3].entry("sessions", key).put(key);
    }
    let drained = program().args(["drain", "--timeout", "50s"]).args(members[0].set_arguments()).output().unwrap();
    let told = String::from_utf8_lossy(&drained.stderr);
    assert_eq!(drained.status.code(), Some(0), "{told}\n{}", members[0].log());
    members[1].logged(": 2 members [");
    let ready = request(members[0].admin, "GET", "/readyz", b"").unwrap();
    assert_eq!(ready.status, 503, "{}", String::from_utf8_lossy(&ready.body));
    for member in &members {
        for key in &keys {
            assert_eq!(member.entry("sessions", key).get().as_ref(), Some(key), "{}", member.log());
        }
    }
    // Stopped without a drain before, the second hands over on the signal.
    for gone in [0, 1] {
        members[gone].signal(Signal::TERM);
        let status = members[gone].ended();
        assert_eq!(status.code(), Some(0), "{}", members[gone].log());
    }
    members[2].logged(": 1 member [");
    for key in &keys {
        assert_eq!(members[2].entry("sessions", key).get().as_ref(), Some(key), "{}", members[2].log());
    }
}
