//! How long tasks take, and what that says of those to come.
//!
//! Durations are gathered into at most [`BATCHES`] batches of consecutive tasks; when they are
//! full, neighbours join. Tasks follow the order of the grid, so consecutive ones resemble each
//! other (one depth, one data set), and the spread *between batches* shows what a spread between
//! single tasks would hide. With k batches of b tasks, standard deviation s between their sums
//! and r = remaining / b batches to come, the remaining work has the variance s²·(r + r²/k): that
//! of its own sum, and that of the mean it is predicted from. The interval is that of the work's
//! logarithm, which divides and multiplies by exp(t·σ/work), t of k − 1 degrees of freedom: it
//! never reaches below zero, and it leans to the long side as durations do.
//!
//! A task that has run for longer than any that is finished says something too: it takes at least
//! as long as it has run. Its age counts among the durations, and what is left of it is taken to
//! be exponential with its age as the mean: it is expected to run as long again.
//!
//! The time to the end is the work to come, shared by the slots that really compute, but never
//! less than what is left of one task. One [`Paces`] tells it to all who show it.
//!
//! What it cannot know: that cells nobody has met yet are of another kind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::math::scalar::exp;
use common::protocol::SweepNumber;

use crate::progress::Moment;

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
    /// What is left of the one task that takes longest, if it has run for longer than any before.
    pub longest: f64,
}

/// 0.975 quantile of the exponential distribution of mean 1.
const LONG: f64 = 3.69;

