//! Repeated measurements.

use std::time::{Duration, Instant};

/// Shortest sample: reading the clock must not count.
const SAMPLE: Duration = Duration::from_micros(200);
/// Fewest samples.
const FEWEST: usize = 3;

/// Seconds of the samples, ascending.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<f64>);

impl Times {
    /// At least one sample.
    pub(super) fn new(mut seconds: Vec<f64>) -> Self {
        assert!(!seconds.is_empty(), "something was measured");
        seconds.sort_by(f64::total_cmp);
        Self(seconds)
    }

    /// The middle one, or the mean of the two.
    pub(super) fn median(&self) -> f64 {
        let n = self.0.len();
        0.5 * (self.0[(n - 1) / 2] + self.0[n / 2])
    }

    pub(super) fn min(&self) -> f64 {
        self.0[0]
    }

    pub(super) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    pub(super) fn samples(&self) -> usize {
        self.0.len()
    }

    /// The same with every sample shared among `parts`.
    pub(super) fn per(mut self, parts: usize) -> Self {
        self.0.iter_mut().for_each(|s| *s /= parts as f64);
        self
    }
}

/// Seconds of one call.
pub(super) fn once(f: impl FnOnce()) -> f64 {
    let began = Instant::now();
    f();
    began.elapsed().as_secs_f64()
}

/// Seconds a call takes, call after call until `budget` is over. Fast calls are timed in bunches.
pub(super) fn repeat(budget: Duration, mut f: impl FnMut()) -> Times {
    // The first call allocates.
    f();
    let call = once(&mut f);
    let bunch = (SAMPLE.as_secs_f64() / call.max(1e-9)).ceil().max(1.0) as usize;
    let began = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < FEWEST || began.elapsed() < budget {
        let time = once(|| (0..bunch).for_each(|_| f()));
        samples.push(time / bunch as f64);
    }
    Times::new(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        let times = Times::new(vec![4.0, 1.0, 2.0, 8.0]);
        assert_eq!((times.median(), times.min(), times.max()), (3.0, 1.0, 8.0));
        assert_eq!(Times::new(vec![2.0, 9.0, 1.0]).median(), 2.0);
        assert_eq!(Times::new(vec![4.0]).per(2).median(), 2.0);
    }

    #[test]
    fn even_without_time_a_call_is_measured_three_times() {
        let mut calls = 0;
        let times = repeat(Duration::ZERO, || calls += 1);
        assert_eq!(times.samples(), FEWEST);
        assert!(calls >= 2 + FEWEST);
    }
}
