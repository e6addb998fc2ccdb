//! The objective at soft slopes: values, gradients and kink quantities.
//!
//! With soft signs σ_k ∈ \[−1, 1\] on a set of kinks the objective L_S is
//! smooth. At a point with ∇L_S = 0 the directional derivative of f is
//! f′(d) = Σ_k (c_k|ṫ_k| − y_k ṫ_k), c_k = ½·(σ′(τ+) − σ′(τ−))·∂L_S/∂h_k,
//! y_k = σ_k c_k (`docs/engine.md`, with proof).

use std::collections::BTreeMap;

use super::unit::{Unit, units};
use crate::objective::{Entries, Objective};
use crate::program::{KinkShape, Patch};

/// One kink: an entry of an activation and which of the activation's kinks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Kink {
    /// Index among [`Entries`].
    pub entry: usize,
    /// Which kink of the activation.
    pub which: usize,
}

/// Soft signs of the kinks that are held.
pub(crate) type Signs = BTreeMap<Kink, f64>;

/// The smooth objective at one point and one choice of soft signs.
pub(crate) struct Field {
    pub value: f64,
    pub gradient: Vec<f64>,
    /// t of all entries.
    pub t: Vec<f64>,
    /// ∂L_S/∂h of all entries.
    pub delta: Vec<f64>,
}

/// Kinks that are one: the same unit on rows where t is the same function of
/// the parameters (equal rows of data, or rows on which all inputs are dead).
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub members: Vec<Kink>,
    /// t − τ.
    pub distance: f64,
    /// Σ c over the members.
    pub weight: f64,
    /// ∂t/∂x.
    pub row: Vec<f64>,
}

/// The objective with its kinks. Leaves the objective without soft signs when dropped.
pub(crate) struct Kinked<'a, 'p> {
    pub objective: &'a mut Objective<'p>,
    pub shapes: Vec<KinkShape>,
    pub entries: Entries,
    /// Units of the body, in the objective's variables.
    pub units: Vec<Unit>,
    holds: bool,
}

impl Drop for Kinked<'_, '_> {
    fn drop(&mut self) {
        self.hold(&Signs::new());
    }
}

impl<'a, 'p> Kinked<'a, 'p> {
    /// # Panics
    /// If the body is frozen: then no kink moves.
    pub(crate) fn new(objective: &'a mut Objective<'p>) -> Self {
        let problem = objective.problem();
        let shapes = problem.kinks.clone();
        let entries = objective.evaluator().entries();
        let mut units = units(&problem.program);
        for unit in &mut units {
            for list in [&mut unit.inputs, &mut unit.outputs, &mut unit.loops] {
                *list = list
                    .iter()
                    .flat_map(|&i| objective.variables_of(i))
                    .collect();
            }
        }
        Self {
            objective,
            shapes,
            entries,
            units,
            holds: false,
        }
    }

    /// Which entries belong to these units.
    pub(crate) fn entries_of(&self, units: &[usize]) -> Vec<bool> {
        let mut out = vec![false; self.entries.len];
        let rows = self.objective.problem().dims().rows;
        for &u in units {
            for &(activation, unit) in &self.units[u].entries {
                for row in 0..rows {
                    out[self.entries.index(activation, row, unit)] = true;
                }
            }
        }
        out
    }

    /// Units all of whose parameters are exactly zero, where the activation has
    /// a kink at zero and vanishes there.
    pub(crate) fn collapsed(&self, x: &[f64]) -> Vec<usize> {
        if !self.may_collapse() {
            return Vec::new();
        }
        let zero = |u: &Unit| u.parameters().all(|i| x[i] == 0.0);
        (0..self.units.len())
            .filter(|&u| zero(&self.units[u]))
            .collect()
    }

    /// Whether the activation has a kink at zero and vanishes there.
    pub(crate) fn may_collapse(&self) -> bool {
        self.shapes
            .iter()
            .any(|s| s.position == 0.0 && s.value == 0.0)
    }

