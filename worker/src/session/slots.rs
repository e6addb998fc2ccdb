//! Slots: started, fed, listened to, replaced.
//!
//! A slot has several tiny tasks at a time, or one long one. When a process
//! dies with several, nobody knows which of them killed it: each is then given
//! to a slot alone, and the one that kills again is the one that fails.

use std::collections::VecDeque;
use std::time::Duration;

use common::pb::BATCH_BYTES;
use common::planted::{Bug, planted};
use common::protocol::{FailureKind, Lease, LeaseId, Outcome, Report, TaskFailure};
use common::record::Telemetry;

use super::Session;
use super::event::{Effect, Exit, SlotNumber, Timestamp};
use super::leases::{Back, State};

/// Deaths in a row without a single answer after which the worker gives up.
const HOPELESS: u32 = 10;
/// Pause before a slot is started again, after the first death in a row
/// without an answer; doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a slot may sit on tasks that it has not begun while another is
/// idle.
const SITTING: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Slot {
    state: Process,
    /// Tasks it has and has not answered, in order.
    pub(super) assigned: VecDeque<LeaseId>,
    /// Deaths since its last answer.
    deaths: u32,
    /// When it last took or answered a task.
    last_news: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Process {
    /// To be started then.
    Down {
        due: Timestamp,
    },
    Starting,
    Ready,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self {
            state: Process::Down { due: Timestamp(0) },
            assigned: VecDeque::new(),
            deaths: 0,
            last_news: Timestamp(0),
        }
    }
}

