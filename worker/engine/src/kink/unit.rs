//! The units of a body, and units that have collapsed.
//!
//! A unit is a feature together with everything that carries it unchanged or
//! through an activation: one hidden unit of an mlp; an inner unit of a block;
//! a whole stream unit of a residual body. Its in-weights U write it, its
//! out-weights V read it. With a decay on both, U = V = 0 is a stationary point
//! at which *all* its kinks are active with weight zero, so no first-order test
//! applies; [`super::collapse`] decides such points.

use crate::program::{BufferId, Op, Program, Source};

/// One unit, in program coordinates.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Parameters that write it.
    pub inputs: Vec<usize>,
    /// Parameters that read it.
    pub outputs: Vec<usize>,
    /// Parameters that do both (a stream that feeds itself).
    pub loops: Vec<usize>,
    /// (activation, unit of its buffer) of all its activation entries.
    pub entries: Vec<(usize, usize)>,
}

impl Unit {
    /// All its parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs
            .iter()
            .chain(&self.outputs)
            .chain(&self.loops)
            .copied()
    }
}

/// Buffers that carry the same features: the lowest buffer of each class.
fn classes(program: &Program) -> Vec<BufferId> {
    let mut class: Vec<BufferId> = (0..program.buffers.len()).collect();
    let mut join = |a: BufferId, b: BufferId| {
        let (a, b) = (class[a], class[b]);
        let (low, high) = (a.min(b), a.max(b));
        class
            .iter_mut()
            .filter(|c| **c == high)
            .for_each(|c| *c = low);
    };
    for op in &program.ops {
        match op {
            Op::Activate { src, base, dst, .. } => {
                join(*src, *dst);
                base.iter().for_each(|b| join(*b, *dst));
            }
            Op::Affine {
                base: Some(Source::Buffer(b)),
                dst,
                ..
            } => join(*b, *dst),
            Op::Pool { src, dst }
            | Op::Gather {
                src: Source::Buffer(src),
                dst,
                ..
            } => {
                join(*src, *dst);
            }
            _ => {}
        }
    }
    class
}

/// All units of a program that pass through an activation.
pub(super) fn units(program: &Program) -> Vec<Unit> {
    let class = classes(program);
    // Channels of a gathered buffer repeat nine times.
    let mut channels: Vec<usize> = program.buffers.iter().map(|b| b.features).collect();
    for op in &program.ops {
        if let Op::Gather { dst, .. } = op {
            channels[*dst] = program.gathered_channels(*dst);
        }
    }
    let mut out = Vec::new();
    let mut roots: Vec<BufferId> = class.clone();
    roots.sort_unstable();
    roots.dedup();
    for root in roots.into_iter().filter(|r| *r != class[program.output]) {
        for feature in 0..channels[root] {
            let unit = unit(program, &class, &channels, root, feature);
            if !unit.entries.is_empty() {
                out.push(unit);
            }
        }
    }
    out
}

fn unit(
    program: &Program,
    class: &[BufferId],
    channels: &[usize],
    root: BufferId,
    feature: usize,
) -> Unit {
    let (mut inputs, mut outputs, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for op in &program.ops {
        match op {
            Op::Affine {
                weight,
                bias,
                src,
                dst,
                ..
            } => {
                let size = weight.rows * weight.cols;
                if class[*dst] == root {
                    let (block, row) = (feature / weight.rows, feature % weight.rows);
                    let at = weight.offset + block * size + row * weight.cols;
                    inputs.extend(at..at + weight.cols);
                    inputs.extend(bias.map(|b| b + feature));
                }
                if let Source::Buffer(b) = src
                    && class[*b] == root
                {
                    let features = weight.cols * weight.blocks;
                    for f in (feature..features).step_by(channels[*b]) {
                        let (block, col) = (f / weight.cols, f % weight.cols);
                        let at = weight.offset + block * size + col;
                        outputs.extend((0..weight.rows).map(|r| at + r * weight.cols));
                    }
                }
            }
            Op::Activate { index, src, .. } if class[*src] == root => {
                let buffer = program.buffers[*src];
                let all = (0..buffer.positions).map(|p| (*index, p * buffer.features + feature));
                entries.extend(all);
            }
            _ => {}
        }
    }
    let loops: Vec<usize> = inputs
        .iter()
        .filter(|i| outputs.contains(i))
        .copied()
        .collect();
    inputs.retain(|i| !loops.contains(i));
    outputs.retain(|i| !loops.contains(i));
    Unit {
        inputs,
        outputs,
        loops,
        entries,
    }
}
