//! The parameter arrays of a network: names, shapes and order of θ.
//!
//! θ is one flat vector; [`layout`] says which array lies where, in the order
//! of CONTRACT §1. Everything that gives parameters a name (minima files,
//! `worker evaluate`, derivative checks) and everything that draws them
//! ([`standard_start`]) goes by this list. It does not know what the arrays
//! compute: that is [`crate::reference`] and the engine.
//!
//! | skip | arrays |
//! |---|---|
//! | `outer` | W \[d_y, d_φ\], V \[d_φ, d_z\], then the body's |
//! | `none` | W \[d_y, d_z\], c \[d_y\], then the body's |
//! | `chain` | W \[d_y, d_φ\], then for each block A_l \[m, d_φ\], b_l \[m\], V_l \[d_φ, m\] |
//!
//! | body | arrays |
//! |---|---|
//! | `mlp`, `residual` | A1 \[m, d_in\], b1 \[m\], A2 \[m, m\], b2, … |
//! | `preact` | A0 \[m, d_in\], b0 \[m\], then C_l \[m, m\], c_l \[m\], B_l \[m, m\] |
//! | `bottleneck` | A0, b0, then C_l \[b, m\], c_l \[b\], D_l \[b, b\], d_l \[b\], B_l \[m, b\] |
//! | `aggregated` | A0, b0, then C_l \[κb, m\], c_l \[κb\], D_l \[κ, b, b\], d_l \[κb\], B_l \[m, κb\] |
//! | `conv` | A0 \[m, 3, 3, channels\], b0 \[m\], then C_l \[m, 3, 3, m\], c_l \[m\], B_l \[m, 3, 3, m\] |
//! | `table` | none |
//!
//! # The convolutional body
//!
//! Inputs are rows of an image `[height, width, channels]`, in the order row,
//! column, channel. With ∗ a 3×3 convolution that keeps the image's size
//! (zeros outside; entry \[o, i, j, c\] weighs channel c of the neighbour at
//! row offset i − 1 and column offset j − 1):
//!
//! h₀ = A0 ∗ x + b0, h_l = h_{l−1} + B_l ∗ σ(C_l ∗ σ(h_{l−1}) + c_l) for l = 1…H,
//! z = the mean of h_H over positions, d_z = m
//!
//! (He et al. 2015 and 2016 for the block, Lin, Chen & Yan 2014 for the global
//! average). No inner skip is scaled, nothing is normalised.

mod point;
mod start;

pub use point::{PointError, read_json, read_point};
pub use start::standard_start;

use crate::rng::Purpose;
use crate::spec::{Body, ModelSpec, Skip};

/// Sizes that the data decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutDims {
    /// Columns of x that the body reads.
    pub inputs: usize,
    /// d_φ.
    pub phi: usize,
    /// d_y.
    pub outputs: usize,
    /// Columns of a given representation (`body: table`), else 0.
    pub table: usize,
}

/// What an array is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArrayKind {
    /// W.
    OutputWeight,
    /// c of `skip: none`.
    OutputBias,
    /// V; in a chain V_l.
    SkipWeight,
    /// A_l.
    LayerWeight,
    /// b_l.
    LayerBias,
    /// C_l, the first matrix of a block.
    BlockInWeight,
    /// c_l.
    BlockInBias,
    /// D_l, the middle matrix of a block.
    BlockMidWeight,
    /// d_l.
    BlockMidBias,
    /// B_l, the last matrix of a block.
    BlockOutWeight,
}

impl ArrayKind {
    /// Whether the array belongs to the head (W, V, V_l, c) and not to the
    /// body u, which `body_decay` acts on and `freeze: body` keeps.
    pub fn is_head(self) -> bool {
        matches!(
            self,
            Self::OutputWeight | Self::OutputBias | Self::SkipWeight
        )
    }

    /// Whether the array is a bias.
    pub fn is_bias(self) -> bool {
        matches!(
            self,
            Self::OutputBias | Self::LayerBias | Self::BlockInBias | Self::BlockMidBias
        )
    }

    /// What its entries are drawn for.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::OutputWeight => Purpose::OutputWeight,
            Self::OutputBias => Purpose::OutputBias,
            Self::SkipWeight => Purpose::SkipWeight,
            Self::LayerWeight => Purpose::LayerWeight,
            Self::LayerBias => Purpose::LayerBias,
            Self::BlockInWeight => Purpose::BlockInWeight,
            Self::BlockInBias => Purpose::BlockInBias,
            Self::BlockMidWeight => Purpose::BlockMidWeight,
            Self::BlockMidBias => Purpose::BlockMidBias,
            Self::BlockOutWeight => Purpose::BlockOutWeight,
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Self::OutputWeight => "W",
            Self::OutputBias => "c",
            Self::SkipWeight => "V",
            Self::LayerWeight => "A",
            Self::LayerBias => "b",
            Self::BlockInWeight => "C",
            Self::BlockInBias => "c",
            Self::BlockMidWeight => "D",
            Self::BlockMidBias => "d",
            Self::BlockOutWeight => "B",
        }
    }
}

