//! What is true at a point: THEORY §2, closed form and eigenvalues.
//!
//! [`examine`] computes every recorded quantity at θ and decides whether the
//! second-order certificate holds. It never moves the point; where the
//! certificate fails because of a direction of descent, it returns that
//! direction for the caller to follow.
//!
//! Conditions (tolerances of CONTRACT §2 `certificate`):
//! 1. ‖∇‖∞ ≤ tol_g·max(1, |objective|);
//! 2. λ_min ≥ −tol_c·max(1, λ_max) for H and for D^{−1/2} H D^{−1/2}, D = diag(max(1, |H_ii|)).
//!    When λ_min(H) ≥ −tol_c the second follows from D ⪰ I and is not computed; beyond
//!    [`DENSE`] variables it is never computed;
//! 3. the damped Newton step (H + 1e-8·max(1, λ_max) I)⁻¹∇ has norm ≤ 1e-6(1 + ‖θ‖);
//! 4. for `skip: outer`, where W has a numerical null vector a: the part of B
//!    that ∂L/∂V = WᵀB cannot see is zero to rounding. Otherwise V + t·a vᵀ
//!    leads down although eigenvalue tolerances may hide it (THEORY §1 item 4).
//! 5. where the activation has kinks: the conditions of [`crate::kink`] up to [`DENSE`]
//!    variables; beyond, no pre-activation may be on or near one.
//!
//! λ_min by three methods: all eigenvalues (`dense`, up to [`DENSE`] variables);
//! a completed Cholesky factorisation of the shifted Hessian (`cholesky`, up to
//! [`CHOLESKY`]); Lanczos with a stated failure probability (`lanczos`), where a sum of squares
//! is near zero on what H has beyond JᵀJ.

use common::math::slice::{axpy, dot, max_abs, norm, norm_squared};
use common::record::{Attainment, BaselineEvidence, EigenvalueMethod};
use common::spec::{Loss, Skip, Tolerances};

use crate::kink;
use crate::lanczos;
use crate::linalg::{Cholesky, Svd, Tridiagonal, multiply, transpose};
use crate::linear::LinearProblem;
use crate::objective::{Chart, Objective, Problem};

/// Variables up to which all eigenvalues are computed.
pub const DENSE: usize = 1000;
/// Variables up to which the Hessian is factored.
pub const CHOLESKY: usize = 3000;

/// Why a point is not certified.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Value, gradient or Hessian are not finite.
    NonFinite,
    /// Condition 1.
    Gradient,
    /// Condition 2; a unit direction of negative curvature where one is known.
    Curvature(Option<Vec<f64>>),
    /// Condition 3.
    NewtonStep,
    /// Condition 4; the direction a vᵀ in the variables.
    HiddenDescent(Vec<f64>),
    /// On or near kinks, where the conditions of [`crate::kink`] do not hold.
    Kink,
}

/// Everything that is recorded about a point.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Objective and value (objective without body decay).
    pub objective: f64,
    /// Objective without the body's decay.
    pub value: f64,
    /// ‖∇‖∞.
    pub gradient_norm: f64,
    /// λ_min or the bound proved for it.
    pub min_eigenvalue: Option<f64>,
    /// λ_max.
    pub max_eigenvalue: Option<f64>,
    /// Method behind `min_eigenvalue`.
    pub method: Option<EigenvalueMethod>,
    /// Failure probability of `lanczos`.
    pub failure_probability: Option<f64>,
    /// ‖A‖, ‖B‖.
    pub norm_a: Option<f64>,
    /// ‖B‖.
    pub norm_b: Option<f64>,
    /// Upper bound on value − baseline.
    pub gap_bound: Option<f64>,
    /// Minimum of the induced model.
    pub induced_value: Option<f64>,
    /// Smallest singular value of W that is not zero by construction.
    pub sigma_min_w: Option<f64>,
    /// ‖θ‖.
    pub norm_theta: f64,
    /// ‖u‖.
    pub norm_u: f64,
    /// ‖W‖.
    pub norm_w: f64,
    /// ‖W V‖.
    pub norm_wv: Option<f64>,
    /// Norm of the damped Newton step.
    pub newton_step: Option<f64>,
    /// Active kinks.
    pub kinks: u32,
    /// Distance of the nearest other pre-activation to a kink.
    pub kink_margin: Option<f64>,
    /// Smallest slack of the multipliers of the active kinks.
    pub kink_slack: Option<f64>,
    /// Kinks whose gradients depend on one another.
    pub kink_cluster: u32,
    /// Eigenvector of the smallest eigenvalue, when one was computed.
    pub lowest: Option<Vec<f64>>,
    /// None when the certificate holds.
    pub refusal: Option<Refusal>,
}

