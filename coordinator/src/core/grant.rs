//! Who gets which task next.
//!
//! Workers say how many tasks they want to hold. Idle slots are filled first,
//! fairly among the workers; what goes beyond, to keep slots busy while a
//! message travels, is guided by what is left: a worker holds in advance at
//! most half of its share of the remaining tasks, so that the last ones are
//! spread over all. Should some worker sit idle all the same while another
//! has tasks queued, those are asked back ([`Core::recall`]).
//!
//! Sweeps are served by priority; among equals, the one with the fewest leased
//! tasks. Within a sweep baselines come first, then what came back, then the
//! walk. A task that failed on a worker goes to another one while there is one.

use std::sync::Arc;

use common::pb::{BATCH_BYTES, MESSAGE_LIMIT};
use common::planted::{Bug, planted};
use common::protocol::{Attempt, CoordinatorMessage, Lease, LeaseId, SweepNumber, Work};

use super::sweep::{NeedState, Parked, Ready};
use super::task::{Kind, State, TaskIdx};
use super::walk::Met;
use super::worker::{Worker, WorkerNumber};
use super::{Core, Effect, Lifecycle};

/// Most leases of one message; fewer where they are large ([`BATCH_BYTES`]).
const BATCH: usize = 1024;
/// Room for what [`Lease::bytes`] does not count.
const ENVELOPE: usize = 1 << 20;
/// Ready tasks looked at for one that may go to a certain worker.
const LOOKED_AT: usize = 64;
/// A queue that lasts shorter than this is not worth moving to another worker.
const WORTH_MOVING: f64 = 0.02;

/// Tasks that wait at a worker, as far as the core can tell.
struct Queue {
    worker: WorkerNumber,
    queued: usize,
    slots: usize,
    /// How many of them are asked back.
    wanted: usize,
}

impl Core {
    /// Hands out what can be handed out.
    pub(super) fn dispatch(&mut self) {
        if !self.may_grant() || !self.sweeps.values().any(|sweep| sweep.has_work()) {
            return;
        }
        let slots: usize = self.open_workers().map(|(_, slots)| slots).sum();
        self.fill(|worker| worker.slots().min(worker.window as usize));
        let remaining: u64 = self
            .sweeps
            .values()
            .filter(|sweep| sweep.state == super::SweepState::Running)
            .map(|sweep| sweep.remaining())
            .fold(0, u64::saturating_add);
        self.fill(|worker| {
            let share = u128::from(remaining) * worker.slots() as u128 / (2 * slots.max(1)) as u128;
            let share = usize::try_from(share).unwrap_or(usize::MAX);
            worker
                .slots()
                .saturating_add(share)
                .min(worker.window as usize)
        });
    }

    fn may_grant(&self) -> bool {
        self.lifecycle == Lifecycle::Serving
            && self.now >= self.grace_until
            && self.journal.is_healthy()
            && self.journal.n_records <= self.config.max_unpersisted
            && self.last_attempt < u32::MAX
    }

    fn open_workers(&self) -> impl Iterator<Item = (WorkerNumber, usize)> {
        let open = self.workers.iter().filter(|(_, worker)| worker.is_open());
        open.map(|(number, worker)| (*number, worker.slots()))
    }

    /// Raises what each worker holds towards its limit, in turns, beginning
    /// after the worker that was served last.
    ///
    /// Most events leave nobody hungry, so this is one pass over the workers.
    fn fill(&mut self, limit: impl Fn(&Worker) -> usize) {
        let open = self.workers.iter().filter(|(_, worker)| worker.is_open());
        let mut hungry: Vec<(WorkerNumber, usize)> = open
            .map(|(number, worker)| (*number, limit(worker).saturating_sub(worker.held.len())))
            .filter(|(_, room)| *room > 0)
            .collect();
        let turn = hungry.partition_point(|(number, _)| *number <= self.served_last);
        hungry.rotate_left(turn);
        while !hungry.is_empty() {
            let known: u64 = self
                .sweeps
                .values()
                .filter(|sweep| sweep.has_work())
                .map(|sweep| (sweep.ready.len() + sweep.ahead.len()) as u64)
                .sum();
            if known == 0 {
                return;
            }
            let share = (known as usize).div_ceil(hungry.len());
            let mut still = Vec::new();
            for (number, room) in hungry {
                let wanted = share.min(room).min(BATCH);
                let given = self.give(number, wanted);
                if given == wanted && room > given {
                    still.push((number, room - given));
                }
            }
            hungry = still;
        }
    }

    /// Leases up to `wanted` tasks to a worker; returns how many.
    fn give(&mut self, number: WorkerNumber, wanted: usize) -> usize {
        let mut leases = Vec::with_capacity(wanted);
        let (mut given, mut bytes) = (0, 0);
        while given < wanted {
            let Some(lease) = self.lease_next(number) else {
                break;
            };
            let more = lease.bytes();
            if bytes + more > BATCH_BYTES && !leases.is_empty() {
                self.send_leases(number, std::mem::take(&mut leases));
                bytes = 0;
            }
            bytes += more;
            given += 1;
            leases.push(lease);
        }
        if given > 0 {
            self.served_last = number;
            self.send_leases(number, leases);
        }
        given
    }