/// One array of θ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamArray {
    /// Name in files and messages: `W`, `V`, `A1`, …
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ArrayKind,
    /// l; 0 for W, V, c, A0 and b0.
    pub layer: usize,
    /// Where it begins in θ.
    pub offset: usize,
}

impl ParamArray {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no entries (a body without inputs).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its entries in θ.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// How many numbers one unit of the array's output sums: the columns of a
    /// matrix or of one branch, 9·channels of a convolution; 1 for a bias.
    pub fn fan_in(&self) -> usize {
        match self.shape.as_slice() {
            [_, 3, 3, channels] => 9 * channels,
            [.., columns] if !self.kind.is_bias() => *columns,
            _ => 1,
        }
    }

    /// The address (row, column) that the entry at a position draws from.
    ///
    /// A matrix entry has its own row and column, a bias its position and 0.
    /// Entry \[k, i, j\] of `aggregated` has (2¹⁶ k + i, j) and entry
    /// \[o, i, j, c\] of a convolution (o, 9c + 3i + j): so an entry that two
    /// networks have in common draws the same number in both, whatever the
    /// sizes around it.
    pub fn address(&self, position: usize) -> (u32, u32) {
        let (row, column) = match *self.shape.as_slice() {
            [_, 3, 3, channels] => {
                let (unit, rest) = (position / (9 * channels), position % (9 * channels));
                (unit, 9 * (rest % channels) + rest / channels)
            }
            [_, rows, columns] => {
                let (branch, rest) = (position / (rows * columns), position % (rows * columns));
                ((branch << 16) + rest / columns, rest % columns)
            }
            [_, columns] => (position / columns, position % columns),
            _ => (position, 0),
        };
        // Addresses wrap beyond 2³², which no array reaches in memory.
        (row as u32, column as u32)
    }
}

/// Why a model has no parameter arrays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A size that must be at least 1 is 0.
    #[error("`{field}` is 0; it must be at least 1")]
    Zero {
        /// The field of the model.
        field: &'static str,
    },
    /// `conv` on inputs that are no image.
    #[error(
        "body `conv` needs inputs with `image: [height, width, channels]`, and these have none"
    )]
    NoImage,
    /// An image of another size than the inputs.
    #[error("an image of {} x {} x {} has {} numbers, the inputs have {inputs}",
        image[0], image[1], image[2], image.iter().product::<usize>())]
    ImageSize {
        /// Height, width, channels.
        image: [usize; 3],
        /// Columns of the inputs.
        inputs: usize,
    },
}

/// d_z: the width of the representation. Not defined for a chain, where it is 0.
pub fn representation_width(model: &ModelSpec, dims: LayoutDims) -> usize {
    match (model.skip, &model.body) {
        (Skip::Chain, _) => 0,
        (_, Body::Table(_)) => dims.table,
        _ => model.width,
    }
}

/// All arrays of θ, in order; see the [module](self).
///
/// # Errors
/// A size of 0 that the body needs, or an image that the inputs do not have.
pub fn layout(model: &ModelSpec, dims: LayoutDims) -> Result<Vec<ParamArray>, LayoutError> {
    check(model, dims)?;
    let mut list = List::default();
    let (o, phi, z) = (dims.outputs, dims.phi, representation_width(model, dims));
    match model.skip {
        Skip::Outer => {
            list.push(ArrayKind::OutputWeight, 0, [o, phi]);
            list.push(ArrayKind::SkipWeight, 0, [phi, z]);
        }
        Skip::None => {
            list.push(ArrayKind::OutputWeight, 0, [o, z]);
            list.push(ArrayKind::OutputBias, 0, [o]);
        }
        Skip::Chain => {
            list.push(ArrayKind::OutputWeight, 0, [o, phi]);
            for l in 1..=model.depth {
                list.push(ArrayKind::LayerWeight, l, [model.width, phi]);
                list.push(ArrayKind::LayerBias, l, [model.width]);
                list.push(ArrayKind::SkipWeight, l, [phi, model.width]);
            }
            return Ok(list.arrays);
        }
    }
    list.body(model, dims);
    Ok(list.arrays)
}

