//! Which assumptions of the theorem a cell breaks, and what to know about it.
//!
//! THEORY §1: f = W(φ + V z), a loss that is convex and differentiable in f,
//! d_y ≤ d_φ, regularisers that are convex in (W, W V) or depend on u alone.
//! Neither the smoothness of z nor d_z enters, and u may be frozen: the
//! conclusion rests on local minimality in (W, V).
//!
//! A mask leaves every row's loss convex and differentiable in f, so the
//! argument goes through with d_y ≤ d_φ; but the theorem is not stated for
//! losses that differ from row to row, so masked cells count as outside it
//! and carry a note that says this.

use crate::spec::{CellSpec, Skip};

/// The sizes that the assumptions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TheorySizes {
    /// d_φ, the intercept included, constant columns left out.
    pub phi: usize,
    /// d_y.
    pub outputs: usize,
    /// d_z; not looked at in a chain.
    pub z: usize,
    /// Whether some target is not observed.
    pub masked: bool,
}

/// The broken assumptions, empty inside the theorem.
pub fn assumptions_broken(cell: &CellSpec, sizes: &TheorySizes) -> Vec<String> {
    let mut out = Vec::new();
    match cell.model.skip {
        Skip::Outer => {}
        Skip::None => out.push("skip: none (no outer skip)".to_owned()),
        Skip::Chain => out.push("skip: chain (no outer skip)".to_owned()),
    }
    if sizes.outputs > sizes.phi {
        out.push(format!("d_y > d_phi ({} > {})", sizes.outputs, sizes.phi));
    }
    if cell.regularizer.head_decay > 0.0 {
        out.push(format!("head_decay > 0 ({})", cell.regularizer.head_decay));
    }
    if sizes.masked {
        out.push("mask (the loss differs from row to row)".to_owned());
    }
    out
}

/// What a reader of the cell's numbers should know beside the assumptions.
pub fn notes(cell: &CellSpec, sizes: &TheorySizes) -> Vec<String> {
    let mut out = Vec::new();
    if cell.model.skip != Skip::Chain && sizes.outputs > sizes.z {
        out.push(format!(
            "d_y > d_z ({} > {}): the argument does not use d_z",
            sizes.outputs, sizes.z
        ));
    }
    if sizes.masked && assumptions_broken(cell, sizes).len() == 1 {
        out.push("mask with d_y <= d_phi: the argument still goes through".to_owned());
    }
    if cell.regularizer.predictor_ridge == 0.0 && cell.regularizer.head_decay == 0.0 {
        out.push("no ridge on the predictor: a minimum need not exist".to_owned());
    }
    if cell.model.freeze {
        out.push("the body is frozen: minima are minima in W and V".to_owned());
    }
    if cell.budget.seconds.is_some() {
        out.push("budget.seconds is set: results depend on the machine".to_owned());
    }
    out
}
