//! The vocabulary of a run: what one training is, as plain values.
//!
//! A [`TaskSpec`] is everything that decides the bits of one run's result: a
//! [`CellSpec`] (data, model, loss, regulariser, optimiser, budget,
//! tolerances), a seed and a start. The types hold values that have been
//! checked once (see `grid`); nothing in here reads files, parses text or
//! computes an identity. For text to spec see [`crate::grid`], for spec to
//! identity see [`crate::canon`], for the meaning of each field CONTRACT §1–2
//! and `docs/grid.md`.
//!
//! `Serialize` writes the grid's own notation (`"tanh"`,
//! `{"leaky_relu": 0.1}`), so that a spec printed anywhere can be pasted into
//! a grid file.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::formula::Formula;

/// One run: a cell, a seed and a start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskSpec {
    /// Everything but seed and start.
    pub cell: Arc<CellSpec>,
    /// Key of every random draw of the run.
    pub seed: u64,
    /// How the first θ is drawn or given.
    pub start: Start,
}

/// All that the runs of one cell of the summary have in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellSpec {
    /// Where inputs and targets come from.
    pub data: DataSpec,
    /// Standardise inputs (and regression targets), CONTRACT §1.
    pub standardize: bool,
    /// The network.
    #[serde(flatten)]
    pub model: ModelSpec,
    /// The loss, a mean over rows.
    pub loss: Loss,
    /// Ridge and decay strengths.
    pub regularizer: Regularizer,
    /// First phase of the training.
    pub optimizer: Optimizer,
    /// Whether the polish to a certificate follows the first phase.
    pub polish: bool,
    /// When a run gives up.
    pub budget: Budget,
    /// What a certificate must reach.
    pub certificate: Tolerances,
}

/// The network `f(x) = W (φ(x) + V z(x; u))` and its controls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// φ.
    pub features: Features,
    /// Whether φ ends with the constant 1.
    pub intercept: bool,
    /// The family of z. Not read under `skip: chain`.
    pub body: Body,
    /// H: hidden layers (`mlp`, `residual`, `chain`) or blocks.
    pub depth: usize,
    /// m: units of a layer, or channels of `conv`.
    pub width: usize,
    /// b: inner width of `bottleneck` and of one branch of `aggregated`.
    pub bottleneck: usize,
    /// κ: branches of `aggregated`.
    pub cardinality: usize,
    /// σ.
    pub activation: Activation,
    /// Which skip connection reaches around the body.
    pub skip: Skip,
    /// `freeze: body` keeps u at its start.
    #[serde(serialize_with = "freeze_name")]
    pub freeze: bool,
    /// Image shape `[height, width, channels]` of one row of inputs (`conv`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<[usize; 3]>,
}

fn freeze_name<S: Serializer>(freeze: &bool, s: S) -> Result<S::Ok, S::Error> {
    if *freeze {
        s.serialize_some("body")
    } else {
        s.serialize_none()
    }
}

/// The feature map φ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Features {
    /// φ(x) = x.
    Linear,
    /// All monomials of degree 1..=k, graded lexicographic.
    Polynomial {
        /// k ≥ 1.
        degree: usize,
    },
    /// √(2/count)·cos(ωᵀx + b), ω ~ N(0, scale²), b uniform on [0, 2π)
    /// (Rahimi & Recht 2007).
    Fourier {
        /// How many.
        count: usize,
        /// Standard deviation of ω's entries.
        scale: f64,
        /// Key of the draws; not the run's seed, so that all runs share φ.
        seed: u64,
    },
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fourier {
            count: usize,
            scale: f64,
            seed: u64,
        }
        match *self {
            Self::Linear => s.serialize_str("linear"),
            Self::Polynomial { degree } => entry(s, "polynomial", &degree),
            Self::Fourier { count, scale, seed } => {
                entry(s, "fourier", &Fourier { count, scale, seed })
            }
        }
    }
}

/// The family of the representation z(x; u).
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// h_l = σ(A_l h_{l−1} + b_l).
    Mlp,
    /// h₁ = σ(A₁x + b₁), h_l = h_{l−1} + σ(A_l h_{l−1} + b_l).
    Residual,
    /// Pre-activation blocks (He et al. 2016).
    Preact,
    /// Three-layer blocks (He et al. 2016).
    Bottleneck,
    /// Bottleneck blocks with κ branches (Xie et al. 2017).
    Aggregated,
    /// Two-dimensional convolutional residual blocks.
    Conv,
    /// z row by row from a file, no parameters.
    Table(FileRef),
}

