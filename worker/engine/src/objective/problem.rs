//! Data and network of one task, laid out for the kernels.

use common::formula::Formula;
use common::spec::{Loss, Regularizer, Skip};
use ndarray::ArrayView2;

use crate::kernels::{Aligned, LANES};
use crate::loss::Targets;
use crate::program::{
    BlockInput, BodyDims, Builder, Keep, KinkShape, Layout, Program, TangentLayout,
};

/// Most rows of one block. A block is the unit of summation (partial sums join
/// in block order) and of parallel work; the number is part of the numeric level.
pub const BLOCK_ROWS: usize = 256;

/// Sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// n.
    pub rows: usize,
    /// Columns of x that the body reads.
    pub inputs: usize,
    /// d_φ.
    pub phi: usize,
    /// d_z.
    pub z: usize,
    /// d_y.
    pub outputs: usize,
}

/// The arrays of a problem; all have n rows.
#[derive(Clone, Copy, Debug)]
pub struct Arrays<'a> {
    /// x `[n, d_in]`, what the body reads.
    pub x: ArrayView2<'a, f64>,
    /// φ `[n, d_φ]`.
    pub phi: ArrayView2<'a, f64>,
    /// y `[n, d_y]`, encoded for the loss.
    pub y: ArrayView2<'a, f64>,
    /// 1 where a target is observed `[n, d_y]`.
    pub mask: Option<ArrayView2<'a, f64>>,
    /// A given representation `[n, d_z]`.
    pub table: Option<ArrayView2<'a, f64>>,
}

/// One block of samples.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    x: Aligned,
    phi: Aligned,
    table: Aligned,
    y: Aligned,
    mask: Option<Aligned>,
    valid: Aligned,
    pub(crate) groups: usize,
    /// First row and number of rows.
    pub(crate) rows: (usize, usize),
}

/// Data, network, loss and penalties of one task. Immutable and shared.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(crate) program: Program,
    pub(crate) blocks: Vec<Block>,
    pub(crate) loss: Loss,
    pub(crate) regularizer: Regularizer,
    pub(crate) skip: Skip,
    pub(crate) dims: Dims,
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) gradient_layout: Layout,
    pub(crate) full_layout: Layout,
    pub(crate) tangent_layout: TangentLayout,
    /// Kinks of the activation.
    pub(crate) kinks: Vec<KinkShape>,
    /// Where the activation is constant.
    pub(crate) flats: Vec<(f64, f64)>,
    /// The activation, if it has kinks beside `kinks`.
    pub(crate) unplaced: Option<Formula>,
    /// Groups of the largest block.
    pub(crate) groups: usize,
}

impl Problem {
    /// Compiles the network and lays the data out.
    ///
    /// # Panics
    /// If the arrays do not have the sizes that `body` names, or no rows.
    pub fn new(body: &BodyDims, loss: Loss, regularizer: Regularizer, arrays: Arrays<'_>) -> Self {
        let n = arrays.y.nrows();
        assert!(n > 0, "a problem has rows");
        assert_eq!(arrays.phi.dim(), (n, body.phi), "phi");
        assert_eq!(arrays.y.dim(), (n, body.outputs), "targets");
        assert_eq!(arrays.x.nrows(), n, "inputs");
        let program = match body.skip {
            Skip::Outer => Builder::head(body),
            Skip::None => Builder::plain(body),
            Skip::Chain => Builder::chain(body),
        };
        let gradient_layout = Layout::new(&program, Keep::Gradient);
        let full_layout = Layout::new(&program, Keep::Everything);
        let tangent_layout = TangentLayout::new(&program);
        let total = n.div_ceil(LANES);
        let count = n.div_ceil(BLOCK_ROWS);
        let blocks: Vec<Block> = (0..count)
            .map(|b| {
                let (first, end) = (total * b / count * LANES, total * (b + 1) / count * LANES);
                Block::new(arrays, &program, first, end.min(n))
            })
            .collect();
        let z = match body.skip {
            Skip::Chain => 0,
            _ => Builder::z_width(body),
        };
        Self {
            groups: blocks.iter().map(|b| b.groups).max().unwrap_or(1),
            dims: Dims {
                rows: n,
                inputs: body.inputs,
                phi: body.phi,
                z,
                outputs: body.outputs,
            },
            depth: body.depth,
            width: body.width,
            skip: body.skip,
            flats: crate::kink::flat_pieces(&body.activation),
            unplaced: crate::kink::unplaced_kinks(&body.activation)
                .filter(|_| program.activations > 0),
            kinks: if program.activations > 0 {
                crate::kink::kinks_of(&body.activation)
            } else {
                Vec::new()
            },
            program,
            blocks,
            loss,
            regularizer,
            gradient_layout,
            full_layout,
            tangent_layout,
        }
    }

