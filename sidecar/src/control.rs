//! The control socket: how `sidegrid drain` reaches the member on this host.
//!
//! A Unix socket in the state folder that its owner alone may use. One request a connection, `drain` and a line end;
//! the answer is lines: `left N` while groups are being handed over, then `drained`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::PathBuf;
use std::time::Duration;

use sidegrid_config::Settings;
use sidegrid_net::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::bound::remove_stale;
use crate::grid::Grid;
use crate::identity;
use crate::node::DrainSwitch;
use crate::shutdown::groups_left;
use crate::spawner::Spawner;

/// The only request.
const DRAIN: &[u8] = b"drain\n";
const DRAINED: &str = "drained";
/// Connections at once; one more waits.
const CONNECTIONS: usize = 8;
/// A request must be there within this time.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);
/// Longest answer read: a line a second for a day.
const ANSWER_BYTES: u64 = 2 << 20;

/// Where the control socket of these settings' member is.
pub(crate) fn path(settings: &Settings) -> PathBuf {
    let file: String = format!("{}.{}", settings.cluster.name, identity::name(settings))
        .chars()
        .map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    settings.member.state_dir.join(format!("{file}.sock"))
}

/// Listens on the control socket until the process stops. The name's lock is held: whoever left a socket is dead.
///
/// # Errors
/// When the socket can't be made.
pub(crate) fn serve(settings: &Settings, grid: &Grid, switch: &DrainSwitch, spawner: &Spawner) -> io::Result<()> {
    let path = path(settings);
    remove_stale(&path)?;
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (grid, switch, tasks) = (grid.clone(), switch.clone(), spawner.clone());
    spawner.spawn_critical("control socket", async move {
        let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
        loop {
            // Cancel safe: a permit not used goes back, a connection not accepted stays queued.
            let accepted = tokio::select! {
                () = tasks.stopping().cancelled() => break,
                accepted = async {
                    let permit = std::sync::Arc::clone(&permits).acquire_owned().await;
                    (permit, listener.accept().await)
                } => accepted,
            };
            let (permit, Ok((stream, _))) = accepted else {
                // Out of file descriptors, most likely: some will be given back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (grid, switch, stopping) = (grid.clone(), switch.clone(), tasks.stopping().clone());
            tasks.spawn("control request", async move {
                // Both branches are cancel safe: handing over goes on by itself.
                tokio::select! {
                    () = stopping.cancelled() => {}
                    // Who asked may have gone: nobody is left to be told.
                    _gone = answer(stream, &grid, &switch) => {}
                }
                drop(permit);
            });
        }
        // Not there any more when a `drain` looks for it.
        let _gone = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(mut stream: UnixStream, grid: &Grid, switch: &DrainSwitch) -> io::Result<()> {
    // Beside the file's mode, for folders that don't keep it.
    let asker = stream.peer_cred()?.uid();
    if asker != rustix::process::geteuid().as_raw() && asker != 0 {
        return stream.write_all(b"refused: another user's member\n").await;
    }
    let mut request = [0; DRAIN.len()];
    tokio::time::timeout(REQUEST_PATIENCE, stream.read_exact(&mut request)).await??;
    if request != DRAIN {
        return stream.write_all(b"refused: unknown request\n").await;
    }
    tracing::info!("drain: handing over");
    let drain = switch.drain();
    tokio::pin!(drain);
    loop {
        // Both branches are cancel safe.
        tokio::select! {
            () = &mut drain => break,
            () = tokio::time::sleep(PROGRESS) => {
                stream.write_all(format!("left {}\n", groups_left(grid)).as_bytes()).await?;
            }
        }
    }
    tracing::info!("drain: done; going on as a client");
    stream.write_all(format!("{DRAINED}\n").as_bytes()).await
}

/// Why a drain did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("no member runs here: {} can't be reached: {source}", path.display())]
    NoMember { path: PathBuf, source: io::Error },
    #[error(
        "can't tell whether a member runs here: {} is not there, so that either none does or its control socket was \
         removed; look for the process: SIGTERM makes it hand over too", .0.display()
    )]
    NoSocket(PathBuf),
    #[error("not done within {} ms; handing over goes on", .0.as_millis())]
    Timeout(Duration),
    #[error("the member ended before it had handed over")]
    Ended,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl DrainError {
    /// The exit code: `EX_UNAVAILABLE` when no member is reached here, `EX_TEMPFAIL` when it was not done in time.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            DrainError::NoMember { .. } | DrainError::NoSocket(_) => 69,
            DrainError::Timeout(_) => 75,
            _ => 1,
        }
    }
}

/// Asks the member of these settings to hand over and leave; returns when it has.
///
/// # Errors
/// [`DrainError`].
pub(crate) fn drain(settings: &Settings, timeout: Duration) -> Result<(), DrainError> {
    let clock = Clock::boottime();
    let until = clock.now() + timeout;
    let path = path(settings);
    let mut stream = BlockingStream::connect(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => DrainError::NoSocket(path),
        _ => DrainError::NoMember { path, source },
    })?;
    stream.write_all(DRAIN)?;
    let mut lines = BufReader::new(stream.try_clone()?.take(ANSWER_BYTES));
    loop {
        let left = until.since(clock.now());
        if left.is_zero() {
            return Err(DrainError::Timeout(timeout));
        }
        stream.set_read_timeout(Some(left))?;
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return Err(DrainError::Ended),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(DrainError::Timeout(timeout)),
            Err(error) => return Err(error.into()),
        }
        match line.trim_end().split_once(' ') {
            None if line.trim_end() == DRAINED => return Ok(()),
            Some(("left", groups)) => tracing::info!("handing over: {groups} groups left"),
            _ => return Err(DrainError::Refused(line.trim_end().to_owned())),
        }
    }
}
