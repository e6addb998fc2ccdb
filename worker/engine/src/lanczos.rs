//! Extreme eigenvalues without the matrix.
//!
//! Lanczos with partial reorthogonalisation from a start drawn with the run's
//! seed. What was *not* seen is bounded after the fact. Let μ be the spectral
//! measure of the start q₀ and p_j its orthonormal polynomials, which are the
//! Lanczos recurrence itself. For a point x the mass of μ at x is at most the
//! Christoffel function 1/K(x), K(x) = Σ_{j<k} p_j(x)²: take q = K(x, ·)/K(x) in
//! μ{x} ≤ ∫q² dμ, q(x) = 1. Left of all Ritz values K falls with x. So if H had
//! an eigenvalue λ ≤ c below every Ritz value, q₀ would have a component of at
//! most K(c)^{−1/2} along its eigenvector, and a random unit vector in p
//! dimensions has so small a one with probability at most √(2(p − 1)/(πK(c))).
//!
//! The bound of Kuczyński & Woźniakowski (1992), 1.648 √p e^{−√ε(2k − 1)}, is
//! its worst case over all spectra; with the spectrum at hand (few large
//! eigenvalues, few small ones) a third of the steps is enough.

use std::f64::consts::PI;

use common::math::slice::{axpy, dot, max_abs, norm};
use common::rng::{Philox, Purpose};

use crate::linalg::Tridiagonal;
use crate::objective::Objective;

/// Failure probability aimed at.
const DELTA: f64 = 1e-6;
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
    /// Bound on the probability that an eigenvalue below `level` was missed.
    pub failure_probability: f64,
    /// What is excluded.
    level: f64,
}

impl Extremes {
    /// What holds for λ_min with probability 1 − `failure_probability`: the
    /// level that was excluded, or the Ritz value where that lies below it.
    pub(crate) fn bound(&self) -> f64 {
        self.smallest.min(self.level)
    }

    /// Whether eigenvalues below the level are excluded with the probability aimed at; steps that
    /// ran out before exclude nothing, however harmless the Ritz values.
    pub(crate) fn excludes(&self) -> bool {
        self.failure_probability <= DELTA && self.smallest >= self.level
    }
}

/// Runs until eigenvalues of the symmetric `[n, n]` matrix behind `product`
/// below `level(λ_max)` ≤ 0 are excluded with probability 1 − δ, one is seen,
/// or the steps run out.
pub(crate) fn run(
    n: usize,
    product: impl FnMut(&[f64], &mut [f64]),
    seed: u64,
    level: impl Fn(f64) -> f64,
) -> Extremes {
    look_every(STRIDE, n, product, seed, level)
}

/// As [`run`], for a matrix whose eigenvalues all lie far above the level: few steps tell.
pub(crate) fn run_briefly(
    n: usize,
    product: impl FnMut(&[f64], &mut [f64]),
    seed: u64,
    level: impl Fn(f64) -> f64,
) -> Extremes {
    look_every(2, n, product, seed, level)
}

fn look_every(
    stride: usize,
    n: usize,
    mut product: impl FnMut(&[f64], &mut [f64]),
    seed: u64,
    level: impl Fn(f64) -> f64,
) -> Extremes {
    let mut basis = Basis::new(random_unit(n, seed));
    let mut image = vec![0.0; n];
    let limit = STEPS.min(n);
    let mut look = stride;
    let probability = loop {
        product(basis.last(), &mut image);
        let grown = basis.grow(&image);
        let k = basis.alpha.len();
        let exhausted = k >= limit || !grown;
        if k >= look || exhausted {
            look = k + stride;
            let (low, high) = basis.projection().extreme_eigenvalues();
            let level = level(high);
            let probability = match () {
                () if k == n || !grown => 0.0,
                () if low > level => {
                    let missed = 2.0 * (n as f64 - 1.0) / (PI * basis.christoffel(level));
                    missed.sqrt().min(1.0)
                }
                () => 1.0,
            };
            if exhausted || probability <= DELTA || low < level || low.is_nan() {
                break probability;
            }
        }
    };
    let (smallest, largest) = basis.projection().extreme_eigenvalues();
    Extremes {
        smallest,
        largest,
        lowest: basis.ritz_vector(smallest),
        failure_probability: probability,
        level: level(largest),
    }
}

