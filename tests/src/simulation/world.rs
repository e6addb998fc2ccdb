//! Time, and what happens when.

use std::collections::BTreeMap;
use std::time::Duration;

use common::protocol::{LeaseId, Outcome as TaskOutcome, Report};
use coordinator::core as scheduler;

use super::check::Check;
use super::coordinator::SimCoordinator;
use super::network::{Link, LinkId, Side};
use super::random::Dice;
use super::scenario::Scenario;
use super::store::SimStore;
use super::worker::SimWorker;

/// Simulated time that everything has to come to its end in, once the trouble
/// is over.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a world came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Simulated time.
    pub lasted: Duration,
    /// What happened in it.
    pub stats: Stats,
}

/// Counts of what happened.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Stats {
    pub steps: u64,
    pub tasks_recorded: u64,
    pub tasks_set_aside: u64,
    pub executions: u64,
    pub coordinator_deaths: u64,
    pub worker_deaths: u64,
    pub slot_deaths: u64,
    pub task_failures: u64,
    pub links_broken: u64,
    pub links_stalled: u64,
    pub messages_lost: u64,
    pub commits_failed: u64,
    pub commits_unnoticed: u64,
    pub lookups_failed: u64,
    pub freezes: u64,
    pub leaves: u64,
    pub controls: u64,
    pub sweeps_cancelled: u64,
}

