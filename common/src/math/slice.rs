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

/// Σ x_i y_i for several x: row i of `rows` begins at i·`stride` and is as long as `y`. The bits
/// of [`dot`]; four rows at a time, because one chain waits for itself.
///
/// # Panics
/// If a row lies outside `rows`.
pub fn dots(rows: &[f64], stride: usize, y: &[f64], out: &mut [f64]) {
    #[inline(always)]
    fn generic<S: Simd>(s: S, rows: &[f64], stride: usize, y: &[f64], out: &mut [f64]) {
        let n = y.len();
        let (yc, yr) = y.as_chunks::<LANES>();
        let (fours, rest) = out.as_chunks_mut::<4>();
        let single = 4 * fours.len();
        for (i, out) in fours.iter_mut().enumerate() {
            let x: [&[f64]; 4] = std::array::from_fn(|r| &rows[(4 * i + r) * stride..][..n]);
            let chunks = x.map(|x| x.as_chunks::<LANES>());
            let mut acc = [s.splat(0.0); 4];
            for (k, b) in yc.iter().enumerate() {
                let b = s.load(b);
                for (acc, (xc, _)) in acc.iter_mut().zip(&chunks) {
                    *acc = s.fma(s.load(&xc[k]), b, *acc);
                }
            }
            if !yr.is_empty() {
                let b = s.load(&tail(yr));
                for (acc, (_, xr)) in acc.iter_mut().zip(&chunks) {
                    *acc = s.fma(s.load(&tail(xr)), b, *acc);
                }
            }
            for (out, acc) in out.iter_mut().zip(acc) {
                *out = s.sum(acc);
            }
        }
        for (i, out) in rest.iter_mut().enumerate() {
            *out = dot_generic(s, &rows[(single + i) * stride..][..n], y);
        }
    }
    dispatch!(Isa::current() => (), generic, rows: &[f64], stride: usize, y: &[f64],
        out: &mut [f64]);
}

/// max |x_i|; NaN if any entry is NaN.
pub fn max_abs(x: &[f64]) -> f64 {
    #[inline(always)]
    fn generic<S: Simd>(s: S, x: &[f64]) -> f64 {
        let (xc, xr) = x.as_chunks::<LANES>();
        let last = s.load(&tail(xr));
        let mut largest = s.abs(last);
        let mut numbers = s.eq(last, last);
        for a in xc {
            let a = s.load(a);
            numbers = s.and(numbers, s.eq(a, a));
            largest = s.max_keep(s.abs(a), largest);
        }
        if s.any(s.not(numbers)) {
            return f64::NAN;
        }
        s.to_array(largest).into_iter().fold(0.0, f64::max)
    }
    dispatch!(Isa::current() => f64, generic, x: &[f64])
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

/// y ← y + a x, then Σ z_i y_i: the bits of [`axpy`] and [`dot`] in one pass.
///
/// # Panics
/// If the lengths differ.
pub fn axpy_dot(a: f64, x: &[f64], y: &mut [f64], z: &[f64]) -> f64 {
    assert!(
        x.len() == y.len() && z.len() == y.len(),
        "axpy and dot of unequal lengths"
    );
    #[inline(always)]
    fn generic<S: Simd>(s: S, a: f64, x: &[f64], y: &mut [f64], z: &[f64]) -> f64 {
        let (xc, xr) = x.as_chunks::<LANES>();
        let (yc, yr) = y.as_chunks_mut::<LANES>();
        let (zc, zr) = z.as_chunks::<LANES>();
        let av = s.splat(a);
        let mut acc = s.splat(0.0);
        for ((x, y), z) in xc.iter().zip(yc).zip(zc) {
            let v = s.fma(av, s.load(x), s.load(y));
            s.store(v, y);
            acc = s.fma(s.load(z), v, acc);
        }
        if !yr.is_empty() {
            for (x, y) in xr.iter().zip(&mut *yr) {
                *y = a.mul_add(*x, *y);
            }
            acc = s.fma(s.load(&tail(zr)), s.load(&tail(yr)), acc);
        }
        s.sum(acc)
    }
    dispatch!(Isa::current() => f64, generic, a: f64, x: &[f64], y: &mut [f64], z: &[f64])
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
        assert_eq!(max_abs(&[]), 0.0);
        for at in 0..21 {
            let mut x = [0.5; 21];
            x[at] = -2.0;
            assert_eq!(max_abs(&x), 2.0);
            x[at] = f64::NEG_INFINITY;
            assert_eq!(max_abs(&x), f64::INFINITY);
            x[20 - at] = f64::NAN;
            assert!(max_abs(&x).is_nan());
        }
    }

    #[test]
    fn several_at_once_have_the_bits_of_one_at_a_time() {
        let numbers = |n: usize, seed: usize| -> Vec<f64> {
            (0..n)
                .map(|i| ((i * 37 + seed * 11) % 101) as f64 / 7.0 - 6.1)
                .collect()
        };
        for n in [0, 1, 7, 8, 9, 24, 37] {
            for count in [0, 1, 3, 4, 9] {
                let stride = n + 3;
                let (rows, y) = (numbers(count * stride, 1), numbers(n, 2));
                let mut out = vec![0.0; count];
                dots(&rows, stride, &y, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let want = dot(&rows[i * stride..][..n], &y);
                    assert_eq!(found.to_bits(), want.to_bits());
                }
            }
            let (x, mut y, z) = (numbers(n, 3), numbers(n, 4), numbers(n, 5));
            let mut want = y.clone();
            axpy(0.3, &x, &mut want);
            let sum = axpy_dot(0.3, &x, &mut y, &z);
            assert_eq!(y, want);
            assert_eq!(sum.to_bits(), dot(&z, &want).to_bits());
        }
    }
}
