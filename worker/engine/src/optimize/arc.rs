//! Newton's method with adaptive cubic regularisation (ARC) on dense Hessians.
//!
//! The step minimises the cubic model m(p) = gᵀp + ½ pᵀHp + (σ/3)‖p‖³
//! *globally* (Cartis, Gould & Toint, *Adaptive cubic regularisation methods*,
//! Math. Program. 127 (2011), §6.1): H = QTQᵀ is reduced to tridiagonal form
//! once, and (T + μI) p = −g with μ = σ‖p‖ ≥ max(0, −λ₁) is solved there in O(n)
//! a trial, the hard case by adding the lowest eigenvector. So the method leaves
//! saddles by itself, and a rejected step costs no new factorisation.
//!
//! Near the end f has no digits left to judge a step by: when the predicted
//! decrease is below 1000 e, e = 20 ε max(|f|, 1e-8), a step is accepted if it
//! reduces ‖∇‖ (or follows negative curvature without raising f).

use common::math::slice::{dot, max_abs, norm_squared};
use serde::{Deserialize, Serialize};

use super::{Ask, Optimizer, Stop};
use crate::linalg::Tridiagonal;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Stop at ‖∇‖∞ ≤ this once λ_min ≥ −`curvature`·max(1, λ_max).
    pub gradient: f64,
    /// Relative size of negative curvature that counts as none.
    pub curvature: f64,
    /// Hessians.
    pub iterations: u64,
    /// Stop with [`Stop::Diverging`] when ‖x‖∞ exceeds this.
    pub bound: f64,
}

/// Rejected steps in a row before giving up.
const REJECTIONS: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Start,
    Hessian,
    Trial,
}

/// The reduced Hessian at the current point.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Model {
    t: Tridiagonal,
    /// Qᵀ g.
    g: Vec<f64>,
    smallest: f64,
    largest: f64,
}

/// State.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arc {
    settings: Settings,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    trial: Vec<f64>,
    sigma: f64,
    model: Option<Model>,
    pending: Pending,
    /// Predicted decrease of the pending trial.
    predicted: f64,
    along_negative: bool,
    rejected: u32,
    iterations: u64,
    stop: Option<Stop>,
}

impl Arc {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>, settings: Settings) -> Self {
        Self {
            trial: x.clone(),
            g: vec![0.0; x.len()],
            f: f64::NAN,
            sigma: 1.0,
            model: None,
            pending: Pending::Start,
            predicted: 0.0,
            along_negative: false,
            rejected: 0,
            iterations: 0,
            stop: None,
            x,
            settings,
        }
    }

    /// Why it stopped, if it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Smallest and largest eigenvalue at the point, once known.
    pub fn extreme_eigenvalues(&self) -> Option<(f64, f64)> {
        self.model.as_ref().map(|m| (m.smallest, m.largest))
    }

    fn tolerance(&self) -> f64 {
        20.0 * f64::EPSILON * self.f.abs().max(1e-8)
    }

    fn next_trial(&mut self) {
        let model = self
            .model
            .as_ref()
            .expect("a model exists when a step is wanted");
        let step = cubic_step(model, self.sigma);
        self.predicted = step.predicted;
        self.along_negative = step.along_negative;
        let mut p = step.p;
        model.t.apply(&mut p);
        for ((t, x), p) in self.trial.iter_mut().zip(&self.x).zip(&p) {
            *t = x + p;
        }
        self.pending = Pending::Trial;
    }
}

/// A global minimiser of the cubic model, in T's coordinates.
struct CubicStep {
    p: Vec<f64>,
    predicted: f64,
    along_negative: bool,
}

