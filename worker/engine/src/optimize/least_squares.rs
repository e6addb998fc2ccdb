//! Levenberg–Marquardt for sums of squares with fewer residuals than variables.
//!
//! For f = ½‖ρ(x)‖² with J = ∂ρ/∂x a step is s = −(JᵀJ + μI)⁻¹Jᵀρ = −Jᵀα with
//! (K + μI) α = ρ, K = J Jᵀ: the system is that of the residuals, not of the
//! variables. It is the method for objectives that can reach zero, whose minima
//! lie at the end of long flat valleys: along them a gradient is small and a
//! Hessian indefinite, while ρ itself is nearly linear. Near zero convergence is
//! quadratic.
//!
//! The damping is Levenberg's (1944), the same for all variables: with Marquardt's,
//! in proportion to (JᵀJ)_ii, variables that hardly matter run away. Its size
//! follows Nielsen (1999): after a success μ ← μ·max(1/3, 1 − (2r − 1)³), r the ratio of
//! actual and predicted decrease, after a failure μ ← μν, ν ← 2ν.

use common::math::Isa;
use common::math::slice::{axpy, max_abs, norm, norm_squared};
use serde::{Deserialize, Serialize};

use super::{Ask, Optimizer, Stop};
use crate::kernels::Aligned;
use crate::linalg::Cholesky;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Objective that counts as zero: the residuals are at their rounding.
    pub zero: f64,
    /// ‖∇‖∞ at which a point counts as stationary where the objective does not go to zero.
    pub gradient: f64,
    /// Accepted steps.
    pub iterations: u64,
    /// ‖x‖∞ beyond which the run counts as diverging.
    pub bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Start,
    Residuals,
    Pull,
    Trial,
}

/// State.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeastSquares {
    settings: Settings,
    pending: Pending,
    x: Vec<f64>,
    f: f64,
    g: Vec<f64>,
    /// ρ and K at x, as told; K's lower triangle.
    residuals: Vec<f64>,
    gram: Vec<f64>,
    mu: f64,
    nu: f64,
    /// α of the pending step, and the decrease that the linear model predicts for it.
    weights: Vec<f64>,
    predicted: f64,
    trial: Vec<f64>,
    iterations: u64,
    stop: Option<Stop>,
    /// What the factorisation works in.
    #[serde(skip)]
    room: Room,
}

/// Memory; what is in it does not count.
#[derive(Clone, Debug, Default)]
struct Room(Aligned);

impl PartialEq for Room {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// First μ, relative to the mean of K's diagonal.
const MU: f64 = 1e-3;
/// Smallest and largest μ, relative to the same.
const RANGE: [f64; 2] = [1e-16, 1e8];
/// Where a step reduces the objective by less than this factor it does not go to zero.
const FAST: f64 = 0.5;

impl LeastSquares {
    /// Starts at `x`.
    pub fn new(x: Vec<f64>, settings: Settings) -> Self {
        Self {
            settings,
            pending: Pending::Start,
            f: f64::NAN,
            g: vec![0.0; x.len()],
            residuals: Vec::new(),
            gram: Vec::new(),
            mu: 0.0,
            nu: 2.0,
            weights: Vec::new(),
            predicted: 0.0,
            trial: x.clone(),
            x,
            iterations: 0,
            stop: None,
            room: Room::default(),
        }
    }

    /// Why it stopped, if it has.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Whether the objective is as good as zero.
    pub fn is_at_zero(&self) -> bool {
        self.f <= self.settings.zero
    }

    /// Mean of K's diagonal.
    fn scale(&self) -> f64 {
        let n = self.residuals.len();
        let trace = (0..n).fold(0.0, |sum, i| sum + self.gram[i * n + i]);
        (trace / n as f64).max(f64::MIN_POSITIVE)
    }

    /// What follows from a new best point, after a step from where the objective was `before`.
    fn arrived(&mut self, before: f64) {
        let stationary = max_abs(&self.g) <= self.settings.gradient;
        self.pending = Pending::Residuals;
        if self.is_at_zero() || (stationary && self.f > FAST * before) {
            self.stop = Some(Stop::Converged);
        } else if self.iterations >= self.settings.iterations {
            self.stop = Some(Stop::IterationLimit);
        } else if max_abs(&self.x) > self.settings.bound {
            self.stop = Some(Stop::Diverging);
        }
    }

