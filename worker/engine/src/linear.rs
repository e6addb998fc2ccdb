//! Linear models: min over R of mean ℓ(Rψ_i, y_i) + (r/2)‖R‖², exactly solved.
//!
//! The classical baseline (ψ = φ), the induced model (ψ = [φ, z]) and the
//! optimal head at a frozen body are all this problem. It is convex:
//!
//! * squared: rank-revealing QR of the (ridge-augmented) matrix, one per
//!   pattern of observed targets (Golub & Van Loan, §5.5);
//! * other losses: damped Newton with the exact Hessian and an Armijo search,
//!   one output at a time where outputs do not interact, jointly for softmax.
//!
//! Columns are scaled to unit root mean square internally, so that features of
//! very different size do no harm.

use common::math::Isa;
use common::math::simd::LANES;
use common::math::slice::{axpy, dot, max_abs};
use common::spec::Loss;

use crate::kernels::{Aligned, Operand};
use crate::linalg::{Cholesky, PivotedQr};
use crate::loss::{self, Targets};

/// A linear model to fit. Matrices are row-major.
#[derive(Clone, Copy, Debug)]
pub struct LinearProblem<'a> {
    /// ψ `[n, d]`.
    pub features: &'a [f64],
    /// d.
    pub width: usize,
    /// y `[n, d_y]`.
    pub targets: &'a [f64],
    /// 1 where observed `[n, d_y]`.
    pub mask: Option<&'a [f64]>,
    /// d_y.
    pub outputs: usize,
    /// ℓ.
    pub loss: Loss,
    /// r ≥ 0.
    pub ridge: f64,
    /// Columns that the ridge leaves alone.
    pub free: &'a [usize],
    /// Cross-entropy: classes that take part, `[n, d_y]`; all when absent.
    pub classes: Option<&'a [bool]>,
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSolution {
    /// R `[d_y, d]`.
    pub r: Vec<f64>,
    /// Objective at R.
    pub value: f64,
    /// ‖∇‖∞ at R.
    pub gradient_norm: f64,
    /// Newton iterations (0 for direct solutions).
    pub iterations: u32,
}

/// Value and first derivatives at one R.
#[derive(Clone, Debug)]
pub(crate) struct Evaluation {
    /// mean ℓ + ridge.
    pub value: f64,
    /// ∂/∂R `[d_y, d]`.
    pub gradient: Vec<f64>,
    /// (1/n)·∂ℓ/∂f `[n, d_y]`.
    pub slopes: Vec<f64>,
    /// (1/n)·∂²ℓ/∂f² `[n, d_y]`, or softmax probabilities.
    pub curvatures: Vec<f64>,
    /// f `[n, d_y]`.
    pub outputs: Vec<f64>,
}

impl<'a> LinearProblem<'a> {
    /// n.
    pub fn rows(&self) -> usize {
        self.targets.len() / self.outputs.max(1)
    }

    /// r per column.
    fn ridges(&self) -> Vec<f64> {
        (0..self.width)
            .map(|j| {
                if self.free.contains(&j) {
                    0.0
                } else {
                    self.ridge
                }
            })
            .collect()
    }

