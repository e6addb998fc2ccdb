//! What the session is told, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use common::ids::CellId;
use common::protocol::{
    CellText, CoordinatorMessage, FailureKind, Lease, LeaseId, Report, WorkerMessage,
};

/// Microseconds since some moment of the worker's life, from a clock that is
/// never set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment, later by `duration`.
    pub fn after(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

/// Number of a slot, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotNumber(pub u32);

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Time passed. Sent every few tens of milliseconds.
    Tick,
    /// The connection that was asked for is there.
    Connected,
    /// It could not be made, or broke.
    Disconnected(Disconnect),
    /// The coordinator said something.
    Message(CoordinatorMessage),
    /// What a cell needs is at hand.
    CellReady(CellId),
    /// It cannot be had.
    CellFailed {
        /// Which cell.
        cell: CellId,
        /// Why, for people.
        message: String,
    },
    /// A slot can take tasks.
    SlotReady(SlotNumber),
    /// A slot answers tasks.
    SlotReports {
        /// Which slot.
        slot: SlotNumber,
        /// Its answers.
        reports: Vec<Report>,
    },
    /// A slot's process is gone.
    SlotDied {
        /// Which slot.
        slot: SlotNumber,
        /// What its task died of.
        kind: FailureKind,
        /// For people.
        message: String,
    },
    /// The worker is asked to leave.
    Leave {
        /// When it has to be gone.
        grace: Duration,
    },
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Worth trying again: nobody answers, the network broke, not the leader.
    Retry(String),
    /// Worth trying again, elsewhere: another coordinator leads.
    Elsewhere {
        /// Where that one is, `HOST:PORT`.
        leader: String,
        /// For people.
        why: String,
    },
    /// Trying again would end the same way: wrong token, wrong version.
    Refused(String),
}

/// What the outside world must do, in order.
#[derive(Debug)]
pub enum Effect {
    /// Make a connection and report [`Event::Connected`] or
    /// [`Event::Disconnected`].
    Connect,
    /// Send a message on the connection.
    Send(WorkerMessage),
    /// End the connection; no event is expected.
    Disconnect,
    /// Make at hand what a cell needs.
    Prepare(Arc<CellText>),
    /// Start a slot's process.
    StartSlot(SlotNumber),
    /// Give tasks to a slot, after those it has.
    Assign {
        /// Which slot.
        slot: SlotNumber,
        /// The tasks, in order.
        leases: Vec<Lease>,
    },
    /// Have a slot give back tasks, with a checkpoint where it has begun.
    Stop {
        /// Which slot.
        slot: SlotNumber,
        /// The tasks.
        leases: Vec<LeaseId>,
    },
    /// End the worker.
    Exit(Exit),
}

/// Why the worker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to leave, or there is no more work.
    Done,
    /// The coordinator will not have it.
    Refused(String),
    /// Its slots cannot be started.
    NoSlots(String),
}
