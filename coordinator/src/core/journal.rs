//! What must survive, and the messages that wait for it.
//!
//! A step collects [`Record`]s; at its end they leave as one
//! [`Effect::Persist`](super::Effect) under a ticket. Receipts that rest on
//! them stay here until the store has answered for the ticket.
//!
//! Tickets become durable in their order. After a failure the store turns down
//! later ones until the failed one is presented again (unchanged: the store
//! takes repetitions), and the journal holds new ones back meanwhile. So a
//! record never overtakes an older one about the same thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{TaskId, WorkerId};
use common::pb::{FieldError, decode_evidence};
use common::protocol::{Attempt, FailureKind, Place, Profile, Receipt, SweepNumber};
use common::record::{Evidence, Telemetry};
use sha2::{Digest, Sha256};

use super::SessionId;
use super::task::TaskIdx;
use super::time::Timestamp;

/// Evidence with its bytes and their hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// As computed, stored and compared.
    pub bytes: Bytes,
    /// SHA-256 of the bytes.
    pub digest: [u8; 32],
    /// What the bytes say.
    pub evidence: Evidence,
}

impl Opened {
    /// Decodes and hashes.
    ///
    /// # Errors
    /// [`FieldError`] when the bytes are no evidence.
    pub fn open(bytes: Bytes) -> Result<Self, FieldError> {
        let evidence = decode_evidence(&bytes)?;
        let digest = Sha256::digest(&bytes).into();
        Ok(Self {
            bytes,
            digest,
            evidence,
        })
    }

    /// What is remembered of a digest for each recorded result.
    pub(super) fn mark(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.digest;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A fact that outlives the coordinator.
///
/// Presenting a record twice has the effect of presenting it once.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A worker that results and failures will name.
    Worker {
        /// Who.
        id: WorkerId,
        /// What it can do and is called.
        profile: Arc<Profile>,
    },
    /// A task's result. When the store holds one already, it is compared, and
    /// another one with other bits is kept as a conflict beside it.
    Result {
        /// Which task, and the sweep that asked for it.
        task: TaskId,
        /// Where it stands there.
        place: Place,
        /// Who computed it.
        worker: WorkerId,
        /// Under which attempt.
        attempt: Attempt,
        /// What came out.
        evidence: Opened,
        /// What it cost.
        telemetry: Telemetry,
        /// θ, for these sweeps.
        theta: Option<KeptTheta>,
    },
    /// A result with other bits than the recorded one.
    Conflict {
        /// Which task.
        task: TaskId,
        /// Who computed it.
        worker: WorkerId,
        /// Under which attempt.
        attempt: Attempt,
        /// What came out.
        evidence: Opened,
    },
    /// One failed execution, for one of the sweeps that want the task.
    Failure {
        /// Which task.
        task: TaskId,
        /// Where it stands.
        place: Place,
        /// Who failed at it.
        worker: WorkerId,
        /// Under which attempt.
        attempt: Attempt,
        /// Why.
        kind: FailureKind,
        /// For people.
        message: String,
    },
    /// A task that is not tried again in this sweep.
    SetAside {
        /// Which task.
        task: TaskId,
        /// Where it stands.
        place: Place,
    },
    /// Tasks whose failures in this sweep are forgotten.
    TakenUpAgain {
        /// The sweep.
        sweep: SweepNumber,
        /// The tasks.
        tasks: Vec<TaskId>,
    },
    /// Where a task can be continued from.
    Checkpoint {
        /// Which task.
        task: TaskId,
        /// The state.
        state: Bytes,
        /// Work done so far, in evaluations.
        evaluations: u64,
    },
    /// θ that a sweep no longer wants.
    ReleaseTheta {
        /// The sweep.
        sweep: SweepNumber,
        /// The tasks.
        tasks: Vec<TaskId>,
    },
    /// How far a sweep is, and its priority.
    Sweep {
        /// Which sweep.
        sweep: SweepNumber,
        /// How far it is.
        state: SweepState,
        /// Higher ones are served first.
        priority: i32,
    },
}

/// θ and the sweeps that want it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptTheta {
    /// In the flat order of the contract.
    pub theta: Arc<[f64]>,
    /// Who wants it.
    pub sweeps: Vec<SweepNumber>,
}

