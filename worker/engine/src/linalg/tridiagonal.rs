//! Symmetric matrices to tridiagonal form, and what can be solved there.

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};
use common::math::slice::{axpy, dot, dots, norm_squared};
use serde::{Deserialize, Serialize};

/// H = Q T Qᵀ with T tridiagonal and Q a product of Householder reflectors.
///
/// Method: Householder reduction, Golub & Van Loan, *Matrix Computations*
/// (4th ed.), §8.3.1, on the full symmetric storage so that every pass reads
/// memory in order. Cost: 2n³ flops; products with Q cost 2n².
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tridiagonal {
    /// Diagonal of T.
    pub diagonal: Vec<f64>,
    /// Subdiagonal of T, n − 1 entries.
    pub off: Vec<f64>,
    /// Row k holds the k-th reflector in columns k + 1.., scaled so that the
    /// reflector is I − v vᵀ.
    reflectors: Vec<f64>,
    n: usize,
}

impl Tridiagonal {
    /// Reduces the symmetric matrix `h` `[n, n]`, which is used up.
    ///
    /// # Panics
    /// If `h` is not n × n.
    pub fn reduce(mut h: Vec<f64>, n: usize) -> Self {
        assert_eq!(h.len(), n * n, "a square matrix");
        let mut diagonal = vec![0.0; n];
        let mut off = vec![0.0; n.saturating_sub(1)];
        let mut p = vec![0.0; n];
        for k in 0..n {
            diagonal[k] = h[k * n + k];
            if k + 1 >= n {
                break;
            }
            let (head, rest) = h.split_at_mut((k + 1) * n);
            let v = &mut head[k * n + k + 1..];
            let m = n - k - 1;
            let alpha = v[0];
            let sigma = norm_squared(&v[1..]);
            if sigma == 0.0 {
                // Nothing to eliminate; the reflector is the identity.
                off[k] = alpha;
                v.fill(0.0);
                continue;
            }
            let norm = alpha.mul_add(alpha, sigma).sqrt();
            let beta = if alpha <= 0.0 { norm } else { -norm };
            off[k] = beta;
            // v ← (x − βe₁)·√(2/‖x − βe₁‖²); ‖x − βe₁‖² = 2β(β − α).
            let scale = (1.0 / (beta * (beta - alpha))).sqrt();
            v[0] = alpha - beta;
            for x in v.iter_mut() {
                *x *= scale;
            }
            let v = &*v;
            // A ← A − v wᵀ − w vᵀ with w = p − ½(pᵀv)v, p = A v.
            let p = &mut p[..m];
            dots(&rest[k + 1..], n, v, p);
            let half = 0.5 * dot(p, v);
            axpy(-half, v, p);
            rank_two(p, v, &mut rest[k + 1..], n);
        }
        Self {
            diagonal,
            off,
            reflectors: h,
            n,
        }
    }

    /// A matrix that is tridiagonal already: Q = I.
    ///
    /// # Panics
    /// If `off` is not one shorter than `diagonal`.
    pub fn new(diagonal: Vec<f64>, off: Vec<f64>) -> Self {
        let n = diagonal.len();
        assert_eq!(off.len(), n.saturating_sub(1), "a subdiagonal");
        Self {
            diagonal,
            off,
            reflectors: Vec::new(),
            n,
        }
    }

    /// Order of the matrix.
    pub fn order(&self) -> usize {
        self.n
    }

    /// Number of reflectors in Q.
    fn reflections(&self) -> usize {
        if self.reflectors.is_empty() {
            0
        } else {
            self.n.saturating_sub(1)
        }
    }

    fn reflector(&self, k: usize) -> &[f64] {
        &self.reflectors[k * self.n + k + 1..(k + 1) * self.n]
    }

    /// x ← Qᵀ x.
    pub fn apply_transpose(&self, x: &mut [f64]) {
        for k in 0..self.reflections() {
            let v = self.reflector(k);
            let x = &mut x[k + 1..];
            let c = dot(v, x);
            axpy(-c, v, x);
        }
    }

