//! Figures of the process, from `/proc`.

use std::fs;

/// What the process uses. Zeros where the system doesn't tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessFigures {
    /// Resident memory.
    pub(crate) resident_bytes: u64,
    /// Processor time in user and system mode together.
    pub(crate) cpu_seconds: f64,
    /// Open file descriptors.
    pub(crate) open_fds: u64,
    /// Threads.
    pub(crate) threads: u64,
}

impl ProcessFigures {
    /// Now.
    pub(crate) fn read() -> ProcessFigures {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of_status = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        ProcessFigures {
            resident_bytes: of_status("VmRSS").unwrap_or(0) * 1_024,
            cpu_seconds: cpu_seconds().unwrap_or(0.0),
            // The listing itself has one open.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1) as u64),
            threads: of_status("Threads").unwrap_or(0),
        }
    }
}

/// Of all threads, ended ones included.
fn cpu_seconds() -> Option<f64> {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u32::try_from(usage.tv_sec).ok()?;
    let nanos = u32::try_from(usage.tv_nsec).ok()?;
    Some(f64::from(seconds) + f64::from(nanos) / 1e9)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_running_process_uses_something_of_each() {
        // A test may be too short for a measurable time without this.
        let mut spun = 0u64;
        while ProcessFigures::read().cpu_seconds <= 0.0 && spun < 1_000_000_000 {
            spun += 1;
        }
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes > 1 << 20, "{figures:?}");
        assert!(figures.cpu_seconds > 0.0, "{figures:?}");
        assert!(figures.open_fds >= 3, "{figures:?}");
        assert!(figures.threads >= 1, "{figures:?}");
    }
}
