//! L-BFGS (Nocedal 1980; Liu & Nocedal 1989).

use common::math::slice::{axpy, axpy_dot, dot, max_abs, norm_squared, scale};
use serde::{Deserialize, Serialize};

use super::linesearch::{LineSearch, Verdict};
use super::{Ask, Optimizer, Stop};

/// Settings, checked by construction: any value is meaningful.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Pairs (s, y) kept.
    pub memory: usize,
    /// Stop at ‖∇‖∞ ≤ this.
    pub gradient: f64,
    /// Stop after this many accepted iterations.
    pub iterations: u64,
    /// Stop with [`Stop::Diverging`] when ‖x‖∞ exceeds this.
    pub bound: f64,
}

/// State.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lbfgs {
    settings: Settings,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    trial: Vec<f64>,
    d: Vec<f64>,
    /// Ring of s and y, `memory × n` each.
    s: Vec<f64>,
    y: Vec<f64>,
    /// 1/sᵀy, by slot.
    rho: Vec<f64>,
    /// Slot of the next pair and number of pairs.
    next: usize,
    pairs: usize,
    search: Option<LineSearch>,
    iterations: u64,
    stop: Option<Stop>,
    #[serde(skip)]
    alpha: Vec<f64>,
}

impl Lbfgs {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>, settings: Settings) -> Self {
        let n = x.len();
        let m = settings.memory.max(1);
        Self {
            trial: x.clone(),
            d: vec![0.0; n],
            g: vec![0.0; n],
            f: f64::NAN,
            s: vec![0.0; n * m],
            y: vec![0.0; n * m],
            rho: vec![0.0; m],
            next: 0,
            pairs: 0,
            search: None,
            iterations: 0,
            stop: None,
            alpha: Vec::new(),
            x,
            settings: Settings {
                memory: m,
                ..settings
            },
        }
    }

    /// Why it stopped, if it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// d ← −H g by the two-loop recursion (Nocedal & Wright, algorithm 7.4). Each update of d is
    /// one pass with the product that the next pair needs.
    fn direction(&mut self) {
        let n = self.x.len();
        let m = self.settings.memory;
        let pairs = self.pairs;
        self.d.copy_from_slice(&self.g);
        self.alpha.resize(m, 0.0);
        if pairs > 0 {
            // From the newest pair to the oldest.
            let next = self.next;
            let slot = |back: usize| (next + m - 1 - back) % m;
            let s = |back: usize| &self.s[slot(back) * n..][..n];
            let y = |back: usize| &self.y[slot(back) * n..][..n];
            let d = &mut self.d;
            let mut product = dot(s(0), d);
            for back in 0..pairs {
                let a = self.rho[slot(back)] * product;
                self.alpha[slot(back)] = a;
                if back + 1 < pairs {
                    product = axpy_dot(-a, y(back), d, s(back + 1));
                } else {
                    axpy(-a, y(back), d);
                }
            }
            scale(1.0 / (self.rho[slot(0)] * norm_squared(y(0))), d);
            product = dot(y(pairs - 1), d);
            for back in (0..pairs).rev() {
                let b = self.rho[slot(back)] * product;
                let step = self.alpha[slot(back)] - b;
                if back > 0 {
                    product = axpy_dot(step, s(back), d, y(back - 1));
                } else {
                    axpy(step, s(back), d);
                }
            }
        }
        scale(-1.0, &mut self.d);
    }

    fn begin_search(&mut self) {
        self.direction();
        let mut slope = dot(&self.d, &self.g);
        if !(slope < 0.0) {
            // Rounding has spoiled the pairs: forget them.
            self.forget();
            slope = -norm_squared(&self.g);
        }
        let step = if self.pairs == 0 {
            1.0f64.min(1.0 / norm_squared(&self.g).sqrt())
        } else {
            1.0
        };
        self.search = Some(LineSearch::new(self.f, slope, step));
        self.place(step);
    }

    /// Steepest descent again.
    fn forget(&mut self) {
        self.pairs = 0;
        self.next = 0;
        self.d.copy_from_slice(&self.g);
        scale(-1.0, &mut self.d);
    }

    fn place(&mut self, step: f64) {
        self.trial.copy_from_slice(&self.x);
        axpy(step, &self.d, &mut self.trial);
    }

    fn accept(&mut self, value: f64, gradient: &[f64]) {
        let n = self.x.len();
        let slot = self.next;
        let s = &mut self.s[slot * n..][..n];
        let y = &mut self.y[slot * n..][..n];
        for i in 0..n {
            s[i] = self.trial[i] - self.x[i];
            y[i] = gradient[i] - self.g[i];
        }
        let sy = dot(s, y);
        if sy > f64::EPSILON * (norm_squared(s) * norm_squared(y)).sqrt() {
            self.rho[slot] = 1.0 / sy;
            self.next = (slot + 1) % self.settings.memory;
            self.pairs = (self.pairs + 1).min(self.settings.memory);
        }
        self.x.copy_from_slice(&self.trial);
        self.g.copy_from_slice(gradient);
        self.f = value;
        self.iterations += 1;
    }

    /// Stops or begins the next search.
    fn go_on(&mut self) {
        if max_abs(&self.g) <= self.settings.gradient {
            self.stop = Some(Stop::Converged);
        } else if max_abs(&self.x) > self.settings.bound {
            self.stop = Some(Stop::Diverging);
        } else if self.iterations >= self.settings.iterations {
            self.stop = Some(Stop::IterationLimit);
        } else {
            self.begin_search();
        }
    }
}

impl Optimizer for Lbfgs {
    fn ask(&self) -> Ask<'_> {
        match self.stop {
            Some(stop) => Ask::Nothing(stop),
            None => Ask::Gradient(&self.trial),
        }
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        let Some(search) = &mut self.search else {
            // The start.
            self.f = value;
            self.g.copy_from_slice(gradient);
            if !value.is_finite() || max_abs(gradient).is_nan() {
                self.stop = Some(Stop::NonFinite);
            } else {
                self.go_on();
            }
            return;
        };
        match search.tell(value, dot(&self.d, gradient)) {
            Verdict::Accept => {
                self.accept(value, gradient);
                self.go_on();
            }
            Verdict::Try(step) => self.place(step),
            Verdict::Fail => {
                if self.pairs > 0 {
                    self.forget();
                    self.begin_search();
                } else {
                    self.stop = Some(Stop::Stalled);
                }
            }
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
