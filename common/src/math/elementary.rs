//! Elementary functions as polynomial kernels on the virtual vector.
//!
//! Each function states its largest observed error in units in the last place
//! (tests/elementary.rs measures it against an extended-precision oracle).
//! Method throughout: reduce the argument with fused multiply-adds, evaluate a
//! minimax polynomial (Remez exchange; coefficients below), undo the
//! reduction. See Muller, *Elementary Functions* (3rd ed.), chapters 4 and 11.
//!
//! Infinities and NaN are treated as IEEE 754 recommends: exp(−∞) = 0,
//! log(0) = −∞, log(x < 0) = NaN, and a NaN goes through everything.

#![expect(
    clippy::approx_constant,
    reason = "minimax coefficients only resemble constants"
)]

use super::simd::Simd;

const LOG2_E: f64 = std::f64::consts::LOG2_E;
const LN2_HI: f64 = std::f64::consts::LN_2;
/// ln 2 − LN2_HI.
const LN2_LO: f64 = 2.3190468138462996e-17;
/// Adding and subtracting rounds to an integer, to nearest even.
const ROUND: f64 = 6755399441055744.0;

/// (e^r − 1 − r)/r² on |r| ≤ ln(2)/2, relative error of e^r − 1 below 2^−55.
const EXPM1: [f64; 10] = [
    0.5000000000000006,
    0.16666666666666685,
    0.041666666666573544,
    0.008333333333314586,
    0.00138888889324058,
    0.00019841269903046898,
    2.4801504411765905e-05,
    2.7557227936568085e-06,
    2.762634073015329e-07,
    2.511447939289957e-08,
];

/// (log((1+s)/(1−s)) − 2s)/s³ in s², |s| ≤ (√2−1)/(√2+1), below 2^−59.
const LOG: [f64; 7] = [
    0.6666666666666735,
    0.3999999999941109,
    0.2857142874326267,
    0.22222198475985336,
    0.18183569739927494,
    0.15313903242147778,
    0.14797507765134474,
];

/// (sin r − r)/r³ in r², |r| ≤ π/4, below 2^−57.
const SIN: [f64; 6] = [
    -0.16666666666666632,
    0.008333333333322457,
    -0.0001984126982981705,
    2.755731368917149e-06,
    -2.5050756986220527e-08,
    1.5896698023636183e-10,
];

/// (cos r − 1 + r²/2)/r⁴ in r², |r| ≤ π/4, below 2^−64.
const COS: [f64; 6] = [
    0.041666666666666616,
    -0.0013888888888875998,
    2.4801587290486515e-05,
    -2.7557314606931356e-07,
    2.0875754145986175e-09,
    -1.1361091482002726e-11,
];

/// (atan r − r)/r³ in r², |r| ≤ tan(π/8), below 2^−59.
const ATAN: [f64; 11] = [
    -0.3333333333333323,
    0.19999999999961326,
    -0.14285714280843742,
    0.11111110811368871,
    -0.09090898467200059,
    0.0769207156410371,
    -0.06663221526659878,
    0.05848675170506198,
    -0.05042584774866984,
    0.038142230968729755,
    -0.017986886207581557,
];

/// erf(x)/x in x², |x| ≤ 1, below 2^−56.
const ERF: [f64; 12] = [
    1.1283791670955126,
    -0.3761263890318352,
    0.11283791670944185,
    -0.02686617064311147,
    0.005223977606118475,
    -0.0008548325929314536,
    0.00012055293576901546,
    -1.4924712302022934e-05,
    1.644713157140871e-06,
    -1.620631375933551e-07,
    1.371098040117856e-08,
    -7.779468493996885e-10,
];

