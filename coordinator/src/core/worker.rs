//! Workers: who is there, what they hold, and what happens when they come,
//! fall silent and return.
//!
//! Leases belong to a worker, not to its connection. A connection that breaks
//! leaves the leases where they are until the worker has been silent for the
//! length of a lease; if it returns before, its Hello names what it holds and
//! both sides go on. If it returns later, or to another epoch, what it holds
//! is looked at lease by lease ([`Core::claim`]): a result that is finished is
//! always worth having.

use std::collections::BTreeSet;
use std::sync::Arc;

use common::ids::WorkerId;
use common::planted::{Bug, planted};
use common::protocol::{
    CoordinatorMessage, FailureKind, Heartbeat, HeldLease, HeldState, Hello, LeaseId, PROTOCOL,
    Place, Profile, Welcome,
};

use super::event::{CloseReason, Effect, Notice, Refusal, SessionId};
use super::journal::Record;
use super::task::{Grant, State, Task, TaskIdx};
use super::time::Timestamp;
use super::{Core, Lifecycle};

/// Number of a worker in this process's life; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkerNumber(pub(super) u64);

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) profile: Arc<Profile>,
    pub(super) session: Option<SessionId>,
    /// When its silence has lasted for a lease.
    pub(super) deadline: Timestamp,
    /// Unfinished tasks it wants to hold.
    pub(super) window: u32,
    /// It gets no more tasks.
    pub(super) draining: bool,
    /// Tasks it holds, in no particular order.
    pub(super) held: Vec<TaskIdx>,
    /// Moving average of its runs' durations, seconds.
    pub(super) seconds: Option<f64>,
    /// Failures blamed on it since its last success.
    pub(super) streak: u32,
    /// Resident memory as last heard, bytes.
    pub(super) memory: u64,
    /// Leases that it was computing when it was heard of last, and since when that is known.
    pub(super) running: Vec<(LeaseId, Timestamp)>,
}

impl Worker {
    /// Whether it may be given tasks.
    pub(super) fn is_open(&self) -> bool {
        self.session.is_some() && !self.draining && self.window > 0
    }

    pub(super) fn slots(&self) -> usize {
        self.profile.slots as usize
    }

    /// Takes a task's duration into the average.
    pub(super) fn learn(&mut self, seconds: f64) {
        // An eighth of the news: one odd task moves the estimate little, a
        // change of cells is followed within a dozen tasks.
        self.seconds = Some(
            self.seconds
                .map_or(seconds, |mean| mean + (seconds - mean) / 8.0),
        );
    }
}

impl Core {
    pub(super) fn on_hello(&mut self, session: SessionId, hello: Hello) {
        if self.sessions.contains_key(&session) {
            self.close(session, CloseReason::SecondHello);
            return;
        }
        if let Some(refusal) = self.refusal(&hello) {
            self.effects.push(Effect::Refuse { session, refusal });
            return;
        }
        let worker = self.attach(session, &hello);
        let (kept, dropped) = self.reconcile(worker, &hello.held);
        let name = hello.profile.name;
        self.notice(Notice::WorkerJoined {
            worker: hello.worker,
            name,
            kept,
            dropped: dropped.len() as u32,
        });
        let welcome = Welcome {
            protocol: PROTOCOL,
            epoch: self.epoch,
            lease_ms: millis(self.config.lease),
            heartbeat_ms: millis(self.config.heartbeat),
            drop: dropped,
            numeric_level: self.config.numeric_level.clone(),
        };
        self.effects.push(Effect::Send {
            session,
            message: CoordinatorMessage::Welcome(welcome),
        });
        if let Some(stop) = &self.stop {
            let message = stop.drain(self.now);
            self.effects.push(Effect::Send { session, message });
        }
    }

    fn refusal(&self, hello: &Hello) -> Option<Refusal> {
        let known = self.by_id.contains_key(&hello.worker);
        if hello.protocol != PROTOCOL {
            return Some(Refusal::Protocol {
                found: hello.protocol,
            });
        }
        if hello.profile.numerics_version != self.config.numerics_version {
            return Some(Refusal::NumericsVersion {
                found: hello.profile.numerics_version,
                expected: self.config.numerics_version,
            });
        }
        if !hello
            .profile
            .numeric_levels
            .contains(&self.config.numeric_level)
        {
            return Some(Refusal::NumericLevel {
                found: hello.profile.numeric_levels.clone(),
                expected: self.config.numeric_level.clone(),
            });
        }
        // A worker that still holds something may deliver it.
        if self.lifecycle == Lifecycle::Stopping && hello.held.is_empty() {
            return Some(Refusal::Stopping);
        }
        if !known && self.sessions.len() >= self.config.max_sessions {
            return Some(Refusal::TooMany {
                limit: self.config.max_sessions,
            });
        }
        None
    }

