//! The phases of a run: which one begins where, and what follows from its end.
//!
//! Descent by gradients in head coordinates, second-order phases, the descent
//! on kinks, and the way between θ and head coordinates. What is made of the
//! point they end at is in `end`.

use common::math::slice::max_abs;
use common::spec::{Loss, Optimizer as Method};

use super::{Attempt, Run, Stage};
use crate::certificate;
use crate::kink;
use crate::linalg::multiply;
use crate::objective::{Chart, Objective};
use crate::optimize::first_order::{FirstOrder, Rule};
use crate::optimize::sgd::Sgd;
use crate::optimize::{
    Ask, Optimizer, Stop, arc, lbfgs, least_squares, levenberg_marquardt, newton_cg,
};

/// L-BFGS iterations of one descent; deep bodies get the longer one.
const DESCENT: u64 = 20_000;
const DEEP_DESCENT: u64 = 60_000;
/// L-BFGS iterations where there are kinks: it ends near them, never on them.
const KINK_DESCENT: u64 = 200;
/// Steps of the descent on kinks.
const KINK_STEPS: u32 = 400;
/// Switch from gradients to Hessians.
const SWITCH: f64 = 1e-6;
/// The same after Hessians had to give up.
const VALLEY: f64 = 1e-13;
/// Gradient aimed at in head coordinates: mapping back multiplies it.
const AIM: f64 = 3e-11;
/// Newton steps before cheap gradients get another turn.
const NEWTON: u64 = 60;
/// L-BFGS iterations between two looks at the scale of z.
const LOOK: u64 = 500;
/// Beyond this, ‖x‖∞ counts as diverged.
const BOUND: f64 = 1e10;

impl<'p> Run<'p> {
    /// From the end of a first phase in θ to the polish, or straight to the certificate.
    pub(super) fn after_first_phase(&mut self, point: &[f64], over_budget: bool) {
        self.set_variables(point);
        self.state.stage = if self.setup.polish && !over_budget {
            self.enter_head();
            self.begin_descent()
        } else {
            Stage::Examine
        };
    }

    /// L-BFGS, on scaled variables, with a look at the scale of z now and then.
    pub(super) fn descend(
        &mut self,
        mut l: lbfgs::Lbfgs,
        scale: Vec<f64>,
        checked: u64,
        over_budget: bool,
    ) {
        /// Evaluations per step of the run: pausing is as fine-grained as this.
        const SLICE: u32 = 64;
        let mut work = self.state.work;
        let limit = self.setup.budget.evaluations;
        let objective = self.objective();
        objective.work = work;
        let n = objective.len();
        let mut x = vec![0.0; n];
        let mut g = vec![0.0; n];
        let mut notes = Vec::new();
        for _ in 0..SLICE {
            let Ask::Gradient(y) = l.ask() else { break };
            if over_budget || objective.work.evaluations >= limit {
                break;
            }
            for i in 0..n {
                x[i] = y[i] / scale[i];
            }
            let f = objective.value_gradient(&x, &mut g);
            for i in 0..n {
                g[i] /= scale[i];
            }
            let before = l.iterations();
            l.tell_gradient(f, &g);
            if l.iterations() != before || before == 0 {
                let size = max_abs(l.gradient());
                notes.push((objective.work.evaluations, l.value(), size));
            }
        }
        work = objective.work;
        self.state.work = work;
        for (evaluations, value, gradient) in notes {
            self.state.curve.offer(evaluations, value, gradient);
            self.state.growth.offer(evaluations, value, || {
                l.point()
                    .iter()
                    .zip(&scale)
                    .fold(0.0, |s: f64, (y, c)| (y / c).mul_add(y / c, s))
                    .sqrt()
            });
        }
        let unscale = |l: &lbfgs::Lbfgs| -> Vec<f64> {
            l.point().iter().zip(&scale).map(|(y, s)| y / s).collect()
        };
        if over_budget || !self.budget_left() {
            self.set_variables(&unscale(&l));
            self.state.stage = Stage::Examine;
            return;
        }
        if let Some(stop) = l.stop() {
            self.set_variables(&unscale(&l));
            self.after_descent(stop);
            return;
        }
        if l.iterations() >= checked + LOOK {
            let x = unscale(&l);
            let checked = l.iterations();
            self.set_variables(&x);
            if let Some(next) = self.rescaled(&scale, checked) {
                self.state.stage = next;
                return;
            }
            self.state.stage = Stage::Descend {
                lbfgs: l,
                scale,
                checked,
            };
            return;
        }
        self.state.stage = Stage::Descend {
            lbfgs: l,
            scale,
            checked,
        };
    }

    fn after_descent(&mut self, stop: Stop) {
        match stop {
            Stop::NonFinite => {
                self.state.non_finite = true;
                self.state.stage = Stage::Examine;
            }
            Stop::Diverging => self.state.stage = Stage::Examine,
            _ if !self.setup.polish && self.setup.method != Method::Auto => {
                self.state.stage = Stage::Examine;
            }
            _ => {
                if matches!(self.state.attempt, Attempt::Second { .. }) {
                    self.enter_head();
                }
                self.state.stage = self.begin_newton();
            }
        }
    }