    /// x ← Q x.
    pub fn apply(&self, x: &mut [f64]) {
        for k in (0..self.reflections()).rev() {
            let v = self.reflector(k);
            let x = &mut x[k + 1..];
            let c = dot(v, x);
            axpy(-c, v, x);
        }
    }

    /// Eigenvalues in ascending order.
    pub fn eigenvalues(&self) -> Vec<f64> {
        tridiagonal_eigenvalues(&self.diagonal, &self.off)
    }

    /// Smallest and largest eigenvalue, by bisection on the sign counts of
    /// T − λI (Golub & Van Loan §8.4.1); NaN when T has entries that are not finite.
    pub fn extreme_eigenvalues(&self) -> (f64, f64) {
        let n = self.n;
        if n == 0 {
            return (0.0, 0.0);
        }
        let radius = |i: usize| {
            let left = if i > 0 { self.off[i - 1].abs() } else { 0.0 };
            let right = if i + 1 < n { self.off[i].abs() } else { 0.0 };
            left + right
        };
        let mut low = f64::INFINITY;
        let mut high = f64::NEG_INFINITY;
        for i in 0..n {
            let (a, b) = (self.diagonal[i] - radius(i), self.diagonal[i] + radius(i));
            if !(a.is_finite() && b.is_finite()) {
                return (f64::NAN, f64::NAN);
            }
            low = low.min(a);
            high = high.max(b);
        }
        (
            self.kth_eigenvalue(0, low, high),
            self.kth_eigenvalue(n - 1, low, high),
        )
    }

    /// Number of eigenvalues below λ (Sturm count).
    fn count_below(&self, lambda: f64) -> usize {
        let mut count = 0;
        let mut d = 1.0;
        for i in 0..self.n {
            let e = if i > 0 { self.off[i - 1] } else { 0.0 };
            let coupling = if i > 0 { e * (e / d) } else { 0.0 };
            d = self.diagonal[i] - lambda - coupling;
            if d == 0.0 {
                d = -f64::MIN_POSITIVE;
            }
            if d < 0.0 {
                count += 1;
            }
        }
        count
    }

    fn kth_eigenvalue(&self, k: usize, mut low: f64, mut high: f64) -> f64 {
        let scale = low.abs().max(high.abs());
        while high - low > 2.0 * f64::EPSILON * low.abs().max(high.abs()) + f64::MIN_POSITIVE {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if self.count_below(middle) > k {
                high = middle;
            } else {
                low = middle;
            }
            // Below the rounding of the reduction itself nothing is left to find.
            if high - low <= 1e-17 * scale {
                break;
            }
        }
        0.5 * (low + high)
    }

    /// A unit eigenvector (in H's coordinates) for an eigenvalue found by
    /// [`Tridiagonal::eigenvalues`], by inverse iteration on T.
    pub fn eigenvector(&self, value: f64) -> Vec<f64> {
        let mut x = self.inverse_iteration(value);
        self.apply(&mut x);
        x
    }

    /// The eigenvector in T's coordinates.
    pub fn inverse_iteration(&self, value: f64) -> Vec<f64> {
        let n = self.n;
        let scale = self
            .diagonal
            .iter()
            .chain(&self.off)
            .fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        // A start that no eigenvector is orthogonal to in practice: fixed, uneven.
        let mut x: Vec<f64> = (0..n).map(|i| 1.0 + 0.5 / (1.0 + i as f64)).collect();
        let shift = value + scale * f64::EPSILON;
        for _ in 0..4 {
            let norm = norm_squared(&x).sqrt();
            x.iter_mut().for_each(|v| *v /= norm);
            solve_pivoted(&self.diagonal, &self.off, shift, scale, &mut x);
        }
        let norm = norm_squared(&x).sqrt();
        x.iter_mut().for_each(|v| *v /= norm);
        x
    }

    /// Factors T + μI when it is positive definite.
    pub fn shifted(&self, shift: f64) -> Option<ShiftedSolve<'_>> {
        let mut pivots = Vec::with_capacity(self.n);
        let mut d = 0.0;
        for i in 0..self.n {
            let mut pivot = self.diagonal[i] + shift;
            if i > 0 {
                let e = self.off[i - 1];
                pivot -= e * (e / d);
            }
            if !(pivot > 0.0) {
                return None;
            }
            pivots.push(pivot);
            d = pivot;
        }
        Some(ShiftedSolve {
            off: &self.off,
            pivots,
        })
    }
}

