//! The thinned loss curve of a run.

use common::record::CurvePoint;
use serde::{Deserialize, Serialize};

/// Points kept at most.
const POINTS: usize = 64;

/// Keeps every `stride`-th offered point; doubles the stride when full. What is
/// kept depends on the sequence of offers alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    points: Vec<(u64, f32, f32)>,
    stride: u64,
    offered: u64,
    last: Option<(u64, f32, f32)>,
}

impl Curve {
    pub(super) fn offer(&mut self, evaluations: u64, objective: f64, gradient_norm: f64) {
        let point = (evaluations, objective as f32, gradient_norm as f32);
        self.last = Some(point);
        let stride = self.stride.max(1);
        if self.offered.is_multiple_of(stride) {
            if self.points.len() == POINTS - 1 {
                let mut keep = false;
                self.points.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride = 2 * stride;
            }
            if self.offered.is_multiple_of(self.stride.max(1)) {
                self.points.push(point);
            }
        }
        self.offered += 1;
    }

    /// The kept points and the last one.
    pub(super) fn points(&self) -> Vec<CurvePoint> {
        let mut all = self.points.clone();
        if let Some(last) = self.last
            && all.last() != Some(&last)
        {
            all.push(last);
        }
        all.into_iter()
            .map(|(evaluations, objective, gradient_norm)| CurvePoint {
                evaluations,
                objective,
                gradient_norm,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_first_and_last_and_at_most_sixty_four_points() {
        for n in [1u64, 5, 63, 64, 65, 1000, 12345] {
            let mut curve = Curve::default();
            for i in 0..n {
                curve.offer(i, 1.0 / (i + 1) as f64, 0.0);
            }
            let points = curve.points();
            assert!(points.len() <= POINTS, "{n}: {}", points.len());
            assert_eq!(points[0].evaluations, 0);
            assert_eq!(points.last().unwrap().evaluations, n - 1);
            assert!(
                points
                    .windows(2)
                    .all(|w| w[0].evaluations < w[1].evaluations)
            );
            if n > 200 {
                assert!(points.len() >= POINTS / 2 - 1);
            }
        }
    }
}
