//! The data term over all blocks: value, gradient, Hessian-vector products.
//!
//! Blocks are independent and may run on several threads; their partial sums
//! join in block order, so the number of threads never shows in the bits.

use common::math::Isa;
use common::math::simd::LANES;
use rayon::prelude::*;

use super::problem::Problem;
use crate::kernels::Aligned;
use crate::program::{Patch, Patches};

/// Above this many bytes of linearised blocks, products recompute them one by one.
const LINEAR_BYTES: usize = 1 << 30;

/// The entries of all activations of a problem in one index.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    pub(crate) parts: Vec<Part>,
    pub(crate) len: usize,
}

/// One activation's share of [`Entries`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    src: usize,
    dst: usize,
    /// Units per row.
    pub(crate) size: usize,
    /// First index.
    pub(crate) first: usize,
}

impl Entries {
    pub(crate) fn new(problem: &Problem) -> Self {
        let n = problem.dims.rows;
        let mut parts = Vec::new();
        let mut len = 0;
        for (src, dst) in problem.program.activation_buffers() {
            let size = problem.program.buffer_size(src);
            parts.push(Part {
                src,
                dst,
                size,
                first: len,
            });
            len += n * size;
        }
        Self { parts, len }
    }

    pub(crate) fn index(&self, activation: usize, row: usize, unit: usize) -> usize {
        let part = &self.parts[activation];
        part.first + row * part.size + unit
    }

    /// (activation, row, unit) of an index.
    pub(crate) fn locate(&self, index: usize) -> (usize, usize, usize) {
        let a = self.parts.partition_point(|p| p.first <= index) - 1;
        let part = &self.parts[a];
        let inside = index - part.first;
        (a, inside / part.size, inside % part.size)
    }
}

/// Room for one block's passes.
#[derive(Clone, Debug, Default)]
struct Workspace {
    arena: Aligned,
    tangents: Aligned,
    scratch: Aligned,
    live: Vec<bool>,
    /// One block's share of a sum.
    partial: Vec<f64>,
}

/// Evaluates one problem. Owns all buffers: no evaluation allocates after the first.
#[derive(Debug)]
pub struct Evaluator<'p> {
    problem: &'p Problem,
    isa: Isa,
    threads: usize,
    workspaces: Vec<Workspace>,
    /// Per block, after [`Evaluator::linearize`].
    linear: Vec<Aligned>,
    /// The point of the linearisation, in program coordinates.
    point: Vec<f64>,
    /// Soft slopes at kinks, per block; empty when there are none.
    patches: Vec<Vec<Patch>>,
    /// Products leave out the network's own second derivatives.
    gauss_newton: bool,
}

impl<'p> Evaluator<'p> {
    /// An evaluator that uses up to `threads` threads of the current rayon pool.
    pub fn new(problem: &'p Problem, isa: Isa, threads: usize) -> Self {
        Self {
            problem,
            isa,
            threads: threads.max(1).min(problem.blocks.len()),
            workspaces: Vec::new(),
            linear: Vec::new(),
            point: Vec::new(),
            patches: vec![Vec::new(); problem.blocks.len()],
            gauss_newton: false,
        }
    }

    /// The problem.
    pub fn problem(&self) -> &'p Problem {
        self.problem
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// From the next [`Evaluator::linearize`] on, products are those of the
    /// generalised Gauss–Newton matrix Jᵀ ℓ″ J (Schraudolph 2002) or of the Hessian.
    pub(crate) fn set_gauss_newton(&mut self, yes: bool) {
        self.gauss_newton = yes;
    }

    fn workspace(problem: &Problem, slot: &mut Workspace, full: bool) {
        let layout = if full {
            &problem.full_layout
        } else {
            &problem.gradient_layout
        };
        slot.arena.grow(layout.arena_len(problem.groups));
        slot.scratch
            .grow(problem.program.scratch_len(problem.groups));
    }

