//! Identities: the canonical form of a specification and its SHA-256.
//!
//! Two tasks are the same when every value that their runs read is the same.
//! So the canonical form holds all fields with their defaults filled in, but
//! not those that are not read ([`is_read`]); formulas as trees; files by
//! content; the data as the hash that their reader gives (arrays, mask and
//! classes as parsed); and the version of the numerics. File names, the
//! grid's name, outputs, the order and notation of anything do not enter.
//!
//! | identity | SHA-256 of |
//! |---|---|
//! | task | the run's map, zeros up to a multiple of 64 bytes, seed, start |
//! | cell | the cell's map |
//! | baseline | the baseline's map |
//!
//! The three maps differ in their entry `kind`. The zeros put seed and start
//! into a hash block of their own: [`CellHasher`] hashes a cell once and then
//! needs one compression per task.

mod data;
mod encoding;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

pub use encoding::Canonical;

use crate::decode::{Draft, FIELDS, Field, Setting};
use crate::formula::Tree;
use crate::ids::{self, BaselineId, CellId, TaskId};
use crate::math::NUMERIC_LEVEL;
use crate::spec::{Activation, Body, CellSpec, Features, Loss, Optimizer, Skip, Start, TaskSpec};

/// Version of the engine's numerics: increases whenever a recorded number of
/// any task may change for reasons other than arithmetic (those are the
/// [`NUMERIC_LEVEL`]'s): another algorithm, another tolerance, another order.
pub const NUMERICS_VERSION: u32 = 1;

/// SHA-256 of a data set's content: inputs, targets, mask and classes as
/// parsed, before preprocessing. Given by the reader of the data.
pub type DataHash = [u8; 32];

const BLOCK: usize = 64;

/// Whether the runs of a cell read a field.
///
/// | field | is read |
/// |---|---|
/// | `body` | but under `skip: chain` |
/// | `depth`, `width`, `activation`, `freeze`, `body_decay` | where there are body parameters: `skip: chain`, or a body other than a table |
/// | `bottleneck` | by the bodies `bottleneck` and `aggregated` |
/// | `cardinality` | by the body `aggregated` |
/// | `image` | by the body `conv` |
/// | `kink_margin` | where the activation is read and has kinks |
/// | `seed` | by drawn starts, and by every start of `sgd` |
/// | all others | always |
///
/// `features` and `intercept` are read even under `skip: none`: the baseline
/// stands on φ.
pub fn is_read(field: Field, cell: &CellSpec) -> bool {
    let model = &cell.model;
    let chain = model.skip == Skip::Chain;
    let trained = chain || !matches!(model.body, Body::Table(_));
    match field {
        Field::Body => !chain,
        Field::Depth | Field::Width | Field::Activation | Field::Freeze | Field::BodyDecay => {
            trained
        }
        Field::Bottleneck => !chain && matches!(model.body, Body::Bottleneck | Body::Aggregated),
        Field::Cardinality => !chain && model.body == Body::Aggregated,
        Field::Image => !chain && model.body == Body::Conv,
        Field::KinkMargin => trained && model.activation.has_kinks(),
        _ => true,
    }
}

/// Identity of a run.
pub fn task_id(task: &TaskSpec, data: &DataHash) -> TaskId {
    CellHasher::new(&task.cell, data).task_id(task.seed, &task.start)
}

/// Identity of a cell: of everything but seed and start.
pub fn cell_id(cell: &CellSpec, data: &DataHash) -> CellId {
    CellId(Canonical::Map(cell_map("cell", cell, data)).digest())
}

/// Identity of the baseline of a cell: of data, preprocessing, features,
/// intercept, loss and the ridge on the predictor. Cells that differ in
/// anything else share it.
pub fn baseline_id(cell: &CellSpec, data: &DataHash) -> BaselineId {
    let mut map = header("baseline", data);
    let draft = draft(cell);
    for field in [
        Field::Standardize,
        Field::Features,
        Field::Intercept,
        Field::Loss,
    ] {
        map.insert(field.name(), setting(&draft.get(field)));
    }
    let ridge = cell.regularizer.predictor_ridge + cell.regularizer.head_decay;
    map.insert("ridge", Canonical::Real(ridge));
    BaselineId(Canonical::Map(map).digest())
}

/// Hashes many tasks of one cell.
#[derive(Clone, Debug)]
pub struct CellHasher {
    prefix: Sha256,
    always_draws: bool,
}

impl CellHasher {
    /// For the tasks of a cell.
    pub fn new(cell: &CellSpec, data: &DataHash) -> Self {
        let mut bytes = Canonical::Map(cell_map("run", cell, data)).to_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let mut prefix = Sha256::new();
        prefix.update(&bytes);
        Self {
            prefix,
            always_draws: cell.optimizer == Optimizer::Sgd,
        }
    }

    /// Identity of a task of the cell.
    pub fn task_id(&self, seed: u64, start: &Start) -> TaskId {
        let mut tail = Tail::default();
        if start.is_random() || self.always_draws {
            tail.push(3, &seed.to_be_bytes());
        } else {
            tail.push(0, &[]);
        }
        let mut hasher = self.prefix.clone();
        match start {
            // The bytes of `Canonical::tagged(kind, [Real(scale)])`, without
            // the allocations: this runs once per task of a sweep.
            Start::Drawn { kind, scale } => {
                tail.push(7, &2_u32.to_be_bytes());
                tail.push(5, &(kind.name().len() as u32).to_be_bytes());
                tail.extend(kind.name().as_bytes());
                tail.push(4, &(scale + 0.0).to_bits().to_be_bytes());
                hasher.update(tail.bytes());
            }
            Start::Point(_) => {
                hasher.update(tail.bytes());
                hasher.update(start_value(start).to_bytes());
            }
        }
        TaskId(hasher.finalize().into())
    }
}

