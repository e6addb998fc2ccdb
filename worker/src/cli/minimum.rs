//! TASK.npz and TASK.json: the claim of one run, as a coordinator writes it too.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use common::canon::NUMERICS_VERSION;
use common::data::portable;
use common::decode::decode_task;
use common::ids::TaskId;
use common::math::NUMERIC_LEVEL;
use common::record::BaselineEvidence;
use common::spec::{FileRef, TaskSpec};
use engine::run::Finished;
use engine::task::Cell;
use ndarray::{Array2, ArrayD, IxDyn};
use ndarray_npy::NpzWriter;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BadInput, json as show};
use crate::files::Contents;

/// Writes the files of a run: θ, the data, and what is claimed of them.
pub(super) fn write(
    folder: &Path,
    task: TaskId,
    spec: &TaskSpec,
    cell: &Cell,
    table: Option<&Array2<f64>>,
    baseline: &BaselineEvidence,
    finished: &Finished,
) -> anyhow::Result<()> {
    let about = || format!("cannot write to `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(about)?;
    let create = |name: &str| File::create(folder.join(name)).with_context(about);
    let mut archive = NpzWriter::new(create(&format!("{task}.npz"))?);
    let arrays = cell.arrays();
    for array in arrays {
        let values = finished.theta[array.range()].to_vec();
        let values = ArrayD::from_shape_vec(IxDyn(&array.shape), values)?;
        archive
            .add_array(&array.name, &values)
            .with_context(about)?;
    }
    archive.finish().with_context(about)?;
    let data = portable(cell.data(), &spec.cell.model.body, table);
    if let Some(data) = &data {
        let mut archive = NpzWriter::new(create(&data.file)?);
        for (name, array) in &data.arrays {
            archive.add_array(*name, array).with_context(about)?;
        }
        archive.finish().with_context(about)?;
    }
    let rows = baseline.minimizer.chunks(baseline.features.max(1));
    let mut shown_baseline = show::baseline(baseline);
    shown_baseline.insert("minimizer".to_owned(), json!(rows.collect::<Vec<_>>()));
    let shapes: Vec<Value> = arrays
        .iter()
        .map(|a| json!({"name": a.name, "shape": a.shape}))
        .collect();
    let text = json!({
        "schema": "minimum/1",
        "task": task,
        "specification": spec,
        "numerics_version": NUMERICS_VERSION,
        "numeric_level": NUMERIC_LEVEL,
        "arrays": shapes,
        "data": data.map(|d| d.file),
        "evidence": show::run(&finished.evidence),
        "baseline": shown_baseline,
    });
    let path = folder.join(format!("{task}.json"));
    std::fs::write(path, format!("{text:#}\n")).with_context(about)
}

/// The task of a minimum.
pub(super) struct Claimed {
    pub(super) task: TaskId,
    pub(super) spec: TaskSpec,
}

/// Reads TASK.json.
pub(super) fn read(path: &Path) -> anyhow::Result<Claimed> {
    let name = path.display();
    let bad = |why: String| BadInput(format!("`{name}`: {why}"));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if value["schema"] != "minimum/1" {
        return Err(bad(format!(
            "the schema is {}, not \"minimum/1\"",
            value["schema"]
        ))
        .into());
    }
    let other = |key: &str, own: Value| {
        (value[key] != own).then(|| {
            bad(format!(
                "its `{key}` is {}, this program's {own}",
                value[key]
            ))
        })
    };
    let differs = other("numerics_version", json!(NUMERICS_VERSION))
        .or_else(|| other("numeric_level", json!(NUMERIC_LEVEL)));
    if let Some(error) = differs {
        return Err(error.into());
    }
    let task = value["task"].as_str().unwrap_or_default();
    let task = task
        .parse()
        .map_err(|error| bad(format!("`task`: {error}")))?;
    Ok(Claimed {
        task,
        spec: decode_task(&value["specification"].to_string())?,
    })
}

/// Where the data files of a minimum are looked for: in the folder that the user gives, else
/// beside the minimum, else here.
pub(super) fn folders(minimum: &Path, given: Option<&Path>) -> Vec<PathBuf> {
    match given {
        Some(folder) => vec![folder.to_path_buf()],
        None => {
            let beside = minimum.parent().unwrap_or(Path::new(""));
            vec![beside.to_path_buf(), PathBuf::new()]
        }
    }
}

/// Files found by path and recognised by content.
pub(super) fn contents(wanted: Vec<FileRef>, folders: &[PathBuf]) -> anyhow::Result<Contents> {
    let mut contents = Contents::default();
    for file in wanted {
        let found = folders.iter().find_map(|folder| {
            let bytes = std::fs::read(folder.join(&file.path)).ok()?;
            let hash: [u8; 32] = Sha256::digest(&bytes).into();
            (common::ids::to_hex(&hash) == file.sha256).then_some(bytes)
        });
        let missing = || {
            let looked: Vec<String> = folders
                .iter()
                .map(|f| format!("`{}`", f.display()))
                .collect();
            BadInput(format!(
                "the data file `{}` (SHA-256 {}) is not in {}; give its folder with --files",
                file.path,
                file.sha256,
                looked.join(" or ")
            ))
        };
        contents.insert(file.sha256.clone(), found.ok_or_else(missing)?);
    }
    Ok(contents)
}
