//! Fixed-order sums and updates over slices.
//!
//! A sum runs in eight interleaved chains (lane i takes the elements with
//! index ≡ i mod 8, in order; a short last group is padded with zeros) joined
//! by the fixed tree of [`Simd::sum`]. The order is part of the numeric level.

use super::Isa;
use super::simd::{LANES, Simd};
use crate::dispatch;

#[inline(always)]
fn tail(x: &[f64]) -> [f64; LANES] {
    let mut out = [0.0; LANES];
    out[..x.len()].copy_from_slice(x);
    out
}

#[inline(always)]
fn dot_generic<S: Simd>(s: S, x: &[f64], y: &[f64]) -> f64 {
    let (xc, xr) = x.as_chunks::<LANES>();
    let (yc, yr) = y.as_chunks::<LANES>();
    let mut acc = s.splat(0.0);
    for (a, b) in xc.iter().zip(yc) {
        acc = s.fma(s.load(a), s.load(b), acc);
    }
    if !xr.is_empty() {
        acc = s.fma(s.load(&tail(xr)), s.load(&tail(yr)), acc);
    }
    s.sum(acc)
}

/// Σ x_i y_i.
///
/// # Panics
/// If the lengths differ.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "dot of unequal lengths");
    dispatch!(Isa::current() => f64, dot_generic, x: &[f64], y: &[f64])
}

/// Σ x_i².
pub fn norm_squared(x: &[f64]) -> f64 {
    dot(x, x)
}

/// √Σ x_i², without care for overflow.
pub fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// Σ x_i.
pub fn sum(x: &[f64]) -> f64 {
    #[inline(always)]
    fn generic<S: Simd>(s: S, x: &[f64]) -> f64 {
        let (xc, xr) = x.as_chunks::<LANES>();
        let mut acc = s.splat(0.0);
        for a in xc {
            acc = s.add(acc, s.load(a));
        }
        if !xr.is_empty() {
            acc = s.add(acc, s.load(&tail(xr)));
        }
        s.sum(acc)
    }
    dispatch!(Isa::current() => f64, generic, x: &[f64])
}

/// max |x_i|; NaN if any entry is NaN.
pub fn max_abs(x: &[f64]) -> f64 {
    let mut m = 0.0f64;
    for &v in x {
        let a = v.abs();
        if a > m || a.is_nan() {
            m = a;
            if a.is_nan() {
                return a;
            }
        }
    }
    m
}

/// y ← y + a x.
///
/// # Panics
/// If the lengths differ.
pub fn axpy(a: f64, x: &[f64], y: &mut [f64]) {
    assert_eq!(x.len(), y.len(), "axpy of unequal lengths");
    #[inline(always)]
    fn generic<S: Simd>(s: S, a: f64, x: &[f64], y: &mut [f64]) {
        let (xc, xr) = x.as_chunks::<LANES>();
        let (yc, yr) = y.as_chunks_mut::<LANES>();
        let av = s.splat(a);
        for (x, y) in xc.iter().zip(yc) {
            let v = s.fma(av, s.load(x), s.load(y));
            s.store(v, y);
        }
        for (x, y) in xr.iter().zip(yr) {
            *y = a.mul_add(*x, *y);
        }
    }
    dispatch!(Isa::current() => (), generic, a: f64, x: &[f64], y: &mut [f64]);
}

/// y ← a·y.
pub fn scale(a: f64, y: &mut [f64]) {
    for v in y {
        *v *= a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_product_runs_in_eight_chains_joined_by_the_tree() {
        let x: Vec<f64> = (0..21).map(|i| 1.0 / (i as f64 + 1.0)).collect();
        let y: Vec<f64> = (0..21).map(|i| (i as f64 - 7.3) * 0.37).collect();
        let mut lanes = [0.0f64; 8];
        for i in 0..24 {
            let (a, b) = if i < 21 { (x[i], y[i]) } else { (0.0, 0.0) };
            lanes[i % 8] = a.mul_add(b, lanes[i % 8]);
        }
        let l = lanes;
        let want = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        assert_eq!(dot(&x, &y).to_bits(), want.to_bits());
    }

    #[test]
    fn the_largest_magnitude_of_a_list_with_a_nan_is_nan() {
        assert!(max_abs(&[1.0, f64::NAN, 3.0]).is_nan());
        assert_eq!(max_abs(&[1.0, -4.0, 3.0]), 4.0);
    }
}