/// What the examination needs beside the point.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Tolerances.
    pub tolerances: Tolerances,
    /// The baseline, for the gap bound.
    pub baseline: Option<&'a BaselineEvidence>,
    /// Features φ `[n, d_φ]` and targets for the induced model.
    pub linear: Option<LinearProblem<'a>>,
    /// Seed of the Lanczos start.
    pub seed: u64,
}

/// Pieces of θ for `skip: outer`.
struct Outer<'a> {
    w: &'a [f64],
    v: &'a [f64],
    a: Vec<f64>,
    b: Vec<f64>,
}

/// Examines the full θ.
///
/// `objective` is in the chart θ (frozen bodies allowed); `head` in head
/// coordinates, used for large problems. Both count their own work.
pub fn examine(
    objective: &mut Objective<'_>,
    mut head: Option<&mut Objective<'_>>,
    theta: &[f64],
    context: &Context<'_>,
) -> Examination {
    let problem = objective.problem();
    let x = objective.variables(theta);
    let n = x.len();
    let mut gradient = vec![0.0; n];
    let value = objective.linearize(&x, &mut gradient);
    let u = objective.body_of(theta);
    let norm_u = norm(&u);
    let mut e = Examination {
        objective: value,
        value: value - 0.5 * problem.regularizer().body_decay * norm_squared(&u),
        gradient_norm: max_abs(&gradient),
        min_eigenvalue: None,
        max_eigenvalue: None,
        method: None,
        failure_probability: None,
        norm_a: None,
        norm_b: None,
        gap_bound: None,
        induced_value: None,
        sigma_min_w: None,
        norm_theta: norm(theta),
        norm_u,
        norm_w: f64::NAN,
        norm_wv: None,
        newton_step: None,
        kinks: 0,
        kink_margin: None,
        kink_slack: None,
        kink_cluster: 0,
        lowest: None,
        refusal: None,
    };
    let d = problem.dims();
    let w_len = match problem.skip() {
        Skip::Outer | Skip::Chain => d.outputs * d.phi,
        Skip::None => d.outputs * d.z,
    };
    e.norm_w = norm(&theta[..w_len]);
    if !value.is_finite() || !max_abs(&gradient).is_finite() {
        e.refusal = Some(Refusal::NonFinite);
        return e;
    }
    let outer = (problem.skip() == Skip::Outer).then(|| {
        let q_gradient = objective.program_gradient();
        Outer {
            w: &theta[..w_len],
            v: &theta[w_len..][..d.phi * d.z],
            a: q_gradient[..w_len].to_vec(),
            b: q_gradient[w_len..][..d.outputs * d.z].to_vec(),
        }
    });
    closed_form(problem, objective, theta, outer.as_ref(), context, &mut e);

    if objective.has_kinks() && n <= DENSE {
        let settled = on_kinks(objective, head.as_deref_mut(), theta, context, &mut e);
        if settled {
            return e;
        }
        objective.ensure_linearized(&x);
    } else if objective.has_kinks() {
        let (on, margin) = kink::near(&mut kink::Kinked::new(objective), &x);
        e.kinks = u32::try_from(on).unwrap_or(u32::MAX);
        e.kink_margin = margin;
        if on > 0 || !margin.is_none_or(|m| m > context.tolerances.kink_margin) {
            e.refusal = Some(Refusal::Kink);
            return e;
        }
        objective.ensure_linearized(&x);
    }
    let tolerance = context.tolerances.gradient * value.abs().max(1.0);
    if e.gradient_norm > tolerance {
        // The eigenvalues of a point that is not stationary certify nothing.
        if n <= DENSE {
            dense(objective, &gradient, context, &mut e);
        }
        e.refusal = Some(Refusal::Gradient);
        return e;
    }
    if n <= DENSE {
        dense(objective, &gradient, context, &mut e);
    } else if let (Some(head), Some(outer)) = (head, &outer) {
        in_head(head, outer, theta, context, &mut e);
    } else if !at_zero(objective, &x, &gradient, context, &mut e) {
        large(objective, &gradient, context, &mut e);
    }
    let curvature = context.tolerances.curvature;
    if e.refusal.is_none()
        && e.failure_probability.is_some_and(|p| p > lanczos::DELTA)
        && e.lowest.is_none()
    {
        e.refusal = Some(Refusal::Curvature(None));
    }
    if e.refusal.is_none() {
        let limit = -curvature * e.max_eigenvalue.unwrap_or(0.0).max(1.0);
        match e.min_eigenvalue {
            Some(m) if m >= limit => {}
            Some(m) if m.is_nan() => e.refusal = Some(Refusal::NonFinite),
            _ => e.refusal = Some(Refusal::Curvature(e.lowest.clone())),
        }
    }
    if e.refusal.is_none()
        && !e
            .newton_step
            .is_some_and(|s| s <= 1e-6 * (1.0 + e.norm_theta))
    {
        e.refusal = Some(Refusal::NewtonStep);
    }
    if e.refusal.is_none()
        && let Some(outer) = &outer
    {
        e.refusal = hidden_descent(
            problem,
            slopes_times_z(objective, theta, outer, context),
            theta.len(),
            outer,
        );
    }
    e
}