impl Body {
    /// The name used in grids, results and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::Residual => "residual",
            Self::Preact => "preact",
            Self::Bottleneck => "bottleneck",
            Self::Aggregated => "aggregated",
            Self::Conv => "conv",
            Self::Table(_) => "table",
        }
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Table(file) => entry(s, "table", file),
            other => s.serialize_str(other.name()),
        }
    }
}

/// A file named by a grid: the path its author wrote and the content it had.
///
/// Workers fetch the content by hash; nobody but the program that read the
/// grid ever opens the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRef {
    /// As written in the grid.
    pub path: String,
    /// SHA-256 of the file's bytes, lower-case hexadecimal; empty until read.
    pub sha256: String,
}

/// Which skip connection reaches around the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Skip {
    /// The theorem's network.
    Outer,
    /// f = W z + c, the plain feed-forward control.
    None,
    /// x_l = x_{l−1} + V_l σ(A_l x_{l−1} + b_l) (Yun, Sra, Jadbabaie 2019).
    Chain,
}

/// σ, applied entry by entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// t
    Identity,
    /// max(t, 0)
    Relu,
    /// t for t > 0, else slope·t
    LeakyRelu {
        /// Slope left of 0.
        slope: f64,
    },
    /// t for t > 0, else e^t − 1
    Elu,
    /// λ·t for t > 0, else λα(e^t − 1) (Klambauer et al. 2017)
    Selu,
    /// log(1 + e^t)
    Softplus,
    /// tanh t
    Tanh,
    /// 1/(1 + e^{−t})
    Sigmoid,
    /// arctan t
    Atan,
    /// t/(1 + |t|)
    Softsign,
    /// t·Φ(t), Φ the normal distribution function (erf form)
    Gelu,
    /// ½t(1 + tanh(√(2/π)(t + 0.044715 t³)))
    GeluTanh,
    /// t·sigmoid(t)
    Silu,
    /// t·tanh(softplus(t))
    Mish,
    /// sin t
    Sin,
    /// e^{−t²}
    Gaussian,
    /// t²
    Quadratic,
    /// t³
    Cubic,
    /// |t|
    Abs,
    /// min(max(t, 0), 6)
    Relu6,
    /// min(max(t, −1), 1)
    HardTanh,
    /// max(t, 0)²
    SquaredRelu,
    /// Any formula in t.
    Formula(Formula),
}

impl Activation {
    /// Every activation that has a plain name, in the contract's order.
    pub const NAMED: [(&'static str, Self); 22] = [
        ("identity", Self::Identity),
        ("relu", Self::Relu),
        ("leaky_relu", Self::LeakyRelu { slope: 0.01 }),
        ("elu", Self::Elu),
        ("selu", Self::Selu),
        ("softplus", Self::Softplus),
        ("tanh", Self::Tanh),
        ("sigmoid", Self::Sigmoid),
        ("atan", Self::Atan),
        ("softsign", Self::Softsign),
        ("gelu", Self::Gelu),
        ("gelu_tanh", Self::GeluTanh),
        ("silu", Self::Silu),
        ("mish", Self::Mish),
        ("sin", Self::Sin),
        ("gaussian", Self::Gaussian),
        ("quadratic", Self::Quadratic),
        ("cubic", Self::Cubic),
        ("abs", Self::Abs),
        ("relu6", Self::Relu6),
        ("hard_tanh", Self::HardTanh),
        ("squared_relu", Self::SquaredRelu),
    ];

    /// The name used in grids, results and messages (`formula` for formulas).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Elu => "elu",
            Self::Selu => "selu",
            Self::Softplus => "softplus",
            Self::Tanh => "tanh",
            Self::Sigmoid => "sigmoid",
            Self::Atan => "atan",
            Self::Softsign => "softsign",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::Silu => "silu",
            Self::Mish => "mish",
            Self::Sin => "sin",
            Self::Gaussian => "gaussian",
            Self::Quadratic => "quadratic",
            Self::Cubic => "cubic",
            Self::Abs => "abs",
            Self::Relu6 => "relu6",
            Self::HardTanh => "hard_tanh",
            Self::SquaredRelu => "squared_relu",
            Self::Formula(_) => "formula",
        }
    }
}