    fn attach(&mut self, session: SessionId, hello: &Hello) -> WorkerNumber {
        let deadline = self.now.after(self.config.lease);
        let known = self.by_id.get(&hello.worker).copied();
        let number = known.unwrap_or_else(|| {
            self.last_worker += 1;
            WorkerNumber(self.last_worker)
        });
        let profile = Arc::new(hello.profile.clone());
        match self.workers.get_mut(&number) {
            Some(worker) => {
                let old = worker.session.replace(session);
                if *worker.profile != *profile {
                    worker.profile = profile.clone();
                    self.journal.push(Record::Worker {
                        id: hello.worker,
                        profile,
                    });
                }
                worker.deadline = deadline;
                worker.window = 0;
                worker.draining = false;
                if let Some(old) = old {
                    self.sessions.remove(&old);
                    let reason = CloseReason::Superseded;
                    self.effects.push(Effect::Close {
                        session: old,
                        reason,
                    });
                }
            }
            None => {
                self.journal.push(Record::Worker {
                    id: hello.worker,
                    profile: profile.clone(),
                });
                self.by_id.insert(hello.worker, number);
                let worker = Worker {
                    id: hello.worker,
                    profile,
                    session: Some(session),
                    deadline,
                    window: 0,
                    draining: false,
                    held: Vec::new(),
                    seconds: None,
                    streak: 0,
                    memory: 0,
                    running: Vec::new(),
                };
                self.workers.insert(number, worker);
            }
        }
        self.sessions.insert(session, number);
        number
    }

    /// Compares what the worker says it holds with what was granted. Returns
    /// the number of leases it keeps and those that it must drop.
    fn reconcile(&mut self, worker: WorkerNumber, held: &[HeldLease]) -> (u32, Vec<LeaseId>) {
        let claimed: BTreeSet<LeaseId> = held.iter().map(|held| held.lease).collect();
        for idx in self.workers[&worker].held.clone() {
            let task = &self.tasks[idx];
            let State::Leased(grant) = &task.state else {
                continue;
            };
            // What it does not name was lost with the connection, or it was
            // told to forget it: nobody's failure.
            if !claimed.contains(&LeaseId {
                task: task.id,
                attempt: grant.attempt,
            }) {
                self.end_lease(idx);
                if !planted(Bug::DropsUnclaimedLeases) {
                    self.requeue(idx);
                }
            }
        }
        let mut kept = 0;
        let mut dropped = Vec::new();
        for held in held {
            if self.claim(worker, held) {
                kept += 1;
            } else {
                dropped.push(held.lease);
            }
        }
        (kept, dropped)
    }

    /// Whether the worker keeps a lease that it brought along.
    ///
    /// Finished ones are kept wherever the task can still be found, so that
    /// the report comes and is recorded, or compared with what is recorded.
    fn claim(&mut self, worker: WorkerNumber, held: &HeldLease) -> bool {
        let finished = held.state == HeldState::Finished;
        let Some(idx) = self.tasks.find(&held.lease.task) else {
            return self.claim_forgotten(worker, held);
        };
        match &mut self.tasks[idx].state {
            State::Leased(grant)
                if grant.worker == worker && grant.attempt == held.lease.attempt =>
            {
                grant.running = held.state == HeldState::Running;
                grant.recalled = false;
                true
            }
            State::Leased(_) | State::Recording { .. } => finished,
            State::Ready | State::Delayed { .. } | State::Waiting => {
                if !self.was_granted(held.lease) {
                    return false;
                }
                self.unqueue(idx);
                self.adopt(worker, idx, held);
                true
            }
        }
    }

    /// A lease on a task that is not live: of an earlier epoch, or over.
    fn claim_forgotten(&mut self, worker: WorkerNumber, held: &HeldLease) -> bool {
        let (task, place) = (held.lease.task, held.place);
        let finished = held.state == HeldState::Finished;
        let Some(sweep) = self.sweeps.get_mut(&place.sweep) else {
            return false;
        };
        if !sweep.is_active() {
            return false;
        }
        if sweep.has_outcome(&task, place) {
            return finished;
        }
        if !self.was_granted(held.lease) {
            return false;
        }
        let Some(idx) = self.revive(&task, place) else {
            return false;
        };
        self.adopt(worker, idx, held);
        true
    }

