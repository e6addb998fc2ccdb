//! The runs of a cell, from the store: what is recorded of each, and one of
//! them in full.

use std::cmp::Ordering;
use std::collections::HashMap;

use common::ids::{BaselineId, CellId, TaskId};
use common::protocol::SweepNumber;
use common::record::{Evidence, RunEvidence};
use common::summary::{CellSummary, Number, Verdict, settle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::View;
use super::plan::{Plan, PlannedTask};
use super::reply::Refusal;
use crate::at_rest::Aside;
use crate::core::{Known, Lookup};
use crate::explain::{self, What};
use crate::store::Store;

/// Runs of a cell that are looked at; a cell with more shows these.
const RUNS: usize = 10_000;
/// Tasks that are looked up at a time.
const PAGE: usize = 2_000;

/// What decides the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sort {
    /// Place in the grid.
    #[default]
    Position,
    /// Largest first; runs without one last.
    Value,
    /// Most first.
    Evaluations,
    /// Verdicts together.
    Verdict,
}

/// A run in a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    task: TaskId,
    position: u64,
    seed: u64,
    start: String,
    /// `None` if it is not recorded.
    verdict: Option<Verdict>,
    set_aside: bool,
    value: Option<Number>,
    excess: Option<Number>,
    gradient_norm: Option<Number>,
    evaluations: Option<u64>,
}

/// The runs of a cell.
#[derive(Debug)]
pub(super) struct CellRuns {
    pub(super) rows: Vec<Row>,
    /// Runs beyond those that are looked at.
    pub(super) left_out: usize,
}

impl CellRuns {
    /// Values of the certified ones.
    pub(super) fn certified(&self) -> impl Iterator<Item = f64> {
        let certified = |row: &&Row| row.verdict.is_some_and(Verdict::is_certified);
        let values = self.rows.iter().filter(certified);
        values.filter_map(|row| row.value.map(|v| v.0))
    }

    pub(super) fn sort(&mut self, by: Sort) {
        let value = |row: &Row| row.value.map_or(f64::NEG_INFINITY, |v| v.0);
        self.rows.sort_by(|a, b| {
            let order = match by {
                Sort::Position => Ordering::Equal,
                Sort::Value => value(b).total_cmp(&value(a)),
                Sort::Evaluations => b.evaluations.cmp(&a.evaluations),
                Sort::Verdict => a
                    .verdict
                    .is_none()
                    .cmp(&b.verdict.is_none())
                    .then(a.verdict.cmp(&b.verdict)),
            };
            order.then(a.position.cmp(&b.position))
        });
    }
}

/// The runs of a cell in the order of the grid.
pub(super) async fn of_cell(
    view: &View,
    plan: &Plan,
    sweep: SweepNumber,
    cell: &CellId,
) -> Result<CellRuns, Refusal> {
    let planned = plan
        .cell(cell)
        .ok_or_else(|| Refusal::nothing("there is no such cell"))?;
    let positions = &planned.positions[..planned.positions.len().min(RUNS)];
    let left_out = planned.positions.len() - positions.len();
    let id = planned.baseline;
    let (baseline, mut set_aside) = baseline(view, sweep, id).await?;
    let mut rows = Vec::with_capacity(positions.len());
    for part in positions.chunks(PAGE) {
        let tasks = plan.tasks(part);
        let lookup = Lookup {
            sweep,
            tasks: tasks.iter().map(|t| t.id).collect(),
        };
        let known = view.sweeps.store().lookup(lookup).await;
        let known = known.map_err(Refusal::unavailable)?;
        set_aside.note(&known);
        let mut results: HashMap<TaskId, Evidence> = (known.results.into_iter())
            .map(|(task, opened)| (task, opened.evidence))
            .collect();
        for task in tasks {
            let evidence = results.remove(&task.id);
            let aside = set_aside.has_failed(&task.id, &id);
            rows.push(row(task, evidence.as_ref(), aside, baseline));
        }
    }
    Ok(CellRuns { rows, left_out })
}

/// The value of a baseline, and whether it is set aside.
async fn baseline(
    view: &View,
    sweep: SweepNumber,
    id: BaselineId,
) -> Result<(Option<f64>, Aside), Refusal> {
    let known = lookup(view, sweep, id.into()).await?;
    let mut aside = Aside::default();
    aside.note(&known);
    let value = match known.results.first() {
        Some((_, opened)) => match &opened.evidence {
            Evidence::Baseline(baseline) => Some(baseline.value),
            _ => None,
        },
        None => None,
    };
    Ok((value, aside))
}

async fn lookup(view: &View, sweep: SweepNumber, task: TaskId) -> Result<Known, Refusal> {
    let tasks = vec![task];
    let known = view.sweeps.store().lookup(Lookup { sweep, tasks }).await;
    known.map_err(Refusal::unavailable)
}

async fn evidence(
    view: &View,
    sweep: SweepNumber,
    task: TaskId,
) -> Result<Option<Evidence>, Refusal> {
    let known = lookup(view, sweep, task).await?;
    let mut results = known.results.into_iter();
    Ok(results.next().map(|(_, opened)| opened.evidence))
}