    fn feature_row(&self, i: usize) -> &'a [f64] {
        &self.features[i * self.width..][..self.width]
    }

    /// Evaluates at `r`.
    pub(crate) fn evaluate(&self, isa: Isa, r: &[f64]) -> Evaluation {
        let (n, d, k) = (self.rows(), self.width, self.outputs);
        let groups = n.div_ceil(LANES);
        let block = groups * k * LANES;
        let mut outputs = vec![0.0; n * k];
        // f, gradient, curvature.
        let mut arena = Aligned::zeros(3 * block);
        let mut y = vec![0.0; block];
        let mut mask = self.mask.map(|_| vec![0.0; block]);
        let mut valid = vec![0.0; groups * LANES];
        for i in 0..n {
            let (g, lane) = (i / LANES, i % LANES);
            valid[i] = 1.0;
            for j in 0..k {
                let f = dot(self.feature_row(i), &r[j * d..][..d]);
                outputs[i * k + j] = f;
                let at = (g * k + j) * LANES + lane;
                // A class that takes no part has probability 0.
                let plays = self.classes.is_none_or(|c| c[i * k + j]);
                arena[at] = if plays { f } else { -1e300 };
                y[at] = self.targets[i * k + j];
                if let (Some(to), Some(from)) = (&mut mask, self.mask) {
                    to[at] = from[i * k + j];
                }
            }
        }
        let place = |i: usize| Operand::arena(i * block, k);
        let targets = Targets {
            y: &y,
            mask: mask.as_deref(),
            valid: &valid,
            outputs: k,
            inverse_rows: 1.0 / n as f64,
        };
        let sum = loss::value_and_derivatives(
            isa,
            self.loss,
            &mut arena,
            place(0),
            targets,
            place(1),
            Some(place(2)),
            groups,
        );
        let unpack = |which: usize| -> Vec<f64> {
            (0..n * k)
                .map(|m| {
                    let (i, j) = (m / k, m % k);
                    arena[which * block + (i / LANES * k + j) * LANES + i % LANES]
                })
                .collect()
        };
        let slopes = unpack(1);
        let ridge = self.ridges();
        let mut gradient: Vec<f64> = r
            .iter()
            .enumerate()
            .map(|(i, x)| ridge[i % d] * x)
            .collect();
        let penalty = 0.5 * dot(&gradient, r);
        for i in 0..n {
            for j in 0..k {
                axpy(
                    slopes[i * k + j],
                    self.feature_row(i),
                    &mut gradient[j * d..][..d],
                );
            }
        }
        let loss = sum / n as f64;
        Evaluation {
            value: loss + penalty,
            gradient,
            slopes,
            curvatures: unpack(2),
            outputs,
        }
    }

    /// ℓ″_i·(ΔR ψ_i)/n with HΔR = mean α_iψ_iᵀ: what moves the slopes to stationarity.
    pub(crate) fn newton_shift(&self, at: &Evaluation) -> Option<Vec<f64>> {
        let (n, d, k) = (self.rows(), self.width, self.outputs);
        let scales = vec![1.0; d];
        let step = newton_step(self, self.features, at, &at.gradient, &scales, 0.0)
            .or_else(|| newton_step(self, self.features, at, &at.gradient, &scales, 1e-14))?;
        let mut out = vec![0.0; n * k];
        for i in 0..n {
            let row: Vec<f64> = (0..k)
                .map(|j| -dot(self.feature_row(i), &step[j * d..][..d]))
                .collect();
            let c = &at.curvatures[i * k..][..k];
            if self.loss == Loss::CrossEntropy {
                let mean = dot(c, &row);
                for j in 0..k {
                    out[i * k + j] = c[j] * (row[j] - mean) / n as f64;
                }
            } else {
                for j in 0..k {
                    out[i * k + j] = c[j] * row[j];
                }
            }
        }
        Some(out)
    }

    /// Solves the problem, from `start` or from zero.
    ///
    /// With `ridge = 0` the minimum may not be attained; the solution is then a
    /// point far along the way (see [`crate::baseline`] for what that means).
    pub fn solve(&self, isa: Isa, start: Option<&[f64]>) -> LinearSolution {
        let scales: Vec<f64> = (0..self.width)
            .map(|j| {
                let n = self.rows();
                let square: f64 = (0..n).fold(0.0, |s, i| {
                    let x = self.features[i * self.width + j];
                    s + x * x
                });
                let rms = (square / n as f64).sqrt();
                if rms > 0.0 && rms.is_finite() {
                    rms
                } else {
                    1.0
                }
            })
            .collect();
        let (mut r, iterations) = if self.loss == Loss::Squared {
            (self.least_squares(&scales), 0)
        } else if self.loss == Loss::CrossEntropy || self.outputs == 1 {
            Newton::run(self, isa, &scales, start)
        } else {
            self.one_by_one(isa, &scales, start)
        };
        let mut at = self.evaluate(isa, &r);
        if self.loss == Loss::Squared {
            // One step of refinement on the residual takes the last digits out.
            let step = LinearProblem {
                targets: &self.residual(&at),
                ..*self
            };
            let correction = step.correction(&scales, &r);
            let refined: Vec<f64> = r.iter().zip(&correction).map(|(a, b)| a + b).collect();
            let better = self.evaluate(isa, &refined);
            if max_abs(&better.gradient) < max_abs(&at.gradient) {
                (r, at) = (refined, better);
            }
        }
        LinearSolution {
            r,
            value: at.value,
            gradient_norm: max_abs(&at.gradient),
            iterations,
        }
    }

    /// Newton for each output alone: they do not interact.
    fn one_by_one(&self, isa: Isa, scales: &[f64], start: Option<&[f64]>) -> (Vec<f64>, u32) {
        let column = |m: &[f64], j: usize| -> Vec<f64> {
            m.iter().skip(j).step_by(self.outputs).copied().collect()
        };
        let (mut r, mut iterations) = (Vec::with_capacity(self.outputs * self.width), 0);
        for j in 0..self.outputs {
            let mask = self.mask.map(|m| column(m, j));
            let one = LinearProblem {
                targets: &column(self.targets, j),
                mask: mask.as_deref(),
                outputs: 1,
                ..*self
            };
            let start = start.map(|s| &s[j * self.width..][..self.width]);
            let (row, count) = Newton::run(&one, isa, scales, start);
            r.extend(row);
            iterations = iterations.max(count);
        }
        (r, iterations)
    }

    fn residual(&self, at: &Evaluation) -> Vec<f64> {
        self.targets
            .iter()
            .zip(&at.outputs)
            .map(|(y, f)| y - f)
            .collect()
    }

    /// Outputs that share a pattern of observed targets.
    fn patterns(&self) -> Vec<Vec<usize>> {
        let Some(mask) = self.mask else {
            return vec![(0..self.outputs).collect()];
        };
        let column = |j: usize| {
            mask.iter()
                .skip(j)
                .step_by(self.outputs)
                .map(|m| *m > 0.0)
                .collect()
        };
        let columns: Vec<Vec<bool>> = (0..self.outputs).map(column).collect();
        let mut out: Vec<Vec<usize>> = Vec::new();
        for j in 0..self.outputs {
            match out.iter_mut().find(|group| columns[group[0]] == columns[j]) {
                Some(group) => group.push(j),
                None => out.push(vec![j]),
            }
        }
        out
    }

    /// Columns of [√w Ψ S⁻¹; √(r) S⁻¹] over the observed rows, w = 1/n.
    fn augmented(&self, scales: &[f64], rows: &[usize]) -> (Vec<f64>, usize) {
        let extra = if self.ridge > 0.0 { self.width } else { 0 };
        let total = rows.len() + extra;
        let weight = (1.0 / self.rows() as f64).sqrt();
        let ridge = self.ridges();
        let mut columns = vec![0.0; self.width * total];
        for (j, column) in columns.chunks_exact_mut(total.max(1)).enumerate() {
            for (c, &i) in column.iter_mut().zip(rows) {
                *c = weight * (self.features[i * self.width + j] / scales[j]);
            }
            if extra > 0 {
                column[rows.len() + j] = ridge[j].sqrt() / scales[j];
            }
        }
        (columns, total)
    }

    fn observed_rows(&self, output: usize) -> Vec<usize> {
        (0..self.rows())
            .filter(|i| self.mask.is_none_or(|m| m[i * self.outputs + output] > 0.0))
            .collect()
    }

    fn least_squares(&self, scales: &[f64]) -> Vec<f64> {
        self.solve_patterns(scales, |j, rows, total| {
            let weight = (1.0 / self.rows() as f64).sqrt();
            let mut b: Vec<f64> = rows
                .iter()
                .map(|i| weight * self.targets[i * self.outputs + j])
                .collect();
            b.resize(total, 0.0);
            b
        })
    }

    /// The same system for a residual, with the ridge's own residual −√r R.
    fn correction(&self, scales: &[f64], r: &[f64]) -> Vec<f64> {
        self.solve_patterns(scales, |j, rows, total| {
            let weight = (1.0 / self.rows() as f64).sqrt();
            let mut b: Vec<f64> = rows
                .iter()
                .map(|i| weight * self.targets[i * self.outputs + j])
                .collect();
            if total > rows.len() {
                b.extend(
                    r[j * self.width..][..self.width]
                        .iter()
                        .map(|x| -self.ridge.sqrt() * x),
                );
            }
            b
        })
    }

    fn solve_patterns(
        &self,
        scales: &[f64],
        right: impl Fn(usize, &[usize], usize) -> Vec<f64>,
    ) -> Vec<f64> {
        let mut r = vec![0.0; self.outputs * self.width];
        for group in self.patterns() {
            let rows = self.observed_rows(group[0]);
            let (columns, total) = self.augmented(scales, &rows);
            if total == 0 {
                continue;
            }
            let qr = PivotedQr::new(columns, total, self.width);
            for j in group {
                let x = qr.solve(&right(j, &rows, total));
                for ((r, x), s) in r[j * self.width..].iter_mut().zip(x).zip(scales) {
                    *r = x / s;
                }
            }
        }
        r
    }
}