/// The examination of a point that sits on kinks, in head coordinates where they
/// apply (a minimum there is one in θ, THEORY §1 item 7); `false` if it sits on none
/// and the ordinary conditions decide.
fn on_kinks(
    objective: &mut Objective<'_>,
    head: Option<&mut Objective<'_>>,
    theta: &[f64],
    context: &Context<'_>,
    e: &mut Examination,
) -> bool {
    let problem = objective.problem();
    let demands = kink::Demands {
        gradient: context.tolerances.gradient,
        curvature: context.tolerances.curvature,
        margin: context.tolerances.kink_margin,
    };
    let found = match head {
        Some(head) => {
            let mut q = vec![0.0; problem.program_len()];
            Objective::to_program(problem, theta, &mut q);
            let found = kink::inspect(&mut kink::Kinked::new(head), &q, &demands);
            // The same soft signs in θ.
            let mut kinked = kink::Kinked::new(objective);
            let field = kinked.field(theta, &found.signs);
            e.gradient_norm = max_abs(&field.gradient);
            found
        }
        None => {
            let found = kink::inspect(&mut kink::Kinked::new(objective), theta, &demands);
            e.gradient_norm = found.gradient;
            found
        }
    };
    e.kinks = u32::try_from(found.kinks).unwrap_or(u32::MAX);
    e.kink_cluster = u32::try_from(found.cluster).unwrap_or(u32::MAX);
    e.kink_margin = found.margin;
    e.kink_slack = found.slack;
    if found.kinks == 0 {
        if found.margin.is_some_and(|m| !(m > demands.margin)) {
            e.refusal = Some(Refusal::Kink);
            return true;
        }
        return false;
    }
    if found.smallest.is_finite() {
        e.min_eigenvalue = Some(found.smallest);
        e.max_eigenvalue = Some(found.largest);
        e.method = Some(EigenvalueMethod::Dense);
        e.newton_step = Some(found.newton_step);
    }
    let stationary = e.gradient_norm <= demands.gradient * e.objective.abs().max(1.0)
        && found.newton_step <= 1e-6 * (1.0 + e.norm_theta);
    e.refusal = match found.finding {
        kink::Finding::Minimum if stationary => None,
        kink::Finding::NonFinite => Some(Refusal::NonFinite),
        _ => Some(Refusal::Kink),
    };
    true
}

