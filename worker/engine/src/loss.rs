//! Losses of one row, with first and second derivatives, over a block.
//!
//! With f the network's output and y the target of one row (CONTRACT §1):
//!
//! | loss | ℓ | ∂ℓ/∂f | ∂²ℓ/∂f² |
//! |---|---|---|---|
//! | squared | ½‖f − y‖² | f − y | 1 |
//! | huber δ | ½e², or δ(\|e\| − δ/2) | clamp(e, ±δ) | \[\|e\| ≤ δ\] |
//! | log_cosh | log cosh e | tanh e | 1 − tanh² e |
//! | logistic | (1−y) log(1+e^f) + y log(1+e^{−f}) | σ(f) − y | σ(1 − σ) |
//! | squared_hinge | max(0, 1 − y f)² | −2y max(0, 1 − y f) | 2y²\[y f < 1\] |
//! | poisson | e^f − y f | e^f − y | e^f |
//! | cross_entropy | log Σ e^{f_k} − Σ y_k f_k | p − y | diag(p) − p pᵀ |
//!
//! Logistic and cross-entropy are arranged so that a loss near 0 keeps its
//! relative accuracy, which is what separable data need.

#![allow(
    unsafe_code,
    reason = "raw passes; every range is checked at the safe entry points"
)]

use common::dispatch;
use common::math::Isa;
use common::math::elementary as e;
use common::math::simd::{LANES, Simd};
use common::spec::Loss;

use crate::kernels::{Operand, Span};

/// What the derivative passes need beside the output block.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// y, `[groups, d_y, 8]`.
    pub y: &'a [f64],
    /// 1 where a target is observed, else 0; all observed when absent.
    pub mask: Option<&'a [f64]>,
    /// 1 for a sample, 0 for padding, `[groups, 8]`.
    pub valid: &'a [f64],
    /// d_y.
    pub outputs: usize,
    /// 1/n.
    pub inverse_rows: f64,
}

#[derive(Clone, Copy)]
struct Call {
    f: *const f64,
    y: *const f64,
    mask: *const f64,
    valid: *const f64,
    gradient: *mut f64,
    /// Null when second derivatives are not wanted.
    curvature: *mut f64,
    outputs: usize,
    groups: usize,
    inverse_rows: f64,
    delta: f64,
}

/// One output at a time: ℓ, ℓ′, ℓ″.
trait PerOutput {
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, delta: f64) -> (S::V, S::V, S::V);
}

struct Squared;
struct Huber;
struct LogCosh;
struct Logistic;
struct SquaredHinge;
struct Poisson;

impl PerOutput for Squared {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, _: f64) -> (S::V, S::V, S::V) {
        let r = s.sub(f, y);
        (s.mul(s.mul(s.splat(0.5), r), r), r, s.splat(1.0))
    }
}

impl PerOutput for Huber {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, delta: f64) -> (S::V, S::V, S::V) {
        let r = s.sub(f, y);
        let a = s.abs(r);
        let d = s.splat(delta);
        let outside = s.lt(d, a);
        let half = s.splat(0.5);
        let inner = s.mul(s.mul(half, r), r);
        let outer = s.mul(d, s.fnma(half, d, a));
        (
            s.select(outside, outer, inner),
            s.select(outside, s.copysign(d, r), r),
            s.select(outside, s.splat(0.0), s.splat(1.0)),
        )
    }
}

impl PerOutput for LogCosh {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, _: f64) -> (S::V, S::V, S::V) {
        let r = s.sub(f, y);
        let a = s.abs(r);
        let one = s.splat(1.0);
        let half = s.splat(0.5);
        // Near 0: log cosh r = log1p(2 sinh²(r/2)), which keeps small values exact.
        let m = e::expm1_bounded(s, s.mul(half, s.min_keep(a, s.splat(2.0))));
        let sinh = s.mul(half, s.add(m, s.div(m, s.add(m, one))));
        let near = e::log1p(s, s.mul(s.mul(s.splat(2.0), sinh), sinh));
        let x = e::exp_neg_abs(s, s.add(a, a));
        let far = s.sub(
            s.add(a, e::log1p_unit(s, x)),
            s.splat(std::f64::consts::LN_2),
        );
        let t = e::tanh(s, r);
        let value = s.select(s.lt(a, one), near, far);
        (value, t, s.fnma(t, t, one))
    }
}

