//! Which fields of a cell its runs read.
//!
//! A field that cannot change a run's result must not change its identity,
//! and has no place in the summary's description of the cell.
//!
//! | field | read |
//! |---|---|
//! | data, standardize, features, intercept, skip, loss | always (features and intercept by the baseline at least) |
//! | predictor_ridge, head_decay | always |
//! | body | unless `skip: chain`, which has its own |
//! | depth, width, activation | unless the body is a table |
//! | bottleneck | by `bottleneck` and `aggregated` |
//! | cardinality | by `aggregated` |
//! | image | by `conv` |
//! | freeze, body_decay | where the body has parameters |
//! | optimizer, polish | unless the budget is 0 evaluations |
//! | budget.seconds | where it is set |
//! | certificate.kink_margin | where an activation with kinks is applied |
//!
//! Seed: see [`reads_seed`](super::reads_seed).

use serde_json::Value;

use super::encode::Tree;
use super::{CanonError, DataIdentity, file_hash};
use crate::formula;
use crate::spec::{Activation, Body, CellSpec, DataSpec, Features, Loss, Optimizer, Skip};

/// A field of a cell, by its canonical name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields of `crate::spec`, documented there")]
pub enum CellField {
    Data,
    Standardize,
    Features,
    Intercept,
    Body,
    Depth,
    Width,
    Bottleneck,
    Cardinality,
    Activation,
    Skip,
    Freeze,
    Image,
    Loss,
    PredictorRidge,
    BodyDecay,
    HeadDecay,
    Optimizer,
    Polish,
    Evaluations,
    Seconds,
    Gradient,
    Curvature,
    KinkMargin,
}

impl CellField {
    /// All, in the order of the contract.
    pub const ALL: [Self; 24] = [
        Self::Data,
        Self::Standardize,
        Self::Features,
        Self::Intercept,
        Self::Body,
        Self::Depth,
        Self::Width,
        Self::Bottleneck,
        Self::Cardinality,
        Self::Activation,
        Self::Skip,
        Self::Freeze,
        Self::Image,
        Self::Loss,
        Self::PredictorRidge,
        Self::BodyDecay,
        Self::HeadDecay,
        Self::Optimizer,
        Self::Polish,
        Self::Evaluations,
        Self::Seconds,
        Self::Gradient,
        Self::Curvature,
        Self::KinkMargin,
    ];

