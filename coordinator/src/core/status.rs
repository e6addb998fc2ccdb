//! A look at the scheduler from outside: numbers for people.

use std::sync::Arc;
use std::time::Duration;

use common::ids::{TaskId, WorkerId};
use common::protocol::{Profile, SweepNumber};

use super::Core;
use super::journal::SweepState;
use super::task::State;

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
    /// Average duration of its tasks, seconds.
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

    /// What is going on.
    pub fn status(&self) -> Status {
        let sweeps = self.sweeps.values().map(|sweep| {
            let baselines_solved = sweep
                .needs
                .keys()
                .filter(|id| sweep.solved(id).is_some())
                .count() as u64;
            let failed = sweep
                .failed
                .values()
                .filter(|failed| !failed.place.baseline)
                .count();
            SweepStatus {
                number: sweep.number,
                state: sweep.state,
                priority: sweep.priority,
                planned: sweep.workload.len(),
                duplicates: sweep.duplicates,
                recorded: sweep.recorded.len() as u64,
                failed: failed as u64,
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