    /// Groups kinks that are one; `c` and t from the field.
    pub(crate) fn groups(&mut self, field: &Field, kinks: &[Kink]) -> Vec<Group> {
        let rows = self.jacobian(kinks);
        let n = self.objective.len();
        let mut out: Vec<Group> = Vec::new();
        // (activation, unit, which) of each group, to compare few.
        let mut keys: Vec<(usize, usize, usize)> = Vec::new();
        for (kink, row) in kinks.iter().zip(rows.chunks_exact(n)) {
            let (activation, _, unit) = self.entries.locate(kink.entry);
            let key = (activation, unit, kink.which);
            let distance = self.distance(field, *kink);
            let weight = self.weight(field, *kink);
            let same = (0..out.len())
                .find(|&g| keys[g] == key && out[g].distance == distance && out[g].row == row);
            match same {
                Some(g) => {
                    out[g].members.push(*kink);
                    out[g].weight += weight;
                }
                None => {
                    keys.push(key);
                    let members = vec![*kink];
                    out.push(Group {
                        members,
                        distance,
                        weight,
                        row: row.to_vec(),
                    });
                }
            }
        }
        out
    }

    /// Holds kinks at soft signs (none: the true objective).
    pub(crate) fn hold(&mut self, signs: &Signs) {
        if signs.is_empty() && !self.holds {
            return;
        }
        self.holds = !signs.is_empty();
        let problem = self.objective.problem();
        let mut patches = vec![Vec::new(); problem.block_count()];
        for (kink, sign) in signs {
            let (activation, row, unit) = self.entries.locate(kink.entry);
            let b = problem.block_of(row);
            let inside = row - problem.block_rows(b).0;
            let size = self.entries.parts[activation].size;
            let lanes = crate::kernels::LANES;
            patches[b].push(Patch {
                activation,
                at: (inside / lanes * size + unit) * lanes + inside % lanes,
                left: 0.5 * (1.0 - sign),
                kink: self.shapes[kink.which],
            });
        }
        for p in &mut patches {
            p.sort_by_key(|p| (p.activation, p.at));
        }
        self.objective.set_patches(patches);
    }

    /// The true objective.
    pub(crate) fn value(&mut self, x: &[f64], gradient: &mut [f64]) -> f64 {
        self.hold(&Signs::new());
        self.objective.value_gradient(x, gradient)
    }

    /// L_S with derivatives; products and the Hessian refer to it afterwards.
    pub(crate) fn field(&mut self, x: &[f64], signs: &Signs) -> Field {
        self.hold(signs);
        let mut gradient = vec![0.0; x.len()];
        let value = self.objective.linearize(x, &mut gradient);
        let (t, delta) = self.objective.evaluator().fields();
        Field {
            value,
            gradient,
            t,
            delta,
        }
    }

    /// t_k − τ_k.
    pub(crate) fn distance(&self, field: &Field, kink: Kink) -> f64 {
        field.t[kink.entry] - self.shapes[kink.which].position
    }

    /// c_k.
    pub(crate) fn weight(&self, field: &Field, kink: Kink) -> f64 {
        let shape = &self.shapes[kink.which];
        0.5 * (shape.right[0] - shape.left[0]) * field.delta[kink.entry]
    }

    /// All kinks within a distance, ascending.
    pub(crate) fn within(&self, field: &Field, distance: f64) -> Vec<Kink> {
        let mut out = Vec::new();
        for (entry, t) in field.t.iter().enumerate() {
            for (which, shape) in self.shapes.iter().enumerate() {
                if (t - shape.position).abs() <= distance {
                    out.push(Kink { entry, which });
                }
            }
        }
        out
    }

    /// ∂t/∂x of kinks, row by row, in the objective's variables.
    pub(crate) fn jacobian(&mut self, kinks: &[Kink]) -> Vec<f64> {
        let wanted: Vec<usize> = kinks.iter().map(|k| k.entry).collect();
        let rows = self.objective.evaluator().jacobian(&wanted);
        let n = self.objective.len();
        let p = self.objective.problem().program_len();
        let mut out = Vec::with_capacity(kinks.len() * n);
        for row in rows.chunks_exact(p) {
            out.extend(self.objective.pull_back_entry(row));
        }
        out
    }

