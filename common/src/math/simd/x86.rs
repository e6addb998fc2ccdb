//! The virtual vector in registers of x86-64: two of AVX2, or one of AVX-512.

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// Two 256-bit registers.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// One 512-bit register.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx2 {
    /// The token.
    ///
    /// # Safety
    /// The processor must support AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

impl Avx512 {
    /// The token.
    ///
    /// # Safety
    /// The processor must support AVX-512 F, DQ and VL, AVX2 and FMA.
    #[inline(always)]
    pub unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

/// (0+2) + (1+3) of four lanes: the last two levels of the tree.
#[inline(always)]
unsafe fn sum4(v: __m256d) -> f64 {
    unsafe {
        let pair = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
        _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)))
    }
}

#[inline(always)]
unsafe fn transpose4(r: [__m256d; 4]) -> [__m256d; 4] {
    unsafe {
        let (a, b) = (
            _mm256_unpacklo_pd(r[0], r[1]),
            _mm256_unpackhi_pd(r[0], r[1]),
        );
        let (c, d) = (
            _mm256_unpacklo_pd(r[2], r[3]),
            _mm256_unpackhi_pd(r[2], r[3]),
        );
        [
            _mm256_permute2f128_pd::<0x20>(a, c),
            _mm256_permute2f128_pd::<0x20>(b, d),
            _mm256_permute2f128_pd::<0x31>(a, c),
            _mm256_permute2f128_pd::<0x31>(b, d),
        ]
    }
}

type D2 = [__m256d; 2];
type I2 = [__m256i; 2];

// Safety of every block below: the token proves the instructions exist;
// loads and stores go through references to arrays of eight f64.
macro_rules! both {
    ($f:ident, $a:expr) => {
        unsafe { [$f($a[0]), $f($a[1])] }
    };
    ($f:ident, $a:expr, $b:expr) => {
        unsafe { [$f($a[0], $b[0]), $f($a[1], $b[1])] }
    };
    ($f:ident, $a:expr, $b:expr, $c:expr) => {
        unsafe { [$f($a[0], $b[0], $c[0]), $f($a[1], $b[1], $c[1])] }
    };
}

impl Simd for Avx2 {
    type V = D2;
    type M = D2;
    type I = I2;
    const ACCUMULATORS: usize = 6;

    #[inline(always)]
    fn prefetch(self, x: *const f64) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
    #[inline(always)]
    fn sum(self, v: D2) -> f64 {
        unsafe { sum4(_mm256_add_pd(v[0], v[1])) }
    }
    #[inline(always)]
    fn transpose(self, r: [D2; LANES]) -> [D2; LANES] {
        unsafe {
            let a = transpose4([r[0][0], r[1][0], r[2][0], r[3][0]]);
            let b = transpose4([r[4][0], r[5][0], r[6][0], r[7][0]]);
            let c = transpose4([r[0][1], r[1][1], r[2][1], r[3][1]]);
            let d = transpose4([r[4][1], r[5][1], r[6][1], r[7][1]]);
            [
                [a[0], b[0]],
                [a[1], b[1]],
                [a[2], b[2]],
                [a[3], b[3]],
                [c[0], d[0]],
                [c[1], d[1]],
                [c[2], d[2]],
                [c[3], d[3]],
            ]
        }
    }