/// L D Lᵀ of a positive definite tridiagonal matrix.
#[derive(Clone, Debug)]
pub struct ShiftedSolve<'a> {
    off: &'a [f64],
    pivots: Vec<f64>,
}

impl ShiftedSolve<'_> {
    /// x ← (T + μI)⁻¹ x.
    pub fn solve(&self, x: &mut [f64]) {
        self.forward(x);
        for (x, d) in x.iter_mut().zip(&self.pivots) {
            *x /= d;
        }
        for i in (1..x.len()).rev() {
            x[i - 1] -= self.off[i - 1] / self.pivots[i - 1] * x[i];
        }
    }

    fn forward(&self, x: &mut [f64]) {
        for i in 1..x.len() {
            x[i] -= self.off[i - 1] / self.pivots[i - 1] * x[i - 1];
        }
    }

    /// xᵀ (T + μI)⁻¹ x.
    pub fn inverse_norm_squared(&self, x: &[f64]) -> f64 {
        let mut y = x.to_vec();
        self.forward(&mut y);
        let mut total = 0.0;
        for (y, d) in y.iter().zip(&self.pivots) {
            total += y * (y / d);
        }
        total
    }
}

/// A ← A − v pᵀ − p vᵀ; row i of A begins at i·`stride` of `rows`. Two rows a pass.
fn rank_two(p: &[f64], v: &[f64], rows: &mut [f64], stride: usize) {
    #[inline(always)]
    fn generic<S: Simd>(s: S, p: &[f64], v: &[f64], rows: &mut [f64], stride: usize) {
        let m = p.len();
        for i in (0..m).step_by(2) {
            let (row, next) = rows[i * stride..].split_at_mut(m);
            if i + 1 < m {
                two(s, p, v, i, row, &mut next[stride - m..][..m]);
            } else {
                one(s, p, v, i, row);
            }
        }
    }
    #[inline(always)]
    fn one<S: Simd>(s: S, p: &[f64], v: &[f64], i: usize, row: &mut [f64]) {
        let (a, b) = (v[i], p[i]);
        let (av, bv) = (s.splat(a), s.splat(b));
        let (rc, rr) = row.as_chunks_mut::<LANES>();
        let (pc, pr) = p.as_chunks::<LANES>();
        let (vc, vr) = v.as_chunks::<LANES>();
        for ((r, p), v) in rc.iter_mut().zip(pc).zip(vc) {
            let x = s.fnma(av, s.load(p), s.load(r));
            s.store(s.fnma(bv, s.load(v), x), r);
        }
        for ((r, p), v) in rr.iter_mut().zip(pr).zip(vr) {
            *r = (-b).mul_add(*v, (-a).mul_add(*p, *r));
        }
    }
    #[inline(always)]
    fn two<S: Simd>(s: S, p: &[f64], v: &[f64], i: usize, x: &mut [f64], y: &mut [f64]) {
        let (av, bv) = (s.splat(v[i]), s.splat(p[i]));
        let (cv, dv) = (s.splat(v[i + 1]), s.splat(p[i + 1]));
        let (pc, pr) = p.as_chunks::<LANES>();
        let (vc, vr) = v.as_chunks::<LANES>();
        let (xc, xr) = x.as_chunks_mut::<LANES>();
        let (yc, yr) = y.as_chunks_mut::<LANES>();
        for (((x, y), p), v) in xc.iter_mut().zip(yc).zip(pc).zip(vc) {
            let (p, v) = (s.load(p), s.load(v));
            let r = s.fnma(bv, v, s.fnma(av, p, s.load(x)));
            s.store(r, x);
            let r = s.fnma(dv, v, s.fnma(cv, p, s.load(y)));
            s.store(r, y);
        }
        let (a, b, c, d) = (v[i], p[i], v[i + 1], p[i + 1]);
        for (((x, y), p), v) in xr.iter_mut().zip(yr).zip(pr).zip(vr) {
            *x = (-b).mul_add(*v, (-a).mul_add(*p, *x));
            *y = (-d).mul_add(*v, (-c).mul_add(*p, *y));
        }
    }
    let isa = Isa::current();
    dispatch!(isa => (), generic, p: &[f64], v: &[f64], rows: &mut [f64], stride: usize);
}

