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
mod x86;

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
