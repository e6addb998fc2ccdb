//! What is true at a point that may sit on kinks.
//!
//! Everything is computed from the point alone:
//! 1. K = the pre-activations within [`ON`] of a kink; all others must keep a margin.
//! 2. The multipliers y of A₀ᵀ y = −g₀, A₀ and g₀ at soft signs 0; then, layer by
//!    layer from the last, c and σ = y/c.
//! 3. ∇L_S = 0 at those σ, c > 0 and c − |y| > 0: the objective grows linearly off
//!    the manifold {t = τ on K}, in every direction, at any depth.
//! 4. ∇²L_S on the tangent space of the manifold, where it is the exact Hessian.
//! 5. Units of zeros: [`super::collapse`].

use common::math::slice::{axpy, dot, max_abs, norm};

use super::center::center;
use super::collapse::{self, Collapse};
use super::dependent;
use super::field::{Field, Group, Kink, Kinked, Signs};
use super::reach;
use super::shape::distance_from_unplaced;
use super::split::Split;
use crate::linalg::Tridiagonal;
use crate::objective::Objective;

/// A pre-activation this near to a kink counts as on it.
pub(super) const ON: f64 = 1e-10;
/// Smallest multiplier slack that counts as positive.
const SLACK: f64 = 1e-9;

/// What a point must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// On ‖∇L_S‖∞, relative to max(1, |objective|).
    pub gradient: f64,
    /// On the reduced Hessian.
    pub curvature: f64,
    /// On the kinks the point does not sit on.
    pub margin: f64,
}

/// The outcome of an inspection.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// All conditions hold.
    Minimum,
    /// Not stationary at any soft signs.
    Gradient,
    /// Some multipliers are outside their bounds.
    Outside,
    /// A direction of descent across kinks whose gradients are dependent.
    Descent(Vec<f64>),
    /// A pre-activation is close to a kink, but not on it.
    Margin,
    /// Negative curvature on the manifold, with a unit direction.
    Curvature(Vec<f64>),
    /// A collapsed unit leads down to this point.
    Revives(Vec<f64>),
    /// Whether a collapsed unit leads down is not known.
    Undecided,
    /// Something is not finite.
    NonFinite,
}

/// Everything found about a point.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub finding: Finding,
    /// Active kinks, collapsed units included.
    pub kinks: usize,
    /// Smallest c − |y|.
    pub slack: Option<f64>,
    /// Distance of the nearest other pre-activation to a kink.
    pub margin: Option<f64>,
    /// Kinks in dependent clusters.
    pub cluster: usize,
    /// Collapsed units.
    pub collapsed: Vec<usize>,
    /// Largest ratio of the collapse test.
    pub ratio: f64,
    /// ‖∇L_S‖∞.
    pub gradient: f64,
    /// σ.
    pub signs: Signs,
    pub smallest: f64,
    pub largest: f64,
    /// Norm of the damped Newton step, on and onto the manifold.
    pub newton_step: f64,
}

/// Number of kinks that a point sits on, and the distance of the nearest other
/// pre-activation to one: all that is said of problems too large for [`inspect`].
pub(crate) fn near(k: &mut Kinked<'_, '_>, x: &[f64]) -> (usize, Option<f64>) {
    let field = k.field(x, &Signs::new());
    let (on, margin) = nearest(k, &field, &vec![false; field.t.len()]);
    (on.len(), margin)
}

/// The distance of the nearest pre-activation from a kink of a formula whose place is not known, to
/// first order; `None` if there is no such kink, or if the body is frozen.
pub(crate) fn margin_of_unplaced(objective: &mut Objective<'_>, x: &[f64]) -> Option<f64> {
    let formula = objective.problem().unplaced.clone()?;
    if objective.is_frozen() {
        return None;
    }
    let field = Kinked::new(objective).field(x, &Signs::new());
    let mut values = Vec::new();
    let distances = field.t.iter();
    Some(
        distances
            .map(|t| distance_from_unplaced(&formula, *t, &mut values))
            .fold(f64::INFINITY, f64::min),
    )
}

