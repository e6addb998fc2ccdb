//! One point of one cell, examined as it is: by the engine, and once more by
//! the reference models.

use std::sync::Arc;

use common::data;
use common::layout::{LayoutDims, read_point};
use common::math::Isa;
use common::record::{BaselineEvidence, RunEvidence};
use common::reference::{HyperDual, Network, Rows, Sample, Terms};
use common::spec::{Body, Budget, CellSpec, FileRef, ModelSpec, Skip, Start};
use engine::objective::{Chart, Objective};
use engine::task::{Cell, Threads};
use ndarray::{Array2, ArrayBase, Data, Ix2};
use sha2::{Digest, Sha256};

use super::BadInput;
use super::margin::margin;
use crate::files::Contents;

/// A cell with a θ.
pub(super) struct Point {
    pub(super) cell: Cell,
    pub(super) theta: Vec<f64>,
    /// A given representation.
    table: Option<Array2<f64>>,
    /// The point's file as a start.
    start: FileRef,
    content: Vec<u8>,
}

/// What the engine says of a point.
pub(super) struct Examined {
    pub(super) baseline: BaselineEvidence,
    pub(super) evidence: RunEvidence,
    /// ∂F/∂θ.
    pub(super) gradient: Vec<f64>,
    /// A and B, THEORY §1; only for `skip: outer` without head decay.
    pub(super) head: Option<(Vec<f64>, Vec<f64>)>,
}

/// What the reference models say of it.
pub(super) struct SecondOpinion {
    pub(super) terms: Terms<f64>,
    /// Entries of ∂F/∂θ by position.
    pub(super) gradient: Vec<(usize, f64)>,
}

impl Point {
    /// A point file's parameters in a cell. The cell's budget is nothing: the
    /// point stays where it is.
    pub(super) fn new(
        spec: &CellSpec,
        contents: &Contents,
        content: Vec<u8>,
    ) -> anyhow::Result<Self> {
        let bad = |error: &dyn std::fmt::Display| BadInput(error.to_string());
        let spec = CellSpec {
            budget: Budget {
                evaluations: 0,
                seconds: None,
            },
            ..spec.clone()
        };
        let table = match &spec.model.body {
            Body::Table(file) if spec.model.skip != Skip::Chain => {
                let bytes = contents.get(&file.sha256).unwrap_or_default();
                Some(data::matrix(file, bytes).map_err(|error| bad(&error))?)
            }
            _ => None,
        };
        let cell = Cell::new(Arc::new(spec), |sha256| contents.get(sha256)).map_err(|e| bad(&e))?;
        let theta = read_point(&content, cell.arrays()).map_err(|error| bad(&error))?;
        let hash: [u8; 32] = Sha256::digest(&content).into();
        let start = FileRef {
            path: "the point".to_owned(),
            sha256: common::ids::to_hex(&hash),
        };
        Ok(Self {
            cell,
            theta,
            table,
            start,
            content,
        })
    }

    /// The certificate at the point, and first derivatives.
    pub(super) fn examine(&self) -> anyhow::Result<Examined> {
        let baseline = self.cell.baseline();
        let content = |sha256: &str| (sha256 == self.start.sha256).then_some(&*self.content);
        let start = Start::Point(self.start.clone());
        let evidence = self
            .cell
            .run(&start, 0, &baseline, content, Threads::ONE)?
            .to_end()
            .evidence;
        let problem = self.cell.problem();
        let mut objective = self.objective();
        let mut gradient = vec![0.0; self.theta.len()];
        objective.value_gradient(&self.theta, &mut gradient);
        let d = problem.dims();
        let applies = problem.skip() == Skip::Outer && problem.regularizer().head_decay == 0.0;
        let head = applies.then(|| {
            let (a, rest) = objective.program_gradient().split_at(d.outputs * d.phi);
            (a.to_vec(), rest[..d.outputs * d.z].to_vec())
        });
        Ok(Examined {
            baseline,
            evidence,
            gradient,
            head,
        })
    }