impl Session {
    pub(super) fn start_slots(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Process::Down { due } = slot.state
                && due <= self.now
            {
                slot.state = Process::Starting;
                self.effects
                    .push(Effect::StartSlot(SlotNumber(number as u32)));
            }
        }
    }

    pub(super) fn on_slot_ready(&mut self, number: SlotNumber) {
        if let Some(slot) = self.slots.get_mut(number.0 as usize)
            && slot.state == Process::Starting
        {
            slot.state = Process::Ready;
        }
    }

    /// Gives waiting tasks to slots that are about to run out of them.
    ///
    /// Empty slots share what there is; only what is left then goes to slots
    /// that have something to do.
    pub(super) fn feed_slots(&mut self) {
        if !self.queue.is_empty() {
            let slots = self.slots.iter().enumerate();
            let mut ready: Vec<(usize, SlotNumber)> = slots
                .filter(|(_, slot)| slot.state == Process::Ready && !self.is_on_trial(slot))
                .map(|(number, slot)| (slot.assigned.len(), SlotNumber(number as u32)))
                .collect();
            ready.sort_unstable();
            let mut n_empty = ready.iter().filter(|(n_tasks, _)| *n_tasks == 0).count();
            for (_, number) in ready {
                let share = self.queue.len().div_ceil(n_empty.max(1));
                n_empty = n_empty.saturating_sub(1);
                self.feed(number, share);
            }
        }
        self.move_from_sitting();
    }

    /// Whether a slot has a task that is given to it alone.
    fn is_on_trial(&self, slot: &Slot) -> bool {
        let first = slot.assigned.front();
        let held = first.and_then(|id| self.held.get(&id.task));
        held.is_some_and(|held| held.suspect)
    }

    /// Tasks like the next one that a slot is given at a time. Tasks of the other
    /// kind may take much longer, and none waits behind them.
    fn frame(&self, slot: &Slot) -> usize {
        let is_baseline = |id: &LeaseId| {
            let held = self.held.get(&id.task);
            held.is_some_and(|held| held.place.baseline)
        };
        let next = self.queue.front().is_some_and(is_baseline);
        match slot.assigned.front() {
            Some(first) if is_baseline(first) != next => 1,
            _ if next => self.baselines.frame(),
            _ => self.pace.frame(),
        }
    }

    /// Gives a slot that is about to run out of tasks at most so many.
    fn feed(&mut self, number: SlotNumber, share: usize) {
        let slot = &self.slots[number.0 as usize];
        let frame = self.frame(slot);
        if slot.assigned.len() > frame / 2 {
            return;
        }
        let mut room = frame.saturating_sub(slot.assigned.len()).min(share);
        let mut leases: Vec<Lease> = Vec::new();
        let mut bytes = 0;
        let mut kind = None;
        while room > 0 {
            let Some(id) = self.queue.front().copied() else {
                break;
            };
            let Some(held) = self.held.get_mut(&id.task).filter(|held| held.lease == id) else {
                self.queue.pop_front();
                continue;
            };
            let Some(task) = held.task.as_ref().filter(|_| held.is_queued()) else {
                self.queue.pop_front();
                continue;
            };
            let slot = &mut self.slots[number.0 as usize];
            if held.suspect && !slot.assigned.is_empty() {
                break;
            }
            // How many are given is judged by their kind.
            if *kind.get_or_insert(held.place.baseline) != held.place.baseline {
                break;
            }
            // Whatever is left is given to it in the next step.
            bytes += task.bytes();
            if bytes > BATCH_BYTES && !leases.is_empty() {
                break;
            }
            leases.push(task.as_ref().clone());
            held.state = State::InSlot {
                slot: number,
                back: None,
            };
            slot.assigned.push_back(id);
            slot.last_news = self.now;
            self.queue.pop_front();
            self.n_waiting -= 1;
            room -= 1;
            if held.suspect {
                break;
            }
        }
        if !leases.is_empty() {
            self.effects.push(Effect::Assign {
                slot: number,
                leases,
            });
        }
    }

    /// Asks tasks back from a slot that sits on them while another is idle:
    /// one of them takes much longer than was expected.
    fn move_from_sitting(&mut self) {
        if self.n_waiting > 0 {
            return;
        }
        let idle = |slot: &Slot| slot.state == Process::Ready && slot.assigned.is_empty();
        if !self.slots.iter().any(idle) {
            return;
        }
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.assigned.len() < 2 || slot.last_news.after(SITTING) > self.now {
                continue;
            }
            let mut moved = Vec::new();
            for id in slot.assigned.iter().skip(1) {
                if let Some(held) = self.held.get_mut(&id.task)
                    && let State::InSlot { back, .. } = &mut held.state
                    && back.is_none()
                {
                    *back = Some(Back::ForIdleSlot);
                    moved.push(*id);
                }
            }
            if !moved.is_empty() {
                let slot = SlotNumber(number as u32);
                self.effects.push(Effect::Stop {
                    slot,
                    leases: moved,
                });
            }
        }
    }

    pub(super) fn on_slot_reports(&mut self, number: SlotNumber, reports: Vec<Report>) {
        for report in reports {
            let Some(slot) = self.slots.get_mut(number.0 as usize) else {
                return;
            };
            slot.deaths = 0;
            slot.last_news = self.now;
            // Nearly always the first one; the attempt may have been renamed.
            let position = slot
                .assigned
                .iter()
                .position(|id| id.task == report.lease.task || planted(Bug::WorkerMixesUpAnswers));
            let Some(id) = position.and_then(|position| slot.assigned.remove(position)) else {
                continue;
            };
            self.on_answer(number, id, report.outcome);
        }
    }

    fn on_answer(&mut self, number: SlotNumber, id: LeaseId, outcome: Outcome) {
        let Some(held) = self.held.get_mut(&id.task) else {
            return;
        };
        let pace = if held.place.baseline {
            &mut self.baselines
        } else {
            &mut self.pace
        };
        match &outcome {
            Outcome::Result(result) => pace.learn(result.telemetry.seconds),
            Outcome::Failure(failure) => pace.learn(failure.telemetry.seconds),
            Outcome::HandBack(_) | Outcome::Malformed { .. } => {}
        }
        let State::InSlot { slot, back: asked } = &held.state else {
            return;
        };
        if *slot != number || held.lease != id {
            return;
        }
        match outcome {
            Outcome::HandBack(back)
                if *asked == Some(Back::ForIdleSlot) && self.leaving.is_none() =>
            {
                if let (Some(task), Some(_)) = (&mut held.task, &back.checkpoint) {
                    task.checkpoint = back.checkpoint;
                }
                held.state = State::Queued;
                self.n_waiting += 1;
                self.queue.push_back(id);
            }
            Outcome::Malformed { detail } => {
                let outcome = Outcome::Failure(TaskFailure {
                    kind: FailureKind::Crash,
                    message: format!("the slot's answer made no sense: {detail}"),
                    telemetry: Telemetry::default(),
                });
                self.finish(id, outcome);
            }
            outcome => self.finish(id, outcome),
        }
    }

    pub(super) fn on_slot_died(&mut self, number: SlotNumber, kind: FailureKind, message: String) {
        let Some(slot) = self.slots.get_mut(number.0 as usize) else {
            return;
        };
        slot.deaths += 1;
        if slot.deaths >= HOPELESS && self.slots.iter().all(|slot| slot.deaths > 0) {
            self.exit(Exit::NoSlots(message));
            return;
        }
        let slot = &mut self.slots[number.0 as usize];
        let doublings = slot.deaths.saturating_sub(1).min(6);
        // The first replacement comes at once.
        let wait = if slot.deaths <= 1 {
            Duration::ZERO
        } else {
            PAUSE * (1 << doublings)
        };
        slot.state = Process::Down {
            due: self.now.after(wait),
        };
        let unanswered = std::mem::take(&mut slot.assigned);
        let alone = unanswered.len() == 1;
        for id in unanswered.into_iter().rev() {
            let in_slot = self
                .held
                .get(&id.task)
                .is_some_and(|held| held.lease == id && held.slot() == Some(number));
            if !in_slot {
                continue;
            }
            if alone {
                let telemetry = Telemetry::default();
                let message = message.clone();
                self.finish(
                    id,
                    Outcome::Failure(TaskFailure {
                        kind,
                        message,
                        telemetry,
                    }),
                );
            } else {
                self.suspect(id);
            }
        }
    }

    /// Queues a task again that may have killed its slot.
    fn suspect(&mut self, id: LeaseId) {
        let Some(held) = self.held.get_mut(&id.task) else {
            return;
        };
        held.state = State::Queued;
        held.suspect = true;
        self.n_waiting += 1;
        self.queue.push_front(id);
    }
}
