//! Inner products of the derivatives of all residuals, one layer at a time.

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};

/// What one affine layer t = A·s + b contributes to the Gram matrix J Jᵀ of the
/// outputs' derivatives: the derivative of output k of sample i by A is δ_{k,i} s_iᵀ,
/// by b it is δ_{k,i}, with δ_{k,i} = ∂f_k(x_i)/∂t. So their products are
/// ⟨δ_{k,i}, δ_{l,j}⟩ · (⟨s_i, s_j⟩ + `bias`) and no derivative is ever written down.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// δ, `[outputs, groups, rows, 8]`.
    pub left: &'a [f64],
    /// Rows of A.
    pub rows: usize,
    /// s, `[groups, cols, 8]`.
    pub right: &'a [f64],
    /// Columns of A.
    pub cols: usize,
    /// 1 with a bias, 0 without.
    pub bias: f64,
}

/// Adds a layer's contribution to the lower triangle (whole 8 × 8 tiles of it) of the row-major
/// `gram` `[n, n]`, n = outputs·groups·8, row (k, i) at k·groups·8 + i.
///
/// Order of operations: both inner products are chains of fused multiply-adds in ascending
/// order of the features, the second begun by `bias`; their product is added in one more.
///
/// # Panics
/// If a slice is too short.
pub fn gram(isa: Isa, layer: Layer<'_>, outputs: usize, groups: usize, gram: &mut [f64]) {
    dispatch!(isa => (), generic, layer: Layer<'_>, outputs: usize, groups: usize, gram: &mut [f64]);
}

#[inline(always)]
fn generic<S: Simd>(s: S, layer: Layer<'_>, outputs: usize, groups: usize, gram: &mut [f64]) {
    let n = outputs * groups * LANES;
    let (left_len, right_len) = (layer.rows * LANES, layer.cols * LANES);
    let left = |k: usize, g: usize| &layer.left[(k * groups + g) * left_len..][..left_len];
    let right = |g: usize| &layer.right[g * right_len..][..right_len];
    for g in 0..groups {
        for h in 0..groups {
            if outputs == 1 && h > g {
                break;
            }
            let inner = tile(s, right(g), right(h), layer.bias);
            for k in 0..outputs {
                for l in 0..=k {
                    if k == l && h > g {
                        continue;
                    }
                    let outer = tile(s, left(k, g), left(l, h), 0.0);
                    let first = (k * groups + g) * LANES * n + (l * groups + h) * LANES;
                    for i in 0..LANES {
                        let out = &mut gram[first + i * n..][..LANES];
                        let sum = s.fma(outer[i], inner[i], s.load_slice(out));
                        s.store_slice(sum, out);
                    }
                }
            }
        }
    }
}

/// ⟨a_i, b_j⟩ + `init` for the eight samples i of one group (a row of the answer each) and
/// the eight j of another; both are `[features, 8]`.
#[inline(always)]
fn tile<S: Simd>(s: S, a: &[f64], b: &[f64], init: f64) -> [S::V; LANES] {
    let mut sums = [s.splat(init); LANES];
    for (a, b) in a
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(b.as_chunks::<LANES>().0)
    {
        let b = s.load(b);
        for (sum, a) in sums.iter_mut().zip(a) {
            *sum = s.fma(s.splat(*a), b, *sum);
        }
    }
    sums
}
