//! Portable arithmetic: the same bits on every machine.
//!
//! The standard library's transcendental functions change their last bits
//! with the C library and the processor, so nothing that is recorded may use
//! them. This module has its own, in three layers:
//!
//! * [`simd`]: a *virtual vector* of eight f64 lanes. AVX-512 holds it in one
//!   register, AVX2 in two, the portable form in an array. Every operation is
//!   an IEEE 754 operation per lane (fused multiply-add included), so the form
//!   never shows in the result.
//! * [`elementary`]: exp, log, tanh, … as polynomial kernels over [`simd::Simd`].
//! * [`scalar`]: the same kernels on one lane, for everything that is not hot;
//!   [`special`] builds the incomplete beta function on them.
//!
//! Which form runs is chosen once per process, [`Isa::current`]; a test forces
//! each and compares bits.

pub mod elementary;
mod level;
pub mod scalar;
pub mod simd;
pub mod slice;
pub mod special;

pub use level::{CpuLevel, Isa, UnsupportedCpuLevel};

/// Name of the one numeric level: eight virtual lanes, fused multiply-add.
///
/// The number increases whenever the bits of any recorded result change for
/// reasons of arithmetic.
pub const NUMERIC_LEVEL: &str = "fma64-1";
