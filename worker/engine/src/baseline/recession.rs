//! Facial reduction for losses whose infimum may lie at infinity.

use common::math::Isa;
use common::math::slice::{axpy, dot, norm};
use common::record::{Attainment, BaselineEvidence};
use common::spec::Loss;

use super::lower_bound;
use crate::linalg::PivotedQr;
use crate::linear::LinearProblem;

/// What is left of the problem: terms that no direction has removed yet.
struct Face {
    /// Logistic, poisson: observed rows that remain. Cross-entropy: all rows.
    rows: Vec<bool>,
    /// Cross-entropy: classes that remain, `[n, k]`.
    classes: Vec<bool>,
}

impl Face {
    fn whole(problem: &LinearProblem<'_>) -> Self {
        let (n, k) = (problem.rows(), problem.outputs);
        Self {
            rows: (0..n)
                .map(|i| problem.mask.is_none_or(|m| m[i] > 0.0 || k > 1))
                .collect(),
            classes: vec![true; n * k],
        }
    }
}

pub(super) fn solve(problem: &LinearProblem<'_>, isa: Isa) -> BaselineEvidence {
    let (n, k) = (problem.rows(), problem.outputs);
    let mut face = Face::whole(problem);
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

/// A linear function of R `[d_y, d]`: sign·ψ_iᵀ(R_plus − R_minus).
struct Row {
    sample: usize,
    plus: usize,
    minus: Option<usize>,
    sign: f64,
}

impl Row {
    fn one(sample: usize, sign: f64) -> Self {
        Self {
            sample,
            plus: 0,
            minus: None,
            sign,
        }
    }

    fn pair(sample: usize, plus: usize, minus: usize) -> Self {
        Self {
            sample,
            plus,
            minus: Some(minus),
            sign: 1.0,
        }
    }

    fn psi<'a>(&self, problem: &LinearProblem<'a>) -> &'a [f64] {
        &problem.features[self.sample * problem.width..][..problem.width]
    }

    fn at(&self, problem: &LinearProblem<'_>, r: &[f64]) -> f64 {
        let psi = self.psi(problem);
        let part = |class: usize| dot(psi, &r[class * problem.width..][..problem.width]);
        self.sign * (part(self.plus) - self.minus.map_or(0.0, part))
    }

    /// Norm of the coefficients.
    fn size(&self, problem: &LinearProblem<'_>) -> f64 {
        let classes: f64 = if self.minus.is_some() { 2.0 } else { 1.0 };
        (classes.sqrt() * norm(self.psi(problem))).max(f64::MIN_POSITIVE)
    }

    /// The coefficients `[d_y·d]`.
    fn coefficients(&self, problem: &LinearProblem<'_>) -> Vec<f64> {
        let (psi, d) = (self.psi(problem), problem.width);
        let mut row = vec![0.0; problem.outputs * d];
        axpy(self.sign, psi, &mut row[self.plus * d..][..d]);
        if let Some(minus) = self.minus {
            axpy(-self.sign, psi, &mut row[minus * d..][..d]);
        }
        row
    }
}

/// What a direction of recession satisfies.
struct Cone {
    /// Not negative; where one is positive it removes the term beside it.
    inequalities: Vec<(Row, usize)>,
    /// Zero.
    equalities: Vec<Row>,
}

impl Cone {
    fn new(problem: &LinearProblem<'_>, face: &Face) -> Self {
        let (n, k) = (problem.rows(), problem.outputs);
        let mut inequalities = Vec::new();
        let mut equalities = Vec::new();
        for i in 0..n {
            let y = &problem.targets[i * k..][..k];
            match problem.loss {
                Loss::Logistic if face.rows[i] => {
                    if y[0] == 1.0 {
                        inequalities.push((Row::one(i, 1.0), i));
                    } else if y[0] == 0.0 {
                        inequalities.push((Row::one(i, -1.0), i));
                    } else {
                        equalities.push(Row::one(i, 1.0));
                    }
                }
                Loss::Poisson if face.rows[i] => {
                    if y[0] == 0.0 {
                        inequalities.push((Row::one(i, -1.0), i));
                    } else {
                        equalities.push(Row::one(i, 1.0));
                    }
                }
                Loss::CrossEntropy => {
                    let support: Vec<usize> = (0..k).filter(|&j| y[j] > 0.0).collect();
                    for w in support.windows(2) {
                        equalities.push(Row::pair(i, w[0], w[1]));
                    }
                    for j in 0..k {
                        if face.classes[i * k + j] && !support.contains(&j) {
                            inequalities.push((Row::pair(i, support[0], j), i * k + j));
                        }
                    }
                }
                _ => {}
            }
        }
        Self {
            inequalities,
            equalities,
        }
    }
}

/// Whether there is a direction of recession; `r` is tried as one first.
pub(super) fn exists(problem: &LinearProblem<'_>, r: &[f64], isa: Isa) -> bool {
    let face = Face::whole(problem);
    let cone = Cone::new(problem, &face);
    check(problem, r, &cone).is_some() || find_direction(problem, &face, isa).is_some()
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
    let cone = Cone::new(problem, face);
    if cone.inequalities.is_empty() {
        return None;
    }
    // Growth of the solutions as the ridge falls by a factor of 1000.
    let ridge = |r: f64, start: Option<&[f64]>| LinearProblem { ridge: r, ..p }.solve(isa, start).r;
    let mut previous = ridge(1e-6, None);
    for exponent in [1e-8, 1e-10, 1e-12] {
        let next = ridge(exponent, Some(&previous));
        let growth: Vec<f64> = next.iter().zip(&previous).map(|(a, b)| a - b).collect();
        previous = next;
        if let Some(found) = check(problem, &growth, &cone) {
            return Some(found);
        }
    }
    None
}

/// Splits the inequalities by the growth's margins, makes the direction
/// orthogonal to those that do not move, and checks the result.
fn check(
    problem: &LinearProblem<'_>,
    growth: &[f64],
    cone: &Cone,
) -> Option<(Vec<f64>, Vec<usize>)> {
    let length = norm(growth).max(f64::MIN_POSITIVE);
    let relative: Vec<f64> = cone
        .inequalities
        .iter()
        .map(|(row, _)| row.at(problem, growth) / (row.size(problem) * length))
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
        let still: Vec<Vec<f64>> = cone
            .inequalities
            .iter()
            .zip(&relative)
            .filter(|(_, m)| **m <= border)
            .map(|((row, _), _)| row)
            .chain(&cone.equalities)
            .map(|row| row.coefficients(problem))
            .collect();
        let mut direction: Vec<f64> = growth.iter().map(|g| g / length).collect();
        if !still.is_empty() {
            let columns: Vec<f64> = still.concat();
            let qr = PivotedQr::new(columns, growth.len(), still.len());
            qr.project_out(&mut direction);
            qr.project_out(&mut direction);
        }
        let length = norm(&direction);
        if !(length > 1e-6) {
            return None;
        }
        let rounding = 1e-12;
        let margin = |row: &Row| row.at(problem, &direction) / (row.size(problem) * length);
        let mut removed = Vec::new();
        for ((row, term), m) in cone.inequalities.iter().zip(&relative) {
            let margin = margin(row);
            if *m > border {
                if margin < 1e-9 {
                    return None;
                }
                removed.push(*term);
            } else if margin.abs() > rounding {
                return None;
            }
        }
        let still_zero = (cone.equalities.iter()).all(|row| margin(row).abs() <= rounding);
        (still_zero && !removed.is_empty()).then(|| {
            (
                direction.iter().map(|d| d / length).collect::<Vec<f64>>(),
                removed,
            )
        })
    })
}
