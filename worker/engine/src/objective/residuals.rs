//! The objective as a sum of squares, ½‖ρ‖², and the Gram matrix of its derivatives.
//!
//! Under the squared loss without penalties the objective is ½‖ρ(x)‖² with
//! ρ = (f − y)/√n, one entry an output and sample. With J = ∂ρ/∂x the
//! Gauss–Newton matrix is JᵀJ; where there are fewer residuals than variables
//! its other side K = J Jᵀ is the smaller one, and cheap: an affine layer adds
//! ⟨δ_i, δ_j⟩(⟨s_i, s_j⟩ + 1), see [`crate::kernels::gram()`], so J itself is never formed.
//!
//! Residuals are ordered output by output, samples within; the last group of
//! eight samples is padded, and the padding has zero residuals and derivatives.

use common::math::Isa;
use common::math::simd::LANES;
use common::spec::{Loss, Skip};

use super::{Chart, Objective, Problem, to_theta};
use crate::kernels::{self, Aligned, Layer, Operand, Product};
use crate::program::{BlockInput, Op, Source};

/// δ and s of one layer, as [`Layer`] wants them.
#[derive(Debug, Default)]
struct Panels {
    left: Vec<f64>,
    rows: usize,
    right: Vec<f64>,
    cols: usize,
    bias: bool,
}

/// Room for residuals and their derivatives.
#[derive(Debug, Default)]
pub(super) struct Residuals {
    /// The variables that everything here belongs to.
    at: Vec<f64>,
    /// One a block.
    arenas: Vec<Aligned>,
    scratch: Aligned,
    panels: Vec<Panels>,
    /// Where gradients go that nobody wants.
    discard: Vec<f64>,
    /// z and φ + V z, for W and V.
    mixed: Aligned,
}

impl Problem {
    /// Groups of eight samples.
    fn total_groups(&self) -> usize {
        self.dims.rows.div_ceil(LANES)
    }

    /// Whether the objective is a sum of squares of which a layer's share of the Gram
    /// matrix is known: squared loss, no penalties, no convolutions.
    fn is_sum_of_squares(&self) -> bool {
        let r = self.regularizer;
        self.loss == Loss::Squared
            && r.predictor_ridge == 0.0
            && r.body_decay == 0.0
            && r.head_decay == 0.0
            && self.program.buffers.iter().all(|b| b.positions == 1)
    }
}