/// Inspects a point.
pub(crate) fn inspect(k: &mut Kinked<'_, '_>, x: &[f64], demands: &Demands) -> Inspection {
    let collapsed = k.collapsed(x);
    let apart = k.entries_of(&collapsed);
    let free = free_variables(k, &collapsed);
    let field = k.field(x, &Signs::new());
    let (mut on, margin) = nearest(k, &field, &apart);
    let mut out = Inspection {
        finding: Finding::NonFinite,
        kinks: on.len() + apart.iter().filter(|a| **a).count(),
        slack: None,
        margin,
        cluster: 0,
        collapsed,
        ratio: 0.0,
        gradient: f64::NAN,
        signs: Signs::new(),
        smallest: f64::NAN,
        largest: f64::NAN,
        newton_step: f64::NAN,
    };
    if !field.value.is_finite() || !max_abs(&field.gradient).is_finite() {
        return out;
    }
    let seen = reach::seen(k, &field, &apart);
    on.retain(|kink| seen[kink.entry]);
    let held = multipliers(k, x, &on, &free);
    out.gradient = max_abs(&pick(&held.field.gradient, &free));
    out.signs = held.signs.clone();
    out.slack = held
        .groups
        .iter()
        .zip(&held.y)
        .map(|(g, y)| g.weight - y.abs())
        .reduce(f64::min);
    let mut descent = None;
    if !held.independent && out.slack.is_some_and(|s| !(s > SLACK)) {
        out.cluster = held.groups.len();
        if let Some((value, direction)) = sharpness(k, x, &held, &free) {
            out.slack = Some(value);
            descent = Some(direction);
        }
        k.field(x, &held.signs);
    }
    let h = reduced_hessian(k, &free);
    if !max_abs(&h).is_finite() || !out.gradient.is_finite() {
        return out;
    }
    let lowest = second_order(&held, &h, &free, x.len(), &mut out);
    out.finding = if out.gradient > demands.gradient * held.field.value.abs().max(1.0) {
        Finding::Gradient
    } else if out.slack.is_some_and(|s| !(s > SLACK)) {
        descent.map_or(Finding::Outside, Finding::Descent)
    } else if out.margin.is_some_and(|m| !(m > demands.margin)) {
        Finding::Margin
    } else if out.smallest < -demands.curvature * out.largest.max(1.0) {
        Finding::Curvature(lowest)
    } else {
        Finding::Minimum
    };
    if let Finding::Minimum = out.finding {
        for unit in out.collapsed.clone() {
            match collapse::test(k, x, unit, &out.signs, field.value) {
                Collapse::Stays(ratio) => out.ratio = out.ratio.max(ratio),
                Collapse::Revives(lower) => {
                    out.finding = Finding::Revives(lower);
                    break;
                }
                Collapse::Undecided => out.finding = Finding::Undecided,
            }
        }
    }
    out
}

/// Variables outside collapsed units.
pub(super) fn free_variables(k: &Kinked<'_, '_>, collapsed: &[usize]) -> Vec<usize> {
    let mut fixed = vec![false; k.objective.len()];
    for &u in collapsed {
        k.units[u].parameters().for_each(|i| fixed[i] = true);
    }
    (0..fixed.len()).filter(|&i| !fixed[i]).collect()
}

/// The entries of `v` at `free`.
pub(super) fn pick(v: &[f64], free: &[usize]) -> Vec<f64> {
    free.iter().map(|&i| v[i]).collect()
}

/// ∇²L_S of the last field on the free variables.
pub(super) fn reduced_hessian(k: &mut Kinked<'_, '_>, free: &[usize]) -> Vec<f64> {
    let n = k.objective.len();
    let mut h = vec![0.0; n * n];
    k.objective.hessian(&mut h);
    if free.len() == n {
        return h;
    }
    let mut out = Vec::with_capacity(free.len() * free.len());
    for &i in free {
        out.extend(free.iter().map(|&j| h[i * n + j]));
    }
    out
}