impl Serialize for Activation {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::LeakyRelu { slope } if *slope != 0.01 => entry(s, "leaky_relu", slope),
            Self::Formula(formula) => entry(s, "formula", &formula.source()),
            named => s.serialize_str(named.name()),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeakyRelu { slope } if *slope != 0.01 => write!(f, "leaky_relu({slope})"),
            Self::Formula(formula) => f.write_str(formula.source()),
            named => f.write_str(named.name()),
        }
    }
}

/// The loss of one row; the objective averages it over all rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// ½‖f − y‖²
    Squared,
    /// −Σ y_k log softmax(f)_k
    CrossEntropy,
    /// Σ_k log(1 + e^{f_k}) − y_k f_k
    Logistic,
    /// Per output: ½e² for |e| ≤ δ, else δ(|e| − δ/2); summed.
    Huber {
        /// δ > 0.
        delta: f64,
    },
    /// Per output log cosh(f − y); summed.
    LogCosh,
    /// Per output max(0, 1 − y f)², y = ±1; summed.
    SquaredHinge,
    /// Per output e^f − y f; summed.
    Poisson,
}

impl Loss {
    /// The name used in grids, results and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Squared => "squared",
            Self::CrossEntropy => "cross_entropy",
            Self::Logistic => "logistic",
            Self::Huber { .. } => "huber",
            Self::LogCosh => "log_cosh",
            Self::SquaredHinge => "squared_hinge",
            Self::Poisson => "poisson",
        }
    }
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Huber { delta } => entry(s, "huber", delta),
            named => s.serialize_str(named.name()),
        }
    }
}

/// Strengths of the penalties, CONTRACT §1 "Objective".
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Regularizer {
    /// r in (r/2)(‖W‖² + ‖W V‖²); keeps the theorem.
    pub predictor_ridge: f64,
    /// λ in (λ/2)‖u‖²; keeps the theorem.
    pub body_decay: f64,
    /// h in (h/2)(‖W‖² + ‖V‖²); breaks the theorem: a control.
    pub head_decay: f64,
}

impl Default for Regularizer {
    fn default() -> Self {
        Self {
            predictor_ridge: 1e-3,
            body_decay: 1e-3,
            head_decay: 0.0,
        }
    }
}

/// First phase of the training; the polish to a certificate follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// The pipeline of `docs/optimisers.md`: head coordinates, long L-BFGS, cubic Newton.
    Auto,
    /// L-BFGS in θ.
    Lbfgs,
    /// Damped Newton in θ.
    Newton,
    /// Levenberg–Marquardt (generalised Gauss–Newton) in θ.
    LevenbergMarquardt,
    /// Adam in θ, full batch.
    Adam,
    /// Stochastic gradient descent in θ, one sample batch a step.
    Sgd,
    /// Gradient descent in θ, full batch.
    Gd,
}

impl Optimizer {
    /// All, with their names, in the contract's order.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("auto", Self::Auto),
        ("lbfgs", Self::Lbfgs),
        ("newton", Self::Newton),
        ("levenberg_marquardt", Self::LevenbergMarquardt),
        ("adam", Self::Adam),
        ("sgd", Self::Sgd),
        ("gd", Self::Gd),
    ];
}

/// When a run gives up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Work in evaluations: one objective-and-gradient is 1, a
    /// Hessian-vector product 2, a dense Hessian 2p. Deterministic.
    pub evaluations: u64,
    /// Seconds of the run's own time; makes the sweep non-reproducible.
    pub seconds: Option<f64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            evaluations: 200_000,
            seconds: None,
        }
    }
}

/// What a certificate must reach, THEORY §2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerances {
    /// ‖∇‖∞ ≤ gradient · max(1, |objective|).
    pub gradient: f64,
    /// λ_min ≥ −curvature · max(1, λ_max).
    pub curvature: f64,
    /// Smallest distance of an inactive pre-activation from a kink.
    pub kink_margin: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self {
            gradient: 1e-9,
            curvature: 1e-8,
            kink_margin: 1e-6,
        }
    }
}

/// How the first θ is drawn or given, CONTRACT §2.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// A draw from a family.
    Drawn {
        /// Which family.
        kind: StartKind,
        /// Multiplies the family's own size; 1 by default.
        scale: f64,
    },
    /// A given θ, from a point file.
    Point(FileRef),
}

impl Start {
    /// `standard` at scale 1.
    pub const STANDARD: Self = Self::Drawn {
        kind: StartKind::Standard,
        scale: 1.0,
    };

