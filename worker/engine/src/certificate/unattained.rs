//! Where the objective falls for ever, nothing is a minimum (THEORY §1 item 6).

use common::record::Attainment;
use common::spec::Skip;

use super::Context;
use crate::baseline;
use crate::linalg::multiply;
use crate::linear::LinearProblem;
use crate::objective::Objective;

/// Condition 6: whether the predictor, linear in what the body computes at θ, has a direction of
/// recession that parameters can follow. Exact steps, whatever their length, lead along it:
///
/// * `skip: outer` with d_y ≤ d_φ: (R₁, R₂) = (W, WV) on [φ, z]. At a local minimum they are
///   the global one for this z (Kawaguchi & Bengio, theorem 1), so an infimum that is not attained,
///   by them or by R on φ alone, leaves no local minimum;
/// * `skip: outer` with d_y > d_φ: W on φ + Vz; `skip: none`: (W, c) on [z, 1]; `skip: chain`: W on x_H.
pub(super) fn falls_for_ever(
    objective: &mut Objective<'_>,
    theta: &[f64],
    context: &Context<'_>,
) -> bool {
    let problem = objective.problem();
    let penalties = problem.regularizer();
    let Some(linear) = context.linear else {
        return false;
    };
    if penalties.predictor_ridge + penalties.head_decay > 0.0 {
        return false;
    }
    let dims = problem.dims();
    let free_head = problem.skip() == Skip::Outer && dims.outputs <= dims.phi;
    let unattained =
        |b: &common::record::BaselineEvidence| b.status == Attainment::InfimumNotAttained;
    if free_head && context.baseline.is_some_and(unattained) {
        return true;
    }
    let isa = objective.evaluator().isa();
    let z = objective.representation(theta);
    let (features, head) = predictor(objective, theta, &z, &linear, free_head);
    let fit = LinearProblem {
        features: &features,
        width: head.len() / dims.outputs,
        ridge: 0.0,
        free: &[],
        ..linear
    };
    baseline::falls_for_ever(&fit, &head, isa)
}

/// Features `[n, d]` of the linear predictor and the run's own coefficients `[d_y, d]`.
fn predictor(
    objective: &Objective<'_>,
    theta: &[f64],
    z: &[f64],
    linear: &LinearProblem<'_>,
    free_head: bool,
) -> (Vec<f64>, Vec<f64>) {
    let problem = objective.problem();
    let dims = problem.dims();
    let (n, k) = (linear.rows(), dims.outputs);
    let beside = |left: &[f64], l: usize, right: &[f64], r: usize, rows: usize| -> Vec<f64> {
        (0..rows)
            .flat_map(|i| left[i * l..][..l].iter().chain(&right[i * r..][..r]))
            .copied()
            .collect()
    };
    match problem.skip() {
        Skip::Outer if free_head => {
            let mut q = vec![0.0; problem.program_len()];
            Objective::to_program(problem, theta, &mut q);
            let (r1, rest) = q.split_at(k * dims.phi);
            (
                beside(linear.features, dims.phi, z, dims.z, n),
                beside(r1, dims.phi, rest, dims.z, k),
            )
        }
        Skip::Outer => {
            let (w, rest) = theta.split_at(k * dims.phi);
            // φ + Vz, row by row: z Vᵀ added to φ.
            let v = crate::linalg::transpose(&rest[..dims.phi * dims.z], dims.phi, dims.z);
            let mut features = linear.features.to_vec();
            multiply(z, &v, &mut features, n, dims.z, dims.phi, true);
            (features, w.to_vec())
        }
        Skip::None => {
            let (w, rest) = theta.split_at(k * dims.z);
            (
                beside(z, dims.z, &vec![1.0; n], 1, n),
                beside(w, dims.z, rest, 1, k),
            )
        }
        Skip::Chain => (z.to_vec(), theta[..k * dims.phi].to_vec()),
    }
}
