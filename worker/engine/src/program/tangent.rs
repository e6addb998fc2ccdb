//! Hessian-vector products of one block (R-operator).
//!
//! Works beside a block on which [`Program::forward`] and
//! [`Program::backward`] ran with `Keep::Everything`: that arena is only read
//! here, so several directions can be pushed through one linearisation. A
//! buffer that the direction does not reach has no tangent, and the work on it
//! is skipped: a unit direction in a late layer costs a late layer.

use common::math::Isa;
use common::spec::Loss;

use super::{BlockInput, BufferId, Layout, Op, Program, Source};
use crate::kernels::{self, Operand, Product};
use crate::loss;

/// Places of tangents and adjoint tangents, in units of one feature of one group.
#[derive(Clone, Debug)]
pub struct TangentLayout {
    tangent: Vec<usize>,
    adjoint: Vec<usize>,
    units: usize,
}

impl TangentLayout {
    /// Lays the tangents of a program out.
    pub fn new(program: &Program) -> Self {
        let mut units = 0;
        let mut take = |size: usize| {
            units += size;
            units - size
        };
        let tangent = program.buffers.iter().map(|b| take(b.size())).collect();
        let adjoint = program.buffers.iter().map(|b| take(b.size())).collect();
        Self {
            tangent,
            adjoint,
            units,
        }
    }

    /// Numbers an arena needs for blocks of up to `groups` groups.
    pub fn arena_len(&self, groups: usize) -> usize {
        self.units * groups * kernels::LANES
    }
}

/// The linearised block and the room for its tangents.
pub(crate) struct TangentCall<'a> {
    pub isa: Isa,
    pub loss: Loss,
    pub parameters: &'a [f64],
    pub direction: &'a [f64],
    pub layout: &'a Layout,
    pub tangents: &'a TangentLayout,
    pub input: BlockInput<'a>,
    /// The block's arena after forward and backward.
    pub linear: &'a [f64],
    pub units: usize,
    /// First group of the block that the passes cover; `input.groups` follow.
    pub first_group: usize,
}

impl Program {
    /// Adds the block's share of H·direction to `out`.
    pub(crate) fn hessian_product(
        &self,
        c: &TangentCall<'_>,
        arena: &mut [f64],
        live: &mut Vec<bool>,
        out: &mut [f64],
        scratch: &mut [f64],
    ) {
        live.clear();
        live.resize(self.buffers.len(), false);
        self.tangent_forward(c, arena, live);
        if !live[self.output] {
            return;
        }
        let (f, outputs) = (self.output, self.outputs());
        loss::curvature_product(
            c.isa,
            c.loss,
            arena,
            self.linear(c, c.layout.loss_curvature, outputs, outputs),
            self.tangent(c, f),
            self.adjoint_tangent(c, f),
            outputs,
            c.input.groups,
            c.input.targets.inverse_rows,
        );
        self.tangent_backward(c, arena, live, out, scratch, self.ops.len());
    }

