//! Leases, and the cells and baselines that travel once a session.
//!
//! Sender and receiver each remember the newest [`KEPT`] cells and baselines
//! of a session. Batches arrive in order and completely or not at all, so the
//! two memories are equal without a word being said about them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::{FieldError, Problem};
use super::wire;
use crate::ids::{BaselineId, CellId, IdMap};
use crate::protocol::{CellText, Lease, LeaseId, SolvedBaseline, Work};

/// Cells, and as many baselines, that both sides remember between batches.
pub const KEPT: usize = 256;

/// The sender's memory of one session.
#[derive(Debug, Default)]
pub struct LeaseEncoder {
    cells: Sent<CellId>,
    baselines: Sent<BaselineId>,
}

#[derive(Debug)]
struct Sent<K> {
    keys: IdMap<K, u32>,
    order: VecDeque<K>,
    newest: u32,
}

impl<K> Default for Sent<K> {
    fn default() -> Self {
        Self {
            keys: IdMap::default(),
            order: VecDeque::new(),
            newest: 0,
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Sent<K> {
    /// The key of `id`, and whether it has to be sent along.
    fn key(&mut self, id: K) -> (u32, bool) {
        if let Some(key) = self.keys.get(&id) {
            return (*key, false);
        }
        self.newest += 1;
        self.keys.insert(id, self.newest);
        self.order.push_back(id);
        (self.newest, true)
    }

    fn trim(&mut self) {
        while self.order.len() > KEPT {
            if let Some(id) = self.order.pop_front() {
                self.keys.remove(&id);
            }
        }
    }
}

impl LeaseEncoder {
    /// The next batch of the session.
    pub fn encode(&mut self, leases: Vec<Lease>) -> wire::LeaseBatch {
        let mut batch = wire::LeaseBatch {
            leases: Vec::with_capacity(leases.len()),
            ..Default::default()
        };
        for lease in leases {
            let work = match lease.work {
                Work::Run {
                    cell,
                    seed,
                    start,
                    baseline,
                } => {
                    let cell = self.cell(&cell, &mut batch);
                    let (key, fresh) = self.baselines.key(baseline.id);
                    if fresh {
                        batch.baselines.push(wire::BaselineValue {
                            key,
                            task: baseline.id.0.to_vec().into(),
                            evidence: Some((&baseline.evidence).into()),
                        });
                    }
                    let start_json = start.as_ref().to_owned();
                    wire::lease::Work::Run(wire::RunWork {
                        cell,
                        seed,
                        start_json,
                        baseline: key,
                    })
                }
                Work::Baseline { cell } => {
                    let cell = self.cell(&cell, &mut batch);
                    wire::lease::Work::Baseline(wire::BaselineWork { cell })
                }
                Work::Noop { seed, microseconds } => {
                    wire::lease::Work::Noop(wire::NoopWork { seed, microseconds })
                }
            };
            batch.leases.push(wire::Lease {
                id: Some(lease.id.into()),
                place: Some(lease.place.into()),
                work: Some(work),
                checkpoint: lease.checkpoint.unwrap_or_default(),
            });
        }
        self.cells.trim();
        self.baselines.trim();
        batch
    }

    fn cell(&mut self, cell: &CellText, batch: &mut wire::LeaseBatch) -> u32 {
        let (key, fresh) = self.cells.key(cell.id);
        if fresh {
            let (id, spec_json) = (cell.id.0.to_vec().into(), cell.json.clone());
            batch.cells.push(wire::Cell { key, id, spec_json });
        }
        key
    }
}

/// The receiver's memory of one session.
#[derive(Debug, Default)]
pub struct LeaseDecoder {
    cells: Received<CellText>,
    baselines: Received<SolvedBaseline>,
    /// The last start seen: most leases of a batch have the same.
    start: Option<Arc<str>>,
}

#[derive(Debug)]
struct Received<T> {
    kept: VecDeque<Arc<T>>,
    /// Key of the newest.
    newest: u32,
}

impl<T> Default for Received<T> {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            newest: 0,
        }
    }
}

impl<T> Received<T> {
    fn add(&mut self, key: u32, value: T) -> Result<(), FieldError> {
        if Some(key) != self.newest.checked_add(1) {
            let required = "one more than the last key";
            return Err(FieldError::new(
                "key",
                Problem::Range {
                    value: key.to_string(),
                    required,
                },
            ));
        }
        self.newest = key;
        self.kept.push_back(Arc::new(value));
        Ok(())
    }

