//! CPU time and memory of this process.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time all threads of this process have used.
pub(super) fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// The CPU time this thread has used.
pub(super) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> Duration {
    // CPU time is never negative.
    let t = clock_gettime(clock);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// The most memory this process has had resident, MiB. Linux tells it; elsewhere there is none.
pub(super) fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: f64 = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}
