//! From a specification to the engine: data, network and baseline of one cell made ready, and its
//! runs.
//!
//! A [`Cell`] is built once and shared by all its runs (they differ in seed and start), on as many
//! threads as there are slots. It opens no file: contents come by hash.
//!
//! ```
//! use common::decode::{decode_cell, decode_start};
//! use engine::task::{Cell, Threads};
//!
//! let spec = decode_cell(r#"{"data": "diabetes", "depth": 1, "width": 2, "activation": "tanh"}"#);
//! let cell = Cell::new(spec.unwrap(), |_| None).unwrap();
//! let baseline = cell.baseline();
//! let start = decode_start(r#""standard""#).unwrap();
//! let mut run = cell.run(&start, 0, &baseline, |_| None, Threads::ONE).unwrap();
//! let finished = run.to_end();
//! assert!(finished.evidence.value <= baseline.value);
//! ```

use std::sync::Arc;

use common::canon::{DataIdentity, reads_seed};
use common::data::{self, DataError, Preparation, PrepareError, Prepared};
use common::layout::{LayoutDims, LayoutError, ParamArray, layout};
use common::math::Isa;
use common::record::BaselineEvidence;
use common::spec::{Body, CellSpec, ModelSpec, Optimizer, Start, StartKind};
use ndarray::{Array2, Axis};

use crate::baseline;
use crate::linear::LinearProblem;
use crate::objective::{Arrays, Problem};
use crate::optimize::sgd::BATCH_ROWS;
use crate::program::BodyDims;
use crate::run::{Run, Setup};
use crate::start::{self, StartError};

/// Threads that one run may use; they never change its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub usize);

impl Threads {
    /// No parallelism inside a run.
    pub const ONE: Self = Self(1);
}

/// Everything that the runs of one cell share.
#[derive(Debug)]
pub struct Cell {
    spec: Arc<CellSpec>,
    identity: DataIdentity,
    data: Prepared,
    arrays: Vec<ParamArray>,
    problem: Problem,
    /// The problem in batches of rows, where the optimiser wants them.
    batches: Vec<Problem>,
    isa: Isa,
}

/// Why a cell cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Its data cannot be made.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its data do not fit its loss or features.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Its network has no such shape.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A given representation with another number of rows than the data.
    #[error("the table `{path}` has {rows} rows, the data have {needed}")]
    TableRows {
        /// Its file.
        path: String,
        /// Its rows.
        rows: usize,
        /// Rows of the data.
        needed: usize,
    },
}

