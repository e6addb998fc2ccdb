//! Canonical specifications and the identities made from them.
//!
//! ```text
//! cell     = encoding of {cell: {every field read}, numerics: …, level: …}
//! CellId   = SHA-256("cell" ‖ cell)
//! TaskId   = SHA-256("task" ‖ cell ‖ zeros to a multiple of 64 bytes ‖ start ‖ seed)
//! BaselineId = SHA-256("baseline" ‖ encoding of what the baseline reads)
//! ```
//!
//! The encoding is that of [`encode`]; prefixes are text in it. Fields
//! that a run does not read are left out ([`CellField::is_read`]), and so is
//! the seed where nothing is drawn from it ([`reads_seed`]); data enter as
//! the content hash of their parsed arrays, files by the hash of their bytes,
//! formulas as syntax trees. Names, paths and the order of axes never enter.
//! [`NUMERICS_VERSION`] and the numeric level do, so results of other
//! arithmetic are never taken for these. Where seconds limit a run the hash of
//! its grid does, too: such results are good for one sweep.
//!
//! The zeros bring what all tasks of a cell share to a block boundary of the
//! hash: its state is kept, and an identity costs one more block
//! ([`CellIdentity::task`]).
//!
//! What this module does not do: it reads no files and checks no values.

pub mod encode;
mod fields;
mod setting;
mod theory;

use sha2::{Digest, Sha256};

pub use encode::{Tree, canonical_bits};
pub use fields::{CellField, has_body_parameters, has_kinks};
pub(crate) use setting::setting;
pub use theory::{TheorySizes, assumptions_broken, notes};

use crate::ids::{BaselineId, CellId, TaskId, from_hex};
use crate::math::NUMERIC_LEVEL;
use crate::spec::{CellSpec, FileRef, Optimizer, Start, TaskSpec};

/// Version of everything that decides the bits of a result beside arithmetic:
/// optimisers, certificates, preprocessing, draws.
///
/// Increase it whenever a recorded number of any task may change.
pub const NUMERICS_VERSION: u32 = 2;

/// What identities need to know of a cell's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataIdentity {
    /// SHA-256 of the parsed arrays: inputs, targets, mask, kind of target.
    pub arrays: [u8; 32],
    /// Image shape that comes with the data.
    pub image: Option<[usize; 3]>,
}

/// Why a specification has no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonError {
    /// A file that the specification names has not been read.
    #[error("the content hash of `{path}` is not known: `{sha256}`")]
    UnknownContent {
        /// The path in the specification.
        path: String,
        /// What stands where the hash should be.
        sha256: String,
    },
}

/// The identity of a cell, ready to make those of its tasks.
#[derive(Clone, Debug)]
pub struct CellIdentity {
    id: CellId,
    /// The state of the hash after the cell and the zeros.
    state: Sha256,
    /// Whether seeds matter to a start that draws nothing.
    seeded_optimizer: bool,
}

/// A start as it enters identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartIdentity {
    encoded: Vec<u8>,
    random: bool,
}

impl StartIdentity {
    /// Encodes a start; once for all tasks that have it.
    ///
    /// # Errors
    /// [`CanonError::UnknownContent`] for a point file that has not been read.
    pub fn new(start: &Start) -> Result<Self, CanonError> {
        // A name and a number fit in one block of the hash with the seed.
        let tree = match start {
            Start::Drawn { kind, scale } => {
                Tree::Seq(vec![Tree::name(kind.name()), Tree::Float(*scale)])
            }
            Start::Point(file) => Tree::Bytes(file_hash(file)?.to_vec()),
        };
        Ok(Self {
            encoded: tree.encode(),
            random: start.is_random(),
        })
    }
}

impl CellIdentity {
    /// Encodes a cell.
    ///
    /// # Errors
    /// [`CanonError::UnknownContent`] for a table that has not been read.
    pub fn new(cell: &CellSpec, data: &DataIdentity) -> Result<Self, CanonError> {
        let encoded = cell_tree(cell, data)?.encode();
        let mut id = Sha256::new();
        id.update(Tree::name("cell").encode());
        id.update(&encoded);
        let prefix = Tree::name("task").encode();
        let mut state = Sha256::new();
        state.update(&prefix);
        state.update(&encoded);
        let used = (prefix.len() + encoded.len()) % 64;
        state.update(&[0; 64][..(64 - used) % 64]);
        Ok(Self {
            id: CellId(id.finalize().into()),
            state,
            seeded_optimizer: seeded_optimizer(cell),
        })
    }

