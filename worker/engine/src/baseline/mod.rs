//! The classical optimum, proved from both sides.
//!
//! value = min (or inf) over R of mean ℓ(Rφ_i, y_i) + (r/2)‖R‖². The proof is a
//! Fenchel-dual lower bound computed from the solution's own slopes
//! α_i = ∂ℓ/∂f_i:
//!
//! * r > 0: D(α) = −mean ℓ*(α_i) − ‖mean α_i φ_iᵀ‖²/(2r) ≤ value for every α;
//! * r = 0: D(α) = −mean ℓ*(α_i) for α with mean α_i φ_iᵀ = 0. The slopes are
//!   moved there by one Newton step, α_i − ℓ″_i·(ΔR φ_i) with HΔR = mean α_iφ_iᵀ,
//!   which keeps them inside the domain of ℓ*.
//!
//! With r = 0 the infimum of cross_entropy, logistic and poisson may not be
//! attained: a direction of recession D takes some terms to their infimum 0 and
//! leaves the others alone. It is found from the growth of the solutions
//! R(ε) as a vanishing ridge ε falls, made exact by projection, and *checked*:
//! its margins are positive on what it removes and zero on the rest. The rest is
//! solved again until a minimum is attained. Rockafellar, *Convex Analysis*
//! (1970), §8 and §27; for logistic regression Albert & Anderson 1984.

mod recession;

use common::math::Isa;
use common::math::scalar::ln;
use common::math::slice::{max_abs, norm_squared};
use common::record::{Attainment, BaselineEvidence};
use common::spec::Loss;

use crate::linalg::PivotedQr;
use crate::linear::{Evaluation, LinearProblem};

/// Solves the baseline of a problem.
pub fn solve(problem: &LinearProblem<'_>, isa: Isa) -> BaselineEvidence {
    if !can_escape(problem) {
        return attained(problem, isa);
    }
    if problem.loss == Loss::CrossEntropy {
        return recession::solve(problem, isa);
    }
    // Each output may or may not attain its infimum.
    let mut total = BaselineEvidence {
        value: 0.0,
        lower_bound: 0.0,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: Vec::new(),
        outputs: problem.outputs,
        features: problem.width,
        rows: problem.rows(),
    };
    for j in 0..problem.outputs {
        let one = with_output(problem, j, |single| recession::solve(single, isa));
        total.value += one.value;
        total.lower_bound += one.lower_bound;
        total.gradient_norm = total.gradient_norm.max(one.gradient_norm);
        total.minimizer.extend(one.minimizer);
        if one.status == Attainment::InfimumNotAttained {
            total.status = Attainment::InfimumNotAttained;
        }
    }
    total
}

/// Whether a direction of recession is found, along which no term of the objective rises and some
/// fall to their infimum: then no R is a minimum. `r` `[d_y, d]` is tried as a direction first.
pub fn falls_for_ever(problem: &LinearProblem<'_>, r: &[f64], isa: Isa) -> bool {
    if !can_escape(problem) {
        return false;
    }
    if problem.loss == Loss::CrossEntropy {
        return recession::exists(problem, r, isa);
    }
    let d = problem.width;
    (0..problem.outputs).any(|j| {
        with_output(problem, j, |single| {
            recession::exists(single, &r[j * d..][..d], isa)
        })
    })
}

/// Whether the infimum may lie at infinity.
fn can_escape(problem: &LinearProblem<'_>) -> bool {
    let falls = matches!(
        problem.loss,
        Loss::CrossEntropy | Loss::Logistic | Loss::Poisson
    );
    falls && problem.ridge == 0.0
}