/// (1 + 2x)·e^{x²}·erfc(x) in (x−4)/(x+4), 0.45 ≤ x ≤ 28, below 2^−60.
const ERFCX: [f64; 23] = [
    1.2329951186255526,
    -0.1396211168405625,
    0.015379652102619722,
    0.06809705425468837,
    -0.10103906603630165,
    0.09373283499853548,
    -0.06633036581231692,
    0.03716751553380303,
    -0.016197734056140167,
    0.00503197001820213,
    -0.0007577733038068065,
    -0.0001992569617810957,
    0.00015062176125778474,
    -2.4398077028869e-05,
    -1.1222339301576554e-05,
    5.7065536545945396e-06,
    2.9453507144495795e-07,
    -8.19610445208155e-07,
    7.358341849082917e-08,
    1.0335157580575459e-07,
    -1.707228398769988e-08,
    -9.689043835171138e-09,
    1.5499240962972422e-09,
];

/// π/2 in pieces: two of 33 bits, so that their multiples by integers below
/// 2²⁰ are exact, and the rest.
const PIO2: [f64; 3] = [
    1.5707963267341256,
    6.077100506303966e-11,
    2.0222662487959506e-21,
];
/// Beyond this argument sin and cos go through `libm`'s exact reduction, lane by lane.
const TRIG_LIMIT: f64 = 1.0e6;

/// c₀ + c₁x + …, Horner.
#[inline(always)]
pub fn horner<S: Simd, const N: usize>(s: S, x: S::V, c: &[f64; N]) -> S::V {
    let mut p = s.splat(c[N - 1]);
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        p = s.fma(p, x, s.splat(c[k]));
    }
    p
}

/// Nearest integer, ties to even, of |x| < 2⁵¹.
#[inline(always)]
fn round<S: Simd>(s: S, x: S::V) -> S::V {
    s.sub(s.add(x, s.splat(ROUND)), s.splat(ROUND))
}

/// 2^k for integral −1022 ≤ k ≤ 1023.
#[inline(always)]
fn pow2<S: Simd>(s: S, k: S::V) -> S::V {
    // The low bits of k + ROUND are k; shifting drops the rest.
    let biased = s.iadd(s.bits(s.add(k, s.splat(ROUND))), s.isplat(1023));
    s.of_bits(s.shl::<52>(biased))
}

/// k and e^r − 1 with x = k·ln 2 + r, |r| ≤ ln(2)/2.
#[inline(always)]
fn reduced_expm1<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let k = round(s, s.mul(x, s.splat(LOG2_E)));
    let r = s.fnma(k, s.splat(LN2_LO), s.fnma(k, s.splat(LN2_HI), x));
    let q = horner(s, r, &EXPM1);
    (k, s.fma(s.mul(r, r), q, r))
}

/// e^x for arguments known to lie in [−708, 709]; 1 ulp.
#[inline(always)]
pub fn exp_bounded<S: Simd>(s: S, x: S::V) -> S::V {
    let (k, m) = reduced_expm1(s, x);
    let p = pow2(s, k);
    s.fma(m, p, p)
}

/// e^x; 1 ulp.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max_keep(s.min_keep(x, s.splat(710.0)), s.splat(-746.0));
    let (k, m) = reduced_expm1(s, x);
    // Scale in two steps: subnormal results are rounded once, overflow is ∞.
    let k1 = round(s, s.mul(k, s.splat(0.5)));
    let k2 = s.sub(k, k1);
    let y = s.add(m, s.splat(1.0));
    s.mul(s.mul(y, pow2(s, k1)), pow2(s, k2))
}

/// e^x − 1; 2 ulp.
#[inline(always)]
pub fn expm1<S: Simd>(s: S, x: S::V) -> S::V {
    let top = s.lt(s.splat(709.0), x);
    let y = expm1_bounded(s, s.max_keep(s.min_keep(x, s.splat(709.0)), s.splat(-50.0)));
    s.select(top, exp(s, x), y)
}

/// e^x − 1 for arguments known to lie in [−708, 709]; 2 ulp.
#[inline(always)]
pub fn expm1_bounded<S: Simd>(s: S, x: S::V) -> S::V {
    let (k, m) = reduced_expm1(s, x);
    let p = pow2(s, k);
    // −0 in, −0 out: p − 1 is +0 only for k = 0, where m alone counts.
    let y = s.fma(m, p, s.sub(p, s.splat(1.0)));
    s.select(
        s.eq(m, s.splat(0.0)),
        s.select(s.eq(k, s.splat(0.0)), x, y),
        y,
    )
}