    #[inline(always)]
    fn splat(self, x: f64) -> D2 {
        unsafe { [_mm256_set1_pd(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &[f64; LANES]) -> D2 {
        unsafe {
            [
                _mm256_loadu_pd(x.as_ptr()),
                _mm256_loadu_pd(x.as_ptr().add(4)),
            ]
        }
    }
    #[inline(always)]
    fn store(self, v: D2, out: &mut [f64; LANES]) {
        unsafe {
            _mm256_storeu_pd(out.as_mut_ptr(), v[0]);
            _mm256_storeu_pd(out.as_mut_ptr().add(4), v[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: D2, b: D2) -> D2 {
        both!(_mm256_add_pd, a, b)
    }
    #[inline(always)]
    fn sub(self, a: D2, b: D2) -> D2 {
        both!(_mm256_sub_pd, a, b)
    }
    #[inline(always)]
    fn mul(self, a: D2, b: D2) -> D2 {
        both!(_mm256_mul_pd, a, b)
    }
    #[inline(always)]
    fn div(self, a: D2, b: D2) -> D2 {
        both!(_mm256_div_pd, a, b)
    }
    #[inline(always)]
    fn fma(self, a: D2, b: D2, c: D2) -> D2 {
        both!(_mm256_fmadd_pd, a, b, c)
    }
    #[inline(always)]
    fn fnma(self, a: D2, b: D2, c: D2) -> D2 {
        both!(_mm256_fnmadd_pd, a, b, c)
    }
    #[inline(always)]
    fn sqrt(self, a: D2) -> D2 {
        both!(_mm256_sqrt_pd, a)
    }
    #[inline(always)]
    fn lt(self, a: D2, b: D2) -> D2 {
        unsafe {
            [
                _mm256_cmp_pd::<_CMP_LT_OQ>(a[0], b[0]),
                _mm256_cmp_pd::<_CMP_LT_OQ>(a[1], b[1]),
            ]
        }
    }
    #[inline(always)]
    fn le(self, a: D2, b: D2) -> D2 {
        unsafe {
            [
                _mm256_cmp_pd::<_CMP_LE_OQ>(a[0], b[0]),
                _mm256_cmp_pd::<_CMP_LE_OQ>(a[1], b[1]),
            ]
        }
    }
    #[inline(always)]
    fn eq(self, a: D2, b: D2) -> D2 {
        unsafe {
            [
                _mm256_cmp_pd::<_CMP_EQ_OQ>(a[0], b[0]),
                _mm256_cmp_pd::<_CMP_EQ_OQ>(a[1], b[1]),
            ]
        }
    }
    #[inline(always)]
    fn select(self, m: D2, a: D2, b: D2) -> D2 {
        both!(_mm256_blendv_pd, b, a, m)
    }
    #[inline(always)]
    fn and(self, a: D2, b: D2) -> D2 {
        both!(_mm256_and_pd, a, b)
    }
    #[inline(always)]
    fn not(self, a: D2) -> D2 {
        let ones = unsafe { [_mm256_castsi256_pd(_mm256_set1_epi64x(-1)); 2] };
        both!(_mm256_xor_pd, a, ones)
    }
    #[inline(always)]
    fn any(self, m: D2) -> bool {
        unsafe { (_mm256_movemask_pd(m[0]) | _mm256_movemask_pd(m[1])) != 0 }
    }
    #[inline(always)]
    fn bits(self, a: D2) -> I2 {
        both!(_mm256_castpd_si256, a)
    }
    #[inline(always)]
    fn of_bits(self, a: I2) -> D2 {
        both!(_mm256_castsi256_pd, a)
    }
    #[inline(always)]
    fn isplat(self, x: u64) -> I2 {
        unsafe { [_mm256_set1_epi64x(x.cast_signed()); 2] }
    }
    #[inline(always)]
    fn iadd(self, a: I2, b: I2) -> I2 {
        both!(_mm256_add_epi64, a, b)
    }
    #[inline(always)]
    fn iand(self, a: I2, b: I2) -> I2 {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn ior(self, a: I2, b: I2) -> I2 {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn ixor(self, a: I2, b: I2) -> I2 {
        both!(_mm256_xor_si256, a, b)
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: I2) -> I2 {
        unsafe { [_mm256_slli_epi64::<N>(a[0]), _mm256_slli_epi64::<N>(a[1])] }
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: I2) -> I2 {
        unsafe { [_mm256_srli_epi64::<N>(a[0]), _mm256_srli_epi64::<N>(a[1])] }
    }
}

impl Simd for Avx512 {
    type V = __m512d;
    type M = __mmask8;
    type I = __m512i;
    const ACCUMULATORS: usize = 24;

    #[inline(always)]
    fn prefetch(self, x: *const f64) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
    #[inline(always)]
    fn sum(self, v: __m512d) -> f64 {
        unsafe {
            let low = _mm512_castpd512_pd256(v);
            let high = _mm512_extractf64x4_pd::<1>(v);
            sum4(_mm256_add_pd(low, high))
        }
    }
    #[inline(always)]
    fn transpose(self, r: [__m512d; LANES]) -> [__m512d; LANES] {
        unsafe {
            // Pairs of rows, then pairs of pairs, then halves.
            let p = |i: usize| {
                (
                    _mm512_unpacklo_pd(r[i], r[i + 1]),
                    _mm512_unpackhi_pd(r[i], r[i + 1]),
                )
            };
            let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (p(0), p(2), p(4), p(6));
            let q = |x: __m512d, y: __m512d| {
                (
                    _mm512_shuffle_f64x2::<0x88>(x, y),
                    _mm512_shuffle_f64x2::<0xdd>(x, y),
                )
            };
            let ((ab00, ab01), (ab10, ab11)) = (q(a0, b0), q(a1, b1));
            let ((cd00, cd01), (cd10, cd11)) = (q(c0, d0), q(c1, d1));
            let ((r0, r4), (r2, r6)) = (q(ab00, cd00), q(ab01, cd01));
            let ((r1, r5), (r3, r7)) = (q(ab10, cd10), q(ab11, cd11));
            [r0, r1, r2, r3, r4, r5, r6, r7]
        }
    }

    #[inline(always)]
    fn splat(self, x: f64) -> __m512d {
        unsafe { _mm512_set1_pd(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f64; LANES]) -> __m512d {
        unsafe { _mm512_loadu_pd(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512d, out: &mut [f64; LANES]) {
        unsafe { _mm512_storeu_pd(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn add(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_add_pd(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_sub_pd(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_mul_pd(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_div_pd(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        unsafe { _mm512_fnmadd_pd(a, b, c) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512d) -> __m512d {
        unsafe { _mm512_sqrt_pd(a) }
    }
    #[inline(always)]
    fn lt(self, a: __m512d, b: __m512d) -> __mmask8 {
        unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m512d, b: __m512d) -> __mmask8 {
        unsafe { _mm512_cmp_pd_mask::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn eq(self, a: __m512d, b: __m512d) -> __mmask8 {
        unsafe { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, m: __mmask8, a: __m512d, b: __m512d) -> __m512d {
        unsafe { _mm512_mask_blend_pd(m, b, a) }
    }
    #[inline(always)]
    fn and(self, a: __mmask8, b: __mmask8) -> __mmask8 {
        a & b
    }
    #[inline(always)]
    fn not(self, a: __mmask8) -> __mmask8 {
        !a
    }
    #[inline(always)]
    fn any(self, m: __mmask8) -> bool {
        m != 0
    }
    #[inline(always)]
    fn bits(self, a: __m512d) -> __m512i {
        unsafe { _mm512_castpd_si512(a) }
    }
    #[inline(always)]
    fn of_bits(self, a: __m512i) -> __m512d {
        unsafe { _mm512_castsi512_pd(a) }
    }
    #[inline(always)]
    fn isplat(self, x: u64) -> __m512i {
        unsafe { _mm512_set1_epi64(x.cast_signed()) }
    }
    #[inline(always)]
    fn iadd(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi64(a, b) }
    }
    #[inline(always)]
    fn iand(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn ior(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn ixor(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: __m512i) -> __m512i {
        // The shift count of the 512-bit form is unsigned; go through a register count.
        unsafe { _mm512_sll_epi64(a, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: __m512i) -> __m512i {
        unsafe { _mm512_srl_epi64(a, _mm_cvtsi32_si128(N)) }
    }
}
