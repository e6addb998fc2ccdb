//! The first-order condition where the gradients of the kinks are dependent.
//!
//! The directional derivative is f′(d) = Σ (c_k|ṫ_k| − y_k ṫ_k), and the rates that
//! can occur are those with ṫ − L|ṫ| ∈ range A₀, L_kk′ = ∂T_k/∂|t_k′|. With
//! N a basis of {y : A₀ᵀ y = 0}, ε the signs and s = |ṫ|, this reads
//! Nᵀ(diag ε − L) s = 0, s ≥ 0. On Σ s = 1 the least value of Σ (c_k − ε_k y_k) s_k
//! is attained at a vertex, and a vertex has at most q + 1 positive entries, q the
//! number of columns of N: enough to go through the small supports and the signs
//! on them, whatever the number of kinks.

/// The least directional derivative per unit of Σ|ṫ|, and the ṫ − L|ṫ| of it.
pub(super) struct Least {
    pub value: f64,
    pub image: Vec<f64>,
}

/// A vertex: kink, sign (0 or 1) and s of each positive entry.
type Vertex = Vec<(usize, usize, f64)>;

/// Supports to look at, at most.
const LIMIT: f64 = 3e5;

/// `l` is `[k, k]`, `null` the columns of N. `None` if there are too many supports.
pub(super) fn least(c: &[f64], y: &[f64], l: &[f64], null: &[Vec<f64>]) -> Option<Least> {
    let (k, q) = (c.len(), null.len());
    let mut supports = 0.0;
    let mut count = 1.0;
    for m in 1..=(q + 1).min(k) {
        count *= 2.0 * (k + 1 - m) as f64 / m as f64;
        supports += count;
    }
    if supports > LIMIT {
        return None;
    }
    // Nᵀ(ε e_j − L e_j) for both signs of every kink.
    let columns: Vec<[Vec<f64>; 2]> = (0..k)
        .map(|j| {
            [-1.0, 1.0].map(|e| {
                null.iter()
                    .map(|n| (0..k).fold(e * n[j], |a, i| (-n[i]).mul_add(l[i * k + j], a)))
                    .collect()
            })
        })
        .collect();
    let mut best: Option<(f64, Vertex)> = None;
    let mut support: Vec<(usize, usize)> = Vec::new();
    visit(&columns, q, 0, &mut support, &mut |support, s| {
        let sum: f64 = s.iter().sum();
        let value = support.iter().zip(s).fold(0.0, |a, (&(j, e), s)| {
            a + (c[j] - (2.0 * e as f64 - 1.0) * y[j]) * s
        }) / sum;
        if best.as_ref().is_none_or(|b| value < b.0) {
            let found = support.iter().zip(s).map(|(&(j, e), s)| (j, e, s / sum));
            best = Some((value, found.collect()));
        }
    });
    let (value, support) = best?;
    let mut image = vec![0.0; k];
    for (j, e, s) in support {
        image[j] += (2.0 * e as f64 - 1.0) * s;
        for i in 0..k {
            image[i] -= l[i * k + j] * s;
        }
    }
    Some(Least { value, image })
}

/// Goes through all supports of up to q + 1 kinks and calls `found` with each
/// that carries exactly one s > 0 up to scale.
fn visit(
    columns: &[[Vec<f64>; 2]],
    q: usize,
    first: usize,
    support: &mut Vec<(usize, usize)>,
    found: &mut impl FnMut(&[(usize, usize)], &[f64]),
) {
    if !support.is_empty()
        && let Some(s) = null_vector(columns, q, support)
    {
        found(support, &s);
    }
    if support.len() == q + 1 {
        return;
    }
    for j in first..columns.len() {
        for e in 0..2 {
            support.push((j, e));
            visit(columns, q, j + 1, support, found);
            support.pop();
        }
    }
}

/// The positive null vector of the chosen columns `[q, m]`, if their null space is a line.
fn null_vector(
    columns: &[[Vec<f64>; 2]],
    q: usize,
    support: &[(usize, usize)],
) -> Option<Vec<f64>> {
    const ZERO: f64 = 1e-9;
    let m = support.len();
    let mut a = vec![0.0; q * m];
    for (c, &(j, e)) in support.iter().enumerate() {
        for (r, v) in columns[j][e].iter().enumerate() {
            a[r * m + c] = *v;
        }
    }
    let top = a.iter().fold(0.0f64, |t, v| t.max(v.abs())).max(1.0);
    // Gauss–Jordan with full pivoting over rows and columns.
    let mut pivot_of = vec![usize::MAX; m];
    let mut rank = 0;
    for _ in 0..q.min(m) {
        let mut best = (0.0, 0, 0);
        for r in rank..q {
            for c in (0..m).filter(|&c| pivot_of[c] == usize::MAX) {
                if a[r * m + c].abs() > best.0 {
                    best = (a[r * m + c].abs(), r, c);
                }
            }
        }
        if !(best.0 > ZERO * top) {
            break;
        }
        let (_, r, c) = best;
        for i in 0..m {
            a.swap(rank * m + i, r * m + i);
        }
        let pivot = a[rank * m + c];
        for i in 0..m {
            a[rank * m + i] /= pivot;
        }
        for other in (0..q).filter(|&o| o != rank) {
            let factor = a[other * m + c];
            for i in 0..m {
                a[other * m + i] -= factor * a[rank * m + i];
            }
        }
        pivot_of[c] = rank;
        rank += 1;
    }
    if rank + 1 != m {
        return None;
    }
    let free = (0..m).find(|&c| pivot_of[c] == usize::MAX)?;
    let s: Vec<f64> = (0..m)
        .map(|c| {
            if c == free {
                1.0
            } else {
                -a[pivot_of[c] * m + free]
            }
        })
        .collect();
    s.iter().all(|v| *v > 0.0).then_some(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f′ over a fan of directions d in the plane, for t₁ = d₁, t₂ = d₂, t₃ = d₂ + a|t₁|.
    #[test]
    fn the_least_value_is_that_of_all_directions() {
        for (a, c, y) in [
            (0.5, [1.0, 1.0, 1.0], [0.2, 0.3, -0.4]),
            (-0.5, [0.1, 0.2, 1.0], [0.3, 0.1, 0.2]),
            (2.0, [1.0, 0.5, 0.2], [-0.5, 0.7, -0.9]),
        ] {
            let mut l = vec![0.0; 9];
            l[2 * 3] = a;
            // A₀ = (1 0; 0 1; 0 1): N = (0, 1, −1).
            let found = least(&c, &y, &l, &[vec![0.0, 1.0, -1.0]]).unwrap();
            let mut lowest = f64::INFINITY;
            for i in 0..200_000 {
                let angle = std::f64::consts::TAU * f64::from(i) / 200_000.0;
                let d1 = common::math::scalar::cos(angle);
                let d2 = common::math::scalar::sin(angle);
                let t = [d1, d2, d2 + a * d1.abs()];
                let size: f64 = t.iter().map(|v| v.abs()).sum();
                let value: f64 =
                    (0..3).map(|k| c[k] * t[k].abs() - y[k] * t[k]).sum::<f64>() / size;
                lowest = lowest.min(value);
            }
            assert!(
                (found.value - lowest).abs() < 1e-4,
                "{} {lowest}",
                found.value
            );
        }
    }
}
