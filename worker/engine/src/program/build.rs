//! Bodies and skips to operations.

use common::spec::{Activation, Body, Skip};

use super::{Buffer, BufferId, Op, Program, Source, Weight};
use crate::activation::Sigma;

/// The sizes a body is built from.
#[derive(Clone, Debug)]
pub struct BodyDims {
    /// Family.
    pub body: Body,
    /// Skip connection.
    pub skip: Skip,
    /// H.
    pub depth: usize,
    /// m.
    pub width: usize,
    /// b.
    pub bottleneck: usize,
    /// κ.
    pub cardinality: usize,
    /// σ.
    pub activation: Activation,
    /// Columns of x that the body reads.
    pub inputs: usize,
    /// `[height, width, channels]` for `conv`.
    pub image: Option<[usize; 3]>,
    /// d_φ.
    pub phi: usize,
    /// d_y.
    pub outputs: usize,
    /// Columns of a given representation (`table`, frozen bodies).
    pub table: usize,
}

/// Builds programs, operation by operation.
#[derive(Debug, Default)]
pub struct Builder {
    buffers: Vec<Buffer>,
    ops: Vec<Op>,
    activations: usize,
    next: usize,
}

impl Builder {
    fn buffer(&mut self, features: usize, positions: usize) -> BufferId {
        self.buffers.push(Buffer {
            features,
            positions,
        });
        self.buffers.len() - 1
    }

    fn take(&mut self, count: usize) -> usize {
        let at = self.next;
        self.next += count;
        at
    }