    /// Whether two different seeds give two different starts.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Drawn { .. })
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Scale {
            scale: f64,
        }
        match self {
            Self::Drawn { kind, scale } if *scale == 1.0 => s.serialize_str(kind.name()),
            Self::Drawn { kind, scale } => entry(s, kind.name(), &Scale { scale: *scale }),
            Self::Point(file) => entry(s, "point", file),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawn { kind, scale } if *scale == 1.0 => f.write_str(kind.name()),
            Self::Drawn { kind, scale } => write!(f, "{}(scale {scale})", kind.name()),
            Self::Point(file) => write!(f, "point({})", file.path),
        }
    }
}

/// The families of starts; `docs/starts.md` gives purpose and source of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "the names are the contract's; docs/starts.md describes them"
)]
pub enum StartKind {
    Standard,
    Small,
    Large,
    Saturated,
    Dead,
    ZeroResidual,
    RankDeficient,
    Duplicated,
    Subnetwork,
    SignFlipped,
    Ascent,
}

impl StartKind {
    /// All, in the contract's order.
    pub const ALL: [Self; 11] = [
        Self::Standard,
        Self::Small,
        Self::Large,
        Self::Saturated,
        Self::Dead,
        Self::ZeroResidual,
        Self::RankDeficient,
        Self::Duplicated,
        Self::Subnetwork,
        Self::SignFlipped,
        Self::Ascent,
    ];

    /// The name used in grids, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Small => "small",
            Self::Large => "large",
            Self::Saturated => "saturated",
            Self::Dead => "dead",
            Self::ZeroResidual => "zero_residual",
            Self::RankDeficient => "rank_deficient",
            Self::Duplicated => "duplicated",
            Self::Subnetwork => "subnetwork",
            Self::SignFlipped => "sign_flipped",
            Self::Ascent => "ascent",
        }
    }
}

/// Where inputs and targets come from.
#[derive(Clone, Debug, PartialEq)]
pub enum DataSpec {
    /// A data set shipped with the program.
    Named(String),
    /// A file of the user's.
    File(FileData),
    /// Drawn by the program.
    Generate(Generator),
}

impl Serialize for DataSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => s.serialize_str(name),
            Self::File(file) => file.serialize(s),
            Self::Generate(generator) => generator.serialize(s),
        }
    }
}

/// A data file and how to read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileData {
    /// Path and content hash.
    #[serde(flatten)]
    pub file: NamedFile,
    /// Target columns, by name or position; the last column by default.
    pub targets: Vec<Column>,
    /// Input columns; all columns that are neither target nor mask by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<Column>>,
    /// 0/1 columns, one per target: which targets are observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Vec<Column>>,
    /// `Some(true)`: the target column holds classes; `None`: decided by the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<bool>,
    /// A second file that holds the targets (IDX, NPY).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_file: Option<FileRef>,
}

/// A [`FileRef`] whose path is written under the key `file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedFile {
    /// As written in the grid.
    pub file: String,
    /// SHA-256 of the file's bytes, lower-case hexadecimal; empty until read.
    pub sha256: String,
}

/// One column of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// By header name (or array name of an NPZ).
    Name(String),
    /// By position, from 0.
    Index(usize),
}

/// A drawn data set, CONTRACT §2 "Generators".
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generator {
    /// Which family.
    pub generate: GeneratorKind,
    /// n.
    pub rows: usize,
    /// d_in.
    pub inputs: usize,
    /// Columns of the regression target, or classes.
    pub outputs: usize,
    /// Standard deviation of the noise added to the targets.
    pub noise: f64,
    /// Key of the draws.
    pub seed: u64,
    /// The network that labels the inputs (`teacher`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teacher>,
    /// Degree (`polynomial`) or folds (`sawtooth`), frequency or turns for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<f64>,
}

/// The families of generated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/data.md gives formula and source of each")]
pub enum GeneratorKind {
    Teacher,
    Linear,
    Polynomial,
    Sawtooth,
    RidgeFunction,
    Spirals,
    RandomLabels,
}

/// The network of `generate: teacher`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Teacher {
    /// Any body but `table`.
    pub body: Body,
    /// H.
    pub depth: usize,
    /// m.
    pub width: usize,
    /// b, for the bodies that have it.
    pub bottleneck: usize,
    /// κ, for `aggregated`.
    pub cardinality: usize,
    /// σ.
    pub activation: Activation,
}

fn entry<S: Serializer, T: Serialize + ?Sized>(
    s: S,
    key: &'static str,
    value: &T,
) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}
