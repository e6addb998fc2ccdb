//! Where runs begin: θ₀ of every family of CONTRACT §2.
//!
//! | start | θ₀ | what it is for |
//! |---|---|---|
//! | `standard` | [`common::layout::standard_start`] | what people do |
//! | `small` | the standard start times 0.01·scale, all of it | the neighbourhood of θ = 0, where V z is flat (Saxe, McClelland & Ganguli 2014) |
//! | `large` | the standard start at scale 10·scale | the far field: steep or wildly oscillating bodies |
//! | `saturated` | biases ±10·scale, signs drawn | flat tails of bounded activations (Glorot & Bengio 2010) |
//! | `dead` | biases −10·scale | units that are off for every row: no gradient under relu (Lu et al. 2020) |
//! | `zero_residual` | V = 0 (`none`: W = 0; `chain`: every V_l = 0) | the classical model, embedded |
//! | `rank_deficient` | W of rank one, 0 for a single output | the stratum that head coordinates do not see (THEORY §1, 7) |
//! | `duplicated` | units in equal pairs, in and out | the subspaces that permutations leave invariant (Fukumizu & Amari 2000) |
//! | `subnetwork` | a minimum of the network without its odd units, which are switched off | a narrower network's minimum as a point of the wider one (Fukumizu & Amari 2000) |
//! | `sign_flipped` | V chosen so that W V = −R₂, where (R₁, R₂) is the best head on φ and z | the residual pulls the wrong way |
//! | `ascent` | steepest ascent from the standard start until the objective is 10·scale times as large | basins above the usual ones |
//! | `point` | a given θ | controls |
//!
//! `scale` multiplies the family's own size: the body's weights, unless the table says otherwise.
//! Where a family draws, it draws the numbers of the standard start of the same seed.

use common::data::DataError;
use common::layout::{ArrayKind, ParamArray, PointError, read_point, standard_start};
use common::math::slice::{axpy, norm};
use common::rng::{Philox, Purpose};
use common::spec::{Skip, Start, StartKind};

use crate::linalg::Svd;
use crate::linear::LinearProblem;
use crate::objective::{Chart, Objective};
use crate::task::{Cell, Threads};

/// Why a run cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The content of the point file is not at hand.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A given point is not one of this network.
    #[error("{path}: {source}")]
    Point {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: PointError,
    },
}

/// Size of the biases of `saturated` and `dead`.
const OFF: f64 = 10.0;

/// θ₀ of a start.
pub(crate) fn theta<'b>(
    cell: &Cell,
    start: &Start,
    seed: u64,
    content: impl Fn(&str) -> Option<&'b [u8]>,
    threads: Threads,
) -> Result<Vec<f64>, StartError> {
    match start {
        Start::Drawn { kind, scale } => Ok(drawn(cell, *kind, *scale, seed, threads)),
        Start::Point(file) => {
            let bytes = content(&file.sha256).ok_or_else(|| DataError::NoContent {
                path: file.path.clone(),
            })?;
            read_point(bytes, cell.arrays()).map_err(|source| StartError::Point {
                path: file.path.clone(),
                source,
            })
        }
    }
}

fn drawn(cell: &Cell, kind: StartKind, scale: f64, seed: u64, threads: Threads) -> Vec<f64> {
    let arrays = cell.arrays();
    let standard = |scale| standard_start(arrays, seed, scale);
    let rng = Philox::new(seed);
    match kind {
        StartKind::Standard => standard(scale),
        StartKind::Large => standard(10.0 * scale),
        StartKind::Small => {
            let mut theta = standard(1.0);
            theta.iter_mut().for_each(|t| *t *= 0.01 * scale);
            theta
        }
        StartKind::Saturated => with_biases(arrays, standard(1.0), |layer, unit| {
            let up = rng.below(2, Purpose::StartPattern, layer, unit, 0) == 1;
            if up { OFF * scale } else { -OFF * scale }
        }),
        StartKind::Dead => with_biases(arrays, standard(1.0), |_, _| -OFF * scale),
        StartKind::ZeroResidual => zero_residual(cell, standard(scale)),
        StartKind::RankDeficient => rank_deficient(cell, standard(scale), rng),
        StartKind::Duplicated => duplicated(arrays, standard(scale)),
        StartKind::Subnetwork => subnetwork(cell, standard(scale), threads),
        StartKind::SignFlipped => sign_flipped(cell, standard(scale)),
        StartKind::Ascent => ascent(cell, standard(1.0), 10.0 * scale, threads),
    }
}

