//! `worker evaluate`: CONTRACT §5.
//!
//! The rows of a point file become a data file of numbers, so that they take
//! the same way to the engine as any other data.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use common::decode::decode_cell;
use common::layout::{PointError, read_json, read_point};
use common::spec::CellSpec;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::args::EvaluateArgs;
use super::point::Point;
use super::{BadInput, Status, json as show, print};
use crate::files::Contents;

/// What a point file may have.
const KEYS: [&str; 8] = [
    "model",
    "loss",
    "regularizer",
    "inputs",
    "targets",
    "mask",
    "parameters",
    "direction",
];
/// What it must have.
const NEEDED: [&str; 5] = ["model", "loss", "inputs", "targets", "parameters"];

pub(super) fn main(args: &EvaluateArgs) -> anyhow::Result<Status> {
    let text = std::fs::read(&args.file)
        .map_err(|error| BadInput(format!("cannot read `{}`: {error}", args.file.display())))?;
    print(&evaluate(&args.file, text)?)?;
    Ok(Status::Done)
}

/// The answer to a point file.
///
/// # Errors
/// What is wrong with it: see [`super::is_bad_input`].
pub fn evaluate(path: &Path, text: Vec<u8>) -> anyhow::Result<Value> {
    let bad = |why: String| BadInput(format!("`{}`: {why}", path.display()));
    let file = match read_json(&text) {
        Ok(Value::Object(file)) => file,
        Ok(_) => return Err(bad("it is no map".to_owned()).into()),
        Err(PointError::Json(error)) => return Err(bad(error.to_string()).into()),
        Err(error) => return Err(bad(error.to_string()).into()),
    };
    if let Some(key) = file.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(bad(format!(
            "unknown key `{key}`; known are {}",
            KEYS.join(", ")
        ))
        .into());
    }
    if let Some(key) = NEEDED.iter().find(|key| !file.contains_key(**key)) {
        return Err(bad(format!("`{key}` is missing")).into());
    }
    let mut columns = Columns::default();
    for key in ["inputs", "targets", "mask"] {
        if let Some(value) = file.get(key) {
            columns.add(key, value).map_err(bad)?;
        }
    }
    let (csv, names) = columns.finish().map_err(bad)?;
    let hash: [u8; 32] = Sha256::digest(&csv).into();
    let sha256 = common::ids::to_hex(&hash);
    let mut data = json!({
        "file": "inputs and targets",
        "sha256": &sha256,
        "inputs": names[0],
        "targets": names[1],
        "classes": false,
    });
    if !names[2].is_empty() {
        data["mask"] = json!(names[2]);
    }
    let mut spec = file["model"]
        .as_object()
        .cloned()
        .ok_or_else(|| bad("`model` is no map".into()))?;
    spec.insert("data".to_owned(), data);
    spec.insert("loss".to_owned(), file["loss"].clone());
    if let Some(regularizer) = file.get("regularizer") {
        spec.insert("regularizer".to_owned(), regularizer.clone());
    }
    let spec = read_spec(&spec).map_err(bad)?;
    let mut contents = Contents::default();
    contents.insert(sha256, csv);
    let direction = file
        .get("direction")
        .map(|d| json!({"parameters": d}).to_string());
    let point = Point::new(&spec, &contents, text).map_err(|error| bad(format!("{error:#}")))?;
    let direction = match direction {
        Some(text) => Some(
            read_point(text.as_bytes(), point.cell.arrays())
                .map_err(|error| bad(format!("`direction`: {error}")))?,
        ),
        None => None,
    };
    answer(&point, direction.as_deref())
}

