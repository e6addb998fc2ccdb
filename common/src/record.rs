//! What a run leaves behind: its verdict, its certificate, its numbers.
//!
//! [`RunEvidence`] is the deterministic part: the same task gives the same
//! bits on any machine of one numeric level, so two recordings of one task
//! can be compared with `==` on their encoded form. Everything that may
//! differ between two honest executions (duration, host, attempt) lives in
//! [`Telemetry`] and never enters a summary.
//!
//! Excess over the baseline, `violation` and `at_baseline` are *not* here:
//! they are settled in one place, the fold of [`crate::summary`].

use serde::Serialize;

/// How a run ended, THEORY §2. `Violation` is not among them: a run certifies
/// a minimum, and the fold decides whether that minimum lies above its
/// baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Passed the second-order certificate (and every escape test).
    CertifiedMinimum,
    /// Stationary, with negative curvature that the budget did not escape.
    Saddle,
    /// On kinks, and the kink certificate did not pass within the budget.
    Kink,
    /// ‖θ‖ grows while the objective still falls: no minimum is attained.
    Diverging,
    /// The budget ended first.
    BudgetExhausted,
    /// The objective left the finite numbers and no step brought it back.
    NonFinite,
}

impl Outcome {
    /// All, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::CertifiedMinimum,
        Self::Saddle,
        Self::Kink,
        Self::Diverging,
        Self::BudgetExhausted,
        Self::NonFinite,
    ];
}

/// How the smallest eigenvalue was bounded, THEORY §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EigenvalueMethod {
    /// All eigenvalues of the full Hessian.
    Dense,
    /// A completed Cholesky factorisation of H − cI proves λ_min ≥ c.
    Cholesky,
    /// Lanczos from a seeded start: holds but for a stated probability.
    Lanczos,
}

/// The deterministic result of one run.
///
/// Units: `objective`, `value`, `gap_bound` and `induced_value` are mean
/// losses plus penalties as CONTRACT §1 defines them; `value` is the objective
/// without the body's decay and is what stands beside the baseline. Norms are
/// Frobenius unless said otherwise. Quantities that do not apply are `None`;
/// quantities that overflowed are kept as they are (NaN, ±∞).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunEvidence {
    /// How the run ended.
    pub outcome: Outcome,
    /// Objective at the end point.
    pub objective: f64,
    /// Objective without the body's decay.
    pub value: f64,
    /// ‖∇‖∞ in θ.
    pub gradient_norm: f64,
    /// Smallest eigenvalue of the Hessian in θ, or the bound proved for it.
    pub min_eigenvalue: Option<f64>,
    /// Largest eigenvalue of the Hessian in θ.
    pub max_eigenvalue: Option<f64>,
    /// How `min_eigenvalue` was obtained.
    pub eigenvalue_method: Option<EigenvalueMethod>,
    /// Probability that the Lanczos bound missed a lower eigenvalue.
    pub eigenvalue_failure_probability: Option<f64>,
    /// ‖A‖, THEORY §1.
    pub norm_a: Option<f64>,
    /// ‖B‖, THEORY §1.
    pub norm_b: Option<f64>,
    /// Upper bound on value − baseline, THEORY §1 item 1.
    pub gap_bound: Option<f64>,
    /// Minimum of the induced model at the end point's representation.
    pub induced_value: Option<f64>,
    /// Smallest singular value of W that is not zero by construction.
    pub sigma_min_w: Option<f64>,
    /// ‖θ‖.
    pub norm_theta: f64,
    /// ‖u‖, the body's parameters.
    pub norm_u: f64,
    /// ‖W‖.
    pub norm_w: f64,
    /// ‖W V‖.
    pub norm_wv: Option<f64>,
    /// Norm of the damped Newton step (H + 1e-8·max(1, λ_max) I)^{−1}∇.
    pub newton_step: Option<f64>,
    /// Kinks the end point sits on.
    pub kinks: u32,
    /// Distance of the nearest pre-activation to a kink it does not sit on.
    pub kink_margin: Option<f64>,
    /// Smallest c_k − |y_k| over the active kinks (`KINKS.md` certificate).
    pub kink_slack: Option<f64>,
    /// Kinks whose multipliers needed the cluster test.
    pub kink_cluster: u32,
    /// Candidates that the closed-form or the escape test turned down.
    pub refuted: u32,
    /// Largest value − baseline among those candidates.
    pub refuted_excess: Option<f64>,
    /// Work, in evaluations (see `Budget`).
    pub evaluations: u64,
    /// Objective-and-gradient evaluations among them.
    pub gradients: u64,
    /// Hessian-vector products among them.
    pub products: u64,
    /// Dense Hessians among them.
    pub hessians: u64,
    /// Number of parameters.
    pub parameters: u64,
    /// Objective over the run, at most 64 points.
    pub curve: Vec<CurvePoint>,
}

impl RunEvidence {
    /// Evidence of nothing but an outcome: numbers 0, optional quantities `None`.
    pub fn empty(outcome: Outcome) -> Self {
        Self {
            outcome,
            objective: 0.0,
            value: 0.0,
            gradient_norm: 0.0,
            min_eigenvalue: None,
            max_eigenvalue: None,
            eigenvalue_method: None,
            eigenvalue_failure_probability: None,
            norm_a: None,
            norm_b: None,
            gap_bound: None,
            induced_value: None,
            sigma_min_w: None,
            norm_theta: 0.0,
            norm_u: 0.0,
            norm_w: 0.0,
            norm_wv: None,
            newton_step: None,
            kinks: 0,
            kink_margin: None,
            kink_slack: None,
            kink_cluster: 0,
            refuted: 0,
            refuted_excess: None,
            evaluations: 0,
            gradients: 0,
            products: 0,
            hessians: 0,
            parameters: 0,
            curve: Vec::new(),
        }
    }
}

/// One point of a thinned loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Work so far, in evaluations.
    pub evaluations: u64,
    /// Objective, single precision: a picture, not a number to compute with.
    pub objective: f32,
    /// ‖∇‖∞, single precision.
    pub gradient_norm: f32,
}

/// Whether the baseline's infimum is a minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attainment {
    /// Some R attains the value.
    Attained,
    /// No R does: separable or quasi-separable classes in some output.
    InfimumNotAttained,
}

/// The solved classical model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BaselineEvidence {
    /// min (or inf) over R of mean loss(Rφ) + ((r + head_decay)/2)‖R‖².
    pub value: f64,
    /// A dual lower bound on that infimum.
    pub lower_bound: f64,
    /// Whether the infimum is attained.
    pub status: Attainment,
    /// ‖∇‖∞ at the returned R.
    pub gradient_norm: f64,
    /// R, row-major `[d_y, d_φ]`: the minimiser, or a point near the infimum.
    pub minimizer: Vec<f64>,
    /// d_y.
    pub outputs: usize,
    /// d_φ.
    pub features: usize,
    /// n.
    pub rows: usize,
}

/// What any kind of task leaves behind.
#[derive(Clone, Debug, PartialEq)]
pub enum Evidence {
    /// Of a run.
    Run(Box<RunEvidence>),
    /// Of a baseline.
    Baseline(Box<BaselineEvidence>),
    /// Of a task of the control plane's own benchmark.
    Noop {
        /// The task's own seed.
        seed: u64,
    },
}

/// What may differ between two honest executions of one task. Host and
/// program version are known from the worker's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Telemetry {
    /// Wall-clock seconds of computing.
    pub seconds: f64,
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// Peak resident memory of the slot so far, bytes.
    pub peak_memory: u64,
}
