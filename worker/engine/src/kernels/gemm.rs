//! Products of a weight matrix with a block, and of two blocks.

#![allow(
    unsafe_code,
    reason = "raw tiles; every range is checked at the safe entry points"
)]

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};

use super::{Operand, Span};

/// From this many columns on, [`outer`] works on a transposed copy, a panel at a time.
pub const WIDE: usize = 48;
/// Columns of a panel, at most.
pub const PANEL: usize = 3 * LANES;

/// A weight matrix and how it is applied.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// Row-major `[rows, cols]`.
    pub weights: &'a [f64],
    /// Rows as stored.
    pub rows: usize,
    /// Columns as stored.
    pub cols: usize,
    /// Apply the transpose.
    pub transposed: bool,
}

impl Product<'_> {
    /// Features that come out.
    fn outputs(&self) -> usize {
        if self.transposed {
            self.cols
        } else {
            self.rows
        }
    }
    /// Features that go in.
    fn inputs(&self) -> usize {
        if self.transposed {
            self.rows
        } else {
            self.cols
        }
    }
}

/// What an entry's chain begins with.
#[derive(Clone, Copy, Debug)]
enum Init {
    Zero,
    /// One number a row.
    Bias(*const f64),
    /// A block.
    Base(*const f64, usize),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    weights: *const f64,
    row_step: usize,
    k_step: usize,
    outputs: usize,
    inputs: usize,
    src: *const f64,
    src_stride: usize,
    dst: *mut f64,
    dst_stride: usize,
    init: Init,
    /// Entrywise factor on the finished chain; null for none.
    factor: *const f64,
    factor_stride: usize,
    groups: usize,
}

/// dst = init + P·src, entrywise times `factor` where given.
///
/// Shapes: `src` is `[groups, inputs, 8]`, `dst` `[groups, outputs, 8]`, with
/// (outputs, inputs) the shape of P as applied; `bias` is `[outputs]`; `base`
/// and `factor` have `dst`'s shape. `base` may be `dst` itself (accumulation).
/// At most one of `bias` and `base` is given.
///
/// # Panics
/// If a range lies outside its slice.
#[expect(clippy::too_many_arguments, reason = "a BLAS-like primitive")]
pub fn affine(
    isa: Isa,
    arena: &mut [f64],
    product: Product<'_>,
    bias: Option<&[f64]>,
    base: Option<Operand<'_>>,
    src: Operand<'_>,
    dst: Operand<'_>,
    factor: Option<Operand<'_>>,
    groups: usize,
) {
    let span = Span::new(arena);
    let (outputs, inputs) = (product.outputs(), product.inputs());
    assert!(
        product.weights.len() >= product.rows * product.cols,
        "weights too short"
    );
    assert!(
        bias.is_none() || base.is_none(),
        "bias and base are exclusive"
    );
    let (row_step, k_step) = if product.transposed {
        (1, product.cols)
    } else {
        (product.cols, 1)
    };
    let init = match (bias, base) {
        (Some(b), _) => Init::Bias(b[..outputs].as_ptr()),
        (_, Some(b)) => Init::Base(b.read(&span, groups, outputs), b.stride),
        _ => Init::Zero,
    };
    let call = Call {
        weights: product.weights.as_ptr(),
        row_step,
        k_step,
        outputs,
        inputs,
        src: src.read(&span, groups, inputs),
        src_stride: src.stride,
        factor: factor.map_or(std::ptr::null(), |f| f.read(&span, groups, outputs)),
        factor_stride: factor.map_or(0, |f| f.stride),
        init,
        dst: dst.write(&span, groups, outputs),
        dst_stride: dst.stride,
        groups,
    };
    dispatch!(isa => (), affine_call, call: Call);
}

/// The size of the `i`-th of `tiles` nearly equal parts of `n`.
#[inline(always)]
fn part(n: usize, tiles: usize, i: usize) -> (usize, usize) {
    let first = n * i / tiles;
    (first, n * (i + 1) / tiles - first)
}

#[inline(always)]
fn affine_call<S: Simd>(s: S, c: Call) {
    // SAFETY: `affine` has checked every range that the tiles touch: they stay
    // below `outputs`, `inputs` and `groups`.
    unsafe {
        if S::ACCUMULATORS >= 24 {
            affine_tiles::<S, 8, 3>(s, &c);
        } else {
            affine_tiles::<S, 6, 1>(s, &c);
        }
    }
}

