//! The scheduler: events in, effects out.
//!
//! [`Core::step`] is the only way in. It never blocks, reads no clock and
//! draws no random number; two cores that are told the same say the same. All
//! decisions about who computes what, what is acknowledged and when a sweep is
//! over are made here; sockets, disks and processes are the driver's.
//!
//! Where to look:
//!
//! | what happens when | is in |
//! |---|---|
//! | a worker comes, falls silent, returns | `worker` |
//! | a result, a failure, a hand-back arrives | `report` |
//! | a task is chosen for a worker, or asked back | `grant` |
//! | a sweep's plan becomes tasks | `walk`, `sweep` |
//! | runs wait for a baseline | `baseline` |
//! | records become durable, or do not | `journal`, `persist` |
//! | a task has failed often enough | `retry` |
//! | people ask for something | `control` |
//! | somebody wonders whether the state makes sense | `invariants` |
//!
//! The rules that everything else rests on:
//!
//! 1. A receipt leaves after the record it rests on is durable.
//! 2. A task's result is gathered into a sweep once, after it is durable.
//! 3. An attempt number is granted once, over all epochs.
//! 4. Order that reaches a decision comes from ordered containers.

mod baseline;
mod config;
mod control;
mod event;
mod grant;
mod invariants;
mod journal;
mod ledger;
mod persist;
mod report;
mod retry;
mod status;
mod sweep;
mod task;
mod time;
mod walk;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use common::ids::WorkerId;
use common::protocol::{CoordinatorMessage, LeaseId, Receipt, SweepNumber};

pub use config::Config;
pub use event::{
    CloseReason, Control, Denied, Done, Effect, Event, Incoming, IncomingOutcome, NewSweep, Notice,
    Refusal, SessionId, TakeUp,
};
pub use journal::{
    AlreadyThere, Exception, KeptTheta, Known, Lookup, Opened, Record, SweepState, Ticket,
};
pub use retry::{PastFailure, RetryLimits};
pub use status::{Glance, Status, SweepStatus, Whereabouts, WorkerStatus};
pub use time::Timestamp;

use journal::Journal;
use sweep::Sweep;
use task::{TaskIdx, Tasks};
use walk::PendingLookup;
use worker::{Worker, WorkerNumber};

use crate::workload::Workload;

/// The scheduler's state.
#[derive(Debug)]
pub struct Core {
    config: Config,
    epoch: u32,
    lifecycle: Lifecycle,
    stop: Option<Stop>,
    /// Tasks that had begun and came back without a checkpoint since the stop.
    begun_anew: u64,
    now: Timestamp,
    grace_until: Timestamp,
    last_attempt: u32,
    last_worker: u64,
    last_lookup: u64,
    served_last: WorkerNumber,
    sessions: BTreeMap<SessionId, WorkerNumber>,
    workers: BTreeMap<WorkerNumber, Worker>,
    by_id: BTreeMap<WorkerId, WorkerNumber>,
    tasks: Tasks,
    delayed: BTreeSet<(Timestamp, TaskIdx)>,
    sweeps: BTreeMap<SweepNumber, Sweep>,
    lookups: BTreeMap<Ticket, PendingLookup>,
    journal: Journal,
    /// Messages of this step that are sent together.
    outgoing: BTreeMap<SessionId, Outgoing>,
    effects: Vec<Effect>,
}

/// Whether tasks are handed out at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifecycle {
    Serving,
    Stopping,
}

#[derive(Clone, Debug)]
struct Stop {
    reason: String,
    finished: bool,
    /// When the coordinator goes.
    until: Option<Timestamp>,
}

impl Stop {
    /// What workers are told.
    fn drain(&self, now: Timestamp) -> CoordinatorMessage {
        CoordinatorMessage::Drain {
            reason: self.reason.clone(),
            finished: self.finished,
            waits: self.until.map(|until| until.since(now)),
        }
    }
}

