//! What THEORY §2 has in closed form: ‖A‖, ‖B‖, the gap bound, the induced value, σ_min(W), ‖WV‖.

use common::math::Isa;
use common::math::slice::{dot, norm};
use common::record::Attainment;
use common::spec::{Loss, Skip};

use super::{Context, Examination, Outer};
use crate::linalg::{multiply, singular_values};
use crate::linear::LinearProblem;
use crate::objective::{Objective, Problem};

/// Fills in what holds at θ, whatever the curvature.
pub(super) fn fill(
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
    isa: Isa,
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
    let values = singular_values(w, rows, cols);
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
