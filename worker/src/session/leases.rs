//! Leases from their arrival to their receipt.

use std::sync::Arc;

use common::ids::CellId;
use common::pb::BATCH_BYTES;
use common::planted::{Bug, planted};
use common::protocol::{
    CellText, FailureKind, HandBack, HeldLease, HeldState, Lease, LeaseId, Outcome, Place, Receipt,
    Report, TaskFailure, Work, WorkerMessage,
};
use common::record::Telemetry;

use super::Session;
use super::event::{Effect, SlotNumber};

/// Most reports of one message: far below the limit of a message unless the
/// results are large, and then a slot sends few at a time.
const BATCH: usize = 4096;
/// Cells that are remembered as ready.
const CELLS: usize = 1024;

/// A lease that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: LeaseId,
    pub(super) place: Place,
    pub(super) state: State,
    /// What to compute; nothing once it is finished.
    pub(super) task: Option<Box<Lease>>,
    /// A slot died while it may have been computing this: it is given to a
    /// slot alone, to find out.
    pub(super) suspect: bool,
}

#[derive(Debug)]
pub(super) enum State {
    /// Its cell is being prepared.
    Preparing,
    /// It waits for a slot.
    Queued,
    /// A slot has it.
    InSlot {
        slot: SlotNumber,
        /// For whom it was asked back from the slot, if it was.
        back: Option<Back>,
    },
    /// Waits for its receipt.
    Finished { report: Report, sent: bool },
}

/// Why a task that no slot has begun is asked back from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Another slot of this worker is idle.
    ForIdleSlot,
    /// Another worker is idle.
    ForIdleWorker,
}

/// What a cell's leases need besides the lease.
#[derive(Debug)]
pub(super) enum CellState {
    /// Being prepared; leases that wait for it.
    Preparing(Vec<LeaseId>),
    Ready,
}

impl Held {
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished { .. })
    }

    pub(super) fn finished(&self) -> Option<(Place, &Report)> {
        match &self.state {
            State::Finished { report, .. } => Some((self.place, report)),
            _ => None,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued)
    }

    /// Not given to a slot yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Queued | State::Preparing)
    }

    pub(super) fn slot(&self) -> Option<SlotNumber> {
        match &self.state {
            State::InSlot { slot, .. } => Some(*slot),
            _ => None,
        }
    }
}

/// The cell whose files a lease needs.
fn cell_of(work: &Work) -> Option<&Arc<CellText>> {
    match work {
        Work::Run { cell, .. } | Work::Baseline { cell } => Some(cell),
        Work::Noop { .. } => None,
    }
}

impl Session {
    pub(super) fn hold_finished(&mut self, place: Place, report: Report) {
        let lease = report.lease;
        let held = Held {
            lease,
            place,
            state: State::Finished {
                report,
                sent: false,
            },
            task: None,
            suspect: false,
        };
        if self.held.insert(lease.task, held).is_none() {
            self.unsent.push(lease);
        }
    }

    pub(super) fn on_leases(&mut self, leases: Vec<Lease>) {
        for lease in leases {
            self.on_lease(lease);
        }
    }

    fn on_lease(&mut self, lease: Lease) {
        if let Some(held) = self.held.get_mut(&lease.id.task) {
            // The coordinator forgot an older attempt at the same task, which
            // is still here: it goes on under the new number. The result is
            // the same.
            held.rename(lease.id, lease.place);
            if held.is_finished() {
                self.unsent.push(lease.id);
            }
            self.rename_in_queues(lease.id);
            return;
        }
        let id = lease.id;
        let place = lease.place;
        let state = match cell_of(&lease.work).cloned() {
            None => State::Queued,
            Some(cell) => match self.cells.get_mut(&cell.id) {
                Some(CellState::Ready) => State::Queued,
                Some(CellState::Preparing(waiting)) => {
                    waiting.push(id);
                    State::Preparing
                }
                None => {
                    if self.cells.len() >= CELLS {
                        // Preparing one again only finds its files in place.
                        self.cells
                            .retain(|_, state| matches!(state, CellState::Preparing(_)));
                    }
                    self.cells.insert(cell.id, CellState::Preparing(vec![id]));
                    self.effects.push(Effect::Prepare(cell));
                    State::Preparing
                }
            },
        };
        if matches!(state, State::Queued) {
            self.queue.push_back(id);
        }
        self.n_waiting += 1;
        let task = Some(Box::new(lease));
        self.held.insert(
            id.task,
            Held {
                lease: id,
                place,
                state,
                task,
                suspect: false,
            },
        );
        if self.leaving.is_some() {
            self.hand_back_waiting();
        }
    }