    fn send_leases(&mut self, number: WorkerNumber, leases: Vec<Lease>) {
        if let Some(session) = self.workers[&number].session {
            let message = CoordinatorMessage::Leases(leases);
            self.effects.push(Effect::Send { session, message });
        }
    }

    fn lease_next(&mut self, number: WorkerNumber) -> Option<Lease> {
        if self.last_attempt == u32::MAX {
            return None;
        }
        // A sweep whose known tasks turn out not to be leasable is left out
        // for the rest of this search.
        let mut exhausted: Vec<SweepNumber> = Vec::new();
        loop {
            let sweep = self
                .sweeps
                .values()
                .filter(|sweep| sweep.has_work() && !exhausted.contains(&sweep.number))
                .min_by_key(|sweep| {
                    (
                        std::cmp::Reverse(sweep.priority),
                        sweep.leased,
                        sweep.number,
                    )
                })?
                .number;
            let Some(idx) = self.next_task(sweep, number) else {
                exhausted.push(sweep);
                continue;
            };
            if self.last_attempt % 8 != 7 || !planted(Bug::ReusesAttempts) {
                self.last_attempt += 1;
            }
            let attempt = Attempt::new(self.epoch, self.last_attempt);
            let Some(work) = self.work_of(idx) else {
                // Its baseline was solved a moment ago, so this cannot be;
                // should it be, the task waits for the next look.
                self.requeue(idx);
                exhausted.push(sweep);
                continue;
            };
            self.lease_to(number, idx, attempt);
            let task = &self.tasks[idx];
            let place = task.place_in(sweep).unwrap_or(task.owners[0]);
            let id = LeaseId {
                task: task.id,
                attempt,
            };
            let checkpoint = task.checkpoint.as_ref().map(|(state, _)| state.clone());
            let mut lease = Lease {
                id,
                place,
                work,
                checkpoint,
            };
            // With an exceptionally large cell or baseline beside it. A message
            // that cannot be sent would be tried for ever; beginning anew gives
            // the same bits.
            if lease.bytes() > MESSAGE_LIMIT - ENVELOPE {
                lease.checkpoint = None;
            }
            return Some(lease);
        }
    }

    /// A task of a sweep for a worker, in no queue: a ready one, else the next
    /// of the walk. Walking may make baselines ready, which then come first.
    fn next_task(&mut self, sweep: SweepNumber, number: WorkerNumber) -> Option<TaskIdx> {
        loop {
            if let Some(idx) = self.next_ready(sweep, number) {
                return Some(idx);
            }
            match self.meet_next(sweep) {
                Met::Live(idx) => return Some(idx),
                Met::Settled => {}
                Met::Nothing => return None,
            }
        }
    }

    /// A ready task that this worker may have, taken out of the ready sets.
    fn next_ready(&mut self, sweep: SweepNumber, number: WorkerNumber) -> Option<TaskIdx> {
        let looked_at: Vec<Ready> = self
            .sweeps
            .get(&sweep)?
            .ready
            .iter()
            .take(LOOKED_AT)
            .copied()
            .collect();
        for entry in looked_at {
            let idx = entry.task;
            if self.should_avoid(idx, number) {
                continue;
            }
            self.unqueue(idx);
            if self.wait_for_baseline(sweep, idx) {
                continue;
            }
            return Some(idx);
        }
        None
    }

    /// Parks a run in no queue whose baseline is not solved, or sets it aside
    /// if the baseline failed. Returns whether it did.
    fn wait_for_baseline(&mut self, sweep: SweepNumber, idx: TaskIdx) -> bool {
        let task = &self.tasks[idx];
        let Kind::Run { baseline, .. } = &task.kind else {
            return false;
        };
        let (id, baseline) = (task.id, *baseline);
        let Some(place) = task.place_in(sweep) else {
            return false;
        };
        match self.need(sweep, baseline, place.position) {
            NeedState::Solved { .. } => false,
            NeedState::Failed => {
                self.block_live(idx, baseline);
                true
            }
            NeedState::Asked | NeedState::Missing | NeedState::Live => {
                self.park(sweep, baseline, Parked::Live(idx, id));
                true
            }
        }
    }

    /// Whether a task failed on this worker and another one could have it.
    fn should_avoid(&self, idx: TaskIdx, number: WorkerNumber) -> bool {
        let failures = &self.tasks[idx].failures;
        let failed_on = |number: &WorkerNumber| {
            let id = self.workers[number].id;
            failures.iter().any(|failure| failure.worker == id)
        };
        !failures.is_empty()
            && failed_on(&number)
            && self
                .open_workers()
                .any(|(other, _)| other != number && !failed_on(&other))
    }