    /// Makes a task live again that only its place tells about. `None` if the
    /// sweep has no such task there.
    pub(super) fn revive(&mut self, id: &common::ids::TaskId, place: Place) -> Option<TaskIdx> {
        let sweep = self.sweeps.get_mut(&place.sweep)?;
        let (kind, planned_baseline) = sweep.kind_at(id, place)?;
        if let Some(baseline) = planned_baseline {
            sweep.need_is_live(baseline, place.position);
            sweep.live_baselines += 1;
        } else {
            sweep.adopted.insert(place.position);
            sweep.live += 1;
        }
        let task = Task {
            id: *id,
            kind,
            owners: vec![place],
            // Replaced by the caller before anybody looks.
            state: State::Waiting,
            failures: sweep.histories.remove(id).unwrap_or_default(),
            checkpoint: sweep.checkpoints.remove(id),
            revived: true,
            stored: None,
        };
        Some(self.tasks.insert(task))
    }

    /// Leases a task that is in no queue to a worker that holds it already.
    fn adopt(&mut self, worker: WorkerNumber, idx: TaskIdx, held: &HeldLease) {
        self.lease_to(worker, idx, held.lease.attempt);
        if let State::Leased(grant) = &mut self.tasks[idx].state {
            grant.running = held.state == HeldState::Running;
        }
    }

    /// Whether an attempt of this number can have been granted: in an earlier
    /// epoch, or earlier in this one.
    pub(super) fn was_granted(&self, lease: LeaseId) -> bool {
        let attempt = lease.attempt;
        attempt.epoch() > 0
            && attempt.counter() > 0
            && (attempt.epoch() < self.epoch
                || (attempt.epoch() == self.epoch && attempt.counter() <= self.last_attempt))
    }

    /// Puts a task into a worker's hands under an attempt number.
    pub(super) fn lease_to(
        &mut self,
        number: WorkerNumber,
        idx: TaskIdx,
        attempt: common::protocol::Attempt,
    ) {
        let worker = self
            .workers
            .get_mut(&number)
            .expect("leases go to workers that are there");
        let position = worker.held.len() as u32;
        worker.held.push(idx);
        let task = &mut self.tasks[idx];
        let (running, recalled) = (false, false);
        task.state = State::Leased(Grant {
            worker: number,
            attempt,
            position,
            running,
            recalled,
        });
        for place in &task.owners {
            if let Some(sweep) = self.sweeps.get_mut(&place.sweep) {
                sweep.leased += 1;
            }
        }
    }

    /// Takes a leased task out of its worker's hands and leaves it in no
    /// queue. Returns the lease that ended.
    pub(super) fn end_lease(&mut self, idx: TaskIdx) -> Option<Grant> {
        let task = &mut self.tasks[idx];
        let State::Leased(grant) = task.state else {
            return None;
        };
        task.state = State::Waiting;
        for place in &task.owners {
            if let Some(sweep) = self.sweeps.get_mut(&place.sweep)
                && !planted(Bug::LeaksLeaseCount)
            {
                sweep.leased -= 1;
            }
        }
        let worker = self
            .workers
            .get_mut(&grant.worker)
            .expect("a lease's worker is there");
        worker.held.swap_remove(grant.position as usize);
        if let Some(moved) = worker.held.get(grant.position as usize).copied()
            && let State::Leased(moved) = &mut self.tasks[moved].state
            && !planted(Bug::ConfusesHeldPositions)
        {
            moved.position = grant.position;
        }
        Some(grant)
    }

    pub(super) fn on_credit(&mut self, session: SessionId, window: u32) {
        if let Some(worker) = self.heard(session) {
            worker.window = window;
        }
    }

    pub(super) fn on_heartbeat(&mut self, session: SessionId, heartbeat: &Heartbeat) {
        let Some(worker) = self.heard(session) else {
            return;
        };
        worker.memory = heartbeat.memory;
        let held = worker.held.len();
        let Some(number) = self.sessions.get(&session).copied() else {
            return;
        };
        self.note_running(number, heartbeat);
        // Marks stay until the lease ends: a task that has begun does not go
        // back into the queue. A list longer than what is held says nothing.
        for lease in heartbeat.running.iter().take(held) {
            let Some(idx) = self.tasks.find(&lease.task) else {
                continue;
            };
            if let State::Leased(grant) = &mut self.tasks[idx].state
                && grant.worker == number
                && grant.attempt == lease.attempt
            {
                grant.running = true;
            }
        }
    }

