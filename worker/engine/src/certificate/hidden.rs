//! Directions of descent that eigenvalue tolerances hide (THEORY §1 item 4).

use common::math::slice::{axpy, dot, norm};
use common::spec::Skip;

use super::{Context, Outer, Refusal};
use crate::linalg::{Svd, multiply, transpose};
use crate::linear::LinearProblem;
use crate::objective::{Objective, Problem};

/// Condition 4. With W = Σ σ_i u_i v_iᵀ, the gradient ∂L/∂V = WᵀB bounds the
/// components u_iᵀB with σ_i > 0 by its tolerance over σ_i; what lies outside
/// those u_i must vanish by itself, to the rounding of B = mean g zᵀ.
pub(super) fn descent(
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
pub(super) fn slopes_times_z(
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