/// The largest eigenvalue, as the Ritz value that no longer grows.
pub(crate) fn largest(n: usize, mut product: impl FnMut(&[f64], &mut [f64]), seed: u64) -> f64 {
    /// Steps between looks.
    const LOOK: usize = 5;
    let mut basis = Basis::new(random_unit(n, seed));
    let mut image = vec![0.0; n];
    let mut before = f64::NEG_INFINITY;
    loop {
        product(basis.last(), &mut image);
        let grown = basis.grow(&image);
        let k = basis.alpha.len();
        if k.is_multiple_of(LOOK) || !grown || k >= STEPS.min(n) {
            let (_, high) = basis.projection().extreme_eigenvalues();
            let settled = high - before <= 1e-12 * high.abs();
            if settled || !grown || k >= STEPS.min(n) || high.is_nan() {
                return high;
            }
            before = high;
        }
    }
}

fn random_unit(n: usize, seed: u64) -> Vec<f64> {
    let rng = Philox::new(seed);
    let draw = |i: usize| rng.normal(Purpose::Lanczos, 0, (i >> 16) as u32, (i & 0xffff) as u32);
    let mut v: Vec<f64> = (0..n).map(draw).collect();
    let scale = 1.0 / norm(&v);
    v.iter_mut().for_each(|x| *x *= scale);
    v
}

/// The Lanczos vectors, kept orthogonal to √ε by partial reorthogonalisation
/// (Simon, *The Lanczos algorithm with partial reorthogonalization*, Math.
/// Comp. 42, 1984): a recurrence estimates how far each new vector has drifted
/// from each old one, and only when the estimate reaches √ε is it
/// orthogonalised against all. The projected matrix is then that of exact
/// arithmetic up to rounding (ibid., Theorem 5), at a tenth of the cost of
/// orthogonalising every vector.
struct Basis {
    vectors: Vec<Vec<f64>>,
    alpha: Vec<f64>,
    /// `beta[j]` couples vectors j and j + 1.
    beta: Vec<f64>,
    /// Estimates of ⟨q_k, q_j⟩ and ⟨q_{k−1}, q_j⟩ for the newest k.
    drift: Vec<f64>,
    drift_before: Vec<f64>,
    /// The vector after one that was orthogonalised needs it too.
    again: bool,
}

impl Basis {
    fn new(start: Vec<f64>) -> Self {
        Self {
            vectors: vec![start],
            alpha: Vec::new(),
            beta: Vec::new(),
            drift: Vec::new(),
            drift_before: Vec::new(),
            again: false,
        }
    }

    fn last(&self) -> &[f64] {
        self.vectors.last().map_or(&[], Vec::as_slice)
    }

    /// Takes H q for the newest q and adds the next vector; `false` when the
    /// vectors span an invariant subspace, or H q is not finite.
    fn grow(&mut self, image: &[f64]) -> bool {
        let k = self.vectors.len() - 1;
        let mut w = image.to_vec();
        let a = dot(&self.vectors[k], &w);
        self.alpha.push(a);
        axpy(-a, &self.vectors[k], &mut w);
        if k > 0 {
            axpy(-self.beta[k - 1], &self.vectors[k - 1], &mut w);
            // Orthogonal to its two neighbours to working precision.
            for q in &self.vectors[k - 1..] {
                axpy(-dot(q, &w), q, &mut w);
            }
        }
        let mut b = norm(&w);
        let size = self.size();
        if !(b > 1e-14 * size) {
            return false;
        }
        self.estimate(b, size);
        let worst = max_abs(&self.drift);
        if self.again || worst > f64::EPSILON.sqrt() {
            self.again = !self.again;
            let before = b;
            b = self.orthogonalize(&mut w);
            // Twice is enough (Kahan; Parlett, The Symmetric Eigenvalue Problem, §6.9).
            if !(b > 0.5 * before) {
                b = self.orthogonalize(&mut w);
            }
            self.drift.fill(f64::EPSILON);
            if !(b > 1e-14 * size) {
                return false;
            }
        }
        self.beta.push(b);
        w.iter_mut().for_each(|x| *x /= b);
        self.vectors.push(w);
        true
    }