fn check(model: &ModelSpec, dims: LayoutDims) -> Result<(), LayoutError> {
    let chain = model.skip == Skip::Chain;
    if !chain && matches!(model.body, Body::Table(_)) {
        return Ok(());
    }
    let inner = !chain && matches!(model.body, Body::Bottleneck | Body::Aggregated);
    let branches = !chain && model.body == Body::Aggregated;
    for (field, size, needed) in [
        ("depth", model.depth, true),
        ("width", model.width, true),
        ("bottleneck", model.bottleneck, inner),
        ("cardinality", model.cardinality, branches),
    ] {
        if needed && size == 0 {
            return Err(LayoutError::Zero { field });
        }
    }
    if !chain && model.body == Body::Conv {
        let image = model.image.ok_or(LayoutError::NoImage)?;
        let size = image.iter().try_fold(1, |p: usize, s| p.checked_mul(*s));
        if size != Some(dims.inputs) || dims.inputs == 0 {
            let inputs = dims.inputs;
            return Err(LayoutError::ImageSize { image, inputs });
        }
    }
    Ok(())
}

/// Number of entries of θ.
pub fn parameters(arrays: &[ParamArray]) -> usize {
    arrays.last().map_or(0, |a| a.range().end)
}

#[derive(Default)]
struct List {
    arrays: Vec<ParamArray>,
}

impl List {
    fn push<const N: usize>(&mut self, kind: ArrayKind, layer: usize, shape: [usize; N]) {
        let numbered = layer > 0 || matches!(kind, ArrayKind::LayerWeight | ArrayKind::LayerBias);
        let name = if numbered {
            format!("{}{layer}", kind.letter())
        } else {
            kind.letter().to_owned()
        };
        let offset = parameters(&self.arrays);
        self.arrays.push(ParamArray {
            name,
            shape: shape.to_vec(),
            kind,
            layer,
            offset,
        });
    }

