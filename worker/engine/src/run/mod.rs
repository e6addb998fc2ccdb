//! One run: from a start to evidence.
//!
//! ```text
//! start ─► prepare ─► descend (L-BFGS) ─► newton (ARC or Newton-CG) ─► map back ─► examine
//!              ▲                                                                     │
//!              └────────── negative curvature, hidden descent, escape ◄──────────────┤
//!                              gradient or Newton step too large ─► newton in θ ◄────┘
//! ```
//!
//! Sums of squares that can reach zero go from `prepare` to Levenberg–Marquardt in the space of
//! their residuals, and from zero straight to `examine`.
//!
//! The method is `docs/engine.md`; in short: cross the indefinite valleys
//! with many cheap gradients in head coordinates, finish with few Hessians,
//! verify in θ. [`Run::advance`] works until it is told to pause or the run is
//! over; between two evaluations the whole state can be saved
//! ([`Run::checkpoint`]) and continued elsewhere to the same bits.

mod curve;
mod end;
mod growth;
mod phases;
mod prepare;

use common::math::Isa;
use common::math::slice::{max_abs, norm};
use common::record::{BaselineEvidence, RunEvidence};
use common::rng::Philox;
use common::spec::{Budget, Optimizer as Method, Skip, Tolerances};
use serde::{Deserialize, Serialize};

use crate::certificate;
use crate::kink;
use crate::linalg::Svd;
use crate::linear::LinearProblem;
use crate::objective::{Chart, Objective, Problem, Work};
use crate::optimize::first_order::FirstOrder;
use crate::optimize::sgd::Sgd;
use crate::optimize::{
    Ask, Optimizer, Stop, arc, lbfgs, least_squares, levenberg_marquardt, newton_cg,
};
use curve::Curve;
use growth::Growth;

/// What decides a run beside the problem and the start.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// First phase.
    pub method: Method,
    /// Whether the polish to a certificate follows.
    pub polish: bool,
    /// When to give up.
    pub budget: Budget,
    /// What a certificate must reach.
    pub tolerances: Tolerances,
    /// The solved baseline.
    pub baseline: Option<&'a BaselineEvidence>,
    /// φ, y and mask, row-major, for the closed-form quantities.
    pub linear: LinearProblem<'a>,
    /// The problem cut into batches of rows, for `sgd`; empty otherwise.
    pub batches: &'a [Problem],
    /// `freeze: body`.
    pub frozen: bool,
    /// Stay in θ even where head coordinates exist: for starts that mean to sit
    /// at a W of deficient rank.
    pub stay_in_theta: bool,
    /// Key of the run's own draws.
    pub seed: u64,
}

/// How far [`Run::advance`] came.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Told to pause.
    Paused,
    /// Over.
    Finished(Box<Finished>),
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// All that is recorded.
    pub evidence: RunEvidence,
    /// θ at the end point, flat order of CONTRACT §1.
    pub theta: Vec<f64>,
}

/// Where the run stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stage {
    Prepare,
    /// In scaled variables: x = y / scale.
    Descend {
        lbfgs: lbfgs::Lbfgs,
        scale: Vec<f64>,
        checked: u64,
    },
    FirstOrder(FirstOrder),
    Sgd(Sgd),
    LeastSquares(Box<least_squares::LeastSquares>),
    LevenbergMarquardt(Box<levenberg_marquardt::LevenbergMarquardt>),
    Arc(Box<arc::Arc>),
    NewtonCg(Box<newton_cg::NewtonCg>),
    Kinks(Box<kink::Solver>),
    Examine,
    Over,
}

/// Which way a run goes down. Descent in head coordinates ends in trivial
/// minima (W V = 0, the baseline itself) more often than descent in θ does;
/// where it did, the start gets a second descent, in θ, and the lower minimum
/// of the two counts. So that certificates are not bought by collapse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Attempt {
    First,
    /// In θ; the trivial minimum of the first.
    Second {
        trivial: Vec<f64>,
        value: f64,
    },
    /// Back at the trivial minimum: the second found nothing better.
    Settled,
}

