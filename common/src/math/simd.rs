//! The virtual vector: eight f64 lanes, whatever the hardware has.
//!
//! A type that implements [`Simd`] is a token: holding one proves that the
//! processor has the instructions, which is why the trait's methods are safe.
//! All code over `S: Simd` is `#[inline(always)]` down from an entry point
//! that carries the matching `#[target_feature]`; see [`dispatch!`].
//!
//! Comparisons are ordered (false on NaN). `select(m, a, b)` is `m ? a : b`.
//!
//! [`dispatch!`]: crate::dispatch

#![allow(
    unsafe_code,
    reason = "register intrinsics; each form is guarded by its token"
)]

/// Lanes of the virtual vector.
pub const LANES: usize = 8;

/// Operations on the virtual vector.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Eight f64.
    type V: Copy;
    /// Eight truth values.
    type M: Copy;
    /// Eight u64.
    type I: Copy;
    /// How many vectors a tile may keep in registers beside its operands.
    const ACCUMULATORS: usize;

    /// All lanes `x`.
    fn splat(self, x: f64) -> Self::V;
    /// Lanes from an array.
    fn load(self, x: &[f64; LANES]) -> Self::V;
    /// Lanes to an array.
    fn store(self, v: Self::V, out: &mut [f64; LANES]);

    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// −(a · b) + c, rounded once
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// √a, correctly rounded
    fn sqrt(self, a: Self::V) -> Self::V;

    /// a < b
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// a ≤ b
    fn le(self, a: Self::V, b: Self::V) -> Self::M;
    /// a = b
    fn eq(self, a: Self::V, b: Self::V) -> Self::M;
    /// m ? a : b
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// a ∧ b
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    /// ¬a
    fn not(self, a: Self::M) -> Self::M;
    /// Whether any lane holds.
    fn any(self, m: Self::M) -> bool;

    /// The bits of each lane.
    fn bits(self, a: Self::V) -> Self::I;
    /// Lanes from their bits.
    fn of_bits(self, a: Self::I) -> Self::V;
    /// All lanes `x`.
    fn isplat(self, x: u64) -> Self::I;
    /// Wrapping a + b
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn iand(self, a: Self::I, b: Self::I) -> Self::I;
    /// a | b
    fn ior(self, a: Self::I, b: Self::I) -> Self::I;
    /// a ^ b
    fn ixor(self, a: Self::I, b: Self::I) -> Self::I;
    /// a << N
    fn shl<const N: i32>(self, a: Self::I) -> Self::I;
    /// a >> N, zeros shifted in
    fn shr<const N: i32>(self, a: Self::I) -> Self::I;

    /// −a
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        self.of_bits(self.ixor(self.bits(a), self.isplat(1 << 63)))
    }
    /// |a|
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        self.of_bits(self.iand(self.bits(a), self.isplat(!(1 << 63))))
    }
    /// |a| with the sign of `sign`
    #[inline(always)]
    fn copysign(self, a: Self::V, sign: Self::V) -> Self::V {
        let s = self.iand(self.bits(sign), self.isplat(1 << 63));
        let m = self.iand(self.bits(a), self.isplat(!(1 << 63)));
        self.of_bits(self.ior(m, s))
    }
    /// min(a, b) where a NaN in `a` stays
    #[inline(always)]
    fn min_keep(self, a: Self::V, b: Self::V) -> Self::V {
        self.select(self.lt(b, a), b, a)
    }
    /// max(a, b) where a NaN in `a` stays
    #[inline(always)]
    fn max_keep(self, a: Self::V, b: Self::V) -> Self::V {
        self.select(self.lt(a, b), b, a)
    }
    /// The first eight numbers of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn load_slice(self, x: &[f64]) -> Self::V {
        self.load(x.first_chunk::<LANES>().expect("eight lanes"))
    }
    /// Into the first eight numbers of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    fn store_slice(self, v: Self::V, out: &mut [f64]) {
        self.store(v, out.first_chunk_mut::<LANES>().expect("eight lanes"));
    }
    /// The lanes as an array.
    #[inline(always)]
    fn to_array(self, v: Self::V) -> [f64; LANES] {
        let mut out = [0.0; LANES];
        self.store(v, &mut out);
        out
    }
    /// Eight numbers from an address.
    ///
    /// # Safety
    /// The eight numbers at `x` must be readable.
    #[inline(always)]
    unsafe fn load_ptr(self, x: *const f64) -> Self::V {
        // SAFETY: the caller's promise; arrays of f64 need no more alignment than f64.
        self.load(unsafe { &*x.cast::<[f64; LANES]>() })
    }
    /// Eight numbers to an address.
    ///
    /// # Safety
    /// The eight numbers at `out` must be writable.
    #[inline(always)]
    unsafe fn store_ptr(self, v: Self::V, out: *mut f64) {
        // SAFETY: the caller's promise.
        self.store(v, unsafe { &mut *out.cast::<[f64; LANES]>() });
    }
    /// Asks for the line at an address, which need not be valid, where the processor can.
    #[inline(always)]
    fn prefetch(self, x: *const f64) {
        let _ = x;
    }
    /// Sum of the lanes in a fixed tree: ((0+4)+(2+6)) + ((1+5)+(3+7)).
    #[inline(always)]
    fn sum(self, v: Self::V) -> f64 {
        let a = self.to_array(v);
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    /// Rows to columns.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let a = rows.map(|v| self.to_array(v));
        let mut out = rows;
        for (j, out) in out.iter_mut().enumerate() {
            let mut column = [0.0; LANES];
            for (i, c) in column.iter_mut().enumerate() {
                *c = a[i][j];
            }
            *out = self.load(&column);
        }
        out
    }
    /// Applies a scalar function to the lanes where `m` holds.
    #[inline(always)]
    fn patch(self, m: Self::M, x: Self::V, y: Self::V, f: fn(f64) -> f64) -> Self::V {
        if !self.any(m) {
            return y;
        }
        let fixed = self.to_array(x).map(f);
        self.select(m, self.load(&fixed), y)
    }
}