    /// Gives entries of queues and slots the attempt number of the lease that
    /// is held.
    fn rename_in_queues(&mut self, id: LeaseId) {
        let slots = self
            .slots
            .iter_mut()
            .flat_map(|slot| slot.assigned.iter_mut());
        let cells = self.cells.values_mut().filter_map(|state| match state {
            CellState::Preparing(waiting) => Some(waiting),
            CellState::Ready => None,
        });
        for entry in self.queue.iter_mut().chain(slots).chain(cells.flatten()) {
            if entry.task == id.task {
                *entry = id;
            }
        }
    }

    pub(super) fn on_cell_ready(&mut self, cell: CellId) {
        let state = self.cells.insert(cell, CellState::Ready);
        let Some(CellState::Preparing(waiting)) = state else {
            return;
        };
        for id in waiting {
            let Some(held) = self.held.get_mut(&id.task) else {
                continue;
            };
            if held.lease == id && matches!(held.state, State::Preparing) {
                held.state = State::Queued;
                if !planted(Bug::WorkerForgetsCells) {
                    self.queue.push_back(id);
                }
            }
        }
    }

    pub(super) fn on_cell_failed(&mut self, cell: CellId, message: &str) {
        let Some(CellState::Preparing(waiting)) = self.cells.remove(&cell) else {
            return;
        };
        for id in waiting {
            let preparing = self
                .held
                .get(&id.task)
                .is_some_and(|held| held.lease == id && matches!(held.state, State::Preparing));
            if preparing {
                let outcome = Outcome::Failure(TaskFailure {
                    kind: FailureKind::DataUnavailable,
                    message: message.to_owned(),
                    telemetry: Telemetry::default(),
                });
                self.finish(id, outcome);
            }
        }
    }

    /// A held lease has come to its end: what is to be reported.
    pub(super) fn finish(&mut self, id: LeaseId, outcome: Outcome) {
        let Some(held) = self.held.get_mut(&id.task) else {
            return;
        };
        if held.is_waiting() {
            self.n_waiting -= 1;
        }
        // Under the number that the coordinator knows, whatever the slot says.
        let lease = held.lease;
        held.state = State::Finished {
            report: Report { lease, outcome },
            sent: false,
        };
        self.unsent.push(lease);
    }

    /// Forgets a lease that the coordinator does not want any more.
    pub(super) fn forget(&mut self, id: LeaseId) {
        let matches = self.held.get(&id.task).is_some_and(|held| held.lease == id);
        if !matches {
            return;
        }
        let Some(held) = self.held.remove(&id.task) else {
            return;
        };
        if held.is_waiting() {
            self.n_waiting -= 1;
        }
        if let State::InSlot { slot, .. } = held.state {
            // Its answer will find nobody who waits for it.
            self.effects.push(Effect::Stop {
                slot,
                leases: vec![id],
            });
        }
    }

