//! The vocabulary of a run: what one training is, as plain values.
//!
//! A [`TaskSpec`] is everything that decides the bits of one run's result: a
//! [`CellSpec`] (data, model, loss, regulariser, optimiser, budget,
//! tolerances), a seed and a start. The types hold values that have been
//! checked once (see `grid`); nothing in here reads files, parses text or
//! computes an identity. For text to spec see [`crate::grid`], for spec to
//! identity see [`crate::canon`], for the meaning of each field
//! docs/CONTRACT.md §1–2.
//!
//! `Serialize` writes the grid's own notation (`"tanh"`,
//! `{"leaky_relu": 0.1}`), so that a spec printed anywhere can be pasted into
//! a grid file.

mod data;
mod model;
mod start;
mod training;

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::ids::to_hex;

pub use data::{
    Column, DataSpec, FileData, Generator, GeneratorKind, NAMED_DATA, NamedFile, Teacher,
    named_image,
};
pub use model::{Activation, Body, Features, ModelSpec, Skip};
pub use start::{Start, StartKind};
pub use training::{Budget, Loss, Optimizer, Regularizer, Tolerances};

/// One run: a cell, a seed and a start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskSpec {
    /// Everything but seed and start.
    pub cell: Arc<CellSpec>,
    /// Key of every random draw of the run.
    pub seed: u64,
    /// How the first θ is drawn or given.
    pub start: Start,
}

/// All that the runs of one cell of the summary have in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellSpec {
    /// Where inputs and targets come from.
    pub data: DataSpec,
    /// Standardise inputs (and regression targets), CONTRACT §1.
    pub standardize: bool,
    /// The network.
    #[serde(flatten)]
    pub model: ModelSpec,
    /// The loss, a mean over rows.
    pub loss: Loss,
    /// Ridge and decay strengths.
    pub regularizer: Regularizer,
    /// First phase of the training.
    pub optimizer: Optimizer,
    /// Whether the polish to a certificate follows the first phase.
    pub polish: bool,
    /// When a run gives up.
    pub budget: Budget,
    /// What a certificate must reach.
    pub certificate: Tolerances,
    /// Hash of the grid that the cell belongs to, where its budget is limited by seconds: its
    /// results are of one machine at one time, and no other sweep may take them for its own.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hexadecimal"
    )]
    pub sweep: Option<[u8; 32]>,
}

/// A file named by a grid: the path its author wrote and the content it had.
///
/// Workers fetch the content by hash; nobody but the program that read the
/// grid ever opens the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRef {
    /// As written in the grid.
    pub path: String,
    /// SHA-256 of the file's bytes, lower-case hexadecimal; empty until read.
    pub sha256: String,
}

fn hexadecimal<S: Serializer>(hash: &Option<[u8; 32]>, s: S) -> Result<S::Ok, S::Error> {
    hash.map(|bytes| to_hex(&bytes)).serialize(s)
}

fn entry<S: Serializer, T: Serialize + ?Sized>(
    s: S,
    key: &'static str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}