impl Cell {
    /// Makes data and network ready. `content` gives the bytes of a file by its SHA-256.
    ///
    /// # Errors
    /// [`CellError`], with what is wrong and where.
    pub fn new<'b>(
        spec: Arc<CellSpec>,
        content: impl Fn(&str) -> Option<&'b [u8]>,
    ) -> Result<Self, CellError> {
        let set = data::load(&spec.data, &content)?;
        let data = data::prepare(
            &set,
            &Preparation {
                loss: spec.loss,
                standardize: spec.standardize,
                features: spec.model.features,
                intercept: spec.model.intercept,
            },
        )?;
        let table = match &spec.model.body {
            Body::Table(file) => {
                let bytes = content(&file.sha256).ok_or_else(|| DataError::NoContent {
                    path: file.path.clone(),
                })?;
                let table = data::matrix(file, bytes)?;
                if table.nrows() != data.y.nrows() {
                    return Err(CellError::TableRows {
                        path: file.path.clone(),
                        rows: table.nrows(),
                        needed: data.y.nrows(),
                    });
                }
                Some(table)
            }
            _ => None,
        };
        let model = ModelSpec {
            image: spec.model.image.or(set.image),
            ..spec.model.clone()
        };
        let identity = DataIdentity {
            arrays: set.content_hash(),
            image: set.image,
        };
        Self::assemble(spec, model, identity, data, table)
    }

    fn assemble(
        spec: Arc<CellSpec>,
        model: ModelSpec,
        identity: DataIdentity,
        data: Prepared,
        table: Option<Array2<f64>>,
    ) -> Result<Self, CellError> {
        let dims = LayoutDims {
            inputs: data.inputs_of(&model.body).ncols(),
            phi: data.phi.ncols(),
            outputs: data.y.ncols(),
            table: table.as_ref().map_or(0, Array2::ncols),
        };
        let arrays = layout(&model, dims)?;
        let body = BodyDims {
            skip: model.skip,
            depth: model.depth,
            width: model.width,
            bottleneck: model.bottleneck,
            cardinality: model.cardinality,
            activation: model.activation.clone(),
            inputs: dims.inputs,
            image: model.image,
            phi: dims.phi,
            outputs: dims.outputs,
            table: dims.table,
            body: model.body.clone(),
        };
        let problem = Problem::new(
            &body,
            spec.loss,
            spec.regularizer,
            Arrays {
                x: data.inputs_of(&model.body),
                phi: data.phi.view(),
                y: data.y.view(),
                mask: data.mask.as_ref().map(|a| a.view()),
                table: table.as_ref().map(|a| a.view()),
            },
        );
        let batches = if spec.optimizer == Optimizer::Sgd {
            batches(&body, &spec, &data, table.as_ref())
        } else {
            Vec::new()
        };
        Ok(Self {
            spec,
            identity,
            data,
            arrays,
            problem,
            batches,
            isa: Isa::current(),
        })
    }

    /// The specification.
    pub fn spec(&self) -> &Arc<CellSpec> {
        &self.spec
    }

    /// What the identities of its tasks need to know of its data.
    pub fn data_identity(&self) -> &DataIdentity {
        &self.identity
    }

    /// Its data as the network reads them.
    pub fn data(&self) -> &Prepared {
        &self.data
    }

    /// Names, shapes and order of θ.
    pub fn arrays(&self) -> &[ParamArray] {
        &self.arrays
    }

    /// The compiled problem.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The instruction set that its runs use.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The classical model that the cell is measured against.
    pub(crate) fn linear(&self) -> LinearProblem<'_> {
        let regularizer = &self.spec.regularizer;
        LinearProblem {
            features: row_major(&self.data.phi),
            width: self.data.phi.ncols(),
            targets: row_major(&self.data.y),
            mask: self.data.mask.as_ref().map(row_major),
            outputs: self.data.y.ncols(),
            loss: self.spec.loss,
            ridge: regularizer.predictor_ridge + regularizer.head_decay,
            free: &[],
            classes: None,
        }
    }

    /// Solves the classical model, with its dual bound and attainment.
    pub fn baseline(&self) -> BaselineEvidence {
        baseline::solve(&self.linear(), self.isa)
    }

    /// A run, at its start. `seed` is that of the task, read or not; `content` gives the bytes of
    /// a point file.
    ///
    /// # Errors
    /// [`StartError`] if the start is a point that does not fit the network.
    pub fn run<'c, 'b>(
        &'c self,
        start: &Start,
        seed: u64,
        baseline: &'c BaselineEvidence,
        content: impl Fn(&str) -> Option<&'b [u8]>,
        threads: Threads,
    ) -> Result<Run<'c>, StartError> {
        let seed = if reads_seed(&self.spec, start) {
            seed
        } else {
            0
        };
        let theta = start::theta(self, start, seed, content, threads)?;
        let stay_in_theta = matches!(
            start,
            Start::Drawn {
                kind: StartKind::ZeroResidual | StartKind::RankDeficient | StartKind::Dead,
                ..
            }
        );
        let setup = Setup {
            method: self.spec.optimizer,
            polish: self.spec.polish,
            budget: self.spec.budget,
            tolerances: self.spec.certificate,
            baseline: Some(baseline),
            linear: self.linear(),
            batches: &self.batches,
            frozen: self.spec.model.freeze,
            stay_in_theta,
            seed,
        };
        Ok(Run::new(&self.problem, setup, theta, self.isa, threads.0))
    }
}

/// The problem in batches of about [`BATCH_ROWS`] rows. Row i belongs to batch
/// i mod the number of batches, so that sorted classes are spread.
fn batches(
    body: &BodyDims,
    spec: &CellSpec,
    data: &Prepared,
    table: Option<&Array2<f64>>,
) -> Vec<Problem> {
    let n = data.y.nrows();
    let count = n.div_ceil(BATCH_ROWS);
    let x = data.inputs_of(&body.body);
    (0..count)
        .map(|b| {
            let rows: Vec<usize> = (b..n).step_by(count).collect();
            let of = |a: &Array2<f64>| a.select(Axis(0), &rows);
            let (x, phi, y) = (x.select(Axis(0), &rows), of(&data.phi), of(&data.y));
            let (mask, table) = (data.mask.as_ref().map(of), table.map(of));
            let arrays = Arrays {
                x: x.view(),
                phi: phi.view(),
                y: y.view(),
                mask: mask.as_ref().map(|m| m.view()),
                table: table.as_ref().map(|t| t.view()),
            };
            Problem::new(body, spec.loss, spec.regularizer, arrays)
        })
        .collect()
}

fn row_major(a: &Array2<f64>) -> &[f64] {
    a.as_slice().expect("prepared arrays are row-major")
}
