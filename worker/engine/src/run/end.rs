//! The end of a run: the certificate at the point its phases reached, the way
//! on where it is refused, and the evidence where it is not.

use common::math::slice::axpy;
use common::record::{Outcome, RunEvidence};
use common::spec::{Optimizer as Method, Skip};

use super::growth::Growth;
use super::{Attempt, Finished, Run, Stage};
use crate::certificate::{self, Context, Examination, Refusal};
use crate::objective::{Chart, Work};

impl<'p> Run<'p> {
    /// Certificate at the current point, and what follows from it.
    pub(super) fn examine(&mut self, over_budget: bool) -> Option<Finished> {
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
            Some(Refusal::NonFinite | Refusal::Unattained) => self.conclude(e, theta),
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
    /// first one's minimum is what was found. A minimum above the baseline is never passed over.
    fn conclude(&mut self, e: Examination, theta: Vec<f64>) -> Option<Finished> {
        let better = match &self.state.attempt {
            Attempt::Second { value, .. } => {
                e.refusal.is_none() && (e.objective < *value || self.is_above_baseline(&e))
            }
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

    fn is_above_baseline(&self, e: &Examination) -> bool {
        self.setup
            .baseline
            .is_some_and(|baseline| e.value - baseline.value > 1e-9 * baseline.value.abs().max(1.0))
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
    pub(super) fn escape(&mut self, e: &Examination, theta: &[f64]) -> Option<Vec<f64>> {
        if !self.is_above_baseline(e) {
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
            .find_map(|d| self.refuting(theta, &d, e.objective))
    }

    /// A lower point along ±direction where the decrease scales like radius², down to the smallest
    /// radii that show it: lower ground further away refutes nothing.
    fn refuting(&mut self, theta: &[f64], direction: &[f64], value: f64) -> Option<Vec<f64>> {
        let x = self.theta.variables(theta);
        let d = if direction.len() == x.len() {
            direction.to_vec()
        } else {
            self.theta.variables(direction)
        };
        self.theta.work = self.state.work;
        let mut g = vec![0.0; x.len()];
        let noise = 20.0 * f64::EPSILON * value.abs().max(1e-8);
        let mut found = None;
        for sign in [1.0, -1.0] {
            let mut further: Option<(f64, Vec<f64>)> = None;
            for radius in [1e-1, 1e-2, 1e-3, 1e-4] {
                let mut t = x.clone();
                axpy(sign * radius, &d, &mut t);
                let fall = value - self.theta.value_gradient(&t, &mut g);
                if let Some((before, at)) = further.take()
                    && before > noise
                    && fall > noise
                    && fall >= before / 400.0
                {
                    found = Some(at);
                    break;
                }
                further = Some((fall, t));
            }
            if found.is_some() {
                break;
            }
        }
        self.state.work = self.theta.work;
        found.map(|t| self.theta.full(&t))
    }

    pub(super) fn finish(&self, e: Examination, theta: Vec<f64>) -> Finished {
        let s = &self.state;
        let problem = self.problem();
        let stationary =
            e.gradient_norm <= self.setup.tolerances.gradient * e.objective.abs().max(1.0);
        let outcome = match &e.refusal {
            Some(Refusal::NonFinite) => Outcome::NonFinite,
            _ if s.non_finite => Outcome::NonFinite,
            _ if s.leaves_range => Outcome::Diverging,
            None => Outcome::CertifiedMinimum,
            Some(Refusal::Unattained) => Outcome::Diverging,
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
}
