//! What other programs need to compute the same: data, starts, and what comes out.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use common::data::portable;
use common::math::slice::max_abs;
use ndarray::Array2;
use ndarray_npy::NpzWriter;
use serde_json::{Value, json};

use super::cases::Ready;
use super::name_of;

/// Writes CASE.npz (x, phi, y, and one start a row: of every seed whose minimum is measured, else
/// a point and a direction) and CASE.json (the specification, the arrays
/// in the order of θ, the objective and its gradient's largest entry at the first start).
pub(super) fn write(folder: &Path, ready: &Ready) -> anyhow::Result<()> {
    let about = || format!("cannot write to `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(about)?;
    let name = name_of(ready.case);
    let cell = &ready.cell;
    let file = File::create(folder.join(format!("{name}.npz"))).with_context(about)?;
    let mut archive = NpzWriter::new(file);
    let data = portable(cell.data(), &cell.spec().model.body, None).context("no data")?;
    for (name, array) in &data.arrays {
        archive.add_array(*name, array).with_context(about)?;
    }
    let seeds = if ready.case.has_minima() {
        ready.case.seeds()
    } else {
        2
    };
    let starts: Vec<f64> = (0..seeds).flat_map(|seed| ready.start(seed)).collect();
    let length = starts.len() / seeds as usize;
    let starts = Array2::from_shape_vec((seeds as usize, length), starts)?;
    archive.add_array("starts", &starts).with_context(about)?;
    archive.finish().with_context(about)?;

    let mut gradient = vec![0.0; length];
    let objective = ready
        .objective(1)
        .value_gradient(&ready.start(0), &mut gradient);
    let arrays: Vec<Value> = cell
        .arrays()
        .iter()
        .map(|a| json!({"name": a.name, "shape": a.shape}))
        .collect();
    let text = json!({
        "schema": "worker-bench-case/1",
        "specification": serde_json::from_str::<Value>(&ready.json)?,
        "arrays": arrays,
        "objective": objective,
        "gradient_norm": max_abs(&gradient),
    });
    let path = folder.join(format!("{name}.json"));
    std::fs::write(path, format!("{text:#}\n")).with_context(about)
}
