//! Reports: results, failures and what is handed back.
//!
//! A result is a fact about its task, whoever computed it and under whatever
//! attempt, so the first one that arrives is recorded; later ones are compared
//! with it. A failure or a hand-back is a fact about one lease and counts only
//! while that lease is the current one: that is what attempt numbers are for.

use std::time::Duration;

use common::ids::{BaselineId, TaskId, WorkerId};
use common::planted::{Bug, planted};
use common::protocol::{
    Attempt, FailureKind, HandBack, LeaseId, Place, Receipt, ReceiptStatus, SweepNumber,
};
use common::record::Telemetry;

use super::Core;
use super::event::{Incoming, IncomingOutcome, Notice, SessionId};
use super::journal::{KeptTheta, Opened, Record, Ticket};
use super::ledger::Key;
use super::retry::{Decision, PastFailure, RetryLimits};
use super::sweep::{Failed, NeedState};
use super::task::{Kind, State, TaskIdx};
use super::worker::WorkerNumber;

/// A computed task on its way in.
struct Arrived {
    evidence: Opened,
    telemetry: Telemetry,
    theta: Vec<f64>,
}

impl Core {
    pub(super) fn on_reports(&mut self, session: SessionId, reports: Vec<Incoming>) {
        if self.heard(session).is_none() {
            return;
        }
        let Some(number) = self.sessions.get(&session).copied() else {
            return;
        };
        for report in reports {
            let lease = report.lease;
            match report.outcome {
                IncomingOutcome::Result {
                    evidence,
                    telemetry,
                    theta,
                } => {
                    let arrived = Arrived {
                        evidence,
                        telemetry,
                        theta,
                    };
                    self.on_result(session, number, lease, arrived);
                }
                IncomingOutcome::Failure { kind, message } => {
                    self.on_failure(session, number, lease, kind, message);
                }
                IncomingOutcome::HandBack(back) => {
                    self.on_hand_back(session, number, lease, back);
                }
                IncomingOutcome::Malformed { detail } => {
                    self.on_malformed(session, number, lease, detail);
                }
            }
        }
    }