    fn ensure(&mut self, count: usize) {
        if self.workspaces.len() < count {
            self.workspaces.resize_with(count, Workspace::default);
        }
    }

    /// Mean loss at program parameters `q`; its gradient is added to `gradient`.
    ///
    /// # Panics
    /// If `q` or `gradient` has not the program's length.
    pub fn value_gradient(&mut self, q: &[f64], gradient: &mut [f64]) -> f64 {
        let problem = self.problem;
        assert_eq!(q.len(), problem.program_len(), "parameters");
        assert_eq!(gradient.len(), problem.program_len(), "gradient");
        let (isa, units) = (self.isa, problem.units());
        let patches = &self.patches;
        // Mixed pieces need the pre-activations, which only the full layout keeps.
        let full = patches.iter().any(|p| !p.is_empty());
        let run = |b: usize, w: &mut Workspace, out: &mut [f64]| -> f64 {
            Self::workspace(problem, w, full);
            let input = problem.input(&problem.blocks[b]);
            let layout = if full {
                &problem.full_layout
            } else {
                &problem.gradient_layout
            };
            let patches: &Patches = &patches[b];
            let p = &problem.program;
            let loss = p.forward(
                isa,
                problem.loss,
                q,
                layout,
                &input,
                patches,
                &mut w.arena,
                units,
            );
            p.backward(
                isa,
                q,
                layout,
                &input,
                &mut w.arena,
                units,
                out,
                &mut w.scratch,
            );
            loss
        };
        let total = if self.threads == 1 {
            if self.workspaces.is_empty() {
                self.workspaces.push(Workspace::default());
            }
            // Each entry receives one addition a block: the same sum as joining partials.
            let w = &mut self.workspaces[0];
            let mut total = 0.0;
            for b in 0..problem.blocks.len() {
                total += run(b, w, gradient);
            }
            total
        } else {
            if self.workspaces.len() < problem.blocks.len() {
                self.workspaces
                    .resize_with(problem.blocks.len(), Workspace::default);
            }
            let per = problem.blocks.len().div_ceil(self.threads);
            let losses: Vec<Vec<f64>> = self.workspaces[..problem.blocks.len()]
                .par_chunks_mut(per)
                .with_max_len(1)
                .enumerate()
                .map(|(share, workspaces)| {
                    let mut losses = Vec::with_capacity(per);
                    in_turn(workspaces, |i, w| {
                        let mut partial = std::mem::take(&mut w.partial);
                        partial.clear();
                        partial.resize(q.len(), 0.0);
                        losses.push(run(share * per + i, w, &mut partial));
                        w.partial = partial;
                    });
                    losses
                })
                .collect();
            self.join(gradient);
            losses.iter().flatten().fold(0.0, |a, b| a + b)
        };
        total / problem.dims.rows as f64
    }

    /// Sets the kinks that are held at a mix of their pieces, per block and sorted
    /// by activation; no evaluation is valid for products until the next
    /// [`Evaluator::linearize`].
    pub(crate) fn set_patches(&mut self, patches: Vec<Vec<Patch>>) {
        debug_assert_eq!(patches.len(), self.problem.blocks.len());
        self.patches = patches;
        self.point.clear();
    }

    /// Entries of all activations: n rows of their units, activation after activation.
    pub(crate) fn entries(&self) -> Entries {
        Entries::new(self.problem)
    }

