//! The feature map φ, CONTRACT §1.
//!
//! | features | φ(x), x the prepared input columns |
//! |---|---|
//! | `linear` | x |
//! | `polynomial` | all monomials of degree 1..=k: by degree, then lexicographic (x₁, x₂, …, x₁x₁, x₁x₂, …) |
//! | `fourier` | √(2/count)·cos(ωᵀx + b), ω ~ N(0, scale² I), b uniform on [0, 2π) (Rahimi & Recht 2007) |
//!
//! The constant 1 comes last when there is an intercept. Feature j draws ω_ji
//! at row j, column i and b_j at row j, with the features' own seed; i counts
//! the columns that φ reads.

use ndarray::{Array2, ArrayView2};

use super::error::PrepareError;
use super::table::MAX_ENTRIES;
use crate::math::scalar::cos;
use crate::rng::{Philox, Purpose};
use crate::spec::Features;

/// d_φ for `inputs` columns; `None` when it leaves the u64.
pub fn feature_count(features: Features, inputs: usize, intercept: bool) -> Option<u64> {
    let own = match features {
        Features::Linear => inputs as u64,
        Features::Polynomial { degree } => monomial_count(inputs, degree)?,
        Features::Fourier { count, .. } => count as u64,
    };
    own.checked_add(u64::from(intercept))
}

/// C(inputs + degree, degree) − 1: monomials of degree 1..=degree.
pub(super) fn monomial_count(inputs: usize, degree: usize) -> Option<u64> {
    if inputs == 0 {
        return Some(0);
    }
    let mut product: u128 = 1;
    // The product of the first i factors is a binomial coefficient, so the division is exact.
    for i in 1..=degree as u128 {
        product = product.checked_mul(inputs as u128 + i)? / i;
        if product > u128::from(u64::MAX) {
            return None;
        }
    }
    u64::try_from(product - 1).ok()
}

/// Appends the monomials of degree 1..=degree of x. A monomial is its first
/// factor times the rest, rounded at each degree.
pub(super) fn monomials(x: &[f64], degree: usize, out: &mut Vec<f64>) {
    let start = out.len();
    out.extend_from_slice(x);
    // Where the monomials of the previous degree that begin with x_i stand.
    let mut previous: Vec<(usize, usize)> =
        (0..x.len()).map(|i| (start + i, start + i + 1)).collect();
    for _ in 1..degree {
        let mut next = Vec::with_capacity(previous.len());
        for (i, xi) in x.iter().enumerate() {
            let begin = out.len();
            // x_i times every shorter monomial whose first factor is x_i or later.
            let end = previous.last().map_or(begin, |last| last.1);
            for at in previous[i].0..end {
                out.push(xi * out[at]);
            }
            next.push((begin, out.len()));
        }
        previous = next;
    }
}

/// φ for every row of x.
pub(super) fn feature_matrix(
    x: ArrayView2<'_, f64>,
    features: Features,
    intercept: bool,
) -> Result<Array2<f64>, PrepareError> {
    let (rows, inputs) = x.dim();
    let count = checked_count(features, rows, inputs, intercept)?;
    let mut values = Vec::with_capacity(rows * count);
    let fourier = FourierDraws::new(features, inputs);
    for row in x.rows() {
        let row = row.to_vec();
        match features {
            Features::Linear => values.extend_from_slice(&row),
            Features::Polynomial { degree } => monomials(&row, degree, &mut values),
            Features::Fourier { .. } => fourier.append(&row, &mut values),
        }
        if intercept {
            values.push(1.0);
        }
    }
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        return Err(PrepareError::NonFiniteFeature {
            feature: at % count,
            row: at / count + 1,
            value: values[at],
        });
    }
    Ok(Array2::from_shape_vec((rows, count), values).expect("count values for each row"))
}

/// d_φ, if there is one and it is affordable.
pub(super) fn checked_count(
    features: Features,
    rows: usize,
    inputs: usize,
    intercept: bool,
) -> Result<usize, PrepareError> {
    let count = feature_count(features, inputs, intercept).unwrap_or(u64::MAX);
    if count == 0 {
        return Err(PrepareError::NoFeatures);
    }
    match count.checked_mul(rows as u64) {
        Some(entries) if entries <= MAX_ENTRIES => Ok(count as usize),
        _ => Err(PrepareError::TooManyFeatures { count, rows }),
    }
}

/// ω and b, drawn once.
struct FourierDraws {
    /// ω_j and b_j.
    waves: Vec<(Vec<f64>, f64)>,
    amplitude: f64,
}

impl FourierDraws {
    fn new(features: Features, inputs: usize) -> Self {
        let Features::Fourier { count, scale, seed } = features else {
            return Self {
                waves: Vec::new(),
                amplitude: 0.0,
            };
        };
        let rng = Philox::new(seed);
        let wave = |j: u32| {
            let frequency = |i: u32| scale * rng.normal(Purpose::FourierFrequency, 0, j, i);
            let phase = std::f64::consts::TAU * rng.uniform(Purpose::FourierPhase, 0, j, 0);
            ((0..inputs as u32).map(frequency).collect(), phase)
        };
        Self {
            waves: (0..count as u32).map(wave).collect(),
            amplitude: (2.0 / count as f64).sqrt(),
        }
    }

    fn append(&self, x: &[f64], out: &mut Vec<f64>) {
        out.extend(self.waves.iter().map(|(frequency, phase)| {
            let products = frequency.iter().zip(x);
            self.amplitude * cos(products.fold(*phase, |s, (w, v)| w.mul_add(*v, s)))
        }));
    }
}