    /// α for the current μ; μ grows until K + μI has a factor.
    fn solve(&mut self) {
        let n = self.residuals.len();
        let scale = self.scale();
        while self.mu <= RANGE[1] * scale {
            let room = std::mem::take(&mut self.room.0);
            if let Ok(factor) = Cholesky::shifted(Isa::current(), room, &self.gram, n, self.mu) {
                self.weights.clear();
                self.weights.extend_from_slice(&self.residuals);
                factor.solve(&mut self.weights);
                self.room.0 = factor.into_room();
                if max_abs(&self.weights).is_finite() {
                    // ½(‖ρ‖² − ‖ρ + Js‖²) with ρ + Js = μα.
                    self.predicted = 0.5
                        * (norm_squared(&self.residuals)
                            - self.mu * self.mu * norm_squared(&self.weights));
                    self.pending = Pending::Pull;
                    return;
                }
            }
            self.refuse();
        }
        self.stop = Some(Stop::Stalled);
    }

    fn refuse(&mut self) {
        self.mu *= self.nu;
        self.nu *= 2.0;
    }
}

impl Optimizer for LeastSquares {
    fn ask(&self) -> Ask<'_> {
        match (self.stop, self.pending) {
            (Some(stop), _) => Ask::Nothing(stop),
            (None, Pending::Residuals) => Ask::Residuals(&self.x),
            (None, Pending::Pull) => Ask::PullBack(&self.x, &self.weights),
            (None, Pending::Start | Pending::Trial) => Ask::Gradient(&self.trial),
        }
    }

    fn tell_gradient(&mut self, value: f64, gradient: &[f64]) {
        let finite = value.is_finite() && max_abs(gradient).is_finite();
        if self.pending == Pending::Start {
            self.f = value;
            self.g.copy_from_slice(gradient);
            if finite {
                self.arrived(f64::INFINITY);
            } else {
                self.stop = Some(Stop::NonFinite);
            }
            return;
        }
        let ratio = (self.f - value) / self.predicted;
        if finite && ratio > 1e-4 && value < self.f {
            let before = self.f;
            self.x.copy_from_slice(&self.trial);
            self.f = value;
            self.g.copy_from_slice(gradient);
            self.iterations += 1;
            let t = 2.0 * ratio - 1.0;
            self.mu *= (1.0 - t * t * t).max(1.0 / 3.0);
            self.nu = 2.0;
            self.arrived(before);
        } else {
            self.refuse();
            self.solve();
        }
    }

    /// Answers [`Ask::PullBack`]: Jᵀα.
    fn tell_product(&mut self, product: &[f64]) {
        let length = norm(product);
        if !(length > f64::EPSILON * norm(&self.x)) {
            // The step is lost in the rounding of x.
            self.stop = Some(Stop::Stalled);
            return;
        }
        self.trial.copy_from_slice(&self.x);
        axpy(-1.0, product, &mut self.trial);
        self.pending = Pending::Trial;
    }

    fn room(&mut self) -> Vec<f64> {
        if self.pending == Pending::Residuals {
            std::mem::take(&mut self.gram)
        } else {
            Vec::new()
        }
    }

