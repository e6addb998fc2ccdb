//! What the core is told, and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{TaskId, WorkerId};
use common::protocol::{
    CoordinatorMessage, FailureKind, HandBack, Heartbeat, Hello, LeaseId, Outcome, PROTOCOL,
    Report, STOPPING, SweepNumber,
};
use common::record::Telemetry;

use super::journal::{Exception, Known, Lookup, Opened, Record, SweepState, Ticket};
use crate::workload::Workload;

/// Number of a connection, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. Sent every few tens of milliseconds.
    Tick,
    /// A connection was made and its Hello arrived.
    Hello {
        /// The connection.
        session: SessionId,
        /// What it said.
        hello: Hello,
    },
    /// The worker says how many tasks it wants to hold.
    Credit {
        /// Its connection.
        session: SessionId,
        /// Running ones included.
        window: u32,
    },
    /// The worker is alive.
    Heartbeat {
        /// Its connection.
        session: SessionId,
        /// What it computes.
        heartbeat: Heartbeat,
    },
    /// The worker reports.
    Reports {
        /// Its connection.
        session: SessionId,
        /// On these leases.
        reports: Vec<Incoming>,
    },
    /// The worker is about to leave.
    Draining {
        /// Its connection.
        session: SessionId,
    },
    /// The connection is gone.
    Closed {
        /// Which.
        session: SessionId,
    },
    /// The worker's process is known to have ended.
    WorkerEnded {
        /// Who.
        worker: WorkerId,
    },
    /// The records of a ticket are durable.
    Persisted {
        /// Which ticket.
        ticket: Ticket,
        /// Results that the store held already.
        exceptions: Vec<Exception>,
    },
    /// The records of a ticket may not be durable.
    PersistFailed {
        /// Which ticket.
        ticket: Ticket,
        /// Why, for people.
        error: String,
    },
    /// The answer to a lookup.
    Found {
        /// Which lookup.
        ticket: Ticket,
        /// What is known.
        known: Known,
    },
    /// A lookup could not be answered.
    LookupFailed {
        /// Which lookup.
        ticket: Ticket,
        /// Why, for people.
        error: String,
    },
    /// A sweep that the store holds is to be carried out.
    Sweep(NewSweep),
    /// Somebody wants something.
    Control {
        /// Returned with the answer.
        request: u64,
        /// What is wanted.
        control: Control,
    },
}

/// A sweep to carry out.
#[derive(Debug)]
pub struct NewSweep {
    /// Its number in the store.
    pub number: SweepNumber,
    /// Higher ones are served first.
    pub priority: i32,
    /// Begins paused.
    pub paused: bool,
    /// Which of the tasks that the store has set aside are tried again.
    pub take_up: TakeUp,
    /// Its tasks.
    pub workload: Box<dyn Workload>,
}

/// Tasks that were set aside in an earlier life of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TakeUp {
    /// They stay set aside.
    #[default]
    Nothing,
    /// All are tried again.
    All,
    /// These are.
    These(std::collections::BTreeSet<TaskId>),
}

impl TakeUp {
    /// Whether a task is tried again.
    pub fn takes(&self, task: &TaskId) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::These(tasks) => tasks.contains(task),
        }
    }
}

/// A request about what is going on.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// Hand out no more tasks of a sweep.
    Pause(SweepNumber),
    /// Hand them out again.
    Resume(SweepNumber),
    /// Give a sweep up.
    Cancel(SweepNumber),
    /// Change a sweep's priority.
    Prioritise(SweepNumber, i32),
    /// Try set-aside tasks of a sweep again: these, or all.
    Retry(SweepNumber, Option<Vec<TaskId>>),
    /// Hand out nothing more and send the workers away.
    Stop {
        /// Why, for people.
        reason: String,
        /// There is no more work, so they need not come back.
        finished: bool,
        /// How long this coordinator is there for what they bring, if that is
        /// known.
        waits: Option<Duration>,
    },
}

/// A report as the core reads it: evidence opened.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Which lease.
    pub lease: LeaseId,
    /// What became of it.
    pub outcome: IncomingOutcome,
}

/// What became of a lease.
#[derive(Clone, Debug)]
pub enum IncomingOutcome {
    /// Computed.
    Result {
        /// What came out.
        evidence: Opened,
        /// What it cost.
        telemetry: Telemetry,
        /// θ at the end point; empty when not sent.
        theta: Vec<f64>,
    },
    /// Failed.
    Failure {
        /// Its class.
        kind: FailureKind,
        /// For people.
        message: String,
    },
    /// Given back.
    HandBack(HandBack),
    /// Makes no sense.
    Malformed {
        /// What is wrong.
        detail: String,
    },
}

/// Longest failure message that is kept, bytes.
const MESSAGE_LIMIT: usize = 4096;