/// Damped Newton on scaled columns.
struct Newton;

/// Iterations; Newton needs 5 to 30, a diverging separable problem stops here.
const ITERATIONS: u32 = 200;

impl Newton {
    fn run(
        p: &LinearProblem<'_>,
        isa: Isa,
        scales: &[f64],
        start: Option<&[f64]>,
    ) -> (Vec<f64>, u32) {
        let (d, k) = (p.width, p.outputs);
        let mut r = start.map_or_else(|| vec![0.0; k * d], <[f64]>::to_vec);
        let mut at = p.evaluate(isa, &r);
        if !at.value.is_finite() {
            r.fill(0.0);
            at = p.evaluate(isa, &r);
        }
        // Scaled features once: rows ψ_i / s.
        let scaled: Vec<f64> = p
            .features
            .iter()
            .enumerate()
            .map(|(i, x)| x / scales[i % d])
            .collect();
        let mut damping = 0.0;
        for iteration in 0..ITERATIONS {
            let g: Vec<f64> = at
                .gradient
                .iter()
                .enumerate()
                .map(|(i, g)| g / scales[i % d])
                .collect();
            if max_abs(&g) == 0.0 {
                return (r, iteration);
            }
            let search = |step: &[f64]| line_search(p, isa, scales, &r, &at, &g, step);
            let step = damped_step(p, &scaled, &at, &g, scales, &mut damping);
            let mut found = step.and_then(|step| search(&step));
            if found.as_ref().is_none_or(|f| f.0 < MAJORIZE)
                && let Some(curvatures) = majorizer(p, &at)
                && let Some(step) = separate_step(
                    &scaled,
                    &curvatures,
                    &g,
                    &scaled_ridge(p, scales),
                    1e-14,
                    (p.rows(), d, k),
                )
            {
                let other = search(&step);
                if let Some(o) = other
                    && found.as_ref().is_none_or(|f| o.2.value < f.2.value)
                {
                    found = Some(o);
                }
            }
            let Some((length, trial, next)) = found else {
                return (r, iteration);
            };
            (r, at) = (trial, next);
            if length == 1.0 {
                damping *= 0.1;
            }
            if damping < 1e-15 {
                damping = 0.0;
            }
        }
        (r, ITERATIONS)
    }
}

