//! The protocol as the programs think of it: checked values, no encoding.
//!
//! One type per message of `proto/sweep/v1/sweep.proto`, which says what each
//! message means and why a repetition is harmless. Conversions to and from
//! the encoded form are in [`crate::pb`]; decisions are in the coordinator's
//! core and the worker's session.
//!
//! Two things differ from the encoded form. A [`Lease`] carries its cell and
//! baseline itself, shared by reference count; that they travel once a session
//! is a matter of encoding. And evidence stays the bytes it was computed as;
//! whoever wants the numbers decodes them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{BaselineId, CellId, TaskId, WorkerId};
use crate::record::{BaselineEvidence, Telemetry};

/// The protocol version that this build speaks.
pub const PROTOCOL: u32 = 1;

/// What a coordinator on its way out says to workers that come back.
pub const STOPPING: &str = "the coordinator is stopping";

/// Number of a sweep in its store, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SweepNumber(pub u32);

impl fmt::Display for SweepNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an attempt: the coordinator's epoch in the upper half, a counter
/// in the lower, so that no number is ever granted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(pub u64);

impl Attempt {
    /// The `counter`-th attempt of an epoch.
    pub fn new(epoch: u32, counter: u32) -> Self {
        Self(u64::from(epoch) << 32 | u64::from(counter))
    }

    /// The epoch that granted it.
    pub fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Its number within the epoch.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.counter())
    }
}

/// One attempt at one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub attempt: Attempt,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::ids::write_hex(f, &self.task.0[..6])?;
        write!(f, "@{}", self.attempt)
    }
}

/// Where a task stands in its sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The sweep.
    pub sweep: SweepNumber,
    /// Position of the run in the sweep's plan, from 0.
    pub position: u64,
    /// The task is the baseline that this run needs.
    pub baseline: bool,
}

/// What a worker says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Protocol version it speaks.
    pub protocol: u32,
    /// Who it is, over all its connections.
    pub worker: WorkerId,
    /// What it can do and is called.
    pub profile: Profile,
    /// Leases it holds from earlier sessions.
    pub held: Vec<HeldLease>,
}

/// What does not change during a worker's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Name for people.
    pub name: String,
    /// Host for people.
    pub host: String,
    /// Version of the program.
    pub program_version: String,
    /// Version of the numerics.
    pub numerics_version: u32,
    /// Numeric levels it can compute at.
    pub numeric_levels: Vec<String>,
    /// Tasks computed at a time, at least 1.
    pub slots: u32,
    /// Threads of one task.
    pub threads_per_slot: u32,
    /// Memory limit of one slot in bytes; `None` when unlimited.
    pub memory_per_slot: Option<u64>,
}

/// A lease that a worker brings along from an earlier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// Which.
    pub lease: LeaseId,
    /// Where its task stands.
    pub place: Place,
    /// How far it is.
    pub state: HeldState,
}

/// How far a held lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldState {
    /// Not begun.
    Queued,
    /// Being computed.
    Running,
    /// Computed, not yet acknowledged.
    Finished,
}

/// From worker to coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkerMessage {
    /// First message of a session.
    Hello(Hello),
    /// Number of unfinished tasks it wants to hold.
    Credit {
        /// Running ones included.
        window: u32,
    },
    /// Still there.
    Heartbeat(Heartbeat),
    /// What became of leases.
    Reports(Vec<Report>),
    /// No new leases wanted.
    Draining,
}

/// From coordinator to worker.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorMessage {
    /// Answer to the Hello.
    Welcome(Welcome),
    /// New leases.
    Leases(Vec<Lease>),
    /// Reports that may be forgotten.
    Receipts(Vec<Receipt>),
    /// Leases to stop and forget.
    Revoke(Vec<LeaseId>),
    /// Leases to hand back if they have not begun.
    Recall(Vec<LeaseId>),
    /// Finish and leave.
    Drain {
        /// Why, for people.
        reason: String,
        /// The worker need not come back.
        finished: bool,
        /// For how long the coordinator is there, if it goes.
        waits: Option<Duration>,
    },
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Leases being computed.
    pub running: Vec<LeaseId>,
    /// Resident memory of the worker and its slots, bytes.
    pub memory: u64,
}

/// Answer to a Hello that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Version the session uses.
    pub protocol: u32,
    /// Epoch of the coordinator.
    pub epoch: u32,
    /// Silence after which leases are lost.
    pub lease_ms: u32,
    /// Longest time between two signs of life.
    pub heartbeat_ms: u32,
    /// Held leases to forget.
    pub drop: Vec<LeaseId>,
    /// Level to compute at.
    pub numeric_level: String,
}

