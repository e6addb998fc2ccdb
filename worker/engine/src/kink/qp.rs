//! Box-constrained quadratic programs: min ½yᵀQy + bᵀy, |y_k| ≤ c_k.
//!
//! The dual of the composite step of [`super::solver`]. Projected Newton on the
//! free variables (Bertsekas 1982) with a coordinate-descent sweep when it
//! stops early; problems have 10 to 200 unknowns.

use crate::linalg::Cholesky;

/// Solves the program from a feasible or clamped `y`.
pub(super) fn solve(q: &[f64], b: &[f64], c: &[f64], mut y: Vec<f64>) -> Vec<f64> {
    const ROUNDS: usize = 60;
    let n = b.len();
    for (y, c) in y.iter_mut().zip(c) {
        *y = y.clamp(-c, *c);
    }
    let gradient = |y: &[f64]| -> Vec<f64> {
        (0..n)
            .map(|i| b[i] + common::math::slice::dot(&q[i * n..][..n], y))
            .collect()
    };
    let value = |y: &[f64], g: &[f64]| -> f64 {
        // ½yᵀQy + bᵀy = ½(g + b)ᵀy
        0.5 * y
            .iter()
            .zip(g)
            .zip(b)
            .fold(0.0, |s, ((y, g), b)| s + y * (g + b))
    };
    let scale = (0..n).fold(f64::MIN_POSITIVE, |m, i| m.max(q[i * n + i]));
    for _ in 0..ROUNDS {
        let g = gradient(&y);
        let bound = |i: usize| (y[i] >= c[i] && g[i] <= 0.0) || (y[i] <= -c[i] && g[i] >= 0.0);
        let free: Vec<usize> = (0..n).filter(|&i| !bound(i)).collect();
        let residual = free.iter().fold(0.0f64, |m, &i| {
            // How far a free variable can move against its gradient.
            let room = if g[i] > 0.0 { y[i] + c[i] } else { c[i] - y[i] };
            m.max(g[i].abs().min(room * q[i * n + i].max(1e-300)))
        });
        if residual <= 1e-14 * scale.max(1.0) || free.is_empty() {
            return y;
        }
        let m = free.len();
        let mut h = vec![0.0; m * m];
        for (a, &i) in free.iter().enumerate() {
            for (d, &j) in free.iter().enumerate() {
                h[a * m + d] = q[i * n + j];
            }
            h[a * m + a] += 1e-13 * scale;
        }
        let Ok(factor) = Cholesky::new(h, m) else {
            return sweep(q, b, c, y);
        };
        let mut step: Vec<f64> = free.iter().map(|&i| -g[i]).collect();
        factor.solve(&mut step);
        // Projected path: halve until the objective falls.
        let now = value(&y, &g);
        let mut t = 1.0;
        let mut moved = false;
        for _ in 0..30 {
            let mut next = y.clone();
            for (&i, s) in free.iter().zip(&step) {
                next[i] = (y[i] + t * s).clamp(-c[i], c[i]);
            }
            let ng = gradient(&next);
            if value(&next, &ng) < now {
                y = next;
                moved = true;
                break;
            }
            t *= 0.5;
        }
        if !moved {
            return sweep(q, b, c, y);
        }
    }
    sweep(q, b, c, y)
}

