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

use common::math::Isa;
use common::math::scalar::ln;
use common::math::slice::{dot, max_abs, norm_squared};
use common::record::{Attainment, BaselineEvidence};
use common::spec::Loss;

use crate::linalg::PivotedQr;
use crate::linear::{Evaluation, LinearProblem};

/// Solves the baseline of a problem.
pub fn solve(problem: &LinearProblem<'_>, isa: Isa) -> BaselineEvidence {
    let can_escape = matches!(
        problem.loss,
        Loss::CrossEntropy | Loss::Logistic | Loss::Poisson
    );
    if problem.ridge > 0.0 || !can_escape {
        return attained(problem, isa);
    }
    if problem.loss == Loss::CrossEntropy {
        return recession::solve(problem, isa);
    }
    // Outputs do not interact: each may or may not attain its infimum.
    let n = problem.rows();
    let column = |a: &[f64], j: usize| -> Vec<f64> {
        a.iter().skip(j).step_by(problem.outputs).copied().collect()
    };
    let mut total = BaselineEvidence {
        value: 0.0,
        lower_bound: 0.0,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: Vec::new(),
        outputs: problem.outputs,
        features: problem.width,
        rows: n,
    };
    for j in 0..problem.outputs {
        let targets = column(problem.targets, j);
        let mask = problem.mask.map(|m| column(m, j));
        let single = LinearProblem {
            targets: &targets,
            mask: mask.as_deref(),
            outputs: 1,
            ..*problem
        };
        let one = recession::solve(&single, isa);
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

mod recession {
    //! Facial reduction for losses whose infimum may lie at infinity.

    use super::*;

    /// What is left of the problem: terms that no direction has removed yet.
    struct Face {
        /// Logistic, poisson: observed rows that remain. Cross-entropy: all rows.
        rows: Vec<bool>,
        /// Cross-entropy: classes that remain, `[n, k]`.
        classes: Vec<bool>,
    }

    pub(super) fn solve(problem: &LinearProblem<'_>, isa: Isa) -> BaselineEvidence {
        let (n, k) = (problem.rows(), problem.outputs);
        let mut face = Face {
            rows: (0..n)
                .map(|i| problem.mask.is_none_or(|m| m[i] > 0.0 || k > 1))
                .collect(),
            classes: vec![true; n * k],
        };
        let mut status = Attainment::Attained;
        let mut far = vec![0.0; k * problem.width];
        // Each round removes at least one term, and few rounds ever happen.
        for _ in 0..n * k {
            let Some((direction, removed)) = find_direction(problem, &face, isa) else {
                break;
            };
            status = Attainment::InfimumNotAttained;
            for (far, d) in far.iter_mut().zip(&direction) {
                *far += d;
            }
            for term in removed {
                match problem.loss {
                    Loss::CrossEntropy => face.classes[term] = false,
                    _ => face.rows[term] = false,
                }
            }
        }
        let reduced = Reduced::new(problem, &face);
        let p = reduced.problem();
        let solution = p.solve(isa, None);
        let at = p.evaluate(isa, &solution.r);
        let share = reduced.rows as f64 / n as f64;
        let bound = if reduced.rows == 0 {
            0.0
        } else {
            lower_bound(&p, &at, &solution.r)
        };
        // Far enough along the directions that the removed terms vanish.
        let scale = if status == Attainment::Attained {
            0.0
        } else {
            1e3
        };
        let minimizer = solution
            .r
            .iter()
            .zip(&far)
            .map(|(r, d)| r + scale * d)
            .collect();
        BaselineEvidence {
            value: if reduced.rows == 0 {
                0.0
            } else {
                share * solution.value
            },
            lower_bound: share * bound,
            status,
            gradient_norm: share * solution.gradient_norm,
            minimizer,
            outputs: k,
            features: problem.width,
            rows: n,
        }
    }

    /// The remaining terms as a problem of their own.
    struct Reduced<'a> {
        problem: LinearProblem<'a>,
        features: Vec<f64>,
        targets: Vec<f64>,
        rows: usize,
        classes: Option<Vec<bool>>,
    }

    impl<'a> Reduced<'a> {
        fn new(problem: &LinearProblem<'a>, face: &Face) -> Self {
            let (k, d) = (problem.outputs, problem.width);
            let ce = problem.loss == Loss::CrossEntropy;
            // A row with a single class left has no loss.
            let keep: Vec<usize> = (0..problem.rows())
                .filter(|&i| {
                    face.rows[i]
                        && (!ce || face.classes[i * k..][..k].iter().filter(|c| **c).count() > 1)
                })
                .collect();
            let features = keep
                .iter()
                .flat_map(|i| problem.features[i * d..][..d].to_vec())
                .collect();
            let targets = keep
                .iter()
                .flat_map(|i| problem.targets[i * k..][..k].to_vec())
                .collect();
            let classes = ce.then(|| {
                keep.iter()
                    .flat_map(|i| face.classes[i * k..][..k].to_vec())
                    .collect()
            });
            Self {
                problem: *problem,
                features,
                targets,
                rows: keep.len(),
                classes,
            }
        }

        fn problem(&self) -> LinearProblem<'_> {
            LinearProblem {
                features: &self.features,
                targets: &self.targets,
                mask: None,
                classes: self.classes.as_deref(),
                free: &[],
                ..self.problem
            }
        }
    }

    /// Rows of inequalities c·d ≥ 0 that a direction of recession satisfies,
    /// with the term that a strict one removes; and equalities.
    #[expect(clippy::type_complexity, reason = "two lists, named above")]
    fn constraints(
        problem: &LinearProblem<'_>,
        face: &Face,
    ) -> (Vec<(Vec<f64>, usize)>, Vec<Vec<f64>>) {
        let (n, k, d) = (problem.rows(), problem.outputs, problem.width);
        let mut inequalities = Vec::new();
        let mut equalities = Vec::new();
        for i in 0..n {
            let psi = &problem.features[i * d..][..d];
            let y = &problem.targets[i * k..][..k];
            match problem.loss {
                Loss::Logistic if face.rows[i] => {
                    if y[0] == 1.0 {
                        inequalities.push((psi.to_vec(), i));
                    } else if y[0] == 0.0 {
                        inequalities.push((psi.iter().map(|x| -x).collect(), i));
                    } else {
                        equalities.push(psi.to_vec());
                    }
                }
                Loss::Poisson if face.rows[i] => {
                    if y[0] == 0.0 {
                        inequalities.push((psi.iter().map(|x| -x).collect(), i));
                    } else {
                        equalities.push(psi.to_vec());
                    }
                }
                Loss::CrossEntropy => {
                    let support: Vec<usize> = (0..k).filter(|&j| y[j] > 0.0).collect();
                    let pair = |a: usize, b: usize| {
                        let mut row = vec![0.0; k * d];
                        for c in 0..d {
                            row[a * d + c] += psi[c];
                            row[b * d + c] -= psi[c];
                        }
                        row
                    };
                    for w in support.windows(2) {
                        equalities.push(pair(w[0], w[1]));
                    }
                    for j in 0..k {
                        if face.classes[i * k + j] && !support.contains(&j) {
                            inequalities.push((pair(support[0], j), i * k + j));
                        }
                    }
                }
                _ => {}
            }
        }
        (inequalities, equalities)
    }

    /// A checked direction of recession and the terms it removes.
    fn find_direction(
        problem: &LinearProblem<'_>,
        face: &Face,
        isa: Isa,
    ) -> Option<(Vec<f64>, Vec<usize>)> {
        let reduced = Reduced::new(problem, face);
        if reduced.rows == 0 {
            return None;
        }
        let p = reduced.problem();
        let (inequalities, equalities) = constraints(problem, face);
        if inequalities.is_empty() {
            return None;
        }
        // Growth of the solutions as the ridge falls by a factor of 1000.
        let ridge =
            |r: f64, start: Option<&[f64]>| LinearProblem { ridge: r, ..p }.solve(isa, start).r;
        let mut previous = ridge(1e-6, None);
        for exponent in [1e-8, 1e-10, 1e-12] {
            let next = ridge(exponent, Some(&previous));
            let growth: Vec<f64> = next.iter().zip(&previous).map(|(a, b)| a - b).collect();
            previous = next;
            if let Some(found) = check(&growth, &inequalities, &equalities) {
                return Some(found);
            }
        }
        None
    }

    /// Splits the inequalities by the growth's margins, makes the direction
    /// orthogonal to those that do not move, and checks the result.
    fn check(
        growth: &[f64],
        inequalities: &[(Vec<f64>, usize)],
        equalities: &[Vec<f64>],
    ) -> Option<(Vec<f64>, Vec<usize>)> {
        let size = |row: &[f64]| norm_squared(row).sqrt().max(f64::MIN_POSITIVE);
        let length = size(growth);
        let relative: Vec<f64> = inequalities
            .iter()
            .map(|(row, _)| dot(row, growth) / (size(row) * length))
            .collect();
        // Candidates for the border between "moves" and "does not", widest gap first.
        let mut sorted: Vec<f64> = relative.iter().copied().filter(|m| *m > 1e-9).collect();
        sorted.sort_by(f64::total_cmp);
        let mut borders: Vec<(f64, f64)> = Vec::new();
        let mut below = 1e-10;
        for &m in &sorted {
            borders.push((m / below, (m * below).sqrt()));
            below = m;
        }
        borders.sort_by(|a, b| b.0.total_cmp(&a.0));
        borders.iter().take(8).find_map(|&(_, border)| {
            let still: Vec<&[f64]> = inequalities
                .iter()
                .zip(&relative)
                .filter(|(_, m)| **m <= border)
                .map(|((row, _), _)| row.as_slice())
                .chain(equalities.iter().map(Vec::as_slice))
                .collect();
            let mut direction: Vec<f64> = growth.iter().map(|g| g / length).collect();
            if !still.is_empty() {
                let columns: Vec<f64> = still.concat();
                let qr = PivotedQr::new(columns, growth.len(), still.len());
                qr.project_out(&mut direction);
                qr.project_out(&mut direction);
            }
            let length = size(&direction);
            if !(length > 1e-6) {
                return None;
            }
            let rounding = 1e-12;
            let mut removed = Vec::new();
            for ((row, term), m) in inequalities.iter().zip(&relative) {
                let margin = dot(row, &direction) / (size(row) * length);
                if *m > border {
                    if margin < 1e-9 {
                        return None;
                    }
                    removed.push(*term);
                } else if margin.abs() > rounding {
                    return None;
                }
            }
            let still_zero = equalities
                .iter()
                .all(|row| (dot(row, &direction) / (size(row) * length)).abs() <= rounding);
            (still_zero && !removed.is_empty()).then(|| {
                (
                    direction.iter().map(|d| d / length).collect::<Vec<f64>>(),
                    removed,
                )
            })
        })
    }
}

/// Largest |gradient| relative to its terms; for tests and reports.
pub fn relative_gradient(evidence: &BaselineEvidence) -> f64 {
    evidence.gradient_norm / max_abs(&evidence.minimizer).max(1.0)
}