impl Stats {
    /// Adds another world's counts.
    pub fn add(&mut self, other: &Self) {
        let Self {
            steps,
            tasks_recorded,
            tasks_set_aside,
            executions,
            coordinator_deaths,
            worker_deaths,
            slot_deaths,
            task_failures,
            links_broken,
            links_stalled,
            messages_lost,
            commits_failed,
            commits_unnoticed,
            lookups_failed,
            freezes,
            leaves,
            controls,
            sweeps_cancelled,
        } = self;
        for (mine, theirs) in [
            (steps, other.steps),
            (tasks_recorded, other.tasks_recorded),
            (tasks_set_aside, other.tasks_set_aside),
            (executions, other.executions),
            (coordinator_deaths, other.coordinator_deaths),
            (worker_deaths, other.worker_deaths),
            (slot_deaths, other.slot_deaths),
            (task_failures, other.task_failures),
            (links_broken, other.links_broken),
            (links_stalled, other.links_stalled),
            (messages_lost, other.messages_lost),
            (commits_failed, other.commits_failed),
            (commits_unnoticed, other.commits_unnoticed),
            (lookups_failed, other.lookups_failed),
            (freezes, other.freezes),
            (leaves, other.leaves),
            (controls, other.controls),
            (sweeps_cancelled, other.sweeps_cancelled),
        ] {
            *mine += theirs;
        }
    }
}

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum What {
    CoordinatorStarts,
    CoordinatorTicks {
        life: u32,
    },
    /// The coordinator of this life is told something.
    CoordinatorHears {
        life: u32,
        event: scheduler::Event,
    },
    StoreWorks {
        life: u32,
    },
    WorkerStarts {
        worker: usize,
    },
    WorkerTicks {
        worker: usize,
        life: u32,
    },
    /// The worker of this life is told something.
    WorkerHears {
        worker: usize,
        life: u32,
        event: worker::session::Event,
    },
    /// A connection that a worker asked for is made, or not.
    Dialled {
        worker: usize,
        life: u32,
    },
    /// The next message of a connection arrives.
    Arrives {
        link: LinkId,
        at: Side,
    },
    /// One side learns that a connection is broken.
    Breaks {
        link: LinkId,
        at: Side,
    },
    /// A slot comes to the end of its current task.
    SlotEnds {
        worker: usize,
        life: u32,
        slot: usize,
        slot_life: u32,
    },
}

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    pub(super) scenario: Scenario,
    pub(super) dice: Dice,
    pub(super) now: u64,
    last: u64,
    queue: BTreeMap<(u64, u64), What>,
    pub(super) coordinator: SimCoordinator,
    pub(super) store: SimStore,
    pub(super) workers: Vec<SimWorker>,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) last_link: u64,
    pub(super) check: Check,
    pub(super) stats: Stats,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(scenario: Scenario, dice: Dice) -> Self {
        let workers = scenario
            .workers
            .iter()
            .map(|slots| SimWorker::new(*slots))
            .collect();
        let mut world = Self {
            scenario,
            dice,
            now: 1_000_000,
            last: 0,
            queue: BTreeMap::new(),
            coordinator: SimCoordinator::default(),
            store: SimStore::default(),
            workers,
            links: BTreeMap::new(),
            last_link: 0,
            check: Check::default(),
            stats: Stats::default(),
        };
        world.after(Duration::ZERO, What::CoordinatorStarts);
        for worker in 0..world.workers.len() {
            let wait = world.wait(0, 3000);
            world.after(wait, What::WorkerStarts { worker });
        }
        world
    }

    /// Lives to the end: until every sweep is over, durably.
    ///
    /// # Errors
    /// The broken promise in words.
    pub fn live(mut self) -> Result<Outcome, String> {
        let end = self.trouble_ends() + PATIENCE.as_micros() as u64;
        while !self.is_over() {
            let Some(((moment, number), what)) = self.queue.pop_first() else {
                return Err("nothing is going to happen any more".into());
            };
            if moment > end {
                return Err(format!("it did not end: {}", self.describe()));
            }
            self.now = moment;
            self.stats.steps += 1;
            self.happens(number, what)?;
        }
        self.check_end()?;
        Ok(Outcome {
            lasted: Duration::from_micros(self.now),
            stats: self.stats,
        })
    }

    fn happens(&mut self, number: u64, what: What) -> Result<(), String> {
        if let Some(thaw) = self.frozen_until(&what) {
            // It waits in front of the process that stands still.
            self.queue.insert((thaw, number), what);
            return Ok(());
        }
        match what {
            What::CoordinatorStarts => self.coordinator_starts(),
            What::CoordinatorTicks { life } => self.coordinator_ticks(life),
            What::CoordinatorHears { life, event } => self.coordinator_hears(life, event),
            What::StoreWorks { life } => {
                self.store_works(life);
                Ok(())
            }
            What::WorkerStarts { worker } => {
                self.worker_starts(worker);
                Ok(())
            }
            What::WorkerTicks { worker, life } => self.worker_ticks(worker, life),
            What::WorkerHears {
                worker,
                life,
                event,
            } => self.worker_hears(worker, life, event),
            What::Dialled { worker, life } => {
                self.dialled(worker, life);
                Ok(())
            }
            What::Arrives { link, at } => self.arrives(link, at),
            What::Breaks { link, at } => {
                self.breaks(link, at);
                Ok(())
            }
            What::SlotEnds {
                worker,
                life,
                slot,
                slot_life,
            } => {
                self.slot_ends(worker, life, slot, slot_life);
                Ok(())
            }
        }
    }

    fn frozen_until(&self, what: &What) -> Option<u64> {
        let thaw = match what {
            What::CoordinatorHears { .. } | What::CoordinatorTicks { .. } => {
                self.coordinator.frozen_until
            }
            What::WorkerHears { worker, .. }
            | What::WorkerTicks { worker, .. }
            | What::SlotEnds { worker, .. } => self.workers[*worker].frozen_until,
            What::Arrives { link, at } => match (self.links.get(link), at) {
                (Some(_), Side::Coordinator) => self.coordinator.frozen_until,
                (Some(link), Side::Worker) => self.workers[link.worker].frozen_until,
                (None, _) => 0,
            },
            _ => 0,
        };
        (thaw > self.now).then_some(thaw)
    }

    /// Lets something happen later. What is scheduled first for one moment
    /// happens first.
    pub(super) fn after(&mut self, wait: Duration, what: What) {
        self.at(self.now + wait.as_micros() as u64, what);
    }

    pub(super) fn at(&mut self, moment: u64, what: What) {
        self.last += 1;
        self.queue.insert((moment, self.last), what);
    }

    /// A random number of milliseconds, uniform.
    pub(super) fn wait(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.dice.below(high - low + 1))
    }

    pub(super) fn latency(&mut self) -> Duration {
        let (low, high) = self.scenario.latency;
        self.dice.duration(low, high)
    }

    pub(super) fn trouble_ends(&self) -> u64 {
        self.scenario.trouble.as_micros() as u64
    }

    /// Whether a fault happens that happens `n` times in a million.
    pub(super) fn fault(&mut self, n: u64) -> bool {
        self.now < self.trouble_ends() && self.dice.in_a_million(n)
    }

    fn describe(&self) -> String {
        let status = self.coordinator.core.as_ref().map(scheduler::Core::status);
        let workers: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                worker
                    .session
                    .as_ref()
                    .map(|session| (session.is_connected(), session.counts()))
            })
            .collect();
        format!("coordinator: {status:?}\nworkers: {workers:?}")
    }
}

/// A report of one outcome.
pub(super) fn report(lease: LeaseId, outcome: TaskOutcome) -> Report {
    Report { lease, outcome }
}
