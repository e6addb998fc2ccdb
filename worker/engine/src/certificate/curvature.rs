//! Condition 2, by the number of variables: all eigenvalues, a completed factorisation, Lanczos.
//!
//! Two matrices must have no eigenvalue below the tolerance: H and D^{−1/2} H D^{−1/2}, with
//! D = diag(max(1, |H_ii|)). Beyond [`DENSE`](super::DENSE) variables both follow from one bound.
//! H ⪰ −c I is enough, since D ⪰ I and both levels are at most −c; so is H ⪰ −c D, since no
//! D_ii is greater than max(1, λ_max) then.

use common::math::slice::{max_abs, norm};
use common::record::EigenvalueMethod;

use super::{CHOLESKY, Context, Outer, Refusal};
use crate::lanczos;
use crate::linalg::{Cholesky, Tridiagonal, multiply, pseudo_inverse_times, singular_values};
use crate::objective::{Objective, Problem};

/// The damping of the Newton step of condition 3, for a Hessian of this λ_max.
fn damping(largest: f64) -> f64 {
    1e-8 * largest.max(1.0)
}

/// What is known of the curvature at a point.
pub(super) struct Curvature {
    /// λ_min, or the bound proved for it.
    pub smallest: f64,
    /// λ_max.
    pub largest: f64,
    /// How they were found.
    pub method: EigenvalueMethod,
    /// Failure probability of `lanczos`.
    pub failure_probability: Option<f64>,
    /// Norm of the damped Newton step.
    pub newton_step: Option<f64>,
    /// A unit direction of the smallest curvature, where that is negative.
    pub lowest: Option<Vec<f64>>,
    /// What keeps condition 2 from holding.
    pub refusal: Option<Refusal>,
}

impl Curvature {
    /// With condition 2 refused unless it is `known` to hold.
    fn judged(mut self, known: bool) -> Self {
        self.refusal = if self.smallest.is_nan() {
            Some(Refusal::NonFinite)
        } else if known {
            None
        } else {
            Some(Refusal::Curvature(self.lowest.clone()))
        };
        self
    }
}

/// All eigenvalues of H, and of its scaled form where that could matter.
///
/// # Errors
/// [`Refusal::NonFinite`] if H is not finite.
pub(super) fn dense(
    objective: &mut Objective<'_>,
    gradient: &[f64],
    context: &Context<'_>,
) -> Result<Curvature, Refusal> {
    let n = gradient.len();
    let tolerance = context.tolerances.curvature;
    let mut h = vec![0.0; n * n];
    objective.hessian(&mut h);
    if !max_abs(&h).is_finite() {
        return Err(Refusal::NonFinite);
    }
    let diagonal: Vec<f64> = (0..n).map(|i| h[i * n + i].abs().max(1.0)).collect();
    let t = Tridiagonal::reduce(h.clone(), n);
    let (smallest, largest) = t.extreme_eigenvalues();
    let newton_step = t.shifted(damping(largest)).map(|factor| {
        let mut step = gradient.to_vec();
        t.apply_transpose(&mut step);
        factor.solve(&mut step);
        norm(&step)
    });
    let mut found = Curvature {
        smallest,
        largest,
        method: EigenvalueMethod::Dense,
        failure_probability: None,
        newton_step,
        lowest: (smallest < 0.0).then(|| t.eigenvector(smallest)),
        refusal: None,
    }
    .judged(smallest >= -tolerance * largest.max(1.0));
    if smallest < -tolerance {
        // D^{−1/2} H D^{−1/2}.
        let root: Vec<f64> = diagonal.iter().map(|d| 1.0 / d.sqrt()).collect();
        for i in 0..n {
            for j in 0..n {
                h[i * n + j] *= root[i] * root[j];
            }
        }
        let t = Tridiagonal::reduce(h, n);
        let (low, high) = t.extreme_eigenvalues();
        if low < -tolerance * high.max(1.0) {
            let mut direction = t.eigenvector(low);
            direction.iter_mut().zip(&root).for_each(|(v, r)| *v *= r);
            let length = norm(&direction);
            direction.iter_mut().for_each(|v| *v /= length);
            found.refusal = Some(Refusal::Curvature(Some(direction)));
        }
    }
    Ok(found)
}