    fn objective(&self) -> Objective<'_> {
        Objective::new(self.cell.problem(), Chart::Theta, None, Isa::current(), 1)
    }

    /// H v at the point.
    pub(super) fn product(&self, direction: &[f64]) -> Vec<f64> {
        let mut objective = self.objective();
        let mut out = vec![0.0; self.theta.len()];
        objective.linearize(&self.theta, &mut out);
        objective.products(direction, &mut out);
        out
    }

    /// Shapes of A and B.
    pub(super) fn head_shapes(&self) -> [[usize; 2]; 2] {
        let d = self.cell.problem().dims();
        [[d.outputs, d.phi], [d.outputs, d.z]]
    }

    /// The distance of the nearest pre-activation from a kink.
    pub(super) fn kink_margin(&self) -> anyhow::Result<Option<f64>> {
        let rows = self.rows();
        let x = rows.x.as_standard_layout();
        let sample = |i: usize| Sample {
            x: row(&x, i),
            phi: row(&self.cell.data().phi, i),
            table: self.table.as_ref().map_or(&[], |table| row(table, i)),
        };
        let samples = (0..rows.y.nrows()).map(sample);
        let activation = &self.cell.spec().model.activation;
        Ok(margin(&self.network()?, activation, &self.theta, samples))
    }

    /// The mean loss, by the reference models.
    pub(super) fn loss(&self) -> anyhow::Result<f64> {
        Ok(self
            .network()?
            .terms(
                &self.theta,
                self.rows(),
                self.cell.spec().loss,
                self.cell.spec().regularizer,
            )
            .loss)
    }

    /// Value and gradient by the reference models; of a long θ at most `most`
    /// entries of the gradient, evenly spread.
    pub(super) fn second_opinion(&self, most: usize) -> anyhow::Result<SecondOpinion> {
        let network = self.network()?;
        let spec = self.cell.spec();
        let terms = network.terms(&self.theta, self.rows(), spec.loss, spec.regularizer);
        let p = self.theta.len();
        let positions: Vec<usize> = (0..p.min(most)).map(|i| i * p / p.min(most)).collect();
        let constant = |value: &f64| HyperDual {
            value: *value,
            ..HyperDual::default()
        };
        let mut theta: Vec<HyperDual> = self.theta.iter().map(constant).collect();
        let mut gradient = Vec::with_capacity(positions.len());
        // A dual number carries two directions at a time.
        for pair in positions.chunks(2) {
            theta[pair[0]].first = 1.0;
            if let Some(second) = pair.get(1) {
                theta[*second].second = 1.0;
            }
            let objective = network
                .terms(&theta, self.rows(), spec.loss, spec.regularizer)
                .objective();
            gradient.push((pair[0], objective.first));
            gradient.extend(pair.get(1).map(|second| (*second, objective.second)));
            for at in pair {
                theta[*at] = constant(&self.theta[*at]);
            }
        }
        Ok(SecondOpinion { terms, gradient })
    }

    fn network(&self) -> anyhow::Result<Network> {
        let data = self.cell.data();
        let spec = self.cell.spec();
        let dims = LayoutDims {
            inputs: data.inputs_of(&spec.model.body).ncols(),
            phi: data.phi.ncols(),
            outputs: data.y.ncols(),
            table: self.table.as_ref().map_or(0, Array2::ncols),
        };
        // Shipped images bring their shape themselves.
        let image = spec.model.image.or_else(|| match &spec.data {
            common::spec::DataSpec::Named(name) => common::spec::named_image(name),
            _ => None,
        });
        Ok(Network::new(
            &ModelSpec {
                image,
                ..spec.model.clone()
            },
            dims,
        )?)
    }

    fn rows(&self) -> Rows<'_> {
        let data = self.cell.data();
        Rows {
            x: data.inputs_of(&self.cell.spec().model.body),
            phi: data.phi.view(),
            y: data.y.view(),
            mask: data.mask.as_ref().map(|mask| mask.view()),
            table: self.table.as_ref().map(|table| table.view()),
        }
    }
}

/// A row of a row-major matrix.
fn row<S: Data<Elem = f64>>(matrix: &ArrayBase<S, Ix2>, i: usize) -> &[f64] {
    let width = matrix.ncols();
    matrix
        .as_slice()
        .map_or(&[], |entries| &entries[i * width..][..width])
}
