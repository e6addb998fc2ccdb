//! What the engine's tests share: cells from JSON, with files that come along.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a helper that fails fails its test; not every test uses every helper"
)]

use std::collections::BTreeMap;

use common::decode::{decode_cell, decode_start};
use common::record::BaselineEvidence;
use engine::run::Finished;
use engine::task::{Cell, Threads};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Contents of files by the SHA-256 that specifications have for them.
#[derive(Default)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Adds a file; returns how a specification refers to it.
    pub fn add(&mut self, path: &str, content: impl Into<Vec<u8>>) -> Value {
        let content = content.into();
        let digest = Sha256::digest(&content);
        let sha256: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        self.0.insert(sha256.clone(), content);
        json!({"path": path, "sha256": sha256})
    }

    /// Adds a data file and names it in a data specification.
    pub fn name(&mut self, data: &mut Value, path: &str, content: String) {
        let file = self.add(path, content);
        data["file"] = file["path"].clone();
        data["sha256"] = file["sha256"].clone();
    }

    pub fn get(&self, sha256: &str) -> Option<&[u8]> {
        self.0.get(sha256).map(Vec::as_slice)
    }
}

pub fn cell(spec: &Value, files: &Files) -> Cell {
    let spec = decode_cell(&spec.to_string()).unwrap_or_else(|e| panic!("{spec}: {e}"));
    Cell::new(spec, |sha| files.get(sha)).unwrap()
}

pub fn run(
    cell: &Cell,
    start: &Value,
    seed: u64,
    baseline: &BaselineEvidence,
    files: &Files,
) -> Finished {
    let start = decode_start(&start.to_string()).unwrap();
    cell.run(&start, seed, baseline, |sha| files.get(sha), Threads::ONE)
        .unwrap()
        .to_end()
}

/// Columns of numbers as CSV with a header.
pub fn csv(names: &[String], columns: &[Vec<f64>]) -> String {
    let mut text = names.join(",");
    text.push('\n');
    for i in 0..columns[0].len() {
        let row: Vec<String> = columns.iter().map(|c| format!("{:?}", c[i])).collect();
        text.push_str(&row.join(","));
        text.push('\n');
    }
    text
}

pub fn numbers(v: &Value) -> Vec<f64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

/// θ as a point file: flat numbers cut into the cell's arrays.
pub fn point(cell: &Cell, theta: &[f64]) -> String {
    let mut map = serde_json::Map::new();
    for array in cell.arrays() {
        let values = &theta[array.range()];
        let nested = match array.shape.as_slice() {
            [_, columns] => json!(values.chunks(*columns).collect::<Vec<_>>()),
            [_] => json!(values),
            shape => panic!("{shape:?}"),
        };
        map.insert(array.name.clone(), nested);
    }
    json!({"parameters": map}).to_string()
}
