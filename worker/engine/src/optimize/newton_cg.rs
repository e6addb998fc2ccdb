//! Trust-region Newton-CG (Steihaug 1983; Conn, Gould & Toint 2000, §7.5).
//!
//! Matrix-free: each iteration asks for Hessian-vector products until the
//! inner residual is below min(0.1, √‖g‖)·‖g‖, the boundary is met or negative
//! curvature is found, along which the step goes to the boundary. Acceptance
//! as in [`super::arc`], with its rule for the rounding regime.

use common::math::slice::{axpy, dot, max_abs, norm_squared};
use serde::{Deserialize, Serialize};

use super::{Ask, Optimizer, Stop};

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Stop at ‖∇‖∞ ≤ this.
    pub gradient: f64,
    /// Outer iterations.
    pub iterations: u64,
    /// Products in one inner solve.
    pub inner: u64,
    /// Stop with [`Stop::Diverging`] when ‖x‖∞ exceeds this.
    pub bound: f64,
}

const REJECTIONS: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Start,
    /// Linearise at the current point again (a trial was refused).
    Relinearize,
    Product,
    Trial,
}

/// State.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewtonCg {
    settings: Settings,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    trial: Vec<f64>,
    /// The inner solve: step, residual, direction, H·step.
    p: Vec<f64>,
    r: Vec<f64>,
    d: Vec<f64>,
    hp: Vec<f64>,
    inner: u64,
    radius: f64,
    pending: Pending,
    predicted: f64,
    at_boundary: bool,
    negative: bool,
    rejected: u32,
    iterations: u64,
    stop: Option<Stop>,
}

impl NewtonCg {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>, settings: Settings) -> Self {
        let zeros = vec![0.0; x.len()];
        Self {
            trial: x.clone(),
            g: zeros.clone(),
            p: zeros.clone(),
            r: zeros.clone(),
            d: zeros.clone(),
            hp: zeros,
            f: f64::NAN,
            inner: 0,
            radius: 1.0,
            pending: Pending::Start,
            predicted: 0.0,
            at_boundary: false,
            negative: false,
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

    /// Whether the last inner solve met negative curvature.
    pub fn saw_negative_curvature(&self) -> bool {
        self.negative
    }

    fn begin_inner(&mut self) {
        self.p.fill(0.0);
        self.hp.fill(0.0);
        self.r.copy_from_slice(&self.g);
        self.d.copy_from_slice(&self.g);
        self.d.iter_mut().for_each(|v| *v = -*v);
        self.inner = 0;
        self.at_boundary = false;
        self.negative = false;
        self.pending = Pending::Product;
    }

    fn begin_iteration(&mut self) {
        if max_abs(&self.g) <= self.settings.gradient {
            self.stop = Some(Stop::Converged);
        } else if max_abs(&self.x) > self.settings.bound {
            self.stop = Some(Stop::Diverging);
        } else if self.iterations >= self.settings.iterations {
            self.stop = Some(Stop::IterationLimit);
        } else {
            self.begin_inner();
        }
    }

    /// The positive τ with ‖p + τd‖ = radius.
    fn to_boundary(&self) -> f64 {
        let (pp, pd, dd) = (
            norm_squared(&self.p),
            dot(&self.p, &self.d),
            norm_squared(&self.d),
        );
        let c = self.radius.mul_add(self.radius, -pp).max(0.0);
        let root = pd.mul_add(pd, dd * c).max(0.0).sqrt();
        // The stable form of (−pd + root)/dd.
        if pd > 0.0 {
            c / (pd + root)
        } else {
            (root - pd) / dd
        }
    }

    fn try_step(&mut self) {
        self.predicted = -(dot(&self.g, &self.p) + 0.5 * dot(&self.p, &self.hp));
        self.trial.copy_from_slice(&self.x);
        axpy(1.0, &self.p, &mut self.trial);
        self.pending = Pending::Trial;
    }
}

impl Optimizer for NewtonCg {
    fn ask(&self) -> Ask<'_> {
        match (self.stop, self.pending) {
            (Some(stop), _) => Ask::Nothing(stop),
            (None, Pending::Relinearize) => Ask::Linearize(&self.x),
            (None, Pending::Product) => Ask::Product(&self.d),
            (None, _) => Ask::Linearize(&self.trial),
        }
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        match self.pending {
            Pending::Start => {
                self.f = value;
                self.g.copy_from_slice(gradient);
                if !value.is_finite() || max_abs(gradient).is_nan() {
                    self.stop = Some(Stop::NonFinite);
                } else {
                    self.begin_iteration();
                }
                return;
            }
            Pending::Relinearize => {
                self.begin_inner();
                return;
            }
            _ => {}
        }
        let e = 20.0 * f64::EPSILON * self.f.abs().max(1e-8);
        let norm = |g: &[f64]| norm_squared(g).sqrt();
        let step = norm(&self.p);
        let finite = value.is_finite() && !max_abs(gradient).is_nan();
        let accept = if !finite {
            self.radius = 0.1 * step;
            false
        } else if self.predicted < 1000.0 * e {
            let better = norm(gradient) < 0.9999 * norm(&self.g);
            let escapes = self.negative && value <= self.f;
            if !(better || escapes) {
                self.radius = 0.25 * step;
            }
            better || escapes
        } else {
            let rho = (self.f - value + e) / (self.predicted + e);
            if rho < 0.25 || rho.is_nan() {
                self.radius = 0.25 * step;
            } else if rho > 0.75 && self.at_boundary {
                self.radius = (2.0 * self.radius).min(1e10);
            }
            rho > 1e-4
        };
        if accept {
            self.x.copy_from_slice(&self.trial);
            self.f = value;
            self.g.copy_from_slice(gradient);
            self.rejected = 0;
            self.iterations += 1;
            self.begin_iteration();
        } else {
            self.rejected += 1;
            if self.rejected >= REJECTIONS || !(self.radius > 0.0) {
                self.stop = Some(Stop::Stalled);
            } else {
                self.pending = Pending::Relinearize;
            }
        }
    }

    fn tell_product(&mut self, product: &[f64]) {
        let rr = norm_squared(&self.r);
        let curvature = dot(&self.d, product);
        self.inner += 1;
        if !(curvature > 0.0) {
            let tau = self.to_boundary();
            axpy(tau, &self.d, &mut self.p);
            axpy(tau, product, &mut self.hp);
            self.at_boundary = true;
            self.negative = curvature < 0.0;
            self.try_step();
            return;
        }
        let alpha = rr / curvature;
        let mut next = norm_squared(&self.p);
        next = alpha.mul_add(
            2.0f64.mul_add(dot(&self.p, &self.d), alpha * norm_squared(&self.d)),
            next,
        );
        if next >= self.radius * self.radius {
            let tau = self.to_boundary();
            axpy(tau, &self.d, &mut self.p);
            axpy(tau, product, &mut self.hp);
            self.at_boundary = true;
            self.try_step();
            return;
        }
        axpy(alpha, &self.d, &mut self.p);
        axpy(alpha, product, &mut self.hp);
        axpy(alpha, product, &mut self.r);
        let rr_next = norm_squared(&self.r);
        let g = norm_squared(&self.g).sqrt();
        if rr_next.sqrt() <= 0.1f64.min(g.sqrt()) * g || self.inner >= self.settings.inner {
            self.try_step();
            return;
        }
        let beta = rr_next / rr;
        for (d, r) in self.d.iter_mut().zip(&self.r) {
            *d = beta * *d - r;
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