/// The body's biases replaced, all other entries kept. `value` is asked by (layer, unit).
fn with_biases(
    arrays: &[ParamArray],
    mut theta: Vec<f64>,
    value: impl Fn(u32, u32) -> f64,
) -> Vec<f64> {
    for array in arrays {
        if array.kind.is_bias() && !array.kind.is_head() {
            for (unit, t) in theta[array.range()].iter_mut().enumerate() {
                *t = value(array.layer as u32, unit as u32);
            }
        }
    }
    theta
}

fn zero_residual(cell: &Cell, mut theta: Vec<f64>) -> Vec<f64> {
    let zeroed = match cell.spec().model.skip {
        Skip::Outer | Skip::Chain => ArrayKind::SkipWeight,
        Skip::None => ArrayKind::OutputWeight,
    };
    for array in cell.arrays().iter().filter(|a| a.kind == zeroed) {
        theta[array.range()].fill(0.0);
    }
    theta
}

/// W = a bᵀ with a drawn and b the first row of the standard W; W = 0 for one output.
fn rank_deficient(cell: &Cell, mut theta: Vec<f64>, rng: Philox) -> Vec<f64> {
    let Some(w) = array_of(cell.arrays(), ArrayKind::OutputWeight) else {
        return theta;
    };
    let (outputs, columns) = (w.shape[0], w.shape[1]);
    let entries = &mut theta[w.range()];
    if outputs == 1 {
        entries.fill(0.0);
        return theta;
    }
    let first = entries[..columns].to_vec();
    for (k, row) in entries.chunks_exact_mut(columns).enumerate() {
        let factor = rng.normal(Purpose::StartValue, 0, k as u32, 0);
        for (t, b) in row.iter_mut().zip(&first) {
            *t = factor * b;
        }
    }
    theta
}

fn array_of(arrays: &[ParamArray], kind: ArrayKind) -> Option<&ParamArray> {
    arrays.iter().find(|a| a.kind == kind)
}

/// Rows and columns of one array, seen as a matrix whose rows are its output units.
fn matrix_shape(array: &ParamArray) -> (usize, usize) {
    let rows = array.shape.first().copied().unwrap_or(0);
    (rows, array.len() / rows.max(1))
}

/// Which side of an array indexes hidden units: its rows, its columns.
///
/// Convolutions pair output channels only; branches of `aggregated` pair inside a branch.
fn hidden_sides(array: &ParamArray, skip: Skip) -> (bool, bool) {
    match array.kind {
        ArrayKind::OutputWeight => (false, skip == Skip::None),
        ArrayKind::OutputBias => (false, false),
        ArrayKind::SkipWeight => (false, true),
        ArrayKind::LayerWeight => (true, array.layer > 1 && skip != Skip::Chain),
        ArrayKind::LayerBias | ArrayKind::BlockInBias | ArrayKind::BlockMidBias => (true, false),
        ArrayKind::BlockInWeight | ArrayKind::BlockMidWeight | ArrayKind::BlockOutWeight => {
            (true, array.shape.len() == 2)
        }
    }
}

/// Every odd hidden unit a copy of the even one before it, in and out.
fn duplicated(arrays: &[ParamArray], mut theta: Vec<f64>) -> Vec<f64> {
    let skip = skip_of(arrays);
    for array in arrays {
        let (rows, columns) = matrix_shape(array);
        let (by_row, by_column) = hidden_sides(array, skip);
        let entries = &mut theta[array.range()];
        for i in 0..rows {
            for j in 0..columns {
                let from = (
                    if by_row { i - i % 2 } else { i },
                    if by_column { j - j % 2 } else { j },
                );
                entries[i * columns + j] = entries[from.0 * columns + from.1];
            }
        }
    }
    theta
}

fn skip_of(arrays: &[ParamArray]) -> Skip {
    let chain = arrays
        .iter()
        .any(|a| a.kind == ArrayKind::SkipWeight && a.layer > 0);
    let outer = arrays.iter().any(|a| a.kind == ArrayKind::SkipWeight);
    match (chain, outer) {
        (true, _) => Skip::Chain,
        (_, true) => Skip::Outer,
        _ => Skip::None,
    }
}

/// Most evaluations of the narrower network's training.
const SUBNETWORK: usize = 2_000;

/// A near-minimum of the network without its odd units: what they send on is set to 0 and kept
/// there by projected descent with a backtracking step; what they receive stays as drawn.
fn subnetwork(cell: &Cell, mut theta: Vec<f64>, threads: Threads) -> Vec<f64> {
    let skip = skip_of(cell.arrays());
    let mut fixed = vec![false; theta.len()];
    for array in cell.arrays() {
        let (rows, columns) = matrix_shape(array);
        let (_, by_column) = hidden_sides(array, skip);
        for i in 0..rows {
            for j in 0..columns {
                let at = array.offset + i * columns + j;
                if by_column && j % 2 == 1 {
                    theta[at] = 0.0;
                    fixed[at] = true;
                }
            }
        }
    }
    follow_gradient(cell, theta, -1.0, SUBNETWORK, threads, |_, g| {
        for (g, fixed) in g.iter_mut().zip(&fixed) {
            if *fixed {
                *g = 0.0;
            }
        }
        true
    })
}