/// How far a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepState {
    /// Tasks are handed out.
    Running,
    /// No new tasks are handed out.
    Paused,
    /// Given up by request.
    Cancelled,
    /// Every task is recorded or set aside.
    Finished,
}

impl SweepState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Paused, Self::Cancelled, Self::Finished];

    /// The name used in stores and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Finished => "finished",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Number of a group of records that becomes durable together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the store answers for a ticket, where it is not simply "recorded".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Position of the result among the ticket's records.
    pub record: u32,
    /// What the store held already.
    pub found: AlreadyThere,
}

/// What the store held of a task that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlreadyThere {
    /// The same bits.
    Equal,
    /// Other bits; the new ones are kept as a conflict.
    Different,
}

/// What a lookup asks the store for.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// Failures are those of this sweep.
    pub sweep: SweepNumber,
    /// Tasks to look for.
    pub tasks: Vec<TaskId>,
}

/// What a store knows about the tasks of a lookup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Recorded results.
    pub results: Vec<(TaskId, Opened)>,
    /// Failures; those of one task in the order of their attempts.
    pub failures: Vec<(TaskId, super::retry::PastFailure)>,
    /// Tasks set aside.
    pub set_aside: Vec<TaskId>,
    /// Where tasks can be continued from.
    pub checkpoints: Vec<(TaskId, Bytes, u64)>,
}

/// Records on their way, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Records of this step.
    pub(super) records: Vec<Record>,
    /// What rests on the records of this step.
    pub(super) resting: Resting,
    /// Presented, not yet durable.
    pub(super) in_flight: BTreeMap<Ticket, Flight>,
    pub(super) last: u64,
    /// Sum of the records in flight.
    pub(super) n_records: usize,
    /// Flights that have failed and have not succeeded since.
    pub(super) n_failed: usize,
    /// Flights that are to be presented, for the first time or again.
    pub(super) n_waiting: usize,
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) records: Arc<[Record]>,
    pub(super) resting: Resting,
    /// When to present it: set after a failure, or when it is held back
    /// because an earlier one failed; `None` while the store has it.
    pub(super) due: Option<Timestamp>,
    pub(super) failures: u32,
}

/// What waits for a ticket.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Tasks whose result is among the records, with the record's position.
    pub(super) results: Vec<(u32, TaskIdx)>,
    /// Receipts, with the position of the result that may change their status.
    pub(super) receipts: Vec<(SessionId, Option<u32>, Receipt)>,
    /// Requests to answer.
    pub(super) requests: Vec<(u64, super::event::Done)>,
}

impl Journal {
    /// The ticket that this step's records will have.
    pub(super) fn next(&self) -> Ticket {
        Ticket(self.last + 1)
    }

    /// Adds a record to this step and returns its position.
    pub(super) fn push(&mut self, record: Record) -> u32 {
        self.records.push(record);
        (self.records.len() - 1) as u32
    }

    /// Closes the step's group, if it has any record, and returns it if it may
    /// be presented now.
    pub(super) fn seal(&mut self, now: Timestamp) -> Option<(Ticket, Arc<[Record]>)> {
        if self.records.is_empty() {
            return None;
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let records: Arc<[Record]> = std::mem::take(&mut self.records).into();
        self.n_records += records.len();
        let resting = std::mem::take(&mut self.resting);
        let held_back = self.n_failed > 0 || self.n_waiting > 0;
        let due = held_back.then_some(now);
        self.n_waiting += usize::from(held_back);
        let flight = Flight {
            records: records.clone(),
            resting,
            due,
            failures: 0,
        };
        self.in_flight.insert(ticket, flight);
        (!held_back).then_some((ticket, records))
    }

    /// Whether the store takes records, as far as is known.
    pub(super) fn is_healthy(&self) -> bool {
        self.n_failed == 0 && self.n_waiting == 0
    }

    /// Whether all records up to this ticket are durable.
    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        let first = self.in_flight.keys().next();
        ticket.0 <= self.last && first.is_none_or(|first| *first > ticket)
    }
}