/// x ← (T − λI)⁻¹ x by Gaussian elimination with partial pivoting; exact
/// zeros on the diagonal are replaced by a tiny multiple of `scale`.
fn solve_pivoted(diagonal: &[f64], off: &[f64], shift: f64, scale: f64, x: &mut [f64]) {
    let n = diagonal.len();
    // Rows as (diagonal, first, second superdiagonal).
    let mut u = vec![[0.0; 3]; n];
    let mut row = [diagonal[0] - shift, if n > 1 { off[0] } else { 0.0 }, 0.0];
    for i in 0..n {
        if i + 1 < n {
            let below = [
                off[i],
                diagonal[i + 1] - shift,
                if i + 2 < n { off[i + 1] } else { 0.0 },
            ];
            if below[0].abs() > row[0].abs() {
                let m = row[0] / below[0];
                u[i] = below;
                row = [row[1] - m * below[1], row[2] - m * below[2], 0.0];
                x.swap(i, i + 1);
                x[i + 1] -= m * x[i];
            } else {
                let pivot = if row[0] == 0.0 {
                    scale * f64::EPSILON
                } else {
                    row[0]
                };
                let m = below[0] / pivot;
                u[i] = [pivot, row[1], row[2]];
                row = [below[1] - m * row[1], below[2] - m * row[2], 0.0];
                x[i + 1] -= m * x[i];
            }
        } else {
            u[i] = [
                if row[0] == 0.0 {
                    scale * f64::EPSILON
                } else {
                    row[0]
                },
                0.0,
                0.0,
            ];
        }
    }
    for i in (0..n).rev() {
        let mut v = x[i];
        if i + 1 < n {
            v -= u[i][1] * x[i + 1];
        }
        if i + 2 < n {
            v -= u[i][2] * x[i + 2];
        }
        x[i] = v / u[i][0];
    }
}

/// Eigenvalues of a symmetric tridiagonal matrix in ascending order.
///
/// Method: implicit QL with Wilkinson shifts, Golub & Van Loan §8.3.5. NaN in
/// gives NaN out.
pub fn tridiagonal_eigenvalues(diagonal: &[f64], off: &[f64]) -> Vec<f64> {
    let mut d = diagonal.to_vec();
    let mut e = off.to_vec();
    e.push(0.0);
    ql(&mut d, &mut e, |_, _, _| {});
    d.sort_by(f64::total_cmp);
    d
}

/// Implicit QL; `rotate(i, c, s)` is told each rotation of the planes (i, i + 1).
pub(super) fn ql(d: &mut [f64], e: &mut [f64], mut rotate: impl FnMut(usize, f64, f64)) {
    /// Sweeps per eigenvalue; QL needs 2 or 3, so this many means NaN.
    const LIMIT: usize = 80;
    let n = d.len();
    for l in 0..n {
        for _ in 0..LIMIT {
            // The first negligible subdiagonal entry from l on.
            let m = (l..n - 1)
                .find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()))
                .unwrap_or(n - 1);
            if m == l {
                break;
            }
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = g.mul_add(g, 1.0).sqrt();
            let mut g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut underflow = false;
            for i in (l..m).rev() {
                let f = s * e[i];
                let b = c * e[i];
                let r = f.mul_add(f, g * g).sqrt();
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    underflow = true;
                    break;
                }
                s = f / r;
                c = g / r;
                let g2 = d[i + 1] - p;
                let r2 = (d[i] - g2).mul_add(s, 2.0 * c * b);
                p = s * r2;
                d[i + 1] = g2 + p;
                g = c.mul_add(r2, -b);
                rotate(i, c, s);
            }
            if underflow {
                continue;
            }
            d[l] -= p;
            e[l] = g;
            e[m] = 0.0;
        }
    }
}
