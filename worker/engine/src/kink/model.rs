//! The composite model at a point and its minimiser.
//!
//! min over d of g₁ᵀd + ½ dᵀM d + Σ_k c_k |e_k + J_k d|, with e = t − τ,
//! g₁ = ∇L_S − Σ c_k s_k J_kᵀ and M = |H| + μI, where |H| takes the tangent and
//! the normal part of H apart: at most minima H is indefinite across the kinks,
//! and the absolute values of the whole matrix make the descent crawl.
//!
//! The dual is a program in the box |y_k| ≤ c_k with Q = J M⁻¹ Jᵀ and
//! b = J M⁻¹ g₁ − e; then d = −M⁻¹(g₁ + Jᵀ y).

use common::math::slice::{axpy, dot};

use super::field::Group;
use super::qp;
use super::split::Split;
use crate::linalg::{Cholesky, SymmetricEigen};

/// Eigenvalues closer to zero count as this.
const FLOOR: f64 = 1e-9;

/// |H| + μI on one of the two spaces.
enum Part {
    Factor(Cholesky),
    Eigen(SymmetricEigen, f64),
    Empty,
}

impl Part {
    fn new(h: &[f64], n: usize, mu: f64) -> Self {
        if n == 0 {
            return Self::Empty;
        }
        let mut shifted = h.to_vec();
        for i in 0..n {
            shifted[i * n + i] -= FLOOR;
        }
        // Positive definite: |H| is H.
        if Cholesky::new(shifted, n).is_ok() {
            let mut shifted = h.to_vec();
            for i in 0..n {
                shifted[i * n + i] += mu;
            }
            if let Ok(factor) = Cholesky::new(shifted, n) {
                return Self::Factor(factor);
            }
        }
        Self::Eigen(SymmetricEigen::new(h.to_vec(), n), mu)
    }

    fn solve(&self, x: &mut [f64]) {
        match self {
            Self::Empty => {}
            Self::Factor(f) => f.solve(x),
            Self::Eigen(e, mu) => {
                let mut out = vec![0.0; x.len()];
                for (i, w) in e.values.iter().enumerate() {
                    let v = e.vector(i);
                    axpy(dot(v, x) / (w.abs().max(FLOOR) + mu), v, &mut out);
                }
                x.copy_from_slice(&out);
            }
        }
    }
}

/// M at one point, for one damping.
pub(super) struct Model {
    split: Split,
    tangent: Part,
    normal: Part,
}

impl Model {
    /// From H `[n, n]` and the gradients of the held kinks.
    pub(super) fn new(h: &[f64], held: &[f64], n: usize, mu: f64) -> Self {
        let split = Split::new(held, n);
        let k = split.rank;
        let rotated = split.rotate(h);
        let block = |first: usize, size: usize| -> Vec<f64> {
            let mut out = Vec::with_capacity(size * size);
            for i in first..first + size {
                out.extend_from_slice(&rotated[i * n + first..][..size]);
            }
            out
        };
        Self {
            tangent: Part::new(&block(k, n - k), n - k, mu),
            normal: Part::new(&block(0, k), k, mu),
            split,
        }
    }

    /// M⁻¹ v.
    pub(super) fn solve(&self, v: &[f64]) -> Vec<f64> {
        let mut c = self.split.coordinates(v);
        let (normal, tangent) = c.split_at_mut(self.split.rank);
        self.normal.solve(normal);
        self.tangent.solve(tangent);
        self.split.combine(0, &c)
    }
}

/// A minimiser of the model.
pub(super) struct Step {
    pub d: Vec<f64>,
    /// y_k = σ_k c_k of the groups.
    pub y: Vec<f64>,
    /// Model at 0 minus model at d.
    pub predicted: f64,
}

/// The growing program of one step: groups are added as the step turns out to cross them.
pub(super) struct Program<'m> {
    model: &'m Model,
    g1: Vec<f64>,
    base: Vec<f64>,
    rows: Vec<Vec<f64>>,
    solved: Vec<Vec<f64>>,
    weights: Vec<f64>,
    distances: Vec<f64>,
    y: Vec<f64>,
}

impl<'m> Program<'m> {
    /// Without kinks; `gradient` is ∇L_S.
    pub(super) fn new(model: &'m Model, gradient: &[f64]) -> Self {
        Self {
            model,
            g1: gradient.to_vec(),
            base: model.solve(gradient),
            rows: Vec::new(),
            solved: Vec::new(),
            weights: Vec::new(),
            distances: Vec::new(),
            y: Vec::new(),
        }
    }

    /// Adds a kink with its weight, at the sign that ∇L_S was taken with.
    pub(super) fn add(&mut self, group: &Group, row: &[f64], sign: f64) {
        let solved = self.model.solve(row);
        let c = group.weight;
        axpy(-c * sign, row, &mut self.g1);
        axpy(-c * sign, &solved, &mut self.base);
        self.rows.push(row.to_vec());
        self.solved.push(solved);
        self.weights.push(c);
        self.distances.push(group.distance);
        self.y.push(c * sign);
    }

    /// Solves with all kinks added so far.
    pub(super) fn solve(&mut self) -> Step {
        let k = self.rows.len();
        let mut q = vec![0.0; k * k];
        let mut b = vec![0.0; k];
        for i in 0..k {
            for j in 0..=i {
                let v = dot(&self.rows[i], &self.solved[j]);
                q[i * k + j] = v;
                q[j * k + i] = v;
            }
            b[i] = dot(&self.rows[i], &self.base) - self.distances[i];
        }
        self.y = qp::solve(&q, &b, &self.weights, std::mem::take(&mut self.y));
        let mut d = self.base.clone();
        let mut slope = self.g1.clone();
        for (y, (row, solved)) in self.y.iter().zip(self.rows.iter().zip(&self.solved)) {
            axpy(*y, solved, &mut d);
            axpy(*y, row, &mut slope);
        }
        d.iter_mut().for_each(|v| *v = -*v);
        // dᵀMd = −(g₁ + Jᵀy)·d.
        let mut change = dot(&self.g1, &d) - 0.5 * dot(&slope, &d);
        for ((row, c), e) in self.rows.iter().zip(&self.weights).zip(&self.distances) {
            change += c * ((e + dot(row, &d)).abs() - e.abs());
        }
        Step {
            d,
            y: self.y.clone(),
            predicted: -change,
        }
    }
}
