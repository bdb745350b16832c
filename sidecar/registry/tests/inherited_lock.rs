//! Alone in its process: a child that is being started holds, for a moment, copies of all open files, and would
//! disturb other tests of locks.

use std::process::Command;

use sidegrid_registry::NameLock;

/// P-1: a child that outlives an incarnation must not keep its name locked, nor pass for it.
#[test]
fn children_do_not_inherit_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let lock = NameLock::acquire(dir.path(), "web", "web-1").unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    drop(lock);
    let again = NameLock::acquire(dir.path(), "web", "web-1");
    child.kill().unwrap();
    child.wait().unwrap();
    again.unwrap();
}