    /// `rows × cols` weights, then the bias if wanted, as the next parameters.
    #[expect(
        clippy::too_many_arguments,
        reason = "one primitive, used in this file only"
    )]
    fn affine(
        &mut self,
        rows: usize,
        cols: usize,
        blocks: usize,
        bias: bool,
        src: Source,
        base: Option<Source>,
        positions: usize,
    ) -> BufferId {
        let offset = self.take(rows * cols * blocks);
        let bias = bias.then(|| self.take(rows * blocks));
        let dst = self.buffer(rows * blocks, positions);
        let weight = Weight {
            offset,
            rows,
            cols,
            blocks,
        };
        self.ops.push(Op::Affine {
            weight,
            bias,
            src,
            base,
            dst,
        });
        dst
    }

    fn activate(&mut self, src: BufferId, base: Option<BufferId>) -> BufferId {
        let Buffer {
            features,
            positions,
        } = self.buffers[src];
        let dst = self.buffer(features, positions);
        self.ops.push(Op::Activate {
            index: self.activations,
            src,
            base,
            dst,
        });
        self.activations += 1;
        dst
    }

    fn gather(&mut self, src: Source, image: [usize; 2], channels: usize) -> Source {
        let dst = self.buffer(9 * channels, image[0] * image[1]);
        self.ops.push(Op::Gather { image, src, dst });
        Source::Buffer(dst)
    }

    /// The body's operations; parameters follow in the order of CONTRACT §1.
    fn body(&mut self, d: &BodyDims) -> Source {
        let (m, b, k) = (d.width, d.bottleneck, d.cardinality);
        match d.body {
            Body::Table(_) => Source::Table,
            Body::Mlp => {
                let mut h = Source::Input;
                let mut fan = d.inputs;
                for _ in 0..d.depth {
                    let t = self.affine(m, fan, 1, true, h, None, 1);
                    h = Source::Buffer(self.activate(t, None));
                    fan = m;
                }
                h
            }
            Body::Residual => {
                let t = self.affine(m, d.inputs, 1, true, Source::Input, None, 1);
                let mut h = self.activate(t, None);
                for _ in 1..d.depth {
                    let t = self.affine(m, m, 1, true, Source::Buffer(h), None, 1);
                    h = self.activate(t, Some(h));
                }
                Source::Buffer(h)
            }
            Body::Preact | Body::Bottleneck | Body::Aggregated => {
                let mut h = self.affine(m, d.inputs, 1, true, Source::Input, None, 1);
                for _ in 0..d.depth {
                    let a = self.activate(h, None);
                    let inner = match d.body {
                        Body::Preact => {
                            let t = self.affine(m, m, 1, true, Source::Buffer(a), None, 1);
                            self.activate(t, None)
                        }
                        _ => {
                            let blocks = if d.body == Body::Aggregated { k } else { 1 };
                            let t = self.affine(blocks * b, m, 1, true, Source::Buffer(a), None, 1);
                            let a = self.activate(t, None);
                            let t = self.affine(b, b, blocks, true, Source::Buffer(a), None, 1);
                            self.activate(t, None)
                        }
                    };
                    let fan = self.buffers[inner].features;
                    h = self.affine(
                        m,
                        fan,
                        1,
                        false,
                        Source::Buffer(inner),
                        Some(Source::Buffer(h)),
                        1,
                    );
                }
                Source::Buffer(h)
            }
            Body::Conv => {
                let [height, width, channels] = d.image.expect("conv has an image");
                let image = [height, width];
                let positions = height * width;
                let patches = self.gather(Source::Input, image, channels);
                let mut h = self.affine(m, 9 * channels, 1, true, patches, None, positions);
                for _ in 0..d.depth {
                    let a = self.activate(h, None);
                    let patches = self.gather(Source::Buffer(a), image, m);
                    let t = self.affine(m, 9 * m, 1, true, patches, None, positions);
                    let a = self.activate(t, None);
                    let patches = self.gather(Source::Buffer(a), image, m);
                    let base = Some(Source::Buffer(h));
                    h = self.affine(m, 9 * m, 1, false, patches, base, positions);
                }
                let z = self.buffer(m, 1);
                self.ops.push(Op::Pool { src: h, dst: z });
                Source::Buffer(z)
            }
        }
    }

    fn representation_width(&self, z: Source, d: &BodyDims) -> usize {
        match z {
            Source::Buffer(b) => self.buffers[b].size(),
            Source::Table => d.table,
            Source::Input | Source::Phi => unreachable!("a body ends in a buffer or a table"),
        }
    }

    /// f = R₁φ + R₂z in head coordinates. Parameters: R₁, R₂, then the body's.
    pub fn head(d: &BodyDims) -> Program {
        let mut b = Self::default();
        let z_width = Self::z_width(d);
        let r1 = b.take(d.outputs * d.phi);
        let r2 = b.take(d.outputs * z_width);
        let z = b.body(d);
        let weight = |offset, cols| Weight {
            offset,
            rows: d.outputs,
            cols,
            blocks: 1,
        };
        let partial = b.buffer(d.outputs, 1);
        b.ops.push(Op::Affine {
            weight: weight(r1, d.phi),
            bias: None,
            src: Source::Phi,
            base: None,
            dst: partial,
        });
        let f = b.buffer(d.outputs, 1);
        let base = Some(Source::Buffer(partial));
        b.ops.push(Op::Affine {
            weight: weight(r2, z_width),
            bias: None,
            src: z,
            base,
            dst: f,
        });
        b.finish(d, f, z)
    }

    /// f = W z + c. Parameters: W, c, then the body's.
    pub fn plain(d: &BodyDims) -> Program {
        let mut b = Self::default();
        let z_width = Self::z_width(d);
        let w = b.take(d.outputs * z_width);
        let c = b.take(d.outputs);
        let z = b.body(d);
        let f = b.buffer(d.outputs, 1);
        let weight = Weight {
            offset: w,
            rows: d.outputs,
            cols: z_width,
            blocks: 1,
        };
        b.ops.push(Op::Affine {
            weight,
            bias: Some(c),
            src: z,
            base: None,
            dst: f,
        });
        b.finish(d, f, z)
    }

    /// x_l = x_{l−1} + V_l σ(A_l x_{l−1} + b_l), f = W x_H.
    /// Parameters: W, then A_l, b_l, V_l per block.
    pub fn chain(d: &BodyDims) -> Program {
        let mut b = Self::default();
        let w = b.take(d.outputs * d.phi);
        let mut x = Source::Phi;
        for _ in 0..d.depth {
            let t = b.affine(d.width, d.phi, 1, true, x, None, 1);
            let a = b.activate(t, None);
            x = Source::Buffer(b.affine(d.phi, d.width, 1, false, Source::Buffer(a), Some(x), 1));
        }
        let f = b.buffer(d.outputs, 1);
        let weight = Weight {
            offset: w,
            rows: d.outputs,
            cols: d.phi,
            blocks: 1,
        };
        b.ops.push(Op::Affine {
            weight,
            bias: None,
            src: x,
            base: None,
            dst: f,
        });
        b.finish(d, f, x)
    }

    /// d_z of a body.
    pub fn z_width(d: &BodyDims) -> usize {
        match d.body {
            Body::Table(_) => d.table,
            _ => d.width,
        }
    }

    fn finish(self, d: &BodyDims, output: BufferId, z: Source) -> Program {
        debug_assert_eq!(
            self.representation_width(z, d),
            if d.skip == Skip::Chain {
                d.phi
            } else {
                Self::z_width(d)
            }
        );
        let reads = |s: Source| {
            self.ops.iter().any(|op| match op {
                Op::Affine { src, base, .. } => *src == s || *base == Some(s),
                Op::Gather { src, .. } => *src == s,
                _ => false,
            })
        };
        let widths = [
            if reads(Source::Input) { d.inputs } else { 0 },
            if reads(Source::Phi) { d.phi } else { 0 },
            if reads(Source::Table) { d.table } else { 0 },
        ];
        Program {
            output,
            representation: if let Source::Buffer(z) = z {
                Some(z)
            } else {
                None
            },
            activations: self.activations,
            parameters: self.next,
            widths,
            sigma: (self.activations > 0).then(|| Sigma::new(&d.activation)),
            buffers: self.buffers,
            ops: self.ops,
        }
    }
}
