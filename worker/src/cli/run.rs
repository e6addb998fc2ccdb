//! `worker run`: one task of a grid, here and now.

use common::canon::{describe, task_id};
use common::record::{BaselineEvidence, RunEvidence};
use common::summary::{is_trivial, settle};
use engine::task::Threads;
use serde_json::{Map, Value, json};

use super::args::RunArgs;
use super::{BadInput, Status, grid, json as show, minimum, print};

pub(super) fn main(args: &RunArgs) -> anyhow::Result<Status> {
    let loaded = grid::load(&args.grid)?;
    let task = loaded.grid.task(args.task).ok_or_else(|| {
        let n = loaded.grid.len();
        BadInput(format!(
            "there is no task {}: the grid has {n}, numbered from 0",
            args.task
        ))
    })?;
    let spec = &task.spec;
    let cell = loaded.cell(&spec.cell)?;
    let id = task_id(spec, cell.data_identity())?;
    let baseline = cell.baseline();
    let threads = Threads(usize::from(args.threads));
    let content = |sha256: &str| loaded.content(sha256);
    let mut run = cell
        .run(&spec.start, spec.seed, &baseline, content, threads)
        .map_err(|error| BadInput(error.to_string()))?;
    let finished = run.to_end();
    if let Some(folder) = &args.out {
        let table = loaded.table(&spec.cell)?;
        minimum::write(
            folder,
            id,
            spec,
            &cell,
            table.as_ref(),
            &baseline,
            &finished,
        )?;
    }
    let mut shown = json!({
        "task": id,
        "position": task.position,
        "cell": describe(&spec.cell).into_iter().collect::<Map<_, _>>(),
        "seed": spec.seed,
        "start": spec.start,
    });
    if let Value::Object(map) = &mut shown {
        map.append(&mut claim(&finished.evidence, &baseline));
    }
    print(&shown)?;
    Ok(Status::Done)
}

/// A run beside its baseline.
pub(super) fn claim(evidence: &RunEvidence, baseline: &BaselineEvidence) -> Map<String, Value> {
    let settled = settle(evidence.outcome, evidence.value, baseline.value);
    let fields = [
        ("verdict", json!(settled.verdict)),
        ("excess", show::number(settled.excess)),
        ("at_baseline", json!(settled.at_baseline)),
        ("trivial", json!(is_trivial(evidence))),
        ("baseline", Value::Object(show::baseline(baseline))),
        ("evidence", show::run(evidence)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
