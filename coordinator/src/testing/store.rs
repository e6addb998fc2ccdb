//! The store's contract, written down as maps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{TaskId, WorkerId};
use common::protocol::{Attempt, Place, SweepNumber};

use crate::core::{
    AlreadyThere, Exception, Known, Lookup, Opened, PastFailure, Record, SweepState,
};

/// Everything that has been made durable.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    /// One result a task.
    pub results: BTreeMap<TaskId, Opened>,
    /// Results with other bits than the recorded one.
    pub conflicts: BTreeSet<(TaskId, Attempt)>,
    /// Failures by sweep and task, in the order of their attempts.
    pub failures: BTreeMap<(SweepNumber, TaskId), BTreeMap<Attempt, PastFailure>>,
    /// Tasks set aside.
    pub set_aside: BTreeMap<(SweepNumber, TaskId), Place>,
    /// Where tasks can be continued.
    pub checkpoints: BTreeMap<TaskId, (Bytes, u64)>,
    /// θ, and who wants it.
    pub theta: BTreeMap<TaskId, (Arc<[f64]>, BTreeSet<SweepNumber>)>,
    /// State and priority of sweeps.
    pub sweeps: BTreeMap<SweepNumber, (SweepState, i32)>,
    /// Workers that results may name.
    pub workers: BTreeSet<WorkerId>,
}

impl MemoryStore {
    /// Makes records durable; presenting them again changes nothing.
    pub fn persist(&mut self, records: &[Record]) -> Vec<Exception> {
        let mut exceptions = Vec::new();
        for (position, record) in records.iter().enumerate() {
            if let Some(found) = self.apply(record) {
                exceptions.push(Exception {
                    record: position as u32,
                    found,
                });
            }
        }
        exceptions
    }

    fn apply(&mut self, record: &Record) -> Option<AlreadyThere> {
        match record {
            Record::Worker { id, .. } => {
                self.workers.insert(*id);
            }
            Record::Result {
                task,
                attempt,
                evidence,
                theta,
                ..
            } => {
                if let Some(found) = self.results.get(task) {
                    if found.digest == evidence.digest {
                        return Some(AlreadyThere::Equal);
                    }
                    self.conflicts.insert((*task, *attempt));
                    return Some(AlreadyThere::Different);
                }
                self.results.insert(*task, evidence.clone());
                self.checkpoints.remove(task);
                if let Some(kept) = theta {
                    let sweeps = kept.sweeps.iter().copied().collect();
                    self.theta.insert(*task, (kept.theta.clone(), sweeps));
                }
            }
            Record::Conflict { task, attempt, .. } => {
                self.conflicts.insert((*task, *attempt));
            }
            Record::Failure {
                task,
                place,
                worker,
                attempt,
                kind,
                ..
            } => {
                let failures = self.failures.entry((place.sweep, *task)).or_default();
                failures.entry(*attempt).or_insert(PastFailure {
                    worker: *worker,
                    kind: *kind,
                    attempt: *attempt,
                });
            }
            Record::SetAside { task, place } => {
                self.set_aside.insert((place.sweep, *task), *place);
            }
            Record::TakenUpAgain { sweep, tasks } => {
                for task in tasks {
                    self.failures.remove(&(*sweep, *task));
                    self.set_aside.remove(&(*sweep, *task));
                }
            }
            Record::Checkpoint {
                task,
                state,
                evaluations,
            } => {
                if !self.results.contains_key(task) {
                    self.checkpoints
                        .insert(*task, (state.clone(), *evaluations));
                }
            }
            Record::ReleaseTheta { sweep, tasks } => {
                for task in tasks {
                    if let Some((_, sweeps)) = self.theta.get_mut(task) {
                        sweeps.remove(sweep);
                        if sweeps.is_empty() {
                            self.theta.remove(task);
                        }
                    }
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

    /// What is known of the tasks of a lookup.
    pub fn lookup(&self, lookup: &Lookup) -> Known {
        let mut known = Known::default();
        for task in &lookup.tasks {
            if let Some(result) = self.results.get(task) {
                known.results.push((*task, result.clone()));
                continue;
            }
            let key = (lookup.sweep, *task);
            let failures = self.failures.get(&key).into_iter().flatten();
            known
                .failures
                .extend(failures.map(|(_, failure)| (*task, *failure)));
            if self.set_aside.contains_key(&key) {
                known.set_aside.push(*task);
            }
            if let Some((state, evaluations)) = self.checkpoints.get(task) {
                known.checkpoints.push((*task, state.clone(), *evaluations));
            }
        }
        known
    }
}