/// tanh x; 2 ulp. With t = e^{2x} − 1: tanh x = t/(t + 2).
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max_keep(s.min_keep(x, s.splat(22.0)), s.splat(-22.0));
    let (k, m) = reduced_expm1(s, s.add(x, x));
    let p = pow2(s, k);
    let t = s.fma(m, p, s.sub(p, s.splat(1.0)));
    s.div(t, s.add(t, s.splat(2.0)))
}

/// 1/(1 + e^{−x}); 3 ulp, in the left tail too.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp_neg_abs(s, x);
    let positive = s.le(s.splat(0.0), x);
    let numerator = s.select(positive, s.splat(1.0), e);
    // A NaN must come out although the comparison is false: e carries it.
    s.div(numerator, s.add(s.splat(1.0), e))
}

/// e^{−|x|}; 1 ulp; flushed to zero below e^{−708}.
#[inline(always)]
pub fn exp_neg_abs<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.neg(s.abs(x));
    let small = s.lt(a, s.splat(-708.0));
    let e = exp_bounded(s, s.max_keep(a, s.splat(-708.0)));
    s.select(small, s.splat(0.0), e)
}

/// log(1 + e^x) = max(x, 0) + log1p(e^{−|x|}); 2 ulp.
#[inline(always)]
pub fn softplus<S: Simd>(s: S, x: S::V) -> S::V {
    softplus_with(s, x, exp_neg_abs(s, x))
}

/// [`softplus`] given e = e^{−|x|}.
#[inline(always)]
pub fn softplus_with<S: Simd>(s: S, x: S::V, e: S::V) -> S::V {
    s.add(s.max_keep(x, s.splat(0.0)), log1p_unit(s, e))
}

/// log(1 + x) for 0 ≤ x ≤ 1; 2 ulp.
///
/// 1 + x lies in [1, 2]; above √2 it is halved. With f = (1 + x)·2^{−k} − 1
/// known exactly up to rounding, s = f/(2 + f), log1p = k ln 2 + 2s + s³q(s²).
#[inline(always)]
pub fn log1p_unit<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let high = s.lt(s.splat(std::f64::consts::SQRT_2 - 1.0), x);
    // (1 + x)/2 − 1 = (x − 1)/2, exact for x in [½, 1] and within ½ ulp below.
    let f = s.select(high, s.mul(s.sub(x, one), s.splat(0.5)), x);
    let k = s.select(high, one, s.splat(0.0));
    let y = log_core(s, f, k);
    // A NaN fails the comparison and went through as f = x.
    y
}

/// k·ln 2 + log(1 + f) for √½ ≤ 1 + f ≤ √2.
#[inline(always)]
fn log_core<S: Simd>(s: S, f: S::V, k: S::V) -> S::V {
    let d = s.div(f, s.add(s.splat(2.0), f));
    let z = s.mul(d, d);
    let q = horner(s, z, &LOG);
    // log(1+f) = 2d + d·z·q = f − (f²/2 − d(f²/2 + z q)), which keeps f's bits.
    let half = s.mul(s.mul(f, f), s.splat(0.5));
    let tail = s.mul(d, s.fma(z, q, half));
    let low = s.fma(k, s.splat(LN2_LO), tail);
    let r = s.sub(s.sub(half, low), f);
    s.fma(k, s.splat(LN2_HI), s.neg(r))
}

