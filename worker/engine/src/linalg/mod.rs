//! Dense linear algebra in a fixed order of operations.
//!
//! Everything is sequential and built from the fixed-order sums of
//! `common::math::slice`, so the bits do not depend on threads, on caches or on
//! a library's choice of algorithm. Matrices are row-major slices.

mod cholesky;
mod dense;
mod qr;
mod svd;
mod symmetric;
mod tridiagonal;

pub use cholesky::{Cholesky, NotPositiveDefinite};
pub use dense::{multiply, multiply_nt, multiply_tn, transpose};
pub use qr::PivotedQr;
pub use svd::{Svd, pseudo_inverse_times, singular_values};
pub use symmetric::{SymmetricEigen, eigenvalues};
pub use tridiagonal::{ShiftedSolve, Tridiagonal, tridiagonal_eigenvalues};