impl PerOutput for Logistic {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, _: f64) -> (S::V, S::V, S::V) {
        let (zero, one) = (s.splat(0.0), s.splat(1.0));
        let x = e::exp_neg_abs(s, f);
        let q = s.add(one, x);
        let log = e::log1p_unit(s, x);
        let not_y = s.sub(one, y);
        let (up, down) = (s.max_keep(f, zero), s.max_keep(s.neg(f), zero));
        let value = s.fma(not_y, up, s.fma(y, down, log));
        // σ(f) and σ(−f) without cancellation: one is x/q, the other 1/q.
        let positive = s.le(zero, f);
        let (small, large) = (s.div(x, q), s.div(one, q));
        let sigma = s.select(positive, large, small);
        let sigma_neg = s.select(positive, small, large);
        let gradient = s.fnma(y, sigma_neg, s.mul(not_y, sigma));
        (value, gradient, s.mul(small, large))
    }
}

impl PerOutput for SquaredHinge {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, _: f64) -> (S::V, S::V, S::V) {
        let (zero, two) = (s.splat(0.0), s.splat(2.0));
        let slack = s.fnma(y, f, s.splat(1.0));
        let z = s.max_keep(slack, zero);
        let on = s.lt(zero, slack);
        let yy = s.mul(s.mul(two, y), y);
        (
            s.mul(z, z),
            s.mul(s.mul(s.splat(-2.0), y), z),
            s.select(on, yy, zero),
        )
    }
}

impl PerOutput for Poisson {
    #[inline(always)]
    fn eval<S: Simd>(s: S, f: S::V, y: S::V, _: f64) -> (S::V, S::V, S::V) {
        let x = e::exp(s, f);
        (s.fnma(y, f, x), s.sub(x, y), x)
    }
}

#[inline(always)]
fn per_output<S: Simd, L: PerOutput>(s: S, c: Call) -> f64 {
    let zero = s.splat(0.0);
    let scale = s.splat(c.inverse_rows);
    let mut total = zero;
    for g in 0..c.groups {
        // SAFETY: `value_and_derivatives` checked the ranges.
        unsafe {
            let valid = s.lt(zero, s.load_ptr(c.valid.add(g * LANES)));
            let mut row = zero;
            for j in 0..c.outputs {
                let at = (g * c.outputs + j) * LANES;
                let f = s.load_ptr(c.f.add(at));
                let (value, d, d2) = L::eval(s, f, s.load_ptr(c.y.add(at)), c.delta);
                let keep = if c.mask.is_null() {
                    valid
                } else {
                    s.and(valid, s.lt(zero, s.load_ptr(c.mask.add(at))))
                };
                row = s.add(row, s.select(keep, value, zero));
                s.store_ptr(s.select(keep, s.mul(d, scale), zero), c.gradient.add(at));
                if !c.curvature.is_null() {
                    s.store_ptr(s.select(keep, s.mul(d2, scale), zero), c.curvature.add(at));
                }
            }
            total = s.add(total, row);
        }
    }
    s.sum(total)
}

#[inline(always)]
fn cross_entropy<S: Simd>(s: S, c: Call) -> f64 {
    let zero = s.splat(0.0);
    let scale = s.splat(c.inverse_rows);
    let mut total = zero;
    for g in 0..c.groups {
        // SAFETY: `value_and_derivatives` checked the ranges.
        unsafe {
            let valid = s.lt(zero, s.load_ptr(c.valid.add(g * LANES)));
            let base = g * c.outputs * LANES;
            let f = |k: usize| s.load_ptr(c.f.add(base + k * LANES));
            let y = |k: usize| s.load_ptr(c.y.add(base + k * LANES));
            let mut top = f(0);
            let mut arg = zero;
            for k in 1..c.outputs {
                let v = f(k);
                let higher = s.lt(top, v);
                top = s.select(higher, v, s.add(top, s.mul(zero, v)));
                arg = s.select(higher, s.splat(k as f64), arg);
            }
            // Σ e^{f_k − top} without the leading 1 of the largest.
            let mut rest = zero;
            for k in 0..c.outputs {
                let largest = s.eq(arg, s.splat(k as f64));
                let x = e::exp(s, s.sub(f(k), top));
                s.store_ptr(x, c.gradient.add(base + k * LANES));
                rest = s.add(rest, s.select(largest, zero, x));
            }
            let inverse = s.div(s.splat(1.0), s.add(s.splat(1.0), rest));
            // ℓ = log1p(rest) + Σ y_k (top − f_k), every term ≥ 0; Σ y_k = 1.
            let mut value = e::log1p(s, rest);
            for k in 0..c.outputs {
                let at = base + k * LANES;
                value = s.fma(y(k), s.sub(top, f(k)), value);
                let x = s.load_ptr(c.gradient.add(at));
                let p = s.mul(x, inverse);
                let d = s.select(valid, s.mul(s.sub(p, y(k)), scale), zero);
                s.store_ptr(d, c.gradient.add(at));
                if !c.curvature.is_null() {
                    s.store_ptr(s.select(valid, p, zero), c.curvature.add(at));
                }
            }
            total = s.add(total, s.select(valid, value, zero));
        }
    }
    s.sum(total)
}

