//! Decides which jobs to submit and which to cancel. No process, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::launch::backoff::pause;
use crate::launch::demand;

/// Looks in a row that must find a worker without a task before its job is
/// cancelled: between two rounds of a search there is nothing to do for a
/// moment.
const PATIENT: u32 = 3;
/// Jobs in a row that ended without their worker having joined, after which no
/// more are submitted.
pub const HOPELESS: u32 = 5;
/// Shortest and longest pause after a job could not be submitted, or came to
/// nothing.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// Jobs of one submission: Slurm's usual limit of an array is 1001.
const ARRAY: u32 = 1000;

/// Name of a job as Slurm prints it, `17_3` for a part of an array.
pub type JobName = String;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    Waiting,
    /// Started.
    Running,
    /// Ending.
    Leaving,
}

/// What is there to be decided about.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The jobs of this coordinator that Slurm knows.
    pub jobs: BTreeMap<JobName, Phase>,
    /// The tasks that each attached worker of such a job holds.
    pub held: BTreeMap<JobName, usize>,
    /// Tasks that are not over.
    pub unfinished: u64,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// So many jobs more.
    pub submit: u32,
    /// These have not begun and are not needed.
    pub cancel: Vec<JobName>,
    /// The workers of these have nothing to do: let them leave.
    pub dismiss: Vec<JobName>,
}

/// Keeps as many jobs as the queue needs.
#[derive(Clone, Debug)]
pub struct Keeper {
    limit: u32,
    slots: u32,
    /// Jobs seen and not yet over; whether their worker has joined.
    seen: BTreeMap<JobName, bool>,
    /// How often in a row a worker was found without a task.
    idle: BTreeMap<JobName, u32>,
    /// Submissions in a row that failed.
    failures: u32,
    /// Jobs in a row that came to nothing.
    barren: u32,
    /// Nothing is submitted before.
    not_before: Duration,
}

impl Keeper {
    /// For at most `limit` jobs of so many slots.
    pub fn new(limit: u32, slots: u32) -> Self {
        Self {
            limit,
            slots,
            seen: BTreeMap::new(),
            idle: BTreeMap::new(),
            failures: 0,
            barren: 0,
            not_before: Duration::ZERO,
        }
    }

    /// Whether further jobs would come to nothing as well.
    pub fn is_hopeless(&self) -> bool {
        self.barren >= HOPELESS && self.seen.is_empty()
    }

    /// A submission has failed.
    pub fn submit_failed(&mut self, now: Duration) -> Duration {
        self.failures += 1;
        let pause = pause(self.failures, FIRST, LONGEST);
        self.not_before = now + pause;
        pause
    }

    /// A submission has succeeded.
    pub fn submitted(&mut self) {
        self.failures = 0;
    }

    /// Looks and decides. `now` counts from any moment.
    pub fn look(&mut self, now: Duration, view: &View) -> Acts {
        self.learn(now, view);
        let wanted = demand::workers(view.unfinished, self.slots, self.limit);
        let count = |phase| view.jobs.values().filter(|p| **p == phase).count() as u32;
        let (waiting, running) = (count(Phase::Waiting), count(Phase::Running));
        let mut acts = Acts::default();
        if waiting + running < wanted {
            if now >= self.not_before && self.barren < HOPELESS {
                acts.submit = (wanted - waiting - running).min(ARRAY);
            }
            return acts;
        }
        let mut surplus = (waiting + running - wanted) as usize;
        let of = |phase| {
            let jobs = view.jobs.iter().filter(move |(_, p)| **p == phase);
            jobs.map(|(name, _)| name.clone())
        };
        // The latest have waited least.
        let mut last_first: Vec<JobName> = of(Phase::Waiting).collect();
        last_first.reverse();
        acts.cancel = last_first.into_iter().take(surplus).collect();
        surplus -= acts.cancel.len();
        let patient = |name: &JobName| self.idle.get(name).is_some_and(|n| *n >= PATIENT);
        acts.dismiss = of(Phase::Running).filter(patient).take(surplus).collect();
        acts
    }

    /// Takes notice of jobs that came, whose worker joined, and that ended.
    fn learn(&mut self, now: Duration, view: &View) {
        for name in view.jobs.keys() {
            let joined = view.held.contains_key(name);
            let known = self.seen.entry(name.clone()).or_insert(false);
            if joined && !*known {
                *known = true;
                self.barren = 0;
            }
        }
        let gone: BTreeSet<JobName> = (self.seen.keys())
            .filter(|name| !view.jobs.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            // One that was cancelled while it waited is forgotten before.
            if self.seen.remove(&name) == Some(false) && !view.held.contains_key(&name) {
                self.barren += 1;
                self.not_before = now + pause(self.barren, FIRST, LONGEST);
            }
        }
        self.idle.retain(|name, _| view.held.contains_key(name));
        for (name, held) in &view.held {
            let looks = self.idle.entry(name.clone()).or_insert(0);
            *looks = if *held == 0 { *looks + 1 } else { 0 };
        }
    }

