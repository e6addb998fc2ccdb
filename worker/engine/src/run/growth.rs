//! Does ‖x‖ grow while the objective falls?

use serde::{Deserialize, Serialize};

/// Objective and norm whenever the work has doubled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Growth {
    marks: Vec<(u64, f64, f64)>,
}

impl Growth {
    pub(super) fn offer(&mut self, evaluations: u64, objective: f64, norm: impl FnOnce() -> f64) {
        let due = self
            .marks
            .last()
            .is_none_or(|m| evaluations >= 2 * m.0.max(16));
        if due {
            self.marks.push((evaluations, objective, norm()));
        }
    }

    /// Over the last three marks (a factor of at least eight in work) the norm
    /// grew each time, by a fifth in all, and the objective fell each time. A norm
    /// that grows like the logarithm of the work, as on separable data, passes.
    pub(super) fn diverges(&self, objective: f64, norm: f64) -> bool {
        let mut tail: Vec<(f64, f64)> = self
            .marks
            .iter()
            .rev()
            .take(3)
            .rev()
            .map(|m| (m.1, m.2))
            .collect();
        if tail.len() < 3 {
            return false;
        }
        tail.push((objective, norm));
        tail.windows(2).all(|w| w[1].0 < w[0].0 && w[1].1 > w[0].1) && tail[3].1 > 1.2 * tail[0].1
            // One that comes to rest grows less with every doubling.
            && tail[2].1 - tail[1].1 >= 0.7 * (tail[1].1 - tail[0].1)
    }
}
