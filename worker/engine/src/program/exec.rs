//! Values and gradients of one block.

use common::math::Isa;
use common::math::simd::LANES;
use common::spec::Loss;

use super::{BufferId, Layout, Op, Program, Source};
use crate::kernels::{self, Operand, Product};
use crate::loss::{self, Targets};

/// What one block of samples brings along.
#[derive(Clone, Copy, Debug)]
pub struct BlockInput<'a> {
    /// x, `[groups, d_in, 8]`.
    pub x: &'a [f64],
    /// φ, `[groups, d_φ, 8]`.
    pub phi: &'a [f64],
    /// A given representation, `[groups, d_z, 8]`.
    pub table: &'a [f64],
    /// y, mask, padding.
    pub targets: Targets<'a>,
    /// Groups of eight samples.
    pub groups: usize,
}

/// A kink of an activation: where it is and the two pieces that meet there,
/// as slope and curvature on either side.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KinkShape {
    /// τ.
    pub position: f64,
    /// σ(τ).
    pub value: f64,
    /// σ′(τ−), σ″(τ−).
    pub left: [f64; 2],
    /// σ′(τ+), σ″(τ+).
    pub right: [f64; 2],
}

impl KinkShape {
    /// (σ, σ′, σ″) of a piece continued to t by its second-order Taylor polynomial at τ.
    fn continued(&self, piece: [f64; 2], t: f64) -> [f64; 3] {
        let e = t - self.position;
        let [slope, curvature] = piece;
        [
            self.value + e * (slope + 0.5 * curvature * e),
            slope + curvature * e,
            curvature,
        ]
    }
}

/// One entry of one activation that uses a mix of the two pieces of a kink:
/// `left`·(left piece) + (1 − `left`)·(right piece). On its own side a piece is
/// the activation itself; beyond the kink it is continued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// Which activation of the program.
    pub activation: usize,
    /// Position of the entry in the activation's block buffer.
    pub at: usize,
    /// The left piece's share, in \[0, 1\].
    pub left: f64,
    /// The kink.
    pub kink: KinkShape,
}

/// Patches of one block, sorted by activation.
pub type Patches = [Patch];

