//! Singular values and vectors of small matrices.

use common::math::slice::{axpy, dot, norm_squared};

/// A = Σ σ_k u_k v_kᵀ for a `[rows, cols]` matrix with rows ≤ cols.
///
/// Method: one-sided Jacobi on the rows (Hestenes 1958; de Rijk 1989), which
/// finds small singular values to high relative accuracy.
#[derive(Clone, Debug)]
pub struct Svd {
    /// Descending.
    pub values: Vec<f64>,
    /// Row k is u_k, `[rows, rows]`.
    pub left: Vec<f64>,
    /// Row k is v_k, `[rows, cols]`; zero where σ_k = 0.
    pub right: Vec<f64>,
}

impl Svd {
    /// Decomposes the row-major matrix `a`.
    ///
    /// # Panics
    /// If the slice has another size or rows > cols.
    pub fn new(a: &[f64], rows: usize, cols: usize) -> Self {
        /// Sweeps; Jacobi needs 5 to 10.
        const SWEEPS: usize = 60;
        assert_eq!(a.len(), rows * cols, "a matrix");
        assert!(rows <= cols, "more rows than columns: transpose first");
        let mut x = a.to_vec();
        let mut left = vec![0.0; rows * rows];
        for i in 0..rows {
            left[i * rows + i] = 1.0;
        }
        for _ in 0..SWEEPS {
            let mut rotated = false;
            for i in 0..rows {
                for j in i + 1..rows {
                    let (xi, xj) = pair(&mut x, cols, i, j);
                    let (a, b, c) = (norm_squared(xi), norm_squared(xj), dot(xi, xj));
                    if !(c.abs() > f64::EPSILON * (a * b).sqrt()) {
                        continue;
                    }
                    rotated = true;
                    let zeta = (b - a) / (2.0 * c);
                    let t = 1.0_f64.copysign(zeta) / (zeta.abs() + zeta.mul_add(zeta, 1.0).sqrt());
                    let cosine = 1.0 / t.mul_add(t, 1.0).sqrt();
                    let sine = cosine * t;
                    rotate(xi, xj, cosine, sine);
                    let (ui, uj) = pair(&mut left, rows, i, j);
                    rotate(ui, uj, cosine, sine);
                }
            }
            if !rotated {
                break;
            }
        }
        let norms: Vec<f64> = x
            .chunks_exact(cols.max(1))
            .map(|r| norm_squared(r).sqrt())
            .collect();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&i, &j| norms[j].total_cmp(&norms[i]));
        let mut right = Vec::with_capacity(rows * cols);
        let mut sorted_left = Vec::with_capacity(rows * rows);
        for &i in &order {
            let scale = if norms[i] > 0.0 { 1.0 / norms[i] } else { 0.0 };
            right.extend(x[i * cols..][..cols].iter().map(|v| v * scale));
            sorted_left.extend_from_slice(&left[i * rows..][..rows]);
        }
        Self {
            values: order.iter().map(|&i| norms[i]).collect(),
            left: sorted_left,
            right,
        }
    }

    /// X of least norm that minimises ‖A X − B‖; B is `[rows, n]`, X `[cols, n]`, row-major.
    ///
    /// Singular values below 1e-12 of the largest count as 0.
    pub fn solve(&self, b: &[f64], n: usize) -> Vec<f64> {
        let rows = self.values.len();
        let cols = self.right.len() / rows.max(1);
        let cut = 1e-12 * self.values.first().copied().unwrap_or(0.0);
        let mut x = vec![0.0; cols * n];
        let mut projected = vec![0.0; n];
        for (k, sigma) in self.values.iter().enumerate().filter(|v| *v.1 > cut) {
            projected.fill(0.0);
            for (i, u) in self.left[k * rows..][..rows].iter().enumerate() {
                axpy(u / sigma, &b[i * n..][..n], &mut projected);
            }
            for (j, v) in self.right[k * cols..][..cols].iter().enumerate() {
                axpy(*v, &projected, &mut x[j * n..][..n]);
            }
        }
        x
    }
}

fn pair(x: &mut [f64], cols: usize, i: usize, j: usize) -> (&mut [f64], &mut [f64]) {
    let (a, b) = x.split_at_mut(j * cols);
    (&mut a[i * cols..][..cols], &mut b[..cols])
}

fn rotate(x: &mut [f64], y: &mut [f64], c: f64, s: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        let (a, b) = (*x, *y);
        *x = c * a - s * b;
        *y = s * a + c * b;
    }
}

/// Singular values of any row-major matrix `[rows, cols]`, descending;
/// min(rows, cols) of them.
pub fn singular_values(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    if rows <= cols {
        Svd::new(a, rows, cols).values
    } else {
        Svd::new(&super::transpose(a, rows, cols), cols, rows).values
    }
}

/// W⁺ X for W `[rows, cols]`, X `[rows, k]`; singular values below 1e-9 of the
/// largest count as zero.
pub fn pseudo_inverse_times(w: &[f64], rows: usize, cols: usize, x: &[f64], k: usize) -> Vec<f64> {
    // Work on the wide orientation: W = Σ σ u vᵀ.
    let (svd, flipped) = if rows <= cols {
        (Svd::new(w, rows, cols), false)
    } else {
        (Svd::new(&super::transpose(w, rows, cols), cols, rows), true)
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
