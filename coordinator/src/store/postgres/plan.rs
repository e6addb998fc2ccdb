//! What a batch of tickets comes to.
//!
//! Records are applied in order to maps, as the contract says it; what is left are a handful of
//! sets that go to the database as a handful of statements, whatever the number of records.
//! Nothing inside a transaction is seen by anybody else, so only the sum counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{IdMap, TaskId, WorkerId};
use common::protocol::{Attempt, FailureKind, Place, Profile, SweepNumber};
use common::record::Telemetry;

use super::super::Chain;
use crate::core::{AlreadyThere, Exception, KeptTheta, Opened, Record, SweepState};

/// What the database knows that matters to a batch.
#[derive(Debug)]
pub(super) struct Before<'a> {
    /// Evidence of those tasks of the batch that are recorded.
    pub(super) recorded: &'a HashMap<TaskId, Bytes>,
    /// Numbers of all workers.
    pub(super) workers: &'a IdMap<WorkerId, i64>,
    /// The chain so far.
    pub(super) chain: Chain,
}

/// A result to be added.
#[derive(Debug)]
pub(super) struct NewResult<'a> {
    pub(super) number: i64,
    pub(super) task: TaskId,
    pub(super) place: Place,
    pub(super) worker: i64,
    pub(super) attempt: Attempt,
    pub(super) evidence: &'a Opened,
    pub(super) telemetry: Telemetry,
}

/// A failure to be added.
#[derive(Debug)]
pub(super) struct NewFailure<'a> {
    pub(super) place: Place,
    pub(super) worker: i64,
    pub(super) kind: FailureKind,
    pub(super) message: &'a str,
}