/// Everything that a checkpoint holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    stage: Stage,
    attempt: Attempt,
    chart: Chart,
    /// Current point, full, in `chart`.
    x: Vec<f64>,
    work: Work,
    curve: Curve,
    growth: Growth,
    refuted: u32,
    refuted_excess: Option<f64>,
    /// Newton phases since the last descent, and returns from a refusal.
    newtons: u32,
    returns: u32,
    theta_polishes: u32,
    /// R₂ left the range of R₁: no θ attains the infimum.
    leaves_range: bool,
    non_finite: bool,
    seconds: f64,
}

/// One run.
#[derive(Debug)]
pub struct Run<'p> {
    setup: Setup<'p>,
    /// θ₀.
    start: Vec<f64>,
    state: State,
    head: Option<Objective<'p>>,
    theta: Objective<'p>,
    batches: Vec<Objective<'p>>,
}

impl<'p> Run<'p> {
    /// A run from the full θ₀.
    ///
    /// # Panics
    /// If `theta` has not the problem's length.
    pub fn new(
        problem: &'p Problem,
        setup: Setup<'p>,
        theta: Vec<f64>,
        isa: Isa,
        threads: usize,
    ) -> Self {
        assert_eq!(theta.len(), problem.theta_len(), "start");
        let frozen = setup.frozen.then(|| problem.body_of(&theta));
        let in_theta = Objective::new(problem, Chart::Theta, frozen.clone(), isa, threads);
        let batch = |p: &'p Problem| Objective::new(p, Chart::Theta, frozen.clone(), isa, 1);
        let batches = setup.batches.iter().map(batch).collect();
        let may_head = problem.skip() == Skip::Outer
            && problem.regularizer().head_decay == 0.0
            && problem.regularizer().predictor_ridge > 0.0;
        let head = may_head.then(|| Objective::new(problem, Chart::Head, frozen, isa, threads));
        let chart = if may_head
            && !setup.stay_in_theta
            && setup.budget.evaluations > 0
            && setup.method == Method::Auto
            && certificate::head_chart_applies(problem, &theta)
        {
            Chart::Head
        } else {
            Chart::Theta
        };
        let start = theta.clone();
        let x = match chart {
            Chart::Theta => theta,
            Chart::Head => {
                let mut q = vec![0.0; problem.program_len()];
                Objective::to_program(problem, &theta, &mut q);
                q
            }
        };
        // A budget of nothing: the point is examined as it is.
        let stage = if setup.budget.evaluations == 0 {
            Stage::Examine
        } else {
            Stage::Prepare
        };
        let state = State {
            stage,
            attempt: Attempt::First,
            chart,
            x,
            work: Work::default(),
            curve: Curve::default(),
            growth: Growth::default(),
            refuted: 0,
            refuted_excess: None,
            newtons: 0,
            returns: 0,
            theta_polishes: 0,
            leaves_range: false,
            non_finite: false,
            seconds: 0.0,
        };
        Self {
            setup,
            start,
            state,
            head,
            theta: in_theta,
            batches,
        }
    }