/// At most one hash block.
struct Tail {
    bytes: [u8; BLOCK],
    length: usize,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            bytes: [0; BLOCK],
            length: 0,
        }
    }
}

impl Tail {
    fn push(&mut self, tag: u8, payload: &[u8]) {
        self.extend(&[tag]);
        self.extend(payload);
    }

    fn extend(&mut self, part: &[u8]) {
        self.bytes[self.length..self.length + part.len()].copy_from_slice(part);
        self.length += part.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn header(kind: &str, data: &DataHash) -> BTreeMap<&'static str, Canonical> {
    BTreeMap::from([
        ("kind", Canonical::text(kind)),
        ("numeric_level", Canonical::text(NUMERIC_LEVEL)),
        (
            "numerics_version",
            Canonical::Whole(NUMERICS_VERSION.into()),
        ),
        ("data", Canonical::Bytes(data.to_vec())),
    ])
}

fn draft(cell: &CellSpec) -> Draft {
    Draft {
        cell: cell.clone(),
        seed: 0,
        start: Start::STANDARD,
    }
}

fn cell_map(kind: &str, cell: &CellSpec, data: &DataHash) -> BTreeMap<&'static str, Canonical> {
    let mut map = header(kind, data);
    let draft = draft(cell);
    for field in FIELDS.iter().map(|info| info.field) {
        if field != Field::Data && !field.is_of_run() && is_read(field, cell) {
            map.insert(field.name(), setting(&draft.get(field)));
        }
    }
    map
}

/// The canonical form of a field's value; data by the file hashes they name.
pub fn setting(setting: &Setting) -> Canonical {
    match setting {
        Setting::Flag(x) => Canonical::Flag(*x),
        Setting::Whole(x) => Canonical::Whole(*x),
        Setting::Real(x) | Setting::Seconds(Some(x)) => Canonical::Real(*x),
        Setting::Seconds(None) | Setting::Image(None) => Canonical::Null,
        Setting::Data(data) => data::data_value(data),
        Setting::Features(x) => features(x),
        Setting::Body(x) => body(x),
        Setting::Activation(x) => activation(x),
        Setting::Skip(x) => Canonical::text(x.name()),
        Setting::Image(Some(sides)) => {
            Canonical::List(sides.map(|s| Canonical::Whole(s as u64)).to_vec())
        }
        Setting::Loss(Loss::Huber { delta }) => {
            Canonical::tagged("huber", [Canonical::Real(*delta)])
        }
        Setting::Loss(x) => Canonical::text(x.name()),
        Setting::Optimizer(x) => Canonical::text(x.name()),
        Setting::Start(x) => start_value(x),
    }
}

fn start_value(start: &Start) -> Canonical {
    match start {
        Start::Drawn { kind, scale } => Canonical::tagged(kind.name(), [Canonical::Real(*scale)]),
        Start::Point(file) => Canonical::tagged("point", [content(&file.sha256)]),
    }
}

fn features(features: &Features) -> Canonical {
    match *features {
        Features::Linear => Canonical::text("linear"),
        Features::Polynomial { degree } => {
            Canonical::tagged("polynomial", [Canonical::Whole(degree as u64)])
        }
        Features::Fourier { count, scale, seed } => Canonical::tagged(
            "fourier",
            [
                Canonical::Whole(count as u64),
                Canonical::Real(scale),
                Canonical::Whole(seed),
            ],
        ),
    }
}

fn body(body: &Body) -> Canonical {
    match body {
        Body::Table(file) => Canonical::tagged("table", [content(&file.sha256)]),
        named => Canonical::text(named.name()),
    }
}

fn activation(activation: &Activation) -> Canonical {
    match activation {
        Activation::LeakyRelu { slope } => {
            Canonical::tagged("leaky_relu", [Canonical::Real(*slope)])
        }
        Activation::Formula(formula) => Canonical::tagged("formula", [tree(formula.tree())]),
        named => Canonical::text(named.name()),
    }
}

fn tree(node: &Tree) -> Canonical {
    match node {
        Tree::Number(x) => Canonical::Real(*x),
        Tree::Variable => Canonical::text("t"),
        Tree::Negative(a) => Canonical::tagged("negative", [tree(a)]),
        Tree::Operation(op, a, b) => Canonical::tagged(op.symbol(), [tree(a), tree(b)]),
        Tree::Call(function, a) => Canonical::tagged(function.name(), [tree(a)]),
        Tree::CallTwo(function, a, b) => Canonical::tagged(function.name(), [tree(a), tree(b)]),
    }
}

/// A file by its content; a hash that is no hash stands for itself.
fn content(sha256: &str) -> Canonical {
    match ids::from_hex::<32>(sha256) {
        Ok(bytes) => Canonical::Bytes(bytes.to_vec()),
        Err(_) => Canonical::text(sha256),
    }
}

#[cfg(test)]
mod tests;
