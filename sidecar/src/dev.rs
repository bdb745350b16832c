//! `sidegrid dev`: one process to try things with, which keeps nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidegrid_config::{RegistryKind, Settings};
use sidegrid_net::Clock;
use tokio_util::sync::CancellationToken;

use crate::allocator;
use crate::bound::Bound;
use crate::cli::EXIT_CANT_START;
use crate::grid::Grid;
use crate::member::{self, Member};

/// Runs until it is interrupted; gives the exit code. Caches that need a cluster get one of this member alone, whose
/// registry lives in a folder that is removed at the end.
///
/// `ready_file` is made once it is ready.
pub(crate) fn run(mut settings: Settings, ready_file: Option<PathBuf>) -> u8 {
    allocator::set_for_this_process();
    // One that an earlier run left would say so too early.
    if let Some(error) = ready_file.as_deref().and_then(|path| remove(path).err()) {
        tracing::error!("--ready-file: can't be removed: {error}; give another path");
        return EXIT_CANT_START;
    }
    let clock = Clock::boottime();
    let began = clock.now();
    let folder = match tempfile::Builder::new().prefix("sidegrid-dev-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            tracing::error!("can't make a folder for this run: {error}");
            return EXIT_CANT_START;
        }
    };
    settings.member.state_dir = folder.path().join("state");
    settings.registry.kind = RegistryKind::File;
    settings.registry.path = folder.path().join("registry");
    settings.network.bind_address = "LOOPBACK".into();
    settings.network.data_port = 0;
    settings.network.failure_detection_port = 0;
    let bound = match Bound::bind(&settings) {
        Ok(bound) => bound,
        Err(faults) => {
            faults.iter().for_each(|fault| tracing::error!("{fault}"));
            return EXIT_CANT_START;
        }
    };
    let url = format!("http://{}", bound.http.local_addr().unwrap_or(settings.http.listen));
    greet(&settings, &url);
    let announcement = Some(Announcement { url, ready_file: ready_file.clone() });
    let code = member::run(Member { settings, bound, clock, began, of_terminal: true, announcement });
    if let Some(path) = ready_file {
        // Gone meanwhile is as good.
        let _gone = fs::remove_file(path);
    }
    code
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How often readiness is looked at until it is there.
const READY_POLL: Duration = Duration::from_millis(20);

/// Tells scripts and tests that requests will be answered.
#[derive(Debug)]
pub(crate) struct Announcement {
    url: String,
    ready_file: Option<PathBuf>,
}

impl Announcement {
    /// Makes the file and prints the line once apps should be sent here; neither when `stopping` comes first.
    ///
    /// # Cancel safety
    /// Cancel safe until it is ready.
    pub(crate) async fn when_ready(self, grid: Grid, stopping: CancellationToken) {
        while !grid.is_ready() {
            // Both branches are cancel safe: they hold nothing.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(READY_POLL) => {}
            }
        }
        if let Some(path) = &self.ready_file
            && let Err(error) = write_whole(path, &format!("{}\n", self.url))
        {
            tracing::error!("--ready-file: can't be written: {error}; what waits for it waits in vain");
        }
        sidegrid_log::print("sidegrid dev: ready\n");
    }
}

/// Appears under its name with all of its text, so that whoever waits for the file can read it at once.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

/// What to try, with the address and a cache that are really there.
fn greet(settings: &Settings, url: &str) {
    let cache = settings.caches.keys().next().map_or("default", String::as_str);
    let entry = format!("{url}/v1/caches/{cache}/entries/hello");
    let lines = format!(
        "sidegrid dev: caches on {url}, nothing is kept. Try:\n\n  \
         curl -X PUT --data world '{entry}?ttl=5m'\n  curl -i '{entry}'\n  curl {url}/v1/caches\n\n"
    );
    // Whether anybody reads it is no condition of service.
    sidegrid_log::print(&lines);
}