    fn tell_residuals(&mut self, residuals: &[f64], gram: Vec<f64>) {
        assert_eq!(gram.len(), residuals.len() * residuals.len(), "gram");
        self.residuals.clear();
        self.residuals.extend_from_slice(residuals);
        self.gram = gram;
        if !max_abs(&self.gram).is_finite() {
            self.stop = Some(Stop::Stalled);
            return;
        }
        let scale = self.scale();
        if self.mu == 0.0 {
            self.mu = MU * scale;
        }
        self.mu = self.mu.max(RANGE[0] * scale);
        self.solve();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// ρ and J, row-major, at a point.
    type Model = fn(&[f64]) -> (Vec<f64>, Vec<f64>);

    /// Answers every question of the optimiser from ρ and J.
    fn minimize(model: Model, x: &[f64], iterations: u64) -> LeastSquares {
        let settings = Settings {
            zero: 1e-30,
            // What values near 1 can tell apart: the root of their rounding.
            gradient: 1e-7,
            iterations,
            bound: 1e10,
        };
        let mut optimizer = LeastSquares::new(x.to_vec(), settings);
        let pull = |jacobian: &[f64], weights: &[f64]| {
            let mut out = vec![0.0; x.len()];
            for (w, row) in weights.iter().zip(jacobian.chunks_exact(x.len())) {
                axpy(*w, row, &mut out);
            }
            out
        };
        loop {
            match optimizer.ask() {
                Ask::Nothing(_) => return optimizer,
                Ask::Gradient(at) => {
                    let (r, j) = model(at);
                    let g = pull(&j, &r);
                    optimizer.tell_gradient(0.5 * norm_squared(&r), &g);
                }
                Ask::Residuals(at) => {
                    let (r, j) = model(at);
                    let rows: Vec<&[f64]> = j.chunks_exact(x.len()).collect();
                    let gram = rows
                        .iter()
                        .flat_map(|a| rows.iter().map(|b| common::math::slice::dot(a, b)))
                        .collect();
                    optimizer.tell_residuals(&r, gram);
                }
                Ask::PullBack(at, weights) => {
                    let product = pull(&model(at).1, weights);
                    optimizer.tell_product(&product);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Rosenbrock (1960): ρ = (10(y − x²), 1 − x), zero at (1, 1).
    fn rosenbrock(x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let r = vec![10.0 * (x[1] - x[0] * x[0]), 1.0 - x[0]];
        (r, vec![-20.0 * x[0], 10.0, -1.0, 0.0])
    }

    #[test]
    fn the_valley_of_rosenbrock_is_crossed() {
        let o = minimize(rosenbrock, &[-1.2, 1.0], 100);
        assert_eq!(o.stop(), Some(Stop::Converged));
        assert!(o.is_at_zero(), "{:e}", o.value());
        assert!(o.point().iter().all(|x| (x - 1.0).abs() < 1e-14));
        assert!(o.iterations() < 40, "{}", o.iterations());
    }

    /// Two equations with three unknowns: of all solutions, the one nearest to the start.
    #[test]
    fn an_underdetermined_linear_system_is_solved_by_the_nearest_point() {
        let model: Model = |x| {
            let r = vec![x[0] + x[1] + x[2] - 3.0, x[0] - x[2]];
            (r, vec![1.0, 1.0, 1.0, 1.0, 0.0, -1.0])
        };
        let o = minimize(model, &[0.0; 3], 100);
        assert!(o.is_at_zero(), "{:e}", o.value());
        assert!(
            o.point().iter().all(|x| (x - 1.0).abs() < 1e-14),
            "{:?}",
            o.point()
        );
    }

    /// Powell's singular function (1962): J loses rank at the solution, steps halve the error.
    #[test]
    fn a_singular_zero_is_approached_step_by_step() {
        let model: Model = |x| {
            let (a, b) = (x[1] - 2.0 * x[2], x[0] - x[3]);
            let (s, t) = (5.0f64.sqrt(), 10.0f64.sqrt());
            let r = vec![x[0] + 10.0 * x[1], s * (x[2] - x[3]), a * a, t * b * b];
            #[rustfmt::skip]
            let j = vec![
                1.0, 10.0, 0.0, 0.0,
                0.0, 0.0, s, -s,
                0.0, 2.0 * a, -4.0 * a, 0.0,
                2.0 * t * b, 0.0, 0.0, -2.0 * t * b,
            ];
            (r, j)
        };
        let o = minimize(model, &[3.0, -1.0, 0.0, 1.0], 200);
        assert_eq!(o.stop(), Some(Stop::Converged));
        assert!(o.value() < 1e-16, "{:e}", o.value());
    }

    #[test]
    fn a_minimum_above_zero_counts_as_stationary_not_as_zero() {
        // ½((x² + 1)² + (x − y)²): minimum ½ at 0, where Jᵀρ vanishes.
        let model: Model = |x| {
            let r = vec![x[0] * x[0] + 1.0, x[0] - x[1]];
            (r, vec![2.0 * x[0], 0.0, 1.0, -1.0])
        };
        let o = minimize(model, &[1.0, -2.0], 10_000);
        assert_eq!(o.stop(), Some(Stop::Converged), "{:?}", o.point());
        assert!(!o.is_at_zero());
        assert!((o.value() - 0.5).abs() < 1e-12);
        assert!(max_abs(o.gradient()) <= 1e-7);
    }

    #[test]
    fn limits_and_broken_starts_end_it() {
        let o = minimize(rosenbrock, &[-1.2, 1.0], 3);
        assert_eq!((o.stop(), o.iterations()), (Some(Stop::IterationLimit), 3));
        let o = minimize(rosenbrock, &[f64::NAN, 1.0], 3);
        assert_eq!(o.stop(), Some(Stop::NonFinite));
    }
}