/// Cuts the output into tiles of at most R features × G groups.
#[inline(always)]
unsafe fn affine_tiles<S: Simd, const R: usize, const G: usize>(s: S, c: &Call) {
    let row_tiles = c.outputs.div_ceil(R);
    let group_tiles = c.groups.div_ceil(G);
    // Blocks of wide layers come from far away, and the processor looks ahead within a page only.
    let far = c.inputs >= WIDE;
    for gt in 0..group_tiles {
        let (g0, gn) = part(c.groups, group_tiles, gt);
        let (next, nexts) = part(c.groups, group_tiles, gt + 1);
        for rt in 0..row_tiles {
            let (r0, rn) = part(c.outputs, row_tiles, rt);
            if far && gt + 1 < group_tiles {
                // What the next groups read, a share with each tile.
                let (k0, kn) = part(c.inputs, row_tiles, rt);
                for g in next..next + nexts {
                    for k in k0..k0 + kn {
                        s.prefetch(c.src.wrapping_add(g * c.src_stride + k * LANES));
                    }
                }
            }
            let ahead = if far && gt == 0 && rt + 1 < row_tiles {
                c.weights.wrapping_add((r0 + rn) * c.row_step)
            } else {
                std::ptr::null()
            };
            macro_rules! tile {
                ($($r:literal)*) => {
                    match (rn, gn) {
                        $(($r, 1) => unsafe { affine_tile::<S, $r, 1>(s, c, r0, g0, ahead) },
                          ($r, 2) if G > 1 => unsafe { affine_tile::<S, $r, 2>(s, c, r0, g0, ahead) },
                          ($r, 3) if G > 1 => unsafe { affine_tile::<S, $r, 3>(s, c, r0, g0, ahead) },)*
                        _ => unreachable!("tile sizes are 1..=8 by 1..=3"),
                    }
                };
            }
            tile!(1 2 3 4 5 6 7 8);
        }
    }
}

