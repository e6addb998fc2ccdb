//! The promises, checked where they are made and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::ids::{BaselineId, TaskId};
use common::pb::encode_evidence;
use common::protocol::{
    Attempt, CoordinatorMessage, FailureKind, LeaseId, Outcome, Receipt, ReceiptStatus,
    SolvedBaseline, SweepNumber, Work, WorkerMessage,
};
use common::record::Evidence;
use coordinator::core::{Core, Effect, Event, NewSweep, RetryLimits, SweepState, Timestamp};
use coordinator::testing::{FakeWorkload, compute};
use coordinator::workload::{PlannedWork, Workload};

use super::coordinator::{config, workloads};
use super::store::SimStore;
use super::world::World;

/// What has been seen of promises.
#[derive(Debug, Default)]
pub(super) struct Check {
    granted: BTreeSet<Attempt>,
    /// What was reported on each lease.
    reported: BTreeMap<LeaseId, Reported>,
    /// Sweeps that the current coordinator has ended.
    ended: BTreeSet<SweepNumber>,
}

#[derive(Clone, Copy, Debug)]
enum Reported {
    Result,
    Failure,
    Checkpoint,
    Nothing,
}

impl Check {
    pub(super) fn begins(&mut self, _life: u32) {
        self.ended.clear();
    }

    pub(super) fn is_reported(&mut self, message: &WorkerMessage) {
        let WorkerMessage::Reports(reports) = message else {
            return;
        };
        for report in reports {
            let what = match &report.outcome {
                Outcome::Result(_) => Reported::Result,
                Outcome::Failure(_) => Reported::Failure,
                Outcome::HandBack(back) if back.checkpoint.is_some() => Reported::Checkpoint,
                Outcome::HandBack(_) | Outcome::Malformed { .. } => Reported::Nothing,
            };
            self.reported.insert(report.lease, what);
        }
    }