fn row(task: PlannedTask, evidence: Option<&Evidence>, aside: bool, baseline: Option<f64>) -> Row {
    let run = match evidence {
        Some(Evidence::Run(run)) => Some(run.as_ref()),
        _ => None,
    };
    let settled = run.map(|r| settle(r.outcome, r.value, baseline.unwrap_or(f64::NAN)));
    Row {
        task: task.id,
        position: task.position,
        seed: task.seed,
        start: task.start,
        verdict: settled.map(|s| s.verdict),
        set_aside: aside && run.is_none(),
        value: run.map(|r| Number(r.value)),
        excess: settled.zip(baseline).map(|(s, _)| Number(s.excess)),
        gradient_norm: run.map(|r| Number(r.gradient_norm)),
        evaluations: run.map(|r| r.evaluations),
    }
}

/// Everything that is known of one run of a cell.
pub(super) async fn one(
    view: &View,
    plan: &Plan,
    sweep: SweepNumber,
    cell: &CellId,
    task: TaskId,
    summary: &CellSummary,
) -> Result<Value, Refusal> {
    let planned = plan
        .cell(cell)
        .ok_or_else(|| Refusal::nothing("there is no such cell"))?;
    let mut found = None;
    for part in planned.positions.chunks(PAGE) {
        found = plan.tasks(part).into_iter().find(|t| t.id == task);
        if found.is_some() {
            break;
        }
    }
    let evidence = evidence(view, sweep, task).await?;
    let run = match &evidence {
        Some(Evidence::Run(run)) => Some(run.as_ref()),
        _ => None,
    };
    if found.is_none() && run.is_none() {
        return Err(Refusal::nothing("the cell has no such task"));
    }
    let baseline = summary.baseline.map_or(f64::NAN, |b| b.value.0);
    let settled = run.map(|r| settle(r.outcome, r.value, baseline));
    let told = match &found {
        Some(task) => explained(view, sweep, &What::Position(task.position)).await?,
        // A search has planned it, not the grid; one that is stale plans it no more.
        None => {
            let told = explained(view, sweep, &What::Task(task.to_string())).await;
            told.unwrap_or(Value::Null)
        }
    };
    let start = found.as_ref().map(|t| json!(t.start));
    Ok(json!({
        "task": task,
        "position": found.as_ref().map(|t| t.position),
        "seed": told["seed"],
        "start": start.as_ref().unwrap_or(&told["start"]),
        "state": told["state"],
        "failures": told["failures"],
        "verdict": settled.map(|s| s.verdict),
        "excess": settled.map(|s| Number(s.excess)),
        "certificate": run.map(certificate),
        "curve": run.map(explain::curve),
    }))
}

async fn explained(view: &View, sweep: SweepNumber, what: &What) -> Result<Value, Refusal> {
    let kept = view
        .sweeps
        .kept(sweep)
        .await
        .map_err(Refusal::unavailable)?;
    let kept = kept.ok_or_else(|| Refusal::nothing(format!("there is no sweep {sweep}")))?;
    let now = async |tasks| view.sweeps.whereabouts(tasks).await;
    let store = view.sweeps.store().as_ref();
    let found = explain::explain(store, kept, what, now).await;
    found.map_err(|(_, message)| Refusal::unavailable(message))
}

fn certificate(run: &RunEvidence) -> Value {
    let n = |x: f64| json!(Number(x));
    let o = |x: Option<f64>| json!(x.map(Number));
    let entries = [
        ("objective", n(run.objective)),
        ("value", n(run.value)),
        ("induced_value", o(run.induced_value)),
        ("gap_bound", o(run.gap_bound)),
        ("gradient_norm", n(run.gradient_norm)),
        ("newton_step", o(run.newton_step)),
        ("min_eigenvalue", o(run.min_eigenvalue)),
        ("max_eigenvalue", o(run.max_eigenvalue)),
        ("eigenvalue_method", json!(run.eigenvalue_method)),
        (
            "eigenvalue_failure_probability",
            o(run.eigenvalue_failure_probability),
        ),
        ("norm_A", o(run.norm_a)),
        ("norm_B", o(run.norm_b)),
        ("sigma_min_W", o(run.sigma_min_w)),
        ("norm_theta", n(run.norm_theta)),
        ("norm_u", n(run.norm_u)),
        ("norm_W", n(run.norm_w)),
        ("norm_WV", o(run.norm_wv)),
        ("kinks", json!(run.kinks)),
        ("kink_margin", o(run.kink_margin)),
        ("kink_slack", o(run.kink_slack)),
        ("refuted", json!(run.refuted)),
        ("refuted_excess", o(run.refuted_excess)),
        ("parameters", json!(run.parameters)),
        ("evaluations", json!(run.evaluations)),
        ("gradients", json!(run.gradients)),
        ("products", json!(run.products)),
        ("hessians", json!(run.hessians)),
    ];
    let named = entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Value::Object(named.collect())
}
