//! Levenberg–Marquardt on the generalised Gauss–Newton matrix.
//!
//! Steps solve (G + μI) s = −g with G = Jᵀ ℓ″ J, the damping of Levenberg (1944), the
//! same for all variables: with Marquardt's, in proportion to G_ii, variables that
//! hardly matter run away. It follows Nielsen's rule (1999): after a success
//! μ ← μ·max(1/3, 1 − (2ρ − 1)³), after a failure μ ← μν, ν ← 2ν.
//!
//! Sums of squares with fewer residuals than variables have a form of their own,
//! [`super::least_squares`].

use common::math::Isa;
use common::math::slice::{dot, max_abs};
use serde::{Deserialize, Serialize};

use super::{Ask, Optimizer, Stop};
use crate::kernels::Aligned;
use crate::linalg::Cholesky;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// ‖∇‖∞ aimed at.
    pub gradient: f64,
    /// Accepted steps.
    pub iterations: u64,
    /// ‖x‖∞ beyond which the run counts as diverging.
    pub bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    First,
    Matrix,
    Trial,
    Over(Stop),
}

/// State.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LevenbergMarquardt {
    settings: Settings,
    phase: Phase,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    matrix: Vec<f64>,
    mu: f64,
    nu: f64,
    step: Vec<f64>,
    /// Decrease that the quadratic model predicts for `step`.
    predicted: f64,
    trial: Vec<f64>,
    iterations: u64,
}

/// First μ, relative to the mean of G's diagonal.
const MU: f64 = 1e-3;
/// Smallest and largest μ, relative to the same.
const RANGE: [f64; 2] = [1e-16, 1e8];

impl LevenbergMarquardt {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>, settings: Settings) -> Self {
        let n = x.len();
        Self {
            settings,
            phase: Phase::First,
            f: f64::NAN,
            g: vec![0.0; n],
            matrix: Vec::new(),
            mu: 0.0,
            nu: 2.0,
            step: vec![0.0; n],
            predicted: 0.0,
            trial: x.clone(),
            x,
            iterations: 0,
        }
    }

    /// Why it stopped, if it has.
    pub fn stop(&self) -> Option<Stop> {
        match self.phase {
            Phase::Over(stop) => Some(stop),
            _ => None,
        }
    }

    /// What follows from a new best point.
    fn arrived(&mut self) {
        self.phase = if max_abs(&self.g) <= self.settings.gradient {
            Phase::Over(Stop::Converged)
        } else if self.iterations >= self.settings.iterations {
            Phase::Over(Stop::IterationLimit)
        } else if max_abs(&self.x) > self.settings.bound {
            Phase::Over(Stop::Diverging)
        } else {
            Phase::Matrix
        };
    }

    /// The step for the current μ; μ grows until it can be had.
    fn propose(&mut self) {
        let n = self.x.len();
        let trace = (0..n).fold(0.0, |sum, i| sum + self.matrix[i * n + i]);
        let scale = (trace / n.max(1) as f64).max(f64::MIN_POSITIVE);
        if self.mu == 0.0 {
            self.mu = MU * scale;
        }
        self.mu = self.mu.max(RANGE[0] * scale);
        while self.mu <= RANGE[1] * scale {
            if let Ok(factor) =
                Cholesky::shifted(Isa::current(), Aligned::default(), &self.matrix, n, self.mu)
            {
                self.step.copy_from_slice(&self.g);
                self.step.iter_mut().for_each(|s| *s = -*s);
                factor.solve(&mut self.step);
                if max_abs(&self.step).is_finite() {
                    let slope = dot(&self.g, &self.step);
                    let curvature: f64 = (0..n).fold(0.0, |sum, i| {
                        let row = dot(&self.matrix[i * n..][..n], &self.step);
                        row.mul_add(self.step[i], sum)
                    });
                    self.predicted = -(slope + 0.5 * curvature);
                    for ((t, x), s) in self.trial.iter_mut().zip(&self.x).zip(&self.step) {
                        *t = x + s;
                    }
                    self.phase = Phase::Trial;
                    return;
                }
            }
            self.refuse();
        }
        self.phase = Phase::Over(Stop::Stalled);
    }

    fn refuse(&mut self) {
        self.mu *= self.nu;
        self.nu *= 2.0;
    }
}

impl Optimizer for LevenbergMarquardt {
    fn ask(&self) -> Ask<'_> {
        match self.phase {
            Phase::First | Phase::Trial => Ask::Gradient(&self.trial),
            Phase::Matrix => Ask::GaussNewton(&self.x),
            Phase::Over(stop) => Ask::Nothing(stop),
        }
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        let finite = value.is_finite() && max_abs(gradient).is_finite();
        if self.phase == Phase::First {
            self.f = value;
            self.g.copy_from_slice(gradient);
            if finite {
                self.arrived();
            } else {
                self.phase = Phase::Over(Stop::NonFinite);
            }
            return;
        }
        let ratio = (self.f - value) / self.predicted;
        if finite && ratio > 1e-4 && value < self.f {
            self.x.copy_from_slice(&self.trial);
            self.f = value;
            self.g.copy_from_slice(gradient);
            self.iterations += 1;
            let t = 2.0 * ratio - 1.0;
            self.mu *= (1.0 - t * t * t).max(1.0 / 3.0);
            self.nu = 2.0;
            self.arrived();
        } else {
            self.refuse();
            self.propose();
        }
    }

    fn tell_hessian(&mut self, matrix: Vec<f64>) {
        if max_abs(&matrix).is_finite() {
            self.matrix = matrix;
            self.propose();
        } else {
            self.phase = Phase::Over(Stop::Stalled);
        }
    }

    fn point(&self) -> &[f64] {
        &self.x
    }

    fn value(&self) -> f64 {
        self.f
    }

    fn gradient(&self) -> &[f64] {
        &self.g
    }

    fn iterations(&self) -> u64 {
        self.iterations
    }
}