    /// Some iterations of the descent on kinks.
    pub(super) fn settle_kinks(&mut self, mut solver: Box<kink::Solver>, over_budget: bool) {
        let work = self.state.work;
        let objective = self.objective();
        objective.work = work;
        if !over_budget {
            solver.advance(&mut kink::Kinked::new(objective));
        }
        self.state.work = objective.work;
        let x = solver.point().to_vec();
        if over_budget || !self.budget_left() || solver.stop().is_some() {
            self.set_variables(&x);
            self.state.stage = Stage::Examine;
        } else {
            self.state.stage = Stage::Kinks(solver);
        }
    }

    /// Whether the descent has to mind kinks.
    fn minds_kinks(&mut self) -> bool {
        let objective = self.objective();
        objective.has_kinks() && objective.len() <= certificate::DENSE
    }

    /// A second-order phase at the current point.
    pub(super) fn begin_newton(&mut self) -> Stage {
        self.state.newtons += 1;
        let x = self.variables();
        let n = x.len();
        let tolerances = self.setup.tolerances;
        if self.minds_kinks() {
            let demands = kink::Demands {
                gradient: tolerances.gradient.min(AIM),
                curvature: tolerances.curvature,
                margin: tolerances.kink_margin,
            };
            return Stage::Kinks(Box::new(kink::Solver::new(x, KINK_STEPS, demands)));
        }
        let aim = AIM.min(0.03 * tolerances.gradient);
        if n <= certificate::DENSE {
            let settings = arc::Settings {
                gradient: aim,
                step: 1e-7,
                curvature: 0.1 * tolerances.curvature,
                iterations: NEWTON,
                bound: BOUND,
            };
            Stage::Arc(Box::new(arc::Arc::new(x, settings)))
        } else {
            let settings = newton_cg::Settings {
                gradient: aim,
                iterations: NEWTON,
                inner: 2000,
                bound: BOUND,
            };
            Stage::NewtonCg(Box::new(newton_cg::NewtonCg::new(x, settings)))
        }
    }

    pub(super) fn begin_descent(&mut self) -> Stage {
        let x = self.variables();
        let scale = vec![1.0; x.len()];
        self.descent_from(x, scale)
    }

    /// The gradient at which Hessians take over: lower each time they had to
    /// give up, because what is left then is a long and nearly flat valley.
    /// Large problems, where products are dear, need none if they can help it.
    fn switch(&self) -> f64 {
        let large = self.theta.len() > certificate::DENSE;
        match (self.state.newtons, large) {
            (0, false) => SWITCH,
            (0, true) => AIM,
            _ => VALLEY,
        }
    }

    pub(super) fn descent_from(&mut self, x: Vec<f64>, scale: Vec<f64>) -> Stage {
        let deep = self.problem().depth() >= 16;
        let kinks = self.minds_kinks();
        let y = x.iter().zip(&scale).map(|(x, s)| x * s).collect();
        let settings = lbfgs::Settings {
            memory: 20,
            gradient: self.switch(),
            iterations: match (kinks, deep) {
                (true, _) => KINK_DESCENT,
                (false, true) => DEEP_DESCENT,
                (false, false) => DESCENT,
            },
            bound: BOUND * max_abs(&scale).max(1.0),
        };
        Stage::Descend {
            lbfgs: lbfgs::Lbfgs::new(y, settings),
            scale,
            checked: 0,
        }
    }

    pub(super) fn after_newton(&mut self, stop: Stop, over_budget: bool) {
        // Not there yet: cheap gradients cross long valleys faster than Hessians.
        let again = matches!(stop, Stop::IterationLimit | Stop::Stalled)
            && !over_budget
            && self.state.newtons < 12
            && self.state.theta_polishes == 0;
        self.state.stage = if again {
            self.begin_descent()
        } else {
            Stage::Examine
        };
    }

    /// From θ to head coordinates where they apply.
    pub(super) fn enter_head(&mut self) {
        if self.state.chart == Chart::Theta
            && self.head.is_some()
            && !self.setup.stay_in_theta
            && certificate::head_chart_applies(self.problem(), &self.state.x)
        {
            let mut q = vec![0.0; self.problem().program_len()];
            Objective::to_program(self.problem(), &self.state.x, &mut q);
            self.state.chart = Chart::Head;
            self.state.x = q;
        }
    }

