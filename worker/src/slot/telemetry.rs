//! What a task costs.

use std::time::{Duration, Instant};

use common::record::Telemetry;
use rustix::time::{ClockId, clock_gettime};

/// How long a reading of the largest memory is good for. It costs more than a
/// tiny task, and only such tasks end again so soon.
const FRESH: Duration = Duration::from_millis(20);

/// The largest memory of this process so far.
#[derive(Debug, Default)]
pub(super) struct Peak {
    read: Option<Instant>,
    bytes: u64,
}

impl Peak {
    fn bytes(&mut self) -> u64 {
        if self.read.is_none_or(|at| at.elapsed() >= FRESH) {
            self.bytes = status_kib("/proc/self/status", "VmHWM:").unwrap_or(0) << 10;
            self.read = Some(Instant::now());
        }
        self.bytes
    }
}

/// Measures from its start.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    cpu: f64,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu: cpu_seconds(),
        }
    }

    pub(super) fn read(&self, peak: &mut Peak) -> Telemetry {
        Telemetry {
            seconds: self.began.elapsed().as_secs_f64(),
            cpu_seconds: (cpu_seconds() - self.cpu).max(0.0),
            peak_memory: peak.bytes(),
        }
    }
}

/// Processor time of the process, all threads.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Resident memory of a process, bytes; nothing where it is not told.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    Some(status_kib(&format!("/proc/{pid}/status"), "VmRSS:")? << 10)
}

fn status_kib(path: &str, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