#[derive(Debug, Default)]
struct Outgoing {
    receipts: Vec<Receipt>,
    revoked: Vec<LeaseId>,
}

impl Core {
    /// A scheduler that knows no sweep and no worker.
    ///
    /// `epoch` is larger than that of every earlier coordinator on the same
    /// store, durably so, and at least 1.
    pub fn new(config: Config, epoch: u32, now: Timestamp) -> Self {
        let grace_until = now.after(config.grace);
        Self {
            config,
            epoch,
            lifecycle: Lifecycle::Serving,
            stop: None,
            begun_anew: 0,
            now,
            grace_until,
            last_attempt: 0,
            last_worker: 0,
            last_lookup: 0,
            served_last: WorkerNumber(0),
            sessions: BTreeMap::new(),
            workers: BTreeMap::new(),
            by_id: BTreeMap::new(),
            tasks: Tasks::default(),
            delayed: BTreeSet::new(),
            sweeps: BTreeMap::new(),
            lookups: BTreeMap::new(),
            journal: Journal::default(),
            outgoing: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// Applies one event and appends what the outside world must now do, in
    /// order.
    ///
    /// A moment that lies before that of an earlier step counts as that one.
    pub fn step(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match event {
            Event::Tick => self.on_tick(),
            Event::Hello { session, hello } => self.on_hello(session, hello),
            Event::Credit { session, window } => self.on_credit(session, window),
            Event::Heartbeat { session, heartbeat } => self.on_heartbeat(session, &heartbeat),
            Event::Reports { session, reports } => self.on_reports(session, reports),
            Event::Draining { session } => self.on_draining(session),
            Event::Closed { session } => self.on_closed(session),
            Event::WorkerEnded { worker } => self.on_worker_ended(worker),
            Event::Persisted { ticket, exceptions } => self.on_persisted(ticket, &exceptions),
            Event::PersistFailed { ticket, error } => self.on_persist_failed(ticket, error),
            Event::Found { ticket, known } => self.on_found(ticket, known),
            Event::LookupFailed { ticket, error } => self.on_lookup_failed(ticket, error),
            Event::Sweep(new) => self.on_sweep(new),
            Event::Control { request, control } => self.on_control(request, control),
        }
        self.conclude();
        effects.append(&mut self.effects);
    }

    fn on_tick(&mut self) {
        self.expire_workers();
        self.end_delays();
        self.repeat_lookups();
    }

    /// What follows from any event: receipts leave, the walk goes on, tasks
    /// are handed out, records go to the store, sweeps end.
    fn conclude(&mut self) {
        for (session, outgoing) in std::mem::take(&mut self.outgoing) {
            if !self.sessions.contains_key(&session) {
                continue;
            }
            if !outgoing.receipts.is_empty() {
                let message = CoordinatorMessage::Receipts(outgoing.receipts);
                self.effects.push(Effect::Send { session, message });
            }
            if !outgoing.revoked.is_empty() {
                let message = CoordinatorMessage::Revoke(outgoing.revoked);
                self.effects.push(Effect::Send { session, message });
            }
        }
        self.settle_ahead();
        self.end_sweeps();
        self.walk_ahead();
        self.dispatch();
        self.recall();
        self.present_waiting();
        self.seal_journal();
    }

    fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    /// The epoch that attempts of this scheduler belong to.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The workload of an active sweep.
    pub fn workload(&self, sweep: SweepNumber) -> Option<&dyn Workload> {
        self.sweeps.get(&sweep).map(|sweep| sweep.workload.as_ref())
    }

    /// Tasks that had begun when the scheduler was told to stop, and came back
    /// without a checkpoint: they begin anew.
    pub fn begun_anew(&self) -> u64 {
        self.begun_anew
    }

    /// Whether nothing is leased and nothing waits for the store.
    pub fn is_quiet(&self) -> bool {
        self.journal.in_flight.is_empty()
            && self.workers.values().all(|worker| worker.held.is_empty())
    }
}
