//! Descent to a minimum on kinks.
//!
//! Each [`Solver::advance`] does one of three things:
//! * a *composite step*: the model of [`super::model`] with the kinks as
//!   constraints, accepted like a Levenberg–Marquardt step; its multipliers are
//!   the next soft signs;
//! * *Newton on the manifold*: once the set of held kinks has settled, the
//!   equations ∇L_S = 0, t = τ in (x, y); quadratic, and exact at any depth
//!   because ∂(∇L_S)/∂σ_k = c_k J_k on the manifold;
//! * *inspection* ([`super::certificate`]): what it refuses says how to go on, by
//!   releasing kinks, following negative curvature or reviving a unit.
//!
//! The state between two calls is plain data.

use common::math::slice::{axpy, dot, max_abs, norm};
use serde::{Deserialize, Serialize};

use super::certificate::{Demands, Finding, free_variables, inspect, pick, reduced_hessian};
use super::field::{Field, Group, Kink, Kinked, Signs};
use super::model::{Model, Program, Step};
use super::split::Split;
use crate::linalg::{Cholesky, SymmetricEigen};
use crate::optimize::{Ask, Optimizer, Stop, lbfgs};

/// A held kink is forgotten beyond this distance.
const FAR: f64 = 1e-3;
/// Product of the lengths of in- and out-weights at which a unit counts as small.
const SMALL: f64 = 1e-3;
/// A multiplier this near to its bound holds nothing.
const IDLE: f64 = 1e-9;
/// Kinks nearer than this get an explicit side.
const TOUCH: f64 = 1e-9;
/// Steps in a row without progress before giving up.
const STUCK: u32 = 12;

/// The state of a descent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Solver {
    x: Vec<f64>,
    value: f64,
    signs: Signs,
    mu: f64,
    iterations: u32,
    limit: u32,
    stuck: u32,
    /// Iterations since the last attempt of Newton.
    rested: u32,
    /// Kinks held by the last step, to see whether the set has settled.
    last_held: Vec<Kink>,
    /// Units that are held at zero.
    collapsed: Vec<usize>,
    revivals: u32,
    demands: (f64, f64, f64),
    stop: Option<Stop>,
}

/// Everything about the current point.
struct Local {
    field: Field,
    free: Vec<usize>,
    apart: Vec<bool>,
    /// The signs of the field.
    signs: Signs,
    /// Kinks with a positive weight, with the sign that the field was taken with.
    groups: Vec<(Group, f64)>,
}

impl Solver {
    /// A descent from `x` with at most `limit` iterations.
    pub(crate) fn new(x: Vec<f64>, limit: u32, demands: Demands) -> Self {
        Self {
            x,
            value: f64::NAN,
            signs: Signs::new(),
            mu: 1e-2,
            iterations: 0,
            limit,
            stuck: 0,
            rested: 0,
            last_held: Vec::new(),
            collapsed: Vec::new(),
            revivals: 0,
            demands: (demands.gradient, demands.curvature, demands.margin),
            stop: None,
        }
    }

    /// The best point so far.
    pub(crate) fn point(&self) -> &[f64] {
        &self.x
    }

    /// Why it has stopped.
    pub(crate) fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn demands(&self) -> Demands {
        let (gradient, curvature, margin) = self.demands;
        Demands {
            gradient,
            curvature,
            margin,
        }
    }

    /// One iteration.
    pub(crate) fn advance(&mut self, k: &mut Kinked<'_, '_>) {
        if self.iterations == 0 {
            let mut g = vec![0.0; self.x.len()];
            self.value = k.value(&self.x, &mut g);
            self.collapsed = k.collapsed(&self.x);
        }
        if self.iterations >= self.limit {
            self.stop = Some(Stop::IterationLimit);
            return;
        }
        if !self.value.is_finite() {
            self.stop = Some(Stop::NonFinite);
            return;
        }
        if self.iterations.is_multiple_of(5) {
            self.collapse_small(k);
        }
        self.iterations += 1;
        self.rested += 1;
        self.composite(k);
    }