    fn work_of(&self, idx: TaskIdx) -> Option<Work> {
        let task = &self.tasks[idx];
        Some(match &task.kind {
            Kind::Run {
                cell,
                seed,
                start,
                baseline,
            } => {
                let mut owners = task.owners.iter();
                let solved = owners.find_map(|place| {
                    self.sweeps
                        .get(&place.sweep)
                        .and_then(|sweep| sweep.solved(baseline))
                })?;
                Work::Run {
                    cell: cell.clone(),
                    seed: *seed,
                    start: start.clone(),
                    baseline: Arc::clone(solved),
                }
            }
            Kind::Baseline { cell } => Work::Baseline { cell: cell.clone() },
            Kind::Noop { seed, microseconds } => Work::Noop {
                seed: *seed,
                microseconds: *microseconds,
            },
        })
    }

    /// Puts a task that is in no queue where it can be leased.
    pub(super) fn requeue(&mut self, idx: TaskIdx) {
        let task = &mut self.tasks[idx];
        task.state = State::Ready;
        for place in &task.owners {
            if let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
                sweep.ready.insert(Ready::new(*place, idx));
            }
        }
    }

    /// Takes a task out of the queue it is in, if it is in one.
    pub(super) fn unqueue(&mut self, idx: TaskIdx) {
        let task = &mut self.tasks[idx];
        match std::mem::replace(&mut task.state, State::Waiting) {
            State::Ready => {
                for place in &task.owners {
                    if let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
                        sweep.ready.remove(&Ready::new(*place, idx));
                    }
                }
            }
            State::Delayed { until } => {
                self.delayed.remove(&(until, idx));
            }
            // Woken later, it is found not to wait any more.
            State::Waiting => {}
            state @ (State::Leased(_) | State::Recording { .. }) => task.state = state,
        }
    }

    /// Makes tasks ready whose pause is over.
    pub(super) fn end_delays(&mut self) {
        while let Some((until, idx)) = self.delayed.first().copied() {
            if until > self.now {
                return;
            }
            self.delayed.pop_first();
            self.requeue(idx);
        }
    }

    /// Asks queued tasks back from workers that hold more than they compute,
    /// when others are idle and nothing else is left to do.
    pub(super) fn recall(&mut self) {
        if !self.may_grant() || self.sweeps.values().any(|sweep| sweep.has_work()) {
            return;
        }
        let mut idle = 0;
        let mut queues: Vec<Queue> = Vec::new();
        for (number, worker) in &self.workers {
            let (held, slots) = (worker.held.len(), worker.slots());
            let busy = slots.min(worker.window as usize);
            if worker.is_open() && held < busy {
                idle += busy - held;
            } else if worker.session.is_some() && held > slots {
                let lasts = worker.seconds.map_or(f64::INFINITY, |seconds| {
                    seconds * (held - slots) as f64 / slots as f64
                });
                if lasts >= WORTH_MOVING {
                    queues.push(Queue {
                        worker: *number,
                        queued: held - slots,
                        slots,
                        wanted: 0,
                    });
                }
            }
        }
        if idle == 0 {
            return;
        }
        for queue in &mut queues {
            // What was asked back before is on its way to those who are idle.
            let held = self.workers[&queue.worker].held.iter();
            let asked = held.filter(|idx| self.is_coming_back(**idx)).count();
            queue.queued = queue.queued.saturating_sub(asked);
            idle = idle.saturating_sub(asked);
        }
        for _ in 0..idle {
            let longest = queues
                .iter_mut()
                .filter(|queue| queue.queued > 0)
                .max_by_key(|queue| {
                    (
                        queue.queued * 4096 / queue.slots,
                        std::cmp::Reverse(queue.worker),
                    )
                });
            let Some(longest) = longest else { break };
            longest.queued -= 1;
            longest.wanted += 1;
        }
        for queue in queues {
            self.ask_back(queue.worker, queue.wanted);
        }
    }

    /// Whether a task has been asked back and has not begun, as far as is known.
    fn is_coming_back(&self, idx: TaskIdx) -> bool {
        matches!(&self.tasks[idx].state, State::Leased(grant) if grant.recalled && !grant.running)
    }

    /// Asks for the leases granted last, which are last in the worker's queue.
    fn ask_back(&mut self, number: WorkerNumber, wanted: usize) {
        let worker = &self.workers[&number];
        let Some(session) = worker.session else {
            return;
        };
        let mut candidates: Vec<(Attempt, TaskIdx)> = worker
            .held
            .iter()
            .filter_map(|idx| match &self.tasks[*idx].state {
                State::Leased(grant) if !grant.running && !grant.recalled => {
                    Some((grant.attempt, *idx))
                }
                _ => None,
            })
            .collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.truncate(wanted);
        let mut leases = Vec::with_capacity(candidates.len());
        for (attempt, idx) in candidates {
            let task = &mut self.tasks[idx];
            leases.push(LeaseId {
                task: task.id,
                attempt,
            });
            if let State::Leased(grant) = &mut task.state {
                grant.recalled = true;
            }
        }
        if !leases.is_empty() {
            let message = CoordinatorMessage::Recall(leases);
            self.effects.push(Effect::Send { session, message });
        }
    }
}
