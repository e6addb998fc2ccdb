//! Kernels on blocks of samples.
//!
//! A block stores samples in groups of eight: `[group][feature][lane]`, lane
//! being the sample within its group. A layer of width 3 fills the vectors as
//! well as one of width 256. An [`Operand`] names such a block: a place in the
//! arena or a shared slice, and the distance between groups (larger than
//! `8 · features` when the operand is a range of features of a wider buffer).
//!
//! # Order of operations (part of the numeric level)
//! * an entry of [`affine`]: one chain of fused multiply-adds, ascending in the
//!   summed index, begun by bias or base;
//! * an entry of [`outer`]: for fewer than [`WIDE`] columns eight chains over
//!   the groups, one a lane, joined by the tree of `Simd::sum`; otherwise one
//!   chain over the samples in ascending order; the block's sum is then added
//!   to the output in one addition;
//! * an entry of [`gram()`]: two chains ascending in the features, and one fused
//!   multiply-add of their product a layer;
//! * so no result depends on tile sizes, instruction sets or threads.

mod aligned;
mod elementwise;
mod gemm;
mod gram;
mod image;

pub use aligned::Aligned;
pub use elementwise::{add_into, copy, hadamard, hadamard_add, hadamard_sum, row_sums, zero};
pub use gemm::{PANEL, Product, WIDE, affine, outer};
pub use gram::{Layer, gram};
pub use image::{gather, pool, scatter, spread};

pub use common::math::simd::LANES;

/// Where an operand lives.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// At this offset of the arena handed to the kernel.
    Arena(usize),
    /// In a slice that kernels only read.
    Shared(&'a [f64]),
}

/// A block of samples: `[group][feature][lane]`.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// First number.
    pub place: Place<'a>,
    /// Distance between groups, in numbers.
    pub stride: usize,
}

impl<'a> Operand<'a> {
    /// In the arena, `features` wide.
    pub fn arena(offset: usize, features: usize) -> Self {
        Self {
            place: Place::Arena(offset),
            stride: features * LANES,
        }
    }

    /// In a shared slice, `features` wide.
    pub fn shared(slice: &'a [f64], features: usize) -> Self {
        Self {
            place: Place::Shared(slice),
            stride: features * LANES,
        }
    }

    /// The same block from feature `first` on.
    #[must_use]
    pub fn from_feature(self, first: usize) -> Self {
        let place = match self.place {
            Place::Arena(offset) => Place::Arena(offset + first * LANES),
            Place::Shared(slice) => Place::Shared(&slice[first * LANES..]),
        };
        Self {
            place,
            stride: self.stride,
        }
    }

    /// Numbers from the first to the last that `groups × features` touch.
    fn extent(&self, groups: usize, features: usize) -> usize {
        if groups == 0 {
            0
        } else {
            (groups - 1) * self.stride + features * LANES
        }
    }

    /// Where to read; panics unless `groups × features` fit.
    #[inline(always)]
    pub(crate) fn read(&self, span: &Span, groups: usize, features: usize) -> *const f64 {
        let extent = self.extent(groups, features);
        match self.place {
            Place::Arena(offset) => span.at(offset, extent),
            Place::Shared(slice) => slice[..extent].as_ptr(),
        }
    }

    /// Where to write; panics unless in the arena and `groups × features` fit.
    #[inline(always)]
    pub(crate) fn write(&self, span: &Span, groups: usize, features: usize) -> *mut f64 {
        match self.place {
            Place::Arena(offset) => span.at(offset, self.extent(groups, features)),
            Place::Shared(_) => unreachable!("kernels write to the arena only"),
        }
    }
}

/// An arena as one raw range: all addresses of a kernel call derive from it,
/// so operands that coincide alias as raw pointers may.
pub(crate) struct Span {
    first: *mut f64,
    len: usize,
}

impl Span {
    #[inline(always)]
    pub(crate) fn new(arena: &mut [f64]) -> Self {
        Self {
            first: arena.as_mut_ptr(),
            len: arena.len(),
        }
    }

    /// For kernels that only read the arena.
    #[inline(always)]
    pub(crate) fn read_only(arena: &[f64]) -> Self {
        Self {
            first: arena.as_ptr().cast_mut(),
            len: arena.len(),
        }
    }

    /// The address of `offset`; panics unless `extent` numbers follow.
    #[inline(always)]
    fn at(&self, offset: usize, extent: usize) -> *mut f64 {
        assert!(
            offset
                .checked_add(extent)
                .is_some_and(|end| end <= self.len),
            "range {offset}..+{extent} lies outside the arena of {}",
            self.len
        );
        self.first.wrapping_add(offset)
    }
}
