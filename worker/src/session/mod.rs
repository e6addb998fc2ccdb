//! The worker's half of the protocol: events in, effects out.
//!
//! [`Session::step`] is the only way in; it never blocks and reads no clock.
//! It knows which leases the worker holds and how far each is, which slot
//! computes what, what has been reported and not acknowledged, and when to
//! connect again. Sockets, processes and files are the agent's.
//!
//! | what happens when | is in |
//! |---|---|
//! | a connection comes and goes, messages arrive | `link` |
//! | a lease comes, is computed, reported, forgotten | `leases` |
//! | slots get tasks, answer, die | `slots` |
//! | the worker is asked to leave | `leave` |
//!
//! The rules that everything else rests on:
//!
//! 1. A finished lease is reported in every session until its receipt comes.
//! 2. What the Hello names is what is held: nothing more, nothing less.
//! 3. A slot's death costs its current task a failure, and nothing else.

mod backoff;
mod event;
mod leases;
mod leave;
mod link;
mod pace;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use common::ids::{CellId, IdMap, TaskId, WorkerId};
use common::protocol::{LeaseId, Place, Profile, Report};

pub use backoff::{next_random, pause};
pub use event::{Disconnect, Effect, Event, Exit, SlotNumber, Timestamp};
pub use pace::Pace;

use leases::{CellState, Held};
use leave::Leaving;
use link::Link;
use slots::Slot;

/// Settings of a [`Session`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the worker is.
    pub worker: WorkerId,
    /// What it can do and is called.
    pub profile: Profile,
    /// Key of the random pauses.
    pub seed: u64,
    /// Time that running tasks have to end when the coordinator sends the
    /// worker away, or less if it does not wait so long; then they are stopped
    /// and handed back.
    pub grace: Duration,
}

/// The session's state.
#[derive(Debug)]
pub struct Session {
    config: Config,
    random: u64,
    now: Timestamp,
    link: Link,
    /// Every lease that is held, finished ones included.
    held: IdMap<TaskId, Held>,
    /// Leases that wait for a slot, oldest first.
    queue: VecDeque<LeaseId>,
    /// Leases that are queued or wait for their cell.
    n_waiting: usize,
    /// Finished leases whose report was not sent in this session.
    unsent: Vec<LeaseId>,
    cells: BTreeMap<CellId, CellState>,
    slots: Vec<Slot>,
    /// How long runs take.
    pace: Pace,
    /// How long baselines take, which says nothing of the runs after them.
    baselines: Pace,
    /// The window that was last sent.
    window: u32,
    memory: u64,
    leaving: Option<Leaving>,
    exited: bool,
    effects: Vec<Effect>,
}

impl Session {
    /// A session that is not connected and has started no slot.
    pub fn new(config: Config, now: Timestamp) -> Self {
        let slots = (0..config.profile.slots).map(|_| Slot::new()).collect();
        Self {
            random: config.seed,
            config,
            now,
            link: Link::down_until(now),
            held: IdMap::default(),
            queue: VecDeque::new(),
            n_waiting: 0,
            unsent: Vec::new(),
            cells: BTreeMap::new(),
            slots,
            pace: Pace::default(),
            baselines: Pace::default(),
            window: 0,
            memory: 0,
            leaving: None,
            exited: false,
            effects: Vec::new(),
        }
    }

    /// Applies one event and appends what the outside world must now do, in
    /// order. After [`Effect::Exit`] nothing more is done.
    pub fn step(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if self.exited {
            return;
        }
        match event {
            Event::Tick => {}
            Event::Connected => self.on_connected(),
            Event::Disconnected(why) => self.on_disconnected(why),
            Event::Message(message) => self.on_message(message),
            Event::CellReady(cell) => self.on_cell_ready(cell),
            Event::CellFailed { cell, message } => self.on_cell_failed(cell, &message),
            Event::SlotReady(slot) => self.on_slot_ready(slot),
            Event::SlotReports { slot, reports } => self.on_slot_reports(slot, reports),
            Event::SlotDied {
                slot,
                kind,
                message,
            } => self.on_slot_died(slot, kind, message),
            Event::Leave { grace } => self.on_leave(grace),
        }
        self.start_slots();
        self.progress_leave();
        self.feed_slots();
        self.send_reports();
        self.keep_alive();
        self.connect_when_due();
        effects.append(&mut self.effects);
    }

    /// Notes the memory that the worker and its slots use, for the next
    /// heartbeat.
    pub fn set_memory(&mut self, bytes: u64) {
        self.memory = bytes;
    }

    /// Takes over what another worker has finished, to deliver it.
    pub fn bring(&mut self, place: Place, report: Report) {
        self.hold_finished(place, report);
    }

    /// What is finished and was not acknowledged.
    pub fn undelivered(&self) -> impl Iterator<Item = (Place, &Report)> {
        self.held.values().filter_map(Held::finished)
    }

    /// Whether this task is finished and was not acknowledged.
    pub fn is_undelivered(&self, task: &TaskId) -> bool {
        self.held.get(task).is_some_and(Held::is_finished)
    }

    /// Leases that are held: not begun, being computed, finished.
    pub fn counts(&self) -> (usize, usize, usize) {
        let running = self.slots.iter().map(|slot| slot.assigned.len()).sum();
        let finished = self.held.values().filter(|held| held.is_finished()).count();
        (self.n_waiting, running, finished)
    }

    /// Whether there is a session with a coordinator.
    pub fn is_connected(&self) -> bool {
        self.link.is_welcome()
    }

    /// Checks that the state makes sense; for tests and simulations.
    ///
    /// # Errors
    /// The broken rule in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let waiting = self.held.values().filter(|held| held.is_waiting()).count();
        if waiting != self.n_waiting {
            return Err(format!(
                "{} leases are said to wait, {waiting} do",
                self.n_waiting
            ));
        }
        let queued = self.held.values().filter(|held| held.is_queued()).count();
        if queued != self.queue.len() {
            return Err(format!(
                "{queued} leases are queued, the queue has {}",
                self.queue.len()
            ));
        }
        for (task, held) in &self.held {
            if held.lease.task != *task {
                return Err(format!("{task} is held as {}", held.lease));
            }
            if let Some(slot) = held.slot() {
                let assigned = &self.slots[slot.0 as usize].assigned;
                let times = assigned
                    .iter()
                    .filter(|lease| **lease == held.lease)
                    .count();
                if times != 1 {
                    return Err(format!(
                        "{} is {times} times in slot {}",
                        held.lease, slot.0
                    ));
                }
            }
            if held.is_queued() && !self.queue.contains(&held.lease) {
                return Err(format!("{} is queued and in no queue", held.lease));
            }
        }
        Ok(())
    }
}