impl Estimate {
    /// The same work, shared or scaled.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            seconds: self.seconds * factor,
            interval: (self.interval).map(|(low, high)| (low * factor, high * factor)),
            longest: self.longest * factor,
        }
    }

    /// The time that the work takes where so much of it is done at a time: no task is shared.
    #[must_use]
    pub fn shared_by(self, slots: f64) -> Self {
        let interval = self.interval.map(|(low, high)| {
            let high = (high / slots).max(LONG * self.longest);
            (low / slots, high)
        });
        Self {
            seconds: (self.seconds / slots).max(self.longest),
            interval,
            longest: self.longest,
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

    /// What so many more tasks will take; `None` before the first one. Some of them run already:
    /// `ages` are the seconds since they began, as far as is known.
    pub fn estimate(&self, remaining: u64, ages: impl Iterator<Item = f64>) -> Option<Estimate> {
        if self.count == 0 {
            return None;
        }
        let mut long = Long::default();
        ages.filter(|age| *age > self.longest)
            .take(usize::try_from(remaining).unwrap_or(usize::MAX))
            .for_each(|age| long.add(age));
        let mean = (self.total + long.sum) / (self.count + long.count) as f64;
        let seconds = mean * (remaining - long.count) as f64 + long.sum;
        Some(Estimate {
            seconds,
            interval: self.interval(remaining, seconds, long.squares),
            longest: long.longest,
        })
    }

    /// `more` is variance beside that of the batches.
    fn interval(&self, remaining: u64, work: f64, more: f64) -> Option<(f64, f64)> {
        let k = self.batches.len();
        if k < ENOUGH || work <= 0.0 {
            return None;
        }
        let n = k as f64;
        let mean = self.batches.iter().sum::<f64>() / n;
        let squares = self.batches.iter().map(|x| (x - mean) * (x - mean));
        let variance = squares.sum::<f64>() / (n - 1.0);
        let r = remaining as f64 / self.size as f64;
        let spread = (variance * (r + r * r / n) + more).sqrt();
        let factor = exp(quantile(k - 1) * spread / work);
        Some((work / factor, work * factor))
    }
}

/// Ages of tasks that run for longer than any before.
#[derive(Debug, Default)]
struct Long {
    count: u64,
    sum: f64,
    squares: f64,
    longest: f64,
}

impl Long {
    fn add(&mut self, age: f64) {
        self.count += 1;
        self.sum += age;
        self.squares += age * age;
        self.longest = self.longest.max(age);
    }
}

/// How fast the active sweeps go, told alike to all who show it.
#[derive(Debug, Default)]
pub struct Paces(Mutex<BTreeMap<SweepNumber, Clock>>);

impl Paces {
    fn clocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<SweepNumber, Clock>> {
        // Numbers for people: whatever a panic elsewhere left of them is good enough.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a look at an active sweep into account.
    pub fn saw(&self, now: Instant, sweep: SweepNumber, moment: &Moment) {
        let mut clocks = self.clocks();
        clocks.entry(sweep).or_default().saw(now, moment);
    }

    /// Forgets the sweeps that are active no more.
    pub fn keep(&self, active: impl Fn(SweepNumber) -> bool) {
        self.clocks().retain(|sweep, _| active(*sweep));
    }

    /// Completes a moment with rate and time left.
    pub fn tell(&self, sweep: SweepNumber, moment: &mut Moment) {
        if let Some(clock) = self.clocks().get(&sweep) {
            moment.rate = clock.rate();
            moment.left = clock.left(moment);
        }
    }
}

/// Time that a rate looks back.
const RECENT: Duration = Duration::from_secs(30);
/// Share of the slots' time that is spent computing, not below this.
const LEAST_USE: f64 = 0.02;

/// What rate and time left of a sweep are computed from.
#[derive(Debug, Default)]
struct Clock {
    /// When how many were computed: the last [`RECENT`], a second apart. What an earlier life of
    /// the program has recorded is no speed.
    recent: VecDeque<(Instant, u64)>,
    newest: Option<(Instant, u64)>,
    /// Seconds that slots were there, and the seconds computed when that began.
    slot_seconds: f64,
    computed_before: Option<f64>,
}

impl Clock {
    fn saw(&mut self, now: Instant, moment: &Moment) {
        self.computed_before.get_or_insert(moment.computed_seconds);
        if let Some((before, _)) = self.newest {
            let passed = now.saturating_duration_since(before);
            self.slot_seconds += moment.slots as f64 * passed.as_secs_f64();
        }
        self.newest = Some((now, moment.computed));
        let second = Duration::from_secs(1);
        if (self.recent.back()).is_none_or(|(at, _)| now.saturating_duration_since(*at) >= second) {
            self.recent.push_back((now, moment.computed));
        }
        // One older than that stays, for a rate over all of it.
        while (self.recent.get(1))
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > RECENT)
        {
            self.recent.pop_front();
        }
    }

    /// Tasks computed a second, lately.
    fn rate(&self) -> Option<f64> {
        let ((from, before), (to, now)) = (*self.recent.front()?, self.newest?);
        let seconds = to.saturating_duration_since(from).as_secs_f64();
        (seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
    }

    /// Wall-clock time to the end.
    fn left(&self, moment: &Moment) -> Option<Estimate> {
        let left = moment.planned.saturating_sub(moment.done());
        let at_a_time = moment.slots.min(left);
        let work = moment.work_left?;
        (at_a_time > 0).then(|| work.shared_by(at_a_time as f64 * self.utilisation(moment)))
    }

    /// Share of the slots' time that was spent computing; tasks that have begun are half done.
    fn utilisation(&self, moment: &Moment) -> f64 {
        let mean = moment.computed_seconds / moment.computed.max(1) as f64;
        let before = self.computed_before.unwrap_or(0.0);
        let begun = moment.leased.min(moment.slots) as f64 * mean / 2.0;
        let busy = (moment.computed_seconds - before + begun) / self.slot_seconds;
        // Little of it says nothing: the first tasks have hardly begun.
        if busy.is_finite() && self.slot_seconds > 20.0 * mean * moment.slots.max(1) as f64 {
            busy.clamp(LEAST_USE, 1.0)
        } else {
            1.0
        }
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

    fn none() -> impl Iterator<Item = f64> {
        std::iter::empty()
    }

    #[test]
    fn equal_tasks_have_a_price_without_doubt() {
        let mut durations = Durations::default();
        assert_eq!(durations.estimate(5, none()), None);
        for _ in 0..100 {
            durations.push(2.0);
        }
        let found = durations.estimate(50, none()).unwrap();
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
        let found = durations.estimate(10, none()).unwrap();
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
            let (low, high) = durations.estimate(400, none()).unwrap().interval.unwrap();
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
            let found = durations.estimate(1_000, none()).unwrap();
            let (low, high) = found.interval.unwrap();
            (high - low) / found.seconds
        };
        let (sorted, mixed) = (width(&|n| n), width(&|n| (n * 167) % 256));
        assert!(sorted > 2.0 * mixed, "{sorted} {mixed}");
    }

    #[test]
    fn a_task_that_runs_for_longer_than_any_before_is_expected_to_run_as_long_again() {
        let mut durations = Durations::default();
        (0..99).for_each(|_| durations.push(1.0));
        let usual = durations.estimate(10, none()).unwrap();
        assert_eq!((usual.seconds, usual.longest), (10.0, 0.0));
        // Those that are no longer than usual say nothing new.
        assert_eq!(
            durations.estimate(10, [0.2, 0.9, 1.0].into_iter()),
            Some(usual)
        );
        let found = durations.estimate(10, [0.5, 101.0].into_iter()).unwrap();
        // The mean of 100 with it is 2: nine of that, and as long again.
        assert_eq!((found.seconds, found.longest), (9.0 * 2.0 + 101.0, 101.0));
        let (low, high) = found.interval.unwrap();
        assert!(low < 30.0 && high > 350.0, "{low} {high}");
        // Many slots do not make one task shorter.
        let wall = found.shared_by(50.0);
        assert_eq!(wall.seconds, 101.0);
        assert!(wall.interval.unwrap().1 > 300.0);
        // The last one of all.
        let last = durations.estimate(1, [7.0, 8.0].into_iter()).unwrap();
        assert_eq!(last.seconds, 7.0, "there is but one to come");
    }

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn moment(recorded: u64, computed_seconds: f64) -> Moment {
        Moment {
            planned: 1_000,
            recorded,
            leased: 2,
            workers: 2,
            slots: 2,
            computed: recorded,
            computed_seconds,
            work_left: Some(Estimate {
                seconds: 200.0,
                interval: Some((150.0, 260.0)),
                longest: 0.0,
            }),
            ..Moment::default()
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let began = Instant::now();
        let mut clock = Clock::default();
        assert_eq!(clock.rate(), None);
        for second in 0..200 {
            // Slow at first, then ten a second.
            let recorded = if second < 100 {
                second
            } else {
                100 + (second - 100) * 10
            };
            clock.saw(at(began, second), &moment(recorded, 0.0));
        }
        assert!((clock.rate().unwrap() - 10.0).abs() < 1e-9);
        assert!(clock.recent.len() < 40, "{}", clock.recent.len());
    }

    #[test]
    fn the_time_left_is_work_over_slots_that_really_compute() {
        let began = Instant::now();
        let mut clock = Clock::default();
        // Results of an earlier life say nothing of this one's use of its slots.
        clock.saw(began, &moment(0, 5.0));
        let seen = moment(400, 55.0);
        clock.saw(at(began, 50), &seen);
        // 50 of 100 slot-seconds: half of the slots' time is lost between tasks.
        let left = clock.left(&seen).unwrap();
        assert!((left.seconds - 200.0).abs() < 1.0, "{left:?}");
        let (low, high) = left.interval.unwrap();
        assert!((low - 150.0).abs() < 1.0 && (high - 260.0).abs() < 1.0);
        let nobody = Moment { slots: 0, ..seen };
        assert_eq!(clock.left(&nobody), None);
    }

    #[test]
    fn a_sweep_that_is_over_has_no_pace() {
        let (paces, one) = (Paces::default(), SweepNumber(1));
        let began = Instant::now();
        paces.saw(began, one, &moment(0, 0.0));
        let mut seen = moment(10, 5.0);
        paces.saw(at(began, 2), one, &seen);
        paces.tell(one, &mut seen);
        assert_eq!(seen.rate, Some(5.0));
        assert_eq!(seen.left.map(|left| left.seconds), Some(100.0));
        paces.keep(|_| false);
        let mut seen = moment(10, 5.0);
        paces.tell(one, &mut seen);
        assert_eq!((seen.rate, seen.left), (None, None));
    }
}
