//! Answers of the store: what is durable is gathered and acknowledged.

use std::collections::BTreeMap;

use common::ids::{BaselineId, TaskId};
use common::planted::{Bug, planted};
use common::protocol::{Place, ReceiptStatus, SweepNumber};

use super::Core;
use super::event::{Done, Effect, Notice};
use super::journal::{AlreadyThere, Exception, Opened, Record, SweepState, Ticket};
use super::sweep::{Ahead, NeedState};
use super::task::{Kind, TaskIdx};
use crate::workload::{Planned, PlannedWork};

impl Core {
    /// Sends this step's records to the store.
    pub(super) fn seal_journal(&mut self) {
        if let Some((ticket, records)) = self.journal.seal(self.now) {
            self.effects.push(Effect::Persist { ticket, records });
        }
    }

    pub(super) fn on_persisted(&mut self, ticket: Ticket, exceptions: &[Exception]) {
        // A second answer for one ticket changes nothing.
        let Some(flight) = self.journal.in_flight.remove(&ticket) else {
            return;
        };
        self.journal.n_records -= flight.records.len();
        self.journal.n_waiting -= usize::from(flight.due.is_some());
        if flight.failures > 0 {
            self.journal.n_failed -= 1;
            if self.journal.n_failed == 0 {
                self.notice(Notice::StoreRecovered);
            }
        }
        let exceptions: BTreeMap<u32, AlreadyThere> = exceptions
            .iter()
            .map(|exception| (exception.record, exception.found))
            .collect();
        for (record, idx) in flight.resting.results {
            let Some(Record::Result {
                evidence, worker, ..
            }) = flight.records.get(record as usize)
            else {
                continue;
            };
            if exceptions.get(&record) == Some(&AlreadyThere::Different) {
                let task = self.tasks[idx].id;
                let worker = *worker;
                self.notice(Notice::Conflict { task, worker });
                self.take_what_is_stored(idx);
            } else {
                self.settle(idx, evidence);
            }
        }
        for (session, record, mut receipt) in flight.resting.receipts {
            match record.and_then(|record| exceptions.get(&record)) {
                None => {}
                Some(AlreadyThere::Equal) => receipt.status = ReceiptStatus::Duplicate,
                Some(AlreadyThere::Different) => receipt.status = ReceiptStatus::Conflict,
            }
            self.outgoing
                .entry(session)
                .or_default()
                .receipts
                .push(receipt);
        }
        for (request, done) in flight.resting.requests {
            self.effects.push(Effect::Answer {
                request,
                result: Ok(done),
            });
        }
    }

    /// Ends a task whose result is durable.
    pub(super) fn settle(&mut self, idx: TaskIdx, evidence: &Opened) {
        let task = self.tasks.remove(idx);
        for place in task.owners {
            let Some(sweep) = self.sweeps.get_mut(&place.sweep) else {
                continue;
            };
            if task.revived && !planted(Bug::LeavesResultBesideFailure) {
                self.journal.push(Record::TakenUpAgain {
                    sweep: place.sweep,
                    tasks: vec![task.id],
                });
                sweep.last_ticket = self.journal.next();
            }
            if place.baseline {
                sweep.live_baselines -= 1;
                self.solve(place.sweep, BaselineId(task.id.0), evidence);
            } else {
                sweep.live -= 1;
                self.take_recorded(place.sweep, place.position, &task.id, evidence);
            }
        }
        self.settle_failed(&task.id, evidence);
    }

    /// A task that some sweeps have set aside has a result after all: another
    /// sweep had more luck, or the store had it before anybody asked.
    pub(super) fn settle_failed(&mut self, id: &TaskId, evidence: &Opened) {
        let failed_in: Vec<Place> = self
            .sweeps
            .values()
            .filter(|sweep| sweep.is_active())
            .filter_map(|sweep| sweep.failed.get(id).map(|failed| failed.place))
            .collect();
        for place in failed_in {
            let Some(sweep) = self.sweeps.get_mut(&place.sweep) else {
                continue;
            };
            let tasks = vec![*id];
            self.journal.push(Record::TakenUpAgain {
                sweep: place.sweep,
                tasks,
            });
            sweep.last_ticket = self.journal.next();
            if place.baseline {
                self.solve(place.sweep, BaselineId(id.0), evidence);
            } else {
                sweep.failed.remove(id);
                sweep.workload.taken_up_again(place.position, id);
                self.take_recorded(place.sweep, place.position, id, evidence);
            }
        }
    }