/// Kinks that the point sits on, and the margin of the others.
fn nearest(k: &Kinked<'_, '_>, field: &Field, apart: &[bool]) -> (Vec<Kink>, Option<f64>) {
    let mut on = Vec::new();
    let mut margin = f64::INFINITY;
    for (entry, t) in field.t.iter().enumerate().filter(|(e, _)| !apart[*e]) {
        for (which, shape) in k.shapes.iter().enumerate() {
            let distance = (t - shape.position).abs();
            if distance <= ON {
                on.push(Kink { entry, which });
            } else {
                margin = margin.min(distance);
            }
        }
    }
    (on, margin.is_finite().then_some(margin))
}

/// The least directional derivative per unit of Σ|ṫ| and its direction, see
/// [`super::dependent`].
fn sharpness(
    k: &mut Kinked<'_, '_>,
    x: &[f64],
    held: &Held,
    free: &[usize],
) -> Option<(f64, Vec<f64>)> {
    let n = held.groups.len();
    let weights = |k: &Kinked<'_, '_>, field: &Field| -> Vec<f64> {
        let of = |g: &Group| g.members.iter().map(|m| k.weight(field, *m)).sum();
        held.groups.iter().map(of).collect()
    };
    let neutral: Signs = held.signs.keys().map(|m| (*m, 0.0)).collect();
    let field = k.field(x, &neutral);
    let base = weights(k, &field);
    let first: Vec<Kink> = held.groups.iter().map(|g| g.members[0]).collect();
    let rows: Vec<f64> = k
        .jacobian(&first)
        .chunks_exact(x.len())
        .flat_map(|row| pick(row, free))
        .collect();
    let split = Split::new(&rows, free.len());
    // c_j = b_j + Σ_i L_ij y_i: one group at a time gets y_i = c_i.
    let mut l = vec![0.0; n * n];
    for (i, g) in held.groups.iter().enumerate() {
        let mut signs = neutral.clone();
        signs.extend(g.members.iter().map(|m| (*m, 1.0)));
        let field = k.field(x, &signs);
        let c = weights(k, &field);
        for j in (0..n).filter(|&j| j != i) {
            let change = c[j] - base[j];
            if change != 0.0 {
                if !(c[i].abs() > 1e-14) {
                    return None;
                }
                l[i * n + j] = change / c[i];
            }
        }
    }
    let c: Vec<f64> = held.groups.iter().map(|g| g.weight).collect();
    let found = dependent::least(&c, &held.y, &l, &split.dependencies())?;
    let d = split.combine(0, &split.least_norm(&found.image));
    let mut full = vec![0.0; x.len()];
    for (&i, d) in free.iter().zip(&d) {
        full[i] = *d;
    }
    Some((found.value, full))
}

/// Multipliers and everything at their signs.
pub(super) struct Held {
    pub groups: Vec<Group>,
    pub y: Vec<f64>,
    pub signs: Signs,
    pub field: Field,
    pub split: Split,
    pub independent: bool,
}