/// log x; 1 ulp. Subnormal arguments included.
#[inline(always)]
pub fn ln<S: Simd>(s: S, x: S::V) -> S::V {
    let tiny = s.lt(x, s.splat(f64::MIN_POSITIVE));
    let scaled = s.select(tiny, s.mul(x, s.splat(18014398509481984.0)), x); // 2^54
    let bias = s.select(tiny, s.splat(54.0), s.splat(0.0));
    // Split at √2: subtracting the bits of √½ leaves the exponent in the high bits.
    let offset = s.iadd(
        s.bits(scaled),
        s.isplat(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd),
    );
    let m_bits = s.iadd(
        s.iand(offset, s.isplat(0x000f_ffff_ffff_ffff)),
        s.isplat(0x3fe6_a09e_667f_3bcd),
    );
    let f = s.sub(s.of_bits(m_bits), s.splat(1.0));
    // Exponent bits to a number by the 2^52 trick.
    let e_bits = s.ior(s.shr::<52>(offset), s.isplat(0x4330_0000_0000_0000));
    let k = s.sub(
        s.sub(s.of_bits(e_bits), s.splat(4503599627370496.0 + 1023.0)),
        bias,
    );
    let y = log_core(s, f, k);
    let zero = s.splat(0.0);
    let infinite = s.eq(x, s.splat(f64::INFINITY));
    let y = s.select(infinite, x, y);
    let y = s.select(s.eq(x, zero), s.splat(f64::NEG_INFINITY), y);
    let valid = s.le(zero, x);
    s.select(valid, y, s.splat(f64::NAN))
}

/// log(1 + x); 2 ulp.
#[inline(always)]
pub fn log1p<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let u = s.add(one, x);
    // 1 + x = u + c exactly (Fast2Sum with the larger term first).
    let swap = s.lt(one, x);
    let c = s.select(swap, s.sub(one, s.sub(u, x)), s.sub(x, s.sub(u, one)));
    let near = s.and(s.lt(s.splat(-0.29), x), s.lt(x, s.splat(0.41)));
    let direct = log_core(s, s.select(near, x, s.splat(0.0)), s.splat(0.0));
    let correction = s.div(c, u);
    let finite = s.and(s.lt(s.splat(0.0), u), s.lt(u, s.splat(f64::INFINITY)));
    let far = s.add(ln(s, u), s.select(finite, correction, s.splat(0.0)));
    s.select(near, s.select(s.eq(x, s.splat(0.0)), x, direct), far)
}

/// sin x and cos x; 1 ulp up to |x| = 10⁶ (exactly reduced beyond).
#[inline(always)]
pub fn sin_cos<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let huge = s.not(s.le(s.abs(x), s.splat(TRIG_LIMIT)));
    let a = s.select(huge, s.splat(0.0), x);
    let k = round(s, s.mul(a, s.splat(std::f64::consts::FRAC_2_PI)));
    // a − k·π/2 as r + c: the first product is exact and so is the difference.
    let t = s.fnma(k, s.splat(PIO2[0]), a);
    let w = s.mul(k, s.splat(PIO2[1]));
    let u = s.sub(t, w);
    let lost = s.sub(s.sub(t, u), w);
    let low = s.fnma(k, s.splat(PIO2[2]), lost);
    let r = s.add(u, low);
    let c = s.add(s.sub(u, r), low);

    let z = s.mul(r, r);
    // sin(r + c) ≈ sin r + c cos r, cos(r + c) ≈ cos r − c sin r.
    let sr = s.fma(
        s.mul(z, r),
        horner(s, z, &SIN),
        s.fma(s.mul(z, s.splat(-0.5)), c, c),
    );
    let sin_r = s.add(r, sr);
    let half = s.mul(z, s.splat(0.5));
    let one = s.splat(1.0);
    let w = s.sub(one, half);
    let rest = s.fma(
        s.mul(z, z),
        horner(s, z, &COS),
        s.fnma(r, c, s.sub(s.sub(one, w), half)),
    );
    let cos_r = s.add(w, rest);

    // The low bits of k + ROUND are k: quadrant, signs.
    let q = s.bits(s.add(k, s.splat(ROUND)));
    let swap_bit = s.shl::<63>(q);
    let swapped = s.lt(
        s.of_bits(s.ior(swap_bit, s.isplat(1.0f64.to_bits()))),
        s.splat(0.0),
    );
    let sin_sign = s.shl::<62>(s.iand(q, s.isplat(2)));
    let cos_sign = s.shl::<62>(s.iand(s.iadd(q, s.isplat(1)), s.isplat(2)));
    let sin = s.select(swapped, cos_r, sin_r);
    let cos = s.select(swapped, sin_r, cos_r);
    // sin(−0) is −0.
    let sin = s.of_bits(s.ixor(s.bits(sin), sin_sign));
    let sin = s.select(s.eq(a, s.splat(0.0)), a, sin);
    let cos = s.of_bits(s.ixor(s.bits(cos), cos_sign));
    (
        s.patch(huge, x, sin, libm::sin),
        s.patch(huge, x, cos, libm::cos),
    )
}

