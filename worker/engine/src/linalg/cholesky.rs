//! Cholesky factorisation.

use common::dispatch;
use common::math::Isa;
use common::math::simd::{LANES, Simd};

use crate::kernels::Aligned;

/// The matrix has no Cholesky factor in floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("matrix is not positive definite: pivot {pivot} is not positive")]
pub struct NotPositiveDefinite {
    /// The first pivot that failed.
    pub pivot: usize,
}

/// H = L Lᵀ.
#[derive(Clone, Debug)]
pub struct Cholesky {
    /// L in panels of eight rows: `[groups, n padded, 8]`, entry (i, k) at
    /// ((i / 8)·padded + k)·8 + i mod 8. The padding is an identity.
    l: Aligned,
    n: usize,
}

impl Cholesky {
    /// Factors the symmetric row-major matrix `h` `[n, n]` (its lower triangle is read).
    ///
    /// Method: eight rows at a time, left to right in tiles of 8 × 8. An entry is one chain of
    /// fused multiply-adds, H_ij − Σ_k L_ik L_jk in ascending k, then divided by the pivot's
    /// root. Cost: n³/3.
    ///
    /// # Errors
    /// [`NotPositiveDefinite`] at the first pivot that is not a positive number.
    ///
    /// # Panics
    /// If `h` is not n × n.
    pub fn new(h: impl AsRef<[f64]>, n: usize) -> Result<Self, NotPositiveDefinite> {
        Self::shifted(Isa::current(), Aligned::default(), h.as_ref(), n, 0.0)
    }

    /// Factors H + `shift`·I in memory that may come from an earlier factor
    /// ([`Cholesky::into_room`]).
    ///
    /// # Errors
    /// As [`Cholesky::new`].
    ///
    /// # Panics
    /// If `h` is not n × n.
    pub fn shifted(
        isa: Isa,
        mut room: Aligned,
        h: &[f64],
        n: usize,
        shift: f64,
    ) -> Result<Self, NotPositiveDefinite> {
        assert_eq!(h.len(), n * n, "a square matrix");
        let padded = n.next_multiple_of(LANES);
        room.grow(padded * padded);
        let l: &mut [f64] = &mut room;
        let failed =
            dispatch!(isa => Option<usize>, factor, h: &[f64], n: usize, shift: f64, l: &mut [f64]);
        match failed {
            Some(pivot) => Err(NotPositiveDefinite { pivot }),
            None => Ok(Self { l: room, n }),
        }
    }

    /// The factor's memory: L in panels, as the type has it.
    pub fn into_room(self) -> Aligned {
        self.l
    }

    /// x ← H⁻¹ x.
    pub fn solve(&self, x: &mut [f64]) {
        self.solve_lower(x);
        self.solve_upper(x);
    }

    /// x ← L⁻¹ x.
    ///
    /// # Panics
    /// If `x` has not n entries.
    pub fn solve_lower(&self, x: &mut [f64]) {
        assert_eq!(x.len(), self.n, "right-hand side");
        let (isa, l): (_, &[f64]) = (Isa::current(), &self.l);
        dispatch!(isa => (), lower, l: &[f64], x: &mut [f64]);
    }

    /// x ← L⁻ᵀ x.
    ///
    /// # Panics
    /// If `x` has not n entries.
    pub fn solve_upper(&self, x: &mut [f64]) {
        assert_eq!(x.len(), self.n, "right-hand side");
        let (isa, l): (_, &[f64]) = (Isa::current(), &self.l);
        dispatch!(isa => (), upper, l: &[f64], x: &mut [f64]);
    }

    /// log det H = 2 Σ log L_ii would need a logarithm; this is min and max of L_ii².
    pub fn pivot_range(&self) -> (f64, f64) {
        let padded = self.n.next_multiple_of(LANES);
        (0..self.n).fold((f64::INFINITY, 0.0), |(low, high), i| {
            let d = self.l[(i / LANES * padded + i) * LANES + i % LANES];
            (f64::min(low, d * d), f64::max(high, d * d))
        })
    }
}

