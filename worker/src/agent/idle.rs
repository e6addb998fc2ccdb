//! A slot that is no process: it answers tasks that do nothing.
//!
//! With it the real session, connection and protocol of a worker cost no process, so that one
//! program can be a thousand workers: what a load test of a coordinator needs.

use std::collections::VecDeque;
use std::time::Duration;

use common::pb::encode_evidence;
use common::protocol::{
    FailureKind, HandBack, Lease, LeaseId, Outcome, Report, TaskFailure, TaskResult, Work,
};
use common::record::{Evidence, Telemetry};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::process::Request;
use super::{Inbox, Source};
use crate::session::{Event, SlotNumber};

/// Answers until the agent lets go of the slot.
pub(super) async fn answer(
    slot: SlotNumber,
    source: Source,
    inbox: Inbox,
    mut requests: mpsc::UnboundedReceiver<Request>,
) {
    let mut queue: VecDeque<Lease> = VecDeque::new();
    // When the first of them will be done.
    let mut due: Option<Instant> = None;
    let mut event = Event::SlotReady(slot);
    loop {
        if inbox.send((source, event)).await.is_err() {
            return;
        }
        let mut reports = Vec::new();
        // Tasks that take no time are answered together, as a slot's process does it.
        while reports.is_empty() {
            while queue.front().is_some_and(|lease| lasts(lease).is_zero()) {
                reports.extend(queue.pop_front().map(|lease| done(&lease, Duration::ZERO)));
            }
            if !reports.is_empty() {
                break;
            }
            let until = match (queue.front(), due) {
                (None, _) => Instant::now(),
                (Some(_), Some(due)) => due,
                (Some(lease), None) => {
                    let until = Instant::now() + lasts(lease);
                    due = Some(until);
                    until
                }
            };
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Assign(leases)) => queue.extend(leases),
                    Some(Request::Stop(leases)) => {
                        let first = queue.front().map(|lease| lease.id);
                        reports.extend(stop(&mut queue, &leases));
                        due = due.filter(|_| queue.front().map(|lease| lease.id) == first);
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(until), if !queue.is_empty() => {
                    due = None;
                    reports.extend(queue.pop_front().map(|lease| done(&lease, lasts(&lease))));
                }
            }
        }
        event = Event::SlotReports { slot, reports };
    }
}

fn lasts(lease: &Lease) -> Duration {
    match lease.work {
        Work::Noop { microseconds, .. } => Duration::from_micros(microseconds),
        Work::Run { .. } | Work::Baseline { .. } => Duration::ZERO,
    }
}

fn done(lease: &Lease, took: Duration) -> Report {
    let telemetry = Telemetry {
        seconds: took.as_secs_f64(),
        ..Telemetry::default()
    };
    let outcome = match lease.work {
        Work::Noop { seed, .. } => Outcome::Result(TaskResult {
            evidence: encode_evidence(&Evidence::Noop { seed }),
            telemetry,
            theta: Vec::new(),
        }),
        Work::Run { .. } | Work::Baseline { .. } => Outcome::Failure(TaskFailure {
            kind: FailureKind::InvalidTask,
            message: "this worker is there for load tests and computes nothing".to_owned(),
            telemetry,
        }),
    };
    Report {
        lease: lease.id,
        outcome,
    }
}

/// Hands back what is asked for and still here.
fn stop(queue: &mut VecDeque<Lease>, leases: &[LeaseId]) -> Vec<Report> {
    let mut reports = Vec::new();
    queue.retain(|lease| {
        let stopped = leases.contains(&lease.id);
        if stopped {
            reports.push(Report {
                lease: lease.id,
                outcome: Outcome::HandBack(HandBack::default()),
            });
        }
        !stopped
    });
    reports
}