/// Large sums of squares at an objective near zero: H = JᵀJ + S, where S, the residuals times
/// the second derivatives of the network, is small. So λ_min(H) ≥ λ_min(S), and for S a few
/// Lanczos steps exclude what they must, while H itself, with its many eigenvalues near zero,
/// would take as many steps as there are residuals. `None` where S is not small enough.
///
/// With λ_min(H) ≥ −c the damped Newton step is at most ‖∇‖/(damping − c).
pub(super) fn at_zero(
    objective: &mut Objective<'_>,
    x: &[f64],
    gradient: &[f64],
    value: f64,
    context: &Context<'_>,
) -> Option<Curvature> {
    /// Largest objective that is tried.
    const SMALL: f64 = 1e-18;
    if objective.residual_count().is_none() || !(value <= SMALL) {
        return None;
    }
    let n = x.len();
    let largest = lanczos::largest(n, |v, out| objective.products(v, out), context.seed);
    let level = -0.1 * context.tolerances.curvature.min(1e-8);
    let l = lanczos::run_briefly(
        n,
        |v, out| objective.beyond_gauss_newton(x, v, out),
        context.seed,
        |_| level,
    );
    objective.ensure_linearized(x);
    let found = Curvature {
        smallest: level,
        largest,
        method: EigenvalueMethod::Lanczos,
        failure_probability: Some(l.failure_probability),
        newton_step: Some(norm(gradient) / (damping(largest) + level)),
        lowest: None,
        refusal: None,
    };
    l.excludes().then_some(found)
}

/// Large problems without head coordinates: H + c D factored, or Lanczos.
pub(super) fn large(
    objective: &mut Objective<'_>,
    gradient: &[f64],
    context: &Context<'_>,
) -> Curvature {
    let n = gradient.len();
    if n <= CHOLESKY
        && let Some(found) = factored(objective, gradient, context)
    {
        return found;
    }
    let level = -context.tolerances.curvature;
    let l = lanczos::run(
        n,
        |v, out| objective.products(v, out),
        context.seed,
        |_| level,
    );
    let step = lanczos::newton_step(objective, gradient, damping(l.largest));
    let holds = l.excludes();
    Curvature {
        smallest: l.bound(),
        largest: l.largest,
        method: EigenvalueMethod::Lanczos,
        failure_probability: Some(l.failure_probability),
        newton_step: Some(step),
        lowest: (l.smallest < 0.0).then_some(l.lowest),
        refusal: None,
    }
    .judged(holds)
}

/// H ⪰ −c D, by the factorisation of H + c D; `None` where that breaks down.
fn factored(
    objective: &mut Objective<'_>,
    gradient: &[f64],
    context: &Context<'_>,
) -> Option<Curvature> {
    let n = gradient.len();
    let tolerance = context.tolerances.curvature;
    let mut h = vec![0.0; n * n];
    objective.hessian(&mut h);
    let mut shifted = h.clone();
    let mut scale = 1.0f64;
    for i in 0..n {
        let d = h[i * n + i].abs().max(1.0);
        scale = scale.max(d);
        shifted[i * n + i] += tolerance * d;
    }
    Cholesky::new(shifted, n).ok()?;
    let seen = lanczos::largest(n, |v, out| objective.products(v, out), context.seed);
    // No diagonal entry exceeds λ_max, but a Ritz value may lag behind one.
    let largest = if scale > 1.0 { seen.max(scale) } else { seen };
    for i in 0..n {
        h[i * n + i] += damping(largest);
    }
    let newton_step = Cholesky::new(h, n).ok().map(|factor| {
        let mut step = gradient.to_vec();
        factor.solve(&mut step);
        norm(&step)
    });
    let found = Curvature {
        smallest: -tolerance * scale,
        largest,
        method: EigenvalueMethod::Cholesky,
        failure_probability: None,
        newton_step,
        lowest: None,
        refusal: None,
    };
    Some(found.judged(true))
}

