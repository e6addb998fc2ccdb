//! The objective and how it is minimised: loss, penalties, optimiser, budget.

use serde::Serialize;
use serde::ser::Serializer;

use super::entry;

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
    /// Every loss with its name and, where it has one, its default parameter.
    pub const NAMED: [(&'static str, Self); 7] = [
        ("squared", Self::Squared),
        ("cross_entropy", Self::CrossEntropy),
        ("logistic", Self::Logistic),
        ("huber", Self::Huber { delta: 1.0 }),
        ("log_cosh", Self::LogCosh),
        ("squared_hinge", Self::SquaredHinge),
        ("poisson", Self::Poisson),
    ];

    /// Whether the loss is a sum over outputs, so that it can leave out the
    /// unobserved ones (masks).
    pub fn is_per_output(self) -> bool {
        self != Self::CrossEntropy
    }

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
    /// The pipeline of `docs/engine.md`: head coordinates, long L-BFGS, cubic Newton.
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

    /// The name used in grids, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lbfgs => "lbfgs",
            Self::Newton => "newton",
            Self::LevenbergMarquardt => "levenberg_marquardt",
            Self::Adam => "adam",
            Self::Sgd => "sgd",
            Self::Gd => "gd",
        }
    }
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