    /// ṫ of all entries along a direction of the variables.
    pub(crate) fn rates(&mut self, direction: &[f64]) -> Vec<f64> {
        let d = self.objective.push_forward_direction(direction);
        self.objective.evaluator().tangent_fields(&d)
    }
}

#[cfg(test)]
mod tests {
    use common::math::Isa;
    use common::math::slice::{axpy, dot};

    use super::*;
    use crate::objective::Chart;
    use crate::task::Cell;

    /// At a point made to sit on kinks, f′(d) from soft signs and one-sided rates
    /// against one-sided differences: f′(d) = ∇L_S·d + Σ c(|ṫ| − σṫ), whatever
    /// the σ, for one kinked layer.
    #[test]
    fn directional_derivatives_are_those_of_one_sided_differences() {
        for activation in ["\"relu\"", "\"abs\"", "{\"leaky_relu\": 0.1}", "\"selu\""] {
            let spec = format!(
                r#"{{"data": {{"generate": "teacher", "rows": 20, "inputs": 3, "outputs": 2,
                "width": 3, "noise": 0.1, "seed": 0}}, "depth": 1, "width": 2,
                "activation": {activation}}}"#
            );
            let cell = Cell::new(common::decode::decode_cell(&spec).unwrap(), |_| None).unwrap();
            let problem = cell.problem();
            let mut objective = Objective::new(problem, Chart::Head, None, Isa::current(), 1);
            let n = objective.len();
            let rng = common::rng::Philox::new(1);
            let draw =
                |i: usize, j: u32| rng.normal(common::rng::Purpose::Estimate, 0, i as u32, j);
            let mut x: Vec<f64> = (0..n).map(|i| 0.7 * draw(i, 0)).collect();
            let mut k = Kinked::new(&mut objective);
            // Two rows of the two units onto their kinks.
            let kinks = [
                Kink { entry: 6, which: 0 },
                Kink {
                    entry: 11,
                    which: 0,
                },
            ];
            for _ in 0..3 {
                let field = k.field(&x, &Signs::new());
                let groups = k.groups(&field, &kinks);
                let rows: Vec<f64> = groups.iter().flat_map(|g| g.row.clone()).collect();
                let split = super::super::split::Split::new(&rows, n);
                let e: Vec<f64> = groups.iter().map(|g| -g.distance).collect();
                axpy(1.0, &split.combine(0, &split.least_norm(&e)), &mut x);
            }
            let signs: Signs = kinks.iter().copied().zip([0.3, -0.8]).collect();
            let mut crossed = [[false; 2]; 2];
            for case in 1..20 {
                let d: Vec<f64> = (0..n).map(|i| draw(i, case)).collect();
                let field = k.field(&x, &signs);
                let rates = k.rates(&d);
                let mut slope = dot(&field.gradient, &d);
                for (i, (kink, sign)) in signs.iter().enumerate() {
                    assert!(k.distance(&field, *kink).abs() < 1e-13);
                    let rate = rates[kink.entry];
                    slope += k.weight(&field, *kink) * (rate.abs() - sign * rate);
                    crossed[i][usize::from(rate > 0.0)] = true;
                }
                let mut g = vec![0.0; n];
                let f = k.value(&x, &mut g);
                let h = 1e-6;
                let mut y = x.clone();
                axpy(h, &d, &mut y);
                let once = k.value(&y, &mut g) - f;
                axpy(h, &d, &mut y);
                let twice = k.value(&y, &mut g) - f;
                // Second order from one side.
                let difference = (4.0 * once - twice) / (2.0 * h);
                assert!(
                    (difference - slope).abs() < 1e-6 * (1.0 + slope.abs()),
                    "{activation} {case}: {difference} {slope}"
                );
            }
            assert_eq!(crossed, [[true; 2]; 2], "both sides of both kinks were met");
        }
    }
}