    /// Since when a worker computes what it says it computes. For displays alone.
    fn note_running(&mut self, number: WorkerNumber, heartbeat: &Heartbeat) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        let slots = worker.slots();
        let since = |lease: &LeaseId| {
            let known = worker.running.iter().find(|(known, _)| known == lease);
            known.map_or(now, |(_, since)| *since)
        };
        let leases = heartbeat.running.iter().take(slots);
        worker.running = leases.map(|lease| (*lease, since(lease))).collect();
    }

    pub(super) fn on_draining(&mut self, session: SessionId) {
        if let Some(worker) = self.heard(session) {
            worker.draining = true;
        }
    }

    /// Notes a sign of life and returns the worker.
    pub(super) fn heard(&mut self, session: SessionId) -> Option<&mut Worker> {
        let number = self.sessions.get(&session)?;
        let worker = self.workers.get_mut(number)?;
        worker.deadline = self.now.after(self.config.lease);
        Some(worker)
    }

    pub(super) fn on_closed(&mut self, session: SessionId) {
        let Some(number) = self.sessions.remove(&session) else {
            return;
        };
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        worker.session = None;
        worker.window = 0;
        let held = worker.held.len() as u32;
        if worker.held.is_empty() {
            // Nothing to keep for it: should it return, it is a new one.
            self.forget_worker(number);
        } else {
            let name = worker.profile.name.clone();
            self.notice(Notice::WorkerDetached { name, held });
        }
    }

    pub(super) fn on_worker_ended(&mut self, id: WorkerId) {
        if let Some(number) = self.by_id.get(&id).copied() {
            self.lose_worker(number);
        }
    }

    /// Gives up workers whose silence has lasted for a lease.
    pub(super) fn expire_workers(&mut self) {
        let now = self.now;
        let silent: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in silent {
            self.lose_worker(number);
        }
    }

    /// Takes everything from a worker that will not be waited for any longer.
    /// What it was computing counts as a failed attempt; what was queued there
    /// does not.
    fn lose_worker(&mut self, number: WorkerNumber) {
        let worker = &self.workers[&number];
        let (id, name) = (worker.id, worker.profile.name.clone());
        let mut held: Vec<_> = worker
            .held
            .iter()
            .filter_map(|idx| match &self.tasks[*idx].state {
                State::Leased(grant) => Some((grant.attempt, *idx)),
                _ => None,
            })
            .collect();
        held.sort_unstable();
        if let Some(session) = worker.session {
            self.close(session, CloseReason::Silent);
        }
        let requeued = held.len() as u32;
        for (_, idx) in held {
            let Some(grant) = self.end_lease(idx) else {
                continue;
            };
            if grant.running {
                self.note_begun_anew();
                let message = format!("{name} fell silent while computing it");
                self.fail(idx, id, grant.attempt, FailureKind::WorkerLost, message);
            } else if !planted(Bug::DropsQueueOfLostWorker) {
                self.requeue(idx);
            }
        }
        self.forget_worker(number);
        self.notice(Notice::WorkerLost { name, requeued });
    }

    fn forget_worker(&mut self, number: WorkerNumber) {
        if let Some(worker) = self.workers.remove(&number) {
            self.by_id.remove(&worker.id);
            if let Some(session) = worker.session {
                self.sessions.remove(&session);
            }
        }
    }

    /// Ends a connection; the worker keeps its leases.
    pub(super) fn close(&mut self, session: SessionId, reason: CloseReason) {
        self.effects.push(Effect::Close { session, reason });
        self.on_closed(session);
    }

    /// Stops giving tasks to a worker that fails at everything, while there is
    /// another one that does not.
    pub(super) fn distrust(&mut self, number: WorkerNumber) {
        let limit = self.config.retry.worker_streak;
        let healthy = self
            .workers
            .iter()
            .any(|(other, worker)| *other != number && worker.is_open() && worker.streak < limit);
        let Some(worker) = self.workers.get_mut(&number) else {
            return;
        };
        if worker.streak < limit || worker.draining || !healthy {
            return;
        }
        worker.draining = true;
        let (name, failures) = (worker.profile.name.clone(), worker.streak);
        if let Some(session) = worker.session {
            let reason = format!("{failures} tasks in a row failed here");
            let message = CoordinatorMessage::Drain {
                reason,
                finished: true,
                waits: None,
            };
            self.effects.push(Effect::Send { session, message });
        }
        self.notice(Notice::WorkerDistrusted { name, failures });
    }
}

fn millis(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