fn cubic_step(model: &Model, sigma: f64) -> CubicStep {
    let t = &model.t;
    let n = t.order();
    let scale = model
        .largest
        .abs()
        .max(model.smallest.abs())
        .max(f64::MIN_POSITIVE);
    let floor = (-model.smallest).max(0.0);
    let solve = |mu: f64| -> Option<(Vec<f64>, f64, f64)> {
        let factor = t.shifted(mu)?;
        let mut p: Vec<f64> = model.g.iter().map(|g| -g).collect();
        factor.solve(&mut p);
        let norm = norm_squared(&p).sqrt();
        let inverse = factor.inverse_norm_squared(&p);
        Some((p, norm, inverse))
    };
    // Bracket μ with ‖p(μ)‖ − μ/σ changing sign; it falls monotonically beyond the floor.
    let g_norm = norm_squared(&model.g).sqrt();
    let tiny = 1e-14 * scale;
    let mut low = floor;
    let mut high = (floor + tiny).max(floor + (sigma * g_norm).sqrt());
    for _ in 0..200 {
        match solve(high) {
            Some((_, norm, _)) if norm <= high / sigma => break,
            _ => {
                low = high;
                high = 2.0 * high + tiny;
            }
        }
    }
    let mut mu = high;
    let mut best: Option<Vec<f64>> = None;
    let mut short_at_floor = true;
    for _ in 0..100 {
        match solve(mu) {
            None => low = low.max(mu),
            Some((p, norm, inverse)) => {
                let target = mu / sigma;
                let long = norm > target;
                if long {
                    low = low.max(mu);
                    short_at_floor = false;
                } else {
                    high = high.min(mu);
                }
                let done = (norm - target).abs() <= 1e-10 * target.max(norm);
                best = Some(p);
                if done {
                    short_at_floor = false;
                    break;
                }
                // Newton on 1/‖p‖ − σ/μ (Cartis et al., eq. 6.6).
                let phi = 1.0 / norm - sigma / mu;
                let slope = inverse / (norm * norm * norm) + sigma / (mu * mu);
                let newton = mu - phi / slope;
                mu = if newton > low && newton < high {
                    newton
                } else {
                    0.5 * (low + high)
                };
                if high - low <= 1e-15 * high || mu <= floor + tiny * 1e-2 {
                    break;
                }
                continue;
            }
        }
        mu = 0.5 * (low + high);
        if high - low <= 1e-15 * high {
            break;
        }
    }
    let mut p = best.unwrap_or_else(|| vec![0.0; n]);
    let mut along_negative = false;
    // Hard case: at the floor the step is still too short; go along the lowest eigenvector.
    if model.smallest < 0.0 {
        let norm = norm_squared(&p).sqrt();
        let target = floor / sigma;
        if short_at_floor && norm < target {
            let v = t.inverse_iteration(model.smallest);
            let (pv, pp) = (dot(&p, &v), norm * norm);
            let root = pv.mul_add(pv, target * target - pp).max(0.0).sqrt();
            // Both signs reach the length; take the one that descends.
            let tau = if dot(&model.g, &v) > 0.0 {
                -pv - root
            } else {
                -pv + root
            };
            common::math::slice::axpy(tau, &v, &mut p);
        }
        along_negative = true;
    }
    let mut hp = vec![0.0; n];
    for i in 0..n {
        let mut v = t.diagonal[i] * p[i];
        if i > 0 {
            v = t.off[i - 1].mul_add(p[i - 1], v);
        }
        if i + 1 < n {
            v = t.off[i].mul_add(p[i + 1], v);
        }
        hp[i] = v;
    }
    let curvature = dot(&p, &hp);
    let norm = norm_squared(&p).sqrt();
    let predicted = -(dot(&model.g, &p) + 0.5 * curvature + sigma / 3.0 * norm * norm * norm);
    CubicStep {
        p,
        predicted,
        along_negative: along_negative && curvature < 0.0,
    }
}

impl Optimizer for Arc {
    fn ask(&self) -> Ask<'_> {
        match (self.stop, self.pending) {
            (Some(stop), _) => Ask::Nothing(stop),
            (None, Pending::Hessian) => Ask::Hessian,
            (None, _) => Ask::Linearize(&self.trial),
        }
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        if self.pending == Pending::Start {
            self.f = value;
            self.g.copy_from_slice(gradient);
            if !value.is_finite() || max_abs(gradient).is_nan() {
                self.stop = Some(Stop::NonFinite);
            }
            self.pending = Pending::Hessian;
            return;
        }
        let e = self.tolerance();
        let norm = |g: &[f64]| norm_squared(g).sqrt();
        let finite = value.is_finite() && !max_abs(gradient).is_nan();
        let accept = if !finite {
            self.sigma *= 16.0;
            false
        } else if self.predicted < 1000.0 * e {
            let better = norm(gradient) < 0.9999 * norm(&self.g);
            let escapes = self.along_negative && value <= self.f;
            if !(better || escapes) {
                self.sigma *= 4.0;
            }
            better || escapes
        } else {
            let rho = (self.f - value + e) / (self.predicted + e);
            if rho < 0.1 || rho.is_nan() {
                self.sigma *= 4.0;
            } else if rho > 0.75 {
                self.sigma = (self.sigma / 4.0).max(1e-14);
            }
            rho > 1e-4
        };
        if accept {
            self.x.copy_from_slice(&self.trial);
            self.f = value;
            self.g.copy_from_slice(gradient);
            self.rejected = 0;
            self.iterations += 1;
            self.pending = Pending::Hessian;
            if max_abs(&self.x) > self.settings.bound {
                self.stop = Some(Stop::Diverging);
            } else if self.iterations >= self.settings.iterations {
                self.stop = Some(Stop::IterationLimit);
            }
        } else {
            self.rejected += 1;
            if self.rejected >= REJECTIONS {
                self.stop = Some(Stop::Stalled);
            } else {
                self.next_trial();
            }
        }
    }

    fn tell_hessian(&mut self, hessian: Vec<f64>) {
        let n = self.x.len();
        let t = Tridiagonal::reduce(hessian, n);
        let (smallest, largest) = t.extreme_eigenvalues();
        let mut g = self.g.clone();
        t.apply_transpose(&mut g);
        self.model = Some(Model {
            t,
            g,
            smallest,
            largest,
        });
        if !(smallest.is_finite() && largest.is_finite()) {
            self.stop = Some(Stop::Stalled);
            return;
        }
        let flat = smallest >= -self.settings.curvature * largest.max(1.0);
        if max_abs(&self.g) <= self.settings.gradient && flat {
            self.stop = Some(Stop::Converged);
        } else {
            self.next_trial();
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