/// Sum of ℓ over the block's rows (not divided by n), with derivatives.
///
/// `f`, `gradient` and `curvature` are contiguous blocks `[groups, d_y, 8]`
/// in the arena. `gradient` receives (1/n)·∂ℓ/∂f. `curvature` receives what
/// [`curvature_product`] needs: (1/n)·∂²ℓ/∂f² per output, or the softmax
/// probabilities for cross-entropy.
///
/// # Panics
/// If a range lies outside its slice.
pub fn value_and_derivatives(
    isa: Isa,
    loss: Loss,
    arena: &mut [f64],
    f: Operand<'_>,
    targets: Targets<'_>,
    gradient: Operand<'_>,
    curvature: Option<Operand<'_>>,
    groups: usize,
) -> f64 {
    let d = targets.outputs;
    let n = groups * d * LANES;
    assert_eq!(f.stride, d * LANES, "outputs are contiguous");
    let span = Span::new(arena);
    let call = Call {
        f: f.read(&span, groups, d),
        y: targets.y[..n].as_ptr(),
        mask: targets.mask.map_or(std::ptr::null(), |m| m[..n].as_ptr()),
        valid: targets.valid[..groups * LANES].as_ptr(),
        gradient: gradient.write(&span, groups, d),
        curvature: curvature.map_or(std::ptr::null_mut(), |x| x.write(&span, groups, d)),
        outputs: d,
        groups,
        inverse_rows: targets.inverse_rows,
        delta: if let Loss::Huber { delta } = loss {
            delta
        } else {
            0.0
        },
    };
    macro_rules! run {
        ($name:ident) => {{
            #[inline(always)]
            fn go<S: Simd>(s: S, call: Call) -> f64 {
                per_output::<S, $name>(s, call)
            }
            dispatch!(isa => f64, go, call: Call)
        }};
    }
    match loss {
        Loss::Squared => run!(Squared),
        Loss::Huber { .. } => run!(Huber),
        Loss::LogCosh => run!(LogCosh),
        Loss::Logistic => run!(Logistic),
        Loss::SquaredHinge => run!(SquaredHinge),
        Loss::Poisson => run!(Poisson),
        Loss::CrossEntropy => dispatch!(isa => f64, cross_entropy, call: Call),
    }
}

#[derive(Clone, Copy)]
struct ProductCall {
    curvature: *const f64,
    tangent: *const f64,
    out: *mut f64,
    outputs: usize,
    groups: usize,
    inverse_rows: f64,
}

#[inline(always)]
fn diagonal_product<S: Simd>(s: S, c: ProductCall) {
    for i in 0..c.groups * c.outputs {
        // SAFETY: `curvature_product` checked the ranges.
        unsafe {
            let v = s.mul(
                s.load_ptr(c.curvature.add(i * LANES)),
                s.load_ptr(c.tangent.add(i * LANES)),
            );
            s.store_ptr(v, c.out.add(i * LANES));
        }
    }
}

#[inline(always)]
fn softmax_product<S: Simd>(s: S, c: ProductCall) {
    let scale = s.splat(c.inverse_rows);
    for g in 0..c.groups {
        let base = g * c.outputs * LANES;
        // SAFETY: `curvature_product` checked the ranges.
        unsafe {
            let p = |k: usize| s.load_ptr(c.curvature.add(base + k * LANES));
            let v = |k: usize| s.load_ptr(c.tangent.add(base + k * LANES));
            let mut mean = s.splat(0.0);
            for k in 0..c.outputs {
                mean = s.fma(p(k), v(k), mean);
            }
            for k in 0..c.outputs {
                let out = s.mul(s.mul(p(k), s.sub(v(k), mean)), scale);
                s.store_ptr(out, c.out.add(base + k * LANES));
            }
        }
    }
}

/// out = (1/n)·(∂²ℓ/∂f²)·tangent, from the curvature of [`value_and_derivatives`].
///
/// All blocks are contiguous, `[groups, d_y, 8]`, in the arena; `out` may be `tangent`
/// only for per-output losses.
///
/// # Panics
/// If a range lies outside its slice.
pub fn curvature_product(
    isa: Isa,
    loss: Loss,
    arena: &mut [f64],
    curvature: Operand<'_>,
    tangent: Operand<'_>,
    out: Operand<'_>,
    outputs: usize,
    groups: usize,
    inverse_rows: f64,
) {
    let span = Span::new(arena);
    let call = ProductCall {
        curvature: curvature.read(&span, groups, outputs),
        tangent: tangent.read(&span, groups, outputs),
        out: out.write(&span, groups, outputs),
        outputs,
        groups,
        inverse_rows,
    };
    if loss == Loss::CrossEntropy {
        dispatch!(isa => (), softmax_product, call: ProductCall);
    } else {
        dispatch!(isa => (), diagonal_product, call: ProductCall);
    }
}
