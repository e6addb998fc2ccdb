//! The recorded runs of a sweep as a comparison needs them: what was run, its value, whether it is
//! certified, its baseline. In the order of the grid, equal tasks once, those of a search behind.
//!
//! A cell is described once, by the first run that belongs to it, so that a million runs are read
//! from a store at rest or sent by a live coordinator in some tens of bytes each.

use std::collections::{HashMap, HashSet};

use common::grid::CellIndex;
use common::ids::{BaselineId, IdMap, TaskId};
use common::protocol::SweepNumber;
use common::record::{Evidence, RunEvidence};
use common::summary::settle;
use serde_json::Value;

use crate::at_rest::{self, Kept};
use crate::cli::code;
use crate::compare::{self, Entry};
use crate::core::Lookup;
use crate::run::{Failure, store_failure};
use crate::store::Store;
use crate::sweep::{GridSweep, KeepMinima, Listed};
use crate::workload::Workload;

/// Tasks that are looked up at a time.
const PAGE: usize = 2_000;

/// A recorded run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its cell, counted over all batches from 0.
    pub cell: u32,
    /// Key of its draws.
    pub seed: u64,
    /// Its start, as JSON.
    pub start: String,
    /// The end point's value.
    pub value: f64,
    /// Whether it is certified.
    pub certified: bool,
    /// The value of its baseline, if that is solved.
    pub baseline: Option<f64>,
}

/// Some runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The specifications, as JSON, of the cells that are new in this batch.
    pub cells: Vec<String>,
    /// The runs.
    pub runs: Vec<Outcome>,
}

/// The runs of a sweep, batch by batch.
#[derive(Debug)]
pub struct Outcomes {
    sweep: SweepNumber,
    workload: GridSweep,
    position: u64,
    /// 128 bits of each identity: two of a million tasks share them with probability 1e-27.
    seen: HashSet<u128>,
    cells: HashMap<CellIndex, u32>,
    solved: IdMap<BaselineId, f64>,
}

impl Outcomes {
    /// Of a sweep of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn of<S: Store>(store: &S, kept: Kept) -> Result<Self, Failure> {
        let searches = kept.grid.search().is_some();
        let mut workload = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
        if searches {
            // What a search decided follows from the results.
            at_rest::replay(store, &kept.stored, &mut workload).await?;
        }
        Ok(Self {
            sweep: kept.stored.number,
            workload,
            position: 0,
            seen: HashSet::new(),
            cells: HashMap::new(),
            solved: IdMap::default(),
        })
    }

    /// The next batch, which may be empty; `None` after the last one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next<S: Store>(&mut self, store: &S) -> Result<Option<Batch>, Failure> {
        let page = self.page()?;
        if page.is_empty() {
            return Ok(None);
        }
        // A baseline that is not solved yet is asked for again: a live sweep may have solved it.
        let mut tasks: HashSet<TaskId> = page.iter().map(|task| task.id).collect();
        for task in &page {
            if !self.solved.contains_key(&task.baseline) {
                tasks.insert(task.baseline.into());
            }
        }
        let lookup = Lookup {
            sweep: self.sweep,
            tasks: tasks.into_iter().collect(),
        };
        let known = store.lookup(lookup).await.map_err(|e| store_failure(&e))?;
        let mut runs: IdMap<TaskId, Box<RunEvidence>> = IdMap::default();
        for (task, opened) in known.results {
            match opened.evidence {
                Evidence::Run(run) => {
                    runs.insert(task, run);
                }
                Evidence::Baseline(baseline) => {
                    self.solved.insert(BaselineId(task.0), baseline.value);
                }
                Evidence::Noop { .. } => {}
            }
        }
        let mut batch = Batch::default();
        for task in page {
            if let Some(run) = runs.get(&task.id) {
                self.add(&task, run, &mut batch);
            }
        }
        Ok(Some(batch))
    }

    /// The next tasks that are not equal to earlier ones.
    fn page(&mut self) -> Result<Vec<Listed>, Failure> {
        let mut page = Vec::with_capacity(PAGE);
        while page.len() < PAGE && self.position < self.workload.len() {
            let task = self.workload.listed(self.position);
            let task = task.map_err(|e| (code::INTERNAL, e.to_string()))?;
            self.position += 1;
            let (half, _) = task.id.0.split_at(16);
            let half = half.try_into().unwrap_or_default();
            if self.seen.insert(u128::from_le_bytes(half)) {
                page.push(task);
            }
        }
        Ok(page)
    }

    fn add(&mut self, task: &Listed, run: &RunEvidence, batch: &mut Batch) {
        let Some(planned) = self.workload.task_at(task.position) else {
            return;
        };
        let spec = &planned.spec;
        let next = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        let cell = *self.cells.entry(planned.cell).or_insert_with(|| {
            let json = serde_json::to_string(&spec.cell);
            batch.cells.push(json.unwrap_or_default());
            next
        });
        let baseline = self.solved.get(&task.baseline).copied();
        let settled = settle(run.outcome, run.value, baseline.unwrap_or(f64::NAN));
        batch.runs.push(Outcome {
            cell,
            seed: spec.seed,
            start: serde_json::to_string(&spec.start).unwrap_or_default(),
            value: run.value,
            certified: settled.verdict.is_certified(),
            baseline,
        });
    }
}

