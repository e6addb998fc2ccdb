//! How many tasks to hold, judged by how long they take.

/// Seconds of work that a worker wants to have at hand beyond what its slots
/// compute: several times the way to the coordinator and back.
const AT_HAND: f64 = 0.2;
/// Seconds of work that a slot is given at a time. A frame then costs little
/// beside its tasks, and is never far from its end.
const FRAME: f64 = 0.01;
/// Most tasks at hand for a slot: tasks that take no time are limited by
/// messages, and more of them would not help.
const MOST: u32 = 4096;

/// A moving average of the durations of tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    seconds: Option<f64>,
}

impl Pace {
    /// Takes a duration into the average.
    pub fn learn(&mut self, seconds: f64) {
        let seconds = if seconds.is_finite() {
            seconds.max(0.0)
        } else {
            return;
        };
        self.seconds = Some(
            self.seconds
                .map_or(seconds, |mean| mean + (seconds - mean) / 16.0),
        );
    }

    /// Whether it has learned anything.
    pub(super) fn is_known(&self) -> bool {
        self.seconds.is_some()
    }

    /// Tasks that fill this many seconds of one slot, between `least` and
    /// [`MOST`]; `least` while nothing is known.
    fn tasks_in(&self, span: f64, least: u32) -> u32 {
        let Some(seconds) = self.seconds else {
            return least;
        };
        let tasks = (span / seconds.max(1e-7)).ceil();
        // Comparing before converting: the quotient may be huge.
        if tasks >= f64::from(MOST) {
            MOST
        } else {
            (tasks as u32).max(least)
        }
    }

    /// Unfinished tasks to hold with this many slots.
    pub fn window(&self, slots: u32) -> u32 {
        slots.saturating_mul(1 + self.tasks_in(AT_HAND, 1))
    }

    /// Tasks that a slot is given at a time.
    pub fn frame(&self) -> usize {
        self.tasks_in(FRAME, 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(seconds: f64) -> Pace {
        let mut pace = Pace::default();
        pace.learn(seconds);
        pace
    }

    #[test]
    fn long_tasks_are_held_one_ahead_for_each_slot_and_given_one_by_one() {
        for pace in [Pace::default(), pace(600.0), pace(1.0)] {
            assert_eq!((pace.window(4), pace.frame()), (8, 1));
        }
    }

    #[test]
    fn tiny_tasks_travel_in_large_batches() {
        assert_eq!((pace(1e-4).window(2), pace(1e-4).frame()), (2 * 2001, 100));
        assert_eq!((pace(0.0).window(2), pace(0.0).frame()), (2 * 4097, 4096));
    }

    #[test]
    fn a_duration_that_is_no_number_teaches_nothing() {
        let mut pace = pace(1.0);
        pace.learn(f64::NAN);
        assert_eq!(pace.window(1), 2);
    }
}