/// ‖A‖, ‖B‖, gap bound, induced value, σ_min(W), ‖WV‖.
fn closed_form(
    problem: &Problem,
    objective: &mut Objective<'_>,
    theta: &[f64],
    outer: Option<&Outer<'_>>,
    context: &Context<'_>,
    e: &mut Examination,
) {
    let d = problem.dims();
    let induced_applies = problem.regularizer().head_decay == 0.0 && problem.skip() != Skip::Chain;
    if let Some(o) = outer {
        let mut wv = vec![0.0; d.outputs * d.z];
        multiply(o.w, o.v, &mut wv, d.outputs, d.phi, d.z, false);
        e.norm_wv = Some(norm(&wv));
        e.sigma_min_w = Some(smallest_singular_value(problem, o.w, d.outputs, d.phi));
        if problem.regularizer().head_decay == 0.0 {
            e.norm_a = Some(norm(&o.a));
            e.norm_b = Some(norm(&o.b));
            if let Some(baseline) = context.baseline {
                // ⟨A, W − R*⟩ + ⟨B, WV⟩, plus what R* lacks to the infimum.
                let mut bound = dot(&o.b, &wv);
                for (i, a) in o.a.iter().enumerate() {
                    bound = a.mul_add(o.w[i] - baseline.minimizer[i], bound);
                }
                if baseline.status == Attainment::InfimumNotAttained
                    && let Some(linear) = &context.linear
                {
                    let isa = objective.evaluator().isa();
                    bound += linear.evaluate(isa, &baseline.minimizer).value - baseline.value;
                }
                e.gap_bound = Some(bound);
            }
        }
    } else if problem.skip() == Skip::None {
        e.sigma_min_w = Some(smallest_singular_value(
            problem,
            &theta[..d.outputs * d.z],
            d.outputs,
            d.z,
        ));
    }
    if induced_applies && let Some(linear) = &context.linear {
        let isa = objective.evaluator().isa();
        let z = objective.representation(theta);
        e.induced_value = Some(induced(linear, &z, d.z, problem, theta, isa));
    }
}

/// min over (R₁, R₂) on [φ, z]; for `skip: none` over (R, c) on [z, 1], c without ridge.
fn induced(
    linear: &LinearProblem<'_>,
    z: &[f64],
    d_z: usize,
    problem: &Problem,
    theta: &[f64],
    isa: common::math::Isa,
) -> f64 {
    let d = problem.dims();
    let n = linear.rows();
    if z.iter().any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let outer = problem.skip() == Skip::Outer;
    let phi = if outer { linear.width } else { 0 };
    let width = phi + d_z + usize::from(!outer);
    let mut features = Vec::with_capacity(n * width);
    for i in 0..n {
        features.extend_from_slice(&linear.features[i * linear.width..][..phi]);
        features.extend_from_slice(&z[i * d_z..][..d_z]);
        if !outer {
            features.push(1.0);
        }
    }
    let free = [width - 1];
    let fit = LinearProblem {
        features: &features,
        width,
        free: if outer { &[] } else { &free },
        ridge: problem.regularizer().predictor_ridge,
        ..*linear
    };
    // The run's own head is where the search starts: at a certificate it is the answer.
    let mut start = vec![0.0; d.outputs * width];
    if outer {
        let mut q = vec![0.0; problem.program_len()];
        Objective::to_program(problem, theta, &mut q);
        for j in 0..d.outputs {
            start[j * width..][..phi].copy_from_slice(&q[j * phi..][..phi]);
            start[j * width + phi..][..d_z].copy_from_slice(&q[d.outputs * phi + j * d_z..][..d_z]);
        }
    } else {
        for j in 0..d.outputs {
            start[j * width..][..d_z].copy_from_slice(&theta[j * d_z..][..d_z]);
            start[j * width + d_z] = theta[d.outputs * d_z + j];
        }
    }
    fit.solve(isa, Some(&start)).value
}

/// σ_min(W); with softmax and a ridge 1ᵀW = 0 at stationary points, so the
/// last singular value is zero by construction and the one before it is meant.
fn smallest_singular_value(problem: &Problem, w: &[f64], rows: usize, cols: usize) -> f64 {
    let values = crate::linalg::singular_values(w, rows, cols);
    let structural = usize::from(
        problem.loss() == Loss::CrossEntropy
            && problem.regularizer().predictor_ridge > 0.0
            && rows <= cols
            && rows > 1,
    );
    values
        .get(values.len().wrapping_sub(1 + structural))
        .copied()
        .unwrap_or(0.0)
}