/// The sum of a batch. The order of its parts is the order of their statements.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    before: Before<'a>,
    next_worker: i64,
    /// Added or brought up to date, with their numbers; no profile is known of some.
    pub(super) workers: BTreeMap<WorkerId, (i64, Option<&'a Profile>)>,
    pub(super) results: Vec<NewResult<'a>>,
    new: HashMap<TaskId, &'a Opened>,
    pub(super) chain: Chain,
    pub(super) conflicts: BTreeMap<(TaskId, Attempt), (i64, &'a Opened)>,
    /// Whose failures are forgotten, before those below are added.
    pub(super) taken_up: BTreeSet<(SweepNumber, TaskId)>,
    pub(super) failures: BTreeMap<(SweepNumber, TaskId, Attempt), NewFailure<'a>>,
    pub(super) set_aside: BTreeSet<(SweepNumber, TaskId)>,
    /// Kept unless the task is recorded.
    pub(super) checkpoints: BTreeMap<TaskId, (&'a Bytes, u64)>,
    /// Wishes for θ that end, of results that were there before.
    pub(super) released: BTreeSet<(TaskId, SweepNumber)>,
    pub(super) kept: BTreeMap<TaskId, (&'a Arc<[f64]>, BTreeSet<SweepNumber>)>,
    pub(super) sweeps: BTreeMap<SweepNumber, (SweepState, i32)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(before: Before<'a>) -> Self {
        let next_worker = before.workers.values().max().map_or(1, |last| last + 1);
        let chain = before.chain;
        Self {
            before,
            next_worker,
            workers: BTreeMap::new(),
            results: Vec::new(),
            new: HashMap::new(),
            chain,
            conflicts: BTreeMap::new(),
            taken_up: BTreeSet::new(),
            failures: BTreeMap::new(),
            set_aside: BTreeSet::new(),
            checkpoints: BTreeMap::new(),
            released: BTreeSet::new(),
            kept: BTreeMap::new(),
            sweeps: BTreeMap::new(),
        }
    }

    /// Adds a ticket's records; what the store held already of them.
    pub(super) fn add(&mut self, records: &'a [Record]) -> Vec<Exception> {
        let mut exceptions = Vec::new();
        for (position, record) in records.iter().enumerate() {
            if let Some(found) = self.record(record) {
                exceptions.push(Exception {
                    record: position as u32,
                    found,
                });
            }
        }
        exceptions
    }

    fn record(&mut self, record: &'a Record) -> Option<AlreadyThere> {
        match record {
            Record::Worker { id, profile } => {
                let number = self.number_of(id);
                self.workers.insert(*id, (number, Some(profile)));
            }
            Record::Result {
                task,
                place,
                worker,
                attempt,
                evidence,
                telemetry,
                theta,
            } => {
                return self.result(task, *place, worker, *attempt, evidence, telemetry, theta);
            }
            Record::Conflict {
                task,
                worker,
                attempt,
                evidence,
            } => self.conflict(task, worker, *attempt, evidence),
            Record::Failure {
                task,
                place,
                worker,
                attempt,
                kind,
                message,
            } => {
                let worker = self.number_of(worker);
                let (place, kind) = (*place, *kind);
                let key = (place.sweep, *task, *attempt);
                self.failures.entry(key).or_insert(NewFailure {
                    place,
                    worker,
                    kind,
                    message,
                });
            }
            Record::SetAside { task, place } => {
                self.set_aside.insert((place.sweep, *task));
            }
            Record::TakenUpAgain { sweep, tasks } => {
                for task in tasks {
                    self.take_up_again(*sweep, *task);
                }
            }
            Record::Checkpoint {
                task,
                state,
                evaluations,
            } => {
                self.checkpoints.insert(*task, (state, *evaluations));
            }
            Record::ReleaseTheta { sweep, tasks } => {
                for task in tasks {
                    self.release_theta(*sweep, *task);
                }
            }
            Record::Sweep {
                sweep,
                state,
                priority,
            } => {
                self.sweeps.insert(*sweep, (*state, *priority));
            }
        }
        None
    }

    /// The number of a worker; results and failures keep that.
    fn number_of(&mut self, id: &WorkerId) -> i64 {
        if let Some(number) = self.before.workers.get(id) {
            return *number;
        }
        let next = self.next_worker;
        // Its own record comes first; should it not, the worker has no profile.
        let (number, _) = self.workers.entry(*id).or_insert((next, None));
        self.next_worker += i64::from(*number == next);
        *number
    }

    fn result(
        &mut self,
        task: &TaskId,
        place: Place,
        worker: &WorkerId,
        attempt: Attempt,
        evidence: &'a Opened,
        telemetry: &Telemetry,
        theta: &'a Option<KeptTheta>,
    ) -> Option<AlreadyThere> {
        let recorded = self.before.recorded.get(task);
        if let Some(there) = recorded.or_else(|| self.new.get(task).map(|new| &new.bytes)) {
            if *there == evidence.bytes {
                return Some(AlreadyThere::Equal);
            }
            self.conflict(task, worker, attempt, evidence);
            return Some(AlreadyThere::Different);
        }
        let worker = self.number_of(worker);
        self.chain = self.chain.with(task, &evidence.digest);
        self.results.push(NewResult {
            number: self.chain.results as i64,
            task: *task,
            place,
            worker,
            attempt,
            evidence,
            telemetry: *telemetry,
        });
        self.new.insert(*task, evidence);
        if let Some(KeptTheta { theta, sweeps }) = theta {
            let sweeps = sweeps.iter().copied().collect();
            self.kept.insert(*task, (theta, sweeps));
        }
        None
    }

    fn conflict(
        &mut self,
        task: &TaskId,
        worker: &WorkerId,
        attempt: Attempt,
        evidence: &'a Opened,
    ) {
        let worker = self.number_of(worker);
        self.conflicts
            .entry((*task, attempt))
            .or_insert((worker, evidence));
    }

    fn take_up_again(&mut self, sweep: SweepNumber, task: TaskId) {
        self.taken_up.insert((sweep, task));
        self.set_aside.remove(&(sweep, task));
        let all = (sweep, task, Attempt(0))..=(sweep, task, Attempt(u64::MAX));
        let forgotten: Vec<_> = self.failures.range(all).map(|(key, _)| *key).collect();
        for key in forgotten {
            self.failures.remove(&key);
        }
    }

    fn release_theta(&mut self, sweep: SweepNumber, task: TaskId) {
        let Some((_, sweeps)) = self.kept.get_mut(&task) else {
            self.released.insert((task, sweep));
            return;
        };
        sweeps.remove(&sweep);
        if sweeps.is_empty() {
            self.kept.remove(&task);
        }
    }
}
