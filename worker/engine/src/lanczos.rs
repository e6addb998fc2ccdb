//! Extreme eigenvalues without the matrix.
//!
//! Lanczos with full reorthogonalisation from a start drawn with the run's
//! seed. After k steps the smallest Ritz value μ satisfies (Kuczyński &
//! Woźniakowski 1992, random start, exact arithmetic)
//!
//! P(μ − λ_min > ε(λ_max − λ_min)) ≤ 1.648 √p e^{−√ε(2k − 1)}.
//!
//! To exclude eigenvalues below −c·λ_max with probability 1 − δ, with μ > 0,
//! one needs ε = (μ + cλ_max)/(λ_max(1 + c)): the larger μ is, the fewer steps.

use common::math::scalar;
use common::math::slice::{axpy, dot, norm};
use common::rng::{Philox, Purpose};

use crate::linalg::{SymmetricEigen, tridiagonal_eigenvalues};
use crate::objective::Objective;

/// Failure probability aimed at.
pub(crate) const DELTA: f64 = 1e-6;
/// Steps at most.
const STEPS: usize = 4000;
/// Steps between looks at the Ritz values.
const STRIDE: usize = 20;

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Extremes {
    /// Smallest and largest Ritz value.
    pub smallest: f64,
    pub largest: f64,
    /// Unit Ritz vector of the smallest.
    pub lowest: Vec<f64>,
    /// Bound on the probability that an eigenvalue below the tolerance was missed.
    pub failure_probability: f64,
    tolerance: f64,
}

impl Extremes {
    /// What holds for λ_min with probability 1 − δ: the tolerated curvature if
    /// the Ritz value is above it, else the Ritz value itself.
    pub(crate) fn bound(&self) -> f64 {
        if self.smallest < 0.0 {
            self.smallest
        } else {
            -self.tolerance * self.largest.max(0.0)
        }
    }
}

/// Runs until eigenvalues below −c·max(1, λ_max) are excluded with probability
/// 1 − δ, one is seen, or the steps run out.
pub(crate) fn run(objective: &mut Objective<'_>, seed: u64, c: f64) -> Extremes {
    let n = objective.len();
    let rng = Philox::new(seed);
    let mut v: Vec<f64> = (0..n)
        .map(|i| rng.normal(Purpose::Lanczos, 0, (i >> 16) as u32, (i & 0xffff) as u32))
        .collect();
    let scale = 1.0 / norm(&v);
    v.iter_mut().for_each(|x| *x *= scale);
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut alpha, mut beta): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut product = vec![0.0; n];
    let mut probability = 1.0;
    let limit = STEPS.min(n);
    loop {
        objective.products(&v, &mut product);
        let a = dot(&v, &product);
        alpha.push(a);
        let mut w = product.clone();
        axpy(-a, &v, &mut w);
        if let (Some(last), Some(&b)) = (basis.last(), beta.last()) {
            axpy(-b, last, &mut w);
        }
        basis.push(v);
        // Twice is enough (Kahan; Parlett, The Symmetric Eigenvalue Problem, §6.9).
        for _ in 0..2 {
            for q in &basis {
                let d = dot(q, &w);
                axpy(-d, q, &mut w);
            }
        }
        let b = norm(&w);
        let k = alpha.len();
        let exhausted = k >= limit || !(b > 1e-14 * alpha[0].abs().max(f64::MIN_POSITIVE));
        if k.is_multiple_of(STRIDE) || exhausted {
            let ritz = tridiagonal_eigenvalues(&alpha, &beta);
            let (low, high) = (ritz[0], ritz[k - 1]);
            if k == n || !(b > 0.0) {
                probability = 0.0;
            } else if high > 0.0 {
                let epsilon = ((low + c * high) / (high * (1.0 + c))).clamp(0.0, 1.0);
                let exponent = -epsilon.sqrt() * (2.0 * k as f64 - 1.0);
                probability = (1.648 * (n as f64).sqrt() * scalar::exp(exponent)).min(1.0);
            }
            let refuted = low < -c * high.max(1.0);
            if exhausted || probability <= DELTA || refuted {
                break;
            }
        }
        beta.push(b);
        w.iter_mut().for_each(|x| *x /= b);
        v = w;
    }
    let k = alpha.len();
    let mut t = vec![0.0; k * k];
    for i in 0..k {
        t[i * k + i] = alpha[i];
        if i + 1 < k {
            t[i * k + i + 1] = beta[i];
            t[(i + 1) * k + i] = beta[i];
        }
    }
    let (smallest, largest, coefficients) = if k <= 200 {
        let e = SymmetricEigen::new(t, k);
        (e.values[0], e.values[k - 1], e.vector(0).to_vec())
    } else {
        let t = crate::linalg::Tridiagonal::reduce(t, k);
        let (low, high) = t.extreme_eigenvalues();
        (low, high, t.eigenvector(low))
    };
    let mut lowest = vec![0.0; n];
    for (c, q) in coefficients.iter().zip(&basis) {
        axpy(*c, q, &mut lowest);
    }
    let length = norm(&lowest);
    lowest.iter_mut().for_each(|x| *x /= length);
    Extremes {
        smallest,
        largest,
        lowest,
        failure_probability: probability,
        tolerance: c,
    }
}

/// (H + damping)⁻¹ g by conjugate gradients; stops at 1e-3 of the start or a
/// few thousand products: only the size matters.
pub(crate) fn newton_direction(objective: &mut Objective<'_>, g: &[f64], damping: f64) -> Vec<f64> {
    const LIMIT: usize = 2000;
    let n = g.len();
    let mut x = vec![0.0; n];
    let mut r = g.to_vec();
    let mut d = r.clone();
    let mut rr = dot(&r, &r);
    let stop = 1e-6 * rr;
    let mut product = vec![0.0; n];
    for _ in 0..LIMIT {
        if rr <= stop || rr == 0.0 {
            break;
        }
        objective.products(&d, &mut product);
        axpy(damping, &d, &mut product);
        let curvature = dot(&d, &product);
        if !(curvature > 0.0) {
            break;
        }
        let step = rr / curvature;
        axpy(step, &d, &mut x);
        axpy(-step, &product, &mut r);
        let next = dot(&r, &r);
        let ratio = next / rr;
        rr = next;
        for (d, r) in d.iter_mut().zip(&r) {
            *d = r + ratio * *d;
        }
    }
    x
}

/// ‖(H + damping)⁻¹ g‖.
pub(crate) fn newton_step(objective: &mut Objective<'_>, g: &[f64], damping: f64) -> f64 {
    norm(&newton_direction(objective, g, damping))
}