    /// From head coordinates to θ; `false` when R₂ leaves the range of R₁.
    pub(super) fn return_to_theta(&mut self) -> bool {
        if self.state.chart == Chart::Theta {
            return true;
        }
        let problem = self.problem();
        let d = problem.dims();
        let x = &mut self.state.x;
        if problem.loss() == Loss::CrossEntropy {
            // Removing the mean over classes changes no probability and never raises F.
            center(&mut x[..d.outputs * d.phi], d.outputs, d.phi);
            center(
                &mut x[d.outputs * d.phi..][..d.outputs * d.z],
                d.outputs,
                d.z,
            );
        }
        let (r1, rest) = x.split_at(d.outputs * d.phi);
        let (r2, u) = rest.split_at(d.outputs * d.z);
        let v = crate::linalg::pseudo_inverse_times(r1, d.outputs, d.phi, r2, d.z);
        let mut back = vec![0.0; d.outputs * d.z];
        multiply(r1, &v, &mut back, d.outputs, d.phi, d.z, false);
        let error = back
            .iter()
            .zip(r2)
            .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        let stays = error <= 1e-6 * max_abs(r2).max(1.0);
        let mut theta = r1.to_vec();
        theta.extend_from_slice(&v);
        theta.extend_from_slice(u);
        self.state.x = theta;
        self.state.chart = Chart::Theta;
        stays
    }

    /// Levenberg–Marquardt in the space of the residuals, where the objective is a sum of squares
    /// that may reach zero: smooth, no more residuals than variables.
    fn begin_least_squares(&mut self) -> Option<Stage> {
        /// Steps; the longest valleys seen took 200.
        const STEPS: u64 = 500;
        /// ½ρ² of a residual at the rounding of its parts, in units of 1 + y².
        const ZERO: f64 = 1e-28;
        let objective = self.objective();
        let count = objective.residual_count()?;
        if count > certificate::DENSE || count > objective.len() || objective.has_kinks() {
            return None;
        }
        let linear = self.setup.linear;
        let seen = |i: usize| linear.mask.is_none_or(|m| m[i] != 0.0);
        let squares = linear.targets.iter().enumerate().filter(|(i, _)| seen(*i));
        let sum = squares.fold(0.0, |sum, (_, y)| y.mul_add(*y, sum));
        let settings = least_squares::Settings {
            zero: ZERO * (1.0 + sum / linear.rows() as f64),
            gradient: AIM.min(0.03 * self.setup.tolerances.gradient),
            iterations: STEPS,
            bound: BOUND,
        };
        let x = self.variables();
        let optimizer = least_squares::LeastSquares::new(x, settings);
        Some(Stage::LeastSquares(Box::new(optimizer)))
    }

    /// At zero the certificate follows; elsewhere the other phases find out what the point is.
    pub(super) fn after_least_squares(
        &mut self,
        optimizer: &least_squares::LeastSquares,
        stop: Stop,
        over_budget: bool,
    ) {
        self.set_variables(optimizer.point());
        let polish = self.setup.polish || self.setup.method == Method::Auto;
        self.state.non_finite |= stop == Stop::NonFinite;
        let over = over_budget || self.state.non_finite || stop == Stop::Diverging;
        self.state.stage = if over || !polish || optimizer.is_at_zero() {
            Stage::Examine
        } else if stop == Stop::Converged {
            self.begin_newton()
        } else {
            self.begin_descent()
        };
    }

    /// First phase by method.
    pub(super) fn begin_method(&mut self) -> Stage {
        /// Steps of the first-order methods before the polish.
        const STEPS: u64 = 20_000;
        /// Epochs of stochastic descent.
        const EPOCHS: u32 = 500;
        /// Steps of Levenberg–Marquardt.
        const LEVENBERG_MARQUARDT: u64 = 500;
        if matches!(self.setup.method, Method::Auto | Method::LevenbergMarquardt)
            && let Some(stage) = self.begin_least_squares()
        {
            return stage;
        }
        let x = self.variables();
        let tolerance = SWITCH;
        match self.setup.method {
            Method::Auto | Method::Lbfgs => self.begin_descent(),
            Method::Newton => self.begin_newton(),
            Method::LevenbergMarquardt if x.len() <= certificate::DENSE => {
                let settings = levenberg_marquardt::Settings {
                    gradient: tolerance,
                    iterations: LEVENBERG_MARQUARDT,
                    bound: BOUND,
                };
                let optimizer = levenberg_marquardt::LevenbergMarquardt::new(x, settings);
                Stage::LevenbergMarquardt(Box::new(optimizer))
            }
            // Too many parameters for dense matrices: Newton-CG.
            Method::LevenbergMarquardt => self.begin_newton(),
            Method::Adam => Stage::FirstOrder(FirstOrder::new(x, Rule::ADAM, tolerance, STEPS)),
            Method::Sgd => Stage::Sgd(Sgd::new(x, EPOCHS)),
            Method::Gd => {
                let rule = Rule::GradientDescent { rate: 0.1 };
                Stage::FirstOrder(FirstOrder::new(x, rule, tolerance, STEPS))
            }
        }
    }
}

/// Rows of `m` minus their mean over the outputs.
fn center(m: &mut [f64], rows: usize, cols: usize) {
    for c in 0..cols {
        let mean = (0..rows).fold(0.0, |s, r| s + m[r * cols + c]) / rows as f64;
        for r in 0..rows {
            m[r * cols + c] -= mean;
        }
    }
}