/// Newton steps shortened below this are set beside a majorised one.
const MAJORIZE: f64 = 0.1;

/// Curvatures of a quadratic that touches the loss at `at` and lies above it,
/// divided by n as those of an evaluation: ℓ′(e)/e for huber and log cosh
/// (Huber 1981, §7.8), (σ(f) − ½)/f for logistic (Jaakkola & Jordan 2000), 2
/// for the squared hinge. They do not vanish where the loss is linear, as its
/// own curvature does, so a step with them always descends. None for the others.
fn majorizer(p: &LinearProblem<'_>, at: &Evaluation) -> Option<Vec<f64>> {
    let weight = 1.0 / p.rows() as f64;
    let ratio = |slope: f64, e: f64| if e == 0.0 { 1.0 } else { slope / (weight * e) };
    let value = |i: usize| {
        let (f, y, slope) = (at.outputs[i], p.targets[i], at.slopes[i]);
        match p.loss {
            Loss::Huber { .. } | Loss::LogCosh => Some(ratio(slope, f - y)),
            Loss::Logistic if f.abs() < 1e-4 => Some(0.25),
            Loss::Logistic => Some(0.5 * common::math::scalar::tanh(0.5 * f) / f),
            Loss::SquaredHinge => Some(2.0),
            Loss::Squared | Loss::CrossEntropy | Loss::Poisson => None,
        }
    };
    let observed = |i: usize| p.mask.is_none_or(|m| m[i] > 0.0);
    (0..p.targets.len())
        .map(|i| value(i).map(|c| if observed(i) { weight * c } else { 0.0 }))
        .collect()
}

/// A Newton step, damped as far as its factorisation needs; None if that does not help.
fn damped_step(
    p: &LinearProblem<'_>,
    scaled: &[f64],
    at: &Evaluation,
    g: &[f64],
    scales: &[f64],
    damping: &mut f64,
) -> Option<Vec<f64>> {
    while *damping < 1e6 {
        if let Some(step) = newton_step(p, scaled, at, g, scales, *damping) {
            return Some(step);
        }
        *damping = (*damping * 100.0).max(1e-14);
    }
    None
}

