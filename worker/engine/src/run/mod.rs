//! One run: from a start to evidence.
//!
//! ```text
//! start ─► prepare ─► descend (L-BFGS) ─► newton (ARC or Newton-CG) ─► map back ─► examine
//!              ▲                                                                     │
//!              └────────── negative curvature, hidden descent, escape ◄──────────────┤
//!                              gradient or Newton step too large ─► newton in θ ◄────┘
//! ```
//!
//! The method is `docs/engine.md`; in short: cross the indefinite valleys
//! with many cheap gradients in head coordinates, finish with few Hessians,
//! verify in θ. [`Run::advance`] works until it is told to pause or the run is
//! over; between two evaluations the whole state can be saved
//! ([`Run::checkpoint`]) and continued elsewhere to the same bits.

mod curve;
mod growth;
mod prepare;

use common::math::Isa;
use common::math::slice::{axpy, max_abs, norm};
use common::record::{BaselineEvidence, Outcome, RunEvidence};
use common::rng::Philox;
use common::spec::{Budget, Loss, Optimizer as Method, Skip, Tolerances};
use serde::{Deserialize, Serialize};

use crate::certificate::{self, Context, Examination, Refusal};
use crate::kink;
use crate::linalg::{Svd, multiply};
use crate::linear::LinearProblem;
use crate::objective::{Chart, Objective, Problem, Work};
use crate::optimize::first_order::{FirstOrder, Rule};
use crate::optimize::sgd::Sgd;
use crate::optimize::{Ask, Optimizer, Stop, arc, lbfgs, levenberg_marquardt, newton_cg};
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
    /// If the bytes are not a state of this program and problem.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), BadCheckpoint> {
        let state: State = postcard::from_bytes(checkpoint).map_err(|_| BadCheckpoint)?;
        if state.x.len() != self.state.x.len() && state.chart == self.state.chart {
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

    /// From the end of a first phase in θ to the polish, or straight to the certificate.
    fn after_first_phase(&mut self, point: &[f64], over_budget: bool) {
        self.set_variables(point);
        self.state.stage = if self.setup.polish && !over_budget {
            self.enter_head();
            self.begin_descent()
        } else {
            Stage::Examine
        };
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

    /// L-BFGS, on scaled variables, with a look at the scale of z now and then.
    fn descend(&mut self, mut l: lbfgs::Lbfgs, scale: Vec<f64>, checked: u64, over_budget: bool) {
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
    fn settle_kinks(&mut self, mut solver: Box<kink::Solver>, over_budget: bool) {
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
    fn begin_newton(&mut self) -> Stage {
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

    fn begin_descent(&mut self) -> Stage {
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

    fn descent_from(&mut self, x: Vec<f64>, scale: Vec<f64>) -> Stage {
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

    fn after_newton(&mut self, stop: Stop, over_budget: bool) {
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
    fn enter_head(&mut self) {
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
    fn return_to_theta(&mut self) -> bool {
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
        let v = certificate::pseudo_inverse_times(r1, d.outputs, d.phi, r2, d.z);
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

    /// Certificate at the current point, and what follows from it.
    fn examine(&mut self, over_budget: bool) -> Option<Finished> {
        if !self.return_to_theta() {
            self.state.leaves_range = true;
        }
        let theta = self.state.x.clone();
        self.theta.work = self.state.work;
        if let Some(head) = &mut self.head {
            head.work = Work::default();
        }
        let context = Context {
            tolerances: self.setup.tolerances,
            baseline: self.setup.baseline,
            linear: Some(self.setup.linear),
            seed: self.setup.seed,
        };
        let usable = certificate::head_chart_applies(self.problem(), &theta);
        let head = if usable { self.head.as_mut() } else { None };
        let e = certificate::examine(&mut self.theta, head, &theta, &context);
        self.state.work = self.theta.work;
        if let Some(head) = &self.head {
            self.state.work.add(head.work);
        }
        if self.state.leaves_range || self.state.non_finite {
            return self.conclude(e, theta);
        }
        let may_continue = !over_budget
            && self.budget_left()
            && self.state.returns < 20
            && (self.setup.polish || self.setup.method == Method::Auto);
        match &e.refusal {
            None => {
                if may_continue && let Some(lower) = self.escape(&e, &theta) {
                    self.refute(&e);
                    self.go_on_from(lower);
                    return None;
                }
                if may_continue && self.deserves_second(&e) {
                    self.begin_second(theta, e.objective);
                    return None;
                }
                self.conclude(e, theta)
            }
            Some(_) if !may_continue => self.conclude(e, theta),
            Some(Refusal::NonFinite) => self.conclude(e, theta),
            Some(Refusal::Gradient | Refusal::NewtonStep | Refusal::Kink) => {
                self.state.theta_polishes += 1;
                if self.theta.has_kinks() {
                    self.enter_head();
                }
                if self.state.theta_polishes > 3 {
                    return self.conclude(e, theta);
                }
                self.state.stage = self.begin_newton();
                None
            }
            Some(Refusal::Curvature(direction)) => {
                let direction = direction.clone();
                match direction.and_then(|d| self.lower_along(&theta, &d, e.objective)) {
                    Some(lower) => {
                        self.go_on_from(lower);
                        None
                    }
                    None => self.conclude(e, theta),
                }
            }
            Some(Refusal::HiddenDescent(direction)) => {
                let mut moved = theta.clone();
                axpy(0.1, direction, &mut moved);
                self.refute(&e);
                self.go_on_from(moved);
                None
            }
        }
    }

    /// Whether the first descent, in head coordinates, collapsed to the baseline.
    fn deserves_second(&self, e: &Examination) -> bool {
        self.state.attempt == Attempt::First
            && self.setup.method == Method::Auto
            && !self.setup.stay_in_theta
            && certificate::head_chart_applies(self.problem(), &self.start)
            && e.norm_wv.is_some_and(|wv| wv <= 1e-9 * e.norm_w.max(1.0))
    }

    fn begin_second(&mut self, trivial: Vec<f64>, value: f64) {
        self.state.attempt = Attempt::Second { trivial, value };
        self.state.x = self.start.clone();
        self.state.chart = Chart::Theta;
        self.state.growth = Growth::default();
        self.state.newtons = 0;
        self.state.returns = 0;
        self.state.theta_polishes = 0;
        self.state.stage = self.begin_descent();
    }

    /// The end, unless a second descent did worse than the first: then the
    /// first one's minimum is what was found.
    fn conclude(&mut self, e: Examination, theta: Vec<f64>) -> Option<Finished> {
        let better = match &self.state.attempt {
            Attempt::Second { value, .. } => e.refusal.is_none() && e.objective < *value,
            Attempt::First | Attempt::Settled => true,
        };
        if better {
            return Some(self.finish(e, theta));
        }
        let attempt = std::mem::replace(&mut self.state.attempt, Attempt::Settled);
        if let Attempt::Second { trivial, .. } = attempt {
            self.state.x = trivial;
        }
        self.state.chart = Chart::Theta;
        self.state.leaves_range = false;
        self.state.non_finite = false;
        self.state.stage = Stage::Examine;
        None
    }

    fn refute(&mut self, e: &Examination) {
        self.state.refuted += 1;
        if let Some(baseline) = self.setup.baseline {
            let excess = e.value - baseline.value;
            let worst = self.state.refuted_excess.map_or(excess, |w| w.max(excess));
            self.state.refuted_excess = Some(worst);
        }
    }

    fn go_on_from(&mut self, theta: Vec<f64>) {
        self.state.x = theta;
        self.state.chart = Chart::Theta;
        self.state.returns += 1;
        self.state.newtons = 0;
        self.state.theta_polishes = 0;
        if self.setup.method == Method::Auto {
            self.enter_head();
        }
        self.state.stage = self.begin_descent();
    }

    /// The lowest point found along ±direction (in variables or full θ), if it
    /// lies below `value` by more than rounding.
    fn lower_along(&mut self, theta: &[f64], direction: &[f64], value: f64) -> Option<Vec<f64>> {
        let x = self.theta.variables(theta);
        let d = if direction.len() == x.len() {
            direction.to_vec()
        } else {
            self.theta.variables(direction)
        };
        self.theta.work = self.state.work;
        let mut g = vec![0.0; x.len()];
        let mut best: Option<(f64, Vec<f64>)> = None;
        let noise = 20.0 * f64::EPSILON * value.abs().max(1e-8);
        for radius in [1.0, 1e-1, 1e-2, 1e-3, 1e-4] {
            for sign in [1.0, -1.0] {
                let mut t = x.clone();
                axpy(sign * radius, &d, &mut t);
                let f = self.theta.value_gradient(&t, &mut g);
                if f < value - noise && best.as_ref().is_none_or(|b| f < b.0) {
                    best = Some((f, t));
                }
            }
        }
        self.state.work = self.theta.work;
        best.map(|b| self.theta.full(&b.1))
    }

    /// Whether a certified point above its baseline can be left downhill
    /// (THEORY §2 "violation"): a decrease that scales like radius² along the
    /// lowest eigenvector, or along the neutral directions a vᵀ followed by W.
    fn escape(&mut self, e: &Examination, theta: &[f64]) -> Option<Vec<f64>> {
        let baseline = self.setup.baseline?;
        let tolerance = 1e-9 * baseline.value.abs().max(1.0);
        if !(e.value - baseline.value > tolerance) {
            return None;
        }
        let directions = certificate::escape_directions(&mut self.theta, theta);
        self.state.work = {
            let mut work = self.state.work;
            work.gradients += 1;
            work.evaluations += 1;
            work
        };
        let lowest = e.lowest.iter().cloned();
        directions
            .into_iter()
            .chain(lowest)
            .find_map(|d| self.lower_along(theta, &d, e.objective))
    }

    fn finish(&self, e: Examination, theta: Vec<f64>) -> Finished {
        let s = &self.state;
        let problem = self.problem();
        let stationary =
            e.gradient_norm <= self.setup.tolerances.gradient * e.objective.abs().max(1.0);
        let outcome = match &e.refusal {
            Some(Refusal::NonFinite) => Outcome::NonFinite,
            _ if s.non_finite => Outcome::NonFinite,
            _ if s.leaves_range => Outcome::Diverging,
            None if self.at_unattained_infimum(&e) => Outcome::Diverging,
            None => Outcome::CertifiedMinimum,
            Some(Refusal::Kink) => Outcome::Kink,
            Some(Refusal::Curvature(_) | Refusal::HiddenDescent(_)) if stationary => {
                Outcome::Saddle
            }
            Some(_)
                if !problem.is_coercive()
                    && (s.growth.diverges(e.objective, e.norm_theta)
                        || self.at_unattained_infimum(&e)) =>
            {
                Outcome::Diverging
            }
            Some(_) => Outcome::BudgetExhausted,
        };
        let evidence = RunEvidence {
            outcome,
            objective: e.objective,
            value: e.value,
            gradient_norm: e.gradient_norm,
            min_eigenvalue: e.min_eigenvalue,
            max_eigenvalue: e.max_eigenvalue,
            eigenvalue_method: e.method,
            eigenvalue_failure_probability: e.failure_probability,
            norm_a: e.norm_a,
            norm_b: e.norm_b,
            gap_bound: e.gap_bound,
            induced_value: e.induced_value,
            sigma_min_w: e.sigma_min_w,
            norm_theta: e.norm_theta,
            norm_u: e.norm_u,
            norm_w: e.norm_w,
            norm_wv: e.norm_wv,
            newton_step: e.newton_step,
            kinks: e.kinks,
            kink_margin: e.kink_margin,
            kink_slack: e.kink_slack,
            kink_cluster: e.kink_cluster,
            refuted: s.refuted,
            refuted_excess: s.refuted_excess,
            evaluations: s.work.evaluations,
            gradients: s.work.gradients,
            products: s.work.products,
            hessians: s.work.hessians,
            parameters: theta.len() as u64,
            curve: s.curve.points(),
        };
        Finished { evidence, theta }
    }

    /// The baseline's infimum is not attained and the run sits at it.
    fn at_unattained_infimum(&self, e: &Examination) -> bool {
        use common::record::Attainment::InfimumNotAttained;
        self.setup.baseline.is_some_and(|b| {
            b.status == InfimumNotAttained
                && (e.value - b.value).abs() <= 1e-9 * b.value.abs().max(1.0)
                && self.problem().skip() == Skip::Outer
                && self.problem().regularizer().head_decay == 0.0
        })
    }

    /// First phase by method.
    fn begin_method(&mut self) -> Stage {
        /// Steps of the first-order methods before the polish.
        const STEPS: u64 = 20_000;
        /// Epochs of stochastic descent.
        const EPOCHS: u32 = 500;
        /// Steps of Levenberg–Marquardt.
        const LEVENBERG_MARQUARDT: u64 = 500;
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