/// Permission to compute one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Task and attempt.
    pub id: LeaseId,
    /// Where the task stands.
    pub place: Place,
    /// What to compute.
    pub work: Work,
    /// Where to continue from.
    pub checkpoint: Option<Bytes>,
}

impl Lease {
    /// Bytes that it takes in a message, about, if its cell and its baseline
    /// travel with it.
    pub fn bytes(&self) -> usize {
        let work = match &self.work {
            Work::Run {
                cell,
                start,
                baseline,
                ..
            } => cell.json.len() + start.len() + 8 * baseline.evidence.minimizer.len(),
            Work::Baseline { cell } => cell.json.len(),
            Work::Noop { .. } => 0,
        };
        work + self.checkpoint.as_ref().map_or(0, Bytes::len)
    }
}

/// What a lease asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A run.
    Run {
        /// Everything but seed and start.
        cell: Arc<CellText>,
        /// Key of every random draw.
        seed: u64,
        /// The start as JSON, in the grid's notation.
        start: Arc<str>,
        /// What the run is set beside.
        baseline: Arc<SolvedBaseline>,
    },
    /// The baseline of the runs of a cell.
    Baseline {
        /// The cell.
        cell: Arc<CellText>,
    },
    /// Nothing, for a while.
    Noop {
        /// Comes back in the evidence.
        seed: u64,
        /// How long.
        microseconds: u64,
    },
}

/// A cell as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellText {
    /// Its identity.
    pub id: CellId,
    /// Its specification as JSON.
    pub json: String,
}

/// A baseline as it travels to the runs that need it.
#[derive(Clone, Debug, PartialEq)]
pub struct SolvedBaseline {
    /// Its identity.
    pub id: BaselineId,
    /// Its solution.
    pub evidence: BaselineEvidence,
}

/// What became of one lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which lease.
    pub lease: LeaseId,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Computed.
    Result(TaskResult),
    /// Tried and failed.
    Failure(TaskFailure),
    /// Given back unfinished, nobody's failure.
    HandBack(HandBack),
    /// What arrived makes no sense; only the receiving side produces this.
    Malformed {
        /// The field and what is wrong with it.
        detail: String,
    },
}

/// A computed task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// The encoded evidence, as it was computed.
    pub evidence: Bytes,
    /// What may differ between two executions.
    pub telemetry: Telemetry,
    /// θ at the end point of a run; empty when not sent.
    pub theta: Vec<f64>,
}

/// One execution that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFailure {
    /// Its class, which decides about another try.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// What it cost.
    pub telemetry: Telemetry,
}

/// Why an execution failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The specification cannot be run.
    InvalidTask,
    /// A panic in the engine.
    Panic,
    /// The slot exceeded its memory limit.
    OutOfMemory,
    /// The slot died in another way.
    Crash,
    /// A file could not be fetched or did not have its hash.
    DataUnavailable,
    /// Worker and coordinator disagree about the task's identity.
    IdentityMismatch,
    /// The worker fell silent while computing it. Never travels: the
    /// coordinator finds it out.
    WorkerLost,
    /// The report made no sense. Never travels: the coordinator finds it out.
    MalformedReport,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::InvalidTask,
        Self::Panic,
        Self::OutOfMemory,
        Self::Crash,
        Self::DataUnavailable,
        Self::IdentityMismatch,
        Self::WorkerLost,
        Self::MalformedReport,
    ];

    /// The name used in stores, results and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidTask => "invalid_task",
            Self::Panic => "panic",
            Self::OutOfMemory => "out_of_memory",
            Self::Crash => "crash",
            Self::DataUnavailable => "data_unavailable",
            Self::IdentityMismatch => "identity_mismatch",
            Self::WorkerLost => "worker_lost",
            Self::MalformedReport => "malformed_report",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A lease given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandBack {
    /// State to continue from.
    pub checkpoint: Option<Bytes>,
    /// Work already done, in evaluations.
    pub evaluations: u64,
}

/// Answer to a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The lease that was reported on.
    pub lease: LeaseId,
    /// What came of the report.
    pub status: ReceiptStatus,
    /// For people.
    pub detail: String,
}

/// What came of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptStatus {
    /// Recorded by this report.
    Recorded,
    /// Already recorded with the same bits.
    Duplicate,
    /// Already recorded with other bits.
    Conflict,
    /// About an attempt that is no longer the current one.
    Stale,
    /// About a lease that was never granted here.
    Unknown,
    /// Not what the task asks for.
    Refused,
}