/// Large problems in head coordinates, where minima are strict:
/// λ_min(H_θ) ≥ min(0, λ_min(H_F))(1 + ‖V‖² + ‖W‖²) − ‖B‖₂ (spectral norms).
pub(super) fn in_head(
    head: &mut Objective<'_>,
    outer: &Outer<'_>,
    theta: &[f64],
    context: &Context<'_>,
) -> Curvature {
    let problem = head.problem();
    let d = problem.dims();
    let mut q = vec![0.0; problem.program_len()];
    Objective::to_program(problem, theta, &mut q);
    let x = head.variables(&q);
    let n = x.len();
    let mut gradient = vec![0.0; n];
    head.linearize(&x, &mut gradient);
    let spectral = |m: &[f64], rows: usize, cols: usize| {
        singular_values(m, rows, cols)
            .first()
            .copied()
            .unwrap_or(0.0)
    };
    let (v, w) = (
        spectral(outer.v, d.phi, d.z),
        spectral(outer.w, d.outputs, d.phi),
    );
    let b = spectral(&outer.b, d.outputs, d.z);
    // Curvature below zero grows by this factor on the way to θ.
    let growth = 1.0 + v * v + w * w;
    let tolerance = context.tolerances.curvature;
    if n <= CHOLESKY {
        let mut h = vec![0.0; n * n];
        head.hessian(&mut h);
        if let Ok(factor) = Cholesky::new(h, n) {
            let largest = lanczos::largest(n, |v, out| head.products(v, out), context.seed);
            factor.solve(&mut gradient);
            return Curvature {
                smallest: -b,
                largest,
                method: EigenvalueMethod::Cholesky,
                failure_probability: None,
                newton_step: Some(norm(&lift(problem, outer, &gradient))),
                lowest: None,
                refusal: None,
            }
            .judged(-b >= -tolerance);
        }
    }
    // Half of what is tolerated in θ; the other half is for ‖B‖.
    let level = -0.5 * tolerance / growth;
    let l = lanczos::run(n, |v, out| head.products(v, out), context.seed, |_| level);
    let step = lanczos::newton_direction(head, &gradient, damping(l.largest));
    let smallest = l.bound().min(0.0) * growth - b;
    let excludes = l.excludes();
    Curvature {
        smallest,
        largest: l.largest,
        method: EigenvalueMethod::Lanczos,
        failure_probability: Some(l.failure_probability),
        newton_step: Some(norm(&lift(problem, outer, &step))),
        lowest: (l.smallest < 0.0).then(|| lift(problem, outer, &l.lowest)),
        refusal: None,
    }
    .judged(excludes && smallest >= -tolerance)
}

/// The shortest θ-direction that π maps to a head direction: Ẇ = s₁,
/// V̇ = W⁺(s₂ − s₁V), u̇ = s_u.
fn lift(problem: &Problem, outer: &Outer<'_>, step: &[f64]) -> Vec<f64> {
    let d = problem.dims();
    let (s1, rest) = step.split_at(d.outputs * d.phi);
    let (s2, su) = rest.split_at(d.outputs * d.z);
    let mut right = vec![0.0; d.outputs * d.z];
    multiply(s1, outer.v, &mut right, d.outputs, d.phi, d.z, false);
    right.iter_mut().zip(s2).for_each(|(r, s)| *r = s - *r);
    let mut out = s1.to_vec();
    out.extend(pseudo_inverse_times(outer.w, d.outputs, d.phi, &right, d.z));
    out.extend_from_slice(su);
    out
}