/// What a batch says that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// A description is no JSON.
    #[error("the description of a cell or a start cannot be read: {0}")]
    Text(#[from] serde_json::Error),
    /// A run is of a cell that was not described.
    #[error("a run is of cell {cell}, but {cells} were described")]
    Cell {
        /// What the run says.
        cell: u32,
        /// How many there are.
        cells: usize,
    },
}

/// Gathers batches into what is compared.
#[derive(Debug, Default)]
pub struct Gathered {
    cells: Vec<compare::Fields>,
    /// The runs so far.
    pub entries: Vec<Entry>,
}

impl Gathered {
    /// Adds a batch, in the order in which they come.
    ///
    /// # Errors
    /// When it is not one that [`Outcomes`] gives.
    pub fn add(&mut self, batch: Batch) -> Result<(), BadBatch> {
        for cell in batch.cells {
            let cell: Value = serde_json::from_str(&cell)?;
            self.cells.push(compare::flatten(&cell));
        }
        for run in batch.runs {
            let cell = self.cells.get(run.cell as usize);
            let mut fields = cell.cloned().ok_or(BadBatch::Cell {
                cell: run.cell,
                cells: self.cells.len(),
            })?;
            fields.insert("seed".to_owned(), run.seed.into());
            fields.insert("start".to_owned(), serde_json::from_str(&run.start)?);
            self.entries.push(Entry {
                fields,
                value: run.value,
                certified: run.certified,
                baseline: run.baseline,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cell: u32) -> Outcome {
        Outcome {
            cell,
            seed: 7,
            start: "\"standard\"".to_owned(),
            value: 0.5,
            certified: true,
            baseline: None,
        }
    }

    #[test]
    fn a_cell_that_one_batch_describes_is_known_to_the_next() {
        let mut gathered = Gathered::default();
        let first = Batch {
            cells: vec![r#"{"depth":1}"#.to_owned(), r#"{"depth":2}"#.to_owned()],
            runs: vec![run(0)],
        };
        gathered.add(first).unwrap();
        let next = Batch {
            cells: Vec::new(),
            runs: vec![run(1)],
        };
        gathered.add(next).unwrap();
        let depths: Vec<&Value> = gathered
            .entries
            .iter()
            .map(|e| &e.fields["depth"])
            .collect();
        assert_eq!(depths, [&Value::from(1), &Value::from(2)]);
        assert_eq!(gathered.entries[1].fields["seed"], 7);
    }

    #[test]
    fn what_no_coordinator_sends_is_refused() {
        let with = |batch: Batch| Gathered::default().add(batch).unwrap_err().to_string();
        let unknown = Batch {
            cells: vec!["{}".to_owned()],
            runs: vec![run(1)],
        };
        assert_eq!(with(unknown), "a run is of cell 1, but 1 were described");
        let broken = Batch {
            cells: vec!["{".to_owned()],
            runs: Vec::new(),
        };
        assert!(with(broken).contains("cannot be read"));
    }
}
