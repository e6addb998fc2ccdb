//! The models of CONTRACT §1 once more: scalar, sample by sample, plainly.
//!
//! The engine computes the same formulas with compiled programs over blocks of
//! samples and hand-written derivatives. This module is written to be read
//! beside the contract, on any [`Scalar`]: on f64 it labels generated data and
//! is the second opinion of `worker verify`; on [`HyperDual`] it gives exact
//! derivatives for tests. It is not fast and shares no code with the engine;
//! the two agree to rounding, not bit for bit.
//!
//! ```
//! use common::layout::LayoutDims;
//! use common::reference::{Network, Sample};
//! use common::spec::{Activation, Body, Features, ModelSpec, Skip};
//!
//! // f(x) = W (φ + V tanh(A1 x + b1)), φ = (x, 1), one number each.
//! let model = ModelSpec {
//!     features: Features::Linear, intercept: true, body: Body::Mlp, depth: 1, width: 1,
//!     bottleneck: 0, cardinality: 0, activation: Activation::Tanh, skip: Skip::Outer,
//!     freeze: false, image: None,
//! };
//! let dims = LayoutDims { inputs: 1, phi: 2, outputs: 1, table: 0 };
//! let network = Network::new(&model, dims).unwrap();
//! //           W         V         A1   b1
//! let theta = [2.0, 1.0, 0.5, 0.0, 0.0, 0.0];
//! let sample = Sample { x: &[3.0], phi: &[3.0, 1.0], table: &[] };
//! assert_eq!(network.output(&theta, sample), [7.0]);
//! ```

mod activation;
mod scalar;

pub use activation::{activate, row_loss};
pub use scalar::{HyperDual, Scalar};

use ndarray::ArrayView2;

use crate::layout::{
    ArrayKind, LayoutDims, LayoutError, ParamArray, layout, parameters, representation_width,
};
use crate::spec::{Activation, Body, Loss, ModelSpec, Regularizer, Skip};

/// A network: model, sizes and the arrays of θ.
#[derive(Clone, Debug)]
pub struct Network<'m> {
    model: &'m ModelSpec,
    arrays: Vec<ParamArray>,
    /// d_y.
    outputs: usize,
    /// d_φ.
    phi: usize,
    /// d_z.
    z: usize,
}

/// What the network reads of one row.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What the body reads.
    pub x: &'a [f64],
    /// φ(x).
    pub phi: &'a [f64],
    /// A given representation (`body: table`), else empty.
    pub table: &'a [f64],
}

/// The rows of a problem, one sample a row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// What the body reads.
    pub x: ArrayView2<'a, f64>,
    /// φ `[n, d_φ]`.
    pub phi: ArrayView2<'a, f64>,
    /// Targets `[n, d_y]`, encoded for the loss.
    pub y: ArrayView2<'a, f64>,
    /// Not 0 where a target is observed `[n, d_y]`.
    pub mask: Option<ArrayView2<'a, f64>>,
    /// A given representation `[n, d_z]`.
    pub table: Option<ArrayView2<'a, f64>>,
}

/// The parts of an objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms<S> {
    /// Mean loss over the rows.
    pub loss: S,
    /// The ridge term of the skip.
    pub ridge: S,
    /// (body_decay/2)‖u‖².
    pub body_decay: S,
    /// The term that `head_decay` adds.
    pub head_decay: S,
}

impl<S: Scalar> Terms<S> {
    /// What training minimises.
    pub fn objective(self) -> S {
        self.value() + self.body_decay
    }

    /// The objective without the body's decay: what stands beside the baseline.
    pub fn value(self) -> S {
        self.loss + self.ridge + self.head_decay
    }
}

/// The parameter arrays in order, one after the other.
struct Cursor<'a, S> {
    arrays: std::slice::Iter<'a, ParamArray>,
    theta: &'a [S],
}

impl<'a, S> Cursor<'a, S> {
    fn next(&mut self) -> &'a [S] {
        let array = self
            .arrays
            .next()
            .expect("a body reads the arrays of its layout");
        &self.theta[array.range()]
    }
}

/// bias + M x, or base + M x: the sum over columns in ascending order, on top of `start`.
fn affine<S: Scalar>(matrix: &[S], start: &[S], x: &[S]) -> Vec<S> {
    let rows = start.iter().enumerate();
    rows.map(|(i, &b)| {
        let row = &matrix[i * x.len()..][..x.len()];
        row.iter().zip(x).fold(b, |sum, (&w, &v)| w.mul_add(v, sum))
    })
    .collect()
}

fn add<S: Scalar>(a: &[S], b: &[S]) -> Vec<S> {
    a.iter().zip(b).map(|(&a, &b)| a + b).collect()
}

/// ‖a‖², in ascending order.
fn square<S: Scalar>(a: &[S]) -> S {
    a.iter().fold(S::constant(0.0), |sum, &v| v.mul_add(v, sum))
}

