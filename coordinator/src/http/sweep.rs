//! `/api/sweeps/…`: one sweep, its cells, their runs, its failures.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use common::ids::{CellId, TaskId};
use common::protocol::SweepNumber;
use common::summary::CellSummary;
use serde::Deserialize;
use serde_json::{Value, json};

use super::heat::{self, field};
use super::plan::Plan;
use super::reply::{Refusal, json};
use super::runs::{self, CellRuns};
use super::snapshot::Snapshot;
use super::{Shared, View};
use crate::progress::violations_inside;
use crate::store::Store;
use crate::table::{outside, varying};

/// Cells of one answer.
const CELLS: usize = 100;
/// Runs of one answer.
const RUNS: usize = 50;
/// Failures that are shown, the last ones.
const FAILURES: usize = 200;
/// Bars of a distribution.
const BARS: usize = 40;

/// The cells that a page asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Which {
    x: String,
    y: String,
    /// Values of the two fields.
    vx: String,
    vy: String,
    page: usize,
    sort: runs::Sort,
}

/// A sweep's summary without its cells, and the heat map.
pub(super) async fn sweep(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<u32>,
    Query(which): Query<Which>,
) -> Result<Response, Refusal> {
    let (view, snapshot) = snapshot(&shared, number).await?;
    let plan = plan(&shared, view, number).await;
    let summary = &snapshot.summary;
    let outside = outside(summary);
    json(&json!({
        "sweep": summary.sweep,
        "totals": summary.totals,
        "overall": summary.overall,
        "cells": summary.cells.len(),
        "violations_inside": violations_inside(summary),
        "outside": {"cells": outside.cells, "found": outside.found},
        "verdicts": cell_verdicts(&summary.cells),
        "heat": heat::map(&snapshot, plan.as_deref(), &which.x, &which.y),
    }))
}

fn cell_verdicts(cells: &[CellSummary]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.verdict.name()).or_default() += 1;
    }
    counts
}

/// Cells, those that may need a look first: by excess.
pub(super) async fn cells(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<u32>,
    Query(which): Query<Which>,
) -> Result<Response, Refusal> {
    let (_, snapshot) = snapshot(&shared, number).await?;
    let all = &snapshot.summary.cells;
    let fields = varying(all);
    let matches = |cell: &CellSummary, name: &str, value: &str| {
        name.is_empty() || value.is_empty() || field(cell, name) == value
    };
    let mut found: Vec<usize> = (0..all.len())
        .filter(|i| matches(&all[*i], &which.x, &which.vx))
        .filter(|i| matches(&all[*i], &which.y, &which.vy))
        .collect();
    let excess = |i: usize| {
        let worst = all[i].worst.as_ref().and_then(|run| run.excess);
        worst.map_or(f64::NEG_INFINITY, |excess| excess.0)
    };
    found.sort_by(|a, b| excess(*b).total_cmp(&excess(*a)));
    let count = found.len();
    let page = found
        .into_iter()
        .skip(which.page.saturating_mul(CELLS))
        .take(CELLS);
    let rows: Vec<Value> = page
        .map(|i| {
            let cell = &all[i];
            json!({
                "cell": snapshot.cells[i],
                "values": fields.iter().map(|f| field(cell, f)).collect::<Vec<_>>(),
                "runs": cell.runs,
                "certified": cell.verdicts.certified(),
                "failed": cell.failed,
                "baseline": cell.baseline.map(|b| b.value),
                "worst": cell.worst.as_ref().map(|w| w.value),
                "excess": cell.worst.as_ref().and_then(|w| w.excess),
                "verdict": cell.verdict,
            })
        })
        .collect();
    json(&json!({"fields": fields, "count": count, "page_size": CELLS, "rows": rows}))
}

/// One cell: its summary, the distribution of its minima, a page of its runs.
pub(super) async fn cell(
    State(shared): State<Arc<Shared>>,
    Path((number, cell)): Path<(u32, String)>,
    Query(which): Query<Which>,
) -> Result<Response, Refusal> {
    let (view, snapshot) = snapshot(&shared, number).await?;
    let (at, id) = find(&snapshot, &cell)?;
    let plan = shared.plans.of(&view.sweeps, SweepNumber(number)).await?;
    let summary = &snapshot.summary.cells[at];
    let mut runs = runs::of_cell(view, &plan, SweepNumber(number), &id).await?;
    let bars = bars(summary, &runs);
    runs.sort(which.sort);
    let from = which.page.saturating_mul(RUNS);
    let page: Vec<_> = runs.rows.iter().skip(from).take(RUNS).collect();
    json(&json!({
        "sweep": snapshot.summary.sweep.name,
        "cell": id,
        "summary": summary,
        "planned": plan.cell(&id).map(|c| c.positions.len()),
        "distribution": bars,
        "runs": {
            "count": runs.rows.len(),
            "left_out": runs.left_out,
            "page_size": RUNS,
            "rows": page,
        },
    }))
}