    fn get(&self, name: &'static str, key: u32) -> Result<Arc<T>, FieldError> {
        let back = self.newest.checked_sub(key).map(|back| back as usize + 1);
        back.and_then(|back| self.kept.len().checked_sub(back))
            .and_then(|index| self.kept.get(index))
            .cloned()
            .ok_or_else(|| FieldError::new(name, Problem::UnknownKey { key }))
    }

    fn trim(&mut self) {
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
    }
}

impl LeaseDecoder {
    /// The leases of the session's next batch.
    ///
    /// # Errors
    /// [`FieldError`]; the session cannot go on after it, because the two
    /// memories may differ.
    pub fn decode(&mut self, batch: wire::LeaseBatch) -> Result<Vec<Lease>, FieldError> {
        for (index, cell) in batch.cells.into_iter().enumerate() {
            self.add_cell(cell)
                .map_err(|e| e.at(index).within("cells"))?;
        }
        for (index, baseline) in batch.baselines.into_iter().enumerate() {
            self.add_baseline(baseline)
                .map_err(|e| e.at(index).within("baselines"))?;
        }
        let mut leases = Vec::with_capacity(batch.leases.len());
        for (index, lease) in batch.leases.into_iter().enumerate() {
            leases.push(
                self.lease(lease)
                    .map_err(|e| e.at(index).within("leases"))?,
            );
        }
        self.cells.trim();
        self.baselines.trim();
        Ok(leases)
    }

    fn add_cell(&mut self, cell: wire::Cell) -> Result<(), FieldError> {
        let id = CellId(bytes("id", &cell.id)?);
        self.cells.add(
            cell.key,
            CellText {
                id,
                json: cell.spec_json,
            },
        )
    }

    fn add_baseline(&mut self, baseline: wire::BaselineValue) -> Result<(), FieldError> {
        let id = BaselineId(bytes("task", &baseline.task)?);
        let evidence = baseline.evidence.ok_or(FieldError::missing("evidence"))?;
        let evidence = evidence
            .try_into()
            .map_err(|e: FieldError| e.within("evidence"))?;
        self.baselines
            .add(baseline.key, SolvedBaseline { id, evidence })
    }

    fn lease(&mut self, lease: wire::Lease) -> Result<Lease, FieldError> {
        let work = match lease.work.ok_or(FieldError::missing("work"))? {
            wire::lease::Work::Run(run) => Work::Run {
                cell: self
                    .cells
                    .get("cell", run.cell)
                    .map_err(|e| e.within("run"))?,
                seed: run.seed,
                start: self.start(run.start_json),
                baseline: self
                    .baselines
                    .get("baseline", run.baseline)
                    .map_err(|e| e.within("run"))?,
            },
            wire::lease::Work::Baseline(baseline) => Work::Baseline {
                cell: self
                    .cells
                    .get("cell", baseline.cell)
                    .map_err(|e| e.within("baseline"))?,
            },
            wire::lease::Work::Noop(noop) => Work::Noop {
                seed: noop.seed,
                microseconds: noop.microseconds,
            },
        };
        Ok(Lease {
            id: lease_id(lease.id).map_err(|e| e.within("id"))?,
            place: lease.place.ok_or(FieldError::missing("place"))?.into(),
            work,
            checkpoint: (!lease.checkpoint.is_empty()).then_some(lease.checkpoint),
        })
    }

    fn start(&mut self, text: String) -> Arc<str> {
        match &self.start {
            Some(start) if **start == *text => start.clone(),
            _ => self.start.insert(text.into()).clone(),
        }
    }
}

/// A fixed-size byte field.
pub(super) fn bytes<const N: usize>(
    name: &'static str,
    field: &[u8],
) -> Result<[u8; N], FieldError> {
    field.try_into().map_err(|_| {
        FieldError::new(
            name,
            Problem::Length {
                expected: N,
                found: field.len(),
            },
        )
    })
}

/// A lease's identity.
pub(super) fn lease_id(id: Option<wire::LeaseId>) -> Result<LeaseId, FieldError> {
    let Some(id) = id else {
        return Err(FieldError::missing("task"));
    };
    Ok(LeaseId {
        task: crate::ids::TaskId(bytes("task", &id.task)?),
        attempt: crate::protocol::Attempt(id.attempt),
    })
}