impl Objective<'_> {
    /// The number of residuals, padding included, where the objective is a sum of squares
    /// that [`Objective::residuals`] can take apart.
    pub fn residual_count(&self) -> Option<usize> {
        let p = self.problem();
        (p.is_sum_of_squares() && self.frozen.is_none())
            .then(|| p.dims.outputs * p.total_groups() * LANES)
    }

    /// ρ and the lower triangle of K = J Jᵀ at `x`; counts as one evaluation and one more an output.
    ///
    /// # Panics
    /// If [`Objective::residual_count`] is `None` or the lengths are not those.
    pub fn residuals(&mut self, x: &[f64], residuals: &mut [f64], gram: &mut [f64]) {
        let problem = self.problem();
        let n = self.residual_count().expect("a sum of squares");
        assert_eq!((residuals.len(), gram.len()), (n, n * n), "residuals");
        let outputs = problem.dims.outputs;
        let passes = 1 + outputs as u64;
        self.work.gradients += passes;
        self.work.evaluations += passes;
        self.pass_forward(x);
        self.read_residuals(residuals);
        let mut room = std::mem::take(&mut self.residuals);
        let isa = self.evaluator.isa();
        self.pass_back(&mut room);
        if self.chart == Chart::Theta && problem.skip == Skip::Outer {
            split_head(problem, isa, x, &mut room);
        }
        gram.fill(0.0);
        for p in &room.panels {
            let layer = Layer {
                left: &p.left,
                rows: p.rows,
                right: &p.right,
                cols: p.cols,
                bias: if p.bias { 1.0 } else { 0.0 },
            };
            kernels::gram(isa, layer, outputs, problem.total_groups(), gram);
        }
        self.residuals = room;
    }

    /// out = Jᵀ·`weights` at `x`, the point of the last [`Objective::residuals`] (after a
    /// restart it is computed again, uncounted); counts as an evaluation.
    ///
    /// # Panics
    /// If the lengths differ from those of residuals and variables.
    pub fn pull_back_residuals(&mut self, x: &[f64], weights: &[f64], out: &mut [f64]) {
        let problem = self.problem();
        self.work.gradients += 1;
        self.work.evaluations += 1;
        if self.residuals.at != x {
            self.pass_forward(x);
        }
        let isa = self.evaluator.isa();
        let scale = 1.0 / (problem.dims.rows as f64).sqrt();
        let (outputs, units) = (problem.dims.outputs, problem.units());
        let layout = &problem.full_layout;
        self.gradient_q.fill(0.0);
        let room = &mut self.residuals;
        for (b, block) in problem.blocks.iter().enumerate() {
            let arena = &mut room.arenas[b];
            let input = problem.input(block);
            let first = block.rows.0;
            let to = layout.adjoint[problem.program.output] * units;
            for g in 0..block.groups {
                for k in 0..outputs {
                    let from = k * problem.total_groups() * LANES + first + g * LANES;
                    let adjoint = &mut arena[to + (g * outputs + k) * LANES..][..LANES];
                    let seen = observed(&input, g, k);
                    for ((a, w), seen) in adjoint.iter_mut().zip(&weights[from..]).zip(seen) {
                        *a = scale * seen * w;
                    }
                }
            }
            problem.program.backward(
                isa,
                &self.q_residuals,
                layout,
                &input,
                arena,
                units,
                &mut self.gradient_q,
                &mut room.scratch,
            );
        }
        match self.chart {
            Chart::Head => out.copy_from_slice(&self.gradient_q),
            Chart::Theta => {
                to_theta(problem, x, &self.gradient_q, out);
            }
        }
    }

    /// All values at `x`, block by block; the loss's slopes are left in the outputs' adjoints.
    fn pass_forward(&mut self, x: &[f64]) {
        self.load(x);
        let problem = self.problem();
        self.q_residuals.clear();
        self.q_residuals.extend_from_slice(&self.q);
        let isa = self.evaluator.isa();
        let layout = &problem.full_layout;
        let room = &mut self.residuals;
        room.arenas
            .resize_with(problem.blocks.len(), Aligned::default);
        room.scratch
            .grow(problem.program.scratch_len(problem.groups));
        for (arena, block) in room.arenas.iter_mut().zip(&problem.blocks) {
            arena.grow(layout.arena_len(problem.groups));
            problem.program.forward(
                isa,
                problem.loss,
                &self.q_residuals,
                layout,
                &problem.input(block),
                &[],
                arena,
                problem.units(),
            );
        }
        room.at.clear();
        room.at.extend_from_slice(x);
    }

    /// ρ = √n · (1/n)(f − y), from the slopes in the outputs' adjoints.
    fn read_residuals(&self, out: &mut [f64]) {
        let problem = self.problem();
        let (outputs, groups) = (problem.dims.outputs, problem.total_groups());
        let scale = (problem.dims.rows as f64).sqrt();
        let at = problem.full_layout.adjoint[problem.program.output] * problem.units();
        for (arena, block) in self.residuals.arenas.iter().zip(&problem.blocks) {
            for g in 0..block.groups {
                for k in 0..outputs {
                    let to = k * groups * LANES + block.rows.0 + g * LANES;
                    let from = &arena[at + (g * outputs + k) * LANES..][..LANES];
                    for (o, f) in out[to..].iter_mut().zip(from) {
                        *o = scale * f;
                    }
                }
            }
        }
    }

    /// The panels of all layers in program coordinates: one backward pass an output.
    fn pass_back(&mut self, room: &mut Residuals) {
        let problem = self.problem();
        let program = &problem.program;
        let isa = self.evaluator.isa();
        let (outputs, groups, units) = (
            problem.dims.outputs,
            problem.total_groups(),
            problem.units(),
        );
        let layout = &problem.full_layout;
        let scale = 1.0 / (problem.dims.rows as f64).sqrt();
        room.discard.resize(problem.program_len(), 0.0);
        let layers = program.ops.iter().map(|op| match op {
            Op::Affine { weight, .. } => weight.blocks,
            _ => 0,
        });
        room.panels.resize_with(layers.sum(), Panels::default);
        for k in 0..outputs {
            for (arena, block) in room.arenas.iter_mut().zip(&problem.blocks) {
                let input = problem.input(block);
                let to = layout.adjoint[program.output] * units;
                for g in 0..block.groups {
                    for l in 0..outputs {
                        let adjoint = &mut arena[to + (g * outputs + l) * LANES..][..LANES];
                        let one = if k == l { scale } else { 0.0 };
                        for (a, seen) in adjoint.iter_mut().zip(observed(&input, g, l)) {
                            *a = one * seen;
                        }
                    }
                }
                let parameters = &self.q_residuals;
                let (discard, scratch) = (&mut room.discard, &mut room.scratch);
                program.backward(
                    isa, parameters, layout, &input, arena, units, discard, scratch,
                );
                let first = block.rows.0 / LANES;
                let mut panels = room.panels.iter_mut();
                for op in &program.ops {
                    let Op::Affine {
                        weight,
                        bias,
                        src,
                        dst,
                        ..
                    } = op
                    else {
                        continue;
                    };
                    let all = program.buffers[*dst].features;
                    let delta = &arena[layout.adjoint[*dst] * units..];
                    let (value, wide) = values(problem, &input, arena, *src);
                    for sub in 0..weight.blocks {
                        let p = panels.next().expect("a panel a layer");
                        (p.rows, p.cols, p.bias) = (weight.rows, weight.cols, bias.is_some());
                        p.left.resize(outputs * groups * weight.rows * LANES, 0.0);
                        let to = &mut p.left[(k * groups + first) * weight.rows * LANES..];
                        copy(delta, all, sub * weight.rows, weight.rows, block.groups, to);
                        if k == 0 {
                            p.right.resize(groups * weight.cols * LANES, 0.0);
                            let to = &mut p.right[first * weight.cols * LANES..];
                            copy(
                                value,
                                wide,
                                sub * weight.cols,
                                weight.cols,
                                block.groups,
                                to,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// 1 where output `k` of a sample of group `g` is observed, 0 elsewhere and in the padding.
fn observed(input: &BlockInput<'_>, g: usize, k: usize) -> [f64; LANES] {
    let targets = input.targets;
    std::array::from_fn(|lane| {
        let at = (g * targets.outputs + k) * LANES + lane;
        let seen = targets.mask.is_none_or(|m| m[at] != 0.0);
        if seen {
            targets.valid[g * LANES + lane]
        } else {
            0.0
        }
    })
}

/// What an operation reads, and how many features that has.
fn values<'a>(
    problem: &'a Problem,
    input: &BlockInput<'a>,
    arena: &'a [f64],
    src: Source,
) -> (&'a [f64], usize) {
    let widths = problem.program.widths;
    match src {
        Source::Buffer(b) => {
            let at = problem.full_layout.value[b] * problem.units();
            (&arena[at..], problem.program.buffers[b].features)
        }
        Source::Input => (input.x, widths[0]),
        Source::Phi => (input.phi, widths[1]),
        Source::Table => (input.table, widths[2]),
    }
}

/// `[groups, count, 8]` from the features `first..first + count` of `[groups, wide, 8]`.
fn copy(from: &[f64], wide: usize, first: usize, count: usize, groups: usize, to: &mut [f64]) {
    for g in 0..groups {
        let from = &from[(g * wide + first) * LANES..][..count * LANES];
        to[g * count * LANES..][..count * LANES].copy_from_slice(from);
    }
}

/// The panels of R₁ and R₂ made those of W and V: by W the derivative of output k is
/// φ + V z, by V it is W_kᵀ zᵀ.
fn split_head(problem: &Problem, isa: Isa, x: &[f64], room: &mut Residuals) {
    let d = problem.dims;
    let groups = problem.total_groups();
    let (w, rest) = x.split_at(d.outputs * d.phi);
    let v = &rest[..d.phi * d.z];
    // A head comes after its body, R₁ before R₂.
    let count = room.panels.len();
    let [r1, r2] = &mut room.panels[count - 2..] else {
        unreachable!("two slices of the last two")
    };
    let z = groups * d.z * LANES;
    let mixed = &mut room.mixed;
    mixed.grow(z + groups * d.phi * LANES);
    mixed[..z].copy_from_slice(&r2.right[..z]);
    let product = Product {
        weights: v,
        rows: d.phi,
        cols: d.z,
        transposed: false,
    };
    kernels::affine(
        isa,
        mixed,
        product,
        None,
        Some(Operand::shared(&r1.right, d.phi)),
        Operand::arena(0, d.z),
        Operand::arena(z, d.phi),
        None,
        groups,
    );
    r1.right
        .copy_from_slice(&mixed[z..][..groups * d.phi * LANES]);
    // δ of R₂ is that of the output itself: a multiple of the k-th unit vector.
    let mut left = std::mem::take(&mut r2.left);
    left.clear();
    for k in 0..d.outputs {
        for g in 0..groups {
            let seen = &r1.left[((k * groups + g) * d.outputs + k) * LANES..][..LANES];
            for w in &w[k * d.phi..][..d.phi] {
                left.extend(seen.iter().map(|s| w * s));
            }
        }
    }
    r2.left = left;
    r2.rows = d.phi;
}
