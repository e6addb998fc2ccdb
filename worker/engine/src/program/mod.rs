//! A network as a list of operations on blocks of samples.
//!
//! Bodies and skip connections are *compiled* to a [`Program`]; everything
//! below it (values, gradients, Hessian-vector products, thread-parallel
//! blocks) is written once, per operation:
//!
//! | operation | forward | backward | tangent | adjoint tangent |
//! |---|---|---|---|---|
//! | `Affine` | t = b + A s (+ base) | δs += Aᵀδt, dA += δt sᵀ, db += δt | Rt = A Rs + Ȧ s + ḃ | Rδs += Aᵀ Rδt + Ȧᵀ δt, R(dA) += Rδt sᵀ + δt Rsᵀ |
//! | `Activate` | h = σ(t) (+ base) | δt += σ′ δh | Rh = σ′ Rt | Rδt += σ′ Rδh + σ″ δh Rt |
//! | `Gather` | patches of an image | scatter-add | gather | scatter-add |
//! | `Pool` | mean over positions | spread | pool | spread |
//!
//! R is the derivative along a direction of the parameters (Pearlmutter 1994,
//! *Fast exact multiplication by the Hessian*).
//!
//! A program computes f = R₁φ + R₂z(x; u) in head coordinates, f = W z + c
//! (`skip: none`) or the chain; penalties are not its business (see
//! [`crate::objective`]). Buffers that the backward pass does not need are
//! reused: [`layout`] does the bookkeeping.

mod build;
mod exec;
mod layout;
mod tangent;

pub use build::{BodyDims, Builder};
pub use exec::{BlockInput, KinkShape, Patch, Patches};
pub use layout::{Keep, Layout};
pub(crate) use tangent::TangentCall;
pub use tangent::TangentLayout;

/// Index of a buffer.
pub type BufferId = usize;

/// A block buffer: `[groups, positions, features, 8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Features at one position.
    pub features: usize,
    /// Image positions; 1 outside `conv`.
    pub positions: usize,
}

impl Buffer {
    /// Numbers a sample.
    pub fn size(&self) -> usize {
        self.features * self.positions
    }
}

/// What an operation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A buffer of the program.
    Buffer(BufferId),
    /// The inputs x.
    Input,
    /// The features φ.
    Phi,
    /// The given representation z.
    Table,
}

/// A weight matrix inside the parameter vector, with `blocks` diagonal blocks.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// First parameter.
    pub offset: usize,
    /// Rows of one block.
    pub rows: usize,
    /// Columns of one block.
    pub cols: usize,
    /// Diagonal blocks, stored one after another.
    pub blocks: usize,
}

/// One operation. See the module page.
#[derive(Clone, Debug)]
pub enum Op {
    /// dst = bias + A·src, or dst = base + A·src.
    Affine {
        /// A.
        weight: Weight,
        /// First parameter of the bias.
        bias: Option<usize>,
        /// What is read.
        src: Source,
        /// What is continued from.
        base: Option<Source>,
        /// What is written.
        dst: BufferId,
    },
    /// dst = σ(src) (+ base).
    Activate {
        /// Position among the activations of the program.
        index: usize,
        /// Pre-activations.
        src: BufferId,
        /// What is added.
        base: Option<BufferId>,
        /// What is written.
        dst: BufferId,
    },
    /// Patches of 3 × 3 positions with zero padding: `[h·w, c]` to `[h·w, 9c]`.
    Gather {
        /// Image height and width.
        image: [usize; 2],
        /// What is read; [`Source::Input`] or a buffer.
        src: Source,
        /// What is written.
        dst: BufferId,
    },
    /// Mean over the positions.
    Pool {
        /// What is read.
        src: BufferId,
        /// What is written.
        dst: BufferId,
    },
}

/// A compiled network.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) ops: Vec<Op>,
    /// f.
    pub(crate) output: BufferId,
    /// z, where the program computes one.
    pub(crate) representation: Option<BufferId>,
    pub(crate) activations: usize,
    pub(crate) parameters: usize,
    /// Features of x, φ and the table (0 when not read).
    pub(crate) widths: [usize; 3],
    pub(crate) sigma: Option<crate::activation::Sigma>,
}

impl Program {
    /// Length of the parameter vector.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// d_y.
    pub fn outputs(&self) -> usize {
        self.buffers[self.output].size()
    }

    /// Pre-activation and activation buffer of each activation, in order.
    pub(crate) fn activation_buffers(&self) -> Vec<(BufferId, BufferId)> {
        let mut out = vec![(0, 0); self.activations];
        for op in &self.ops {
            if let Op::Activate {
                index, src, dst, ..
            } = op
            {
                out[*index] = (*src, *dst);
            }
        }
        out
    }

    /// Numbers per sample of a buffer.
    pub fn buffer_size(&self, id: BufferId) -> usize {
        self.buffers[id].size()
    }

    /// The buffer that holds z.
    pub fn representation(&self) -> Option<BufferId> {
        self.representation
    }

    /// Buffers an operation reads.
    pub(crate) fn reads(op: &Op) -> impl Iterator<Item = BufferId> + use<> {
        let buffer = |s: &Source| {
            if let Source::Buffer(b) = s {
                Some(*b)
            } else {
                None
            }
        };
        match op {
            Op::Affine { src, base, .. } => [buffer(src), base.as_ref().and_then(buffer)],
            Op::Activate { src, base, .. } => [Some(*src), *base],
            Op::Gather { src, .. } => [buffer(src), None],
            Op::Pool { src, .. } => [Some(*src), None],
        }
        .into_iter()
        .flatten()
    }

    /// The buffer an operation writes.
    pub(crate) fn writes(op: &Op) -> BufferId {
        match op {
            Op::Affine { dst, .. }
            | Op::Activate { dst, .. }
            | Op::Gather { dst, .. }
            | Op::Pool { dst, .. } => *dst,
        }
    }
}
