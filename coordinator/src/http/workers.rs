//! `/api/workers`: who computes.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::reply::{Refusal, json};
use crate::core::{Config, Core, WorkerStatus};

/// Workers of one answer.
const WORKERS: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    page: usize,
}

/// Workers by host and name, a page of them.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(which): Query<Which>,
) -> Result<Response, Refusal> {
    let handle = shared.view()?.sweeps.handle();
    let status = handle.look(Core::status).await;
    let mut workers = status.unwrap_or_default().workers;
    let name = |w: &WorkerStatus| (w.profile.host.clone(), w.profile.name.clone());
    workers.sort_by_cached_key(|w| (name(w), w.id));
    let count = workers.len();
    let page = workers
        .iter()
        .skip(which.page.saturating_mul(WORKERS))
        .take(WORKERS);
    let rows: Vec<Value> = page.map(worker).collect();
    json(&json!({"count": count, "page_size": WORKERS, "rows": rows}))
}

fn worker(worker: &WorkerStatus) -> Value {
    let slots = f64::from(worker.profile.slots);
    // A lease is renewed by every sign of life.
    let silent = Config::default().lease.saturating_sub(worker.expires_in);
    json!({
        "name": worker.profile.name,
        "host": worker.profile.host,
        "version": worker.profile.program_version,
        "state": match (worker.attached, worker.draining) {
            (true, true) => "draining",
            (true, false) => "attached",
            (false, _) => "detached",
        },
        "slots": worker.profile.slots,
        "held": worker.held,
        "window": worker.window,
        "task_seconds": worker.task_seconds,
        "rate": worker.task_seconds.filter(|s| *s > 0.0).map(|s| slots / s),
        "memory": worker.memory,
        "silent_seconds": silent.as_secs_f64(),
    })
}
