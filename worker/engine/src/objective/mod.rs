//! The objective of CONTRACT §1 in two charts.
//!
//! For `skip: outer` the network depends on θ = (W, V, u) only through
//! π(θ) = (W, W V, u), the *head coordinates* (R₁, R₂, u). The program computes
//! the mean loss F₀(R₁, R₂, u); with the penalties
//!
//! F(R₁, R₂, u) = F₀ + (r/2)(‖R₁‖² + ‖R₂‖²) + (λ/2)‖u‖²,
//! L(θ) = F(π(θ)) + (h/2)(‖W‖² + ‖V‖²).
//!
//! With A = ∂F/∂R₁ and B = ∂F/∂R₂ (the A and B of THEORY §1):
//!
//! * ∂L/∂W = A + B Vᵀ + hW, ∂L/∂V = Wᵀ B + hV, ∂L/∂u = ∂F/∂u;
//! * for a direction (Ẇ, V̇, u̇), with (H₁, H₂, H_u) = ∇²F·(Ẇ, Ẇ V + W V̇, u̇):
//!   W: H₁ + H₂ Vᵀ + B V̇ᵀ + hẆ, V: Wᵀ H₂ + Ẇᵀ B + hV̇, u: H_u.
//!
//! `skip: none` and `chain` have one chart, θ itself, with the penalties that
//! CONTRACT §1 lists for them. A frozen body takes its parameters out of the
//! variables.

mod evaluator;
mod penalty;
mod problem;
mod residuals;

pub(crate) use evaluator::Entries;
pub use evaluator::Evaluator;
pub use problem::{Arrays, BLOCK_ROWS, Dims, Problem};

use common::math::Isa;
use common::spec::Skip;

use crate::linalg::{multiply, multiply_nt, multiply_tn};

/// Coordinates of the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Chart {
    /// (R₁, R₂, u); only for `skip: outer` without `head_decay`.
    Head,
    /// θ, in the flat order of CONTRACT §1.
    Theta,
}

/// Counts of the work done, in the units of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Work {
    /// Objective-and-gradient evaluations.
    pub gradients: u64,
    /// Hessian-vector products outside dense Hessians.
    pub products: u64,
    /// Dense Hessians.
    pub hessians: u64,
    /// Total: gradients + 2·products + 2p·hessians.
    pub evaluations: u64,
}

impl Work {
    /// Adds the work of another objective.
    pub fn add(&mut self, other: Self) {
        self.gradients += other.gradients;
        self.products += other.products;
        self.hessians += other.hessians;
        self.evaluations += other.evaluations;
    }
}

/// Value and derivatives of the objective in one chart.
#[derive(Debug)]
pub struct Objective<'p> {
    evaluator: Evaluator<'p>,
    chart: Chart,
    /// The body's parameters when they are frozen.
    frozen: Option<Vec<f64>>,
    q: Vec<f64>,
    gradient_q: Vec<f64>,
    /// Variables and ∂F/∂q of the last linearisation.
    at: Vec<f64>,
    at_gradient: Vec<f64>,
    directions: Vec<f64>,
    results: Vec<f64>,
    residuals: residuals::Residuals,
    /// Program coordinates of the point of `residuals`.
    q_residuals: Vec<f64>,
    /// Work done so far.
    pub work: Work,
}

impl<'p> Objective<'p> {
    /// The objective of a problem. `frozen` holds u when the body is frozen.
    ///
    /// # Panics
    /// If `chart` is `Head` for another skip than `outer` or with `head_decay`.
    pub fn new(
        problem: &'p Problem,
        chart: Chart,
        frozen: Option<Vec<f64>>,
        isa: Isa,
        threads: usize,
    ) -> Self {
        if chart == Chart::Head {
            assert!(
                problem.skip == Skip::Outer,
                "head coordinates need the outer skip"
            );
            assert!(
                problem.regularizer.head_decay == 0.0,
                "head coordinates need no head decay"
            );
        }
        Self {
            evaluator: Evaluator::new(problem, isa, threads),
            chart,
            frozen,
            q: vec![0.0; problem.program_len()],
            gradient_q: vec![0.0; problem.program_len()],
            at: Vec::new(),
            at_gradient: Vec::new(),
            directions: Vec::new(),
            results: Vec::new(),
            residuals: residuals::Residuals::default(),
            q_residuals: Vec::new(),
            work: Work::default(),
        }
    }

