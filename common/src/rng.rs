//! Addressed random numbers: Philox4x32-10.
//!
//! A draw is not the next of a stream but the value at an address, (seed,
//! purpose, layer, row, column). So the same seed draws the same numbers in
//! every cell of a grid whatever its depth or width, no draw depends on the
//! order in which others were made, and a new use of randomness in one place
//! moves nothing elsewhere.
//!
//! Generator: Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy
//! as 1, 2, 3* (SC 2011); key = seed, counter = (purpose, layer, row, column).

use crate::math::scalar;

/// What a number is drawn for: the first word of its address.
///
/// The numbers are part of the numeric level: add, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// W.
    OutputWeight = 1,
    /// V (in a chain, V_l).
    SkipWeight = 2,
    /// c, the bias of `skip: none`.
    OutputBias = 3,
    /// A_l.
    LayerWeight = 4,
    /// b_l.
    LayerBias = 5,
    /// First matrix of a block, C_l.
    BlockInWeight = 6,
    /// Its bias, c_l.
    BlockInBias = 7,
    /// Middle matrix of a block, D_l.
    BlockMidWeight = 8,
    /// Its bias, d_l.
    BlockMidBias = 9,
    /// Last matrix of a block, B_l.
    BlockOutWeight = 10,
    /// Inputs of generated data.
    DataInput = 32,
    /// Noise on targets of generated data.
    DataNoise = 33,
    /// Labels and coefficients of generated data.
    DataLabel = 34,
    /// ω of Fourier features.
    FourierFrequency = 35,
    /// b of Fourier features.
    FourierPhase = 36,
    /// Structure of a start: which units die, which signs flip, …
    StartPattern = 48,
    /// Numbers of a start beside the standard weights.
    StartValue = 49,
    /// Start vector of a Lanczos iteration.
    Lanczos = 64,
    /// Samples of stochastic gradient descent.
    Sgd = 65,
    /// Directions of an escape or a perturbation.
    Perturbation = 66,
    /// Trial directions for reviving collapsed units.
    Revival = 67,
    /// Power iterations and other estimates.
    Estimate = 68,
    /// Resampling for intervals.
    Bootstrap = 80,
    /// Choice of the tasks to recompute.
    Audit = 81,
    /// Decisions of the adaptive search.
    Search = 82,
}

/// A seed, ready to draw from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

impl Philox {
    /// All draws of one seed.
    pub fn new(seed: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
        }
    }

    /// The four words at a counter.
    pub fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let mut c = counter;
        let mut k = self.key;
        for round in 0..10 {
            if round > 0 {
                k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
            }
            let p0 = u64::from(MULTIPLIER[0]) * u64::from(c[0]);
            let p1 = u64::from(MULTIPLIER[1]) * u64::from(c[2]);
            c = [
                (p1 >> 32) as u32 ^ c[1] ^ k[0],
                p1 as u32,
                (p0 >> 32) as u32 ^ c[3] ^ k[1],
                p0 as u32,
            ];
        }
        c
    }

    /// Two independent 64-bit words.
    pub fn words(self, purpose: Purpose, layer: u32, row: u32, column: u32) -> [u64; 2] {
        let b = self.block([purpose as u32, layer, row, column]);
        [
            u64::from(b[0]) | u64::from(b[1]) << 32,
            u64::from(b[2]) | u64::from(b[3]) << 32,
        ]
    }

    /// Uniform on [0, 1), 53 bits.
    pub fn uniform(self, purpose: Purpose, layer: u32, row: u32, column: u32) -> f64 {
        unit(self.words(purpose, layer, row, column)[0])
    }

    /// Standard normal, by Box & Muller (1958) with this crate's own log and cos.
    pub fn normal(self, purpose: Purpose, layer: u32, row: u32, column: u32) -> f64 {
        let [a, b] = self.words(purpose, layer, row, column);
        // 1 − u lies in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * scalar::ln(1.0 - unit(a))).sqrt();
        radius * scalar::cos(std::f64::consts::TAU * unit(b))
    }

    /// Uniform on 0..bound, without bias that matters below 2³² (multiply-shift).
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(self, bound: u64, purpose: Purpose, layer: u32, row: u32, column: u32) -> u64 {
        assert!(bound > 0, "a draw below 0");
        let word = self.words(purpose, layer, row, column)[0];
        ((u128::from(word) * u128::from(bound)) >> 64) as u64
    }
}

fn unit(word: u64) -> f64 {
    (word >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_known_answers_of_random123() {
        // kat_vectors of Random123 1.14, philox4x32-10.
        let zero = Philox { key: [0, 0] };
        assert_eq!(
            zero.block([0; 4]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        let ones = Philox { key: [u32::MAX; 2] };
        assert_eq!(
            ones.block([u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let pi = Philox {
            key: [0xa409_3822, 0x299f_31d0],
        };
        assert_eq!(
            pi.block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normal_draws_have_the_moments_of_a_normal_distribution() {
        let rng = Philox::new(3);
        let n = 20_000;
        let draws: Vec<f64> = (0..n)
            .map(|i| rng.normal(Purpose::DataInput, 0, i, 0))
            .collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let var = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / f64::from(n);
        let fourth = draws
            .iter()
            .map(|x| (x - mean) * (x - mean) * (x - mean) * (x - mean))
            .sum::<f64>()
            / f64::from(n);
        // Four standard errors.
        assert!(mean.abs() < 4.0 / f64::from(n).sqrt(), "mean {mean}");
        assert!(
            (var - 1.0).abs() < 4.0 * (2.0 / f64::from(n)).sqrt(),
            "variance {var}"
        );
        assert!(
            (fourth - 3.0).abs() < 4.0 * (96.0 / f64::from(n)).sqrt(),
            "fourth {fourth}"
        );
    }

    #[test]
    fn an_address_decides_a_draw_and_each_part_of_it_counts() {
        let rng = Philox::new(1);
        let base = rng.uniform(Purpose::LayerWeight, 1, 2, 3);
        assert_eq!(base, rng.uniform(Purpose::LayerWeight, 1, 2, 3));
        for other in [
            rng.uniform(Purpose::LayerBias, 1, 2, 3),
            rng.uniform(Purpose::LayerWeight, 2, 2, 3),
            rng.uniform(Purpose::LayerWeight, 1, 3, 3),
            rng.uniform(Purpose::LayerWeight, 1, 2, 4),
            Philox::new(2).uniform(Purpose::LayerWeight, 1, 2, 3),
        ] {
            assert_ne!(base, other);
        }
    }
}