/// Where outputs do not interact: the problem of one of them.
fn with_output<T>(
    problem: &LinearProblem<'_>,
    output: usize,
    act: impl FnOnce(&LinearProblem<'_>) -> T,
) -> T {
    let column = |a: &[f64]| -> Vec<f64> {
        let entries = a.iter().skip(output).step_by(problem.outputs);
        entries.copied().collect()
    };
    let targets = column(problem.targets);
    let mask = problem.mask.map(column);
    act(&LinearProblem {
        targets: &targets,
        mask: mask.as_deref(),
        outputs: 1,
        ..*problem
    })
}

fn attained(problem: &LinearProblem<'_>, isa: Isa) -> BaselineEvidence {
    let solution = problem.solve(isa, None);
    let at = problem.evaluate(isa, &solution.r);
    BaselineEvidence {
        value: solution.value,
        lower_bound: lower_bound(problem, &at, &solution.r),
        status: Attainment::Attained,
        gradient_norm: solution.gradient_norm,
        minimizer: solution.r,
        outputs: problem.outputs,
        features: problem.width,
        rows: problem.rows(),
    }
}

/// D at slopes derived from an evaluation, never above the value.
fn lower_bound(problem: &LinearProblem<'_>, at: &Evaluation, r: &[f64]) -> f64 {
    let (n, k) = (problem.rows(), problem.outputs);
    let scale = n as f64;
    let mut slopes: Vec<f64> = at.slopes.iter().map(|s| s * scale).collect();
    let mut penalty = 0.0;
    if problem.ridge > 0.0 {
        let mut g = at.gradient.clone();
        common::math::slice::axpy(-problem.ridge, r, &mut g);
        penalty = norm_squared(&g) / (2.0 * problem.ridge);
    } else if problem.loss == Loss::Squared {
        // Exactly orthogonal residuals: project the columns' span out.
        project_residuals(problem, &mut slopes);
    } else if let Some(shift) = problem.newton_shift(at) {
        for (s, d) in slopes.iter_mut().zip(&shift) {
            *s -= d * scale;
        }
    }
    let mut total = 0.0;
    for i in 0..n {
        let row = i * k..(i + 1) * k;
        let observed = |j: usize| problem.mask.is_none_or(|m| m[i * k + j] > 0.0);
        total += conjugate(
            problem.loss,
            &slopes[row.clone()],
            &problem.targets[row],
            observed,
        );
    }
    let bound = -total / scale - penalty;
    if bound.is_nan() {
        f64::NEG_INFINITY
    } else {
        bound.min(at.value)
    }
}

/// slopes ← the part orthogonal to the columns of ψ, per output over its observed rows.
fn project_residuals(problem: &LinearProblem<'_>, slopes: &mut [f64]) {
    let k = problem.outputs;
    for j in 0..k {
        let rows: Vec<usize> = (0..problem.rows())
            .filter(|i| problem.mask.is_none_or(|m| m[i * k + j] > 0.0))
            .collect();
        let mut columns = Vec::with_capacity(rows.len() * problem.width);
        for c in 0..problem.width {
            columns.extend(rows.iter().map(|i| problem.features[i * problem.width + c]));
        }
        let qr = PivotedQr::new(columns, rows.len(), problem.width);
        let mut b: Vec<f64> = rows.iter().map(|i| slopes[i * k + j]).collect();
        qr.project_out(&mut b);
        for (i, b) in rows.iter().zip(b) {
            slopes[i * k + j] = b;
        }
    }
}

/// Σ over outputs of ℓ*(α); +∞ outside the domain.
fn conjugate(loss: Loss, slope: &[f64], y: &[f64], observed: impl Fn(usize) -> bool) -> f64 {
    let entropy = |p: f64| {
        if p == 0.0 {
            0.0
        } else if p > 0.0 {
            p * ln(p)
        } else {
            f64::INFINITY
        }
    };
    // Rounding may put a slope a few ulp outside the domain: that is still the boundary.
    let clip = |p: f64, low: f64, high: f64| {
        let slack = 4.0 * f64::EPSILON;
        if p < low - slack || p > high + slack {
            f64::NAN
        } else {
            p.clamp(low, high)
        }
    };
    if loss == Loss::CrossEntropy {
        return slope
            .iter()
            .zip(y)
            .map(|(a, y)| entropy(clip(a + y, 0.0, 1.0)))
            .fold(0.0, |s, x| s + x);
    }
    let mut total = 0.0;
    for (j, (&a, &y)) in slope.iter().zip(y).enumerate() {
        if !observed(j) {
            continue;
        }
        total += match loss {
            Loss::Squared => 0.5 * a * a + a * y,
            Loss::Huber { delta } => {
                let a = clip(a / delta, -1.0, 1.0) * delta;
                0.5 * a * a + a * y
            }
            Loss::LogCosh => {
                let a = clip(a, -1.0, 1.0);
                a * y + 0.5 * (entropy(1.0 + a) + entropy(1.0 - a))
            }
            Loss::Logistic => {
                let p = clip(a + y, 0.0, 1.0);
                entropy(p) + entropy(1.0 - p)
            }
            Loss::SquaredHinge => {
                if a * y > 4.0 * f64::EPSILON {
                    f64::NAN
                } else {
                    a * y + 0.25 * a * a
                }
            }
            Loss::Poisson => {
                let p = a + y;
                if p < -4.0 * f64::EPSILON * y.abs().max(1.0) {
                    f64::NAN
                } else {
                    entropy(p.max(0.0)) - p.max(0.0)
                }
            }
            Loss::CrossEntropy => unreachable!("handled above"),
        };
    }
    total
}

/// Largest |gradient| relative to its terms; for tests and reports.
pub fn relative_gradient(evidence: &BaselineEvidence) -> f64 {
    evidence.gradient_norm / max_abs(&evidence.minimizer).max(1.0)
}