    /// The problem.
    pub fn problem(&self) -> &'p Problem {
        self.evaluator.problem()
    }

    /// The chart.
    pub fn chart(&self) -> Chart {
        self.chart
    }

    /// The evaluator, for what works on the program's coordinates.
    pub fn evaluator(&mut self) -> &mut Evaluator<'p> {
        &mut self.evaluator
    }

    fn full_len(&self) -> usize {
        match self.chart {
            Chart::Head => self.problem().program_len(),
            Chart::Theta => self.problem().theta_len(),
        }
    }

    /// Whether kinks can move: the activation has some and the body is not frozen.
    pub fn has_kinks(&self) -> bool {
        self.frozen.is_none() && !self.problem().kinks.is_empty()
    }

    /// Whether the body is kept as it is.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Number of parameters of the body.
    pub fn body_len(&self) -> usize {
        penalty::body_len(self.problem())
    }

    /// Number of variables.
    pub fn len(&self) -> usize {
        self.full_len() - self.frozen.as_ref().map_or(0, Vec::len)
    }

    /// Whether there is nothing to optimise.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what is frozen.
    fn complete(&self, x: &[f64]) -> Vec<f64> {
        let mut full = x.to_vec();
        if let Some(u) = &self.frozen {
            penalty::insert_body(self.problem(), &mut full, u);
        }
        full
    }

    /// The variables among the entries of a full vector of this chart.
    pub fn variables(&self, full: &[f64]) -> Vec<f64> {
        let mut x = full.to_vec();
        if self.frozen.is_some() {
            penalty::remove_body(self.problem(), &mut x);
        }
        x
    }

    /// A full vector of this chart from variables.
    pub fn full(&self, x: &[f64]) -> Vec<f64> {
        self.complete(x)
    }

    /// u, the body's parameters, of a full vector of this chart.
    pub fn body_of(&self, full: &[f64]) -> Vec<f64> {
        penalty::body_of(self.problem(), full)
    }

    /// ∂F/∂q at the last evaluated point, q in program coordinates: for
    /// `skip: outer` the first d_y·d_φ entries are A, the next d_y·d_z are B.
    pub fn program_gradient(&self) -> &[f64] {
        &self.gradient_q
    }

    /// z `[n, d_z]` at a full θ.
    pub fn representation(&mut self, theta: &[f64]) -> Vec<f64> {
        let mut q = vec![0.0; self.problem().program_len()];
        Self::to_program(self.problem(), theta, &mut q);
        self.evaluator.representation(&q)
    }

    /// Whether products and the Hessian refer to this point.
    pub fn is_linearized_at(&self, x: &[f64]) -> bool {
        self.at == x
    }

    /// Linearises at `x` again if need be (after a restart); not counted as work.
    pub fn ensure_linearized(&mut self, x: &[f64]) {
        if self.at != x {
            let work = self.work;
            let mut g = vec![0.0; x.len()];
            self.linearize(x, &mut g);
            self.work = work;
        }
    }

    /// A gradient by program coordinates of a quantity that depends on the body
    /// alone (for a chain: on everything), as a gradient by the variables.
    pub(crate) fn pull_back_entry(&self, row: &[f64]) -> Vec<f64> {
        let problem = self.problem();
        let mut full = match (self.chart, problem.skip) {
            (Chart::Theta, Skip::Outer) => {
                let body = penalty::body_len(problem);
                let mut out = vec![0.0; problem.theta_len()];
                let at = out.len() - body;
                out[at..].copy_from_slice(&row[row.len() - body..]);
                out
            }
            _ => row.to_vec(),
        };
        if self.frozen.is_some() {
            penalty::remove_body(problem, &mut full);
        }
        full
    }

    /// Sets the entries that use a mix of the pieces of a kink, per block; see
    /// [`Evaluator::set_patches`]. Products need a new linearisation.
    pub(crate) fn set_patches(&mut self, patches: Vec<Vec<crate::program::Patch>>) {
        self.evaluator.set_patches(patches);
        self.at.clear();
    }

    /// The variables that a parameter of the program's coordinates depends on
    /// with the body at rest: itself, or for R₂\[·, j\] in θ the column V\[·, j\].
    ///
    /// # Panics
    /// If the body is frozen.
    pub(crate) fn variables_of(&self, parameter: usize) -> Vec<usize> {
        assert!(self.frozen.is_none(), "a frozen body has no variables");
        let problem = self.problem();
        if self.chart == Chart::Head || problem.skip != Skip::Outer {
            return vec![parameter];
        }
        let d = problem.dims;
        let (r1, r2) = (d.outputs * d.phi, d.outputs * d.z);
        match parameter {
            i if i < r1 => vec![i],
            i if i < r1 + d.z => (0..d.phi).map(|k| r1 + k * d.z + i - r1).collect(),
            // The other rows of R₂ name the same columns.
            i if i < r1 + r2 => Vec::new(),
            i => vec![i - r2 + d.phi * d.z],
        }
    }

    /// A direction of the variables at the last linearised point, in program coordinates.
    pub(crate) fn push_forward_direction(&self, direction: &[f64]) -> Vec<f64> {
        let problem = self.problem();
        let full_v = if self.frozen.is_some() {
            let mut v = direction.to_vec();
            penalty::insert_body(problem, &mut v, &vec![0.0; penalty::body_len(problem)]);
            v
        } else {
            direction.to_vec()
        };
        match self.chart {
            Chart::Head => full_v,
            Chart::Theta => {
                let mut out = vec![0.0; problem.program_len()];
                push_forward(problem, &self.complete(&self.at), &full_v, &mut out);
                out
            }
        }
    }

    /// π(θ): full θ to program coordinates.
    pub fn to_program(problem: &Problem, theta: &[f64], q: &mut [f64]) {
        if problem.skip != Skip::Outer {
            q.copy_from_slice(theta);
            return;
        }
        let d = problem.dims;
        let (w, rest) = theta.split_at(d.outputs * d.phi);
        let (v, u) = rest.split_at(d.phi * d.z);
        let (r1, rest) = q.split_at_mut(d.outputs * d.phi);
        let (r2, body) = rest.split_at_mut(d.outputs * d.z);
        r1.copy_from_slice(w);
        multiply(w, v, r2, d.outputs, d.phi, d.z, false);
        body.copy_from_slice(u);
    }

    fn load(&mut self, x: &[f64]) {
        assert_eq!(x.len(), self.len(), "variables");
        let problem = self.problem();
        let mut q = std::mem::take(&mut self.q);
        match (self.chart, &self.frozen) {
            (Chart::Head, None) => q.copy_from_slice(x),
            (Chart::Theta, None) => Self::to_program(problem, x, &mut q),
            (Chart::Head, Some(_)) => q.copy_from_slice(&self.complete(x)),
            (Chart::Theta, Some(_)) => Self::to_program(problem, &self.complete(x), &mut q),
        }
        self.q = q;
    }

    /// Objective at `x`; writes the gradient.
    ///
    /// # Panics
    /// If the lengths are not [`Objective::len`].
    pub fn value_gradient(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
        self.evaluate(x, gradient, false)
    }

    /// As [`Objective::value_gradient`], and prepares products at `x`.
    pub fn linearize(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let value = self.evaluate(x, gradient, true);
        self.at.clear();
        self.at.extend_from_slice(x);
        self.at_gradient.clear();
        self.at_gradient.extend_from_slice(&self.gradient_q);
        value
    }

    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64], linearize: bool) -> f64 {
        assert_eq!(gradient.len(), self.len(), "gradient");
        self.work.gradients += 1;
        self.work.evaluations += 1;
        self.load(x);
        self.gradient_q.fill(0.0);
        let loss = if linearize {
            self.evaluator.linearize(&self.q, &mut self.gradient_q)
        } else {
            self.evaluator.value_gradient(&self.q, &mut self.gradient_q)
        };
        let penalty = penalty::add(self.problem(), &self.q, &mut self.gradient_q);
        let value = loss + penalty;
        self.pull_back(x, gradient, value)
    }

    /// ∂F/∂q (in `gradient_q`) to the chart; adds the head decay.
    fn pull_back(&mut self, x: &[f64], gradient: &mut [f64], value: f64) -> f64 {
        let problem = self.problem();
        match (self.chart, &self.frozen) {
            (Chart::Head, None) => {
                gradient.copy_from_slice(&self.gradient_q);
                value
            }
            (Chart::Theta, None) => to_theta(problem, x, &self.gradient_q, gradient) + value,
            (chart, Some(_)) => {
                let full = self.complete(x);
                let mut g = vec![0.0; full.len()];
                let extra = match chart {
                    Chart::Head => {
                        g.copy_from_slice(&self.gradient_q);
                        0.0
                    }
                    Chart::Theta => to_theta(problem, &full, &self.gradient_q, &mut g),
                };
                penalty::remove_body(problem, &mut g);
                gradient.copy_from_slice(&g);
                value + extra
            }
        }
    }

    /// out = H·v at the point of the last [`Objective::linearize`], for `count` vectors.
    ///
    /// # Panics
    /// If nothing has been linearised or lengths differ.
    pub fn products(&mut self, v: &[f64], out: &mut [f64]) {
        let count = v.len() / self.len().max(1);
        self.work.products += count as u64;
        self.work.evaluations += 2 * count as u64;
        self.products_uncounted(v, out);
    }

    fn products_uncounted(&mut self, v: &[f64], out: &mut [f64]) {
        let n = self.len();
        assert_eq!(self.at.len(), n, "linearize first");
        assert_eq!(v.len(), out.len(), "directions and results");
        let problem = self.problem();
        let p = problem.program_len();
        let count = v.len() / n;
        let mut directions = std::mem::take(&mut self.directions);
        let mut results = std::mem::take(&mut self.results);
        directions.resize(count * p, 0.0);
        results.clear();
        results.resize(count * p, 0.0);
        let frozen = self.frozen.is_some();
        let full_at = if frozen {
            self.complete(&self.at)
        } else {
            Vec::new()
        };
        let at: &[f64] = if frozen { &full_at } else { &self.at };
        let mut full_v = Vec::new();
        for (v, d) in v.chunks_exact(n).zip(directions.chunks_exact_mut(p)) {
            let v: &[f64] = if frozen {
                full_v.clear();
                full_v.extend_from_slice(v);
                penalty::insert_body(problem, &mut full_v, &vec![0.0; penalty::body_len(problem)]);
                &full_v
            } else {
                v
            };
            match self.chart {
                Chart::Head => d.copy_from_slice(v),
                Chart::Theta => push_forward(problem, at, v, d),
            }
        }
        self.evaluator.products(&directions, &mut results);
        let mut full_out = Vec::new();
        let work = v.chunks_exact(n).zip(out.chunks_exact_mut(n));
        for (i, (v, o)) in work.enumerate() {
            let (d, h) = (&directions[i * p..][..p], &mut results[i * p..][..p]);
            penalty::add_product(problem, &self.q, d, h);
            if frozen {
                full_v.clear();
                full_v.extend_from_slice(v);
                penalty::insert_body(problem, &mut full_v, &vec![0.0; penalty::body_len(problem)]);
                full_out.clear();
                full_out.resize(at.len(), 0.0);
                match self.chart {
                    Chart::Head => full_out.copy_from_slice(h),
                    Chart::Theta => {
                        product_to_theta(problem, at, &full_v, &self.at_gradient, h, &mut full_out);
                    }
                }
                penalty::remove_body(problem, &mut full_out);
                o.copy_from_slice(&full_out);
            } else {
                match self.chart {
                    Chart::Head => o.copy_from_slice(h),
                    Chart::Theta => product_to_theta(problem, at, v, &self.at_gradient, h, o),
                }
            }
        }
        self.directions = directions;
        self.results = results;
    }

    /// out = (H − G)·v at `x`, G the Gauss–Newton matrix: what the residuals and the second
    /// derivatives of the network add to it. Counts as two products.
    pub(crate) fn beyond_gauss_newton(&mut self, x: &[f64], v: &[f64], out: &mut [f64]) {
        self.ensure_linearized(x);
        self.products(v, out);
        let mut own = vec![0.0; v.len()];
        let work = self.work;
        self.evaluator.set_gauss_newton(true);
        self.linearize(x, &mut own);
        self.work = work;
        self.at_gradient.fill(0.0);
        self.products(v, &mut own);
        self.evaluator.set_gauss_newton(false);
        self.at.clear();
        for (o, g) in out.iter_mut().zip(&own) {
            *o -= g;
        }
    }

    /// The dense generalised Gauss–Newton matrix Jᵀ ℓ″ J plus that of the
    /// penalties at `x`, with J the derivative of the outputs (Schraudolph 2002):
    /// positive semi-definite. Costs a Hessian and an evaluation.
    pub fn gauss_newton(&mut self, x: &[f64], h: &mut [f64]) {
        let mut gradient = vec![0.0; x.len()];
        self.evaluator.set_gauss_newton(true);
        self.linearize(x, &mut gradient);
        // θ → (W, WV, u) is part of the model: its curvature is left out too.
        self.at_gradient.fill(0.0);
        self.hessian(h);
        self.evaluator.set_gauss_newton(false);
        self.at.clear();
    }

    /// The dense Hessian, row-major and exactly symmetric, at the last linearisation.
    pub fn hessian(&mut self, h: &mut [f64]) {
        /// Products at a time.
        const BATCH: usize = 16;
        let n = self.len();
        assert_eq!(h.len(), n * n, "hessian");
        self.work.hessians += 1;
        self.work.evaluations += 2 * n as u64;
        let mut unit = vec![0.0; BATCH * n];
        for first in (0..n).step_by(BATCH) {
            let count = BATCH.min(n - first);
            for i in 0..count {
                unit[i * n + first + i] = 1.0;
            }
            self.products_uncounted(&unit[..count * n], &mut h[first * n..][..count * n]);
            for i in 0..count {
                unit[i * n + first + i] = 0.0;
            }
        }
        for i in 0..n {
            for j in 0..i {
                let mean = 0.5 * (h[i * n + j] + h[j * n + i]);
                h[i * n + j] = mean;
                h[j * n + i] = mean;
            }
        }
    }
}