    /// Pre-activations t and adjoints ∂L/∂h of all activations' entries, from
    /// the last [`Evaluator::linearize`], in the order of [`Entries`].
    ///
    /// # Panics
    /// If nothing is linearised or the linearisation was too large to keep.
    pub(crate) fn fields(&self) -> (Vec<f64>, Vec<f64>) {
        assert!(
            self.linear_fits() && !self.point.is_empty(),
            "linearize first"
        );
        let problem = self.problem;
        let layout = &problem.full_layout;
        let entries = self.entries();
        let mut t = vec![0.0; entries.len];
        let mut delta = vec![0.0; entries.len];
        for (b, block) in problem.blocks.iter().enumerate() {
            let arena = &self.linear[b];
            for (a, part) in entries.parts.iter().enumerate() {
                let from = layout.value[part.src] * problem.units();
                let from_delta = layout.adjoint[part.dst] * problem.units();
                for row in 0..block.rows.1 {
                    let (g, lane) = (row / LANES, row % LANES);
                    for unit in 0..part.size {
                        let at = (g * part.size + unit) * LANES + lane;
                        let to = entries.index(a, block.rows.0 + row, unit);
                        t[to] = arena[from + at];
                        delta[to] = arena[from_delta + at];
                    }
                }
            }
        }
        (t, delta)
    }

    fn call<'a>(&'a self, b: usize, direction: &'a [f64]) -> crate::program::TangentCall<'a> {
        let problem = self.problem;
        crate::program::TangentCall {
            isa: self.isa,
            loss: problem.loss,
            parameters: &self.point,
            direction,
            layout: &problem.full_layout,
            tangents: &problem.tangent_layout,
            input: problem.input(&problem.blocks[b]),
            linear: &self.linear[b],
            units: problem.units(),
            first_group: 0,
        }
    }

    /// ṫ of all entries along a direction of program coordinates.
    pub(crate) fn tangent_fields(&mut self, direction: &[f64]) -> Vec<f64> {
        assert!(
            self.linear_fits() && !self.point.is_empty(),
            "linearize first"
        );
        let problem = self.problem;
        self.ensure(1);
        let mut w = std::mem::take(&mut self.workspaces[0]);
        w.tangents
            .grow(problem.tangent_layout.arena_len(problem.groups));
        let entries = self.entries();
        let mut out = vec![0.0; entries.len];
        for (b, block) in problem.blocks.iter().enumerate() {
            let call = self.call(b, direction);
            problem
                .program
                .tangents(&call, &mut w.tangents, &mut w.live);
            for (a, part) in entries.parts.iter().enumerate() {
                if !w.live[part.src] {
                    continue;
                }
                let from = problem.program.tangent_offset(&call, part.src);
                for row in 0..block.rows.1 {
                    let (g, lane) = (row / LANES, row % LANES);
                    for unit in 0..part.size {
                        out[entries.index(a, block.rows.0 + row, unit)] =
                            w.tangents[from + (g * part.size + unit) * LANES + lane];
                    }
                }
            }
        }
        self.workspaces[0] = w;
        out
    }

    /// ∂t/∂q of some entries, row by row, q in program coordinates.
    pub(crate) fn jacobian(&mut self, wanted: &[usize]) -> Vec<f64> {
        assert!(
            self.linear_fits() && !self.point.is_empty(),
            "linearize first"
        );
        let problem = self.problem;
        let p = problem.program_len();
        self.ensure(1);
        let mut w = std::mem::take(&mut self.workspaces[0]);
        w.tangents
            .grow(problem.tangent_layout.arena_len(problem.groups));
        w.scratch.grow(problem.program.scratch_len(problem.groups));
        let entries = self.entries();
        let zero = vec![0.0; p];
        let mut out = vec![0.0; wanted.len() * p];
        for (entry, out) in wanted.iter().zip(out.chunks_exact_mut(p)) {
            let (a, row, unit) = entries.locate(*entry);
            let b = problem.block_of(row);
            let inside = row - problem.blocks[b].rows.0;
            let mut call = self.call(b, &zero);
            call.first_group = inside / LANES;
            call.input.groups = 1;
            let buffer = entries.parts[a].src;
            problem.program.entry_gradient(
                &call,
                buffer,
                unit,
                inside % LANES,
                &mut w.tangents,
                &mut w.live,
                out,
                &mut w.scratch,
            );
        }
        self.workspaces[0] = w;
        out
    }