    /// Sets units to zero that are small or dead, where the objective does not rise.
    fn collapse_small(&mut self, k: &mut Kinked<'_, '_>) {
        // Without a decay nothing draws a dead unit to zero, and there it is a saddle.
        if !k.may_collapse() || k.objective.problem().regularizer().body_decay == 0.0 {
            return;
        }
        let size = |list: &[usize], x: &[f64]| {
            list.iter()
                .fold(0.0f64, |s, &i| x[i].mul_add(x[i], s))
                .sqrt()
        };
        let mut gradient = vec![0.0; self.x.len()];
        for u in 0..k.units.len() {
            if self.collapsed.contains(&u) {
                continue;
            }
            let unit = &k.units[u];
            let small = size(&unit.inputs, &self.x) * size(&unit.outputs, &self.x) <= SMALL;
            if !small && !self.is_dead(k, u) {
                continue;
            }
            let mut x = self.x.clone();
            k.units[u].parameters().for_each(|i| x[i] = 0.0);
            let f = k.value(&x, &mut gradient);
            if f <= self.value + 1e-15 {
                self.x = x;
                self.value = f;
                self.collapsed.push(u);
                let apart = k.entries_of(&self.collapsed);
                self.signs.retain(|kink, _| !apart[kink.entry]);
            }
        }
    }

    /// Whether the out-weights are moved by the decay alone: a unit without any effect.
    fn is_dead(&self, k: &mut Kinked<'_, '_>, u: usize) -> bool {
        if !k.shapes.iter().any(|s| s.left == [0.0, 0.0]) {
            return false;
        }
        let field = k.field(&self.x, &Signs::new());
        let rows = k.objective.problem().dims().rows;
        k.units[u].entries.iter().all(|&(activation, unit)| {
            (0..rows).all(|row| field.t[k.entries.index(activation, row, unit)] <= 0.0)
        })
    }

    /// The field at the current point, at the signs that are still good.
    fn local(&mut self, k: &mut Kinked<'_, '_>) -> Local {
        let apart = k.entries_of(&self.collapsed);
        let free = free_variables(k, &self.collapsed);
        let mut signs = std::mem::take(&mut self.signs);
        let mut sides = Signs::new();
        let mut groups = Vec::new();
        let mut all = signs.clone();
        let mut field = k.field(&self.x, &all);
        for round in 0..4 {
            let before = (signs.len(), sides.len());
            signs.retain(|kink, _| k.distance(&field, *kink).abs() <= FAR);
            for kink in k.within(&field, TOUCH) {
                if !apart[kink.entry] && !signs.contains_key(&kink) && !sides.contains_key(&kink) {
                    let side = self.side(k.distance(&field, kink));
                    signs.insert(kink, side);
                }
            }
            let kinks: Vec<Kink> = signs.keys().copied().collect();
            groups = k.groups(&field, &kinks);
            // Concave kinks are crossed: they get a side and no constraint.
            for g in groups.iter().filter(|g| !(g.weight > 0.0)) {
                for m in &g.members {
                    signs.remove(m);
                    if g.distance.abs() <= TOUCH {
                        sides.insert(*m, self.side(g.distance));
                    }
                }
            }
            let changed = before != (signs.len(), sides.len());
            if !changed && (round > 0 || sides.is_empty()) {
                break;
            }
            all = signs.clone();
            all.extend(sides.iter().map(|(m, s)| (*m, *s)));
            field = k.field(&self.x, &all);
        }
        groups.retain(|g| g.weight > 0.0 && signs.contains_key(&g.members[0]));
        let groups = groups
            .into_iter()
            .map(|g| {
                let sign = signs[&g.members[0]];
                (g, sign)
            })
            .collect();
        self.signs = signs;
        Local {
            field,
            free,
            apart,
            signs: all,
            groups,
        }
    }

    /// The side of a kink; where there is none, one that changes from time to time.
    fn side(&self, distance: f64) -> f64 {
        if distance > 0.0 || (distance == 0.0 && self.stuck % 2 == 1) {
            1.0
        } else {
            -1.0
        }
    }