/// Gradient in program coordinates to θ; returns the head decay's value.
fn to_theta(problem: &Problem, theta: &[f64], g: &[f64], out: &mut [f64]) -> f64 {
    if problem.skip != Skip::Outer {
        out.copy_from_slice(g);
        return 0.0;
    }
    let d = problem.dims;
    let decay = problem.regularizer.head_decay;
    let (w, rest) = theta.split_at(d.outputs * d.phi);
    let (v, _) = rest.split_at(d.phi * d.z);
    let (a, rest) = g.split_at(d.outputs * d.phi);
    let (b, gu) = rest.split_at(d.outputs * d.z);
    let (gw, rest) = out.split_at_mut(d.outputs * d.phi);
    let (gv, out_u) = rest.split_at_mut(d.phi * d.z);
    gw.copy_from_slice(a);
    multiply_nt(b, v, gw, d.outputs, d.z, d.phi, true);
    multiply_tn(w, b, gv, d.phi, d.outputs, d.z, false);
    out_u.copy_from_slice(gu);
    if decay == 0.0 {
        return 0.0;
    }
    common::math::slice::axpy(decay, w, gw);
    common::math::slice::axpy(decay, v, gv);
    0.5 * decay * (common::math::slice::norm_squared(w) + common::math::slice::norm_squared(v))
}