/// The first of 1, ½, ¼, … along `step` (in scaled variables) that lowers the
/// value enough, or near the end, where the value has no digits left, the
/// gradient: length, point, evaluation.
fn line_search(
    p: &LinearProblem<'_>,
    isa: Isa,
    scales: &[f64],
    r: &[f64],
    at: &Evaluation,
    g: &[f64],
    step: &[f64],
) -> Option<(f64, Vec<f64>, Evaluation)> {
    let d = scales.len();
    let slope = dot(g, step);
    let noise = 4.0 * f64::EPSILON * at.value.abs();
    let size = scaled_norm(&at.gradient, scales);
    let mut length = 1.0;
    for _ in 0..60 {
        let trial: Vec<f64> = r
            .iter()
            .zip(step)
            .enumerate()
            .map(|(i, (r, s))| r + length * (s / scales[i % d]))
            .collect();
        let next = p.evaluate(isa, &trial);
        let falls = next.value <= at.value + 1e-4 * length * slope;
        let settles =
            next.value <= at.value + noise && scaled_norm(&next.gradient, scales) < 0.9 * size;
        if falls && next.value < at.value || settles {
            return Some((length, trial, next));
        }
        length *= 0.5;
    }
    None
}

fn scaled_norm(g: &[f64], scales: &[f64]) -> f64 {
    let d = scales.len();
    let mut total = 0.0;
    for (i, g) in g.iter().enumerate() {
        let x = g / scales[i % d];
        total = x.mul_add(x, total);
    }
    total.sqrt()
}

fn scaled_ridge(p: &LinearProblem<'_>, scales: &[f64]) -> Vec<f64> {
    let ridges = p.ridges();
    ridges
        .iter()
        .zip(scales)
        .map(|(r, s)| r / (s * s))
        .collect()
}

/// −(H + damping)⁻¹ g in scaled coordinates; None when a factorisation fails.
fn newton_step(
    p: &LinearProblem<'_>,
    scaled: &[f64],
    at: &Evaluation,
    g: &[f64],
    scales: &[f64],
    damping: f64,
) -> Option<Vec<f64>> {
    let size = (p.rows(), p.width, p.outputs);
    let ridge = scaled_ridge(p, scales);
    let step = if p.loss == Loss::CrossEntropy {
        softmax_step
    } else {
        separate_step
    };
    step(scaled, &at.curvatures, g, &ridge, damping, size)
}

/// −H⁻¹g per output; None when a factorisation fails.
fn separate_step(
    psi: &[f64],
    curvatures: &[f64],
    g: &[f64],
    ridge: &[f64],
    damping: f64,
    (n, d, k): (usize, usize, usize),
) -> Option<Vec<f64>> {
    let mut step = vec![0.0; k * d];
    for j in 0..k {
        let mut h = vec![0.0; d * d];
        for i in 0..n {
            accumulate(
                &mut h,
                d,
                d,
                (0, 0),
                curvatures[i * k + j],
                &psi[i * d..][..d],
            );
        }
        let x = damped_solve(h, ridge, damping, d, 1, &g[j * d..][..d])?;
        step[j * d..][..d].copy_from_slice(&x);
    }
    Some(step)
}

/// −H⁻¹g for the coupled outputs of softmax.
fn softmax_step(
    psi: &[f64],
    p: &[f64],
    g: &[f64],
    ridge: &[f64],
    damping: f64,
    (n, d, k): (usize, usize, usize),
) -> Option<Vec<f64>> {
    let m = k * d;
    let mut h = vec![0.0; m * m];
    for i in 0..n {
        let row = &psi[i * d..][..d];
        for a in 0..k {
            for b in 0..=a {
                let (pa, pb) = (p[i * k + a], p[i * k + b]);
                let w = if a == b { pa * (1.0 - pa) } else { -pa * pb };
                accumulate(&mut h, m, d, (a * d, b * d), w / n as f64, row);
            }
        }
    }
    damped_solve(h, ridge, damping, d, k, g)
}

/// h[r0.., c0..] += w ψψᵀ.
fn accumulate(
    h: &mut [f64],
    order: usize,
    d: usize,
    (r0, c0): (usize, usize),
    w: f64,
    psi: &[f64],
) {
    if w == 0.0 {
        return;
    }
    for a in 0..d {
        axpy(w * psi[a], psi, &mut h[(r0 + a) * order + c0..][..d]);
    }
}

fn damped_solve(
    mut h: Vec<f64>,
    ridge: &[f64],
    damping: f64,
    d: usize,
    k: usize,
    g: &[f64],
) -> Option<Vec<f64>> {
    let m = k * d;
    let largest = (0..m).fold(0.0f64, |s, i| s.max(h[i * m + i]));
    for i in 0..m {
        h[i * m + i] += ridge[i % d] + damping * largest.max(f64::MIN_POSITIVE);
    }
    let factor = Cholesky::new(h, m).ok()?;
    let mut x: Vec<f64> = g.iter().map(|v| -v).collect();
    factor.solve(&mut x);
    max_abs(&x).is_finite().then_some(x)
}
