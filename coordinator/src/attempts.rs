//! Attempts as spans: from the lease to the report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use common::ids::{CellId, IdMap, TaskId};
use common::protocol::{CellText, CoordinatorMessage, Lease, LeaseId, Work};
use common::record::Evidence;
use common::traces::{Part, Span, Traces};

use crate::core::{Effect, Event, Incoming, IncomingOutcome};

/// Cells whose fields are kept.
const CELLS: usize = 4096;
/// Fields of a cell that spans carry.
const FIELDS: [&str; 5] = ["body", "depth", "width", "activation", "loss"];

type Attributes = Vec<(&'static str, String)>;

/// Attempts under way.
#[derive(Debug)]
pub(crate) struct Attempts {
    traces: Arc<Traces>,
    open: IdMap<TaskId, Open>,
    cells: HashMap<CellId, Attributes>,
}

#[derive(Debug)]
struct Open {
    lease: LeaseId,
    name: &'static str,
    began: SystemTime,
    attributes: Attributes,
}

impl Attempts {
    pub(crate) fn new(traces: Arc<Traces>) -> Self {
        Self {
            traces,
            open: IdMap::default(),
            cells: HashMap::new(),
        }
    }

    /// Follows what comes in.
    pub(crate) fn before(&mut self, event: &Event) {
        if let Event::Reports { reports, .. } = event {
            reports.iter().for_each(|report| self.reported(report));
        }
    }

    /// Follows what goes out.
    pub(crate) fn after(&mut self, effect: &Effect) {
        let Effect::Send { message, .. } = effect else {
            return;
        };
        match message {
            CoordinatorMessage::Leases(leases) => {
                leases.iter().for_each(|lease| self.granted(lease));
            }
            CoordinatorMessage::Revoke(leases) => {
                leases.iter().for_each(|lease| self.revoked(lease));
            }
            _ => {}
        }
    }

    fn granted(&mut self, lease: &Lease) {
        let mut attributes = vec![
            ("sweep.task", lease.id.task.to_string()),
            ("sweep.attempt", lease.id.attempt.to_string()),
            ("sweep.number", lease.place.sweep.0.to_string()),
            ("sweep.position", lease.place.position.to_string()),
        ];
        let name = match &lease.work {
            Work::Run { cell, seed, .. } => {
                attributes.push(("seed", seed.to_string()));
                attributes.extend_from_slice(self.fields(cell));
                "run"
            }
            Work::Baseline { cell } => {
                attributes.extend_from_slice(self.fields(cell));
                "baseline"
            }
            Work::Noop { .. } => "noop",
        };
        let new = Open {
            lease: lease.id,
            name,
            began: SystemTime::now(),
            attributes,
        };
        if let Some(old) = self.open.insert(lease.id.task, new) {
            self.end(
                old,
                Some("taken away from a worker that fell silent".to_owned()),
            );
        }
    }

    /// The attempt of a lease, if it is still under way.
    fn take(&mut self, lease: &LeaseId) -> Option<Open> {
        let current = self.open.get(&lease.task)?.lease;
        (current == *lease).then(|| self.open.remove(&lease.task))?
    }

    fn revoked(&mut self, lease: &LeaseId) {
        if let Some(mut open) = self.take(lease) {
            open.attributes.push(("outcome", "revoked".to_owned()));
            self.end(open, None);
        }
    }

    fn reported(&mut self, report: &Incoming) {
        // Late reports are of attempts that have ended.
        let Some(mut open) = self.take(&report.lease) else {
            return;
        };
        let mut failure = None;
        match &report.outcome {
            IncomingOutcome::Result { evidence, .. } => {
                if let Evidence::Run(run) = &evidence.evidence {
                    let settled = common::summary::settle(run.outcome, run.value, f64::NAN);
                    open.attributes
                        .push(("outcome", settled.verdict.name().to_owned()));
                    open.attributes
                        .push(("evaluations", run.evaluations.to_string()));
                }
            }
            IncomingOutcome::Failure { kind, message } => {
                failure = Some(format!("{}: {message}", kind.name()));
            }
            IncomingOutcome::HandBack(_) => {
                open.attributes.push(("outcome", "handed_back".to_owned()));
            }
            IncomingOutcome::Malformed { detail } => failure = Some(detail.clone()),
        }
        self.end(open, failure);
    }

    fn end(&self, open: Open, failure: Option<String>) {
        self.traces.add(Span {
            lease: open.lease,
            part: Part::Attempt,
            name: open.name.into(),
            began: open.began,
            ended: SystemTime::now(),
            attributes: open.attributes,
            failure,
        });
    }

    /// The fields of a cell, read once.
    fn fields(&mut self, cell: &CellText) -> &[(&'static str, String)] {
        if self.cells.len() >= CELLS && !self.cells.contains_key(&cell.id) {
            self.cells.clear();
        }
        self.cells.entry(cell.id).or_insert_with(|| {
            let read: serde_json::Value = serde_json::from_str(&cell.json).unwrap_or_default();
            let field = |name: &'static str| {
                let value = read.get(name)?;
                Some((name, common::summary::plain(value)))
            };
            let mut fields = vec![("sweep.cell", cell.id.to_string())];
            fields.extend(FIELDS.into_iter().filter_map(field));
            fields
        })
    }
}