    fn composite(&mut self, k: &mut Kinked<'_, '_>) {
        let local = self.local(k);
        let n = local.free.len();
        let gradient = pick(&local.field.gradient, &local.free);
        let h = reduced_hessian(k, &local.free);
        if !max_abs(&h).is_finite() {
            self.stop = Some(Stop::NonFinite);
            return;
        }
        let mut rows: Vec<Vec<f64>> = local
            .groups
            .iter()
            .map(|(g, _)| pick(&g.row, &local.free))
            .collect();
        let held: Vec<f64> = local
            .groups
            .iter()
            .zip(&rows)
            .filter(|((_, s), _)| s.abs() < 1.0)
            .flat_map(|(_, row)| row.iter().copied())
            .collect();
        let mut groups = local.groups.clone();
        for attempt in 0..20 {
            if attempt > 0 {
                // The trial points have taken the linearisation.
                k.field(&self.x, &local.signs);
            }
            let model = Model::new(&h, &held, n, self.mu);
            let mut program = Program::new(&model, &gradient);
            for ((g, s), row) in groups.iter().zip(&rows) {
                program.add(g, row, *s);
            }
            let step = self.grow(k, &local, &mut program, &mut groups, &mut rows);
            if !(step.predicted > 1e-16 * self.value.abs().max(1e-3)) {
                self.no_step(k, &groups, &step);
                return;
            }
            if self.attempt(k, &local, &groups, &rows, &step) {
                self.stuck = 0;
                if self.settled(&groups, &step) {
                    self.polish(k);
                }
                return;
            }
            self.mu = (4.0 * self.mu).max(1e-12);
            if self.mu > 1e12 {
                self.no_step(k, &groups, &step);
                return;
            }
        }
    }

    /// Solves the program, adding the kinks that the step would cross, until there are none.
    fn grow(
        &self,
        k: &mut Kinked<'_, '_>,
        local: &Local,
        program: &mut Program<'_>,
        groups: &mut Vec<(Group, f64)>,
        rows: &mut Vec<Vec<f64>>,
    ) -> Step {
        let mut step = program.solve();
        for _ in 0..15 {
            let d = spread(&step.d, &local.free, self.x.len());
            let rates = k.rates(&d);
            let mut crossed = Vec::new();
            for (entry, rate) in rates.iter().enumerate().filter(|(e, _)| !local.apart[*e]) {
                for which in 0..k.shapes.len() {
                    let kink = Kink { entry, which };
                    let e = k.distance(&local.field, kink);
                    if e * (e + rate) < 0.0 && k.weight(&local.field, kink) > 0.0 {
                        crossed.push(kink);
                    }
                }
            }
            let known = |kink: &Kink| groups.iter().any(|(g, _)| g.members.contains(kink));
            crossed.retain(|kink| !known(kink));
            if crossed.is_empty() {
                break;
            }
            for g in k.groups(&local.field, &crossed) {
                let row = pick(&g.row, &local.free);
                let sign = g.distance.signum();
                program.add(&g, &row, sign);
                rows.push(row);
                groups.push((g, sign));
            }
            step = program.solve();
        }
        step
    }

    /// Tries the step, corrected back to the held kinks where t is not linear.
    fn attempt(
        &mut self,
        k: &mut Kinked<'_, '_>,
        local: &Local,
        groups: &[(Group, f64)],
        rows: &[Vec<f64>],
        step: &Step,
    ) -> bool {
        let mut x = self.x.clone();
        axpy(1.0, &spread(&step.d, &local.free, x.len()), &mut x);
        let mut g = vec![0.0; x.len()];
        let mut value = k.value(&x, &mut g);
        if k.entries.parts.len() > 1
            && let Some((y, v)) = self.corrected(k, local, groups, rows, step, &x)
            && !(v >= value)
        {
            (x, value) = (y, v);
        }
        let gain = self.value - value;
        let ratio = gain / step.predicted;
        let noise = 1e-14 * self.value.abs().max(1e-3);
        let enough = gain >= 1e-4 * step.predicted || (step.predicted < noise && gain >= 0.0);
        if !enough {
            return false;
        }
        if ratio > 0.9 {
            self.mu /= 10.0;
        } else if ratio > 0.75 {
            self.mu /= 4.0;
        } else if ratio < 0.25 {
            self.mu *= 3.0;
        }
        self.mu = self.mu.max(1e-14);
        self.x = x;
        self.value = value;
        self.take_signs(groups, step);
        true
    }

    fn take_signs(&mut self, groups: &[(Group, f64)], step: &Step) {
        self.signs.clear();
        for ((g, _), y) in groups.iter().zip(&step.y) {
            let sign = (y / g.weight).clamp(-1.0, 1.0);
            if sign.abs() < 1.0 {
                self.signs.extend(g.members.iter().map(|m| (*m, sign)));
            }
        }
    }

