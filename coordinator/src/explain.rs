//! Why a task exists, what it waits for, what became of it.

use std::collections::HashMap;
use std::str::FromStr;

use common::canon::describe;
use common::ids::{BaselineId, TaskId};
use common::record::{Evidence, RunEvidence};
use common::summary::{Number, settle};
use serde_json::{Map, Value, json};

use crate::at_rest::{self, Aside, Kept};
use crate::cli::code;
use crate::core::{Lookup, SweepState, Whereabouts};
use crate::run::{Failure, store_failure};
use crate::store::{Store, StoredFailure};
use crate::sweep::{GridSweep, KeepMinima};
use crate::workload::{PlannedWork, Workload};

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The task at a position of the grid.
    Position(u64),
    /// The task whose identity begins so.
    Task(String),
    /// All tasks of a cell, by its number in the summary.
    Cell(usize),
}

/// The text names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no task: give its position in the grid, at least 6 digits of its identity, or cell=N"
)]
pub struct NotATask(String);

impl FromStr for What {
    type Err = NotATask;

    fn from_str(text: &str) -> Result<Self, NotATask> {
        let wrong = || NotATask(text.to_owned());
        if let Some(cell) = text.strip_prefix("cell=") {
            return cell.parse().map(Self::Cell).map_err(|_| wrong());
        }
        // No position has so many digits, and few identities have no letter.
        if text.len() < 16
            && let Ok(position) = text.parse()
        {
            return Ok(Self::Position(position));
        }
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        if hex && text.len() >= 6 {
            Ok(Self::Task(text.to_ascii_lowercase()))
        } else {
            Err(wrong())
        }
    }
}

/// A task of a plan.
struct Found {
    position: u64,
    id: TaskId,
    baseline: Option<BaselineId>,
}

/// Everything that is known of one task, or of those of a cell (at most
/// [`MANY`]); `now` says where live tasks are.
///
/// # Errors
/// When there is no such task, or the store cannot be read.
pub async fn explain<S: Store>(
    store: &S,
    kept: Kept,
    what: &What,
    now: impl AsyncFnOnce(Vec<TaskId>) -> HashMap<TaskId, Whereabouts>,
) -> Result<Value, Failure> {
    let number = kept.stored.number;
    let cancelled = kept.stored.state == SweepState::Cancelled;
    let searches = kept.grid.search().is_some();
    let mut workload = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
    let of_the_grid = match what {
        What::Position(position) => *position < workload.len(),
        What::Task(_) | What::Cell(_) => false,
    };
    if searches && !of_the_grid {
        // The tasks of a search follow from the results.
        at_rest::replay(store, &kept.stored, &mut workload).await?;
    }
    let (found, cells) = find(&mut workload, what);
    if found.is_empty() {
        let name = &kept.stored.text.name;
        let message = match what {
            What::Cell(cell) => format!(
                "the sweep `{name}` has no cell {cell}; it has {cells} cells, numbered from 0"
            ),
            What::Position(_) | What::Task(_) => format!(
                "the sweep `{name}` has no such task; its grid has {} tasks, numbered from 0",
                workload.len()
            ),
        };
        return Err((code::BAD_INPUT, message));
    }
    let mut tasks: Vec<TaskId> = found.iter().map(|f| f.id).collect();
    tasks.extend(found.iter().filter_map(|f| f.baseline).map(TaskId::from));
    let lookup = Lookup {
        sweep: number,
        tasks,
    };
    let known = store.lookup(lookup).await.map_err(|e| store_failure(&e))?;
    let mut set_aside = Aside::default();
    set_aside.note(&known);
    let results: HashMap<TaskId, Evidence> = known
        .results
        .into_iter()
        .map(|(task, opened)| (task, opened.evidence))
        .collect();
    let failures = store
        .failures(number)
        .await
        .map_err(|e| store_failure(&e))?;
    let live = now(found.iter().map(|f| f.id).collect()).await;
    let mut out = Vec::new();
    for task in &found {
        let own = results.get(&task.id);
        let baseline = task.baseline.and_then(|b| results.get(&TaskId::from(b)));
        let aside = set_aside.has(&task.id);
        let blocked = (task.baseline).is_some_and(|b| set_aside.has(&b.into()));
        let now = match (own, aside) {
            (Some(_), _) => "recorded".to_owned(),
            (None, _) if blocked => {
                "set aside, because its baseline failed; `retry` tries it again".to_owned()
            }
            (None, true) => "set aside after its failures; `retry` tries it again".to_owned(),
            (None, false) => match live.get(&task.id) {
                Some(whereabouts) => whereabouts.to_string(),
                None if cancelled => "cancelled; submitting the grid again takes it up".to_owned(),
                None => "planned".to_owned(),
            },
        };
        let mut told = describe_task(&mut workload, task);
        told.insert("state".to_owned(), json!(now));
        let mut needs = baseline_of(task, baseline);
        if let Some(needs) = needs.as_object_mut() {
            let id = task.baseline.map(TaskId::from);
            let own = failures.iter().filter(|f| Some(f.task) == id);
            needs.insert("failures".to_owned(), own.map(failure).collect());
        }
        told.insert("baseline".to_owned(), needs);
        told.insert("result".to_owned(), result_of(own, baseline));
        let own = failures.iter().filter(|f| f.task == task.id);
        told.insert("failures".to_owned(), own.map(failure).collect());
        out.push(Value::Object(told));
    }
    Ok(match (what, out.len()) {
        (What::Cell(_), _) => Value::Array(out),
        (_, 1) => out.swap_remove(0),
        _ => Value::Array(out),
    })
}