    fn on_result(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        arrived: Arrived,
    ) {
        let Some(idx) = self.tasks.find(&lease.task) else {
            self.on_result_for_settled(session, number, lease, arrived);
            return;
        };
        if !self.was_granted(lease) {
            let detail = format!("attempt {} was never granted", lease.attempt);
            self.refuse(session, lease, ReceiptStatus::Unknown, detail);
            return;
        }
        if !self.tasks[idx].kind.matches(&arrived.evidence.evidence) {
            let detail = "evidence of another kind than the task asks for".to_owned();
            self.on_malformed(session, number, lease, detail);
            return;
        }
        if let State::Recording { ticket, record } = self.tasks[idx].state
            && !planted(Bug::RecordsSecondResult)
        {
            self.on_second_result(session, number, lease, &arrived.evidence, ticket, record);
            return;
        }
        let ended = self.end_lease(idx);
        self.unqueue(idx);
        if let Some(grant) = ended
            && (grant.worker, grant.attempt) != (number, lease.attempt)
        {
            self.revoke(
                grant.worker,
                LeaseId {
                    task: lease.task,
                    attempt: grant.attempt,
                },
            );
        }
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.streak = 0;
            // A baseline says nothing of how long the runs after it take.
            if !matches!(self.tasks[idx].kind, Kind::Baseline { .. }) {
                worker.learn(arrived.telemetry.seconds);
            }
        }
        self.record(session, number, lease, idx, arrived);
    }

    /// Sends a result to the store; the task lives until it is there.
    fn record(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        idx: TaskIdx,
        arrived: Arrived,
    ) {
        let worker = self.workers[&number].id;
        let ticket = self.journal.next();
        let task = &self.tasks[idx];
        let wanting = |place: &&Place| {
            !place.baseline
                && self.sweeps.get(&place.sweep).is_some_and(|sweep| {
                    let evidence = &arrived.evidence.evidence;
                    sweep
                        .workload
                        .wants_theta(place.position, &task.id, evidence)
                })
        };
        let theta = if arrived.theta.is_empty() {
            None
        } else {
            let sweeps: Vec<SweepNumber> = task
                .owners
                .iter()
                .filter(wanting)
                .map(|place| place.sweep)
                .collect();
            (!sweeps.is_empty()).then(|| KeptTheta {
                theta: arrived.theta.into(),
                sweeps,
            })
        };
        let place = task.owners[0];
        for owner in &task.owners {
            if let Some(sweep) = self.sweeps.get_mut(&owner.sweep)
                && !owner.baseline
            {
                sweep.durations.push(arrived.telemetry.seconds);
            }
        }
        let record = self.journal.push(Record::Result {
            task: lease.task,
            place,
            worker,
            attempt: lease.attempt,
            evidence: arrived.evidence,
            telemetry: arrived.telemetry,
            theta,
        });
        self.tasks[idx].state = State::Recording { ticket, record };
        self.journal.resting.results.push((record, idx));
        let status = ReceiptStatus::Recorded;
        if planted(Bug::AcknowledgesBeforeCommit) {
            self.receipt(session, lease, status, String::new());
            return;
        }
        let receipt = Receipt {
            lease,
            status,
            detail: String::new(),
        };
        self.journal
            .resting
            .receipts
            .push((session, Some(record), receipt));
    }

    /// A second result while the first one is on its way to the store.
    fn on_second_result(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        evidence: &Opened,
        ticket: Ticket,
        record: u32,
    ) {
        let first = if ticket == self.journal.next() {
            self.journal.records.get(record as usize)
        } else {
            let flight = self.journal.in_flight.get(&ticket);
            flight.and_then(|flight| flight.records.get(record as usize))
        };
        let equal = matches!(
            first,
            Some(Record::Result { evidence: first, .. }) if first.digest == evidence.digest
        );
        if !equal {
            self.conflict(session, number, lease, evidence.clone());
            return;
        }
        let status = ReceiptStatus::Duplicate;
        let receipt = Receipt {
            lease,
            status,
            detail: String::new(),
        };
        let resting = if ticket == self.journal.next() {
            Some(&mut self.journal.resting)
        } else {
            self.journal
                .in_flight
                .get_mut(&ticket)
                .map(|flight| &mut flight.resting)
        };
        if let Some(resting) = resting {
            resting.receipts.push((session, None, receipt));
        }
    }

    /// A result of a task that is recorded, set aside or unknown.
    fn on_result_for_settled(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        arrived: Arrived,
    ) {
        let id = lease.task;
        if let Some(mark) = self.recorded_mark(&id) {
            if mark == arrived.evidence.mark() {
                self.receipt(session, lease, ReceiptStatus::Duplicate, String::new());
            } else {
                self.conflict(session, number, lease, arrived.evidence);
            }
            return;
        }
        let failed = self.sweeps.values().find_map(|sweep| {
            let failed = sweep.failed.get(&id)?;
            sweep.is_active().then_some(failed.place)
        });
        let Some(place) = failed.filter(|_| self.was_granted(lease)) else {
            let detail = "no active sweep has this task leased, recorded or failed".to_owned();
            self.refuse(session, lease, ReceiptStatus::Unknown, detail);
            return;
        };
        // Set aside too early: here is its result.
        let Some(idx) = self.take_up_again(place, &id) else {
            return;
        };
        if self.tasks[idx].kind.matches(&arrived.evidence.evidence) {
            self.record(session, number, lease, idx, arrived);
        } else {
            self.requeue(idx);
            let detail = "evidence of another kind than the task asks for".to_owned();
            self.on_malformed(session, number, lease, detail);
        }
    }

    /// The mark of the recorded evidence of a task, if an active sweep has it.
    fn recorded_mark(&self, id: &TaskId) -> Option<u64> {
        let key = Key::from(id);
        let baseline = BaselineId(id.0);
        self.sweeps.values().find_map(|sweep| {
            let run = sweep.recorded.mark(&key);
            run.or_else(|| match &sweep.needs.get(&baseline)?.state {
                NeedState::Solved { mark, .. } => Some(*mark),
                _ => None,
            })
        })
    }

    /// Makes a task that was set aside live again, in no queue.
    fn take_up_again(&mut self, place: Place, id: &TaskId) -> Option<TaskIdx> {
        let sweep = self.sweeps.get_mut(&place.sweep)?;
        sweep.failed.remove(id);
        sweep.histories.remove(id);
        if !place.baseline {
            sweep.workload.taken_up_again(place.position, id);
        }
        if !planted(Bug::ForgetsToRecordTakingUp) {
            self.journal.push(Record::TakenUpAgain {
                sweep: place.sweep,
                tasks: vec![*id],
            });
        }
        sweep.last_ticket = self.journal.next();
        let ahead_of_walk = sweep.adopted.contains(&place.position);
        let idx = self.revive(id, place)?;
        if !ahead_of_walk && let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
            // The walk has passed this position and will not meet it again.
            sweep.adopted.remove(&place.position);
        }
        Some(idx)
    }

    fn conflict(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        evidence: Opened,
    ) {
        let worker = self.workers[&number].id;
        let (task, attempt) = (lease.task, lease.attempt);
        self.journal.push(Record::Conflict {
            task,
            worker,
            attempt,
            evidence,
        });
        let detail = "recorded with other bits; kept for the audit".to_owned();
        let receipt = Receipt {
            lease,
            status: ReceiptStatus::Conflict,
            detail,
        };
        self.journal.resting.receipts.push((session, None, receipt));
        self.notice(Notice::Conflict { task, worker });
    }

    fn on_failure(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        kind: FailureKind,
        message: String,
    ) {
        let current = self.tasks.find(&lease.task);
        let current = current.filter(|idx| self.tasks[*idx].grant(number, lease.attempt).is_some());
        let Some(idx) = current else {
            self.receipt(session, lease, ReceiptStatus::Stale, String::new());
            return;
        };
        let id = self.workers[&number].id;
        if RetryLimits::blames_worker(kind)
            && let Some(worker) = self.workers.get_mut(&number)
        {
            worker.streak += 1;
        }
        self.end_lease(idx);
        self.fail(idx, id, lease.attempt, kind, message);
        let status = ReceiptStatus::Recorded;
        let receipt = Receipt {
            lease,
            status,
            detail: String::new(),
        };
        self.journal.resting.receipts.push((session, None, receipt));
        self.distrust(number);
    }

    /// Counts a failed attempt at a task in no queue, and tries it again or
    /// sets it aside.
    pub(super) fn fail(
        &mut self,
        idx: TaskIdx,
        worker: WorkerId,
        attempt: Attempt,
        kind: FailureKind,
        message: String,
    ) {
        let ticket = self.journal.next();
        let task = &mut self.tasks[idx];
        let id = task.id;
        // A report can arrive twice: its receipt was lost with a connection or a coordinator, and
        // the worker has claimed its lease anew. That is still one failure.
        let is_known = task.failures.iter().any(|past| past.attempt == attempt)
            && !planted(Bug::CountsFailureTwice);
        let decision = if is_known {
            Decision::Again(Duration::ZERO)
        } else {
            task.failures.push(PastFailure {
                worker,
                kind,
                attempt,
            });
            self.config.retry.decide(&task.failures)
        };
        for place in task.owners.clone() {
            if !planted(Bug::ForgetsToRecordFailures) {
                self.journal.push(Record::Failure {
                    task: id,
                    place,
                    worker,
                    attempt,
                    kind,
                    message: message.clone(),
                });
            }
            if let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
                sweep.last_ticket = ticket;
            }
        }
        let again = matches!(decision, Decision::Again(_));
        self.notice(Notice::TaskFailed {
            lease: LeaseId { task: id, attempt },
            kind,
            message,
            again,
        });
        match decision {
            Decision::Again(pause) if pause.is_zero() => self.requeue(idx),
            Decision::Again(pause) => {
                let until = self.now.after(pause);
                self.tasks[idx].state = State::Delayed { until };
                self.delayed.insert((until, idx));
            }
            Decision::SetAside => self.set_aside(idx, kind),
        }
    }

    /// Ends a live task in no queue without a result.
    fn set_aside(&mut self, idx: TaskIdx, kind: FailureKind) {
        if let Some(stored) = self.tasks[idx].stored.take() {
            self.settle(idx, &stored);
            return;
        }
        let task = self.tasks.remove(idx);
        for place in task.owners {
            if !planted(Bug::ForgetsToRecordSetAside) {
                self.journal.push(Record::SetAside {
                    task: task.id,
                    place,
                });
            }
            let Some(sweep) = self.sweeps.get_mut(&place.sweep) else {
                continue;
            };
            if place.baseline {
                sweep.live_baselines -= 1;
                self.baseline_failed(place.sweep, BaselineId(task.id.0), kind);
            } else {
                sweep.live -= 1;
                sweep.failed.insert(
                    task.id,
                    Failed {
                        place,
                        kind,
                        because_of: None,
                    },
                );
                sweep.workload.set_aside(place.position, &task.id, kind);
            }
        }
    }

    /// Ends a live run in no queue whose baseline was set aside.
    pub(super) fn block_live(&mut self, idx: TaskIdx, baseline: BaselineId) {
        let task = self.tasks.remove(idx);
        for place in task.owners {
            if let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
                sweep.live -= 1;
            }
            self.blocked(place.sweep, place.position, &task.id, baseline);
        }
    }

    fn on_hand_back(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        back: HandBack,
    ) {
        let current = self.tasks.find(&lease.task);
        let current = current.filter(|idx| self.tasks[*idx].grant(number, lease.attempt).is_some());
        let Some(idx) = current else {
            self.receipt(session, lease, ReceiptStatus::Stale, String::new());
            return;
        };
        let ended = self.end_lease(idx);
        if let Some(state) = back.checkpoint {
            let evaluations = back.evaluations;
            self.journal.push(Record::Checkpoint {
                task: lease.task,
                state: state.clone(),
                evaluations,
            });
            self.tasks[idx].checkpoint = Some((state, evaluations));
            let status = ReceiptStatus::Recorded;
            let receipt = Receipt {
                lease,
                status,
                detail: String::new(),
            };
            self.journal.resting.receipts.push((session, None, receipt));
        } else {
            // A heartbeat said that it had begun, or the worker says it now.
            if ended.is_some_and(|grant| grant.running) || back.evaluations > 0 {
                self.note_begun_anew();
            }
            self.receipt(session, lease, ReceiptStatus::Recorded, String::new());
        }
        self.requeue(idx);
    }

    /// A task that had begun goes back into the queue as if it had not.
    pub(super) fn note_begun_anew(&mut self) {
        if self.stop.is_some() {
            self.begun_anew += 1;
        }
    }

    /// A report that makes no sense: a failed attempt, if the lease is current.
    fn on_malformed(
        &mut self,
        session: SessionId,
        number: WorkerNumber,
        lease: LeaseId,
        detail: String,
    ) {
        let current = self.tasks.find(&lease.task);
        let current = current.filter(|idx| self.tasks[*idx].grant(number, lease.attempt).is_some());
        if let Some(idx) = current {
            let id = self.workers[&number].id;
            if let Some(worker) = self.workers.get_mut(&number) {
                worker.streak += 1;
            }
            self.end_lease(idx);
            self.fail(
                idx,
                id,
                lease.attempt,
                FailureKind::MalformedReport,
                detail.clone(),
            );
            self.distrust(number);
        }
        self.refuse(session, lease, ReceiptStatus::Refused, detail);
    }

    /// Tells a worker to stop at a lease that is no longer its own.
    pub(super) fn revoke(&mut self, number: WorkerNumber, lease: LeaseId) {
        let session = self.workers.get(&number).and_then(|worker| worker.session);
        if let Some(session) = session {
            self.outgoing
                .entry(session)
                .or_default()
                .revoked
                .push(lease);
        }
    }

    fn refuse(
        &mut self,
        session: SessionId,
        lease: LeaseId,
        status: ReceiptStatus,
        detail: String,
    ) {
        self.notice(Notice::ReportRefused {
            lease,
            detail: detail.clone(),
        });
        self.receipt(session, lease, status, detail);
    }

    /// A receipt that rests on nothing.
    pub(super) fn receipt(
        &mut self,
        session: SessionId,
        lease: LeaseId,
        status: ReceiptStatus,
        detail: String,
    ) {
        let receipt = Receipt {
            lease,
            status,
            detail,
        };
        self.outgoing
            .entry(session)
            .or_default()
            .receipts
            .push(receipt);
    }
}