    /// Name in grids and results; groups are separated by dots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Standardize => "standardize",
            Self::Features => "features",
            Self::Intercept => "intercept",
            Self::Body => "body",
            Self::Depth => "depth",
            Self::Width => "width",
            Self::Bottleneck => "bottleneck",
            Self::Cardinality => "cardinality",
            Self::Activation => "activation",
            Self::Skip => "skip",
            Self::Freeze => "freeze",
            Self::Image => "image",
            Self::Loss => "loss",
            Self::PredictorRidge => "regularizer.predictor_ridge",
            Self::BodyDecay => "regularizer.body_decay",
            Self::HeadDecay => "regularizer.head_decay",
            Self::Optimizer => "optimizer",
            Self::Polish => "polish",
            Self::Evaluations => "budget.evaluations",
            Self::Seconds => "budget.seconds",
            Self::Gradient => "certificate.gradient",
            Self::Curvature => "certificate.curvature",
            Self::KinkMargin => "certificate.kink_margin",
        }
    }

    /// Whether runs of the cell read it, see the module's table.
    pub fn is_read(self, cell: &CellSpec) -> bool {
        let model = &cell.model;
        let chain = model.skip == Skip::Chain;
        let body = |wanted: &[Body]| !chain && wanted.contains(&model.body);
        let parametric = has_body_parameters(cell);
        match self {
            Self::Data
            | Self::Standardize
            | Self::Features
            | Self::Intercept
            | Self::Skip
            | Self::Loss
            | Self::PredictorRidge
            | Self::HeadDecay
            | Self::Evaluations
            | Self::Gradient
            | Self::Curvature => true,
            Self::Body => !chain,
            Self::Depth | Self::Width | Self::Activation => parametric,
            Self::Bottleneck => body(&[Body::Bottleneck, Body::Aggregated]),
            Self::Cardinality => body(&[Body::Aggregated]),
            Self::Image => body(&[Body::Conv]),
            Self::Freeze | Self::BodyDecay => parametric,
            Self::Optimizer | Self::Polish => cell.budget.evaluations > 0,
            Self::Seconds => cell.budget.seconds.is_some(),
            Self::KinkMargin => parametric && has_kinks(&model.activation),
        }
    }

    /// Its value in the grid's notation; `null` where nothing is set.
    pub fn shown(self, cell: &CellSpec) -> Value {
        let model = &cell.model;
        match self {
            Self::Data => shown_data(&cell.data),
            Self::Standardize => cell.standardize.into(),
            Self::Features => notation(&model.features),
            Self::Intercept => model.intercept.into(),
            Self::Body => match &model.body {
                Body::Table(file) => serde_json::json!({ "table": file.path }),
                other => other.name().into(),
            },
            Self::Depth => model.depth.into(),
            Self::Width => model.width.into(),
            Self::Bottleneck => model.bottleneck.into(),
            Self::Cardinality => model.cardinality.into(),
            Self::Activation => notation(&model.activation),
            Self::Skip => notation(&model.skip),
            Self::Freeze if model.freeze => "body".into(),
            Self::Freeze => Value::Null,
            Self::Image => notation(&model.image),
            Self::Loss => notation(&cell.loss),
            Self::PredictorRidge => cell.regularizer.predictor_ridge.into(),
            Self::BodyDecay => cell.regularizer.body_decay.into(),
            Self::HeadDecay => cell.regularizer.head_decay.into(),
            Self::Optimizer => notation(&cell.optimizer),
            Self::Polish => cell.polish.into(),
            Self::Evaluations => cell.budget.evaluations.into(),
            Self::Seconds => notation(&cell.budget.seconds),
            Self::Gradient => cell.certificate.gradient.into(),
            Self::Curvature => cell.certificate.curvature.into(),
            Self::KinkMargin => cell.certificate.kink_margin.into(),
        }
    }

    /// Its value as it enters identities.
    pub(super) fn canonical(
        self,
        cell: &CellSpec,
        data: &DataIdentity,
    ) -> Result<Tree, CanonError> {
        let model = &cell.model;
        Ok(match self {
            Self::Data => Tree::Bytes(data.arrays.to_vec()),
            Self::Standardize => Tree::Bool(cell.standardize),
            Self::Features => features(model.features),
            Self::Intercept => Tree::Bool(model.intercept),
            Self::Body => match &model.body {
                Body::Table(file) => Tree::map([("table", Tree::Bytes(file_hash(file)?.to_vec()))]),
                other => Tree::name(other.name()),
            },
            Self::Depth => Tree::size(model.depth),
            Self::Width => Tree::size(model.width),
            Self::Bottleneck => Tree::size(model.bottleneck),
            Self::Cardinality => Tree::size(model.cardinality),
            Self::Activation => activation(&model.activation),
            Self::Skip => Tree::name(match model.skip {
                Skip::Outer => "outer",
                Skip::None => "none",
                Skip::Chain => "chain",
            }),
            Self::Freeze => Tree::Bool(model.freeze),
            // The shape of the data unless the grid names another.
            Self::Image => model.image.or(data.image).map_or(Tree::Null, |shape| {
                Tree::Seq(shape.into_iter().map(Tree::size).collect())
            }),
            Self::Loss => loss(cell.loss),
            Self::PredictorRidge => Tree::Float(cell.regularizer.predictor_ridge),
            Self::BodyDecay => Tree::Float(cell.regularizer.body_decay),
            Self::HeadDecay => Tree::Float(cell.regularizer.head_decay),
            Self::Optimizer => Tree::name(optimizer(cell.optimizer)),
            Self::Polish => Tree::Bool(cell.polish),
            Self::Evaluations => Tree::Int(cell.budget.evaluations),
            Self::Seconds => cell.budget.seconds.map_or(Tree::Null, Tree::Float),
            Self::Gradient => Tree::Float(cell.certificate.gradient),
            Self::Curvature => Tree::Float(cell.certificate.curvature),
            Self::KinkMargin => Tree::Float(cell.certificate.kink_margin),
        })
    }
}