/// Step 2 of the module page. Leaves the objective linearised at the signs.
fn multipliers(k: &mut Kinked<'_, '_>, x: &[f64], on: &[Kink], free: &[usize]) -> Held {
    let neutral: Signs = on.iter().map(|kink| (*kink, 0.0)).collect();
    let mut field = k.field(x, &neutral);
    let mut groups = k.groups(&field, on);
    let rows_of =
        |groups: &[Group]| -> Vec<f64> { groups.iter().flat_map(|g| pick(&g.row, free)).collect() };
    let mut split = Split::new(&rows_of(&groups), free.len());
    let independent = split.is_independent();
    let mut y = solve(&split, &field.gradient, free);
    let choice = split.dependencies();
    let mut signs = neutral;
    if !groups.is_empty() {
        let layers = k.entries.parts.len();
        // The weights of a layer need the signs of the later ones; then two refinements.
        let rounds = if independent { layers } else { 3 * layers };
        for round in 0..rounds + 2 {
            if !independent && round < rounds {
                let weights: Vec<f64> = groups.iter().map(|g| g.weight).collect();
                if weights.iter().all(|c| *c > 0.0) {
                    center(&mut y, &weights, &choice);
                }
            }
            signs = signs_of(&groups, &y);
            field = k.field(x, &signs);
            for g in &mut groups {
                g.weight = g.members.iter().map(|m| k.weight(&field, *m)).sum();
            }
            if round >= rounds {
                let first: Vec<Kink> = groups.iter().map(|g| g.members[0]).collect();
                let full = k.jacobian(&first);
                for (g, row) in groups.iter_mut().zip(full.chunks_exact(x.len())) {
                    g.row.copy_from_slice(row);
                }
                split = Split::new(&rows_of(&groups), free.len());
                let change = solve(&split, &field.gradient, free);
                y = groups
                    .iter()
                    .map(|g| signs.get(&g.members[0]).copied().unwrap_or(0.0) * g.weight)
                    .collect();
                axpy(1.0, &change, &mut y);
            }
        }
        signs = signs_of(&groups, &y);
        field = k.field(x, &signs);
        for g in &mut groups {
            g.weight = g.members.iter().map(|m| k.weight(&field, *m)).sum();
        }
    }
    Held {
        groups,
        y,
        signs,
        field,
        split,
        independent,
    }
}

/// y with Jᵀ y = −g on the normal space.
fn solve(split: &Split, gradient: &[f64], free: &[usize]) -> Vec<f64> {
    let mut c = split.coordinates(&pick(gradient, free));
    c.iter_mut().for_each(|v| *v = -*v);
    split.multipliers(&c)
}

fn signs_of(groups: &[Group], y: &[f64]) -> Signs {
    let mut signs = Signs::new();
    for (g, y) in groups.iter().zip(y) {
        // A weight of zero leaves the sign without effect.
        let sign = if g.weight.abs() > 1e-300 {
            (y / g.weight).clamp(-1e3, 1e3)
        } else {
            0.0
        };
        signs.extend(g.members.iter().map(|m| (*m, sign)));
    }
    signs
}

/// Eigenvalues on the tangent space and the damped Newton step; returns the
/// lowest direction in the full variables.
fn second_order(
    held: &Held,
    h: &[f64],
    free: &[usize],
    n: usize,
    out: &mut Inspection,
) -> Vec<f64> {
    let (m, k) = (free.len(), held.split.rank);
    let size = m - k;
    let g = held.split.coordinates(&pick(&held.field.gradient, free));
    let distances: Vec<f64> = held.groups.iter().map(|g| -g.distance).collect();
    let normal = norm(&held.split.least_norm(&distances));
    if size == 0 {
        (out.smallest, out.largest, out.newton_step) = (0.0, 0.0, normal);
        return vec![0.0; n];
    }
    let rotated = held.split.rotate(h);
    let mut reduced = Vec::with_capacity(size * size);
    for i in k..m {
        reduced.extend_from_slice(&rotated[i * m + k..][..size]);
    }
    let t = Tridiagonal::reduce(reduced, size);
    (out.smallest, out.largest) = t.extreme_eigenvalues();
    let mut tangent = f64::INFINITY;
    if let Some(factor) = t.shifted(1e-8 * out.largest.max(1.0)) {
        let mut step = g[k..].to_vec();
        t.apply_transpose(&mut step);
        factor.solve(&mut step);
        tangent = norm(&step);
    }
    out.newton_step = tangent + normal;
    let mut full = vec![0.0; n];
    if out.smallest < 0.0 {
        let v = t.eigenvector(out.smallest);
        let d = held.split.combine(k, &v);
        debug_assert!((dot(&d, &d) - 1.0).abs() < 1e-6);
        for (&i, d) in free.iter().zip(&d) {
            full[i] = *d;
        }
    }
    full
}
