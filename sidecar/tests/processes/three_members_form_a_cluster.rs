//! Three processes that share a registry become one cluster, and stay one when a process dies.

use rustix::process::{Signal, kill_process};

use crate::support::cluster;

const CACHES: &[&str] =
    &["caches.sessions.mode=distributed", "caches.sessions.owners=2", "caches.work.mode=replicated"];

#[test]
fn what_is_written_at_one_is_read_at_all_and_survives_a_killed_member() {
    let folder = tempfile::tempdir().unwrap();
    let members = cluster(folder.path(), &["a", "b", "c"], CACHES, 5);
    let keys: Vec<String> = (0..30).map(|i| format!("key-{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        for cache in ["sessions", "work"] {
            members[i % 3].entry(cache, key).put(&format!("{cache}-{i}"));
        }
    }
    let all_readable = || {
        for member in &members {
            for (i, key) in keys.iter().enumerate() {
                for cache in ["sessions", "work"] {
                    let value = member.entry(cache, key).get();
                    assert_eq!(value, Some(format!("{cache}-{i}")), "{cache}/{key}; log:\n{}", member.log());
                }
            }
        }
    };
    all_readable();
    let first = members[1].member();
    kill_process(first, Signal::KILL).unwrap();
    members[0].expect("the dead one to be out and its successor in", || {
        let log = members[0].log();
        let installed: Vec<&str> = log.lines().filter(|line| line.contains(" view ")).collect();
        let excluded = installed.iter().position(|line| line.contains("left b"))?;
        installed[excluded..].iter().any(|line| line.contains(": 3 members")).then_some(())
    });
    all_readable();
    members[1].ready();
    for survivor in [&members[0], &members[2]] {
        survivor.quiet(&["b is suspected"]);
    }
}