    /// Ends a task of which the store holds a result with other bits: that one
    /// counts, and is looked up.
    fn take_what_is_stored(&mut self, idx: TaskIdx) {
        let task = self.tasks.remove(idx);
        let work = match task.kind {
            Kind::Run {
                cell,
                seed,
                start,
                baseline,
            } => Some(PlannedWork::Run {
                cell,
                seed,
                start,
                baseline,
            }),
            Kind::Noop { seed, microseconds } => Some(PlannedWork::Noop { seed, microseconds }),
            Kind::Baseline { .. } => None,
        };
        for place in task.owners {
            let Some(sweep) = self.sweeps.get_mut(&place.sweep) else {
                continue;
            };
            if let Some(work) = &work {
                sweep.live -= 1;
                let planned = Planned {
                    id: task.id,
                    work: work.clone(),
                };
                sweep.again.push(Ahead {
                    position: place.position,
                    planned,
                });
            } else {
                sweep.live_baselines -= 1;
                let id = BaselineId(task.id.0);
                if let Some(need) = sweep.needs.get_mut(&id) {
                    need.state = NeedState::Asked;
                }
                sweep.baselines_again.push(id);
            }
        }
    }

    pub(super) fn on_persist_failed(&mut self, ticket: Ticket, error: String) {
        let pause = self.config.store_retry;
        let Some(flight) = self.journal.in_flight.get_mut(&ticket) else {
            return;
        };
        self.journal.n_failed += usize::from(flight.failures == 0);
        self.journal.n_waiting += usize::from(flight.due.is_none());
        flight.failures += 1;
        if planted(Bug::AcknowledgesFailedCommit) {
            for (session, _, receipt) in std::mem::take(&mut flight.resting.receipts) {
                let outgoing = self.outgoing.entry(session).or_default();
                outgoing.receipts.push(receipt);
            }
        }
        let doublings = flight.failures.saturating_sub(1).min(4);
        flight.due = Some(self.now.after(pause * (1 << doublings)));
        self.notice(Notice::StoreFailing { error });
    }

    /// Presents what waits, in order, once the oldest of it is due.
    pub(super) fn present_waiting(&mut self) {
        let first = self.journal.in_flight.values().next();
        if first.is_none_or(|flight| flight.due.is_none_or(|due| due > self.now)) {
            return;
        }
        for (ticket, flight) in &mut self.journal.in_flight {
            if flight.due.take().is_some() {
                self.journal.n_waiting -= 1;
                let (ticket, records) = (*ticket, flight.records.clone());
                self.effects.push(Effect::Persist { ticket, records });
            }
        }
    }

    /// Ends sweeps that have come to their end, durably.
    pub(super) fn end_sweeps(&mut self) {
        let numbers: Vec<SweepNumber> = self.sweeps.keys().copied().collect();
        for number in numbers {
            self.end_sweep(number);
        }
    }

    fn end_sweep(&mut self, number: SweepNumber) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        if let Some(ticket) = sweep.ending {
            if (self.journal.is_durable(ticket) || planted(Bug::EndsSweepBeforeCommit))
                && let Some(sweep) = self.sweeps.remove(&number)
            {
                self.effects.push(Effect::SweepEnded {
                    sweep: number,
                    state: sweep.state,
                    duplicates: sweep.duplicates,
                    workload: sweep.workload,
                });
            }
            return;
        }
        match sweep.state {
            // A paused sweep whose last task has come back is over all the same.
            SweepState::Running | SweepState::Paused => {
                let more = !planted(Bug::SkipsLaterRounds);
                if !sweep.is_exhausted() || more && sweep.workload.next_round() {
                    return;
                }
                sweep.state = SweepState::Finished;
            }
            SweepState::Cancelled if sweep.live + sweep.live_baselines > 0 => return,
            SweepState::Cancelled | SweepState::Finished => {}
        }
        let (state, priority) = (sweep.state, sweep.priority);
        self.journal.push(Record::Sweep {
            sweep: number,
            state,
            priority,
        });
        sweep.ending = Some(self.journal.next());
    }

    /// Answers a request when this step's records are durable.
    pub(super) fn answer_when_durable(&mut self, request: u64, done: Done) {
        self.journal.resting.requests.push((request, done));
    }
}