    /// Scale of H as seen so far.
    fn size(&self) -> f64 {
        let pairs = self.alpha.iter().zip(self.beta.iter().chain([&0.0]));
        pairs.fold(f64::MIN_POSITIVE, |m, (a, b)| m.max(a.abs() + 2.0 * b))
    }

    fn orthogonalize(&self, w: &mut [f64]) -> f64 {
        for q in &self.vectors {
            axpy(-dot(q, w), q, w);
        }
        norm(w)
    }

    /// The drift of the coming vector, β_k q_{k+1} = w:
    /// β_k ω_{k+1,j} = β_j ω_{k,j+1} + (α_j − α_k) ω_{k,j} + β_{j−1} ω_{k,j−1} − β_{k−1} ω_{k−1,j}.
    fn estimate(&mut self, b: f64, size: f64) {
        /// Rounding of one product, in units of ε‖H‖.
        const PRODUCT: f64 = 10.0;
        let k = self.vectors.len() - 1;
        let now = |j: usize| if j == k { 1.0 } else { self.drift[j] };
        let before = |j: usize| {
            if j + 1 == k {
                1.0
            } else {
                self.drift_before[j]
            }
        };
        let mut next = Vec::with_capacity(k + 1);
        for j in 0..k {
            let mut sum = self.beta[j] * now(j + 1) + (self.alpha[j] - self.alpha[k]) * now(j);
            if j > 0 {
                sum += self.beta[j - 1] * now(j - 1);
            }
            sum -= self.beta[k - 1] * before(j);
            let rounding = PRODUCT * f64::EPSILON * size;
            next.push((sum + rounding.copysign(sum)) / b);
        }
        // Against the newest it was orthogonalised just now.
        if let Some(neighbour) = next.last_mut() {
            *neighbour = f64::EPSILON;
        }
        next.push(f64::EPSILON);
        self.drift_before = std::mem::replace(&mut self.drift, next);
    }

    /// K(x) = Σ p_j(x)² over the degrees below the number of steps.
    fn christoffel(&self, x: f64) -> f64 {
        let (mut before, mut now, mut sum) = (0.0, 1.0, 1.0);
        for (j, b) in self.beta.iter().enumerate().take(self.alpha.len() - 1) {
            let coupling = if j > 0 { self.beta[j - 1] } else { 0.0 };
            let next = ((x - self.alpha[j]) * now - coupling * before) / b;
            (before, now) = (now, next);
            sum += next * next;
        }
        sum
    }

    fn projection(&self) -> Tridiagonal {
        let k = self.alpha.len();
        Tridiagonal::new(self.alpha.clone(), self.beta[..k - 1].to_vec())
    }

    /// The unit Ritz vector of a Ritz value.
    fn ritz_vector(&self, value: f64) -> Vec<f64> {
        let coefficients = self.projection().inverse_iteration(value);
        let mut out = vec![0.0; self.last().len()];
        for (c, q) in coefficients.iter().zip(&self.vectors) {
            axpy(*c, q, &mut out);
        }
        let length = norm(&out);
        out.iter_mut().for_each(|x| *x /= length);
        out
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Spectrum of a trained network's Hessian in miniature: a few large
    /// eigenvalues, many near `floor`.
    fn spectrum(n: usize, floor: f64) -> Vec<f64> {
        (0..n)
            .map(|i| floor + 1.0 / ((1.0 + i as f64) * (1.0 + i as f64)))
            .collect()
    }

    fn times(d: &[f64]) -> impl FnMut(&[f64], &mut [f64]) + '_ {
        move |v, out| {
            for ((o, d), v) in out.iter_mut().zip(d).zip(v) {
                *o = d * v;
            }
        }
    }