/// Panel `g`: columns of eight rows each.
#[inline(always)]
fn panel(l: &[f64], padded: usize, g: usize) -> &[[f64; LANES]] {
    l[g * padded * LANES..][..padded * LANES].as_chunks().0
}

/// Columns 8h … of rows 8g … of H + shift·I, an identity beyond n; above the diagonal 0.
#[inline(always)]
fn entries(h: &[f64], n: usize, shift: f64, rows: usize, cols: usize) -> [[f64; LANES]; LANES] {
    let mut out = [[0.0; LANES]; LANES];
    for i in rows..rows + LANES {
        for j in cols..cols + LANES {
            let entry = if i >= n || j > i {
                f64::from(u8::from(i == j))
            } else if i == j {
                h[i * n + j] + shift
            } else {
                h[i * n + j]
            };
            out[j - cols][i - rows] = entry;
        }
    }
    out
}

/// Fills the panels; the first pivot that fails, if one does.
#[inline(always)]
fn factor<S: Simd>(s: S, h: &[f64], n: usize, shift: f64, l: &mut [f64]) -> Option<usize> {
    let padded = n.next_multiple_of(LANES);
    for g in 0..padded / LANES {
        let (above, own) = l.split_at_mut(g * padded * LANES);
        let own = own[..padded * LANES].as_chunks_mut::<LANES>().0;
        for c in 0..=g {
            let first = c * LANES;
            let start = entries(h, n, shift, g * LANES, first);
            let mut tile = [s.splat(0.0); LANES];
            for (t, column) in tile.iter_mut().zip(&start) {
                *t = s.load(column);
            }
            if c < g {
                let other = panel(above, padded, c);
                for (a, b) in own[..first].iter().zip(&other[..first]) {
                    let a = s.load(a);
                    for (t, b) in tile.iter_mut().zip(b) {
                        *t = s.fnma(s.splat(*b), a, *t);
                    }
                }
                for j in 0..LANES {
                    let pivots = &other[first + j];
                    let x = s.div(tile[j], s.splat(pivots[j]));
                    s.store(x, &mut own[first + j]);
                    for m in j + 1..LANES {
                        tile[m] = s.fnma(s.splat(pivots[m]), x, tile[m]);
                    }
                }
            } else {
                for a in &own[..first] {
                    let v = s.load(a);
                    for (t, a) in tile.iter_mut().zip(a) {
                        *t = s.fnma(s.splat(*a), v, *t);
                    }
                }
                for j in 0..LANES {
                    let mut column = s.to_array(tile[j]);
                    let pivot = column[j];
                    if !(pivot > 0.0 && pivot < f64::INFINITY) {
                        return Some(first + j);
                    }
                    let root = pivot.sqrt();
                    for (i, c) in column.iter_mut().enumerate() {
                        *c = match i {
                            i if i < j => 0.0,
                            i if i == j => root,
                            _ => *c / root,
                        };
                    }
                    let x = s.load(&column);
                    own[first + j] = column;
                    for m in j + 1..LANES {
                        tile[m] = s.fnma(s.splat(column[m]), x, tile[m]);
                    }
                }
            }
        }
    }
    None
}

#[inline(always)]
fn lower<S: Simd>(s: S, l: &[f64], x: &mut [f64]) {
    let n = x.len();
    let padded = n.next_multiple_of(LANES);
    for g in 0..padded / LANES {
        let own = panel(l, padded, g);
        let first = g * LANES;
        let (done, rest) = x.split_at_mut(first);
        let rest = &mut rest[..LANES.min(n - first)];
        let mut start = [0.0; LANES];
        start[..rest.len()].copy_from_slice(rest);
        let mut sum = s.load(&start);
        for (x, column) in done.iter().zip(own) {
            sum = s.fnma(s.splat(*x), s.load(column), sum);
        }
        for (j, x) in rest.iter_mut().enumerate() {
            let column = &own[first + j];
            *x = s.to_array(sum)[j] / column[j];
            sum = s.fnma(s.splat(*x), s.load(column), sum);
        }
    }
}