/// ‖W V‖² for W `[o, k]`, V `[k, m]`.
fn square_of_product<S: Scalar>(w: &[S], v: &[S], k: usize, m: usize) -> S {
    let mut sum = S::constant(0.0);
    // No features or no columns: an empty product.
    for row in w.chunks_exact(k.max(1)) {
        for j in 0..m {
            let entry = (0..k).fold(S::constant(0.0), |s, i| row[i].mul_add(v[i * m + j], s));
            sum = entry.mul_add(entry, sum);
        }
    }
    sum
}

impl<'m> Network<'m> {
    /// A model on data of these sizes.
    ///
    /// # Errors
    /// When the model has no layout there.
    pub fn new(model: &'m ModelSpec, dims: LayoutDims) -> Result<Self, LayoutError> {
        Ok(Self {
            arrays: layout(model, dims)?,
            outputs: dims.outputs,
            phi: dims.phi,
            z: representation_width(model, dims),
            model,
        })
    }

    /// The arrays of θ.
    pub fn arrays(&self) -> &[ParamArray] {
        &self.arrays
    }

    /// Number of entries of θ.
    pub fn parameters(&self) -> usize {
        parameters(&self.arrays)
    }

    fn cursor<'a, S>(&'a self, theta: &'a [S], skip: usize) -> Cursor<'a, S> {
        assert_eq!(theta.len(), self.parameters(), "θ of another layout");
        Cursor {
            arrays: self.arrays[skip..].iter(),
            theta,
        }
    }

    /// z(x; u); empty for a chain.
    ///
    /// # Panics
    /// If θ or the sample has other sizes than the network.
    pub fn representation<S: Scalar>(&self, theta: &[S], sample: Sample<'_>) -> Vec<S> {
        match self.model.skip {
            Skip::Chain => Vec::new(),
            // W and V, or W and c, come first.
            Skip::Outer | Skip::None => self.body(&mut self.cursor(theta, 2), sample),
        }
    }

    /// f(x), d_y numbers.
    ///
    /// # Panics
    /// If θ or the sample has other sizes than the network.
    pub fn output<S: Scalar>(&self, theta: &[S], sample: Sample<'_>) -> Vec<S> {
        let mut at = self.cursor(theta, 0);
        let phi = constants(sample.phi);
        let zeros = vec![S::constant(0.0); self.outputs];
        match self.model.skip {
            Skip::Outer => {
                let (w, v) = (at.next(), at.next());
                let z = self.body(&mut at, sample);
                affine(w, &zeros, &affine(v, &phi, &z))
            }
            Skip::None => {
                let (w, c) = (at.next(), at.next());
                let z = self.body(&mut at, sample);
                affine(w, c, &z)
            }
            Skip::Chain => {
                let w = at.next();
                let mut x = phi;
                for _ in 0..self.model.depth {
                    let (a, b, v) = (at.next(), at.next(), at.next());
                    x = affine(v, &x, &self.sigma(affine(a, b, &x)));
                }
                affine(w, &zeros, &x)
            }
        }
    }

    fn sigma<S: Scalar>(&self, mut h: Vec<S>) -> Vec<S> {
        let activation: &Activation = &self.model.activation;
        h.iter_mut().for_each(|t| *t = activate(activation, *t));
        h
    }

    fn body<S: Scalar>(&self, at: &mut Cursor<'_, S>, sample: Sample<'_>) -> Vec<S> {
        let depth = self.model.depth;
        let x: Vec<S> = constants(sample.x);
        match self.model.body {
            Body::Table(_) => constants(sample.table),
            Body::Mlp => {
                let mut h = x;
                for _ in 0..depth {
                    let (a, b) = (at.next(), at.next());
                    h = self.sigma(affine(a, b, &h));
                }
                h
            }
            Body::Residual => {
                let (a, b) = (at.next(), at.next());
                let mut h = self.sigma(affine(a, b, &x));
                for _ in 1..depth {
                    let (a, b) = (at.next(), at.next());
                    h = add(&h, &self.sigma(affine(a, b, &h)));
                }
                h
            }
            Body::Preact => {
                let (a, b) = (at.next(), at.next());
                let mut h = affine(a, b, &x);
                for _ in 0..depth {
                    let (c_matrix, c, b_matrix) = (at.next(), at.next(), at.next());
                    let inner = self.sigma(affine(c_matrix, c, &self.sigma(h.clone())));
                    h = affine(b_matrix, &h, &inner);
                }
                h
            }
            Body::Bottleneck | Body::Aggregated => {
                let (a, b) = (at.next(), at.next());
                let mut h = affine(a, b, &x);
                for _ in 0..depth {
                    let (c_matrix, c) = (at.next(), at.next());
                    let inner = self.sigma(affine(c_matrix, c, &self.sigma(h.clone())));
                    let (d_matrix, d) = (at.next(), at.next());
                    let inner = self.sigma(self.branches(d_matrix, d, &inner));
                    h = affine(at.next(), &h, &inner);
                }
                h
            }
            Body::Conv => self.conv(at, x),
        }
    }