    #[test]
    fn vectors_stay_orthogonal_to_the_root_of_rounding() {
        let d = spectrum(2000, 1e-6);
        let mut basis = Basis::new(random_unit(d.len(), 7));
        let mut image = vec![0.0; d.len()];
        for _ in 0..400 {
            times(&d)(basis.last(), &mut image);
            assert!(basis.grow(&image));
        }
        let mut worst = 0.0f64;
        for (i, p) in basis.vectors.iter().enumerate() {
            for q in &basis.vectors[..i] {
                worst = worst.max(dot(p, q).abs());
            }
        }
        assert!(worst < 10.0 * f64::EPSILON.sqrt(), "{worst:e}");
        // Without any reorthogonalisation they would not.
        let (mut q, mut before) = (random_unit(d.len(), 7), vec![0.0; d.len()]);
        let (first, mut b) = (q.clone(), 0.0);
        let mut lost = 0.0f64;
        for k in 0..400 {
            times(&d)(&q, &mut image);
            let a = dot(&q, &image);
            let mut w = image.clone();
            axpy(-a, &q, &mut w);
            axpy(-b, &before, &mut w);
            b = norm(&w);
            w.iter_mut().for_each(|x| *x /= b);
            before = std::mem::replace(&mut q, w);
            if k > 1 {
                lost = lost.max(dot(&q, &first).abs());
            }
        }
        assert!(lost > 1e-3, "{lost:e}");
    }

    #[test]
    fn a_positive_spectrum_is_certified_with_few_steps() {
        let d = spectrum(3000, 1e-4);
        let found = run(d.len(), times(&d), 3, |high| -1e-8 * high.max(1.0));
        assert!(found.failure_probability <= DELTA);
        assert!(found.smallest >= 1e-4 && found.smallest < 1.1e-4);
        assert_eq!(found.bound(), -1e-8 * found.largest.max(1.0));
    }

    #[test]
    fn steps_that_ran_out_exclude_nothing() {
        let found = |smallest, failure_probability| Extremes {
            smallest,
            largest: 1.0,
            lowest: Vec::new(),
            failure_probability,
            level: -1e-8,
        };
        assert!(found(-1e-12, 1e-7).excludes());
        assert!(!found(-1e-12, 0.5).excludes());
        assert!(!found(-1e-7, 0.0).excludes());
        assert!(!found(f64::NAN, 0.0).excludes());
    }

    #[test]
    fn the_failure_probability_bounds_how_often_an_eigenvalue_is_missed() {
        // One eigenvalue a little below the level, and starts that see little of it: at
        // every number of steps, the share of starts whose Ritz values all lie above the
        // level and that claim a probability below δ must be below δ.
        const STARTS: u64 = 400;
        let n = 50;
        let mut d: Vec<f64> = (0..n).map(|i| 0.2 + i as f64 / n as f64).collect();
        d[20] = -0.02;
        let level = -0.01;
        for delta in [0.3, 0.1, 0.03] {
            let mut missed = 0;
            for seed in 0..STARTS {
                let mut basis = Basis::new(random_unit(n, seed));
                let mut image = vec![0.0; n];
                for _ in 0..12 {
                    times(&d)(basis.last(), &mut image);
                    basis.grow(&image);
                    let (low, _) = basis.projection().extreme_eigenvalues();
                    let p = (2.0 * (n as f64 - 1.0) / (PI * basis.christoffel(level))).sqrt();
                    if low > level && p <= delta {
                        missed += 1;
                        break;
                    }
                }
            }
            let share = f64::from(missed) / STARTS as f64;
            // Three standard deviations of the count.
            let slack = 3.0 * (delta * (1.0 - delta) / STARTS as f64).sqrt();
            assert!(share <= delta + slack, "{missed} of {STARTS} at {delta}");
        }
    }

    #[test]
    fn one_negative_eigenvalue_among_thousands_is_found_with_its_direction() {
        let mut d = spectrum(3000, 1e-5);
        d[1234] = -1e-4;
        let found = run(d.len(), times(&d), 3, |high| -1e-8 * high.max(1.0));
        assert!(found.smallest < -1e-8, "{:e}", found.smallest);
        let mut image = vec![0.0; d.len()];
        times(&d)(&found.lowest, &mut image);
        assert!(dot(&found.lowest, &image) < 0.0);
        assert_eq!(found.bound(), found.smallest);
    }
}