    /// Two Gauss–Newton steps onto the held kinks, with the gradients from before the step.
    fn corrected(
        &self,
        k: &mut Kinked<'_, '_>,
        local: &Local,
        groups: &[(Group, f64)],
        rows: &[Vec<f64>],
        step: &Step,
        x: &[f64],
    ) -> Option<(Vec<f64>, f64)> {
        let inside: Vec<usize> = (0..groups.len())
            .filter(|&i| step.y[i].abs() < groups[i].0.weight)
            .collect();
        if inside.is_empty() {
            return None;
        }
        let held: Vec<f64> = inside
            .iter()
            .flat_map(|&i| rows[i].iter().copied())
            .collect();
        let split = Split::new(&held, local.free.len());
        let mut x = x.to_vec();
        for _ in 0..2 {
            let field = k.field(&x, &Signs::new());
            let e: Vec<f64> = inside
                .iter()
                .map(|&i| -k.distance(&field, groups[i].0.members[0]))
                .collect();
            let d = split.combine(0, &split.least_norm(&e));
            axpy(1.0, &spread(&d, &local.free, x.len()), &mut x);
        }
        let mut g = vec![0.0; x.len()];
        let value = k.value(&x, &mut g);
        Some((x, value))
    }

    /// Whether Newton should be tried: the held set is that of the last step.
    fn settled(&mut self, groups: &[(Group, f64)], step: &Step) -> bool {
        let mut held: Vec<Kink> = groups
            .iter()
            .zip(&step.y)
            .filter(|((g, _), y)| y.abs() < g.weight)
            .map(|((g, _), _)| g.members[0])
            .collect();
        held.sort();
        let same = held == self.last_held;
        self.last_held = held;
        same && step.predicted < 1e-2 * self.value.abs().max(1e-3) && self.rested >= 3
    }

    /// The model sees no way down: Newton, a new element of the subdifferential, or the end.
    fn no_step(&mut self, k: &mut Kinked<'_, '_>, groups: &[(Group, f64)], step: &Step) {
        self.take_signs(groups, step);
        self.stuck += 1;
        self.mu = self.mu.clamp(1e-12, 1.0);
        if self.polish(k) {
            return;
        }
        if self.stuck > STUCK {
            self.stop = Some(Stop::Stalled);
        }
    }

    /// Newton on the manifold, then the inspection; `true` when that decided something.
    fn polish(&mut self, k: &mut Kinked<'_, '_>) -> bool {
        self.rested = 0;
        self.collapse_small(k);
        let (x, signs) = match self.newton(k) {
            Some(found) => found,
            // No step is left: the point itself may be what was looked for.
            None if self.stuck == 1 => (self.x.clone(), self.signs.clone()),
            None => return false,
        };
        let mut g = vec![0.0; x.len()];
        let value = k.value(&x, &mut g);
        if !(value <= self.value + 1e-12 * self.value.abs().max(1e-3)) {
            return false;
        }
        let found = inspect(k, &x, &self.demands());
        let lower = value < self.value;
        match found.finding.clone() {
            Finding::Minimum | Finding::Undecided => {
                self.x = x;
                self.value = value;
                self.signs = found.signs;
                self.stop = Some(Stop::Converged);
                true
            }
            Finding::Revives(at) => {
                self.revivals += 1;
                if self.revivals > 40 {
                    self.x = x;
                    self.value = value;
                    self.stop = Some(Stop::Stalled);
                    return true;
                }
                self.restart(k, at);
                true
            }
            Finding::Curvature(direction) | Finding::Descent(direction) => {
                let base = if lower { x.clone() } else { self.x.clone() };
                if lower {
                    self.x = x;
                    self.value = value;
                }
                self.follow(k, &base, &direction, &found.signs)
            }
            Finding::Outside if found.slack.is_some_and(|s| s.abs() <= IDLE) => {
                self.release_idle(k, &x, value, &found.signs)
            }
            _ if lower => {
                self.x = x;
                self.value = value;
                let signs = if found.cluster > 0 {
                    found.signs
                } else {
                    signs
                };
                self.signs = signs.into_iter().filter(|(_, s)| s.abs() < 1.0).collect();
                false
            }
            _ => false,
        }
    }

