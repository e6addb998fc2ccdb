//! Gradient descent and Adam, full batch.

use common::math::slice::max_abs;
use serde::{Deserialize, Serialize};

use super::{Ask, Optimizer, Stop};

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// x ← x − η g.
    GradientDescent {
        /// η.
        rate: f64,
    },
    /// Adam (Kingma & Ba 2015).
    Adam {
        /// α.
        rate: f64,
        /// β₁.
        beta1: f64,
        /// β₂.
        beta2: f64,
        /// ε.
        epsilon: f64,
    },
}

impl Rule {
    /// Adam's own defaults.
    pub const ADAM: Self = Self::Adam {
        rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };
}

/// State.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstOrder {
    rule: Rule,
    tolerance: f64,
    limit: u64,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    powers: (f64, f64),
    iterations: u64,
    stop: Option<Stop>,
}

impl FirstOrder {
    /// Starts at `x`; stops at ‖∇‖∞ ≤ `tolerance` or after `limit` steps.
    pub fn new(x: Vec<f64>, rule: Rule, tolerance: f64, limit: u64) -> Self {
        let zeros = vec![0.0; x.len()];
        Self {
            rule,
            tolerance,
            limit,
            g: zeros.clone(),
            first: zeros.clone(),
            second: zeros,
            powers: (1.0, 1.0),
            f: f64::NAN,
            iterations: 0,
            stop: None,
            x,
        }
    }

    /// Why it stopped, if it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn step(&mut self) {
        match self.rule {
            Rule::GradientDescent { rate } => {
                for (x, g) in self.x.iter_mut().zip(&self.g) {
                    *x -= rate * g;
                }
            }
            Rule::Adam {
                rate,
                beta1,
                beta2,
                epsilon,
            } => {
                self.powers = (self.powers.0 * beta1, self.powers.1 * beta2);
                let (c1, c2) = (1.0 - self.powers.0, 1.0 - self.powers.1);
                for i in 0..self.x.len() {
                    let g = self.g[i];
                    self.first[i] = beta1 * self.first[i] + (1.0 - beta1) * g;
                    self.second[i] = beta2 * self.second[i] + (1.0 - beta2) * (g * g);
                    let m = self.first[i] / c1;
                    let v = self.second[i] / c2;
                    self.x[i] -= rate * (m / (v.sqrt() + epsilon));
                }
            }
        }
        self.iterations += 1;
    }
}

impl Optimizer for FirstOrder {
    fn ask(&self) -> Ask<'_> {
        self.stop.map_or(Ask::Gradient(&self.x), Ask::Nothing)
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        self.f = value;
        self.g.copy_from_slice(gradient);
        let largest = max_abs(gradient);
        if !value.is_finite() || largest.is_nan() {
            self.stop = Some(Stop::NonFinite);
        } else if largest <= self.tolerance {
            self.stop = Some(Stop::Converged);
        } else if self.iterations >= self.limit {
            self.stop = Some(Stop::IterationLimit);
        } else {
            self.step();
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
