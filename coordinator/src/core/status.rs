//! A look at the scheduler from outside: numbers for people.

use std::sync::Arc;
use std::time::Duration;

use common::ids::{TaskId, WorkerId};
use common::protocol::{Profile, SweepNumber};

use super::Core;
use super::journal::SweepState;
use super::task::{Kind, State};
use crate::pace::Estimate;

/// What is going on.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Active sweeps.
    pub sweeps: Vec<SweepStatus>,
    /// Workers, detached ones included.
    pub workers: Vec<WorkerStatus>,
    /// Records on their way to the store.
    pub unpersisted: usize,
    /// Whether the store refuses records at the moment.
    pub store_failing: bool,
}

/// How far a sweep is.
#[derive(Clone, Debug)]
pub struct SweepStatus {
    /// Its number.
    pub number: SweepNumber,
    /// Its state.
    pub state: SweepState,
    /// Its priority.
    pub priority: i32,
    /// Positions in its plan.
    pub planned: u64,
    /// Positions found to be the same task as an earlier one, so far.
    pub duplicates: u64,
    /// Runs with a durable result.
    pub recorded: u64,
    /// Runs set aside.
    pub failed: u64,
    /// Tasks in workers' hands, baselines included.
    pub leased: u64,
    /// Baselines solved.
    pub baselines_solved: u64,
    /// Baselines met so far.
    pub baselines: u64,
}

/// A sweep at a glance.
#[derive(Clone, Debug)]
pub struct Glance {
    /// Its state.
    pub state: SweepState,
    /// Its priority.
    pub priority: i32,
    /// Tasks that differ from each other, as far as met.
    pub planned: u64,
    /// Runs with a durable result.
    pub recorded: u64,
    /// Runs set aside.
    pub failed: u64,
    /// Tasks in workers' hands, baselines included.
    pub leased: u64,
    /// Workers connected.
    pub workers: u64,
    /// Tasks that they compute at a time.
    pub slots: u64,
    /// Runs computed in this life of the program.
    pub computed: u64,
    /// Seconds that they took.
    pub computed_seconds: f64,
    /// Seconds of computing that the other runs will take.
    pub work_left: Option<Estimate>,
}

/// A worker.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    /// Who.
    pub id: WorkerId,
    /// What it can do and is called.
    pub profile: Arc<Profile>,
    /// Whether it is connected.
    pub attached: bool,
    /// Whether it gets no more tasks.
    pub draining: bool,
    /// Tasks it holds.
    pub held: usize,
    /// Tasks it wants to hold.
    pub window: u32,
    /// Time until its leases are lost, if nothing is heard.
    pub expires_in: Duration,
    /// Average duration of its runs, seconds.
    pub task_seconds: Option<f64>,
    /// Resident memory, bytes.
    pub memory: u64,
}

/// Where a task is that is neither recorded nor set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It may be handed out.
    Ready,
    /// It failed and is tried again after a pause.
    Delayed,
    /// Its baseline is not solved.
    Waiting,
    /// A worker has it.
    Leased {
        /// The worker's name.
        worker: String,
        /// Whether the worker has begun.
        running: bool,
    },
    /// Its result is on its way to the store.
    Recording,
}

impl std::fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => f.write_str("ready for the next worker"),
            Self::Delayed => f.write_str("failed, and tried again after a pause"),
            Self::Waiting => f.write_str("waits for its baseline"),
            Self::Leased {
                worker,
                running: true,
            } => write!(f, "computed by {worker}"),
            Self::Leased {
                worker,
                running: false,
            } => write!(f, "in the queue of {worker}"),
            Self::Recording => f.write_str("computed, and on its way to the store"),
        }
    }
}

impl Core {
    /// Where a live task is; `None` for one that is not met yet, or over.
    pub fn whereabouts(&self, id: &TaskId) -> Option<Whereabouts> {
        let task = &self.tasks[self.tasks.find(id)?];
        Some(match &task.state {
            State::Ready => Whereabouts::Ready,
            State::Delayed { .. } => Whereabouts::Delayed,
            State::Waiting => Whereabouts::Waiting,
            State::Leased(grant) => Whereabouts::Leased {
                worker: (self.workers.get(&grant.worker))
                    .map(|w| w.profile.name.clone())
                    .unwrap_or_default(),
                running: grant.running,
            },
            State::Recording { .. } => Whereabouts::Recording,
        })
    }

    /// The active sweeps.
    pub fn active(&self) -> impl Iterator<Item = SweepNumber> {
        self.sweeps.keys().copied()
    }

    /// How far an active sweep is. Costs the same however many tasks and baselines it has: it asks
    /// each worker, and what that computes.
    pub fn glance(&self, number: SweepNumber) -> Option<Glance> {
        let sweep = self.sweeps.get(&number)?;
        let attached = self.workers.values().filter(|w| w.session.is_some());
        let (workers, slots) = attached.fold((0, 0), |(workers, slots), worker| {
            (workers + 1, slots + u64::from(worker.profile.slots))
        });
        let planned = sweep.workload.len() - sweep.duplicates;
        let recorded = sweep.recorded.len() as u64;
        let failed = sweep.failed.runs();
        Some(Glance {
            state: sweep.state,
            priority: sweep.priority,
            planned,
            recorded,
            failed,
            leased: sweep.leased,
            workers,
            slots,
            computed: sweep.durations.count(),
            computed_seconds: sweep.durations.total(),
            work_left: (sweep.durations).estimate(
                planned.saturating_sub(recorded + failed),
                self.running_for(number),
            ),
        })
    }

    /// For how many seconds at least the runs of a sweep have been computed that are now.
    fn running_for(&self, sweep: SweepNumber) -> impl Iterator<Item = f64> {
        let attached = self.workers.values().filter(|w| w.session.is_some());
        let running = attached.flat_map(|worker| worker.running.iter());
        running.filter_map(move |(lease, since)| {
            let task = &self.tasks[self.tasks.find(&lease.task)?];
            let State::Leased(grant) = &task.state else {
                return None;
            };
            let counts = grant.attempt == lease.attempt
                && !matches!(task.kind, Kind::Baseline { .. })
                && task.place_in(sweep).is_some();
            counts.then(|| self.now.since(*since).as_secs_f64())
        })
    }

    /// What is going on.
    pub fn status(&self) -> Status {
        let sweeps = self.sweeps.values().map(|sweep| {
            let baselines_solved = sweep
                .needs
                .keys()
                .filter(|id| sweep.solved(id).is_some())
                .count() as u64;
            SweepStatus {
                number: sweep.number,
                state: sweep.state,
                priority: sweep.priority,
                planned: sweep.workload.len(),
                duplicates: sweep.duplicates,
                recorded: sweep.recorded.len() as u64,
                failed: sweep.failed.runs(),
                leased: sweep.leased,
                baselines_solved,
                baselines: sweep.needs.len() as u64,
            }
        });
        let workers = self.workers.values().map(|worker| WorkerStatus {
            id: worker.id,
            profile: worker.profile.clone(),
            attached: worker.session.is_some(),
            draining: worker.draining,
            held: worker.held.len(),
            window: worker.window,
            expires_in: worker.deadline.since(self.now),
            task_seconds: worker.seconds,
            memory: worker.memory,
        });
        Status {
            sweeps: sweeps.collect(),
            workers: workers.collect(),
            unpersisted: self.journal.n_records,
            store_failing: !self.journal.is_healthy(),
        }
    }
}
