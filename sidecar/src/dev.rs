//! `sidegrid dev`: one process to try things with, which keeps nothing.

use sidegrid_config::{RegistryKind, Settings};
use sidegrid_net::Clock;

use crate::EXIT_CANT_START;
use crate::allocator;
use crate::bound::Bound;
use crate::member::{self, Member};

/// Runs until it is interrupted; gives the exit code. Caches that need a cluster get one of this member alone, whose
/// registry lives in a folder that is removed at the end.
pub(crate) fn run(mut settings: Settings) -> u8 {
    allocator::set_for_this_process();
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
    greet(&settings, &bound);
    member::run(Member { settings, bound, clock, began, of_terminal: true })
}

/// What to try, with the address and a cache that are really there.
fn greet(settings: &Settings, bound: &Bound) {
    let cache = settings.caches.keys().next().map_or("default", String::as_str);
    let address = bound.http.local_addr().unwrap_or(settings.http.listen);
    let entry = format!("http://{address}/v1/caches/{cache}/entries/hello");
    let lines = format!(
        "sidegrid dev: caches on http://{address}, nothing is kept. Try:\n\n  \
         curl -X PUT --data world '{entry}?ttl=5m'\n  curl -i '{entry}'\n  curl http://{address}/v1/caches\n\n"
    );
    // Whether anybody reads it is no condition of service.
    sidegrid_log::print(&lines);
}
