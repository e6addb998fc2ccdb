//! The space of variables split by the kinks that are held.
//!
//! With J `[k, n]` the gradients of the held pre-activations, Jᵀ P = Q R gives an
//! orthonormal basis whose first `rank` vectors span the rows of J (the normal
//! space) and whose others span {d : J d = 0} (the tangent space).

use common::math::slice::{axpy, dot, norm};

use crate::linalg::multiply_nt;

/// Rows whose part outside the others is below this share of their length count as dependent.
const DEPENDENT: f64 = 1e-9;

/// See the module page.
pub(super) struct Split {
    pub n: usize,
    pub rank: usize,
    /// `[n, n]`: row i is the i-th basis vector.
    pub basis: Vec<f64>,
    /// Transformed scaled rows: row j begins with column j of R.
    r: Vec<f64>,
    /// Lengths of the rows of J.
    scale: Vec<f64>,
    order: Vec<usize>,
}

impl Split {
    /// Splits R^n by `rows` `[k, n]`.
    pub(super) fn new(rows: &[f64], n: usize) -> Self {
        let k = rows.len().checked_div(n).unwrap_or(0);
        let mut r = rows.to_vec();
        let mut scale = vec![1.0; k];
        for (row, s) in r.chunks_exact_mut(n.max(1)).zip(&mut scale) {
            let length = norm(row);
            if length > 0.0 {
                *s = length;
                row.iter_mut().for_each(|v| *v /= length);
            }
        }
        let mut order: Vec<usize> = (0..k).collect();
        let mut reflectors: Vec<Vec<f64>> = Vec::new();
        for step in 0..k.min(n) {
            let rest = |j: usize| norm(&r[j * n + step..(j + 1) * n]);
            let best = (step..k).fold((step, -1.0), |best, j| {
                let length = rest(j);
                if length > best.1 { (j, length) } else { best }
            });
            if !(best.1 > DEPENDENT) {
                break;
            }
            if best.0 != step {
                order.swap(step, best.0);
                let (a, b) = r.split_at_mut(best.0 * n);
                a[step * n..][..n].swap_with_slice(&mut b[..n]);
            }
            let mut v = r[step * n + step..(step + 1) * n].to_vec();
            let alpha = v[0];
            let beta = if alpha <= 0.0 { best.1 } else { -best.1 };
            v[0] = alpha - beta;
            let factor = (1.0 / (beta * (beta - alpha))).sqrt();
            v.iter_mut().for_each(|x| *x *= factor);
            r[step * n + step] = beta;
            r[step * n + step + 1..(step + 1) * n].fill(0.0);
            for row in r.chunks_exact_mut(n).skip(step + 1) {
                let c = dot(&v, &row[step..]);
                axpy(-c, &v, &mut row[step..]);
            }
            reflectors.push(v);
        }
        let rank = reflectors.len();
        let mut basis = vec![0.0; n * n];
        for (i, row) in basis.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            for (step, v) in reflectors.iter().enumerate().rev() {
                let c = dot(v, &row[step..]);
                axpy(-c, v, &mut row[step..]);
            }
        }
        Self {
            n,
            rank,
            basis,
            r,
            scale,
            order,
        }
    }

    /// Coordinates of a vector in the basis.
    pub(super) fn coordinates(&self, v: &[f64]) -> Vec<f64> {
        self.basis
            .chunks_exact(self.n.max(1))
            .map(|b| dot(b, v))
            .collect()
    }

    /// The vector with these coordinates; missing ones count as 0.
    pub(super) fn combine(&self, first: usize, coordinates: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.n];
        let rows = self.basis.chunks_exact(self.n.max(1)).skip(first);
        for (row, c) in rows.zip(coordinates) {
            axpy(*c, row, &mut out);
        }
        out
    }

    /// H in the basis, `[n, n]`.
    pub(super) fn rotate(&self, h: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut half = vec![0.0; n * n];
        multiply_nt(&self.basis, h, &mut half, n, n, n, false);
        let mut out = vec![0.0; n * n];
        multiply_nt(&half, &self.basis, &mut out, n, n, n, false);
        out
    }

    /// Normal coordinates of the shortest d with J d = e (dependent rows are left out).
    pub(super) fn least_norm(&self, e: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut c = vec![0.0; self.rank];
        for i in 0..self.rank {
            let j = self.order[i];
            let row = &self.r[i * n..][..=i];
            c[i] = (e[j] / self.scale[j] - dot(&row[..i], &c[..i])) / row[i];
        }
        c
    }

    /// y with Jᵀ y = the normal part of a vector, from its coordinates; a basic
    /// solution: dependent rows get 0.
    pub(super) fn multipliers(&self, coordinates: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.order.len()];
        for (i, z) in self
            .solve_upper(&coordinates[..self.rank])
            .iter()
            .enumerate()
        {
            let j = self.order[i];
            y[j] = z / self.scale[j];
        }
        y
    }

    /// z with R z = b.
    fn solve_upper(&self, b: &[f64]) -> Vec<f64> {
        let n = self.n;
        let mut z = b.to_vec();
        for i in (0..self.rank).rev() {
            z[i] /= self.r[i * n + i];
            let (v, row) = (z[i], &self.r[i * n..][..i]);
            axpy(-v, row, &mut z[..i]);
        }
        z
    }

    /// A basis of {y : Jᵀ y = 0}, one vector a dependent row.
    pub(super) fn dependencies(&self) -> Vec<Vec<f64>> {
        let of = |d: usize| {
            let mut y = vec![0.0; self.order.len()];
            let z = self.solve_upper(&self.r[d * self.n..][..self.rank]);
            for (i, z) in z.iter().enumerate() {
                y[self.order[i]] = -z / self.scale[self.order[i]];
            }
            y[self.order[d]] = 1.0 / self.scale[self.order[d]];
            y
        };
        (self.rank..self.order.len()).map(of).collect()
    }

    /// Whether every row is independent of the others.
    pub(super) fn is_independent(&self) -> bool {
        self.rank == self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basis_is_orthonormal_and_splits_by_the_rows() {
        let rng = common::rng::Philox::new(3);
        let draw = |i: usize, j: u32| rng.normal(common::rng::Purpose::Estimate, 0, i as u32, j);
        for (n, k) in [(1, 1), (5, 2), (9, 9), (6, 0)] {
            let j: Vec<f64> = (0..n * k).map(|i| 10.0 * draw(i, 0)).collect();
            let s = Split::new(&j, n);
            assert_eq!(s.rank, k);
            for a in 0..n {
                for b in 0..n {
                    let got = dot(&s.basis[a * n..][..n], &s.basis[b * n..][..n]);
                    assert!((got - f64::from(u8::from(a == b))).abs() < 1e-14);
                }
            }
            for row in j.chunks_exact(n) {
                assert!(s.coordinates(row)[k..].iter().all(|c| c.abs() < 1e-13));
            }
            let e: Vec<f64> = (0..k).map(|i| draw(i, 1)).collect();
            let d = s.combine(0, &s.least_norm(&e));
            for (row, e) in j.chunks_exact(n).zip(&e) {
                assert!((dot(row, &d) - e).abs() < 1e-11);
            }
            let mut g = vec![0.0; n];
            for (row, e) in j.chunks_exact(n).zip(&e) {
                axpy(*e, row, &mut g);
            }
            let y = s.multipliers(&s.coordinates(&g));
            assert!(y.iter().zip(&e).all(|(a, b)| (a - b).abs() < 1e-11));
        }
    }

    #[test]
    fn a_row_that_repeats_others_is_left_out() {
        let j = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0, 3.0];
        let s = Split::new(&j, 3);
        assert_eq!(s.rank, 2);
        assert!(!s.is_independent());
        let null = s.dependencies();
        assert_eq!(null.len(), 1);
        for c in 0..3 {
            let sum: f64 = (0..3).map(|r| null[0][r] * j[3 * r + c]).sum();
            assert!(sum.abs() < 1e-13);
        }
        let d = s.combine(0, &s.least_norm(&[1.0, 2.0, 3.0]));
        for (row, e) in j.chunks_exact(3).zip([1.0, 2.0, 3.0]) {
            assert!((dot(row, &d) - e).abs() < 1e-13);
        }
    }
}