    /// A kink whose multiplier is at its bound holds nothing: the point lies at the
    /// end of a flat valley. Moves back into the valley, off such kinks.
    fn release_idle(
        &mut self,
        k: &mut Kinked<'_, '_>,
        x: &[f64],
        value: f64,
        signs: &Signs,
    ) -> bool {
        let free = free_variables(k, &self.collapsed);
        let field = k.field(x, signs);
        let kinks: Vec<Kink> = signs.keys().copied().collect();
        let groups = k.groups(&field, &kinks);
        let gradient = pick(&field.gradient, &free);
        let h = reduced_hessian(k, &free);
        let rows: Vec<f64> = groups.iter().flat_map(|g| pick(&g.row, &free)).collect();
        // The side on which the objective does not rise, for the idle ones.
        let side = |g: &Group| {
            let sign = signs[&g.members[0]];
            (g.weight * (1.0 - sign.abs()) <= IDLE).then_some(sign.signum())
        };
        for size in [1e-2, 1e-3, 1e-4] {
            let e: Vec<f64> = groups
                .iter()
                .map(|g| side(g).map_or(-g.distance, |s| size * s))
                .collect();
            let Some((d, _)) = manifold_step(&rows, &h, &gradient, &e, free.len()) else {
                return false;
            };
            let mut trial = self.clone();
            trial.x = x.to_vec();
            axpy(1.0, &spread(&d, &free, x.len()), &mut trial.x);
            let held = groups.iter().filter(|g| side(g).is_none());
            trial.signs = held
                .flat_map(|g| g.members.iter().map(|m| (*m, signs[m])))
                .collect();
            let Some((y, _)) = trial.newton(k) else {
                continue;
            };
            let mut g = vec![0.0; y.len()];
            let at = k.value(&y, &mut g);
            if !(at <= value + 1e-13 * value.abs().max(1e-3)) {
                continue;
            }
            let found = inspect(k, &y, &self.demands());
            if let Finding::Minimum = found.finding {
                self.x = y;
                self.value = at;
                self.signs = found.signs;
                self.stop = Some(Stop::Converged);
                return true;
            }
        }
        false
    }

    /// Line search along ±direction, also along the manifold of the held kinks:
    /// where it bends, a straight line would pay for leaving them.
    fn follow(
        &mut self,
        k: &mut Kinked<'_, '_>,
        x: &[f64],
        direction: &[f64],
        signs: &Signs,
    ) -> bool {
        let field = k.field(x, signs);
        let kinks: Vec<Kink> = signs.keys().copied().collect();
        let groups = k.groups(&field, &kinks);
        let rows: Vec<f64> = groups.iter().flat_map(|g| g.row.iter().copied()).collect();
        let split = Split::new(&rows, x.len());
        let mut g = vec![0.0; x.len()];
        let mut best: Option<(f64, Vec<f64>)> = None;
        for size in [1.0, 0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4] {
            for sign in [1.0, -1.0] {
                let mut y = x.to_vec();
                axpy(sign * size, direction, &mut y);
                for correction in 0..4 {
                    if correction > 0 && groups.is_empty() {
                        break;
                    }
                    if correction > 0 {
                        let field = k.field(&y, &Signs::new());
                        let off: Vec<f64> = groups
                            .iter()
                            .map(|g| -k.distance(&field, g.members[0]))
                            .collect();
                        axpy(1.0, &split.combine(0, &split.least_norm(&off)), &mut y);
                    }
                    if correction == 1 || correction == 2 {
                        continue;
                    }
                    let f = k.value(&y, &mut g);
                    if f < self.value - 1e-14 * self.value.abs().max(1e-3)
                        && best.as_ref().is_none_or(|b| f < b.0)
                    {
                        best = Some((f, y.clone()));
                    }
                }
            }
        }
        let Some((f, y)) = best else { return false };
        self.x = y;
        self.value = f;
        self.signs.clear();
        self.mu = 1e-2;
        true
    }

    /// Goes on from a lower point elsewhere, a few cheap gradients first.
    fn restart(&mut self, k: &mut Kinked<'_, '_>, x: Vec<f64>) {
        let settings = lbfgs::Settings {
            memory: 20,
            gradient: 1e-6,
            iterations: 60,
            bound: 1e10,
        };
        let mut g = vec![0.0; x.len()];
        let mut l = lbfgs::Lbfgs::new(x, settings);
        while let Ask::Gradient(at) = l.ask() {
            let f = k.value(at, &mut g);
            l.tell_gradient(f, &g);
        }
        self.x = l.point().to_vec();
        self.value = l.value();
        self.collapsed = k.collapsed(&self.x);
        self.signs.clear();
        self.mu = 1e-2;
        self.stuck = 0;
        self.last_held.clear();
    }

