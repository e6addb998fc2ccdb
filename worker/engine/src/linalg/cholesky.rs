//! Cholesky factorisation.

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};

/// The matrix has no Cholesky factor in floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("matrix is not positive definite: pivot {pivot} is not positive")]
pub struct NotPositiveDefinite {
    /// The first pivot that failed.
    pub pivot: usize,
}

/// H = L Lᵀ.
#[derive(Clone, Debug)]
pub struct Cholesky {
    l: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Factors the symmetric matrix `h` `[n, n]` (its lower triangle is read).
    ///
    /// Method: row by row, every entry one dot product with the fixed order of
    /// `common::math`, four rows at a time to reuse what was loaded. Cost: n³/3.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] at the first pivot that is not a positive number.
    ///
    /// # Panics
    /// If `h` is not n × n.
    pub fn new(mut h: Vec<f64>, n: usize) -> Result<Self, NotPositiveDefinite> {
        assert_eq!(h.len(), n * n, "a square matrix");
        for i0 in (0..n).step_by(BAND) {
            let rows = BAND.min(n - i0);
            let (above, band) = h.split_at_mut(i0 * n);
            // Columns before the band: solve against the finished rows.
            for j in 0..i0 {
                let done = &above[j * n..][..=j];
                let sums = dots(band, n, rows, &done[..j]);
                for (r, sum) in sums.into_iter().enumerate().take(rows) {
                    band[r * n + j] = (band[r * n + j] - sum) / done[j];
                }
            }
            // Within the band.
            for j in i0..i0 + rows {
                let r = j - i0;
                let own = common::math::slice::norm_squared(&band[r * n..][..j]);
                let pivot = band[r * n + j] - own;
                if !(pivot > 0.0 && pivot < f64::INFINITY) {
                    return Err(NotPositiveDefinite { pivot: j });
                }
                let root = pivot.sqrt();
                band[r * n + j] = root;
                for below in r + 1..rows {
                    let (upper, lower) = band.split_at_mut(below * n);
                    let sum = common::math::slice::dot(&upper[r * n..][..j], &lower[..j]);
                    lower[j] = (lower[j] - sum) / root;
                }
            }
        }
        Ok(Self { l: h, n })
    }

    /// The factor's memory.
    pub fn into_room(self) -> Vec<f64> {
        self.l
    }

    /// x ← H⁻¹ x.
    pub fn solve(&self, x: &mut [f64]) {
        self.solve_lower(x);
        self.solve_upper(x);
    }

    /// x ← L⁻¹ x.
    pub fn solve_lower(&self, x: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            let row = &self.l[i * n..][..=i];
            x[i] = (x[i] - common::math::slice::dot(&row[..i], &x[..i])) / row[i];
        }
    }

    /// x ← L⁻ᵀ x.
    pub fn solve_upper(&self, x: &mut [f64]) {
        let n = self.n;
        for i in (0..n).rev() {
            let row = &self.l[i * n..][..=i];
            let v = x[i] / row[i];
            x[i] = v;
            common::math::slice::axpy(-v, &row[..i], &mut x[..i]);
        }
    }

    /// log det H = 2 Σ log L_ii would need a logarithm; this is min and max of L_ii².
    pub fn pivot_range(&self) -> (f64, f64) {
        (0..self.n).fold((f64::INFINITY, 0.0), |(low, high), i| {
            let d = self.l[i * self.n + i];
            (f64::min(low, d * d), f64::max(high, d * d))
        })
    }
}

/// Rows of a band.
const BAND: usize = 4;

/// Dot products of up to four rows of `band` with `x`; each in the order of `dot`.
fn dots(band: &[f64], n: usize, rows: usize, x: &[f64]) -> [f64; BAND] {
    if rows < BAND {
        let mut out = [0.0; BAND];
        for (r, out) in out.iter_mut().enumerate().take(rows) {
            *out = common::math::slice::dot(&band[r * n..][..x.len()], x);
        }
        return out;
    }
    #[inline(always)]
    fn generic<S: Simd>(s: S, a: &[f64], b: &[f64], c: &[f64], d: &[f64], x: &[f64]) -> [f64; 4] {
        let mut acc = [s.splat(0.0); 4];
        let n = x.len() / LANES * LANES;
        let mut i = 0;
        while i < n {
            let v = s.load_slice(&x[i..]);
            for (acc, row) in acc.iter_mut().zip([a, b, c, d]) {
                *acc = s.fma(s.load_slice(&row[i..]), v, *acc);
            }
            i += LANES;
        }
        if n < x.len() {
            let pad = |r: &[f64]| {
                let mut out = [0.0; LANES];
                out[..x.len() - n].copy_from_slice(&r[n..x.len()]);
                out
            };
            let v = s.load(&pad(x));
            for (acc, row) in acc.iter_mut().zip([a, b, c, d]) {
                *acc = s.fma(s.load(&pad(row)), v, *acc);
            }
        }
        [s.sum(acc[0]), s.sum(acc[1]), s.sum(acc[2]), s.sum(acc[3])]
    }
    let row = |r: usize| &band[r * n..][..x.len()];
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let isa = Isa::current();
    dispatch!(isa => [f64; 4], generic, a: &[f64], b: &[f64], c: &[f64], d: &[f64], x: &[f64])
}