    /// The cell's identity.
    pub fn id(&self) -> CellId {
        self.id
    }

    /// Whether runs from a start draw from their seed; see [`reads_seed`].
    pub fn reads_seed(&self, start: &StartIdentity) -> bool {
        start.random || self.seeded_optimizer
    }

    /// The identity of one of its tasks.
    pub fn task(&self, start: &StartIdentity, seed: u64) -> TaskId {
        let mut state = self.state.clone();
        state.update(&start.encoded);
        if self.reads_seed(start) {
            let mut bytes = [3; 9];
            bytes[1..].copy_from_slice(&seed.to_be_bytes());
            state.update(bytes);
        } else {
            state.update([0]);
        }
        TaskId(state.finalize().into())
    }
}

/// The identity of a task, for those who need one only.
///
/// # Errors
/// [`CanonError::UnknownContent`] for a file that has not been read.
pub fn task_id(task: &TaskSpec, data: &DataIdentity) -> Result<TaskId, CanonError> {
    let cell = CellIdentity::new(&task.cell, data)?;
    Ok(cell.task(&StartIdentity::new(&task.start)?, task.seed))
}

/// The identity of a cell's baseline: data, preprocessing, φ, loss and the sum
/// of predictor ridge and head decay, which is all that it reads. Cells that
/// differ in their networks share it.
pub fn baseline_id(cell: &CellSpec, data: &DataIdentity) -> BaselineId {
    let ridge = cell.regularizer.predictor_ridge + cell.regularizer.head_decay;
    let tree = Tree::map([
        ("data", Tree::Bytes(data.arrays.to_vec())),
        ("standardize", Tree::Bool(cell.standardize)),
        ("features", fields::features(cell.model.features)),
        ("intercept", Tree::Bool(cell.model.intercept)),
        ("loss", fields::loss(cell.loss)),
        ("ridge", Tree::Float(ridge)),
        ("numerics", Tree::Int(u64::from(NUMERICS_VERSION))),
        ("level", Tree::name(NUMERIC_LEVEL)),
    ]);
    let mut hash = Sha256::new();
    hash.update(Tree::name("baseline").encode());
    hash.update(tree.encode());
    BaselineId(hash.finalize().into())
}

/// Whether a run draws from its seed: its start is random, or its optimiser
/// is. Where it does not, tasks that differ in the seed alone are one task,
/// and an engine draws whatever else it needs from key 0
/// ([`effective_seed`]).
pub fn reads_seed(cell: &CellSpec, start: &Start) -> bool {
    start.is_random() || seeded_optimizer(cell)
}

/// The key of a task's draws: its seed if it reads it, else 0.
pub fn effective_seed(task: &TaskSpec) -> u64 {
    if reads_seed(&task.cell, &task.start) {
        task.seed
    } else {
        0
    }
}

fn seeded_optimizer(cell: &CellSpec) -> bool {
    cell.optimizer == Optimizer::Sgd && cell.budget.evaluations > 0
}

/// The fields that runs of a cell read, each with its value in the grid's
/// notation: how the summary describes the cell.
pub fn describe(cell: &CellSpec) -> Vec<(String, serde_json::Value)> {
    CellField::ALL
        .into_iter()
        .filter(|f| f.is_read(cell))
        .map(|f| (f.name().to_owned(), f.shown(cell)))
        .collect()
}

fn cell_tree(cell: &CellSpec, data: &DataIdentity) -> Result<Tree, CanonError> {
    let mut read = std::collections::BTreeMap::new();
    for field in CellField::ALL {
        if field.is_read(cell) {
            read.insert(field.name(), field.canonical(cell, data)?);
        }
    }
    if let Some(sweep) = cell.sweep {
        read.insert("sweep", Tree::Bytes(sweep.to_vec()));
    }
    Ok(Tree::map([
        ("cell", Tree::Map(read)),
        ("numerics", Tree::Int(u64::from(NUMERICS_VERSION))),
        ("level", Tree::name(NUMERIC_LEVEL)),
    ]))
}

fn file_hash(file: &FileRef) -> Result<[u8; 32], CanonError> {
    from_hex(&file.sha256).map_err(|_| CanonError::UnknownContent {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
    })
}

#[cfg(test)]
mod tests;
