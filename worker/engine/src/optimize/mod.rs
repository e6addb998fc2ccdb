//! Optimisers that ask and are told.
//!
//! An optimiser never calls the objective. [`Optimizer::ask`] says what it
//! needs next, the caller computes it and answers with the matching `tell_…`.
//! Between two calls the whole state is a serialisable value: a run can be
//! saved there, moved to another machine and continued to the same bits.
//!
//! | module | method | needs |
//! |---|---|---|
//! | [`lbfgs`] | L-BFGS with a Wolfe line search (Nocedal 1980; Hager & Zhang 2005 for the conditions near rounding) | gradients |
//! | [`arc`] | adaptive cubic regularisation (Cartis, Gould & Toint 2011) | dense Hessians |
//! | [`least_squares`] | Levenberg–Marquardt in the space of the residuals (Levenberg 1944; Nielsen 1999) | residuals, Gram matrices J Jᵀ |
//! | [`levenberg_marquardt`] | damped Gauss–Newton (Levenberg 1944; Nielsen 1999) | Gauss–Newton matrices |
//! | [`newton_cg`] | trust-region Newton-CG (Steihaug 1983) | products |
//! | [`first_order`] | gradient descent and Adam, full batch | gradients |
//! | [`sgd`] | gradient descent with momentum over batches | gradients of batches |

pub mod arc;
pub mod first_order;
pub mod lbfgs;
pub mod least_squares;
pub mod levenberg_marquardt;
pub mod linesearch;
pub mod newton_cg;
pub mod sgd;

use serde::{Deserialize, Serialize};

/// What an optimiser needs next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask<'a> {
    /// Value and gradient at this point.
    Gradient(&'a [f64]),
    /// The same, and be ready for products or the Hessian there.
    Linearize(&'a [f64]),
    /// Hessian times this direction, at the last linearised point.
    Product(&'a [f64]),
    /// The dense Hessian at the last linearised point.
    Hessian,
    /// The dense Gauss–Newton matrix at this point.
    GaussNewton(&'a [f64]),
    /// Residuals ρ and the Gram matrix J Jᵀ of their derivatives at this point.
    Residuals(&'a [f64]),
    /// Jᵀ at this point times these weights of the residuals.
    PullBack(&'a [f64], &'a [f64]),
    /// Nothing: the optimiser has stopped.
    Nothing(Stop),
}

/// Why an optimiser stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// ‖∇‖∞ is at the target (and, for second-order methods, no negative curvature was seen).
    Converged,
    /// The iteration limit.
    IterationLimit,
    /// No step decreases the objective or the gradient any more: rounding.
    Stalled,
    /// ‖x‖ grows without bound while the objective falls.
    Diverging,
    /// The objective is not finite at the start.
    NonFinite,
}

/// The protocol of all optimisers.
pub trait Optimizer {
    /// What is needed next; stable until the matching `tell`.
    fn ask(&self) -> Ask<'_>;

    /// Answers [`Ask::Gradient`] or [`Ask::Linearize`].
    fn tell_gradient(&mut self, value: f64, gradient: &[f64]);

    /// Answers [`Ask::Product`] or [`Ask::PullBack`].
    fn tell_product(&mut self, product: &[f64]) {
        let _ = product;
        unreachable!("this optimiser asks for no products");
    }

    /// Answers [`Ask::Hessian`] or [`Ask::GaussNewton`] with a row-major symmetric matrix.
    fn tell_hessian(&mut self, hessian: Vec<f64>) {
        let _ = hessian;
        unreachable!("this optimiser asks for no Hessian");
    }

    /// Memory for the next matrix: an old one that is not needed any more, of any length.
    fn room(&mut self) -> Vec<f64> {
        Vec::new()
    }

    /// Answers [`Ask::Residuals`]; of the matrix the lower triangle counts.
    fn tell_residuals(&mut self, residuals: &[f64], gram: Vec<f64>) {
        let _ = (residuals, gram);
        unreachable!("this optimiser asks for no residuals");
    }

    /// The best point so far.
    fn point(&self) -> &[f64];

    /// Objective there.
    fn value(&self) -> f64;

    /// Gradient there.
    fn gradient(&self) -> &[f64];

    /// Accepted iterations.
    fn iterations(&self) -> u64;
}
