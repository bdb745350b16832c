//! How many threads the process works with.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

/// Most worker threads where the settings name none: a sidecar serves one app, and each thread costs memory.
const MOST_BY_DEFAULT: usize = 4;
/// Threads for calls that block, such as those of files. More of them wait for a free one.
const BLOCKING: usize = 16;

/// The runtime of the process with this many worker threads; none: one for each processor that the container's limit and
/// the process's affinity leave to it, four at most.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn runtime(threads: Option<u16>) -> io::Result<Runtime> {
    let threads = count(threads, available_parallelism().map_or(1, usize::from));
    tracing::debug!("{threads} worker threads");
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING)
        .thread_name("worker")
        .enable_all()
        .build()
}

fn count(set: Option<u16>, processors: usize) -> usize {
    set.map_or(processors.min(MOST_BY_DEFAULT), usize::from).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_machine_gives_no_more_threads_than_a_sidecar_needs() {
        assert_eq!([1, 2, 64].map(|processors| count(None, processors)), [1, 2, 4]);
        assert_eq!(count(Some(6), 2), 6);
        assert_eq!(count(None, 0), 1);
    }
}