    pub(super) fn on_receipts(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            let acknowledged = self
                .held
                .get(&receipt.lease.task)
                .is_some_and(|held| held.lease == receipt.lease && held.is_finished());
            if acknowledged {
                self.held.remove(&receipt.lease.task);
            }
        }
    }

    /// Hands back what has not begun.
    pub(super) fn on_recall(&mut self, leases: &[LeaseId]) {
        for id in leases {
            let waiting = self
                .held
                .get(&id.task)
                .is_some_and(|held| held.lease == *id && held.is_waiting());
            if waiting && planted(Bug::WorkerLosesRecalled) {
                self.n_waiting -= 1;
                self.held.remove(&id.task);
            } else if waiting {
                self.finish(*id, Outcome::HandBack(HandBack::default()));
            } else {
                self.recall_from_slot(*id);
            }
        }
        self.tidy_queue();
    }

    /// Asks a slot for a task that it has and has not begun, as far as is
    /// known: a slot computes the first of those that it has.
    fn recall_from_slot(&mut self, id: LeaseId) {
        let held = self.held.get_mut(&id.task).filter(|held| held.lease == id);
        let Some(State::InSlot { slot, back }) = held.map(|held| &mut held.state) else {
            return;
        };
        let slot = *slot;
        if self.slots[slot.0 as usize].assigned.front() == Some(&id) {
            return;
        }
        if back.replace(Back::ForIdleWorker).is_none() {
            let leases = vec![id];
            self.effects.push(Effect::Stop { slot, leases });
        }
    }

    /// Takes out of the queue what is no longer queued, so that its length says
    /// how many tasks there are to share.
    pub(super) fn tidy_queue(&mut self) {
        let held = &self.held;
        self.queue.retain(|id| {
            held.get(&id.task)
                .is_some_and(|held| held.lease == *id && held.is_queued())
        });
    }

    /// Hands back everything that no slot has.
    pub(super) fn hand_back_waiting(&mut self) {
        let mut waiting: Vec<LeaseId> = self
            .held
            .values()
            .filter(|held| held.is_waiting())
            .map(|held| held.lease)
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            self.finish(id, Outcome::HandBack(HandBack::default()));
        }
        self.queue.clear();
    }

    /// What the Hello says.
    pub(super) fn held_leases(&self) -> Vec<HeldLease> {
        let mut held: Vec<HeldLease> = self
            .held
            .values()
            .map(|held| HeldLease {
                lease: held.lease,
                place: held.place,
                state: match &held.state {
                    State::Preparing | State::Queued => HeldState::Queued,
                    State::InSlot { .. } => HeldState::Running,
                    State::Finished { .. } => HeldState::Finished,
                },
            })
            .collect();
        held.sort_unstable_by_key(|held| held.lease);
        held
    }

    /// Notes that nothing that is finished has been sent in this session.
    pub(super) fn unsend_reports(&mut self) {
        if planted(Bug::WorkerNeverResends) {
            return;
        }
        self.unsent.clear();
        for held in self.held.values_mut() {
            if let State::Finished { sent, .. } = &mut held.state {
                *sent = false;
                self.unsent.push(held.lease);
            }
        }
        self.unsent.sort_unstable_by_key(|lease| lease.attempt);
    }

    /// Sends what is finished and was not sent in this session.
    pub(super) fn send_reports(&mut self) {
        if !self.link.is_welcome() || self.unsent.is_empty() {
            return;
        }
        let unsent = std::mem::take(&mut self.unsent);
        let mut batch = Vec::new();
        let mut bytes = 0;
        for id in unsent {
            let Some(held) = self.held.get_mut(&id.task) else {
                continue;
            };
            if let State::Finished {
                report,
                sent: sent @ false,
            } = &mut held.state
                && report.lease == id
            {
                *sent = true;
                let more = size(report);
                let is_full = batch.len() >= BATCH || bytes + more > BATCH_BYTES;
                if is_full && !batch.is_empty() {
                    let full = std::mem::take(&mut batch);
                    self.effects
                        .push(Effect::Send(WorkerMessage::Reports(full)));
                    bytes = 0;
                }
                bytes += more;
                batch.push(report.clone());
            }
        }
        if !batch.is_empty() {
            self.effects
                .push(Effect::Send(WorkerMessage::Reports(batch)));
        }
        self.send_credit();
    }
}

impl Held {
    fn rename(&mut self, id: LeaseId, place: Place) {
        self.lease = id;
        self.place = place;
        if let Some(task) = &mut self.task {
            task.id = id;
            task.place = place;
        }
        if let State::Finished { report, sent } = &mut self.state {
            if !planted(Bug::WorkerKeepsOldNumber) {
                report.lease = id;
            }
            *sent = false;
        }
    }
}

fn size(report: &Report) -> usize {
    match &report.outcome {
        Outcome::Result(result) => result.evidence.len() + 8 * result.theta.len(),
        Outcome::Failure(failure) => failure.message.len(),
        Outcome::HandBack(back) => back.checkpoint.as_ref().map_or(0, bytes::Bytes::len),
        Outcome::Malformed { .. } => 0,
    }
}
