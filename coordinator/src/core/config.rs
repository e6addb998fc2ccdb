//! What the scheduler is told once.

use std::time::Duration;

use super::retry::RetryLimits;

/// Settings of a [`super::Core`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Version of the numerics; other workers are refused.
    pub numerics_version: u32,
    /// Level that all results of the store have.
    pub numeric_level: String,
    /// A worker that is silent for this long loses its leases. Long enough
    /// for a lost packet and its retransmissions, short enough that nobody
    /// waits for a dead machine.
    pub lease: Duration,
    /// Longest time between two signs of life of a worker: several fit into a
    /// lease.
    pub heartbeat: Duration,
    /// After a start, time that workers of an earlier epoch have to return
    /// with what they hold before their tasks are given to others.
    pub grace: Duration,
    /// When failing tasks are set aside.
    pub retry: RetryLimits,
    /// Most sessions at a time.
    pub max_sessions: usize,
    /// Records that may wait for the store before granting stops: what is
    /// computed faster than it can be written would only pile up.
    pub max_unpersisted: usize,
    /// Runs of a sweep that may wait for baselines before the walk stops.
    pub max_parked: usize,
    /// First pause before a failed store operation is tried again; doubles to
    /// sixteen times.
    pub store_retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            numerics_version: 1,
            numeric_level: "fma64-1".to_owned(),
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(2),
            grace: Duration::ZERO,
            retry: RetryLimits::default(),
            max_sessions: 4096,
            max_unpersisted: 16_384,
            max_parked: 4096,
            store_retry: Duration::from_millis(250),
        }
    }
}
