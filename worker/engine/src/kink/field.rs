//! The objective at soft slopes: values, gradients and kink quantities.
//!
//! With soft signs σ_k ∈ \[−1, 1\] on a set of kinks the objective L_S is
//! smooth. At a point with ∇L_S = 0 the directional derivative of f is
//! f′(d) = Σ_k (c_k|ṫ_k| − y_k ṫ_k), c_k = ½·(σ′(τ+) − σ′(τ−))·∂L_S/∂h_k,
//! y_k = σ_k c_k (`docs/kinks.md`, with proof).

use std::collections::BTreeMap;

use crate::objective::{Chart, Entries, Objective};
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

/// The objective with its kinks.
pub(crate) struct Kinked<'a, 'p> {
    pub objective: &'a mut Objective<'p>,
    pub shapes: Vec<KinkShape>,
    pub entries: Entries,
}

impl<'a, 'p> Kinked<'a, 'p> {
    pub(crate) fn new(objective: &'a mut Objective<'p>, shapes: Vec<KinkShape>) -> Self {
        let entries = objective.evaluator().entries();
        Self { objective, shapes, entries }
    }

    /// Holds kinks at soft signs (none: the true objective).
    pub(crate) fn hold(&mut self, signs: &Signs) {
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
        self.objective.evaluator().set_patches(patches);
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
        Field { value, gradient, t, delta }
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

    /// Whether the chart is the head's, where minima have no gauge.
    pub(crate) fn in_head(&self) -> bool {
        self.objective.chart() == Chart::Head
    }
}