    /// The state as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        postcard::to_allocvec(&self.state).expect("the state is plain data")
    }

    /// Continues from [`Run::checkpoint`]; problem, setup and θ₀ must be the same.
    ///
    /// # Errors
    /// If the bytes are not a state of this program and problem, or that of a finished run.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), BadCheckpoint> {
        let state: State = postcard::from_bytes(checkpoint).map_err(|_| BadCheckpoint)?;
        let length = match state.chart {
            Chart::Theta => self.problem().theta_len(),
            Chart::Head if self.head.is_some() => self.problem().program_len(),
            Chart::Head => return Err(BadCheckpoint),
        };
        if state.x.len() != length || matches!(state.stage, Stage::Over) {
            return Err(BadCheckpoint);
        }
        self.state = state;
        Ok(())
    }

    /// Work done so far.
    pub fn work(&self) -> Work {
        self.state.work
    }

    /// Objective and ‖∇‖∞ last seen, for progress displays.
    pub fn last_seen(&self) -> Option<(f64, f64)> {
        self.state
            .curve
            .points()
            .last()
            .map(|p| (f64::from(p.objective), f64::from(p.gradient_norm)))
    }

    fn problem(&self) -> &'p Problem {
        self.theta.problem()
    }

    /// The objective of the current chart.
    fn objective(&mut self) -> &mut Objective<'p> {
        match self.state.chart {
            Chart::Head => self
                .head
                .as_mut()
                .expect("the head chart has its objective"),
            Chart::Theta => &mut self.theta,
        }
    }

    fn variables(&mut self) -> Vec<f64> {
        let x = std::mem::take(&mut self.state.x);
        let v = self.objective().variables(&x);
        self.state.x = x;
        v
    }

    fn set_variables(&mut self, v: &[f64]) {
        self.state.x = self.objective().full(v);
    }

    fn budget_left(&self) -> bool {
        self.state.work.evaluations < self.setup.budget.evaluations
    }

    /// Works until `pause` answers true or the run is over. `pause` is asked
    /// between evaluations; `seconds` is the run's own time so far.
    pub fn advance(&mut self, pause: &mut dyn FnMut() -> bool) -> Progress {
        let began = std::time::Instant::now();
        let before = self.state.seconds;
        loop {
            if let Stage::Over = self.state.stage {
                unreachable!("a finished run is not advanced");
            }
            if pause() {
                self.state.seconds = before + began.elapsed().as_secs_f64();
                return Progress::Paused;
            }
            let out_of_time = self
                .setup
                .budget
                .seconds
                .is_some_and(|limit| before + began.elapsed().as_secs_f64() >= limit);
            let over_budget = out_of_time || !self.budget_left();
            if let Some(finished) = self.step(over_budget) {
                self.state.stage = Stage::Over;
                return Progress::Finished(Box::new(finished));
            }
        }
    }

    /// Works until the run is over.
    pub fn to_end(&mut self) -> Finished {
        loop {
            if let Progress::Finished(finished) = self.advance(&mut || false) {
                return *finished;
            }
        }
    }

    /// One evaluation or one decision.
    fn step(&mut self, over_budget: bool) -> Option<Finished> {
        let stage = std::mem::replace(&mut self.state.stage, Stage::Over);
        match stage {
            Stage::Prepare => {
                self.prepare();
                None
            }
            Stage::Descend {
                lbfgs,
                scale,
                checked,
            } => {
                self.descend(lbfgs, scale, checked, over_budget);
                None
            }
            Stage::FirstOrder(mut optimizer) => {
                match self.drive(&mut optimizer, over_budget) {
                    None => self.state.stage = Stage::FirstOrder(optimizer),
                    Some(_) => self.after_first_phase(optimizer.point(), over_budget),
                }
                None
            }
            Stage::Sgd(mut sgd) => {
                if over_budget || sgd.is_over() {
                    self.after_first_phase(sgd.point(), over_budget);
                } else {
                    let batches = &mut self.batches;
                    sgd.epoch(batches.len(), Philox::new(self.setup.seed), |b, x, g| {
                        batches[b].value_gradient(x, g);
                    });
                    // Every row was visited once.
                    self.state.work.gradients += 1;
                    self.state.work.evaluations += 1;
                    self.state.stage = Stage::Sgd(sgd);
                }
                None
            }
            Stage::LeastSquares(mut optimizer) => {
                match self.drive(optimizer.as_mut(), over_budget) {
                    None => self.state.stage = Stage::LeastSquares(optimizer),
                    Some(stop) => self.after_least_squares(&optimizer, stop, over_budget),
                }
                None
            }
            Stage::LevenbergMarquardt(mut optimizer) => {
                match self.drive(optimizer.as_mut(), over_budget) {
                    None => self.state.stage = Stage::LevenbergMarquardt(optimizer),
                    Some(_) => self.after_first_phase(optimizer.point(), over_budget),
                }
                None
            }
            Stage::Arc(mut optimizer) => {
                let stop = self.drive(optimizer.as_mut(), over_budget);
                match stop {
                    None => self.state.stage = Stage::Arc(optimizer),
                    Some(stop) => {
                        self.set_variables(optimizer.point());
                        self.after_newton(stop, over_budget);
                    }
                }
                None
            }
            Stage::NewtonCg(mut optimizer) => {
                let stop = self.drive(optimizer.as_mut(), over_budget);
                match stop {
                    None => self.state.stage = Stage::NewtonCg(optimizer),
                    Some(stop) => {
                        self.set_variables(optimizer.point());
                        self.after_newton(stop, over_budget);
                    }
                }
                None
            }
            Stage::Kinks(solver) => {
                self.settle_kinks(solver, over_budget);
                None
            }
            Stage::Examine => self.examine(over_budget),
            Stage::Over => unreachable!("a finished run is not advanced"),
        }
    }

    /// Answers one question of an optimiser; `Some` when it is done.
    fn drive(&mut self, optimizer: &mut dyn Optimizer, over_budget: bool) -> Option<Stop> {
        if over_budget && !matches!(optimizer.ask(), Ask::Nothing(_)) {
            return Some(Stop::IterationLimit);
        }
        let mut work = self.state.work;
        let objective = self.objective();
        objective.work = work;
        let n = objective.len();
        let mut told = None;
        let mut room = optimizer.room();
        match optimizer.ask() {
            Ask::Nothing(stop) => return Some(stop),
            Ask::Gradient(x) => {
                let mut g = vec![0.0; n];
                let f = objective.value_gradient(x, &mut g);
                told = Some((f, max_abs(&g)));
                optimizer.tell_gradient(f, &g);
            }
            Ask::Linearize(x) => {
                let mut g = vec![0.0; n];
                let f = objective.linearize(x, &mut g);
                told = Some((f, max_abs(&g)));
                optimizer.tell_gradient(f, &g);
            }
            Ask::Product(v) => {
                objective.ensure_linearized(optimizer.point());
                let mut out = vec![0.0; n];
                objective.products(v, &mut out);
                optimizer.tell_product(&out);
            }
            Ask::Residuals(x) => {
                let count = objective.residual_count().unwrap_or(0);
                let mut residuals = vec![0.0; count];
                room.resize(count * count, 0.0);
                objective.residuals(x, &mut residuals, &mut room);
                optimizer.tell_residuals(&residuals, room);
            }
            Ask::PullBack(x, weights) => {
                let mut out = vec![0.0; n];
                objective.pull_back_residuals(x, weights, &mut out);
                optimizer.tell_product(&out);
            }
            Ask::GaussNewton(x) => {
                let mut h = vec![0.0; n * n];
                objective.gauss_newton(x, &mut h);
                optimizer.tell_hessian(h);
            }
            Ask::Hessian => {
                objective.ensure_linearized(optimizer.point());
                let mut h = vec![0.0; n * n];
                objective.hessian(&mut h);
                optimizer.tell_hessian(h);
            }
        }
        work = objective.work;
        self.state.work = work;
        if told.is_some() {
            self.note(optimizer.value(), max_abs(optimizer.gradient()), || {
                norm(optimizer.point())
            });
        }
        None
    }

    fn note(&mut self, value: f64, gradient: f64, size: impl FnOnce() -> f64) {
        let evaluations = self.state.work.evaluations;
        self.state.curve.offer(evaluations, value, gradient);
        self.state.growth.offer(evaluations, value, size);
    }
}

/// The bytes are not a checkpoint of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint of this task and program version")]
pub struct BadCheckpoint;

/// Singular values of W for reports.
pub fn singular_values_of_w(problem: &Problem, theta: &[f64]) -> Vec<f64> {
    let d = problem.dims();
    if d.outputs <= d.phi {
        Svd::new(&theta[..d.outputs * d.phi], d.outputs, d.phi).values
    } else {
        crate::linalg::singular_values(&theta[..d.outputs * d.phi], d.outputs, d.phi)
    }
}