/// How the certified minima are distributed, with the baseline on the same axis.
fn bars(cell: &CellSummary, runs: &CellRuns) -> Option<Value> {
    let values: Vec<f64> = runs.certified().filter(|v| v.is_finite()).collect();
    let baseline = cell.baseline.map(|b| b.value.0).filter(|v| v.is_finite());
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.iter().copied().chain(baseline) {
        (low, high) = (low.min(value), high.max(value));
    }
    if values.is_empty() {
        return None;
    }
    // Differences that no one can see are not blown up to the whole width.
    let least = 1e-9 * low.abs().max(high.abs()).max(1e-9);
    if high - low < least {
        (low, high) = (low - least, high + least);
    }
    let mut counts = vec![0_u64; BARS];
    for value in &values {
        let share = (value - low) / (high - low);
        counts[((share * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    Some(json!({"low": low, "high": high, "baseline": baseline, "counts": counts}))
}

/// One run: its certificate, its curve, what became of its attempts.
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Path((number, cell, task)): Path<(u32, String, String)>,
) -> Result<Response, Refusal> {
    let (view, snapshot) = snapshot(&shared, number).await?;
    let (at, id) = find(&snapshot, &cell)?;
    let task: TaskId = (task.parse()).map_err(|_| Refusal::nothing("that is no task"))?;
    let plan = shared.plans.of(&view.sweeps, SweepNumber(number)).await?;
    let summary = &snapshot.summary.cells[at];
    let run = runs::one(view, &plan, SweepNumber(number), &id, task, summary).await?;
    json(&json!({
        "sweep": snapshot.summary.sweep.name,
        "cell": id,
        "description": summary.cell,
        "assumptions_broken": summary.assumptions_broken,
        "baseline": summary.baseline,
        "run": run,
    }))
}

/// What failed: how often, why, and the last of them.
pub(super) async fn failures(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<u32>,
) -> Result<Response, Refusal> {
    let view = shared.view()?;
    let number = SweepNumber(number);
    let failures = view.sweeps.store().failures(number).await;
    let mut failures = failures.map_err(Refusal::unavailable)?;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let mut aside: std::collections::BTreeSet<TaskId> = std::collections::BTreeSet::new();
    for failure in &failures {
        *kinds.entry(failure.kind.name()).or_default() += 1;
        if failure.set_aside {
            aside.insert(failure.task);
        }
    }
    let count = failures.len();
    failures.sort_by_key(|f| std::cmp::Reverse((f.failed_at, f.attempt)));
    let rows: Vec<Value> = (failures.iter().take(FAILURES))
        .map(|f| {
            json!({
                "task": f.task,
                "attempt": f.attempt.to_string(),
                "worker": f.worker,
                "kind": f.kind.name(),
                "message": f.message,
                "failed_at": f.failed_at,
                "set_aside": f.set_aside,
            })
        })
        .collect();
    json(&json!({"count": count, "kinds": kinds, "set_aside": aside.len(), "rows": rows}))
}

async fn snapshot(shared: &Shared, number: u32) -> Result<(&View, Arc<Snapshot>), Refusal> {
    let view = shared.view()?;
    let plan = plan(shared, view, number).await;
    let found = shared
        .snapshots
        .of(&view.sweeps, SweepNumber(number), plan)
        .await?;
    let found = found.ok_or_else(|| Refusal::nothing(format!("there is no sweep {number}")))?;
    Ok((view, found))
}

/// Without a plan, the cells that nobody has met and the progress of the others are missing.
async fn plan(shared: &Shared, view: &View, number: u32) -> Option<Arc<Plan>> {
    let plan = shared.plans.of(&view.sweeps, SweepNumber(number)).await;
    plan.ok()
}

fn find(snapshot: &Snapshot, prefix: &str) -> Result<(usize, CellId), Refusal> {
    let none = || Refusal::nothing("no cell that is known so far has this identity");
    let at = snapshot.find(prefix).ok_or_else(none)?;
    Ok((at, snapshot.cells[at]))
}