    /// These were cancelled: that they end without a worker is no failure.
    pub fn forget(&mut self, names: &[JobName]) {
        for name in names {
            self.seen.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Leaving, Running, Waiting};

    /// Jobs with the tasks that their workers hold, if they have joined.
    fn view(unfinished: u64, jobs: &[(&str, Phase, Option<usize>)]) -> View {
        let joined = |(name, _, held): &(&str, Phase, Option<usize>)| {
            held.map(|held| ((*name).to_owned(), held))
        };
        View {
            jobs: (jobs.iter())
                .map(|(name, phase, _)| ((*name).to_owned(), *phase))
                .collect(),
            held: jobs.iter().filter_map(joined).collect(),
            unfinished,
        }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn submit(count: u32) -> Acts {
        Acts {
            submit: count,
            ..Acts::default()
        }
    }

    #[test]
    fn jobs_are_as_many_as_the_queue_needs_within_the_limit() {
        let mut keeper = Keeper::new(10, 4);
        assert_eq!(keeper.look(seconds(0), &view(0, &[])), submit(0));
        assert_eq!(keeper.look(seconds(1), &view(9, &[])), submit(3));
        let two = [("1_0", Running, Some(4)), ("1_1", Waiting, None)];
        assert_eq!(keeper.look(seconds(2), &view(9, &two)), submit(1));
        assert_eq!(keeper.look(seconds(3), &view(1_000_000, &two)), submit(8));
        // What ends does not count any more.
        let ending = [("1_0", Leaving, Some(0)), ("1_1", Running, Some(4))];
        assert_eq!(keeper.look(seconds(4), &view(9, &ending)), submit(2));
    }

    #[test]
    fn when_less_is_left_waiting_jobs_go_first_and_then_workers_that_stay_idle() {
        let mut keeper = Keeper::new(10, 1);
        let jobs = [
            ("1_0", Running, Some(1)),
            ("1_1", Running, Some(0)),
            ("1_2", Running, Some(0)),
            ("1_3", Waiting, None),
        ];
        let acts = keeper.look(seconds(0), &view(2, &jobs));
        assert_eq!(acts.cancel, ["1_3"]);
        assert!(acts.dismiss.is_empty(), "it may get a task in a moment");
        keeper.forget(&acts.cancel);
        let jobs = &jobs[..3];
        assert_eq!(keeper.look(seconds(1), &view(2, jobs)), Acts::default());
        let acts = keeper.look(seconds(2), &view(2, jobs));
        assert_eq!((acts.submit, acts.dismiss), (0, vec!["1_1".to_owned()]));
        assert!(!keeper.is_hopeless());
    }

    #[test]
    fn a_worker_with_a_task_is_never_dismissed() {
        let mut keeper = Keeper::new(10, 1);
        let jobs = [("1_0", Running, Some(1)), ("1_1", Running, Some(2))];
        for look in 0..20 {
            let acts = keeper.look(seconds(look), &view(0, &jobs));
            assert_eq!(acts, Acts::default());
        }
    }

    #[test]
    fn after_a_failed_submission_it_waits_longer_each_time() {
        let mut keeper = Keeper::new(2, 1);
        let queue = view(5, &[]);
        assert_eq!(keeper.look(seconds(0), &queue), submit(2));
        assert_eq!(keeper.submit_failed(seconds(0)), seconds(10));
        assert_eq!(keeper.look(seconds(9), &queue), submit(0));
        assert_eq!(keeper.look(seconds(10), &queue), submit(2));
        assert_eq!(keeper.submit_failed(seconds(10)), seconds(20));
        assert_eq!(keeper.look(seconds(29), &queue), submit(0));
        keeper.submitted();
        assert_eq!(keeper.submit_failed(seconds(30)), seconds(10));
    }

    #[test]
    fn jobs_whose_workers_never_join_are_not_submitted_for_ever() {
        let mut keeper = Keeper::new(1, 1);
        let mut now = 0;
        let mut submitted = 0;
        while !keeper.is_hopeless() {
            now += 400;
            submitted += keeper.look(seconds(now), &view(5, &[])).submit;
            keeper.look(seconds(now + 1), &view(5, &[("1", Running, None)]));
            keeper.look(seconds(now + 2), &view(5, &[]));
        }
        assert_eq!(submitted, HOPELESS);
        assert_eq!(keeper.look(seconds(10_000), &view(5, &[])), submit(0));
    }

    #[test]
    fn a_job_that_ended_after_its_worker_had_joined_was_worth_it() {
        let mut keeper = Keeper::new(1, 1);
        for now in 0..20 {
            keeper.look(seconds(2 * now), &view(5, &[("1", Running, Some(1))]));
            let acts = keeper.look(seconds(2 * now + 1), &view(5, &[]));
            assert_eq!(acts, submit(1), "a time limit, say");
        }
    }
}
