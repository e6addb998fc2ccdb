//! `worker baseline`: every distinct baseline of a grid.

use std::collections::HashSet;

use common::canon::{DataIdentity, baseline_id};
use common::ids::BaselineId;
use serde_json::{Value, json};

use super::args::BaselineArgs;
use super::{Status, grid, json as show, print};

pub(super) fn main(args: &BaselineArgs) -> anyhow::Result<Status> {
    let loaded = grid::load(&args.grid)?;
    let mut cells = HashSet::new();
    let mut known: HashSet<BaselineId> = HashSet::new();
    // Cells share data: each data set is hashed once.
    let mut data: Vec<(String, DataIdentity)> = Vec::new();
    let mut shown = Vec::new();
    for task in loaded.grid.tasks(0) {
        if !cells.insert(task.cell) {
            continue;
        }
        let spec = &task.spec.cell;
        let key = serde_json::to_string(&spec.data)?;
        let identity = match data.iter().find(|(text, _)| *text == key) {
            Some((_, identity)) => *identity,
            None => {
                let identity = loaded.data_identity(spec)?;
                data.push((key, identity));
                identity
            }
        };
        let id = baseline_id(spec, &identity);
        if !known.insert(id) {
            continue;
        }
        let evidence = loaded.cell(spec)?.baseline();
        let mut element = json!({
            "data": spec.data,
            "standardize": spec.standardize,
            "loss": spec.loss,
            "features": spec.model.features,
            "intercept": spec.model.intercept,
            "ridge": spec.regularizer.predictor_ridge + spec.regularizer.head_decay,
            "id": id,
            "gradient_norm": show::number(evidence.gradient_norm),
        });
        if let Value::Object(map) = &mut element {
            map.append(&mut show::baseline(&evidence));
        }
        shown.push(element);
    }
    print(&Value::Array(shown))?;
    Ok(Status::Done)
}
