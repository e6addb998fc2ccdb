//! Which activation entries the loss can see.
//!
//! On a row where all later units are inactive, or belong to collapsed units, a kink moves nothing:
//! it is no condition. Whether that is so depends on which pieces are flat, not on the weights: a
//! kink that only a weight of zero hides from the loss has multiplier bounds of zero, and holds nothing.

use super::certificate::ON;
use super::field::{Field, Kinked};
use crate::program::{Op, Source};

/// For each entry, whether its activation reaches the loss for some values of the weights, at the
/// pieces that the other entries are on. Entries of `apart` let nothing through.
pub(super) fn seen(k: &Kinked<'_, '_>, field: &Field, apart: &[bool]) -> Vec<bool> {
    let problem = k.objective.problem();
    let program = &problem.program;
    let flat = |t: f64| {
        let inside = |&(low, high): &(f64, f64)| t > low + ON && t < high - ON;
        problem.flats.iter().any(inside)
    };
    let mut out = vec![false; k.entries.len];
    let mut reach: Vec<Vec<bool>> = Vec::new();
    for row in 0..problem.dims().rows {
        reach.clear();
        reach.extend(program.buffers.iter().map(|b| vec![false; b.size()]));
        reach[program.output].fill(true);
        for op in program.ops.iter().rev() {
            match op {
                Op::Affine {
                    weight,
                    src,
                    base,
                    dst,
                    ..
                } => {
                    let to = std::mem::take(&mut reach[*dst]);
                    if let Some(Source::Buffer(b)) = base {
                        join(&mut reach[*b], &to);
                    }
                    if let Source::Buffer(s) = src {
                        let from = reach[*s].chunks_mut(weight.cols);
                        for (to, from) in to.chunks(weight.rows).zip(from) {
                            if to.contains(&true) {
                                from.fill(true);
                            }
                        }
                    }
                    reach[*dst] = to;
                }
                Op::Activate {
                    index,
                    src,
                    base,
                    dst,
                } => {
                    let to = std::mem::take(&mut reach[*dst]);
                    if let Some(b) = base {
                        join(&mut reach[*b], &to);
                    }
                    for (unit, _) in to.iter().enumerate().filter(|(_, open)| **open) {
                        let entry = k.entries.index(*index, row, unit);
                        out[entry] = true;
                        if !apart[entry] && !flat(field.t[entry]) {
                            reach[*src][unit] = true;
                        }
                    }
                    reach[*dst] = to;
                }
                // Positions and channels are not told apart here: more is seen than there is.
                Op::Gather {
                    src: Source::Buffer(src),
                    dst,
                    ..
                }
                | Op::Pool { src, dst } => {
                    if reach[*dst].contains(&true) {
                        reach[*src].fill(true);
                    }
                }
                Op::Gather { .. } => {}
            }
        }
    }
    out
}

fn join(into: &mut [bool], from: &[bool]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into |= from;
    }
}