/// All eigenvalues of H, and of its scaled form where that could matter.
fn dense(
    objective: &mut Objective<'_>,
    gradient: &[f64],
    context: &Context<'_>,
    e: &mut Examination,
) {
    let n = gradient.len();
    let mut h = vec![0.0; n * n];
    objective.hessian(&mut h);
    if !max_abs(&h).is_finite() {
        e.refusal = Some(Refusal::NonFinite);
        return;
    }
    let diagonal: Vec<f64> = (0..n).map(|i| h[i * n + i].abs().max(1.0)).collect();
    let t = Tridiagonal::reduce(h.clone(), n);
    let (smallest, largest) = t.extreme_eigenvalues();
    e.min_eigenvalue = Some(smallest);
    e.max_eigenvalue = Some(largest);
    e.method = Some(EigenvalueMethod::Dense);
    if smallest < 0.0 {
        e.lowest = Some(t.eigenvector(smallest));
    }
    let damping = 1e-8 * largest.max(1.0);
    if let Some(factor) = t.shifted(damping) {
        let mut step = gradient.to_vec();
        t.apply_transpose(&mut step);
        factor.solve(&mut step);
        e.newton_step = Some(norm(&step));
    }
    if smallest < -context.tolerances.curvature {
        // D^{−1/2} H D^{−1/2}.
        let root: Vec<f64> = diagonal.iter().map(|d| 1.0 / d.sqrt()).collect();
        for i in 0..n {
            for j in 0..n {
                h[i * n + j] *= root[i] * root[j];
            }
        }
        let t = Tridiagonal::reduce(h, n);
        let (low, high) = t.extreme_eigenvalues();
        if low < -context.tolerances.curvature * high.max(1.0) {
            let mut direction = t.eigenvector(low);
            direction.iter_mut().zip(&root).for_each(|(v, r)| *v *= r);
            let length = norm(&direction);
            direction.iter_mut().for_each(|v| *v /= length);
            e.refusal = Some(Refusal::Curvature(Some(direction)));
        }
    }
}

/// Large sums of squares at an objective near zero: H = JᵀJ + S, where S, the residuals times
/// the second derivatives of the network, is small. So λ_min(H) ≥ λ_min(S), and for S a few
/// Lanczos steps exclude what they must, while H itself, with its many eigenvalues near zero,
/// would take as many steps as there are residuals. `false` where S is not small enough.
///
/// With λ_min(H) ≥ −c the damped Newton step is at most ‖∇‖/(damping − c).
fn at_zero(
    objective: &mut Objective<'_>,
    x: &[f64],
    gradient: &[f64],
    context: &Context<'_>,
    e: &mut Examination,
) -> bool {
    /// Largest objective that is tried.
    const SMALL: f64 = 1e-18;
    if objective.residual_count().is_none() || !(e.objective <= SMALL) {
        return false;
    }
    let n = x.len();
    let largest = lanczos::largest(n, |v, out| objective.products(v, out), context.seed);
    let damping = 1e-8 * largest.max(1.0);
    // Whatever λ_max, so that the condition on the scaled Hessian follows.
    let level = -0.1 * context.tolerances.curvature.min(1e-8);
    let l = lanczos::run_briefly(
        n,
        |v, out| objective.beyond_gauss_newton(x, v, out),
        context.seed,
        |_| level,
    );
    objective.ensure_linearized(x);
    if !(l.failure_probability <= lanczos::DELTA && l.bound() >= level) {
        return false;
    }
    e.max_eigenvalue = Some(largest);
    e.min_eigenvalue = Some(level);
    e.method = Some(EigenvalueMethod::Lanczos);
    e.failure_probability = Some(l.failure_probability);
    e.newton_step = Some(norm(gradient) / (damping + level));
    true
}

/// Large problems without head coordinates: H + shift factored, or Lanczos.
fn large(
    objective: &mut Objective<'_>,
    gradient: &[f64],
    context: &Context<'_>,
    e: &mut Examination,
) {
    let n = gradient.len();
    let curvature = context.tolerances.curvature;
    let l = lanczos::run(
        n,
        |v, out| objective.products(v, out),
        context.seed,
        |largest| -curvature * largest.max(1.0),
    );
    e.max_eigenvalue = Some(l.largest);
    let shift = curvature * l.largest.max(1.0);
    if n <= CHOLESKY && l.smallest > -shift {
        let mut h = vec![0.0; n * n];
        objective.hessian(&mut h);
        for i in 0..n {
            h[i * n + i] += shift;
        }
        if let Ok(factor) = Cholesky::new(h, n) {
            let mut step = gradient.to_vec();
            factor.solve(&mut step);
            e.newton_step = Some(norm(&step));
            e.min_eigenvalue = Some(-shift);
            e.method = Some(EigenvalueMethod::Cholesky);
            return;
        }
    }
    e.min_eigenvalue = Some(l.bound());
    e.method = Some(EigenvalueMethod::Lanczos);
    e.failure_probability = Some(l.failure_probability);
    if l.smallest < 0.0 {
        e.lowest = Some(l.lowest.clone());
    }
    e.newton_step = Some(lanczos::newton_step(
        objective,
        gradient,
        1e-8 * l.largest.max(1.0),
    ));
}

