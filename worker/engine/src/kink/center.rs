//! The most central multipliers where they are not unique.
//!
//! With dependent gradients the multipliers form the affine set y₀ + N w. Any y
//! in it with |y_k| < c_k for all k proves the first-order condition, so the
//! one with the smallest max_k |y_k|/c_k is wanted. The maximum is replaced by a
//! p-norm, p = 2, 4, …, 32: smooth and convex, minimised by Newton's method.

use common::math::slice::axpy;

use crate::linalg::SymmetricEigen;

/// Moves `y` along the directions to make max |y_k|/c_k small; all c must be positive.
pub(super) fn center(y: &mut [f64], c: &[f64], directions: &[Vec<f64>]) {
    const STEPS: usize = 20;
    let q = directions.len();
    if q == 0 {
        return;
    }
    // In units of c.
    let rows: Vec<Vec<f64>> = (0..y.len())
        .map(|k| directions.iter().map(|d| d[k] / c[k]).collect())
        .collect();
    // p = 2^e; powers by squaring.
    let power = |u: f64, squarings: u32| (0..squarings).fold(u.abs(), |v, _| v * v);
    for squarings in 1..=5 {
        let p = f64::from(1u32 << squarings);
        for _ in 0..STEPS {
            let sigma: Vec<f64> = y.iter().zip(c).map(|(y, c)| y / c).collect();
            let top = sigma.iter().fold(0.0f64, |m, s| m.max(s.abs()));
            if !(top > 0.0) || !top.is_finite() {
                return;
            }
            let norm = |s: &[f64]| s.iter().fold(0.0, |a, s| a + power(s / top, squarings));
            let mut g = vec![0.0; q];
            let mut h = vec![0.0; q * q];
            for (s, row) in sigma.iter().zip(&rows) {
                let u = s / top;
                // |u|^{p−2}: at p = 2 it is 1, also for u = 0.
                let inner = if squarings == 1 {
                    1.0
                } else {
                    power(u, squarings) / (u * u).max(1e-300)
                };
                axpy(p * inner * u, row, &mut g);
                let curvature = p * (p - 1.0) * inner / top;
                for i in 0..q {
                    axpy(curvature * row[i], row, &mut h[i * q..][..q]);
                }
            }
            let eigen = SymmetricEigen::new(h, q);
            let largest = eigen.values.last().copied().unwrap_or(0.0);
            let mut step = vec![0.0; q];
            for (i, w) in eigen
                .values
                .iter()
                .enumerate()
                .filter(|(_, w)| **w > 1e-12 * largest)
            {
                let v = eigen.vector(i);
                axpy(-common::math::slice::dot(v, &g) / w, v, &mut step);
            }
            let now = norm(&sigma);
            let mut size = 1.0;
            let mut moved = false;
            while size > 1e-6 {
                let mut next = y.to_vec();
                for (s, d) in step.iter().zip(directions) {
                    axpy(size * s, d, &mut next);
                }
                let sigma: Vec<f64> = next.iter().zip(c).map(|(y, c)| y / c).collect();
                if norm(&sigma) < now * (1.0 - 1e-9) {
                    y.copy_from_slice(&next);
                    moved = true;
                    break;
                }
                size *= 0.5;
            }
            if !moved {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_moved_inside_where_that_is_possible() {
        // y = (3, 0, 0) + w (1, -1, -1): |y| <= 2 - something needs w = -1.5.
        let mut y = vec![3.0, 0.0, 0.0];
        center(&mut y, &[2.0, 2.0, 2.0], &[vec![1.0, -1.0, -1.0]]);
        let top = y.iter().fold(0.0f64, |m, y| m.max(y.abs()));
        assert!(top < 1.55, "{y:?}");
        assert!((y[0] + y[1] - 3.0).abs() < 1e-12);
    }
}
