//! `worker run`: one task of a grid or of a recorded minimum, here and now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use common::canon::{CellIdentity, StartIdentity, baseline_id, describe, task_id};
use common::grid::{CellIndex, Grid};
use common::ids::{TaskId, to_hex};
use common::pb::encode_evidence;
use common::record::{BaselineEvidence, Evidence, RunEvidence};
use common::spec::{Start, TaskSpec};
use common::summary::{is_trivial, settle};
use engine::task::{Cell, Threads};
use serde_json::{Map, Value, json};

use super::args::RunArgs;
use super::grid::LoadedGrid;
use super::{BadInput, Status, grid, json as show, minimum, print};
use crate::files::{self, Contents};

pub(super) fn main(args: &RunArgs) -> anyhow::Result<Status> {
    let chosen = match (&args.grid, &args.task, &args.minimum) {
        (Some(grid), Some(task), _) => Chosen::of_grid(grid, task)?,
        (_, _, Some(file)) => Chosen::of_minimum(file, args.files.as_deref())?,
        _ => {
            let needed = "either --grid FILE --task N or --minimum TASK.json is needed";
            return Err(BadInput(needed.to_owned()).into());
        }
    };
    let spec = &chosen.spec;
    let content = |sha256: &str| chosen.contents.get(sha256);
    let cell =
        Cell::new(Arc::clone(&spec.cell), content).map_err(|error| BadInput(error.to_string()))?;
    let id = task_id(spec, cell.data_identity())?;
    if let Some(claimed) = chosen.claimed
        && claimed != id
    {
        let other = format!("it says that it is task {claimed}, its specification is task {id}");
        return Err(BadInput(other).into());
    }
    let baseline = cell.baseline();
    let threads = Threads(usize::from(args.threads));
    // Without this all cores would take part. A pool that stands already is as good: no bit
    // depends on it.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.0)
        .build_global();
    let mut run = cell
        .run(&spec.start, spec.seed, &baseline, content, threads)
        .map_err(|error| BadInput(error.to_string()))?;
    let finished = run.to_end();
    if let Some(folder) = &args.out {
        let table = grid::table(&spec.cell, content)?;
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
        "position": chosen.position,
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

/// The task to compute, with its files.
struct Chosen {
    spec: TaskSpec,
    contents: Contents,
    /// The identity that a file claims for it.
    claimed: Option<TaskId>,
    /// Where it stands in its grid.
    position: Option<u64>,
}

impl Chosen {
    fn of_grid(path: &Path, task: &str) -> anyhow::Result<Self> {
        let loaded = grid::load(path)?;
        // No position has so many digits, and few identities have no letter.
        let position = match task.parse() {
            Ok(position) if task.len() < 16 => position,
            _ => position_of(&loaded, task)?,
        };
        let Some(task) = loaded.grid.task(position) else {
            return Err(no_such_task(&loaded.grid, position).into());
        };
        Ok(Self {
            spec: task.spec,
            contents: loaded.contents,
            claimed: None,
            position: Some(position),
        })
    }

    fn of_minimum(path: &Path, files: Option<&Path>) -> anyhow::Result<Self> {
        let claimed = minimum::read(&path.with_extension("json"))?;
        let folders = minimum::folders(path, files);
        let mut wanted = files::of_cell(&claimed.spec.cell);
        wanted.extend(files::of_start(&claimed.spec.start).cloned());
        Ok(Self {
            contents: minimum::contents(wanted, &folders)?,
            spec: claimed.spec,
            claimed: Some(claimed.task),
            position: None,
        })
    }
}

/// The first task of a grid whose identity begins with these digits.
fn position_of(loaded: &LoadedGrid, digits: &str) -> anyhow::Result<u64> {
    let digits = digits.to_ascii_lowercase();
    if digits.len() < 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        let text = format!(
            "`{digits}` is no task: give its number in the grid, or at least 6 digits of its identity"
        );
        return Err(BadInput(text).into());
    }
    let mut cells: HashMap<CellIndex, CellIdentity> = HashMap::new();
    let mut starts: Vec<(Start, StartIdentity)> = Vec::new();
    for task in loaded.grid.tasks(0) {
        let spec = &task.spec;
        let cell = match cells.entry(task.cell) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let data = loaded.data_identity(&spec.cell)?;
                free.insert(CellIdentity::new(&spec.cell, &data)?)
            }
        };
        let known = starts.iter().position(|(start, _)| *start == spec.start);
        let start = match known {
            Some(known) => known,
            None => {
                starts.push((spec.start.clone(), StartIdentity::new(&spec.start)?));
                starts.len() - 1
            }
        };
        let id = cell.task(&starts[start].1, spec.seed);
        if id.to_string().starts_with(&digits) {
            return Ok(task.position);
        }
    }
    let mut text = format!("no task of the grid has an identity that begins with {digits}");
    if loaded.grid.search().is_some() {
        text.push_str(
            "; tasks of its search are not in the grid: worker run --minimum TASK.json computes \
             one that `minima` has",
        );
    }
    Err(BadInput(text).into())
}

/// Numbers beyond the grid's are the search's, which only a coordinator with the results of all
/// earlier rounds can say.
fn no_such_task(grid: &Grid, number: u64) -> BadInput {
    let n = grid.len();
    let mut text = format!("there is no task {number}: the grid has {n}, numbered from 0");
    if grid.search().is_some_and(|s| number - n < s.runs) {
        text.push_str(
            "; this one is chosen by its search, from the results before it. The TASK.json that a \
             coordinator leaves in `minima` reproduces it: worker run --minimum TASK.json",
        );
    }
    BadInput(text)
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
