//! Kept minima as files that anybody can check.
//!
//! | file | what |
//! |---|---|
//! | `TASK.npz` | θ, one array per name (W, V, A1, …) |
//! | `TASK.json` | the task's full specification, its evidence, its baseline with the minimiser R* |
//! | `data-HASH.npz` | what the network read: `x`, `phi`, `y`, `mask` and `z` where there are such; equal data share a file |
//!
//! `docs/check_minimum.py` recomputes a claim from these three with NumPy
//! alone. Data of more than 8 Mi numbers are not copied out: `data` is null.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor};
use std::path::Path;

use common::canon::{DataIdentity, NUMERICS_VERSION, baseline_id};
use common::data::{self, Preparation};
use common::ids::{BaselineId, TaskId};
use common::layout::{LayoutDims, ParamArray, layout};
use common::math::NUMERIC_LEVEL;
use common::record::{BaselineEvidence, Evidence};
use common::spec::{Body, CellSpec, ModelSpec};
use ndarray::{Array2, ArrayD, IxDyn};
use ndarray_npy::NpzWriter;
use serde_json::{Value, json};

use crate::core::Lookup;
use crate::export::{ExportError, write};
use crate::store::{Store, StoredSweep};
use crate::sweep::{Contents, GridSweep};

/// What the files of all minima of a cell have in common.
struct CellFiles {
    arrays: Vec<ParamArray>,
    /// Name of the data's file.
    data: Option<String>,
    baseline: BaselineId,
}

/// Writes the minima of a sweep that are kept. Returns those whose parameters the store has not:
/// their results were recorded by another sweep, or under another `--minima`. Their `TASK.json` is
/// there all the same, and `worker run --minimum` computes them once more.
///
/// # Errors
/// When the disk or the store fails; what was written before stays.
pub async fn write_all<S: Store>(
    folder: &Path,
    store: &S,
    sweep: &StoredSweep,
    workload: &GridSweep,
) -> Result<Vec<TaskId>, ExportError> {
    let kept = workload.kept();
    let mut without = Vec::new();
    if kept.is_empty() {
        return Ok(without);
    }
    let io = |path: &Path, source| ExportError::Io {
        path: path.to_owned(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
    let known = evidence(store, sweep, kept.iter().map(|(_, task)| *task).collect()).await?;
    let mut cells: HashMap<String, CellFiles> = HashMap::new();
    for (position, task) in kept {
        let Some(Evidence::Run(run)) = known.get(&task) else {
            continue;
        };
        let Some(planned) = workload.task_at(position) else {
            continue;
        };
        let spec = &planned.spec;
        let key = serde_json::to_string(&spec.cell).unwrap_or_default();
        if !cells.contains_key(&key) {
            // Every cell's data were checked before the sweep began.
            let Some(files) = cell_files(folder, &spec.cell, workload.contents())? else {
                continue;
            };
            cells.insert(key.clone(), files);
        }
        let files = &cells[&key];
        if let Some(theta) = store.theta(task).await? {
            let path = folder.join(format!("{task}.npz"));
            let archive =
                theta_archive(&files.arrays, &theta).map_err(|source| io(&path, source))?;
            write(&path, &archive)?;
        } else {
            without.push(task);
        }
        let id = TaskId::from(files.baseline);
        let baseline = evidence(store, sweep, vec![id]).await?;
        let baseline = match baseline.get(&id) {
            Some(Evidence::Baseline(baseline)) => shown_baseline(baseline),
            _ => Value::Null,
        };
        let text = json!({
            "schema": "minimum/1",
            "task": task,
            "specification": spec,
            "numerics_version": NUMERICS_VERSION,
            "numeric_level": NUMERIC_LEVEL,
            "arrays": files.arrays.iter().map(|a| json!({"name": a.name, "shape": a.shape}))
                .collect::<Vec<_>>(),
            "data": files.data,
            "evidence": run,
            "baseline": baseline,
        });
        let text = format!("{text:#}\n");
        write(&folder.join(format!("{task}.json")), text.as_bytes())?;
    }
    Ok(without)
}

/// A baseline with R*, which the gap bound is taken against.
fn shown_baseline(baseline: &BaselineEvidence) -> Value {
    let rows = baseline.minimizer.chunks(baseline.features.max(1));
    json!({
        "value": baseline.value,
        "lower_bound": baseline.lower_bound,
        "status": baseline.status,
        "minimizer": rows.collect::<Vec<_>>(),
    })
}

async fn evidence<S: Store>(
    store: &S,
    sweep: &StoredSweep,
    tasks: Vec<TaskId>,
) -> Result<BTreeMap<TaskId, Evidence>, ExportError> {
    let lookup = Lookup {
        sweep: sweep.number,
        tasks,
    };
    let known = store.lookup(lookup).await?;
    let opened = known.results.into_iter();
    Ok(opened.map(|(task, o)| (task, o.evidence)).collect())
}

/// Writes a cell's data; `None` if they have gone.
fn cell_files(
    folder: &Path,
    cell: &CellSpec,
    contents: &Contents,
) -> Result<Option<CellFiles>, ExportError> {
    let content = |sha: &str| contents.get(sha).map(AsRef::as_ref);
    let Ok(set) = data::load(&cell.data, content) else {
        return Ok(None);
    };
    let how = Preparation {
        loss: cell.loss,
        standardize: cell.standardize,
        features: cell.model.features,
        intercept: cell.model.intercept,
    };
    let Ok(prepared) = data::prepare(&set, &how) else {
        return Ok(None);
    };
    let model = ModelSpec {
        image: cell.model.image.or(set.image),
        ..cell.model.clone()
    };
    let table = match &model.body {
        Body::Table(file) => content(&file.sha256).and_then(|bytes| data::matrix(file, bytes).ok()),
        _ => None,
    };
    let dims = LayoutDims {
        inputs: prepared.inputs_of(&model.body).ncols(),
        phi: prepared.phi.ncols(),
        outputs: prepared.y.ncols(),
        table: table.as_ref().map_or(0, Array2::ncols),
    };
    let Ok(arrays) = layout(&model, dims) else {
        return Ok(None);
    };
    let identity = DataIdentity {
        arrays: set.content_hash(),
        image: set.image,
    };
    let portable = data::portable(&prepared, &model.body, table.as_ref());
    if let Some(portable) = &portable {
        let path = folder.join(&portable.file);
        if !path.exists() {
            let archive = data_archive(portable).map_err(|source| ExportError::Io {
                path: path.clone(),
                source,
            })?;
            write(&path, &archive)?;
        }
    }
    Ok(Some(CellFiles {
        arrays,
        data: portable.map(|p| p.file),
        baseline: baseline_id(cell, &identity),
    }))
}

fn theta_archive(arrays: &[ParamArray], theta: &[f64]) -> io::Result<Vec<u8>> {
    let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
    for array in arrays {
        let values = theta.get(array.range()).unwrap_or_default().to_vec();
        let shaped =
            ArrayD::from_shape_vec(IxDyn(&array.shape), values).map_err(io::Error::other)?;
        writer
            .add_array(&array.name, &shaped)
            .map_err(io::Error::other)?;
    }
    Ok(writer.finish().map_err(io::Error::other)?.into_inner())
}

fn data_archive(portable: &data::Portable<'_>) -> io::Result<Vec<u8>> {
    let mut writer = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, array) in &portable.arrays {
        writer.add_array(*name, array).map_err(io::Error::other)?;
    }
    Ok(writer.finish().map_err(io::Error::other)?.into_inner())
}