/// Tasks of one answer.
const MANY: usize = 1_000;

/// The tasks that are meant, and how many cells were met on the way to them.
fn find(workload: &mut GridSweep, what: &What) -> (Vec<Found>, usize) {
    let positions: Box<dyn Iterator<Item = u64>> = match what {
        What::Position(position) if *position < workload.len() => {
            Box::new(std::iter::once(*position))
        }
        What::Position(_) => Box::new(std::iter::empty()),
        What::Task(_) | What::Cell(_) => Box::new(0..workload.len()),
    };
    let mut cells = Vec::new();
    let mut found: Vec<Found> = Vec::new();
    for position in positions {
        let planned = workload.task(position);
        let (cell, baseline) = match &planned.work {
            PlannedWork::Run { cell, baseline, .. } => (Some(cell.id), Some(*baseline)),
            PlannedWork::Noop { .. } => (None, None),
        };
        let wanted = match what {
            What::Position(_) => true,
            What::Task(prefix) => planned.id.to_string().starts_with(prefix.as_str()),
            What::Cell(n) => {
                let place = cells
                    .iter()
                    .position(|c| Some(*c) == cell)
                    .unwrap_or_else(|| {
                        cells.extend(cell);
                        cells.len() - 1
                    });
                place == *n
            }
        };
        if wanted && !found.iter().any(|f| f.id == planned.id) {
            found.push(Found {
                position,
                id: planned.id,
                baseline,
            });
        }
        if found.len() >= MANY {
            break;
        }
    }
    (found, cells.len())
}

fn describe_task(workload: &mut GridSweep, task: &Found) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("task".to_owned(), json!(task.id));
    told.insert("position".to_owned(), json!(task.position));
    let found_by = workload.found_by(task.position);
    told.insert("found_by".to_owned(), json!(found_by));
    if let Some(planned) = workload.task_at(task.position) {
        let cell: Map<_, _> = describe(&planned.spec.cell).into_iter().collect();
        told.insert("cell".to_owned(), Value::Object(cell));
        let broken = workload.assumptions_broken(task.position);
        told.insert("assumptions_broken".to_owned(), json!(broken));
        told.insert("seed".to_owned(), json!(planned.spec.seed));
        told.insert("start".to_owned(), json!(planned.spec.start));
    }
    told
}

fn baseline_of(task: &Found, evidence: Option<&Evidence>) -> Value {
    match (task.baseline, evidence) {
        (None, _) => Value::Null,
        (Some(id), Some(Evidence::Baseline(b))) => json!({
            "baseline": id,
            "value": b.value,
            "lower_bound": b.lower_bound,
        }),
        (Some(id), _) => json!({"baseline": id, "state": "not solved yet: the task waits for it"}),
    }
}

fn result_of(own: Option<&Evidence>, baseline: Option<&Evidence>) -> Value {
    let Some(Evidence::Run(run)) = own else {
        return Value::Null;
    };
    let value = match baseline {
        Some(Evidence::Baseline(b)) => b.value,
        _ => f64::NAN,
    };
    let settled = settle(run.outcome, run.value, value);
    json!({
        "verdict": settled.verdict,
        "value": run.value,
        "excess": settled.excess,
        "gradient_norm": run.gradient_norm,
        "min_eigenvalue": run.min_eigenvalue,
        "evaluations": run.evaluations,
        "curve": curve(run),
    })
}

/// Work so far in evaluations, objective, ‖∇‖∞: the points that are kept of a run.
pub fn curve(run: &RunEvidence) -> Vec<(u64, Number, Number)> {
    let point = |p: &common::record::CurvePoint| {
        let real = |x: f32| Number(f64::from(x));
        (p.evaluations, real(p.objective), real(p.gradient_norm))
    };
    run.curve.iter().map(point).collect()
}

fn failure(failure: &StoredFailure) -> Value {
    json!({
        "attempt": failure.attempt.to_string(),
        "worker": failure.worker,
        "kind": failure.kind.name(),
        "message": failure.message,
        "failed_at_ms": failure.failed_at,
        "set_aside": failure.set_aside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_identities_and_cells_are_told_apart() {
        assert_eq!("17".parse(), Ok(What::Position(17)));
        assert_eq!("cell=3".parse(), Ok(What::Cell(3)));
        assert_eq!("ABCdef12".parse(), Ok(What::Task("abcdef12".to_owned())));
        let long = "1".repeat(64);
        assert_eq!(long.parse(), Ok(What::Task(long.clone())));
        for wrong in ["", "x", "abc", "cell=", "cell=x", "-1"] {
            assert!(wrong.parse::<What>().is_err(), "{wrong}");
        }
    }
}
