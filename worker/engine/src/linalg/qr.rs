//! Rank-revealing QR.

use common::math::slice::{axpy, dot, norm_squared};

/// A P = Q R by Householder reflections with column pivoting.
///
/// Method: Businger & Golub 1965; Golub & Van Loan §5.4.2. Columns are stored
/// as rows, so that every pass reads memory in order. Column norms are
/// recomputed instead of downdated: a few percent more work, and no
/// cancellation to guard against.
#[derive(Clone, Debug)]
pub struct PivotedQr {
    /// Row j: below the diagonal the reflector of column j, above it R.
    columns: Vec<f64>,
    /// R's diagonal.
    diagonal: Vec<f64>,
    /// Position j of the factorisation is this column of A.
    pub permutation: Vec<usize>,
    /// Numerical rank: |R_jj| > n ε |R_00| (n the larger dimension).
    pub rank: usize,
    rows: usize,
    cols: usize,
}

impl PivotedQr {
    /// Factors A given by its columns: `columns` is `[cols, rows]`, row-major.
    ///
    /// # Panics
    /// If the slice has another size.
    pub fn new(mut columns: Vec<f64>, rows: usize, cols: usize) -> Self {
        assert_eq!(columns.len(), rows * cols, "a matrix by columns");
        let steps = rows.min(cols);
        let mut permutation: Vec<usize> = (0..cols).collect();
        let mut diagonal = vec![0.0; steps];
        let mut rank = 0;
        let tolerance = rows.max(cols) as f64 * f64::EPSILON;
        for k in 0..steps {
            let best = (k..cols)
                .map(|j| (j, norm_squared(&columns[j * rows + k..(j + 1) * rows])))
                .fold(
                    (k, -1.0),
                    |best, (j, norm)| if norm > best.1 { (j, norm) } else { best },
                );
            if best.0 != k {
                permutation.swap(k, best.0);
                let (a, b) = columns.split_at_mut(best.0 * rows);
                a[k * rows..][..rows].swap_with_slice(&mut b[..rows]);
            }
            let (head, rest) = columns.split_at_mut((k + 1) * rows);
            let v = &mut head[k * rows + k..];
            let alpha = v[0];
            let norm = best.1.max(0.0).sqrt();
            if norm == 0.0 {
                break;
            }
            let beta = if alpha <= 0.0 { norm } else { -norm };
            diagonal[k] = beta;
            if beta.abs() > tolerance * diagonal[0].abs() {
                rank = k + 1;
            } else {
                break;
            }
            let scale = (1.0 / (beta * (beta - alpha))).sqrt();
            v[0] = alpha - beta;
            v.iter_mut().for_each(|x| *x *= scale);
            let v = &*v;
            for column in rest.chunks_exact_mut(rows) {
                let c = dot(v, &column[k..]);
                axpy(-c, v, &mut column[k..]);
            }
        }
        Self {
            columns,
            diagonal,
            permutation,
            rank,
            rows,
            cols,
        }
    }

    /// b ← Qᵀ b (the reflectors of the numerical rank).
    ///
    /// # Panics
    /// If `b` has not A's number of rows.
    pub fn apply_transpose(&self, b: &mut [f64]) {
        assert_eq!(b.len(), self.rows, "right-hand side");
        for k in 0..self.rank {
            let v = &self.columns[k * self.rows + k..(k + 1) * self.rows];
            let c = dot(v, &b[k..]);
            axpy(-c, v, &mut b[k..]);
        }
    }

    /// b ← (I − Q₁Q₁ᵀ) b, Q₁ an orthonormal basis of A's numerical range.
    ///
    /// # Panics
    /// If `b` has not A's number of rows.
    pub fn project_out(&self, b: &mut [f64]) {
        self.apply_transpose(b);
        b[..self.rank].fill(0.0);
        for k in (0..self.rank).rev() {
            let v = &self.columns[k * self.rows + k..(k + 1) * self.rows];
            let c = dot(v, &b[k..]);
            axpy(-c, v, &mut b[k..]);
        }
    }

    /// A basic solution of min ‖A x − b‖: columns beyond the rank get 0.
    ///
    /// # Panics
    /// If `b` has not A's number of rows.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut c = b.to_vec();
        self.apply_transpose(&mut c);
        let mut y = vec![0.0; self.rank];
        for i in (0..self.rank).rev() {
            let mut v = c[i];
            for (j, y) in y.iter().enumerate().skip(i + 1) {
                // R_ij stands in column j at row i.
                v -= self.columns[j * self.rows + i] * y;
            }
            y[i] = v / self.diagonal[i];
        }
        let mut x = vec![0.0; self.cols];
        for (y, &j) in y.iter().zip(&self.permutation) {
            x[j] = *y;
        }
        x
    }

    /// Sum of squares of what A cannot reach in `b`.
    ///
    /// # Panics
    /// If `b` has not A's number of rows.
    pub fn residual_squared(&self, b: &[f64]) -> f64 {
        let mut c = b.to_vec();
        self.apply_transpose(&mut c);
        norm_squared(&c[self.rank..])
    }
}