    /// z(x_i; u) for all rows, `[n, d_z]` row-major; the given table where there is one.
    ///
    /// # Panics
    /// If `q` has not the program's length.
    pub fn representation(&mut self, q: &[f64]) -> Vec<f64> {
        let problem = self.problem;
        assert_eq!(q.len(), problem.program_len(), "parameters");
        self.ensure(1);
        let w = &mut self.workspaces[0];
        Self::workspace(problem, w, false);
        let mut out = Vec::new();
        for (b, block) in problem.blocks.iter().enumerate() {
            let input = problem.input(block);
            let layout = &problem.gradient_layout;
            let program = &problem.program;
            let (values, width) = match program.representation() {
                Some(z) => {
                    let patches = &self.patches[b];
                    program.values(
                        self.isa,
                        q,
                        layout,
                        &input,
                        patches,
                        &mut w.arena,
                        problem.units(),
                    );
                    let width = program.buffer_size(z);
                    (&w.arena[layout.value[z] * problem.units()..], width)
                }
                None => (input.table, program.widths[2]),
            };
            for row in 0..block.rows.1 {
                let (g, lane) = (row / LANES, row % LANES);
                out.extend((0..width).map(|j| values[(g * width + j) * LANES + lane]));
            }
        }
        out
    }

    /// Adds the blocks' partial sums to `out` in block order.
    fn join(&self, out: &mut [f64]) {
        let partials: Vec<&[f64]> = self.workspaces[..self.problem.blocks.len()]
            .iter()
            .map(|w| w.partial.as_slice())
            .collect();
        let add = |(i, chunk): (usize, &mut [f64])| {
            for partial in &partials {
                for (o, p) in chunk.iter_mut().zip(&partial[i * 4096..]) {
                    *o += p;
                }
            }
        };
        if self.threads == 1 {
            out.chunks_mut(4096).enumerate().for_each(add);
        } else {
            out.par_chunks_mut(4096).enumerate().for_each(add);
        }
    }

    fn linear_fits(&self) -> bool {
        let p = self.problem;
        p.full_layout.arena_len(p.groups) * p.blocks.len() * size_of::<f64>() <= LINEAR_BYTES
    }

    /// As [`Evaluator::value_gradient`], and prepares products at `q`.
    pub fn linearize(&mut self, q: &[f64], gradient: &mut [f64]) -> f64 {
        self.point.clear();
        self.point.extend_from_slice(q);
        if !self.linear_fits() {
            return self.value_gradient(q, gradient);
        }
        let problem = self.problem;
        self.ensure(problem.blocks.len());
        self.linear
            .resize_with(problem.blocks.len(), Aligned::default);
        let (isa, patches, gauss_newton) = (self.isa, &self.patches, self.gauss_newton);
        let work = self.linear.iter_mut().zip(&mut self.workspaces).enumerate();
        let run = |(b, (arena, w)): (usize, (&mut Aligned, &mut Workspace))| {
            w.partial.clear();
            w.partial.resize(q.len(), 0.0);
            w.scratch.grow(problem.program.scratch_len(problem.groups));
            let loss = linearize_block(
                problem,
                isa,
                q,
                b,
                &patches[b],
                arena,
                &mut w.partial,
                &mut w.scratch,
            );
            if gauss_newton {
                drop_second_order(problem, arena);
            }
            loss
        };
        let losses: Vec<f64> = if self.threads == 1 {
            work.map(run).collect()
        } else {
            work.collect::<Vec<_>>()
                .into_par_iter()
                .with_max_len(1)
                .map(run)
                .collect()
        };
        self.join(gradient);
        losses.iter().fold(0.0, |a, b| a + b) / problem.dims.rows as f64
    }