/// Coordinate descent, a bounded number of sweeps.
fn sweep(q: &[f64], b: &[f64], c: &[f64], mut y: Vec<f64>) -> Vec<f64> {
    const SWEEPS: usize = 200;
    let n = b.len();
    for _ in 0..SWEEPS {
        let mut largest = 0.0f64;
        for i in 0..n {
            let diagonal = q[i * n + i];
            if !(diagonal > 0.0) {
                continue;
            }
            let g = b[i] + common::math::slice::dot(&q[i * n..][..n], &y);
            let next = (y[i] - g / diagonal).clamp(-c[i], c[i]);
            largest = largest.max((next - y[i]).abs() * diagonal);
            y[i] = next;
        }
        if largest <= 1e-15 {
            break;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_satisfies_the_optimality_conditions_of_the_box() {
        let rng = common::rng::Philox::new(5);
        let draw = |i: u32, j: u32| rng.normal(common::rng::Purpose::Estimate, 0, i, j);
        for n in [1usize, 3, 8, 20] {
            let a: Vec<f64> = (0..n * n).map(|i| draw(i as u32, 0)).collect();
            let mut q = vec![0.0; n * n];
            crate::linalg::multiply_nt(&a, &a, &mut q, n, n, n, false);
            let b: Vec<f64> = (0..n).map(|i| 3.0 * draw(i as u32, 1)).collect();
            let c: Vec<f64> = (0..n).map(|i| 0.1 + draw(i as u32, 2).abs()).collect();
            let y = solve(&q, &b, &c, vec![0.0; n]);
            for i in 0..n {
                let g = b[i] + common::math::slice::dot(&q[i * n..][..n], &y);
                assert!(y[i].abs() <= c[i]);
                if y[i] >= c[i] {
                    assert!(g <= 1e-9, "upper bound {i}: {g}");
                } else if y[i] <= -c[i] {
                    assert!(g >= -1e-9, "lower bound {i}: {g}");
                } else {
                    assert!(g.abs() <= 1e-7, "inside {i}: {g}");
                }
            }
        }
    }

    /// Every active set is tried: at lower bound, at upper bound, free.
    fn by_enumeration(q: &[f64], b: &[f64], c: &[f64]) -> f64 {
        let n = b.len();
        let mut best = f64::INFINITY;
        for mut code in 0..3usize.pow(n as u32) {
            let mut y = vec![0.0; n];
            let mut free = Vec::new();
            for i in 0..n {
                match code % 3 {
                    0 => y[i] = -c[i],
                    1 => y[i] = c[i],
                    _ => free.push(i),
                }
                code /= 3;
            }
            let m = free.len();
            let mut h = vec![0.0; m * m];
            let mut r = vec![0.0; m];
            for (a, &i) in free.iter().enumerate() {
                r[a] = -b[i] - common::math::slice::dot(&q[i * n..][..n], &y);
                for (d, &j) in free.iter().enumerate() {
                    h[a * m + d] = q[i * n + j];
                }
            }
            Cholesky::new(h, m).unwrap().solve(&mut r);
            free.iter().zip(&r).for_each(|(&i, v)| y[i] = *v);
            if (0..n).all(|i| y[i].abs() <= c[i] + 1e-12) {
                best = best.min(value_of(q, b, &y));
            }
        }
        best
    }

    fn value_of(q: &[f64], b: &[f64], y: &[f64]) -> f64 {
        let n = b.len();
        (0..n)
            .map(|i| y[i] * (b[i] + 0.5 * common::math::slice::dot(&q[i * n..][..n], y)))
            .sum()
    }

    #[test]
    fn the_value_is_the_best_over_all_active_sets() {
        let rng = common::rng::Philox::new(11);
        for case in 0..40u32 {
            let draw =
                |i: usize, j: u32| rng.normal(common::rng::Purpose::Estimate, case, i as u32, j);
            let n = 1 + (case as usize) % 7;
            let a: Vec<f64> = (0..n * n).map(|i| draw(i, 0)).collect();
            let mut q = vec![0.0; n * n];
            crate::linalg::multiply_nt(&a, &a, &mut q, n, n, n, false);
            (0..n).for_each(|i| q[i * n + i] += 1e-3);
            let b: Vec<f64> = (0..n).map(|i| 2.0 * draw(i, 1)).collect();
            let c: Vec<f64> = (0..n).map(|i| 0.05 + draw(i, 2).abs()).collect();
            let y = solve(&q, &b, &c, vec![0.0; n]);
            let (found, best) = (value_of(&q, &b, &y), by_enumeration(&q, &b, &c));
            assert!(
                (found - best).abs() <= 1e-9 * (1.0 + best.abs()),
                "{case}: {found} {best}"
            );
        }
    }
}