    /// A block of the linearised arena, of `size` numbers a sample.
    fn linear<'a>(
        &self,
        c: &TangentCall<'a>,
        unit: usize,
        size: usize,
        features: usize,
    ) -> Operand<'a> {
        let first = unit * c.units + c.first_group * size * kernels::LANES;
        Operand::shared(&c.linear[first..], features)
    }

    fn tangent<'a>(&self, c: &TangentCall<'a>, b: BufferId) -> Operand<'a> {
        Operand::arena(c.tangents.tangent[b] * c.units, self.buffers[b].features)
    }

    fn adjoint_tangent<'a>(&self, c: &TangentCall<'a>, b: BufferId) -> Operand<'a> {
        Operand::arena(c.tangents.adjoint[b] * c.units, self.buffers[b].features)
    }

    /// The value of a source at the linearisation point.
    fn value<'a>(&self, c: &TangentCall<'a>, source: Source) -> Operand<'a> {
        match source {
            Source::Buffer(b) => self.linear(
                c,
                c.layout.value[b],
                self.buffers[b].size(),
                self.buffers[b].features,
            ),
            other => {
                let operand = self.operand(other, c.layout, &c.input, c.units);
                match operand.place {
                    kernels::Place::Shared(slice) => Operand {
                        place: kernels::Place::Shared(&slice[c.first_group * operand.stride..]),
                        stride: operand.stride,
                    },
                    kernels::Place::Arena(_) => unreachable!("external inputs are shared slices"),
                }
            }
        }
    }

    fn tangent_forward(&self, c: &TangentCall<'_>, arena: &mut [f64], live: &mut [bool]) {
        let (isa, groups) = (c.isa, c.input.groups);
        let is_live = |live: &[bool], s: &Source| matches!(s, Source::Buffer(b) if live[*b]);
        for op in &self.ops {
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
                    let size = weight.rows * weight.cols;
                    let dot = &c.direction[weight.offset..][..size * weight.blocks];
                    let bias_dot = bias.map(|b| &c.direction[b..][..buffer.features]);
                    let moves = dot.iter().any(|&x| x != 0.0)
                        || bias_dot.is_some_and(|b| b.iter().any(|&x| x != 0.0));
                    let src_live = is_live(live, src);
                    let base_live = base.as_ref().filter(|b| is_live(live, b));
                    if !moves && !src_live && base_live.is_none() {
                        continue;
                    }
                    live[*dst] = true;
                    let to = self.tangent(c, *dst);
                    // What the chain continues from: the base's tangent, then this buffer.
                    let mut from = base_live.map(|b| match b {
                        Source::Buffer(b) => self.tangent(c, *b),
                        _ => unreachable!("only buffers are live"),
                    });
                    let value = self.value(c, *src);
                    let mut pass = |weights: &[f64],
                                    bias: Option<&[f64]>,
                                    source: Operand<'_>,
                                    from: Option<Operand<'_>>| {
                        for k in 0..weight.blocks {
                            let product = Product {
                                weights: &weights[k * size..][..size],
                                rows: weight.rows,
                                cols: weight.cols,
                                transposed: false,
                            };
                            kernels::affine(
                                isa,
                                arena,
                                product,
                                bias.map(|b| &b[k * weight.rows..][..weight.rows]),
                                from.map(|f| f.from_feature(k * weight.rows)),
                                source.from_feature(k * weight.cols),
                                to.from_feature(k * weight.rows),
                                None,
                                rows,
                            );
                        }
                    };
                    if moves {
                        // A bias and a base never meet in one operation.
                        let bias = if from.is_none() { bias_dot } else { None };
                        pass(dot, bias, value, from);
                        from = Some(to);
                    }
                    match src {
                        Source::Buffer(b) if src_live => {
                            let weights = &c.parameters[weight.offset..][..size * weight.blocks];
                            pass(weights, None, self.tangent(c, *b), from);
                        }
                        _ if !moves => {
                            let from = from.expect("something was live");
                            kernels::copy(arena, from, to, buffer.features, rows);
                        }
                        _ => {}
                    }
                }
                Op::Activate {
                    index,
                    src,
                    base,
                    dst,
                } => {
                    let base_live = base.filter(|&b| live[b]);
                    if !live[*src] && base_live.is_none() {
                        continue;
                    }
                    live[*dst] = true;
                    let size = self.buffers[*dst].size();
                    let flat = |o: Operand<'_>| match o.place {
                        kernels::Place::Arena(at) => Operand::arena(at, size),
                        kernels::Place::Shared(_) => unreachable!("tangents are in the arena"),
                    };
                    let to = flat(self.tangent(c, *dst));
                    let under = base_live.map(|b| flat(self.tangent(c, b)));
                    if !live[*src] {
                        let under = under.expect("something was live");
                        kernels::copy(arena, under, to, size, groups);
                        continue;
                    }
                    let first = self.linear(c, c.layout.first[*index], size, size);
                    let from = flat(self.tangent(c, *src));
                    match under {
                        Some(under) => {
                            let all = [first, from, under];
                            kernels::hadamard_sum(isa, arena, all, None, to, size, groups);
                        }
                        None => kernels::hadamard(isa, arena, first, from, to, size, groups),
                    }
                }
                Op::Gather { image, src, dst } => {
                    if let Source::Buffer(b) = src
                        && live[*b]
                    {
                        live[*dst] = true;
                        let channels = self.gathered_channels(*dst);
                        let (from, to) = (self.tangent(c, *b), self.tangent(c, *dst));
                        kernels::gather(arena, *image, channels, from, to, groups);
                    }
                }
                Op::Pool { src, dst } => {
                    if live[*src] {
                        live[*dst] = true;
                        let b = self.buffers[*src];
                        let (from, to) = (self.tangent(c, *src), self.tangent(c, *dst));
                        kernels::pool(isa, arena, b.positions, from, to, b.features, groups);
                    }
                }
            }
        }
    }

    fn tangent_backward(
        &self,
        c: &TangentCall<'_>,
        arena: &mut [f64],
        live: &[bool],
        out: &mut [f64],
        scratch: &mut [f64],
        upto: usize,
    ) {
        let (isa, groups) = (c.isa, c.input.groups);
        for (op, plan) in self.ops[..upto].iter().zip(&c.layout.plan).rev() {
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
                    let size = weight.rows * weight.cols;
                    let r_delta = self.adjoint_tangent(c, *dst);
                    let delta =
                        self.linear(c, c.layout.adjoint[*dst], buffer.size(), buffer.features);
                    let value = self.value(c, *src);
                    for k in 0..weight.blocks {
                        let r_delta = r_delta.from_feature(k * weight.rows);
                        let delta = delta.from_feature(k * weight.rows);
                        let range = weight.offset + k * size..weight.offset + (k + 1) * size;
                        let mut outer = |left: Operand<'_>, right: Operand<'_>| {
                            kernels::outer(
                                isa,
                                arena,
                                left,
                                weight.rows,
                                right.from_feature(k * weight.cols),
                                weight.cols,
                                rows,
                                &mut out[range.clone()],
                                scratch,
                            );
                        };
                        outer(r_delta, value);
                        let Source::Buffer(b) = src else { continue };
                        if live[*b] {
                            outer(delta, self.tangent(c, *b));
                        }
                        let to = self.adjoint_tangent(c, *b).from_feature(k * weight.cols);
                        let product = |weights| Product {
                            weights,
                            rows: weight.rows,
                            cols: weight.cols,
                            transposed: true,
                        };
                        let from = plan.src_accumulates.then_some(to);
                        let weights = product(&c.parameters[range.clone()]);
                        kernels::affine(isa, arena, weights, None, from, r_delta, to, None, rows);
                        let dot = &c.direction[range];
                        if dot.iter().any(|&x| x != 0.0) {
                            let dot = product(dot);
                            kernels::affine(isa, arena, dot, None, Some(to), delta, to, None, rows);
                        }
                    }
                    if let Some(bias) = bias {
                        let out = &mut out[*bias..][..buffer.features];
                        kernels::row_sums(isa, arena, r_delta, buffer.features, rows, out);
                    }
                    if let Some(Source::Buffer(b)) = base {
                        self.tangent_pass_on(c, *b, *dst, plan.base_accumulates, arena);
                    }
                }
                Op::Activate {
                    index,
                    src,
                    base,
                    dst,
                } => {
                    let size = self.buffers[*dst].size();
                    let place = |at: usize| Operand::arena(at * c.units, size);
                    let r_delta = place(c.tangents.adjoint[*dst]);
                    let to = place(c.tangents.adjoint[*src]);
                    let first = self.linear(c, c.layout.first[*index], size, size);
                    let moved = live[*src].then(|| {
                        let second = self.linear(c, c.layout.second[*index], size, size);
                        (second, place(c.tangents.tangent[*src]))
                    });
                    match moved {
                        Some((second, r_t)) if !plan.src_accumulates => {
                            let all = [first, r_delta, second];
                            kernels::hadamard_sum(isa, arena, all, Some(r_t), to, size, groups);
                        }
                        _ => {
                            if plan.src_accumulates {
                                kernels::hadamard_add(isa, arena, first, r_delta, to, size, groups);
                            } else {
                                kernels::hadamard(isa, arena, first, r_delta, to, size, groups);
                            }
                            if let Some((second, r_t)) = moved {
                                kernels::hadamard_add(isa, arena, second, r_t, to, size, groups);
                            }
                        }
                    }
                    if let Some(b) = base {
                        self.tangent_pass_on(c, *b, *dst, plan.base_accumulates, arena);
                    }
                }
                Op::Gather { image, src, dst } => {
                    if let Source::Buffer(b) = src {
                        let channels = self.gathered_channels(*dst);
                        let to = self.adjoint_tangent(c, *b);
                        if !plan.src_accumulates {
                            let size = self.buffers[*b].size();
                            let all = Operand::arena(c.tangents.adjoint[*b] * c.units, size);
                            kernels::zero(arena, all, size, groups);
                        }
                        let from = self.adjoint_tangent(c, *dst);
                        kernels::scatter(isa, arena, *image, channels, from, to, groups);
                    }
                }
                Op::Pool { src, dst } => {
                    let b = self.buffers[*src];
                    let (from, to) = (self.adjoint_tangent(c, *dst), self.adjoint_tangent(c, *src));
                    let add = plan.src_accumulates;
                    kernels::spread(arena, b.positions, from, to, b.features, groups, add);
                }
            }
        }
    }

    /// The tangents of all buffers along the call's direction; which of them
    /// move is left in `live`.
    pub(crate) fn tangents(&self, c: &TangentCall<'_>, arena: &mut [f64], live: &mut Vec<bool>) {
        live.clear();
        live.resize(self.buffers.len(), false);
        self.tangent_forward(c, arena, live);
    }

    /// Where the tangent of a buffer begins in the tangent arena.
    pub(crate) fn tangent_offset(&self, c: &TangentCall<'_>, b: BufferId) -> usize {
        c.tangents.tangent[b] * c.units
    }

    /// Adds to `out` the gradient, by the parameters, of one entry of a buffer:
    /// `unit` (over positions and features) of `lane` in the call's first
    /// group. The call covers one group.
    pub(crate) fn entry_gradient(
        &self,
        c: &TangentCall<'_>,
        buffer: BufferId,
        unit: usize,
        lane: usize,
        arena: &mut [f64],
        live: &mut Vec<bool>,
        out: &mut [f64],
        scratch: &mut [f64],
    ) {
        live.clear();
        live.resize(self.buffers.len(), false);
        for b in 0..self.buffers.len() {
            let first = c.tangents.adjoint[b] * c.units;
            arena[first..first + self.buffers[b].size() * kernels::LANES].fill(0.0);
        }
        arena[c.tangents.adjoint[buffer] * c.units + unit * kernels::LANES + lane] = 1.0;
        let writer = self.ops.iter().position(|op| Self::writes(op) == buffer);
        let upto = writer.map_or(0, |w| w + 1);
        self.tangent_backward(c, arena, live, out, scratch, upto);
    }

    fn tangent_pass_on(
        &self,
        c: &TangentCall<'_>,
        base: BufferId,
        dst: BufferId,
        accumulate: bool,
        arena: &mut [f64],
    ) {
        let size = self.buffers[dst].size();
        let groups = c.input.groups;
        let place = |b: BufferId| Operand::arena(c.tangents.adjoint[b] * c.units, size);
        if accumulate {
            kernels::add_into(
                c.isa,
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
}
