//! The simulation's own dice.

use std::time::Duration;

/// A generator (SplitMix64) with the draws that a simulation needs.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Equal seeds give equal draws.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring worlds.
        let mut dice = Self(seed ^ 0x5DEE_CE66_D1CE_4E5B);
        dice.word();
        dice
    }

    /// A random word.
    pub fn word(&mut self) -> u64 {
        worker::session::next_random(&mut self.0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something happens that happens `n` times in a million.
    pub fn in_a_million(&mut self, n: u64) -> bool {
        self.below(1_000_000) < n
    }

    /// One of two, equally likely.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A duration between two, its magnitude uniform.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (low.as_micros() as u64, high.as_micros() as u64);
        let doublings = high
            .checked_div(low)
            .map_or(0, |ratio| u64::from(ratio.max(1).ilog2()));
        let magnitude = low << self.below(doublings + 1);
        let drawn = magnitude + self.below(magnitude.max(1));
        Duration::from_micros(drawn.clamp(low, high.max(low)))
    }
}