/// Eight numbers in an array: the form for processors without AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

macro_rules! per_lane {
    ($f:expr, $a:expr) => {{
        let (f, a) = ($f, $a);
        [
            f(a[0]),
            f(a[1]),
            f(a[2]),
            f(a[3]),
            f(a[4]),
            f(a[5]),
            f(a[6]),
            f(a[7]),
        ]
    }};
    ($f:expr, $a:expr, $b:expr) => {{
        let (f, a, b) = ($f, $a, $b);
        let mut out = [f(a[0], b[0]); LANES];
        for i in 1..LANES {
            out[i] = f(a[i], b[i]);
        }
        out
    }};
}

impl Simd for Portable {
    type V = [f64; LANES];
    type M = [bool; LANES];
    type I = [u64; LANES];
    const ACCUMULATORS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f64) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f64; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f64; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        per_lane!(|x: f64, y: f64| x + y, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        per_lane!(|x: f64, y: f64| x - y, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        per_lane!(|x: f64, y: f64| x * y, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        per_lane!(|x: f64, y: f64| x / y, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            out[i] = (-a[i]).mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        per_lane!(f64::sqrt, a)
    }
    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        per_lane!(|x, y| x < y, a, b)
    }
    #[inline(always)]
    fn le(self, a: Self::V, b: Self::V) -> Self::M {
        per_lane!(|x, y| x <= y, a, b)
    }
    #[inline(always)]
    fn eq(self, a: Self::V, b: Self::V) -> Self::M {
        per_lane!(|x, y| x == y, a, b)
    }
    #[inline(always)]
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V {
        let mut out = b;
        for i in 0..LANES {
            if m[i] {
                out[i] = a[i];
            }
        }
        out
    }
    #[inline(always)]
    fn and(self, a: Self::M, b: Self::M) -> Self::M {
        per_lane!(|x, y| x & y, a, b)
    }
    #[inline(always)]
    fn not(self, a: Self::M) -> Self::M {
        per_lane!(|x: bool| !x, a)
    }
    #[inline(always)]
    fn any(self, m: Self::M) -> bool {
        m.contains(&true)
    }
    #[inline(always)]
    fn bits(self, a: Self::V) -> Self::I {
        per_lane!(f64::to_bits, a)
    }
    #[inline(always)]
    fn of_bits(self, a: Self::I) -> Self::V {
        per_lane!(f64::from_bits, a)
    }
    #[inline(always)]
    fn isplat(self, x: u64) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I {
        per_lane!(u64::wrapping_add, a, b)
    }
    #[inline(always)]
    fn iand(self, a: Self::I, b: Self::I) -> Self::I {
        per_lane!(|x, y| x & y, a, b)
    }
    #[inline(always)]
    fn ior(self, a: Self::I, b: Self::I) -> Self::I {
        per_lane!(|x, y| x | y, a, b)
    }
    #[inline(always)]
    fn ixor(self, a: Self::I, b: Self::I) -> Self::I {
        per_lane!(|x, y| x ^ y, a, b)
    }
    #[inline(always)]
    fn shl<const N: i32>(self, a: Self::I) -> Self::I {
        per_lane!(|x: u64| x << N, a)
    }
    #[inline(always)]
    fn shr<const N: i32>(self, a: Self::I) -> Self::I {
        per_lane!(|x: u64| x >> N, a)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
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
}

/// Writes the entry points of a generic kernel and chooses among them.
///
/// `dispatch!(isa => Ret, f, a: A, b: B)` calls the `#[inline(always)]`
/// function `f(token, a, b) -> Ret`, generic over the token, compiled for the
/// instructions of `isa`.
#[macro_export]
macro_rules! dispatch {
    ($isa:expr => $ret:ty, $f:path, $($arg:ident : $ty:ty),* $(,)?) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
            #[allow(unsafe_code)]
            fn avx512($($arg: $ty),*) -> $ret {
                // SAFETY: this function is only reached when the level is AVX-512.
                $f(unsafe { $crate::math::simd::Avx512::new_unchecked() }, $($arg),*)
            }
            #[target_feature(enable = "avx2,fma")]
            #[allow(unsafe_code)]
            fn avx2($($arg: $ty),*) -> $ret {
                // SAFETY: this function is only reached when the level is AVX2.
                $f(unsafe { $crate::math::simd::Avx2::new_unchecked() }, $($arg),*)
            }
            // SAFETY: an `Isa` exists only for a level that the processor was checked for.
            #[allow(unsafe_code)]
            match $crate::math::Isa::level($isa) {
                $crate::math::CpuLevel::Avx512 => unsafe { avx512($($arg),*) },
                $crate::math::CpuLevel::Avx2 => unsafe { avx2($($arg),*) },
                $crate::math::CpuLevel::Portable => {
                    $f($crate::math::simd::Portable, $($arg),*)
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _: $crate::math::Isa = $isa;
            $f($crate::math::simd::Portable, $($arg),*)
        }
    }};
}
