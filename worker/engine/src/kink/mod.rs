//! Local minima on kinks: descent, certificate, collapsed units.
//!
//! A minimum of a network with kinked activations typically sits on several
//! kinks: pre-activations that are exactly zero on a row. There the objective
//! has no gradient; what replaces it are multipliers. The method and the proofs
//! are `docs/engine.md`; in short:
//!
//! | module | what it does |
//! |---|---|
//! | [`shape`] | the kinks of an activation and the pieces that meet there |
//! | [`field`] | the objective at soft slopes: one smooth objective per choice of signs |
//! | [`mod@unit`] | units of a body, as sets of parameters |
//! | [`split`] | tangent and normal space of the kinks that are held |
//! | [`qp`] | box-constrained quadratic programs |
//! | [`model`] | the composite model of a step, with kinks as constraints |
//! | [`solver`] | the descent: model steps, Newton on the manifold, releases, revivals |
//! | [`certificate`] | what is true at a point on kinks |
//! | [`center`] | the most central multipliers where they are not unique |
//! | [`reach`] | which kinks the loss can see |
//! | [`dependent`] | the first-order condition where the gradients of kinks are dependent |
//! | [`collapse`] | units that have shrunk to zero: minimum or way down |

mod center;
mod certificate;
mod collapse;
mod dependent;
mod field;
mod model;
mod qp;
mod reach;
mod shape;
mod solver;
mod split;
mod unit;

pub(crate) use certificate::{Demands, Finding, inspect, margin_of_unplaced, near};
pub(crate) use field::Kinked;
pub use shape::{flat_pieces, kinks_of, unplaced_kinks};
pub(crate) use solver::Solver;