    /// What the coordinator may send: new attempts, and receipts for what is
    /// durable.
    pub(super) fn is_sent(
        &mut self,
        message: &CoordinatorMessage,
        store: &SimStore,
    ) -> Result<(), String> {
        match message {
            CoordinatorMessage::Leases(leases) => {
                for lease in leases {
                    if !self.granted.insert(lease.id.attempt) {
                        return Err(format!("attempt {} was granted twice", lease.id.attempt));
                    }
                    if store.durable.results.contains_key(&lease.id.task)
                        && lease.id.attempt.counter() > 100_000
                    {
                        return Err(format!("{} goes round and round", lease.id));
                    }
                }
            }
            CoordinatorMessage::Receipts(receipts) => {
                for receipt in receipts {
                    self.is_acknowledged(receipt, store)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_acknowledged(&self, receipt: &Receipt, store: &SimStore) -> Result<(), String> {
        let lease = receipt.lease;
        let task = lease.task;
        let recorded = store.durable.results.contains_key(&task);
        let durable = match (receipt.status, self.reported.get(&lease)) {
            (ReceiptStatus::Recorded, Some(Reported::Failure)) => {
                store.failures.contains_key(&(task, lease.attempt))
            }
            (ReceiptStatus::Recorded, Some(Reported::Checkpoint)) => {
                recorded || store.checkpoints.contains(&task)
            }
            (ReceiptStatus::Recorded, Some(Reported::Nothing)) => true,
            (ReceiptStatus::Recorded | ReceiptStatus::Duplicate, _) => recorded,
            (ReceiptStatus::Conflict, _) => {
                return Err(format!(
                    "{lease} was taken for a conflict, but workers are honest"
                ));
            }
            (ReceiptStatus::Refused, _) => {
                return Err(format!("{lease} was refused: {}", receipt.detail));
            }
            // A failure or hand-back of an older attempt, or of a sweep that is
            // over.
            (ReceiptStatus::Stale | ReceiptStatus::Unknown, _) => true,
        };
        if durable {
            Ok(())
        } else {
            Err(format!(
                "{lease} was acknowledged ({:?}) and is not durable",
                receipt.status
            ))
        }
    }

    pub(super) fn sweep_ended(
        &mut self,
        sweep: SweepNumber,
        state: SweepState,
        workload: &FakeWorkload,
        store: &SimStore,
    ) -> Result<(), String> {
        if !self.ended.insert(sweep) {
            return Err(format!("sweep {sweep} ended twice"));
        }
        if store.durable.sweeps.get(&sweep).map(|(state, _)| *state) != Some(state) {
            return Err(format!(
                "the end of sweep {sweep} was announced and is not durable"
            ));
        }
        verify(sweep, state, workload, store)
    }
}

/// What a sweep gathered is what an undisturbed run would have found.
fn verify(
    sweep: SweepNumber,
    state: SweepState,
    workload: &FakeWorkload,
    store: &SimStore,
) -> Result<(), String> {
    if workload.contradictions > 0 || workload.repetitions > 0 {
        return Err(format!(
            "sweep {sweep}: {} results were gathered again, {} with other bits",
            workload.repetitions, workload.contradictions
        ));
    }
    let ended = workload.results.len() + workload.set_aside.len();
    if ended != workload.distinct() && state == SweepState::Finished {
        return Err(format!(
            "sweep {sweep}: {} recorded and {} set aside of {}",
            workload.results.len(),
            workload.set_aside.len(),
            workload.distinct()
        ));
    }
    for (task, bytes) in &workload.results {
        if store.durable.results.get(task).map(|opened| &opened.bytes) != Some(bytes) {
            return Err(format!(
                "sweep {sweep}: {task} was gathered and is not durable"
            ));
        }
    }
    Ok(())
}

/// Whether the failures of a task are enough to set it aside, by the documented limits; otherwise
/// what they are.
fn has_reason(failures: impl Iterator<Item = FailureKind>) -> Result<(), String> {
    let limits = RetryLimits::default();
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for kind in failures {
        let limit = match kind {
            FailureKind::InvalidTask => 1,
            FailureKind::Panic => limits.panic,
            FailureKind::OutOfMemory => limits.out_of_memory,
            FailureKind::Crash => limits.crash,
            FailureKind::DataUnavailable => limits.data_unavailable,
            FailureKind::IdentityMismatch => limits.identity_mismatch,
            FailureKind::WorkerLost => limits.worker_lost,
            FailureKind::MalformedReport => limits.malformed_report,
        };
        let count = counts.entry(kind.name()).or_insert((0, limit));
        count.0 += 1;
    }
    if counts.values().any(|(count, limit)| count >= limit) {
        Ok(())
    } else {
        Err(format!("{counts:?} (count, limit)"))
    }
}

impl World {
    /// Whether every sweep is over, durably.
    pub(super) fn is_over(&self) -> bool {
        (1..=self.scenario.sweeps.len() as u32).all(|number| {
            let sweep = self.store.durable.sweeps.get(&SweepNumber(number));
            sweep.is_some_and(|(state, _)| {
                matches!(state, SweepState::Finished | SweepState::Cancelled)
            })
        })
    }

    fn is_cancelled(&self, sweep: SweepNumber) -> bool {
        let sweep = self.store.durable.sweeps.get(&sweep);
        sweep.is_some_and(|(state, _)| *state == SweepState::Cancelled)
    }

    /// The store at the end against an undisturbed run, and the same command
    /// once more.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        if !self.store.durable.conflicts.is_empty() {
            return Err("conflicts were recorded, but workers are honest".into());
        }
        for (number, mut workload) in workloads(&self.scenario) {
            if self.is_cancelled(number) {
                self.stats.sweeps_cancelled += 1;
                continue;
            }
            loop {
                for position in 0..workload.len() {
                    self.check_task(number, &mut workload, position)?;
                }
                if !workload.next_round() {
                    break;
                }
            }
        }
        self.stats.tasks_recorded += self.store.durable.results.len() as u64;
        self.stats.tasks_set_aside += self.store.durable.set_aside.len() as u64;
        self.run_once_more()
    }

    fn check_task(
        &self,
        sweep: SweepNumber,
        workload: &mut FakeWorkload,
        position: u64,
    ) -> Result<(), String> {
        let planned = workload.task(position);
        let store = &self.store.durable;
        let work = match planned.work {
            PlannedWork::Noop { seed, microseconds } => Work::Noop { seed, microseconds },
            PlannedWork::Run {
                cell,
                seed,
                start,
                baseline,
            } => {
                let id = TaskId::from(baseline);
                let evidence = compute(&id, &Work::Baseline { cell: cell.clone() });
                if store.set_aside.contains_key(&(sweep, id)) {
                    // Its runs need not be there, and some may be.
                    return Ok(());
                }
                self.check_bytes(&id, &evidence)?;
                let Evidence::Baseline(evidence) = evidence else {
                    return Err("a baseline's evidence is of another kind".into());
                };
                let id = BaselineId(id.0);
                let baseline = Arc::new(SolvedBaseline {
                    id,
                    evidence: *evidence,
                });
                Work::Run {
                    cell,
                    seed,
                    start,
                    baseline,
                }
            }
        };
        if store.set_aside.contains_key(&(sweep, planned.id)) {
            if self.scenario.sweeps.len() == 1 && store.results.contains_key(&planned.id) {
                return Err(format!("{} is recorded and set aside", planned.id));
            }
            // Of all sweeps: one that joined late takes over what the others have seen.
            let failures = self.store.failures.iter();
            let failures = failures.filter(|((task, _), _)| *task == planned.id);
            return has_reason(failures.map(|(_, kind)| *kind))
                .map_err(|found| format!("{} was set aside after {found}", planned.id));
        }
        self.check_bytes(&planned.id, &compute(&planned.id, &work))
    }

    fn check_bytes(&self, id: &TaskId, expected: &Evidence) -> Result<(), String> {
        match self.store.durable.results.get(id) {
            None => Err(format!("{id} is not recorded")),
            Some(opened) if opened.bytes != encode_evidence(expected) => {
                Err(format!("{id} is recorded with other bits"))
            }
            Some(_) => Ok(()),
        }
    }

    /// The same sweeps on the same store, without a worker: everything is
    /// known, nothing is computed.
    fn run_once_more(&mut self) -> Result<(), String> {
        let cancelled = |number| self.is_cancelled(SweepNumber(number));
        if (1..=self.scenario.sweeps.len() as u32).any(cancelled) {
            return Ok(());
        }
        if !self.store.durable.set_aside.is_empty() {
            // Another sweep may have recorded, after the end of this one, what
            // was set aside in it; it would now be taken up.
            return Ok(());
        }
        let mut core = Core::new(config(), self.coordinator.life + 1, Timestamp(0));
        let mut events: Vec<Event> = Vec::new();
        for (number, workload) in workloads(&self.scenario) {
            let workload = Box::new(workload);
            events.push(Event::Sweep(NewSweep {
                number,
                priority: 0,
                paused: false,
                take_up: coordinator::core::TakeUp::Nothing,
                workload,
            }));
        }
        let n_sweeps = self.scenario.sweeps.len();
        let mut ended = 0;
        for moment in 0..10_000 {
            let mut effects = Vec::new();
            let event = events.pop().unwrap_or(Event::Tick);
            core.step(Timestamp(moment * 50_000), event, &mut effects);
            core.check_invariants()?;
            for effect in effects {
                match effect {
                    Effect::Lookup { ticket, lookup } => {
                        let known = self.store.durable.lookup(&lookup);
                        events.push(Event::Found { ticket, known });
                    }
                    Effect::Persist { ticket, records } => {
                        let exceptions = self.store.durable.persist(&records);
                        events.push(Event::Persisted { ticket, exceptions });
                    }
                    Effect::SweepEnded {
                        sweep,
                        state,
                        workload,
                        ..
                    } => {
                        let workload = workload.into_any().downcast::<FakeWorkload>();
                        let workload = workload.map_err(|_| "another kind of workload")?;
                        verify(sweep, state, &workload, &self.store)?;
                        ended += 1;
                    }
                    _ => {}
                }
            }
            if ended == n_sweeps {
                return Ok(());
            }
        }
        Err(format!(
            "once more, the sweeps do not end: {:?}",
            core.status()
        ))
    }
}