/// arctan x; 2 ulp.
#[inline(always)]
pub fn atan<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let one = s.splat(1.0);
    let zero = s.splat(0.0);
    // tan(3π/8) and tan(π/8) split the line: r = −1/a, (a − 1)/(a + 1), a.
    let far = s.lt(s.splat(2.414213562373095), a);
    let middle = s.lt(s.splat(0.41421356237309503), a);
    let n = s.select(far, s.splat(-1.0), s.select(middle, s.sub(a, one), a));
    let d = s.select(far, a, s.select(middle, s.add(a, one), one));
    let base = s.select(
        far,
        s.splat(std::f64::consts::FRAC_PI_2),
        s.select(middle, s.splat(std::f64::consts::FRAC_PI_4), zero),
    );
    // The part of π/2 and π/4 that their doubles lose.
    let base_low = s.select(
        far,
        s.splat(6.123233995736766e-17),
        s.select(middle, s.splat(3.061616997868383e-17), zero),
    );
    let r = s.div(n, d);
    let z = s.mul(r, r);
    let tail = s.fma(s.mul(z, r), horner(s, z, &ATAN), base_low);
    let y = s.add(base, s.add(r, tail));
    s.copysign(y, x)
}

/// erf x; 2 ulp.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let near = s.le(a, s.splat(1.0));
    let z = s.mul(x, x);
    let small = s.mul(x, horner(s, s.min_keep(z, s.splat(1.0)), &ERF));
    let large = s.copysign(s.sub(s.splat(1.0), erfc_tail(s, a)), x);
    s.select(near, small, large)
}

/// erfc x = 1 − erf x; 4 ulp, in the right tail too.
#[inline(always)]
pub fn erfc<S: Simd>(s: S, x: S::V) -> S::V {
    let a = s.abs(x);
    let one = s.splat(1.0);
    let near = s.le(a, s.splat(0.5));
    let z = s.min_keep(s.mul(x, x), one);
    let small = s.fnma(x, horner(s, z, &ERF), one);
    let tail = erfc_tail(s, a);
    let large = s.select(s.lt(x, s.splat(0.0)), s.sub(s.splat(2.0), tail), tail);
    s.select(near, small, large)
}

/// erfc a for a ≥ ½ (a is clamped below): e^{−a²}·erfcx(a).
#[inline(always)]
fn erfc_tail<S: Simd>(s: S, a: S::V) -> S::V {
    let a = s.max_keep(s.min_keep(a, s.splat(28.0)), s.splat(0.45));
    let four = s.splat(4.0);
    let t = s.div(s.sub(a, four), s.add(a, four));
    let q = s.div(horner(s, t, &ERFCX), s.fma(a, s.splat(2.0), s.splat(1.0)));
    // e^{−a²} with the rounding error of a² put back.
    let hi = s.mul(a, a);
    let lo = s.fma(a, a, s.neg(hi));
    let e = exp(s, s.neg(hi));
    s.mul(s.fnma(e, lo, e), q)
}

/// x^y for x > 0 by e^{y log x} with the logarithm in two pieces; 2 ulp.
/// Zero, negative and non-finite bases follow `libm::pow`, lane by lane.
#[inline(always)]
pub fn pow<S: Simd>(s: S, x: S::V, y: S::V) -> S::V {
    let xs = s.to_array(x);
    let ys = s.to_array(y);
    let mut out = [0.0; super::simd::LANES];
    for i in 0..out.len() {
        out[i] = libm::pow(xs[i], ys[i]);
    }
    s.load(&out)
}