    /// One b×b block for each branch of b entries; a bottleneck is one branch.
    fn branches<S: Scalar>(&self, matrix: &[S], bias: &[S], x: &[S]) -> Vec<S> {
        let b = self.model.bottleneck;
        let branches = x.chunks_exact(b).enumerate();
        branches
            .flat_map(|(k, own)| affine(&matrix[k * b * b..][..b * b], &bias[k * b..][..b], own))
            .collect()
    }

    fn conv<S: Scalar>(&self, at: &mut Cursor<'_, S>, x: Vec<S>) -> Vec<S> {
        let m = self.model.width;
        let [height, width, channels] = self.model.image.expect("the layout checked the image");
        let positions = height * width;
        let (a, b) = (at.next(), at.next());
        let spread = |bias: &[S]| bias.repeat(positions);
        let mut h = convolve(a, spread(b), &x, [height, width, channels]);
        for _ in 0..self.model.depth {
            let (c_matrix, c, b_matrix) = (at.next(), at.next(), at.next());
            let outer = self.sigma(h.clone());
            let inner = self.sigma(convolve(c_matrix, spread(c), &outer, [height, width, m]));
            h = convolve(b_matrix, h, &inner, [height, width, m]);
        }
        let share = S::constant(1.0 / positions as f64);
        (0..m)
            .map(|o| {
                let sum = |s: S, p: usize| s + h[p * m + o];
                (0..positions).fold(S::constant(0.0), sum) * share
            })
            .collect()
    }

    /// The parts of the objective, CONTRACT §1.
    ///
    /// # Panics
    /// If θ or the rows have other sizes than the network.
    pub fn terms<S: Scalar>(
        &self,
        theta: &[S],
        rows: Rows<'_>,
        loss: Loss,
        regularizer: Regularizer,
    ) -> Terms<S> {
        let n = rows.y.nrows();
        let mut sum = S::constant(0.0);
        for i in 0..n {
            let row = |a: ArrayView2<'_, f64>| a.row(i).to_vec();
            let (x, phi, y) = (row(rows.x), row(rows.phi), row(rows.y));
            let (mask, table) = (rows.mask.map(row), rows.table.map(row).unwrap_or_default());
            let sample = Sample {
                x: &x,
                phi: &phi,
                table: &table,
            };
            let f = self.output(theta, sample);
            sum = sum + row_loss(loss, &f, &y, mask.as_deref());
        }
        let half = |strength: f64| S::constant(0.5 * strength);
        let (ridge, body, head) = self.squares(theta);
        Terms {
            loss: sum * S::constant(1.0 / n as f64),
            ridge: half(regularizer.predictor_ridge) * ridge,
            body_decay: half(regularizer.body_decay) * body,
            head_decay: half(regularizer.head_decay) * head,
        }
    }

    /// What `predictor_ridge`, `body_decay` and `head_decay` multiply by half.
    fn squares<S: Scalar>(&self, theta: &[S]) -> (S, S, S) {
        let zero = S::constant(0.0);
        let sum = |wanted: &dyn Fn(&ParamArray) -> bool| {
            let own = self.arrays.iter().filter(|a| wanted(a));
            own.fold(zero, |s, a| s + square(&theta[a.range()]))
        };
        let body = sum(&|a| !a.kind.is_head());
        let head = sum(&|a| matches!(a.kind, ArrayKind::OutputWeight | ArrayKind::SkipWeight));
        let w = &theta[self.arrays[0].range()];
        let skips = self
            .arrays
            .iter()
            .filter(|a| a.kind == ArrayKind::SkipWeight);
        let ridge = skips.fold(square(w), |s, a| {
            let columns = a.shape[1];
            s + square_of_product(w, &theta[a.range()], self.phi, columns)
        });
        (ridge, body, head)
    }

    /// d_z.
    pub fn representation_width(&self) -> usize {
        self.z
    }
}

fn constants<S: Scalar>(x: &[f64]) -> Vec<S> {
    x.iter().map(|v| S::constant(*v)).collect()
}

/// start + K ∗ x for K `[m, 3, 3, channels]` and x `[height, width, channels]`; zeros outside.
fn convolve<S: Scalar>(
    kernel: &[S],
    mut start: Vec<S>,
    x: &[S],
    [height, width, channels]: [usize; 3],
) -> Vec<S> {
    let units = start.len() / (height * width);
    for row in 0..height {
        for column in 0..width {
            let to = (row * width + column) * units;
            for tap in 0..9 {
                // The neighbour, shifted by one so that it cannot be negative.
                let (r, c) = (row + tap / 3, column + tap % 3);
                if r == 0 || r > height || c == 0 || c > width {
                    continue;
                }
                let from = ((r - 1) * width + c - 1) * channels;
                for unit in 0..units {
                    let weights = &kernel[(unit * 9 + tap) * channels..][..channels];
                    let inputs = weights.iter().zip(&x[from..from + channels]);
                    start[to + unit] = inputs.fold(start[to + unit], |s, (&w, &v)| w.mul_add(v, s));
                }
            }
        }
    }
    start
}