    /// H.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// u, the body's parameters, of a full θ.
    pub fn body_of(&self, theta: &[f64]) -> Vec<f64> {
        super::penalty::body_of(self, theta)
    }

    /// Whether the penalties bound every sequence of falling objectives: with a
    /// predictor ridge and a body decay on a body that has parameters, ‖(R₁, R₂, u)‖
    /// is bounded, so such a run cannot diverge in head coordinates.
    pub fn is_coercive(&self) -> bool {
        let r = self.regularizer;
        let body = super::penalty::body_len(self) == 0 || r.body_decay > 0.0;
        self.skip == Skip::Outer && r.predictor_ridge > 0.0 && body
    }

    /// Sizes.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// The skip connection.
    pub fn skip(&self) -> Skip {
        self.skip
    }

    /// The penalties.
    pub fn regularizer(&self) -> Regularizer {
        self.regularizer
    }

    /// Number of parameters of θ.
    pub fn theta_len(&self) -> usize {
        match self.skip {
            Skip::Outer => {
                let d = self.dims;
                self.program.parameters() - d.outputs * d.z + d.phi * d.z
            }
            _ => self.program.parameters(),
        }
    }

    /// Number of parameters in the program's coordinates.
    pub fn program_len(&self) -> usize {
        self.program.parameters()
    }

    /// Number of blocks.
    pub(crate) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// First row and number of rows of a block.
    pub(crate) fn block_rows(&self, b: usize) -> (usize, usize) {
        self.blocks[b].rows
    }

    /// The block that holds a row.
    pub(crate) fn block_of(&self, row: usize) -> usize {
        self.blocks.partition_point(|b| b.rows.0 <= row) - 1
    }

    pub(crate) fn units(&self) -> usize {
        self.groups * LANES
    }

    pub(crate) fn input<'a>(&'a self, block: &'a Block) -> BlockInput<'a> {
        BlockInput {
            x: &block.x,
            phi: &block.phi,
            table: &block.table,
            targets: Targets {
                y: &block.y,
                mask: block.mask.as_deref(),
                valid: &block.valid,
                outputs: self.dims.outputs,
                inverse_rows: 1.0 / self.dims.rows as f64,
            },
            groups: block.groups,
        }
    }
}

impl Block {
    fn new(a: Arrays<'_>, program: &Program, first: usize, end: usize) -> Self {
        let groups = (end - first).div_ceil(LANES);
        let pack = |m: ArrayView2<'_, f64>| {
            let cols = m.ncols();
            let mut out = Aligned::zeros(groups * cols * LANES);
            for row in first..end {
                let (g, lane) = ((row - first) / LANES, (row - first) % LANES);
                for c in 0..cols {
                    out[(g * cols + c) * LANES + lane] = m[[row, c]];
                }
            }
            out
        };
        let mut valid = Aligned::zeros(groups * LANES);
        valid[..end - first].fill(1.0);
        let [reads_x, reads_phi, reads_table] = program.widths.map(|w| w > 0);
        Self {
            x: if reads_x {
                pack(a.x)
            } else {
                Aligned::default()
            },
            phi: if reads_phi {
                pack(a.phi)
            } else {
                Aligned::default()
            },
            table: match a.table {
                Some(t) if reads_table => pack(t),
                _ => Aligned::default(),
            },
            y: pack(a.y),
            mask: a.mask.map(pack),
            valid,
            groups,
            rows: (first, end - first),
        }
    }
}
