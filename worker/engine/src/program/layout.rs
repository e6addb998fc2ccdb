//! Which part of the arena each buffer uses.
//!
//! Offsets are in *units* of one feature of one sample group; a block of
//! `groups` groups multiplies them by `8 · groups`. A value that no later
//! operation and no backward rule reads is overwritten, and so is an adjoint
//! once it has been consumed: small arenas stay in the cache.

use super::{Op, Program, Source};

/// What must survive the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What the gradient needs.
    Gradient,
    /// All values and adjoints: what Hessian-vector products and kinks need.
    Everything,
}

/// Places of all buffers, in units.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(crate) value: Vec<usize>,
    pub(crate) adjoint: Vec<usize>,
    /// σ′ per activation.
    pub(crate) first: Vec<usize>,
    /// σ″·δh per activation; unused for gradients.
    pub(crate) second: Vec<usize>,
    /// Curvature of the loss; unused for gradients.
    pub(crate) loss_curvature: usize,
    units: usize,
    /// Per buffer: whether the adjoint of its first reader (in reverse) starts it.
    pub(crate) plan: Vec<BackPlan>,
}

/// How the backward rule of one operation treats the adjoints it writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackPlan {
    /// Add to the adjoint of `src` instead of writing it.
    pub src_accumulates: bool,
    /// Add to the adjoint of `base` instead of writing it.
    pub base_accumulates: bool,
    /// `base`'s adjoint is this operation's own, in the same place: nothing to do.
    pub base_aliases: bool,
}

/// First-fit allocation over a line.
#[derive(Default)]
struct Line {
    /// (first, end), sorted.
    used: Vec<(usize, usize)>,
    top: usize,
}

impl Line {
    fn take(&mut self, size: usize) -> usize {
        let mut at = 0;
        let mut index = 0;
        for (i, &(first, end)) in self.used.iter().enumerate() {
            if first >= at + size {
                break;
            }
            at = end;
            index = i + 1;
        }
        self.used.insert(index, (at, at + size));
        self.top = self.top.max(at + size);
        at
    }

    fn free(&mut self, at: usize, size: usize) {
        self.used.retain(|&range| range != (at, at + size));
    }
}

impl Layout {
    /// Lays a program out.
    pub fn new(program: &Program, keep: Keep) -> Self {
        let n = program.buffers.len();
        let size = |b: usize| program.buffers[b].size();
        let all = keep == Keep::Everything;

        // Last forward reader of each buffer; `usize::MAX` when the backward pass reads it.
        let mut last = vec![0; n];
        for (i, op) in program.ops.iter().enumerate() {
            for b in Program::reads(op) {
                last[b] = last[b].max(i);
            }
            if let Op::Affine {
                src: Source::Buffer(b),
                ..
            } = op
            {
                last[*b] = usize::MAX;
            }
        }
        last[program.output] = usize::MAX;
        if let Some(z) = program.representation {
            last[z] = usize::MAX;
        }

        let mut line = Line::default();
        let mut value = vec![usize::MAX; n];
        let mut first = vec![0; program.activations];
        for (i, op) in program.ops.iter().enumerate() {
            let dst = Program::writes(op);
            // Values that die here and may be overwritten in place: entrywise sources and bases.
            let in_place = match op {
                Op::Activate { src, .. } => Some(*src),
                Op::Affine {
                    base: Some(Source::Buffer(b)),
                    ..
                } => Some(*b),
                _ => None,
            };
            let reuse = in_place.filter(|&b| !all && last[b] == i && size(b) == size(dst));
            value[dst] = match reuse {
                Some(b) => value[b],
                None => line.take(size(dst)),
            };
            if let Op::Activate { index, dst, .. } = op {
                first[*index] = line.take(size(*dst));
            }
            if !all {
                let mut dead: Vec<usize> = Program::reads(op)
                    .filter(|&b| last[b] == i && Some(b) != reuse)
                    .collect();
                dead.dedup();
                for b in dead {
                    line.free(value[b], size(b));
                }
            }
        }
        let mut second = vec![usize::MAX; program.activations];
        let mut loss_curvature = usize::MAX;
        if all {
            for op in &program.ops {
                if let Op::Activate { index, dst, .. } = op {
                    second[*index] = line.take(size(*dst));
                }
            }
            loss_curvature = line.take(size(program.output));
        }

        // Adjoints, in reverse. Values are all still live or dead for good; adjoints use fresh room.
        let floor = line.top;
        let mut line = Line::default();
        let mut adjoint = vec![usize::MAX; n];
        let mut plan = vec![BackPlan::default(); program.ops.len()];
        adjoint[program.output] = line.take(size(program.output));
        for (i, op) in program.ops.iter().enumerate().rev() {
            let dst = Program::writes(op);
            let (src, base) = match op {
                Op::Affine { src, base, .. } => (*src, *base),
                Op::Activate { src, base, .. } => (Source::Buffer(*src), base.map(Source::Buffer)),
                Op::Gather { src, .. } => (*src, None),
                Op::Pool { src, .. } => (Source::Buffer(*src), None),
            };
            let mut aliased = false;
            if let Some(Source::Buffer(b)) = base {
                if adjoint[b] != usize::MAX {
                    plan[i].base_accumulates = true;
                } else if !all && size(b) == size(dst) && Source::Buffer(b) != src {
                    adjoint[b] = adjoint[dst];
                    plan[i].base_aliases = true;
                    aliased = true;
                } else {
                    adjoint[b] = line.take(size(b));
                }
            }
            if let Source::Buffer(b) = src {
                if adjoint[b] != usize::MAX {
                    plan[i].src_accumulates = true;
                } else {
                    adjoint[b] = line.take(size(b));
                }
            }
            if !all && !aliased {
                line.free(adjoint[dst], size(dst));
            }
        }
        for a in &mut adjoint {
            if *a != usize::MAX {
                *a += floor;
            }
        }
        Self {
            value,
            adjoint,
            first,
            second,
            loss_curvature,
            units: floor + line.top,
            plan,
        }
    }

    /// Numbers an arena needs for blocks of up to `groups` groups.
    pub fn arena_len(&self, groups: usize) -> usize {
        self.units * groups * crate::kernels::LANES
    }
}