impl From<Report> for Incoming {
    /// Opens the evidence. Costs a hash, so it is done where the report
    /// arrives and not in the core.
    fn from(report: Report) -> Self {
        let outcome = match report.outcome {
            Outcome::Result(result) => match Opened::open(result.evidence) {
                Ok(evidence) => IncomingOutcome::Result {
                    evidence,
                    telemetry: result.telemetry,
                    theta: result.theta,
                },
                Err(error) => IncomingOutcome::Malformed {
                    detail: error.to_string(),
                },
            },
            Outcome::Failure(failure) => {
                let message = shortened(failure.message);
                IncomingOutcome::Failure {
                    kind: failure.kind,
                    message,
                }
            }
            Outcome::HandBack(back) => IncomingOutcome::HandBack(back),
            Outcome::Malformed { detail } => IncomingOutcome::Malformed { detail },
        };
        Self {
            lease: report.lease,
            outcome,
        }
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT)
            .rev()
            .find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
        message.push('…');
    }
    message
}

/// What the outside world must do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Send a message.
    Send {
        /// To whom.
        session: SessionId,
        /// What.
        message: CoordinatorMessage,
    },
    /// Refuse a connection whose Hello was not accepted.
    Refuse {
        /// Which.
        session: SessionId,
        /// Why.
        refusal: Refusal,
    },
    /// End a connection.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// Make records durable, together, and say so.
    Persist {
        /// To be named in the answer.
        ticket: Ticket,
        /// The records.
        records: Arc<[Record]>,
    },
    /// Look tasks up.
    Lookup {
        /// To be named in the answer.
        ticket: Ticket,
        /// What is asked.
        lookup: Lookup,
    },
    /// A sweep is over, durably. Its workload is handed back.
    SweepEnded {
        /// Which.
        sweep: SweepNumber,
        /// Finished or cancelled.
        state: SweepState,
        /// Positions of its plan that were the same task as an earlier one.
        duplicates: u64,
        /// Its tasks and what was gathered.
        workload: Box<dyn Workload>,
    },
    /// A request has been carried out, durably, or turned down.
    Answer {
        /// Which request.
        request: u64,
        /// What came of it.
        result: Result<Done, Denied>,
    },
    /// Something that people should know.
    Notice(Notice),
}

/// A request that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Tasks concerned.
    pub tasks: u64,
}

/// A request that was turned down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such sweep among the active ones.
    #[error("sweep {0} is not active")]
    NotActive(SweepNumber),
    /// The sweep is already being given up.
    #[error("sweep {0} is cancelled")]
    Cancelled(SweepNumber),
    /// There is already an active sweep of this number.
    #[error("sweep {0} is active already")]
    AlreadyActive(SweepNumber),
}

/// Why a Hello was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another protocol.
    #[error(
        "the worker speaks protocol {found}, this coordinator {PROTOCOL}; run the same version of both"
    )]
    Protocol {
        /// What the worker speaks.
        found: u32,
    },
    /// Another version of the numerics.
    #[error(
        "the worker computes with numerics version {found}, this coordinator's results have {expected}; run the same version of both"
    )]
    NumericsVersion {
        /// The worker's.
        found: u32,
        /// That of the results.
        expected: u32,
    },
    /// A numeric level that the worker lacks.
    #[error("the worker cannot compute at numeric level {expected}, only at {}", found.join(", "))]
    NumericLevel {
        /// What the worker offers.
        found: Vec<String>,
        /// That of the results.
        expected: String,
    },
    /// Too many sessions.
    #[error("{limit} workers are connected already")]
    TooMany {
        /// Most there may be.
        limit: usize,
    },
    /// On the way out.
    #[error("{}", STOPPING)]
    Stopping,
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The worker has a newer one.
    #[error("the worker opened another session")]
    Superseded,
    /// Nothing was heard for the length of a lease.
    #[error("nothing was heard from the worker for the length of a lease")]
    Silent,
    /// A second Hello.
    #[error("a session has one hello")]
    SecondHello,
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A worker came, or came back.
    WorkerJoined {
        /// Who.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// Leases it brought along and keeps.
        kept: u32,
        /// Leases it brought along and must drop.
        dropped: u32,
    },
    /// A worker's connection broke; it keeps its leases for a while.
    WorkerDetached {
        /// Its name.
        name: String,
        /// Leases it holds.
        held: u32,
    },
    /// A worker is given up.
    WorkerLost {
        /// Its name.
        name: String,
        /// Tasks that go to others.
        requeued: u32,
    },
    /// A worker failed too often in a row and gets no more tasks.
    WorkerDistrusted {
        /// Its name.
        name: String,
        /// Failures in a row.
        failures: u32,
    },
    /// An execution failed.
    TaskFailed {
        /// Which.
        lease: LeaseId,
        /// Why.
        kind: FailureKind,
        /// For people.
        message: String,
        /// Whether it is tried again.
        again: bool,
    },
    /// A task has two results with different bits.
    Conflict {
        /// Which task.
        task: TaskId,
        /// Who brought the second one.
        worker: WorkerId,
    },
    /// A report was turned down.
    ReportRefused {
        /// On which lease.
        lease: LeaseId,
        /// Why.
        detail: String,
    },
    /// The store does not take records; nothing is acknowledged or granted.
    StoreFailing {
        /// What it says.
        error: String,
    },
    /// The store works again.
    StoreRecovered,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A checkpoint and the work in it.
pub(super) type Checkpoint = (Bytes, u64);