    fn body(&mut self, model: &ModelSpec, dims: LayoutDims) {
        use ArrayKind::{
            BlockInBias, BlockInWeight, BlockMidBias, BlockMidWeight, BlockOutWeight, LayerBias,
            LayerWeight,
        };
        let (m, b, k) = (model.width, model.bottleneck, model.cardinality);
        match model.body {
            Body::Table(_) => return,
            Body::Mlp | Body::Residual => {
                for l in 1..=model.depth {
                    let fan = if l == 1 { dims.inputs } else { m };
                    self.push(LayerWeight, l, [m, fan]);
                    self.push(LayerBias, l, [m]);
                }
                return;
            }
            Body::Conv => self.push(LayerWeight, 0, [m, 3, 3, model.image.map_or(0, |i| i[2])]),
            Body::Preact | Body::Bottleneck | Body::Aggregated => {
                self.push(LayerWeight, 0, [m, dims.inputs]);
            }
        }
        self.push(LayerBias, 0, [m]);
        for l in 1..=model.depth {
            match model.body {
                Body::Conv => {
                    self.push(BlockInWeight, l, [m, 3, 3, m]);
                    self.push(BlockInBias, l, [m]);
                    self.push(BlockOutWeight, l, [m, 3, 3, m]);
                }
                Body::Bottleneck => {
                    self.push(BlockInWeight, l, [b, m]);
                    self.push(BlockInBias, l, [b]);
                    self.push(BlockMidWeight, l, [b, b]);
                    self.push(BlockMidBias, l, [b]);
                    self.push(BlockOutWeight, l, [m, b]);
                }
                Body::Aggregated => {
                    self.push(BlockInWeight, l, [k * b, m]);
                    self.push(BlockInBias, l, [k * b]);
                    self.push(BlockMidWeight, l, [k, b, b]);
                    self.push(BlockMidBias, l, [k * b]);
                    self.push(BlockOutWeight, l, [m, k * b]);
                }
                _ => {
                    self.push(BlockInWeight, l, [m, m]);
                    self.push(BlockInBias, l, [m]);
                    self.push(BlockOutWeight, l, [m, m]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Activation, Features, FileRef};

    pub(super) fn model(body: Body, skip: Skip) -> ModelSpec {
        ModelSpec {
            features: Features::Linear,
            intercept: true,
            body,
            depth: 2,
            width: 4,
            bottleneck: 2,
            cardinality: 3,
            activation: Activation::Tanh,
            skip,
            freeze: false,
            image: Some([2, 2, 3]),
        }
    }

    pub(super) const DIMS: LayoutDims = LayoutDims {
        inputs: 12,
        phi: 13,
        outputs: 2,
        table: 7,
    };

    pub(super) fn arrays(body: Body, skip: Skip) -> Vec<ParamArray> {
        layout(&model(body, skip), DIMS).unwrap()
    }

    fn text(body: Body, skip: Skip) -> String {
        let list = arrays(body, skip);
        let shown = list.iter().map(|a| format!("{} {:?}", a.name, a.shape));
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_arrays_stand_in_the_order_of_the_contract() {
        let table = Body::Table(FileRef {
            path: "z.npy".into(),
            sha256: String::new(),
        });
        for (body, skip, want) in [
            (
                Body::Mlp,
                Skip::Outer,
                "W [2, 13], V [13, 4], A1 [4, 12], b1 [4], A2 [4, 4], b2 [4]",
            ),
            (
                Body::Residual,
                Skip::None,
                "W [2, 4], c [2], A1 [4, 12], b1 [4], A2 [4, 4], b2 [4]",
            ),
            (
                Body::Preact,
                Skip::Outer,
                "W [2, 13], V [13, 4], A0 [4, 12], b0 [4], C1 [4, 4], c1 [4], B1 [4, 4], \
                 C2 [4, 4], c2 [4], B2 [4, 4]",
            ),
            (
                Body::Bottleneck,
                Skip::Outer,
                "W [2, 13], V [13, 4], A0 [4, 12], b0 [4], C1 [2, 4], c1 [2], D1 [2, 2], d1 [2], \
                 B1 [4, 2], C2 [2, 4], c2 [2], D2 [2, 2], d2 [2], B2 [4, 2]",
            ),
            (
                Body::Aggregated,
                Skip::Outer,
                "W [2, 13], V [13, 4], A0 [4, 12], b0 [4], C1 [6, 4], c1 [6], D1 [3, 2, 2], \
                 d1 [6], B1 [4, 6], C2 [6, 4], c2 [6], D2 [3, 2, 2], d2 [6], B2 [4, 6]",
            ),
            (
                Body::Conv,
                Skip::Outer,
                "W [2, 13], V [13, 4], A0 [4, 3, 3, 3], b0 [4], C1 [4, 3, 3, 4], c1 [4], \
                 B1 [4, 3, 3, 4], C2 [4, 3, 3, 4], c2 [4], B2 [4, 3, 3, 4]",
            ),
            (table.clone(), Skip::Outer, "W [2, 13], V [13, 7]"),
            (table, Skip::None, "W [2, 7], c [2]"),
            (
                Body::Mlp,
                Skip::Chain,
                "W [2, 13], A1 [4, 13], b1 [4], V1 [13, 4], A2 [4, 13], b2 [4], V2 [13, 4]",
            ),
        ] {
            assert_eq!(text(body, skip), want);
        }
    }

    #[test]
    fn offsets_follow_one_another() {
        let list = arrays(Body::Aggregated, Skip::Outer);
        let mut next = 0;
        for array in &list {
            assert_eq!(array.offset, next);
            next += array.len();
        }
        assert_eq!(parameters(&list), next);
    }

    #[test]
    fn a_model_without_the_sizes_it_needs_is_refused() {
        let mut spec = model(Body::Aggregated, Skip::Outer);
        spec.cardinality = 0;
        let zero = LayoutError::Zero {
            field: "cardinality",
        };
        assert_eq!(layout(&spec, DIMS), Err(zero));
        spec.skip = Skip::Chain;
        assert!(layout(&spec, DIMS).is_ok(), "a chain reads no body");
        let mut spec = model(Body::Conv, Skip::Outer);
        spec.image = Some([2, 3, 3]);
        let error = layout(&spec, DIMS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an image of 2 x 3 x 3 has 18 numbers, the inputs have 12"
        );
        spec.image = None;
        assert_eq!(layout(&spec, DIMS), Err(LayoutError::NoImage));
    }

    #[test]
    fn entries_of_any_rank_have_addresses_that_do_not_depend_on_the_sizes_around_them() {
        let array = |shape: &[usize]| ParamArray {
            name: "D1".into(),
            shape: shape.to_vec(),
            kind: ArrayKind::BlockMidWeight,
            layer: 1,
            offset: 0,
        };
        let position = |shape: &[usize], index: &[usize]| {
            shape.iter().zip(index).fold(0, |p, (s, i)| p * s + i)
        };
        for (one, other, index) in [
            (&[3, 4, 4][..], &[5, 7, 7][..], &[2, 3, 1][..]),
            (&[4, 3, 3, 2], &[9, 3, 3, 8], &[3, 2, 0, 1]),
            (&[4, 6], &[5, 9], &[3, 5]),
        ] {
            assert_eq!(
                array(one).address(position(one, index)),
                array(other).address(position(other, index))
            );
        }
        // And no two entries of one array share an address.
        for shape in [&[3, 4, 4][..], &[4, 3, 3, 2], &[4, 6], &[9]] {
            let a = array(shape);
            let all: std::collections::BTreeSet<_> = (0..a.len()).map(|p| a.address(p)).collect();
            assert_eq!(all.len(), a.len());
        }
    }
}