/// Whether u is not empty.
pub fn has_body_parameters(cell: &CellSpec) -> bool {
    cell.model.skip == Skip::Chain || !matches!(cell.model.body, Body::Table(_))
}

/// Whether the first derivative of an activation jumps somewhere.
pub fn has_kinks(activation: &Activation) -> bool {
    match activation {
        Activation::LeakyRelu { slope } => *slope != 1.0,
        Activation::Formula(formula) => !formula.kinks().is_empty(),
        Activation::Relu
        | Activation::Selu
        | Activation::Abs
        | Activation::Relu6
        | Activation::HardTanh => true,
        Activation::Identity
        | Activation::Elu
        | Activation::Softplus
        | Activation::Tanh
        | Activation::Sigmoid
        | Activation::Atan
        | Activation::Softsign
        | Activation::Gelu
        | Activation::GeluTanh
        | Activation::Silu
        | Activation::Mish
        | Activation::Sin
        | Activation::Gaussian
        | Activation::Quadratic
        | Activation::Cubic
        | Activation::SquaredRelu => false,
    }
}

/// Data as the grid names them: without content hashes.
fn shown_data(data: &DataSpec) -> Value {
    let mut value = notation(data);
    if let Value::Object(fields) = &mut value {
        fields.remove("sha256");
        if let Some(Value::Object(file)) = fields.get("target_file")
            && let Some(path) = file.get("path").cloned()
        {
            fields.insert("target_file".into(), path);
        }
    }
    value
}

/// What `Serialize` writes; non-finite numbers never pass a grid.
fn notation<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

pub(super) fn features(features: Features) -> Tree {
    match features {
        Features::Linear => Tree::name("linear"),
        Features::Polynomial { degree } => Tree::map([("polynomial", Tree::size(degree))]),
        Features::Fourier { count, scale, seed } => Tree::map([(
            "fourier",
            Tree::map([
                ("count", Tree::size(count)),
                ("scale", Tree::Float(scale)),
                ("seed", Tree::Int(seed)),
            ]),
        )]),
    }
}

pub(super) fn loss(loss: Loss) -> Tree {
    match loss {
        Loss::Huber { delta } => Tree::map([("huber", Tree::Float(delta))]),
        named => Tree::name(named.name()),
    }
}

pub(super) fn optimizer(optimizer: Optimizer) -> &'static str {
    Optimizer::NAMED
        .iter()
        .find(|(_, o)| *o == optimizer)
        .map_or("", |(name, _)| name)
}

pub(super) fn activation(activation: &Activation) -> Tree {
    match activation {
        Activation::LeakyRelu { slope } => Tree::map([("leaky_relu", Tree::Float(*slope))]),
        Activation::Formula(formula) => Tree::map([("formula", syntax(formula.tree()))]),
        named => Tree::name(named.name()),
    }
}

fn syntax(tree: &formula::Tree) -> Tree {
    let node = |name: &str, operands: &[&formula::Tree]| {
        let mut items = vec![Tree::name(name)];
        items.extend(operands.iter().map(|t| syntax(t)));
        Tree::Seq(items)
    };
    match tree {
        formula::Tree::Number(x) => Tree::Float(*x),
        formula::Tree::Variable => Tree::name("t"),
        formula::Tree::Negative(a) => node("-", &[a]),
        formula::Tree::Operation(op, a, b) => node(op.symbol(), &[a, b]),
        formula::Tree::Call(f, a) => node(f.name(), &[a]),
        formula::Tree::CallTwo(f, a, b) => node(f.name(), &[a, b]),
    }
}