#[inline(always)]
fn upper<S: Simd>(s: S, l: &[f64], x: &mut [f64]) {
    let n = x.len();
    let padded = n.next_multiple_of(LANES);
    for g in (0..padded / LANES).rev() {
        let own = panel(l, padded, g);
        let first = g * LANES;
        let (before, rest) = x.split_at_mut(first);
        let rest = &mut rest[..LANES.min(n - first)];
        for j in (0..rest.len()).rev() {
            let column = &own[first + j];
            let mut v = rest[j];
            for (i, x) in rest.iter().enumerate().skip(j + 1) {
                v = (-column[i]).mul_add(*x, v);
            }
            rest[j] = v / column[j];
        }
        let mut known = [0.0; LANES];
        known[..rest.len()].copy_from_slice(rest);
        let known = s.load(&known);
        for (x, column) in before.iter_mut().zip(own) {
            *x -= s.sum(s.mul(s.load(column), known));
        }
    }
}

#[cfg(test)]
mod tests {
    use common::rng::{Philox, Purpose};

    use super::*;

    /// B Bᵀ + I with random B; lower triangle, NaN above: that is not read.
    fn positive(n: usize) -> Vec<f64> {
        let rng = Philox::new(n as u64);
        let b: Vec<f64> = (0..n * n)
            .map(|i| rng.normal(Purpose::Lanczos, 0, (i / n) as u32, (i % n) as u32))
            .collect();
        let mut h = vec![f64::NAN; n * n];
        for i in 0..n {
            for j in 0..=i {
                let own = if i == j { 1.0 } else { 0.0 };
                h[i * n + j] = own + (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum::<f64>();
            }
        }
        h
    }

    fn times(h: &[f64], n: usize, x: &[f64]) -> Vec<f64> {
        let entry = |i: usize, j: usize| h[i.max(j) * n + i.min(j)];
        let row = |i: usize| (0..n).map(|j| entry(i, j) * x[j]).sum();
        (0..n).map(row).collect()
    }

    #[test]
    fn solutions_give_the_right_hand_side_back() {
        let mut room = Aligned::default();
        for n in [0, 1, 2, 7, 8, 9, 16, 31, 64, 100] {
            let h = positive(n);
            for shift in [0.0, 3.0] {
                let factor = Cholesky::shifted(Isa::current(), room, &h, n, shift).unwrap();
                let b: Vec<f64> = (0..n).map(|i| ((i * 7) % 5) as f64 - 2.0).collect();
                let mut x = b.clone();
                factor.solve(&mut x);
                let mut back = times(&h, n, &x);
                back.iter_mut().zip(&x).for_each(|(b, x)| *b += shift * x);
                for (back, b) in back.iter().zip(&b) {
                    assert!(
                        (back - b).abs() <= 1e-11 * (1.0 + n as f64),
                        "{n}: {back} {b}"
                    );
                }
                let (low, high) = factor.pivot_range();
                assert!(
                    n == 0 || (low > 0.5 + shift && high >= low),
                    "{n}: {low} {high}"
                );
                // What an earlier, larger factor left there does not count.
                room = factor.into_room();
            }
        }
    }

    #[test]
    fn the_first_pivot_that_fails_is_named() {
        for (n, at) in [(3, 1), (9, 8), (20, 0), (40, 33)] {
            let mut h = positive(n);
            h[at * n + at] = -1.0;
            assert_eq!(Cholesky::new(&h, n).unwrap_err().pivot, at);
            h[at * n + at] = f64::NAN;
            assert_eq!(Cholesky::new(&h, n).unwrap_err().pivot, at);
        }
    }
}
