//! `/metrics`: OpenMetrics text.
//!
//! Labels are bounded: states, verdicts and kinds are enums, and a sweep is
//! named by its number for at most [`SWEEPS`] sweeps at a time, the others
//! together as `other`. There is never a task or a worker in a label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::math::NUMERIC_LEVEL;
use common::protocol::FailureKind;
use common::summary::Verdict;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use crate::core::{Core, Status, SweepState};
use crate::rpc::Role;
use crate::sweep::{Counts, GridSweep};
use crate::tally::Tally;

/// Sweeps that have series of their own.
const SWEEPS: usize = 20;

type OfSweep = [(&'static str, String); 2];
type Real = Gauge<f64, AtomicU64>;

/// What the scheduler knows at the moment.
#[derive(Debug, Default)]
struct Seen {
    status: Status,
    counts: Vec<Counts>,
}

impl Seen {
    fn of(core: &Core) -> Self {
        let status = core.status();
        let counts = status.sweeps.iter().map(|sweep| {
            let workload = core.workload(sweep.number)?;
            let grid = workload.as_any().downcast_ref::<GridSweep>()?;
            Some(grid.counts().clone())
        });
        let counts = counts.map(Option::unwrap_or_default).collect();
        Self { status, counts }
    }
}

/// Answers a scraper.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let mut registry = Registry::with_prefix("sweep");
    about(&mut registry, shared.stage.role());
    if let Some(handle) = shared.window.handle() {
        happened(&mut registry, handle.tally());
        if let Some(seen) = handle.look(Seen::of).await {
            workers(&mut registry, &seen.status);
            sweeps(&mut registry, &seen);
        }
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], text).into_response()
}

fn about(registry: &mut Registry, role: Role) {
    let build = Info::new(vec![
        ("version", env!("SWEEP_VERSION")),
        ("numeric_level", NUMERIC_LEVEL),
    ]);
    registry.register("build", "The program", build);
    let leads = Gauge::<i64>::default();
    leads.set(i64::from(role == Role::Leading));
    registry.register("leads", "1 if this coordinator leads its store", leads);
    if let Some(bytes) = resident_memory() {
        let memory = Gauge::<i64>::default();
        memory.set(bytes);
        let help = "Resident memory of the coordinator";
        registry.register_with_unit("resident_memory", help, Unit::Bytes, memory);
    }
}

fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn happened(registry: &mut Registry, tally: &Tally) {
    let tally = tally.clone();
    // Kinds that have not happened are 0, not absent: alerts need a beginning.
    for kind in FailureKind::ALL {
        drop(tally.failures.get_or_create(&[("kind", kind.name())]));
    }
    for outcome in ["durable", "failed"] {
        drop(tally.commits.get_or_create(&[("outcome", outcome)]));
    }
    registry.register("sessions", "Streams of workers", tally.sessions);
    registry.register(
        "sessions_opened",
        "Streams of workers that came",
        tally.sessions_opened,
    );
    registry.register(
        "sessions_refused",
        "Streams of workers that were turned away",
        tally.sessions_refused,
    );
    registry.register("worker_events", "What became of workers", tally.workers);
    registry.register("failures", "Executions that failed", tally.failures);
    registry.register(
        "conflicts",
        "Tasks that came back with different bits: an alarm",
        tally.conflicts,
    );
    registry.register(
        "reports_refused",
        "Reports of workers that were turned down",
        tally.reports_refused,
    );
    registry.register("sweeps_ended", "Sweeps that are over", tally.sweeps_ended);
    registry.register("store_commits", "Commits of the store", tally.commits);
    registry.register("store_records", "Records made durable", tally.records);
    registry.register_with_unit(
        "store_commit",
        "Time from presenting records to the answer of the store",
        Unit::Seconds,
        tally.commit_seconds,
    );
}

