//! Eigenvalues and eigenvectors of dense symmetric matrices.

use super::tridiagonal::{Tridiagonal, ql};

/// H = V diag(λ) Vᵀ.
#[derive(Clone, Debug)]
pub struct SymmetricEigen {
    /// Ascending.
    pub values: Vec<f64>,
    /// Row i is the unit eigenvector of `values[i]`.
    pub vectors: Vec<f64>,
}

impl SymmetricEigen {
    /// Decomposes the symmetric matrix `h` `[n, n]`, which is used up.
    ///
    /// Method: tridiagonal reduction, then implicit QL with the rotations
    /// applied to the rows of Qᵀ. Cost: about 9n³ flops.
    ///
    /// # Panics
    /// If `h` is not n × n.
    pub fn new(h: Vec<f64>, n: usize) -> Self {
        let t = Tridiagonal::reduce(h, n);
        // Rows of Qᵀ: e_iᵀ Qᵀ = (Q e_i)ᵀ.
        let mut rows = vec![0.0; n * n];
        for (i, row) in rows.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            t.apply(row);
        }
        let mut d = t.diagonal.clone();
        let mut e = t.off.clone();
        e.push(0.0);
        if n > 0 {
            ql(&mut d, &mut e, |i, c, s| {
                let (a, b) = rows.split_at_mut((i + 1) * n);
                let (a, b) = (&mut a[i * n..], &mut b[..n]);
                for (x, y) in a.iter_mut().zip(b) {
                    let f = *y;
                    *y = s * *x + c * f;
                    *x = c * *x - s * f;
                }
            });
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| d[i].total_cmp(&d[j]));
        let mut vectors = Vec::with_capacity(n * n);
        for &i in &order {
            vectors.extend_from_slice(&rows[i * n..][..n]);
        }
        Self {
            values: order.iter().map(|&i| d[i]).collect(),
            vectors,
        }
    }

    /// The i-th eigenvector.
    pub fn vector(&self, i: usize) -> &[f64] {
        let n = self.values.len();
        &self.vectors[i * n..][..n]
    }
}

/// Eigenvalues of the symmetric matrix `h` `[n, n]`, ascending.
pub fn eigenvalues(h: Vec<f64>, n: usize) -> Vec<f64> {
    Tridiagonal::reduce(h, n).eigenvalues()
}