/// `ahead` is where the weights of the next tile begin, null if they are near.
#[inline(always)]
unsafe fn affine_tile<S: Simd, const R: usize, const G: usize>(
    s: S,
    c: &Call,
    r0: usize,
    g0: usize,
    ahead: *const f64,
) {
    // A line of weights holds eight inputs of a row or, transposed, eight rows of an input: with
    // each input one line of the next tile.
    let row = if c.k_step == 1 { LANES - 1 } else { 0 };
    // SAFETY: r0 + R ≤ outputs and g0 + G ≤ groups; `affine` checked the ranges.
    unsafe {
        let mut acc = [[s.splat(0.0); G]; R];
        match c.init {
            Init::Zero => {}
            Init::Bias(bias) => {
                for (r, row) in acc.iter_mut().enumerate() {
                    *row = [s.splat(*bias.add(r0 + r)); G];
                }
            }
            Init::Base(base, stride) => {
                for (r, row) in acc.iter_mut().enumerate() {
                    for (g, v) in row.iter_mut().enumerate() {
                        *v = s.load_ptr(base.add((g0 + g) * stride + (r0 + r) * LANES));
                    }
                }
            }
        }
        let w = c.weights.add(r0 * c.row_step);
        let x = c.src.add(g0 * c.src_stride);
        for k in 0..c.inputs {
            let mut xs = [s.splat(0.0); G];
            for (g, v) in xs.iter_mut().enumerate() {
                *v = s.load_ptr(x.add(g * c.src_stride + k * LANES));
            }
            if !ahead.is_null() {
                s.prefetch(ahead.wrapping_add((k & row) * c.row_step + (k & !row) * c.k_step));
            }
            let wk = w.add(k * c.k_step);
            for (r, row) in acc.iter_mut().enumerate() {
                let a = s.splat(*wk.add(r * c.row_step));
                for (v, x) in row.iter_mut().zip(xs) {
                    *v = s.fma(a, x, *v);
                }
            }
        }
        if !c.factor.is_null() {
            for (r, row) in acc.iter_mut().enumerate() {
                for (g, v) in row.iter_mut().enumerate() {
                    let f = c.factor.add((g0 + g) * c.factor_stride + (r0 + r) * LANES);
                    *v = s.mul(*v, s.load_ptr(f));
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (g, v) in row.iter().enumerate() {
                s.store_ptr(*v, c.dst.add((g0 + g) * c.dst_stride + (r0 + r) * LANES));
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct OuterCall {
    left: *const f64,
    left_stride: usize,
    rows: usize,
    right: *const f64,
    right_stride: usize,
    cols: usize,
    out: *mut f64,
    groups: usize,
    scratch: *mut f64,
}

/// out += Σ over samples of left ⊗ right.
///
/// Shapes: `left` `[groups, rows, 8]`, `right` `[groups, cols, 8]`, `out`
/// row-major `[rows, cols]`. `scratch` needs `8 · groups · PANEL` numbers when
/// `cols ≥ WIDE`, nothing otherwise. Samples that pad
/// the last group must be zero in `left`.
///
/// # Panics
/// If a range lies outside its slice.
#[expect(clippy::too_many_arguments, reason = "a BLAS-like primitive")]
pub fn outer(
    isa: Isa,
    arena: &[f64],
    left: Operand<'_>,
    rows: usize,
    right: Operand<'_>,
    cols: usize,
    groups: usize,
    out: &mut [f64],
    scratch: &mut [f64],
) {
    assert!(out.len() >= rows * cols, "output too short");
    if cols >= WIDE {
        assert!(scratch.len() >= groups * LANES * PANEL, "scratch too short");
    }
    let span = Span::read_only(arena);
    let call = OuterCall {
        left: left.read(&span, groups, rows),
        left_stride: left.stride,
        rows,
        right: right.read(&span, groups, cols),
        right_stride: right.stride,
        cols,
        out: out.as_mut_ptr(),
        groups,
        scratch: scratch.as_mut_ptr(),
    };
    dispatch!(isa => (), outer_call, call: OuterCall);
}

#[inline(always)]
fn outer_call<S: Simd>(s: S, c: OuterCall) {
    // SAFETY: `outer` has checked every range.
    unsafe {
        match (c.cols >= WIDE, S::ACCUMULATORS >= 24) {
            (true, true) => outer_wide::<S, 8, 3>(s, &c),
            (true, false) => outer_wide::<S, 6, 1>(s, &c),
            (false, true) => outer_narrow::<S, 3, 8>(s, &c),
            (false, false) => outer_narrow::<S, 2, 3>(s, &c),
        }
    }
}

/// Eight chains a pair of features, joined at the end.
#[inline(always)]
unsafe fn outer_narrow<S: Simd, const R: usize, const K: usize>(s: S, c: &OuterCall) {
    let row_tiles = c.rows.div_ceil(R);
    let col_tiles = c.cols.div_ceil(K);
    for ct in 0..col_tiles {
        let (k0, kn) = part(c.cols, col_tiles, ct);
        for rt in 0..row_tiles {
            let (r0, rn) = part(c.rows, row_tiles, rt);
            macro_rules! tile {
                ($($k:literal)*) => {
                    match (kn, rn) {
                        $(($k, 1) => unsafe { narrow_tile::<S, 1, $k>(s, c, r0, k0) },
                          ($k, 2) => unsafe { narrow_tile::<S, 2, $k>(s, c, r0, k0) },
                          ($k, 3) if R > 2 => unsafe { narrow_tile::<S, 3, $k>(s, c, r0, k0) },)*
                        _ => unreachable!("tile sizes are 1..=3 by 1..=8"),
                    }
                };
            }
            tile!(1 2 3 4 5 6 7 8);
        }
    }
}

#[inline(always)]
unsafe fn narrow_tile<S: Simd, const R: usize, const K: usize>(
    s: S,
    c: &OuterCall,
    r0: usize,
    k0: usize,
) {
    // SAFETY: r0 + R ≤ rows, k0 + K ≤ cols; `outer` checked the ranges.
    unsafe {
        let mut acc = [[s.splat(0.0); K]; R];
        for g in 0..c.groups {
            let l = c.left.add(g * c.left_stride + r0 * LANES);
            let x = c.right.add(g * c.right_stride + k0 * LANES);
            let mut ls = [s.splat(0.0); R];
            for (r, v) in ls.iter_mut().enumerate() {
                *v = s.load_ptr(l.add(r * LANES));
            }
            #[expect(clippy::needless_range_loop, reason = "k runs over columns of acc")]
            for k in 0..K {
                let xv = s.load_ptr(x.add(k * LANES));
                for r in 0..R {
                    acc[r][k] = s.fma(ls[r], xv, acc[r][k]);
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (k, v) in row.iter().enumerate() {
                let out = c.out.add((r0 + r) * c.cols + k0 + k);
                *out += s.sum(*v);
            }
        }
    }
}

/// One chain a pair of features, vectorised over the columns of a transposed copy.
#[inline(always)]
unsafe fn outer_wide<S: Simd, const R: usize, const K: usize>(s: S, c: &OuterCall) {
    let vectors = c.cols.div_ceil(LANES);
    let col_tiles = vectors.div_ceil(K);
    let row_tiles = c.rows.div_ceil(R);
    for ct in 0..col_tiles {
        let (k0, kn) = part(vectors, col_tiles, ct);
        // SAFETY: `scratch` holds groups · 8 · PANEL numbers, and kn ≤ K ≤ PANEL / 8.
        unsafe { pack(s, c, k0, kn) };
        let (next, nexts) = part(vectors, col_tiles, ct + 1);
        for rt in 0..row_tiles {
            let (r0, rn) = part(c.rows, row_tiles, rt);
            if ct + 1 < col_tiles {
                // What the next panel is made of, a share with each tile.
                let (g0, gn) = part(c.groups, row_tiles, rt);
                for g in g0..g0 + gn {
                    for k in next * LANES..(next + nexts) * LANES {
                        s.prefetch(c.right.wrapping_add(g * c.right_stride + k * LANES));
                    }
                }
            }
            macro_rules! tile {
                ($($r:literal)*) => {
                    match (rn, kn) {
                        $(($r, 1) => unsafe { wide_tile::<S, $r, 1>(s, c, r0, k0) },
                          ($r, 2) if K > 1 => unsafe { wide_tile::<S, $r, 2>(s, c, r0, k0) },
                          ($r, 3) if K > 1 => unsafe { wide_tile::<S, $r, 3>(s, c, r0, k0) },)*
                        _ => unreachable!("tile sizes are 1..=8 by 1..=3"),
                    }
                };
            }
            tile!(1 2 3 4 5 6 7 8);
        }
    }
}

/// Transposes the columns of `kn` vectors, from vector `k0` on, into `scratch`:
/// `[groups · 8, 8 · kn]`, zeros beyond the last column.
#[inline(always)]
unsafe fn pack<S: Simd>(s: S, c: &OuterCall, k0: usize, kn: usize) {
    for g in 0..c.groups {
        for k in 0..kn {
            let first = (k0 + k) * LANES;
            let from = c.right.wrapping_add(g * c.right_stride + first * LANES);
            let mut columns = [s.splat(0.0); LANES];
            // SAFETY: `right` holds the columns below `cols` of every group.
            unsafe {
                if first + LANES <= c.cols {
                    for (i, v) in columns.iter_mut().enumerate() {
                        *v = s.load_ptr(from.add(i * LANES));
                    }
                } else {
                    for (i, v) in columns.iter_mut().enumerate().take(c.cols - first) {
                        *v = s.load_ptr(from.add(i * LANES));
                    }
                }
            }
            for (i, v) in s.transpose(columns).into_iter().enumerate() {
                // SAFETY: below groups · 8 · 8 · kn.
                unsafe { s.store_ptr(v, c.scratch.add(((g * LANES + i) * kn + k) * LANES)) };
            }
        }
    }
}

#[inline(always)]
unsafe fn wide_tile<S: Simd, const R: usize, const K: usize>(
    s: S,
    c: &OuterCall,
    r0: usize,
    k0: usize,
) {
    for r in 0..R {
        for k in 0..K {
            s.prefetch(c.out.wrapping_add((r0 + r) * c.cols + (k0 + k) * LANES));
        }
    }
    // SAFETY: r0 + R ≤ rows, the panel holds K vectors a sample; `outer` checked the ranges.
    unsafe {
        let mut acc = [[s.splat(0.0); K]; R];
        for g in 0..c.groups {
            let l = c.left.add(g * c.left_stride + r0 * LANES);
            let x = c.scratch.add(g * LANES * K * LANES);
            for lane in 0..LANES {
                let mut xs = [s.splat(0.0); K];
                for (k, v) in xs.iter_mut().enumerate() {
                    *v = s.load_ptr(x.add((lane * K + k) * LANES));
                }
                for (r, row) in acc.iter_mut().enumerate() {
                    let a = s.splat(*l.add(r * LANES + lane));
                    for (v, x) in row.iter_mut().zip(xs) {
                        *v = s.fma(a, x, *v);
                    }
                }
            }
        }
        for (r, row) in acc.iter().enumerate() {
            for (k, v) in row.iter().enumerate() {
                let col = (k0 + k) * LANES;
                let out = c.out.add((r0 + r) * c.cols + col);
                if col + LANES <= c.cols {
                    s.store_ptr(s.add(s.load_ptr(out), *v), out);
                } else {
                    for (i, x) in s.to_array(*v).into_iter().enumerate().take(c.cols - col) {
                        *out.add(i) += x;
                    }
                }
            }
        }
    }
}