fn workers(registry: &mut Registry, status: &Status) {
    let workers = Family::<[(&str, &str); 1], Gauge>::default();
    let count = |wanted: &dyn Fn(bool, bool) -> bool| {
        let found = status.workers.iter();
        found.filter(|w| wanted(w.attached, w.draining)).count() as i64
    };
    let set = |state, number| {
        workers.get_or_create(&[("state", state)]).set(number);
    };
    set(
        "attached",
        count(&|attached, draining| attached && !draining),
    );
    set(
        "draining",
        count(&|attached, draining| attached && draining),
    );
    set("detached", count(&|attached, _| !attached));
    registry.register("workers", "Workers that are known", workers);
    let slots = Gauge::<i64>::default();
    let attached = status.workers.iter().filter(|w| w.attached);
    slots.set(attached.map(|w| i64::from(w.profile.slots)).sum());
    registry.register(
        "slots",
        "Tasks that attached workers compute at a time",
        slots,
    );
    let unpersisted = Gauge::<i64>::default();
    unpersisted.set(status.unpersisted as i64);
    let help = "Records on their way to the store";
    registry.register("store_unpersisted_records", help, unpersisted);
    let failing = Gauge::<i64>::default();
    failing.set(i64::from(status.store_failing));
    registry.register(
        "store_failing",
        "1 while the store takes no records",
        failing,
    );
}

fn sweeps(registry: &mut Registry, seen: &Seen) {
    let tasks = Family::<OfSweep, Gauge>::default();
    let runs = Family::<OfSweep, Gauge>::default();
    let worst = Family::<[(&str, String); 1], Real>::default();
    let mut active: BTreeMap<&str, i64> = BTreeMap::new();
    let (mut queued, mut leased) = (0, 0);
    let others = seen.status.sweeps.len().saturating_sub(SWEEPS);
    for (at, (sweep, counts)) in seen.status.sweeps.iter().zip(&seen.counts).enumerate() {
        // The youngest have the largest numbers.
        let name = if at < others {
            "other".to_owned()
        } else {
            sweep.number.0.to_string()
        };
        let planned = sweep.planned.saturating_sub(sweep.duplicates);
        let rest = planned.saturating_sub(sweep.recorded + sweep.failed + sweep.leased);
        for (state, number) in [
            ("queued", rest),
            ("leased", sweep.leased),
            ("recorded", sweep.recorded),
            ("failed", sweep.failed),
        ] {
            let label = [("sweep", name.clone()), ("state", state.to_owned())];
            tasks.get_or_create(&label).inc_by(number as i64);
        }
        for verdict in Verdict::ALL {
            let number = counts.verdicts.get(verdict);
            let label = [
                ("sweep", name.clone()),
                ("verdict", verdict.name().to_owned()),
            ];
            runs.get_or_create(&label).inc_by(number as i64);
        }
        if let (Some(excess), true) = (counts.worst_excess, at >= others) {
            worst.get_or_create(&[("sweep", name)]).set(excess);
        }
        *active.entry(sweep.state.name()).or_default() += 1;
        if sweep.state == SweepState::Running {
            queued += rest;
        }
        leased += sweep.leased;
    }
    registry.register("tasks", "Tasks of the sweeps that are not over", tasks);
    registry.register(
        "runs",
        "Recorded runs of the sweeps that are not over",
        runs,
    );
    registry.register(
        "worst_excess",
        "Largest value - baseline of a certified run inside the assumptions",
        worst,
    );
    for (name, help, number) in [
        (
            "tasks_queued",
            "Tasks of running sweeps that no worker has: what more workers could take",
            queued,
        ),
        ("tasks_leased", "Tasks in workers' hands", leased),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(number as i64);
        registry.register(name, help, gauge);
    }
    let states = Family::<[(&str, &str); 1], Gauge>::default();
    for state in ["running", "paused"] {
        let number = active.get(state).copied().unwrap_or(0);
        states.get_or_create(&[("state", state)]).set(number);
    }
    registry.register("sweeps", "Sweeps that are not over", states);
}
