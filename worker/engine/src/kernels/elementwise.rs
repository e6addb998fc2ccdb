//! Entry-by-entry passes over blocks.

#![allow(
    unsafe_code,
    reason = "raw passes; every range is checked at the safe entry points"
)]

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};

use super::{Operand, Span};

/// One pass over `[groups, features, 8]`: dst = f(a, b, dst).
#[derive(Clone, Copy, Debug)]
struct Pass {
    a: *const f64,
    a_stride: usize,
    b: *const f64,
    b_stride: usize,
    dst: *mut f64,
    dst_stride: usize,
    features: usize,
    groups: usize,
}

macro_rules! pass {
    ($(#[$doc:meta])* $name:ident, $inner:ident, |$s:ident, $a:ident, $b:ident, $d:ident| $body:expr) => {
        #[inline(always)]
        fn $inner<S: Simd>($s: S, p: Pass) {
            for g in 0..p.groups {
                // SAFETY: the entry point checked the three ranges; the operands may be
                // the same block, never overlapping ones.
                unsafe {
                    let (a, b, d) = (p.a.add(g * p.a_stride), p.b.add(g * p.b_stride), p.dst.add(g * p.dst_stride));
                    for f in 0..p.features {
                        let $a = $s.load_ptr(a.add(f * LANES));
                        let $b = $s.load_ptr(b.add(f * LANES));
                        let $d = $s.load_ptr(d.add(f * LANES));
                        let _ = $d;
                        $s.store_ptr($body, d.add(f * LANES));
                    }
                }
            }
        }

        $(#[$doc])*
        ///
        /// # Panics
        /// If a range lies outside its slice.
        pub fn $name(isa: Isa, arena: &mut [f64], a: Operand<'_>, b: Operand<'_>, dst: Operand<'_>, features: usize, groups: usize) {
            let span = Span::new(arena);
            let pass = Pass {
                a: a.read(&span, groups, features),
                a_stride: a.stride,
                b: b.read(&span, groups, features),
                b_stride: b.stride,
                dst: dst.write(&span, groups, features),
                dst_stride: dst.stride,
                features,
                groups,
            };
            dispatch!(isa => (), $inner, pass: Pass);
        }
    };
}

pass!(
    /// dst = a · b
    hadamard, hadamard_pass, |s, a, b, d| s.mul(a, b)
);
pass!(
    /// dst += a · b, rounded once
    hadamard_add, hadamard_add_pass, |s, a, b, d| s.fma(a, b, d)
);
pass!(
    /// dst = a + b
    add_into, add_pass, |s, a, b, d| s.add(a, b)
);

/// dst = a · b + c · d, the second product and the sum rounded once; without d, dst = a · b + c, rounded once.
///
/// # Panics
/// If a range lies outside its slice.
pub fn hadamard_sum(
    isa: Isa,
    arena: &mut [f64],
    [a, b, c]: [Operand<'_>; 3],
    d: Option<Operand<'_>>,
    dst: Operand<'_>,
    features: usize,
    groups: usize,
) {
    #[derive(Clone, Copy)]
    struct Call {
        from: [*const f64; 3],
        strides: [usize; 3],
        /// Null for none.
        d: *const f64,
        d_stride: usize,
        dst: *mut f64,
        dst_stride: usize,
        features: usize,
        groups: usize,
    }
    #[inline(always)]
    fn generic<S: Simd>(s: S, p: Call) {
        for g in 0..p.groups {
            // SAFETY: `hadamard_sum` checked the ranges; the operands may be the same block,
            // never overlapping ones.
            unsafe {
                let a = p.from[0].add(g * p.strides[0]);
                let b = p.from[1].add(g * p.strides[1]);
                let c = p.from[2].add(g * p.strides[2]);
                let dst = p.dst.add(g * p.dst_stride);
                for at in (0..p.features * LANES).step_by(LANES) {
                    let (a, b, c) = (
                        s.load_ptr(a.add(at)),
                        s.load_ptr(b.add(at)),
                        s.load_ptr(c.add(at)),
                    );
                    let sum = if p.d.is_null() {
                        s.fma(a, b, c)
                    } else {
                        let d = s.load_ptr(p.d.add(g * p.d_stride + at));
                        s.fma(c, d, s.mul(a, b))
                    };
                    s.store_ptr(sum, dst.add(at));
                }
            }
        }
    }
    let span = Span::new(arena);
    let call = Call {
        from: [a, b, c].map(|o| o.read(&span, groups, features)),
        strides: [a, b, c].map(|o| o.stride),
        d: d.map_or(std::ptr::null(), |d| d.read(&span, groups, features)),
        d_stride: d.map_or(0, |d| d.stride),
        dst: dst.write(&span, groups, features),
        dst_stride: dst.stride,
        features,
        groups,
    };
    dispatch!(isa => (), generic, call: Call);
}

/// dst = src.
///
/// # Panics
/// If a range lies outside its slice.
pub fn copy(arena: &mut [f64], src: Operand<'_>, dst: Operand<'_>, features: usize, groups: usize) {
    let span = Span::new(arena);
    let from = src.read(&span, groups, features);
    let to = dst.write(&span, groups, features);
    for g in 0..groups {
        // SAFETY: both ranges were checked; `copy` allows overlap.
        unsafe {
            std::ptr::copy(
                from.add(g * src.stride),
                to.add(g * dst.stride),
                features * LANES,
            );
        }
    }
}

/// dst = 0.
///
/// # Panics
/// If the range lies outside the arena.
pub fn zero(arena: &mut [f64], dst: Operand<'_>, features: usize, groups: usize) {
    let span = Span::new(arena);
    let to = dst.write(&span, groups, features);
    for g in 0..groups {
        // SAFETY: the range was checked; zero bits are 0.0.
        unsafe { std::ptr::write_bytes(to.add(g * dst.stride), 0, features * LANES) };
    }
}

/// out_i += Σ over samples of src_i: eight chains a feature, joined by the tree.
///
/// # Panics
/// If a range lies outside its slice.
pub fn row_sums(
    isa: Isa,
    arena: &[f64],
    src: Operand<'_>,
    features: usize,
    groups: usize,
    out: &mut [f64],
) {
    #[derive(Clone, Copy)]
    struct Call {
        src: *const f64,
        stride: usize,
        features: usize,
        groups: usize,
        out: *mut f64,
    }
    #[inline(always)]
    fn generic<S: Simd>(s: S, c: Call) {
        for f in 0..c.features {
            // SAFETY: ranges were checked by `row_sums`.
            unsafe {
                let mut acc = s.splat(0.0);
                for g in 0..c.groups {
                    acc = s.add(acc, s.load_ptr(c.src.add(g * c.stride + f * LANES)));
                }
                *c.out.add(f) += s.sum(acc);
            }
        }
    }
    let span = Span::read_only(arena);
    let call = Call {
        src: src.read(&span, groups, features),
        stride: src.stride,
        features,
        groups,
        out: out[..features].as_mut_ptr(),
    };
    dispatch!(isa => (), generic, call: Call);
}