/// Dπ·(Ẇ, V̇, u̇).
fn push_forward(problem: &Problem, theta: &[f64], dot: &[f64], out: &mut [f64]) {
    if problem.skip != Skip::Outer {
        out.copy_from_slice(dot);
        return;
    }
    let d = problem.dims;
    let (w, rest) = theta.split_at(d.outputs * d.phi);
    let (v, _) = rest.split_at(d.phi * d.z);
    let (w_dot, rest) = dot.split_at(d.outputs * d.phi);
    let (v_dot, u_dot) = rest.split_at(d.phi * d.z);
    let (o1, rest) = out.split_at_mut(d.outputs * d.phi);
    let (o2, ou) = rest.split_at_mut(d.outputs * d.z);
    o1.copy_from_slice(w_dot);
    multiply(w_dot, v, o2, d.outputs, d.phi, d.z, false);
    multiply(w, v_dot, o2, d.outputs, d.phi, d.z, true);
    ou.copy_from_slice(u_dot);
}

/// ∇²F·Dπ v to ∇²L·v.
fn product_to_theta(
    problem: &Problem,
    theta: &[f64],
    dot: &[f64],
    gradient_q: &[f64],
    h: &[f64],
    out: &mut [f64],
) {
    if problem.skip != Skip::Outer {
        out.copy_from_slice(h);
        return;
    }
    let d = problem.dims;
    let decay = problem.regularizer.head_decay;
    let (w, rest) = theta.split_at(d.outputs * d.phi);
    let (v, _) = rest.split_at(d.phi * d.z);
    let (w_dot, rest) = dot.split_at(d.outputs * d.phi);
    let (v_dot, _) = rest.split_at(d.phi * d.z);
    let b = &gradient_q[d.outputs * d.phi..][..d.outputs * d.z];
    let (h1, rest) = h.split_at(d.outputs * d.phi);
    let (h2, hu) = rest.split_at(d.outputs * d.z);
    let (ow, rest) = out.split_at_mut(d.outputs * d.phi);
    let (ov, ou) = rest.split_at_mut(d.phi * d.z);
    ow.copy_from_slice(h1);
    multiply_nt(h2, v, ow, d.outputs, d.z, d.phi, true);
    multiply_nt(b, v_dot, ow, d.outputs, d.z, d.phi, true);
    multiply_tn(w, h2, ov, d.phi, d.outputs, d.z, false);
    multiply_tn(w_dot, b, ov, d.phi, d.outputs, d.z, true);
    ou.copy_from_slice(hu);
    if decay != 0.0 {
        common::math::slice::axpy(decay, w_dot, ow);
        common::math::slice::axpy(decay, v_dot, ov);
    }
}
