//! The messages of a session, but for leases.

use std::time::Duration;

use bytes::Bytes;

use super::error::{FieldError, Problem};
use super::leases::{bytes, lease_id};
use super::{LeaseDecoder, LeaseEncoder, wire};
use crate::ids::WorkerId;
use crate::protocol::{
    CoordinatorMessage, FailureKind, HandBack, Heartbeat, HeldLease, HeldState, Hello, LeaseId,
    Outcome, Place, Profile, Receipt, ReceiptStatus, Report, SweepNumber, TaskFailure, TaskResult,
    Welcome, WorkerMessage,
};

/// Longest name of a worker, host, program version or level, bytes.
const NAME_LIMIT: usize = 256;

impl From<LeaseId> for wire::LeaseId {
    fn from(id: LeaseId) -> Self {
        Self {
            task: Bytes::copy_from_slice(&id.task.0),
            attempt: id.attempt.0,
        }
    }
}

impl TryFrom<wire::LeaseId> for LeaseId {
    type Error = FieldError;

    fn try_from(id: wire::LeaseId) -> Result<Self, FieldError> {
        lease_id(Some(id))
    }
}

impl From<Place> for wire::Place {
    fn from(place: Place) -> Self {
        Self {
            sweep: place.sweep.0,
            position: place.position,
            baseline: place.baseline,
        }
    }
}

impl From<wire::Place> for Place {
    fn from(place: wire::Place) -> Self {
        Self {
            sweep: SweepNumber(place.sweep),
            position: place.position,
            baseline: place.baseline,
        }
    }
}

fn lease_ids(name: &'static str, ids: Vec<wire::LeaseId>) -> Result<Vec<LeaseId>, FieldError> {
    let convert = |(index, id)| lease_id(Some(id)).map_err(|e| e.at(index).within(name));
    ids.into_iter().enumerate().map(convert).collect()
}

fn name(field: &'static str, text: String) -> Result<String, FieldError> {
    if text.len() > NAME_LIMIT {
        let problem = Problem::TooLong {
            limit: NAME_LIMIT,
            found: text.len(),
        };
        return Err(FieldError::new(field, problem));
    }
    Ok(text)
}

/// The Hello of a session's first message.
///
/// # Errors
/// [`FieldError`] when the message is another one or a field is wrong.
pub fn hello_of(message: wire::WorkerMessage) -> Result<Hello, FieldError> {
    match message.kind {
        Some(wire::worker_message::Kind::Hello(hello)) => {
            hello.try_into().map_err(|e: FieldError| e.within("hello"))
        }
        _ => Err(FieldError::missing("hello")),
    }
}

