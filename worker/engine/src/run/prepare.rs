//! Badly scaled starts: the head solved, the body drawn in, the variables scaled.
//!
//! With activations that grow (quadratic, cubic, formulas) or starts at a large
//! scale, z may be 10³ or 10³⁰ times larger than φ. Then F has curvatures that
//! differ by the square of that, and no first-order method moves. Where the
//! root mean square of z exceeds [`LARGE`] (or is not finite) the descent is
//! therefore prepared:
//!
//! * along the ray u → c·u, c = 1, 0.7, 0.49, …, the head (R₁, R₂) is solved
//!   exactly (a convex problem) and the best c is kept, if it lowers F;
//! * L-BFGS works on R₂·rms(z_j) instead of R₂ (a diagonal scaling).
//!
//! Ordinary starts are left exactly as they are.

use super::{Run, Stage};
use crate::linear::LinearProblem;
use crate::objective::Chart;
use common::spec::Optimizer as Method;

/// Root mean square of z above which a start counts as badly scaled.
const LARGE: f64 = 30.0;
/// Above this even squares overflow in later steps: treated as not finite.
const HUGE: f64 = 1e12;

impl Run<'_> {
    /// Leaves the start in a state from which descent works.
    pub(super) fn prepare(&mut self) {
        if self.setup.method == Method::Auto && self.state.chart == Chart::Head {
            let columns = self.columns();
            if columns.iter().any(|c| !(*c <= LARGE)) && !self.setup.frozen {
                self.draw_in();
            }
            let columns = self.columns();
            let x = self.variables();
            let scale = self.scale_of(&columns, x.len());
            self.state.stage = self.descent_from(x, scale);
        } else {
            self.state.stage = self.begin_method();
        }
    }

    /// A fresh descent with another scaling, if z has changed its size by 10.
    pub(super) fn rescaled(&mut self, scale: &[f64], _iterations: u64) -> Option<Stage> {
        if self.state.chart != Chart::Head {
            return None;
        }
        let columns = self.columns();
        let x = self.variables();
        let next = self.scale_of(&columns, x.len());
        let far = next
            .iter()
            .zip(scale)
            .any(|(a, b)| a / b > 10.0 || b / a > 10.0);
        if !far {
            return None;
        }
        if columns.iter().any(|c| !(*c <= LARGE)) && !self.setup.frozen {
            self.draw_in();
            let columns = self.columns();
            let x = self.variables();
            let scale = self.scale_of(&columns, x.len());
            return Some(self.descent_from(x, scale));
        }
        Some(self.descent_from(x, next))
    }

    /// Root mean squares of the columns of z at the current head point.
    fn columns(&mut self) -> Vec<f64> {
        let d = self.problem().dims();
        let q = self.state.x.clone();
        let z = self.objective().evaluator().representation(&q);
        let mut squares = vec![0.0; d.z];
        for row in z.chunks_exact(d.z.max(1)) {
            for (s, v) in squares.iter_mut().zip(row) {
                *s += v * v;
            }
        }
        squares.iter().map(|s| (s / d.rows as f64).sqrt()).collect()
    }

    /// Per variable: rms(z_j) for the entries of R₂ in column j where that is above 1.
    fn scale_of(&self, columns: &[f64], n: usize) -> Vec<f64> {
        let d = self.problem().dims();
        let mut scale = vec![1.0; n];
        let first = d.outputs * d.phi;
        for k in 0..d.outputs {
            for (j, c) in columns.iter().enumerate() {
                if *c > 1.0 && c.is_finite() {
                    scale[first + k * d.z + j] = *c;
                }
            }
        }
        scale
    }

    /// The best point of the ray u → c·u with the head solved, if it is lower.
    fn draw_in(&mut self) {
        const FACTOR: f64 = 0.7;
        let problem = self.problem();
        let d = problem.dims();
        let head = d.outputs * (d.phi + d.z);
        let start = self.state.x.clone();
        let decay = problem.regularizer().body_decay;
        let linear = self.setup.linear;
        let mut g = vec![0.0; self.objective().len()];
        let x = self.variables();
        let mut work = self.state.work;
        self.objective().work = work;
        let now = self.objective().value_gradient(&x, &mut g);
        let mut best: Option<(f64, Vec<f64>)> = None;
        let mut c = 1.0;
        let mut worse = 0;
        // At most 0.7^200 ~ 1e-31; a few steps once z is of ordinary size.
        for _ in 0..200 {
            let mut q = start.clone();
            q[head..].iter_mut().for_each(|u| *u *= c);
            c *= FACTOR;
            let objective = self.objective();
            objective.work.gradients += 1;
            objective.work.evaluations += 1;
            let isa = objective.evaluator().isa();
            let z = objective.evaluator().representation(&q);
            if z.iter().any(|v| !(v.abs() <= HUGE)) {
                continue;
            }
            let width = d.phi + d.z;
            let mut features = Vec::with_capacity(d.rows * width);
            for i in 0..d.rows {
                features.extend_from_slice(&linear.features[i * d.phi..][..d.phi]);
                features.extend_from_slice(&z[i * d.z..][..d.z]);
            }
            let fit = LinearProblem {
                features: &features,
                width,
                ..linear
            }
            .solve(isa, None);
            for k in 0..d.outputs {
                let row = &fit.r[k * width..][..width];
                q[k * d.phi..][..d.phi].copy_from_slice(&row[..d.phi]);
                q[d.outputs * d.phi + k * d.z..][..d.z].copy_from_slice(&row[d.phi..]);
            }
            let body = common::math::slice::norm_squared(&q[head..]);
            let value = fit.value + 0.5 * decay * body;
            if value.is_finite() && best.as_ref().is_none_or(|b| value < b.0) {
                best = Some((value, q));
                worse = 0;
            } else {
                worse += 1;
                if worse >= 3 && best.is_some() {
                    break;
                }
            }
        }
        work = self.objective().work;
        self.state.work = work;
        if let Some((value, q)) = best
            && !(now <= value)
        {
            self.state.x = q;
        }
    }
}