/// Large problems in head coordinates, where minima are strict:
/// λ_min(H_θ) ≥ min(0, λ_min(H_F))(1 + ‖V‖² + ‖W‖²) − ‖B‖₂ (spectral norms).
fn in_head(
    head: &mut Objective<'_>,
    outer: &Outer<'_>,
    theta: &[f64],
    context: &Context<'_>,
    e: &mut Examination,
) {
    let problem = head.problem();
    let d = problem.dims();
    let mut q = vec![0.0; problem.program_len()];
    Objective::to_program(problem, theta, &mut q);
    let x = head.variables(&q);
    let n = x.len();
    let mut gradient = vec![0.0; n];
    head.linearize(&x, &mut gradient);
    let spectral = |m: &[f64], rows: usize, cols: usize| {
        crate::linalg::singular_values(m, rows, cols)
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
    // Half of what is tolerated in θ; the other half is for ‖B‖.
    let tolerated = 0.5 * context.tolerances.curvature / growth;
    let l = lanczos::run(
        n,
        |v, out| head.products(v, out),
        context.seed,
        |largest| -tolerated * largest.max(1.0),
    );
    e.max_eigenvalue = Some(l.largest);
    let mut low = l.bound();
    e.method = Some(EigenvalueMethod::Lanczos);
    e.failure_probability = Some(l.failure_probability);
    let damping = 1e-8 * l.largest.max(1.0);
    let mut step = None;
    if n <= CHOLESKY && l.smallest > 0.0 {
        let mut h = vec![0.0; n * n];
        head.hessian(&mut h);
        if let Ok(factor) = Cholesky::new(h, n) {
            low = 0.0;
            e.method = Some(EigenvalueMethod::Cholesky);
            e.failure_probability = None;
            let mut s = gradient.clone();
            factor.solve(&mut s);
            step = Some(s);
        }
    }
    let step = step.unwrap_or_else(|| lanczos::newton_direction(head, &gradient, damping));
    e.min_eigenvalue = Some(low.min(0.0) * growth - b);
    e.newton_step = Some(norm(&lift(problem, outer, &step)));
    if l.smallest < 0.0 {
        e.lowest = Some(lift(problem, outer, &l.lowest));
    }
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

/// W⁺ X for W `[rows, cols]`, X `[rows, k]`; singular values below 1e-9 of the
/// largest count as zero.
pub(crate) fn pseudo_inverse_times(
    w: &[f64],
    rows: usize,
    cols: usize,
    x: &[f64],
    k: usize,
) -> Vec<f64> {
    // Work on the wide orientation: W = Σ σ u vᵀ.
    let (svd, flipped) = if rows <= cols {
        (Svd::new(w, rows, cols), false)
    } else {
        (Svd::new(&transpose(w, rows, cols), cols, rows), true)
    };
    let small = rows.min(cols);
    let mut out = vec![0.0; cols * k];
    for i in 0..small {
        if !(svd.values[i] > 1e-9 * svd.values[0]) {
            continue;
        }
        let (left, right) = if flipped {
            (
                &svd.right[i * rows..][..rows],
                &svd.left[i * cols..][..cols],
            )
        } else {
            (
                &svd.left[i * rows..][..rows],
                &svd.right[i * cols..][..cols],
            )
        };
        // c = uᵀX / σ, out += v c.
        let mut c = vec![0.0; k];
        for (u, row) in left.iter().zip(x.chunks_exact(k)) {
            axpy(*u, row, &mut c);
        }
        c.iter_mut().for_each(|v| *v /= svd.values[i]);
        for (v, row) in right.iter().zip(out.chunks_exact_mut(k)) {
            axpy(*v, &c, row);
        }
    }
    out
}

/// Condition 4. With W = Σ σ_i u_i v_iᵀ, the gradient ∂L/∂V = WᵀB bounds the
/// components u_iᵀB with σ_i > 0 by its tolerance over σ_i; what lies outside
/// those u_i must vanish by itself, to the rounding of B = mean g zᵀ.
fn hidden_descent(
    problem: &Problem,
    slopes_times_z: f64,
    theta_len: usize,
    outer: &Outer<'_>,
) -> Option<Refusal> {
    let d = problem.dims();
    if d.z == 0 {
        return None;
    }
    let wide = d.outputs <= d.phi;
    let svd = if wide {
        Svd::new(outer.w, d.outputs, d.phi)
    } else {
        Svd::new(&transpose(outer.w, d.outputs, d.phi), d.phi, d.outputs)
    };
    let limit = 100.0 * f64::EPSILON * svd.values.first().copied().unwrap_or(0.0);
    let positive: Vec<usize> = (0..svd.values.len())
        .filter(|&i| svd.values[i] > limit)
        .collect();
    let (left, right) = if wide {
        (&svd.left, &svd.right)
    } else {
        (&svd.right, &svd.left)
    };
    let rights: Vec<&[f64]> = positive
        .iter()
        .map(|i| &right[i * d.phi..][..d.phi])
        .collect();
    let null = null_vector(&rights, d.phi)?;
    let mut hidden = outer.b.clone();
    for i in positive {
        let u = &left[i * d.outputs..][..d.outputs];
        let mut c = vec![0.0; d.z];
        for (u, row) in u.iter().zip(outer.b.chunks_exact(d.z)) {
            axpy(*u, row, &mut c);
        }
        for (u, row) in u.iter().zip(hidden.chunks_exact_mut(d.z)) {
            axpy(-*u, &c, row);
        }
    }
    if norm(&hidden) <= 1000.0 * f64::EPSILON * slopes_times_z {
        return None;
    }
    // v: the top right singular vector of what is hidden.
    let v = if d.outputs <= d.z {
        Svd::new(&hidden, d.outputs, d.z).right[..d.z].to_vec()
    } else {
        let s = Svd::new(&transpose(&hidden, d.outputs, d.z), d.z, d.outputs);
        s.left[..d.z].to_vec()
    };
    let mut direction = vec![0.0; theta_len];
    for (i, a) in null.iter().enumerate() {
        let at = d.outputs * d.phi + i * d.z;
        axpy(*a, &v, &mut direction[at..at + d.z]);
    }
    Some(Refusal::HiddenDescent(direction))
}

/// E[‖g‖‖z‖], the scale of B's rounding; the ridge's own part of B included.
fn slopes_times_z(
    objective: &mut Objective<'_>,
    theta: &[f64],
    outer: &Outer<'_>,
    context: &Context<'_>,
) -> f64 {
    let problem = objective.problem();
    let d = problem.dims();
    let isa = objective.evaluator().isa();
    let z = objective.representation(theta);
    let Some(linear) = &context.linear else {
        return f64::INFINITY;
    };
    let mut wv = vec![0.0; d.outputs * d.z];
    multiply(outer.w, outer.v, &mut wv, d.outputs, d.phi, d.z, false);
    let n = linear.rows();
    let width = linear.width + d.z;
    let mut features = Vec::with_capacity(n * width);
    let mut r = Vec::with_capacity(d.outputs * width);
    for i in 0..n {
        features.extend_from_slice(&linear.features[i * linear.width..][..linear.width]);
        features.extend_from_slice(&z[i * d.z..][..d.z]);
    }
    for j in 0..d.outputs {
        r.extend_from_slice(&outer.w[j * d.phi..][..d.phi]);
        r.extend_from_slice(&wv[j * d.z..][..d.z]);
    }
    let fit = LinearProblem {
        features: &features,
        width,
        ..*linear
    };
    let at = fit.evaluate(isa, &r);
    let mut total = problem.regularizer().predictor_ridge * norm(&wv);
    for i in 0..n {
        let g = norm(&at.slopes[i * d.outputs..][..d.outputs]);
        total = g.mul_add(norm(&z[i * d.z..][..d.z]), total);
    }
    total
}

/// Directions along which a candidate above its baseline might be left: for
/// `skip: outer` the pair of THEORY §1 item 4, (Bv/‖Bv‖)aᵀ in W combined with
/// a vᵀ in V, in both relative signs, for the top v; and −∇.
pub fn escape_directions(objective: &mut Objective<'_>, theta: &[f64]) -> Vec<Vec<f64>> {
    let problem = objective.problem();
    let d = problem.dims();
    let x = objective.variables(theta);
    let mut gradient = vec![0.0; x.len()];
    objective.value_gradient(&x, &mut gradient);
    let mut out = Vec::new();
    if problem.skip() == Skip::Outer && d.z > 0 {
        let w = &theta[..d.outputs * d.phi];
        let b = &objective.program_gradient()[d.outputs * d.phi..][..d.outputs * d.z];
        let wide = d.outputs <= d.phi;
        let svd = if wide {
            Svd::new(w, d.outputs, d.phi)
        } else {
            Svd::new(&transpose(w, d.outputs, d.phi), d.phi, d.outputs)
        };
        let limit = 1e-6 * svd.values.first().copied().unwrap_or(0.0);
        let right = if wide { &svd.right } else { &svd.left };
        let rights: Vec<&[f64]> = (0..svd.values.len())
            .filter(|&i| svd.values[i] > limit)
            .map(|i| &right[i * d.phi..][..d.phi])
            .collect();
        if let Some(a) = null_vector(&rights, d.phi) {
            let (left, v) = if d.outputs <= d.z {
                let s = Svd::new(b, d.outputs, d.z);
                (s.left[..d.outputs].to_vec(), s.right[..d.z].to_vec())
            } else {
                let s = Svd::new(&transpose(b, d.outputs, d.z), d.z, d.outputs);
                (s.right[..d.outputs].to_vec(), s.left[..d.z].to_vec())
            };
            for sign in [1.0, -1.0] {
                let mut direction = vec![0.0; theta.len()];
                for (j, l) in left.iter().enumerate() {
                    axpy(-sign * l, &a, &mut direction[j * d.phi..][..d.phi]);
                }
                for (i, a) in a.iter().enumerate() {
                    axpy(*a, &v, &mut direction[d.outputs * d.phi + i * d.z..][..d.z]);
                }
                let length = norm(&direction);
                direction.iter_mut().for_each(|x| *x /= length);
                out.push(direction);
            }
        }
    }
    let length = norm(&gradient);
    if length > 0.0 {
        out.push(gradient.iter().map(|g| -g / length).collect());
    }
    out
}

/// A unit vector orthogonal to `rows` (orthonormal), if there is one.
fn null_vector(rows: &[&[f64]], n: usize) -> Option<Vec<f64>> {
    if rows.len() >= n {
        return None;
    }
    // The unit vector that loses least when projected.
    let mut best: Option<(f64, Vec<f64>)> = None;
    for i in 0..n {
        let mut x = vec![0.0; n];
        x[i] = 1.0;
        for _ in 0..2 {
            for row in rows {
                let c = dot(row, &x);
                axpy(-c, row, &mut x);
            }
        }
        let length = norm(&x);
        if best.as_ref().is_none_or(|b| length > b.0) {
            x.iter_mut().for_each(|v| *v /= length);
            best = Some((length, x));
        }
    }
    best.filter(|b| b.0 > 1e-8).map(|b| b.1)
}

/// Whether head coordinates may be used for a problem and a point.
pub fn head_chart_applies(problem: &Problem, theta: &[f64]) -> bool {
    let d = problem.dims();
    let r = problem.regularizer();
    if problem.skip() != Skip::Outer
        || r.head_decay > 0.0
        || r.predictor_ridge == 0.0
        || d.phi < d.outputs
    {
        return false;
    }
    let w = &theta[..d.outputs * d.phi];
    let values = crate::linalg::singular_values(w, d.outputs, d.phi);
    let structural = usize::from(problem.loss() == Loss::CrossEntropy && d.outputs > 1);
    let smallest = values
        .get(values.len().wrapping_sub(1 + structural))
        .copied()
        .unwrap_or(0.0);
    smallest > 1e-9 * values.first().copied().unwrap_or(0.0)
}

/// The chart a chart-free caller should use.
pub fn chart(problem: &Problem, theta: &[f64]) -> Chart {
    if head_chart_applies(problem, theta) {
        Chart::Head
    } else {
        Chart::Theta
    }
}