/// A cell, or what is wrong with it under the names of the point file: the text that mistakes point
/// into is none that its author has seen.
fn read_spec(spec: &Map<String, Value>) -> Result<Arc<CellSpec>, String> {
    let text = json!(spec).to_string();
    decode_cell(&text).map_err(|mistakes| {
        let part = |at: usize| {
            let is_there = |key: &&str| {
                let written = spec.get(*key).map(|value| format!("\"{key}\":{value}"));
                let begins = written.as_ref().and_then(|written| text.find(written));
                let length = written.map_or(0, |written| written.len());
                begins.is_some_and(|begins| (begins..begins + length).contains(&at))
            };
            let own = ["loss", "regularizer"].into_iter().find(is_there);
            own.unwrap_or("model")
        };
        let told = mistakes.diagnostics.iter().map(|mistake| {
            let more = mistake.help.iter().chain(&mistake.notes);
            let all = std::iter::once(&mistake.message).chain(more);
            let texts: Vec<&str> = all.map(String::as_str).collect();
            format!(
                "{}: {}",
                part(mistake.span.start as usize),
                texts.join("; ")
            )
        });
        told.collect::<Vec<_>>().join(", and ")
    })
}

fn answer(point: &Point, direction: Option<&[f64]>) -> anyhow::Result<Value> {
    let found = point.examine()?;
    let e = &found.evidence;
    let arrays = point.cell.arrays();
    let [shape_a, shape_b] = point.head_shapes();
    let (a, b) = match &found.head {
        Some((a, b)) => (show::nested(a, &shape_a), show::nested(b, &shape_b)),
        None => (Value::Null, Value::Null),
    };
    let mut out = json!({
        "objective": show::number(e.objective),
        "loss": show::number(point.loss()?),
        "value": show::number(e.value),
        "gradient": show::by_array(&found.gradient, arrays),
        "A": a,
        "B": b,
        "min_eigenvalue": show::maybe(e.min_eigenvalue),
        "max_eigenvalue": show::maybe(e.max_eigenvalue),
        "kink_margin": show::maybe(point.kink_margin()?),
        "baseline": show::number(found.baseline.value),
        "baseline_lower_bound": show::number(found.baseline.lower_bound),
        "baseline_status": found.baseline.status,
        "induced": show::maybe(e.induced_value),
        "gap_bound": show::maybe(e.gap_bound),
    });
    if let Some(direction) = direction {
        out["hessian_vector"] = show::by_array(&point.product(direction), arrays);
    }
    Ok(out)
}

/// Matrices side by side, with names for their columns.
#[derive(Default)]
struct Columns {
    rows: Vec<String>,
    /// Of inputs, targets and mask.
    names: [Vec<String>; 3],
}

impl Columns {
    /// Appends a matrix of numbers; `key` is what to call it.
    fn add(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let shape_error =
            || format!("`{key}` is no matrix: a list of equally long rows of numbers");
        let rows = value.as_array().ok_or_else(shape_error)?;
        let first = rows
            .first()
            .and_then(Value::as_array)
            .ok_or_else(shape_error)?;
        if self.rows.is_empty() {
            self.rows = vec![String::new(); rows.len()];
        }
        if rows.len() != self.rows.len() {
            let needed = self.rows.len();
            return Err(format!(
                "`{key}` has {} rows, `inputs` has {needed}",
                rows.len()
            ));
        }
        for (line, row) in self.rows.iter_mut().zip(rows) {
            let row = row.as_array().filter(|row| row.len() == first.len());
            for x in row.ok_or_else(shape_error)? {
                // Anything that is no finite number is no number of JSON.
                let x = x
                    .as_f64()
                    .ok_or_else(|| format!("`{key}` has {x}, which is no finite number"))?;
                let comma = if line.is_empty() { "" } else { "," };
                // Writing to a text cannot fail.
                let _ = write!(line, "{comma}{x:?}");
            }
        }
        let which = ["inputs", "targets", "mask"]
            .iter()
            .position(|name| *name == key)
            .unwrap_or(0);
        self.names[which] = (0..first.len()).map(|j| format!("{key}{j}")).collect();
        Ok(())
    }

    /// The data file and the names of its columns.
    fn finish(self) -> Result<(Vec<u8>, [Vec<String>; 3]), String> {
        let [_, targets, mask] = &self.names;
        if !mask.is_empty() && mask.len() != targets.len() {
            let (m, t) = (mask.len(), targets.len());
            return Err(format!("`mask` has {m} columns, `targets` has {t}"));
        }
        let mut text = self.names.concat().join(",");
        text.push('\n');
        for line in &self.rows {
            text.push_str(line);
            text.push('\n');
        }
        Ok((text.into_bytes(), self.names))
    }
}