impl From<Hello> for wire::Hello {
    fn from(hello: Hello) -> Self {
        let profile = hello.profile;
        Self {
            protocol: hello.protocol,
            worker_id: Bytes::copy_from_slice(&hello.worker.0),
            name: profile.name,
            host: profile.host,
            program_version: profile.program_version,
            numerics_version: profile.numerics_version,
            numeric_levels: profile.numeric_levels,
            slots: profile.slots,
            threads_per_slot: profile.threads_per_slot,
            memory_per_slot: profile.memory_per_slot.unwrap_or(0),
            held: hello.held.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = FieldError;

    fn try_from(hello: wire::Hello) -> Result<Self, FieldError> {
        if hello.slots == 0 {
            let problem = Problem::Range {
                value: "0".into(),
                required: "at least 1",
            };
            return Err(FieldError::new("slots", problem));
        }
        let levels = hello.numeric_levels.into_iter().enumerate();
        let held = hello.held.into_iter().enumerate();
        Ok(Self {
            protocol: hello.protocol,
            worker: WorkerId(bytes("worker_id", &hello.worker_id)?),
            profile: Profile {
                name: name("name", hello.name)?,
                host: name("host", hello.host)?,
                program_version: name("program_version", hello.program_version)?,
                numerics_version: hello.numerics_version,
                numeric_levels: levels
                    .map(|(i, level)| name("numeric_levels", level).map_err(|e| e.at(i)))
                    .collect::<Result<_, _>>()?,
                slots: hello.slots,
                threads_per_slot: hello.threads_per_slot,
                memory_per_slot: (hello.memory_per_slot > 0).then_some(hello.memory_per_slot),
            },
            held: held
                .map(|(i, lease)| {
                    lease
                        .try_into()
                        .map_err(|e: FieldError| e.at(i).within("held"))
                })
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<HeldLease> for wire::HeldLease {
    fn from(held: HeldLease) -> Self {
        let state = match held.state {
            HeldState::Queued => wire::HeldState::Queued,
            HeldState::Running => wire::HeldState::Running,
            HeldState::Finished => wire::HeldState::Finished,
        };
        Self {
            lease: Some(held.lease.into()),
            place: Some(held.place.into()),
            state: state.into(),
        }
    }
}

impl TryFrom<wire::HeldLease> for HeldLease {
    type Error = FieldError;

    fn try_from(held: wire::HeldLease) -> Result<Self, FieldError> {
        let state = match wire::HeldState::try_from(held.state) {
            Ok(wire::HeldState::Queued) => HeldState::Queued,
            Ok(wire::HeldState::Running) => HeldState::Running,
            Ok(wire::HeldState::Finished) => HeldState::Finished,
            Ok(wire::HeldState::Unspecified) | Err(_) => {
                return Err(FieldError::new(
                    "state",
                    Problem::UnknownValue { value: held.state },
                ));
            }
        };
        Ok(Self {
            lease: lease_id(held.lease).map_err(|e| e.within("lease"))?,
            place: held.place.ok_or(FieldError::missing("place"))?.into(),
            state,
        })
    }
}

impl From<WorkerMessage> for wire::WorkerMessage {
    fn from(message: WorkerMessage) -> Self {
        use wire::worker_message::Kind;
        let kind = match message {
            WorkerMessage::Hello(hello) => Kind::Hello(hello.into()),
            WorkerMessage::Credit { window } => Kind::Credit(wire::Credit { window }),
            WorkerMessage::Heartbeat(heartbeat) => Kind::Heartbeat(wire::Heartbeat {
                running: heartbeat.running.into_iter().map(Into::into).collect(),
                memory: heartbeat.memory,
            }),
            WorkerMessage::Reports(reports) => Kind::Reports(wire::ReportBatch {
                reports: reports.into_iter().map(Into::into).collect(),
            }),
            WorkerMessage::Draining => Kind::Draining(wire::Draining {}),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::WorkerMessage> for WorkerMessage {
    type Error = FieldError;

    fn try_from(message: wire::WorkerMessage) -> Result<Self, FieldError> {
        use wire::worker_message::Kind;
        match message.kind.ok_or(FieldError::missing("kind"))? {
            Kind::Hello(hello) => hello
                .try_into()
                .map(Self::Hello)
                .map_err(|e: FieldError| e.within("hello")),
            Kind::Credit(credit) => Ok(Self::Credit {
                window: credit.window,
            }),
            Kind::Heartbeat(heartbeat) => Ok(Self::Heartbeat(Heartbeat {
                running: lease_ids("running", heartbeat.running)
                    .map_err(|e| e.within("heartbeat"))?,
                memory: heartbeat.memory,
            })),
            Kind::Reports(batch) => reports_from_wire(batch)
                .map(Self::Reports)
                .map_err(|e| e.within("reports")),
            Kind::Draining(wire::Draining {}) => Ok(Self::Draining),
        }
    }
}

impl From<Report> for wire::Report {
    /// `Outcome::Malformed` exists on the receiving side only; sent on, it
    /// would arrive as malformed again.
    fn from(report: Report) -> Self {
        let outcome = match report.outcome {
            Outcome::Result(result) => Some(wire::report::Outcome::Result(wire::TaskResult {
                evidence: result.evidence,
                telemetry: Some(result.telemetry.into()),
                theta: result.theta,
            })),
            Outcome::Failure(failure) => wire_failure_kind(failure.kind).map(|kind| {
                wire::report::Outcome::Failure(wire::TaskFailure {
                    kind: kind.into(),
                    message: failure.message,
                    telemetry: Some(failure.telemetry.into()),
                })
            }),
            Outcome::HandBack(back) => Some(wire::report::Outcome::HandBack(wire::HandBack {
                checkpoint: back.checkpoint.unwrap_or_default(),
                evaluations: back.evaluations,
            })),
            Outcome::Malformed { .. } => None,
        };
        Self {
            lease: Some(report.lease.into()),
            outcome,
        }
    }
}

/// The reports of a batch. A report whose outcome is malformed becomes
/// [`Outcome::Malformed`], so that it can be answered; only a report that does
/// not say what it is about spoils the message.
///
/// # Errors
/// [`FieldError`] when a report names no lease.
pub fn reports_from_wire(batch: wire::ReportBatch) -> Result<Vec<Report>, FieldError> {
    let mut reports = Vec::with_capacity(batch.reports.len());
    for (index, report) in batch.reports.into_iter().enumerate() {
        let lease = lease_id(report.lease).map_err(|e| e.within("lease").at(index))?;
        let outcome = report
            .outcome
            .ok_or(FieldError::missing("outcome"))
            .and_then(TryInto::try_into)
            .unwrap_or_else(|error| Outcome::Malformed {
                detail: error.to_string(),
            });
        reports.push(Report { lease, outcome });
    }
    Ok(reports)
}

impl TryFrom<wire::report::Outcome> for Outcome {
    type Error = FieldError;

    fn try_from(outcome: wire::report::Outcome) -> Result<Self, FieldError> {
        let telemetry = |telemetry: Option<wire::Telemetry>, name| {
            let convert = TryInto::try_into(telemetry.unwrap_or_default());
            convert.map_err(|e: FieldError| e.within("telemetry").within(name))
        };
        Ok(match outcome {
            wire::report::Outcome::Result(result) => {
                if result.evidence.is_empty() {
                    return Err(FieldError::missing("evidence").within("result"));
                }
                Self::Result(TaskResult {
                    evidence: result.evidence,
                    telemetry: telemetry(result.telemetry, "result")?,
                    theta: result.theta,
                })
            }
            wire::report::Outcome::Failure(failure) => Self::Failure(TaskFailure {
                kind: failure_kind(failure.kind).map_err(|e| e.within("failure"))?,
                message: failure.message,
                telemetry: telemetry(failure.telemetry, "failure")?,
            }),
            wire::report::Outcome::HandBack(back) => Self::HandBack(HandBack {
                checkpoint: (!back.checkpoint.is_empty()).then_some(back.checkpoint),
                evaluations: back.evaluations,
            }),
        })
    }
}

fn wire_failure_kind(kind: FailureKind) -> Option<wire::FailureKind> {
    match kind {
        FailureKind::InvalidTask => Some(wire::FailureKind::InvalidTask),
        FailureKind::Panic => Some(wire::FailureKind::Panic),
        FailureKind::OutOfMemory => Some(wire::FailureKind::OutOfMemory),
        FailureKind::Crash => Some(wire::FailureKind::Crash),
        FailureKind::DataUnavailable => Some(wire::FailureKind::DataUnavailable),
        FailureKind::IdentityMismatch => Some(wire::FailureKind::IdentityMismatch),
        FailureKind::WorkerLost | FailureKind::MalformedReport => None,
    }
}

fn failure_kind(value: i32) -> Result<FailureKind, FieldError> {
    match wire::FailureKind::try_from(value) {
        Ok(wire::FailureKind::InvalidTask) => Ok(FailureKind::InvalidTask),
        Ok(wire::FailureKind::Panic) => Ok(FailureKind::Panic),
        Ok(wire::FailureKind::OutOfMemory) => Ok(FailureKind::OutOfMemory),
        Ok(wire::FailureKind::Crash) => Ok(FailureKind::Crash),
        Ok(wire::FailureKind::DataUnavailable) => Ok(FailureKind::DataUnavailable),
        Ok(wire::FailureKind::IdentityMismatch) => Ok(FailureKind::IdentityMismatch),
        Ok(wire::FailureKind::Unspecified) | Err(_) => {
            Err(FieldError::new("kind", Problem::UnknownValue { value }))
        }
    }
}

impl LeaseEncoder {
    /// The next message of the session.
    pub fn message(&mut self, message: CoordinatorMessage) -> wire::CoordinatorMessage {
        use wire::coordinator_message::Kind;
        let ids = |leases: Vec<LeaseId>| leases.into_iter().map(Into::into).collect();
        let kind = match message {
            CoordinatorMessage::Welcome(welcome) => Kind::Welcome(wire::Welcome {
                protocol: welcome.protocol,
                epoch: welcome.epoch,
                lease_ms: welcome.lease_ms,
                heartbeat_ms: welcome.heartbeat_ms,
                drop: ids(welcome.drop),
                numeric_level: welcome.numeric_level,
            }),
            CoordinatorMessage::Leases(leases) => Kind::Leases(self.encode(leases)),
            CoordinatorMessage::Receipts(receipts) => Kind::Receipts(wire::ReceiptBatch {
                receipts: receipts.into_iter().map(Into::into).collect(),
            }),
            CoordinatorMessage::Revoke(leases) => Kind::Revoke(wire::Revoke {
                leases: ids(leases),
            }),
            CoordinatorMessage::Recall(leases) => Kind::Recall(wire::Recall {
                leases: ids(leases),
            }),
            CoordinatorMessage::Drain {
                reason,
                finished,
                waits,
            } => Kind::Drain(wire::Drain {
                reason,
                finished,
                waits_ms: waits.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
            }),
        };
        wire::CoordinatorMessage { kind: Some(kind) }
    }
}

impl LeaseDecoder {
    /// The next message of the session.
    ///
    /// # Errors
    /// [`FieldError`]; the session cannot go on after it.
    pub fn message(
        &mut self,
        message: wire::CoordinatorMessage,
    ) -> Result<CoordinatorMessage, FieldError> {
        use wire::coordinator_message::Kind;
        Ok(match message.kind.ok_or(FieldError::missing("kind"))? {
            Kind::Welcome(welcome) => CoordinatorMessage::Welcome(Welcome {
                protocol: welcome.protocol,
                epoch: welcome.epoch,
                lease_ms: welcome.lease_ms,
                heartbeat_ms: welcome.heartbeat_ms,
                drop: lease_ids("drop", welcome.drop).map_err(|e| e.within("welcome"))?,
                numeric_level: name("numeric_level", welcome.numeric_level)
                    .map_err(|e| e.within("welcome"))?,
            }),
            Kind::Leases(batch) => {
                CoordinatorMessage::Leases(self.decode(batch).map_err(|e| e.within("leases"))?)
            }
            Kind::Receipts(batch) => {
                let receipts = batch.receipts.into_iter().enumerate();
                let convert = |(index, receipt): (usize, wire::Receipt)| {
                    receipt
                        .try_into()
                        .map_err(|e: FieldError| e.at(index).within("receipts"))
                };
                CoordinatorMessage::Receipts(receipts.map(convert).collect::<Result<_, _>>()?)
            }
            Kind::Revoke(revoke) => CoordinatorMessage::Revoke(lease_ids("leases", revoke.leases)?),
            Kind::Recall(recall) => CoordinatorMessage::Recall(lease_ids("leases", recall.leases)?),
            Kind::Drain(drain) => CoordinatorMessage::Drain {
                reason: drain.reason,
                finished: drain.finished,
                waits: drain.waits_ms.map(|ms| Duration::from_millis(ms.into())),
            },
        })
    }
}

impl From<Receipt> for wire::Receipt {
    fn from(receipt: Receipt) -> Self {
        let status = match receipt.status {
            ReceiptStatus::Recorded => wire::ReceiptStatus::Recorded,
            ReceiptStatus::Duplicate => wire::ReceiptStatus::Duplicate,
            ReceiptStatus::Conflict => wire::ReceiptStatus::Conflict,
            ReceiptStatus::Stale => wire::ReceiptStatus::Stale,
            ReceiptStatus::Unknown => wire::ReceiptStatus::Unknown,
            ReceiptStatus::Refused => wire::ReceiptStatus::Refused,
        };
        Self {
            lease: Some(receipt.lease.into()),
            status: status.into(),
            detail: receipt.detail,
        }
    }
}

impl TryFrom<wire::Receipt> for Receipt {
    type Error = FieldError;

    fn try_from(receipt: wire::Receipt) -> Result<Self, FieldError> {
        let status = match wire::ReceiptStatus::try_from(receipt.status) {
            Ok(wire::ReceiptStatus::Recorded) => ReceiptStatus::Recorded,
            Ok(wire::ReceiptStatus::Duplicate) => ReceiptStatus::Duplicate,
            Ok(wire::ReceiptStatus::Conflict) => ReceiptStatus::Conflict,
            Ok(wire::ReceiptStatus::Stale) => ReceiptStatus::Stale,
            Ok(wire::ReceiptStatus::Unknown) => ReceiptStatus::Unknown,
            Ok(wire::ReceiptStatus::Refused) => ReceiptStatus::Refused,
            Ok(wire::ReceiptStatus::Unspecified) | Err(_) => {
                let problem = Problem::UnknownValue {
                    value: receipt.status,
                };
                return Err(FieldError::new("status", problem));
            }
        };
        Ok(Self {
            lease: lease_id(receipt.lease).map_err(|e| e.within("lease"))?,
            status,
            detail: receipt.detail,
        })
    }
}
