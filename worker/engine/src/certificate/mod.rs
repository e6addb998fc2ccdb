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
//!    [`DENSE`] variables both are proved at once ([`curvature`]);
//! 3. the damped Newton step (H + 1e-8·max(1, λ_max) I)⁻¹∇ has norm ≤ 1e-6(1 + ‖θ‖);
//! 4. for `skip: outer`, where W has a numerical null vector a: the part of B
//!    that ∂L/∂V = WᵀB cannot see is zero to rounding. Otherwise V + t·a vᵀ
//!    leads down although eigenvalue tolerances may hide it (THEORY §1 item 4).
//! 5. where the activation has kinks: the conditions of [`crate::kink`] up to [`DENSE`]
//!    variables; beyond, and for kinks of a formula whose place is not known in closed form, no
//!    pre-activation may be on or near one.
//!
//! 6. with no penalty on the predictor and cross_entropy, logistic or poisson: the predictor has no
//!    direction of recession ([`unattained`]). Along one the objective falls for ever, so that no
//!    point is a minimum, however small its gradient has become (THEORY §1 item 6).
//!
//! λ_min by three methods: all eigenvalues (`dense`, up to [`DENSE`] variables);
//! a completed Cholesky factorisation (`cholesky`, up to [`CHOLESKY`]); Lanczos with a stated
//! failure probability (`lanczos`), where a sum of squares is near zero on what H has beyond JᵀJ.

mod closed_form;
mod curvature;
mod hidden;
mod unattained;

use common::math::slice::{max_abs, norm, norm_squared};
use common::record::{BaselineEvidence, EigenvalueMethod};
use common::spec::{Loss, Skip, Tolerances};

use self::curvature::Curvature;
pub use self::hidden::escape_directions;
use crate::kink;
use crate::linalg::singular_values;
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
    /// Condition 6.
    Unattained,
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

impl Examination {
    fn take(&mut self, found: Curvature) {
        self.min_eigenvalue = Some(found.smallest);
        self.max_eigenvalue = Some(found.largest);
        self.method = Some(found.method);
        self.failure_probability = found.failure_probability;
        self.newton_step = found.newton_step;
        self.lowest = found.lowest;
        self.refusal = found.refusal;
    }
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
    head: Option<&mut Objective<'_>>,
    theta: &[f64],
    context: &Context<'_>,
) -> Examination {
    let mut e = examine_locally(objective, head, theta, context);
    if e.refusal.is_none() && unattained::falls_for_ever(objective, theta, context) {
        e.refusal = Some(Refusal::Unattained);
    }
    e
}

/// Conditions 1 to 5, which look at the point alone.
fn examine_locally(
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
    closed_form::fill(problem, objective, theta, outer.as_ref(), context, &mut e);

    if let Some(margin) = kink::margin_of_unplaced(objective, &x) {
        e.kink_margin = Some(margin);
        if !(margin > context.tolerances.kink_margin) {
            e.refusal = Some(Refusal::Kink);
            return e;
        }
        objective.ensure_linearized(&x);
    }
    let unplaced = e.kink_margin;
    if objective.has_kinks() && n <= DENSE {
        let settled = on_kinks(objective, head.as_deref_mut(), theta, context, &mut e);
        e.kink_margin = nearer(e.kink_margin, unplaced);
        if settled {
            if let Some(outer) = outer.as_ref().filter(|_| e.refusal.is_none()) {
                e.refusal = hidden_descent(objective, theta, outer, context);
            }
            return e;
        }
        objective.ensure_linearized(&x);
    } else if objective.has_kinks() {
        let (on, margin) = kink::near(&mut kink::Kinked::new(objective), &x);
        e.kinks = u32::try_from(on).unwrap_or(u32::MAX);
        e.kink_margin = nearer(margin, unplaced);
        if on > 0 || !margin.is_none_or(|m| m > context.tolerances.kink_margin) {
            e.refusal = Some(Refusal::Kink);
            return e;
        }
        objective.ensure_linearized(&x);
    }
    let tolerance = context.tolerances.gradient * value.abs().max(1.0);
    if e.gradient_norm > tolerance {
        // The eigenvalues of a point that is not stationary certify nothing.
        if n <= DENSE
            && let Ok(found) = curvature::dense(objective, &gradient, context)
        {
            e.take(found);
        }
        e.refusal = Some(Refusal::Gradient);
        return e;
    }
    let found = if n <= DENSE {
        curvature::dense(objective, &gradient, context)
    } else if let (Some(head), Some(outer)) = (head, &outer) {
        Ok(curvature::in_head(head, outer, theta, context))
    } else {
        let at_zero = curvature::at_zero(objective, &x, &gradient, value, context);
        Ok(at_zero.unwrap_or_else(|| curvature::large(objective, &gradient, context)))
    };
    match found {
        Ok(found) => e.take(found),
        Err(refusal) => e.refusal = Some(refusal),
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
        e.refusal = hidden_descent(objective, theta, outer, context);
    }
    e
}

fn nearer(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::min)
}

/// Condition 4.
fn hidden_descent(
    objective: &mut Objective<'_>,
    theta: &[f64],
    outer: &Outer<'_>,
    context: &Context<'_>,
) -> Option<Refusal> {
    let problem = objective.problem();
    let scale = hidden::slopes_times_z(objective, theta, outer, context);
    hidden::descent(problem, scale, theta.len(), outer)
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
    let values = singular_values(w, d.outputs, d.phi);
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
