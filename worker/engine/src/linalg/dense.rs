//! Products of small row-major matrices.

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};
use common::math::slice::dots;

/// c = βc + a·b for row-major a `[m, k]`, b `[k, n]`, c `[m, n]`; β is 0 or 1.
///
/// An entry is one chain of fused multiply-adds, ascending in k, begun by βc.
///
/// # Panics
/// If a slice is too short.
pub fn multiply(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize, n: usize, keep: bool) {
    assert!(
        a.len() >= m * k && b.len() >= k * n && c.len() >= m * n,
        "matrix too short"
    );
    product(a, (k, 1), b, c, m, k, n, keep);
}

/// c = βc + aᵀ·b for row-major a `[k, m]`, b `[k, n]`, c `[m, n]`; see [`multiply`].
///
/// # Panics
/// If a slice is too short.
pub fn multiply_tn(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize, n: usize, keep: bool) {
    assert!(
        a.len() >= m * k && b.len() >= k * n && c.len() >= m * n,
        "matrix too short"
    );
    product(a, (1, m), b, c, m, k, n, keep);
}

/// c = βc + a·bᵀ for row-major a `[m, k]`, b `[n, k]`, c `[m, n]`; entries are dot products.
///
/// # Panics
/// If a slice is too short.
pub fn multiply_nt(a: &[f64], b: &[f64], c: &mut [f64], m: usize, k: usize, n: usize, keep: bool) {
    assert!(
        a.len() >= m * k && b.len() >= k * n && c.len() >= m * n,
        "matrix too short"
    );
    let mut some = [0.0; LANES];
    for i in 0..m {
        for (at, c) in c[i * n..][..n].chunks_mut(LANES).enumerate() {
            let some = &mut some[..c.len()];
            dots(&b[at * LANES * k..], k, &a[i * k..][..k], some);
            for (c, dot) in c.iter_mut().zip(some) {
                *c = if keep { *c + *dot } else { *dot };
            }
        }
    }
}

fn product(
    a: &[f64],
    (row_step, k_step): (usize, usize),
    b: &[f64],
    c: &mut [f64],
    m: usize,
    k: usize,
    n: usize,
    keep: bool,
) {
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one call site")]
    fn generic<S: Simd>(
        s: S,
        a: &[f64],
        row_step: usize,
        k_step: usize,
        b: &[f64],
        c: &mut [f64],
        m: usize,
        k: usize,
        n: usize,
        keep: bool,
    ) {
        for i in 0..m {
            let row = &mut c[i * n..][..n];
            if !keep {
                row.fill(0.0);
            }
            for kk in 0..k {
                let x = a[i * row_step + kk * k_step];
                let xv = s.splat(x);
                let (rc, rr) = row.as_chunks_mut::<LANES>();
                let (bc, br) = b[kk * n..][..n].as_chunks::<LANES>();
                for (r, b) in rc.iter_mut().zip(bc) {
                    s.store(s.fma(xv, s.load(b), s.load(r)), r);
                }
                for (r, b) in rr.iter_mut().zip(br) {
                    *r = x.mul_add(*b, *r);
                }
            }
        }
    }
    let isa = Isa::current();
    dispatch!(isa => (), generic, a: &[f64], row_step: usize, k_step: usize, b: &[f64],
        c: &mut [f64], m: usize, k: usize, n: usize, keep: bool);
}

/// Transpose of row-major `[rows, cols]`.
pub fn transpose(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let mut out = vec![0.0; rows * cols];
    for i in 0..rows {
        for j in 0..cols {
            out[j * rows + i] = a[i * cols + j];
        }
    }
    out
}
