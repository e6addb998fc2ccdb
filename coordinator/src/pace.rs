//! How long tasks take, and what that says of those to come.
//!
//! Durations are gathered into at most [`BATCHES`] batches of consecutive tasks; when they are
//! full, neighbours join. Tasks follow the order of the grid, so consecutive ones resemble each
//! other (one depth, one data set), and the spread *between batches* shows what a spread between
//! single tasks would hide. With k batches of b tasks, standard deviation s between their sums
//! and r = remaining / b batches to come, the remaining work has the variance s²·(r + r²/k): that
//! of its own sum, and that of the mean it is predicted from. The interval divides and multiplies
//! by 1 + t·σ/work, t of k − 1 degrees of freedom, so it never reaches below zero.
//!
//! What it cannot know: that cells nobody has met yet are of another kind.

/// Most batches.
const BATCHES: usize = 32;
/// Batches without which there is no interval.
const ENOUGH: usize = 8;

/// Durations of tasks, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Durations {
    /// Sums of `size` tasks each.
    batches: Vec<f64>,
    size: u64,
    /// The batch that is not full.
    open: (f64, u64),
    total: f64,
    count: u64,
    longest: f64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            size: 1,
            open: (0.0, 0),
            total: 0.0,
            count: 0,
            longest: 0.0,
        }
    }
}

/// Work to come, in seconds of computing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// As far as the mean tells.
    pub seconds: f64,
    /// The 95 % interval; `None` while too little is measured.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// The same work, shared or scaled.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            interval: (self.interval).map(|(low, high)| (low * factor, high * factor)),
        }
    }
}

impl Durations {
    /// One more task; nonsense is left out.
    pub fn push(&mut self, seconds: f64) {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return;
        }
        self.total += seconds;
        self.count += 1;
        self.longest = self.longest.max(seconds);
        self.open.0 += seconds;
        self.open.1 += 1;
        if self.open.1 < self.size {
            return;
        }
        self.batches.push(self.open.0);
        self.open = (0.0, 0);
        if self.batches.len() == BATCHES {
            let joined = self.batches.chunks(2).map(|pair| pair.iter().sum());
            self.batches = joined.collect();
            self.size *= 2;
        }
    }

    /// Tasks measured.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Seconds of all of them.
    pub fn total(&self) -> f64 {
        self.total
    }

    /// The longest one.
    pub fn longest(&self) -> f64 {
        self.longest
    }

    /// What so many more tasks will take; `None` before the first one.
    pub fn estimate(&self, remaining: u64) -> Option<Estimate> {
        if self.count == 0 {
            return None;
        }
        let seconds = self.total / self.count as f64 * remaining as f64;
        Some(Estimate {
            seconds,
            interval: self.interval(remaining, seconds),
        })
    }

    fn interval(&self, remaining: u64, work: f64) -> Option<(f64, f64)> {
        let k = self.batches.len();
        if k < ENOUGH || work <= 0.0 {
            return None;
        }
        let n = k as f64;
        let mean = self.batches.iter().sum::<f64>() / n;
        let squares = self.batches.iter().map(|x| (x - mean) * (x - mean));
        let variance = squares.sum::<f64>() / (n - 1.0);
        let r = remaining as f64 / self.size as f64;
        let spread = (variance * (r + r * r / n)).sqrt();
        let factor = 1.0 + quantile(k - 1) * spread / work;
        Some((work / factor, work * factor))
    }
}

/// 0.975 quantile of Student's t, by the Cornish–Fisher expansion: within 1 % from 7 degrees on.
fn quantile(degrees: usize) -> f64 {
    let d = degrees as f64;
    1.959_964 + 2.372_3 / d + 2.822_5 / (d * d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::rng::{Philox, Purpose};

    #[test]
    fn equal_tasks_have_a_price_without_doubt() {
        let mut durations = Durations::default();
        assert_eq!(durations.estimate(5), None);
        for _ in 0..100 {
            durations.push(2.0);
        }
        let found = durations.estimate(50).unwrap();
        assert_eq!(found.seconds, 100.0);
        assert_eq!(found.interval, Some((100.0, 100.0)));
        assert!(durations.batches.len() < BATCHES);
    }

    #[test]
    fn an_interval_takes_some_tasks_and_nonsense_counts_for_nothing() {
        let mut durations = Durations::default();
        for seconds in [1.0, f64::NAN, 3.0, -1.0, f64::INFINITY] {
            durations.push(seconds);
        }
        assert_eq!((durations.count(), durations.longest()), (2, 3.0));
        let found = durations.estimate(10).unwrap();
        assert_eq!((found.seconds, found.interval), (20.0, None));
    }

    /// Uneven durations, a thousand times: the interval holds what comes about as often as it says.
    #[test]
    fn the_interval_holds_the_work_to_come_about_as_often_as_it_says() {
        let mut held = 0;
        for trial in 0..1_000 {
            let draws = Philox::new(trial);
            // Mostly short, some long.
            let seconds = |n: u32| {
                let u = draws.uniform(Purpose::Bootstrap, 0, n, 0);
                0.1 + u * u * u * u * 5.0
            };
            let mut durations = Durations::default();
            (0..200).for_each(|n| durations.push(seconds(n)));
            let truth: f64 = (200..600).map(seconds).sum();
            let (low, high) = durations.estimate(400).unwrap().interval.unwrap();
            held += u32::from((low..high).contains(&truth));
        }
        // Skewed durations and a mean and spread that go together cost about two of 95.
        assert!((900..=975).contains(&held), "{held} of 1000");
    }

    #[test]
    fn a_grid_that_gets_slower_widens_the_interval_more_than_the_same_tasks_mixed() {
        let width = |order: &dyn Fn(u64) -> u64| {
            let mut durations = Durations::default();
            (0..256).for_each(|n| durations.push(1.0 + order(n) as f64 / 64.0));
            let found = durations.estimate(1_000).unwrap();
            let (low, high) = found.interval.unwrap();
            (high - low) / found.seconds
        };
        let (sorted, mixed) = (width(&|n| n), width(&|n| (n * 167) % 256));
        assert!(sorted > 2.0 * mixed, "{sorted} {mixed}");
    }
}
