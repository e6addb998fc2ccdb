//! What has happened since the driver was started, counted where it happens.
//!
//! Only counts: no task, no worker and no message, so the numbers of series is
//! known when this is compiled. How they are told is [`crate::http::metrics`]'s.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::core::{Notice, SweepState};

/// One label.
pub type Label = [(&'static str, &'static str); 1];

/// Counters, gauges and a histogram. Clones count together.
#[derive(Clone)]
pub struct Tally {
    /// Streams of workers that came.
    pub sessions_opened: Counter,
    /// Streams of workers that were turned away.
    pub sessions_refused: Counter,
    /// Streams of workers that are there.
    pub sessions: Gauge,
    /// What became of workers: joined, detached, lost, distrusted.
    pub workers: Family<Label, Counter>,
    /// Executions that failed, by kind.
    pub failures: Family<Label, Counter>,
    /// Tasks that came back with different bits.
    pub conflicts: Counter,
    /// Reports that were turned down.
    pub reports_refused: Counter,
    /// Sweeps that are over, by state.
    pub sweeps_ended: Family<Label, Counter>,
    /// Commits, by how they ended.
    pub commits: Family<Label, Counter>,
    /// Records made durable.
    pub records: Counter,
    /// Seconds from presenting records to the store's answer.
    pub commit_seconds: Histogram,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tally(…)")
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sessions_opened: Counter::default(),
            sessions_refused: Counter::default(),
            sessions: Gauge::default(),
            workers: Family::default(),
            failures: Family::default(),
            conflicts: Counter::default(),
            reports_refused: Counter::default(),
            sweeps_ended: Family::default(),
            commits: Family::default(),
            records: Counter::default(),
            // From half a millisecond (a fast disk) to 16 s (one that is about to fail).
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
        }
    }
}

impl Tally {
    /// The store has answered.
    pub fn commit(&self, took: Duration, records: u64, durable: bool) {
        let how = if durable { "durable" } else { "failed" };
        self.commits.get_or_create(&[("outcome", how)]).inc();
        self.commit_seconds.observe(took.as_secs_f64());
        if durable {
            self.records.inc_by(records);
        }
    }

    /// A sweep is over.
    pub fn sweep_ended(&self, state: SweepState) {
        self.sweeps_ended
            .get_or_create(&[("state", state.name())])
            .inc();
    }

    /// Something that people should know.
    pub fn notice(&self, notice: &Notice) {
        let worker = |event| {
            self.workers.get_or_create(&[("event", event)]).inc();
        };
        match notice {
            Notice::WorkerJoined { .. } => worker("joined"),
            Notice::WorkerDetached { .. } => worker("detached"),
            Notice::WorkerLost { .. } => worker("lost"),
            Notice::WorkerDistrusted { .. } => worker("distrusted"),
            Notice::TaskFailed { kind, .. } => {
                self.failures.get_or_create(&[("kind", kind.name())]).inc();
            }
            Notice::Conflict { .. } => {
                self.conflicts.inc();
            }
            Notice::ReportRefused { .. } => {
                self.reports_refused.inc();
            }
            Notice::StoreFailing { .. } | Notice::StoreRecovered => {}
        }
    }
}
