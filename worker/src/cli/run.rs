//! `worker run`: one task of a grid, here and now.

use anyhow::Context;
use common::canon::{baseline_id, describe, task_id};
use common::ids::to_hex;
use common::pb::encode_evidence;
use common::record::{BaselineEvidence, Evidence, RunEvidence};
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
    if let Some(path) = &args.record {
        let baseline_id = baseline_id(&spec.cell, cell.data_identity());
        let record = json!({
            "task": id,
            "evidence": encoded(Evidence::Run(Box::new(finished.evidence.clone()))),
            "baseline": baseline_id,
            "baseline_evidence": encoded(Evidence::Baseline(Box::new(baseline.clone()))),
        });
        std::fs::write(path, format!("{record:#}\n"))
            .with_context(|| format!("cannot write `{}`", path.display()))?;
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

/// Evidence as it is stored, in hexadecimal.
fn encoded(evidence: Evidence) -> String {
    to_hex(&encode_evidence(&evidence))
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
