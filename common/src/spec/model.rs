//! The network: features, body, activation, skip.

use std::fmt;

use serde::Serialize;
use serde::ser::Serializer;

use super::{FileRef, entry};
use crate::formula::Formula;

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
    /// b: inner width of `bottleneck` and of one branch of `aggregated`; 0
    /// where none was given.
    #[serde(skip_serializing_if = "is_zero")]
    pub bottleneck: usize,
    /// κ: branches of `aggregated`; 0 where none was given.
    #[serde(skip_serializing_if = "is_zero")]
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

fn is_zero(size: &usize) -> bool {
    *size == 0
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Every body that has a plain name, in the contract's order.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("mlp", Self::Mlp),
        ("residual", Self::Residual),
        ("preact", Self::Preact),
        ("bottleneck", Self::Bottleneck),
        ("aggregated", Self::Aggregated),
        ("conv", Self::Conv),
    ];

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

impl Skip {
    /// All, with their names, in the contract's order.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("outer", Self::Outer),
        ("none", Self::None),
        ("chain", Self::Chain),
    ];

    /// The name used in grids, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::None => "none",
            Self::Chain => "chain",
        }
    }
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