    /// out += H·direction for each pair, H the Hessian of the mean loss at the
    /// point of the last [`Evaluator::linearize`].
    ///
    /// `directions` and `out` hold `count` vectors of the program's length each.
    ///
    /// # Panics
    /// If nothing has been linearised or the lengths differ.
    pub fn products(&mut self, directions: &[f64], out: &mut [f64]) {
        let problem = self.problem;
        let p = problem.program_len();
        assert_eq!(self.point.len(), p, "linearize first");
        assert_eq!(directions.len(), out.len(), "directions and results");
        assert_eq!(directions.len() % p, 0, "whole vectors");
        self.ensure(problem.blocks.len());
        let kept = self.linear_fits();
        let (isa, point, patches, linear) = (self.isa, &self.point, &self.patches, &self.linear);
        let gauss_newton = self.gauss_newton;
        let run = |b: usize, w: &mut Workspace| {
            w.partial.clear();
            w.partial.resize(out.len(), 0.0);
            w.tangents
                .grow(problem.tangent_layout.arena_len(problem.groups));
            w.scratch.grow(problem.program.scratch_len(problem.groups));
            if !kept {
                // Its gradient is not wanted; the partial sum is cleared again.
                let Workspace {
                    arena,
                    scratch,
                    partial,
                    ..
                } = w;
                linearize_block(
                    problem,
                    isa,
                    point,
                    b,
                    &patches[b],
                    arena,
                    &mut partial[..p],
                    scratch,
                );
                partial[..p].fill(0.0);
                if gauss_newton {
                    drop_second_order(problem, arena);
                }
            }
            let linear = if kept { &linear[b] } else { &w.arena };
            for (v, o) in directions
                .chunks_exact(p)
                .zip(w.partial.chunks_exact_mut(p))
            {
                let call = crate::program::TangentCall {
                    isa,
                    loss: problem.loss,
                    parameters: point,
                    direction: v,
                    layout: &problem.full_layout,
                    tangents: &problem.tangent_layout,
                    input: problem.input(&problem.blocks[b]),
                    linear,
                    units: problem.units(),
                    first_group: 0,
                };
                problem.program.hessian_product(
                    &call,
                    &mut w.tangents,
                    &mut w.live,
                    o,
                    &mut w.scratch,
                );
            }
        };
        let workspaces = &mut self.workspaces[..problem.blocks.len()];
        if self.threads == 1 {
            in_turn(workspaces, run);
        } else {
            let per = problem.blocks.len().div_ceil(self.threads);
            workspaces
                .par_chunks_mut(per)
                .with_max_len(1)
                .enumerate()
                .for_each(|(share, workspaces)| {
                    in_turn(workspaces, |i, w| run(share * per + i, w));
                });
        }
        self.join(out);
    }
}

/// Calls `run` for block after block of a thread's share, each time with the first workspace and
/// the block's own partial sum: one thread's room stays in its cache.
fn in_turn(workspaces: &mut [Workspace], mut run: impl FnMut(usize, &mut Workspace)) {
    for i in 0..workspaces.len() {
        let mut partial = std::mem::take(&mut workspaces[i].partial);
        let first = &mut workspaces[0];
        std::mem::swap(&mut first.partial, &mut partial);
        run(i, first);
        std::mem::swap(&mut first.partial, &mut partial);
        workspaces[i].partial = partial;
    }
}

fn linearize_block(
    problem: &Problem,
    isa: Isa,
    q: &[f64],
    b: usize,
    patches: &Patches,
    arena: &mut Aligned,
    gradient: &mut [f64],
    scratch: &mut [f64],
) -> f64 {
    let layout = &problem.full_layout;
    arena.grow(layout.arena_len(problem.groups));
    let input = problem.input(&problem.blocks[b]);
    let (p, units) = (&problem.program, problem.units());
    let loss = p.forward(isa, problem.loss, q, layout, &input, patches, arena, units);
    p.backward(isa, q, layout, &input, arena, units, gradient, scratch);
    loss
}

/// Clears what weighs the network's second derivatives in a linearised block:
/// the adjoints and σ″·δh. What is left of a Hessian product is Jᵀ ℓ″ J v.
fn drop_second_order(problem: &Problem, arena: &mut [f64]) {
    let layout = &problem.full_layout;
    problem
        .program
        .clear_second_order(layout, arena, problem.units());
}
