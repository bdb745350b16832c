//! Starts sidecars, talks to them, and ends them by their own process ids whatever happens.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// Longest wait for any condition: generous, since the machine may be crowded. Never a measure of speed.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something; fails with `what` when it never does.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let tries = DEADLINE.as_millis() / POLL.as_millis();
    for _ in 0..tries {
        if let Some(found) = condition() {
            return found;
        }
        thread::sleep(POLL);
    }
    panic!("never: {what}");
}

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidegrid"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running `sidegrid serve` or `sidegrid dev`; ended when dropped.
pub(crate) struct Sidecar {
    child: Child,
    folder: TempDir,
    sets: Vec<String>,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Ports that nobody listens on, never the same twice in this process. Below the range that the kernel takes outgoing
/// connections' ports from: one of those, of another test, would be in the way for as long as it lives.
fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at one time begin apart.
    let start = std::process::id().wrapping_mul(97);
    std::array::from_fn(|_| {
        loop {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let port = u16::try_from(FIRST + offset).unwrap();
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}

impl Sidecar {
    /// Starts `sidegrid <command>` with free ports, a folder of its own and these settings.
    pub(crate) fn start(command: &str, settings: &[&str]) -> Sidecar {
        Sidecar::start_with(command, settings, |_| {})
    }

    /// The same, with the program's start changed by `set`.
    pub(crate) fn start_with(command: &str, settings: &[&str], set: impl FnOnce(&mut Command)) -> Sidecar {
        let folder = tempfile::tempdir().unwrap();
        let [http, admin, data, failure_detection] = free_ports();
        let own = folder.path().display();
        let mut sets = vec![
            format!("http.listen=127.0.0.1:{http}"),
            format!("http.socket={own}/http.sock"),
            format!("admin.listen=127.0.0.1:{admin}"),
            format!("member.stateDir={own}/state"),
            "network.bindAddress=LOOPBACK".to_owned(),
            format!("network.dataPort={data}"),
            format!("network.failureDetectionPort={failure_detection}"),
        ];
        sets.extend(settings.iter().map(|&set| set.to_owned()));
        let log = |name| fs::File::create(folder.path().join(name)).unwrap();
        let mut program = program();
        program.arg(command).args(sets.iter().flat_map(|set| ["--set", set]));
        program.stdout(log("out")).stderr(log("log"));
        set(&mut program);
        let child = program.spawn().unwrap();
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Sidecar { child, folder, sets, http: at(http), admin: at(admin) }
    }

    /// The settings it was started with, as arguments.
    pub(crate) fn set_arguments(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().flat_map(|set| ["--set", set.as_str()])
    }

    /// Where its Unix socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("http.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// Waits for a line of the log.
    pub(crate) fn logged(&self, text: &str) {
        self.expect(&format!("log line {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// Waits; shows the log when it was in vain.
    pub(crate) fn expect<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually(what, condition)));
        waited.unwrap_or_else(|_| panic!("never: {what}; log:\n{}", self.log()))
    }

    /// Waits until apps should be sent here.
    pub(crate) fn ready(&self) {
        self.expect("ready", || request(self.admin, "GET", "/readyz", b"").filter(|answer| answer.status == 200));
    }

    /// Groups of which this member holds a complete copy.
    fn complete_copies(&self) -> u64 {
        let metrics = request(self.admin, "GET", "/metrics", b"").map(|answer| answer.body).unwrap_or_default();
        let metrics = String::from_utf8(metrics).unwrap();
        let groups = metrics.lines().filter_map(|line| line.strip_prefix("sidegrid_groups{state=\""));
        let complete = groups.filter(|line| line.starts_with("primary") || line.starts_with("owner"));
        complete.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// The process that was started: the supervisor, under `serve`.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The member process under this supervisor.
    pub(crate) fn member(&self) -> Pid {
        self.expect("a member process", || children(self.pid()).into_iter().next())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }

    /// Fails when the log holds a warning or error that was not announced.
    pub(crate) fn quiet(&self, announced: &[&str]) {
        let log = self.log();
        let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let unannounced: Vec<&str> =
            log.lines().filter(loud).filter(|line| !announced.iter().any(|text| line.contains(text))).collect();
        assert!(unannounced.is_empty(), "{unannounced:#?}\n{log}");
    }

    /// An entry of a cache here.
    pub(crate) fn entry(&self, cache: &str, key: &str) -> Entry {
        Entry { at: self.http, path: format!("/v1/caches/{cache}/entries/{key}") }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // A member ends with its supervisor; both are this test's own.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// One entry by HTTP.
pub(crate) struct Entry {
    at: SocketAddr,
    path: String,
}

impl Entry {
    /// Stores; waits out retryable refusals.
    pub(crate) fn put(&self, value: &str) {
        eventually("a write is accepted", || {
            let answer = request(self.at, "PUT", &self.path, value.as_bytes())?;
            match answer.status {
                201 | 204 => Some(()),
                503 => None,
                _ => panic!("{answer:?}"),
            }
        });
    }

    /// The value, or none when absent; waits out retryable refusals.
    pub(crate) fn get(&self) -> Option<String> {
        eventually("a read is answered", || {
            let answer = request(self.at, "GET", &self.path, b"")?;
            match answer.status {
                200 => Some(Some(String::from_utf8(answer.body).unwrap())),
                404 => Some(None),
                503 => None,
                _ => panic!("{answer:?}"),
            }
        })
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// One request on a connection of its own. None when the connection fails.
pub(crate) fn request(at: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    assert!(at.ip().is_loopback(), "tests talk to this machine only");
    let stream = TcpStream::connect(at).ok()?;
    exchange(stream, method, path, body)
}

/// The same over any stream.
pub(crate) fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some(Answer { status, body: answer[head + 4..].to_vec() })
}

/// The children of a process.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Waits until a process is gone.
pub(crate) fn gone(pid: Pid) {
    eventually("a process is gone", || {
        // A zombie that nobody has waited for yet is as dead as can be.
        let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        (test_kill_process(pid).is_err() || status.contains(") Z ")).then_some(())
    });
}

/// Settings of one member of a cluster that shares `registry`.
pub(crate) fn member_settings(registry: &Path, name: &str, caches: &[&str]) -> Vec<String> {
    let mut settings = vec![
        "cluster.name=test".to_owned(),
        format!("member.name={name}"),
        format!("registry.path={}", registry.join("registry").display()),
    ];
    settings.extend(caches.iter().map(|&cache| cache.to_owned()));
    settings
}

/// Segments of a cluster that says nothing else.
const SEGMENTS: u64 = 256;

/// Members of one cluster, each in sight of all, once each segment has `copies` complete copies over all classes of
/// caches: before that, the death of one member may rightly lose something.
pub(crate) fn cluster(registry: &Path, names: &[&str], caches: &[&str], copies: u64) -> Vec<Sidecar> {
    let members: Vec<Sidecar> = names
        .iter()
        .map(|name| {
            let settings = member_settings(registry, name, caches);
            Sidecar::start("serve", &settings.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let complete = format!(": {} member", names.len());
    let all_see_all = std::panic::catch_unwind(|| {
        eventually("all see all", || members.iter().all(|member| member.log().contains(&complete)).then_some(()));
    });
    if all_see_all.is_err() {
        let logs: Vec<String> = members.iter().map(Sidecar::log).collect();
        panic!("never one cluster:\n{}", logs.join("\n"));
    }
    members.iter().for_each(Sidecar::ready);
    members[0].expect("every copy to be complete", || {
        let complete: u64 = members.iter().map(Sidecar::complete_copies).sum();
        (complete == SEGMENTS * copies).then_some(())
    });
    members
}
