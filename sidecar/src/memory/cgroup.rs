//! The control group of this process: the memory that it allows, what is used of it, and kills for want of it. Versions
//! 1 and 2, in a container or not.

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 says "no limit" by a number near the largest.
const UNLIMITED: u64 = 1 << 60;

/// Folders of the groups that bound this process: its own first, then those around it, as far as they can be seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// Names of one version's files.
#[derive(Debug)]
struct Files {
    /// As `/proc/self/cgroup` names it; version 2 names none.
    controller: &'static str,
    limits: &'static [&'static str],
    used: &'static str,
    /// In `memory.stat`: pages of files that the kernel takes back before it kills.
    reclaimable: &'static str,
    /// Holds a line `oom_kill` and a number.
    kills: &'static str,
}

static VERSION_1: Files = Files {
    controller: "memory",
    limits: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
    kills: "memory.oom_control",
};

static VERSION_2: Files = Files {
    controller: "",
    // Above `high` the kernel slows the process down until it stands still.
    limits: &["memory.max", "memory.high"],
    used: "memory.current",
    reclaimable: "inactive_file",
    kills: "memory.events",
};

/// Use of the group that has least left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Cgroup {
    /// Of this process. Nothing is found where the system has no control groups.
    pub(crate) fn of_this_process() -> Cgroup {
        Cgroup::below(Path::new("/"))
    }

    /// The same in a file system whose root is `root`.
    fn below(root: &Path) -> Cgroup {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let mut groups = Vec::new();
        for mount in mounts.lines().filter_map(Mount::parse) {
            let Some(files) = mount.files else { continue };
            let Some(path) = own.lines().find_map(|line| own_path(line, files)) else { continue };
            let top = root.join(mount.point.trim_start_matches('/'));
            // In a namespace of its own a process may see its group as the mount itself.
            let inside = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or("").trim_start_matches('/');
            let inside = if inside.split('/').any(|part| part == "..") { "" } else { inside };
            let folder = Some(top.join(inside)).filter(|folder| folder.is_dir()).unwrap_or_else(|| top.clone());
            let around = folder.ancestors().take_while(|above| above.starts_with(&top));
            groups.extend(around.map(|folder| Group { folder: folder.to_owned(), files }));
        }
        Cgroup { groups }
    }

    /// The least memory that any of the groups allows, in bytes; none: unlimited.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.groups.iter().filter_map(Group::limit).min()
    }

    /// Use of the group that has least left; none when none has a limit.
    pub(crate) fn tightest(&self) -> Option<Use> {
        let uses = self.groups.iter().filter_map(|group| Some(Use { used: group.used()?, limit: group.limit()? }));
        uses.min_by_key(|found| found.limit.saturating_sub(found.used))
    }

    /// Processes of the own group that the kernel has killed for want of memory; none: not counted here.
    pub(crate) fn kills(&self) -> Option<u64> {
        self.groups.iter().find_map(|group| number_after(&group.read(group.files.kills), "oom_kill"))
    }
}

impl Group {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap_or_default()
    }

    fn limit(&self) -> Option<u64> {
        let limits = self.files.limits.iter().filter_map(|file| self.read(file).trim().parse().ok());
        // Version 1 also knows the limits of groups that can't be seen from here.
        let around = number_after(&self.read("memory.stat"), "hierarchical_memory_limit");
        limits.chain(around).filter(|&limit| limit < UNLIMITED).min()
    }

    fn used(&self) -> Option<u64> {
        let used: u64 = self.read(self.files.used).trim().parse().ok()?;
        let reclaimable = number_after(&self.read("memory.stat"), self.files.reclaimable).unwrap_or(0);
        Some(used.saturating_sub(reclaimable))
    }
}

/// A mounted file system.
struct Mount {
    /// What of the file system is mounted.
    root: String,
    point: String,
    /// Of a control group that knows of memory.
    files: Option<&'static Files>,
}

impl Mount {
    /// A line of `mountinfo`.
    fn parse(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (unescaped(left.next()?), unescaped(left.next()?));
        let mut right = right.split(' ');
        let kind = right.next()?;
        let files = match kind {
            "cgroup2" => Some(&VERSION_2),
            "cgroup" if right.nth(1)?.split(',').any(|option| option == "memory") => Some(&VERSION_1),
            _ => None,
        };
        Some(Mount { root, point, files })
    }
}

/// `mountinfo` writes spaces and the like as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The path in a line of `/proc/self/cgroup`, if it is of this version and of memory.
fn own_path<'a>(line: &'a str, files: &'static Files) -> Option<&'a str> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let controller = files.controller;
    controllers.split(',').any(|named| named == controller).then_some(path)
}

/// The number behind a name, in lines of names and numbers.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A file system with these files.
    fn tree(files: &[(&str, &str)]) -> (TempDir, Cgroup) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let cgroup = Cgroup::below(root.path());
        (root, cgroup)
    }

    const MOUNT_2: (&str, &str) =
        ("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");

    #[test]
    fn version_2_is_bounded_by_every_group_around() {
        let (_root, cgroup) = tree(&[
            MOUNT_2,
            ("proc/self/cgroup", "0::/pod/sidecar\n"),
            ("sys/fs/cgroup/pod/memory.max", "300\n"),
            ("sys/fs/cgroup/pod/memory.current", "290\n"),
            ("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 40\n"),
            ("sys/fs/cgroup/pod/sidecar/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/sidecar/memory.high", "200\n"),
            ("sys/fs/cgroup/pod/sidecar/memory.current", "90\n"),
            ("sys/fs/cgroup/pod/sidecar/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 1\n"),
        ]);
        assert_eq!(cgroup.limit(), Some(200));
        assert_eq!(cgroup.tightest(), Some(Use { used: 250, limit: 300 }));
        assert_eq!(cgroup.kills(), Some(3));
    }

    #[test]
    fn version_1_in_a_container_sees_its_group_as_the_mount() {
        let (_root, cgroup) = tree(&[
            (
                "proc/self/mountinfo",
                "35 31 0:32 /kubepods/pod/c /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
                 36 31 0:33 /kubepods/pod/c /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("proc/self/cgroup", "5:memory:/kubepods/pod/c\n4:cpu:/kubepods/pod/c\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 5\nhierarchical_memory_limit 100663296\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1005\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ]);
        assert_eq!(cgroup.limit(), Some(96 << 20));
        assert_eq!(cgroup.tightest(), Some(Use { used: 1_000, limit: 96 << 20 }));
        assert_eq!(cgroup.kills(), Some(2));
    }

    #[test]
    fn a_path_that_leads_out_of_the_mount_is_the_mount() {
        for own in ["0::/../../other\n", "0::/not/there\n"] {
            let (_root, cgroup) = tree(&[MOUNT_2, ("proc/self/cgroup", own), ("sys/fs/cgroup/memory.max", "77\n")]);
            assert_eq!(cgroup.limit(), Some(77), "{own}");
        }
    }

    #[test]
    fn nothing_is_known_without_control_groups_or_limits() {
        let (_root, cgroup) = tree(&[]);
        assert_eq!((cgroup.limit(), cgroup.tightest(), cgroup.kills()), (None, None, None));
        let (_root, cgroup) = tree(&[
            MOUNT_2,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.current", "5\n"),
        ]);
        assert_eq!((cgroup.limit(), cgroup.tightest(), cgroup.kills()), (None, None, None));
    }
}