    /// Solves ∇L_S = 0, t = τ from the current point and signs.
    fn newton(&self, k: &mut Kinked<'_, '_>) -> Option<(Vec<f64>, Signs)> {
        const STEPS: usize = 12;
        let free = free_variables(k, &self.collapsed);
        let mut x = self.x.clone();
        let mut signs: Signs = self
            .signs
            .iter()
            .filter(|(_, s)| s.abs() < 1.0)
            .map(|(m, s)| (*m, *s))
            .collect();
        let kinks: Vec<Kink> = signs.keys().copied().collect();
        let mut best = f64::INFINITY;
        let mut kept = None;
        for step in 0..STEPS {
            let field = k.field(&x, &signs);
            let groups = k.groups(&field, &kinks);
            let gradient = pick(&field.gradient, &free);
            let off = groups.iter().fold(0.0f64, |m, g| m.max(g.distance.abs()));
            let residual = max_abs(&gradient).max(off);
            if !residual.is_finite() {
                return None;
            }
            if residual <= 1e-14 {
                return Some((x, signs));
            }
            if (best <= 1e-10 && residual > 0.3 * best) || (step > 4 && residual > 1e-3) {
                break;
            }
            if residual < best {
                best = residual;
                kept = Some((x.clone(), signs.clone()));
            }
            let h = reduced_hessian(k, &free);
            let rows: Vec<f64> = groups.iter().flat_map(|g| pick(&g.row, &free)).collect();
            let e: Vec<f64> = groups.iter().map(|g| -g.distance).collect();
            let (d, dy) = manifold_step(&rows, &h, &gradient, &e, free.len())?;
            axpy(1.0, &spread(&d, &free, x.len()), &mut x);
            for (g, dy) in groups.iter().zip(&dy) {
                if g.weight.abs() > 1e-300 {
                    for m in &g.members {
                        if let Some(s) = signs.get_mut(m) {
                            *s = (*s + dy / g.weight).clamp(-10.0, 10.0);
                        }
                    }
                }
            }
        }
        kept.filter(|_| best <= 1e-9)
    }
}

/// The Newton step of the manifold: J d = e, and H d + Jᵀ Δy = −g.
fn manifold_step(
    rows: &[f64],
    h: &[f64],
    g: &[f64],
    e: &[f64],
    n: usize,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let split = Split::new(rows, n);
    let k = split.rank;
    let mut d = split.combine(0, &split.least_norm(e));
    let apply = |d: &[f64]| -> Vec<f64> {
        let mut out = g.to_vec();
        for (o, row) in out.iter_mut().zip(h.chunks_exact(n)) {
            *o += dot(row, d);
        }
        out
    };
    let mut right = split.coordinates(&apply(&d)).split_off(k);
    right.iter_mut().for_each(|v| *v = -*v);
    let size = n - k;
    if size > 0 {
        let rotated = split.rotate(h);
        let mut reduced = Vec::with_capacity(size * size);
        for i in k..n {
            reduced.extend_from_slice(&rotated[i * n + k..][..size]);
        }
        if let Ok(factor) = Cholesky::new(reduced.clone(), size) {
            factor.solve(&mut right);
        } else {
            let eigen = SymmetricEigen::new(reduced, size);
            let top = eigen.values.iter().fold(0.0f64, |m, w| m.max(w.abs()));
            let mut out = vec![0.0; size];
            for (i, w) in eigen
                .values
                .iter()
                .enumerate()
                .filter(|(_, w)| w.abs() > 1e-12 * top)
            {
                let v = eigen.vector(i);
                axpy(dot(v, &right) / w, v, &mut out);
            }
            right = out;
        }
        axpy(1.0, &split.combine(k, &right), &mut d);
    }
    if !norm(&d).is_finite() {
        return None;
    }
    let mut left = split.coordinates(&apply(&d));
    left.iter_mut().for_each(|v| *v = -*v);
    Some((d, split.multipliers(&left)))
}

/// A vector of the free variables among all.
fn spread(d: &[f64], free: &[usize], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n];
    for (&i, d) in free.iter().zip(d) {
        out[i] = *d;
    }
    out
}