/// V such that W V = −R₂ in the least squares sense, with the best (R₁, R₂) for the drawn body
/// and W = R₁. Networks without an outer skip: the signs of W (`none`) or V_l (`chain`) flipped.
fn sign_flipped(cell: &Cell, mut theta: Vec<f64>) -> Vec<f64> {
    if cell.spec().model.skip != Skip::Outer {
        let kind = match cell.spec().model.skip {
            Skip::None => ArrayKind::OutputWeight,
            _ => ArrayKind::SkipWeight,
        };
        for array in cell.arrays().iter().filter(|a| a.kind == kind) {
            theta[array.range()].iter_mut().for_each(|t| *t = -*t);
        }
        return theta;
    }
    let mut objective = Objective::new(cell.problem(), Chart::Theta, None, cell.isa(), 1);
    let z = objective.representation(&theta);
    let d = cell.problem().dims();
    let phi = cell.linear();
    let width = d.phi + d.z;
    let mut features = Vec::with_capacity(d.rows * width);
    for i in 0..d.rows {
        features.extend_from_slice(&phi.features[i * d.phi..][..d.phi]);
        features.extend_from_slice(&z[i * d.z..][..d.z]);
    }
    if features.iter().any(|v| !v.is_finite()) {
        return theta;
    }
    let head = LinearProblem {
        features: &features,
        width,
        ridge: phi.ridge.max(1e-6),
        ..phi
    }
    .solve(cell.isa(), None);
    let (w, v) = theta.split_at_mut(d.outputs * d.phi);
    let mut residual = vec![0.0; d.outputs * d.z];
    for k in 0..d.outputs {
        let row = &head.r[k * width..][..width];
        w[k * d.phi..][..d.phi].copy_from_slice(&row[..d.phi]);
        residual[k * d.z..][..d.z].copy_from_slice(&row[d.phi..]);
    }
    if let Some(flipped) = preimage(w, &residual, d.outputs, d.phi, d.z) {
        for (v, r) in v.iter_mut().zip(flipped) {
            *v = -r;
        }
    }
    theta
}

/// The least V with W V = R in the least squares sense; W [o, p], R [o, z], V [p, z].
fn preimage(w: &[f64], r: &[f64], o: usize, p: usize, z: usize) -> Option<Vec<f64>> {
    if o > p || w.iter().chain(r).any(|v| !v.is_finite()) {
        return None;
    }
    let svd = Svd::new(w, o, p);
    Some(svd.solve(r, z))
}

/// Most steps of an ascent.
const ASCENT: usize = 200;

/// Follows the gradient upwards until the objective is `factor` times that of the start.
fn ascent(cell: &Cell, theta: Vec<f64>, factor: f64, threads: Threads) -> Vec<f64> {
    let mut goal = None;
    follow_gradient(cell, theta, 1.0, ASCENT, threads, move |f, _| {
        f < *goal.get_or_insert(factor * f.abs().max(1e-3))
    })
}

/// Moves along ±gradient with steps that double after a success and halve after a failure, while
/// `go_on` says so; it may project the gradient. At most `steps` evaluations.
fn follow_gradient(
    cell: &Cell,
    mut theta: Vec<f64>,
    sign: f64,
    steps: usize,
    threads: Threads,
    mut go_on: impl FnMut(f64, &mut [f64]) -> bool,
) -> Vec<f64> {
    let mut objective = Objective::new(cell.problem(), Chart::Theta, None, cell.isa(), threads.0);
    let mut gradient = vec![0.0; theta.len()];
    let mut trial_gradient = vec![0.0; theta.len()];
    let mut trial = theta.clone();
    let mut value = objective.value_gradient(&theta, &mut gradient);
    let mut rate = 0.1;
    for _ in 0..steps {
        if !go_on(value, &mut gradient) || !value.is_finite() {
            break;
        }
        let length = norm(&gradient);
        if length <= 1e-10 * value.abs().max(1.0) {
            break;
        }
        trial.copy_from_slice(&theta);
        axpy(sign * rate, &gradient, &mut trial);
        let reached = objective.value_gradient(&trial, &mut trial_gradient);
        let better = sign * (reached - value) > 1e-4 * rate * length * length;
        if reached.is_finite() && better {
            std::mem::swap(&mut theta, &mut trial);
            std::mem::swap(&mut gradient, &mut trial_gradient);
            value = reached;
            rate *= 2.0;
        } else {
            rate *= 0.5;
            if rate < 1e-16 {
                break;
            }
        }
    }
    theta
}