impl Program {
    pub(crate) fn operand<'a>(
        &self,
        source: Source,
        layout: &Layout,
        input: &BlockInput<'a>,
        units: usize,
    ) -> Operand<'a> {
        match source {
            Source::Buffer(b) => Operand::arena(layout.value[b] * units, self.buffers[b].features),
            Source::Input => Operand::shared(input.x, self.widths[0]),
            Source::Phi => Operand::shared(input.phi, self.widths[1]),
            Source::Table => Operand::shared(input.table, self.widths[2]),
        }
    }

    /// Channels of a gathered source.
    pub(crate) fn gathered_channels(&self, dst: BufferId) -> usize {
        self.buffers[dst].features / 9
    }

    /// Values of all buffers, σ′ (and σ″ where the layout keeps it), then the
    /// loss: returns Σℓ over the block and leaves (1/n)·∂ℓ/∂f in the output's adjoint.
    ///
    /// `units` is `8 · groups` of the largest block, the arena's unit.
    pub(crate) fn forward(
        &self,
        isa: Isa,
        loss: Loss,
        parameters: &[f64],
        layout: &Layout,
        input: &BlockInput<'_>,
        patches: &Patches,
        arena: &mut [f64],
        units: usize,
    ) -> f64 {
        self.values(isa, parameters, layout, input, patches, arena, units);
        let outputs = self.outputs();
        let place = |unit: usize| Operand::arena(unit * units, outputs);
        let curvature = (layout.loss_curvature != usize::MAX).then(|| place(layout.loss_curvature));
        loss::value_and_derivatives(
            isa,
            loss,
            arena,
            place(layout.value[self.output]),
            input.targets,
            place(layout.adjoint[self.output]),
            curvature,
            input.groups,
        )
    }

    /// Values of all buffers, without the loss.
    pub(crate) fn values(
        &self,
        isa: Isa,
        parameters: &[f64],
        layout: &Layout,
        input: &BlockInput<'_>,
        patches: &Patches,
        arena: &mut [f64],
        units: usize,
    ) {
        let groups = input.groups;
        for op in &self.ops {
            match op {
                Op::Affine {
                    weight,
                    bias,
                    src,
                    base,
                    dst,
                } => {
                    let positions = self.buffers[*dst].positions;
                    let src = self.operand(*src, layout, input, units);
                    let out = self.operand(Source::Buffer(*dst), layout, input, units);
                    let base = base.map(|b| self.operand(b, layout, input, units));
                    for k in 0..weight.blocks {
                        let size = weight.rows * weight.cols;
                        let product = Product {
                            weights: &parameters[weight.offset + k * size..][..size],
                            rows: weight.rows,
                            cols: weight.cols,
                            transposed: false,
                        };
                        let bias = bias.map(|b| &parameters[b + k * weight.rows..][..weight.rows]);
                        kernels::affine(
                            isa,
                            arena,
                            product,
                            bias,
                            base.map(|b| b.from_feature(k * weight.rows)),
                            src.from_feature(k * weight.cols),
                            out.from_feature(k * weight.rows),
                            None,
                            groups * positions,
                        );
                    }
                }
                Op::Activate {
                    index,
                    src,
                    base,
                    dst,
                } => {
                    let size = self.buffers[*dst].size();
                    let place = |unit: usize| Operand::arena(unit * units, size);
                    let (t, h) = (place(layout.value[*src]), place(layout.value[*dst]));
                    let first = place(layout.first[*index]);
                    let second =
                        (layout.second[*index] != usize::MAX).then(|| place(layout.second[*index]));
                    let sigma = self.sigma.as_ref().expect("a program that activates has σ");
                    let under = base.map(|b| place(layout.value[b]));
                    sigma.apply(isa, arena, t, h, first, second, under, size, groups);
                    if !patches.is_empty() {
                        self.patch(*index, *src, *dst, layout, patches, arena, units);
                    }
                }
                Op::Gather { image, src, dst } => {
                    let channels = self.gathered_channels(*dst);
                    let src = match src {
                        Source::Buffer(b) => Operand::arena(layout.value[*b] * units, channels),
                        _ => Operand::shared(input.x, channels),
                    };
                    let dst = Operand::arena(layout.value[*dst] * units, 9 * channels);
                    kernels::gather(arena, *image, channels, src, dst, groups);
                }
                Op::Pool { src, dst } => {
                    let b = self.buffers[*src];
                    let from = Operand::arena(layout.value[*src] * units, b.features);
                    let to = Operand::arena(layout.value[*dst] * units, b.features);
                    kernels::pool(isa, arena, b.positions, from, to, b.features, groups);
                }
            }
        }
    }

    /// Overwrites single entries with a mix of the two pieces of a kink.
    ///
    /// Needs the pre-activations, so a layout that keeps everything.
    fn patch(
        &self,
        index: usize,
        src: BufferId,
        dst: BufferId,
        layout: &Layout,
        patches: &Patches,
        arena: &mut [f64],
        units: usize,
    ) {
        let first = patches.partition_point(|p| p.activation < index);
        for p in patches[first..]
            .iter()
            .take_while(|p| p.activation == index)
        {
            let t = arena[layout.value[src] * units + p.at];
            let h = layout.value[dst] * units + p.at;
            let d = layout.first[index] * units + p.at;
            let d2 = layout.second[index] * units + p.at;
            // The value stands on a base that `other` and `own` share.
            let on_left = t <= p.kink.position;
            let own = if on_left { p.left } else { 1.0 - p.left };
            let piece = if on_left { p.kink.right } else { p.kink.left };
            let other = p.kink.continued(piece, t);
            let here = if on_left { p.kink.left } else { p.kink.right };
            // At τ itself the kernel's convention may be either piece's.
            let exact = t == p.kink.position;
            let [own_value, own_first, own_second] = if exact {
                p.kink.continued(here, t)
            } else {
                [f64::NAN, arena[d], arena[d2]]
            };
            if exact {
                // Both pieces have the same value there.
                arena[d] = own * own_first + (1.0 - own) * other[1];
                arena[d2] = own * own_second + (1.0 - own) * other[2];
                let _ = own_value;
            } else {
                // h = base + σ(t); the mix moves it by (1 − own)·(other − σ(t)).
                let sigma = self
                    .sigma
                    .as_ref()
                    .expect("a program that activates has σ")
                    .value(t);
                arena[h] += (1.0 - own) * (other[0] - sigma);
                arena[d] = own * own_first + (1.0 - own) * other[1];
                arena[d2] = own * own_second + (1.0 - own) * other[2];
            }
        }
    }

    /// Adds the block's gradient to `gradient`, from the adjoint that [`Program::forward`] left.
    ///
    /// With [`super::Keep::Everything`] all adjoints stay, and σ″ becomes σ″·δh.
    pub(crate) fn backward(
        &self,
        isa: Isa,
        parameters: &[f64],
        layout: &Layout,
        input: &BlockInput<'_>,
        arena: &mut [f64],
        units: usize,
        gradient: &mut [f64],
        scratch: &mut [f64],
    ) {
        let groups = input.groups;
        for (op, plan) in self.ops.iter().zip(&layout.plan).rev() {
            let adjoint =
                |b: BufferId, features: usize| Operand::arena(layout.adjoint[b] * units, features);
            match op {
                Op::Affine {
                    weight,
                    bias,
                    src,
                    base,
                    dst,
                } => {
                    let buffer = self.buffers[*dst];
                    let rows = groups * buffer.positions;
                    let delta = adjoint(*dst, buffer.features);
                    let value = self.operand(*src, layout, input, units);
                    let size = weight.rows * weight.cols;
                    for k in 0..weight.blocks {
                        let delta = delta.from_feature(k * weight.rows);
                        kernels::outer(
                            isa,
                            arena,
                            delta,
                            weight.rows,
                            value.from_feature(k * weight.cols),
                            weight.cols,
                            rows,
                            &mut gradient[weight.offset + k * size..][..size],
                            scratch,
                        );
                        if let Source::Buffer(b) = src {
                            let target = adjoint(*b, self.buffers[*b].features)
                                .from_feature(k * weight.cols);
                            let product = Product {
                                weights: &parameters[weight.offset + k * size..][..size],
                                rows: weight.rows,
                                cols: weight.cols,
                                transposed: true,
                            };
                            let base = plan.src_accumulates.then_some(target);
                            kernels::affine(
                                isa, arena, product, None, base, delta, target, None, rows,
                            );
                        }
                    }
                    if let Some(bias) = bias {
                        let out = &mut gradient[*bias..][..buffer.features];
                        kernels::row_sums(isa, arena, delta, buffer.features, rows, out);
                    }
                    if let Some(Source::Buffer(b)) = base {
                        self.pass_on(isa, *b, *dst, plan, layout, arena, units, groups);
                    }
                }
                Op::Activate {
                    index,
                    src,
                    base,
                    dst,
                } => {
                    let size = self.buffers[*dst].size();
                    let place = |unit: usize| Operand::arena(unit * units, size);
                    let (delta, target) =
                        (place(layout.adjoint[*dst]), place(layout.adjoint[*src]));
                    if layout.second[*index] != usize::MAX {
                        let second = place(layout.second[*index]);
                        kernels::hadamard(isa, arena, second, delta, second, size, groups);
                    }
                    let first = place(layout.first[*index]);
                    if plan.src_accumulates {
                        kernels::hadamard_add(isa, arena, first, delta, target, size, groups);
                    } else {
                        kernels::hadamard(isa, arena, first, delta, target, size, groups);
                    }
                    if let Some(b) = base {
                        self.pass_on(isa, *b, *dst, plan, layout, arena, units, groups);
                    }
                }
                Op::Gather { image, src, dst } => {
                    if let Source::Buffer(b) = src {
                        let channels = self.gathered_channels(*dst);
                        if !plan.src_accumulates {
                            let size = self.buffers[*b].size();
                            kernels::zero(arena, adjoint(*b, size), size, groups);
                        }
                        let (from, to) = (adjoint(*dst, 9 * channels), adjoint(*b, channels));
                        kernels::scatter(isa, arena, *image, channels, from, to, groups);
                    }
                }
                Op::Pool { src, dst } => {
                    let b = self.buffers[*src];
                    let (from, to) = (adjoint(*dst, b.features), adjoint(*src, b.features));
                    kernels::spread(
                        arena,
                        b.positions,
                        from,
                        to,
                        b.features,
                        groups,
                        plan.src_accumulates,
                    );
                }
            }
        }
    }

    /// δbase += δdst, where the layout did not make them the same.
    fn pass_on(
        &self,
        isa: Isa,
        base: BufferId,
        dst: BufferId,
        plan: &super::layout::BackPlan,
        layout: &Layout,
        arena: &mut [f64],
        units: usize,
        groups: usize,
    ) {
        if plan.base_aliases {
            return;
        }
        let size = self.buffers[dst].size();
        let place = |b: BufferId| Operand::arena(layout.adjoint[b] * units, size);
        if plan.base_accumulates {
            kernels::add_into(
                isa,
                arena,
                place(base),
                place(dst),
                place(base),
                size,
                groups,
            );
        } else {
            kernels::copy(arena, place(dst), place(base), size, groups);
        }
    }

    /// Scratch that [`Program::backward`] needs for blocks of up to `groups` groups.
    pub(crate) fn scratch_len(&self, groups: usize) -> usize {
        self.ops
            .iter()
            .filter_map(|op| match op {
                Op::Affine { weight, dst, .. } if weight.cols >= kernels::WIDE => {
                    Some(groups * self.buffers[*dst].positions * LANES * kernels::PANEL)
                }
                _ => None,
            })
            .max()
            .unwrap_or(0)
    }

    /// Zeroes all adjoints and σ″·δh of a linearised block.
    pub(crate) fn clear_second_order(&self, layout: &Layout, arena: &mut [f64], units: usize) {
        for (b, buffer) in self.buffers.iter().enumerate() {
            arena[layout.adjoint[b] * units..][..buffer.size() * units].fill(0.0);
        }
        for op in &self.ops {
            if let Op::Activate { index, dst, .. } = op {
                let size = self.buffers[*dst].size();
                arena[layout.second[*index] * units..][..size * units].fill(0.0);
            }
        }
    }
}
