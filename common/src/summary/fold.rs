//! The fold itself: what comes in and what is remembered of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::output::{BaselineSummary, Number};
use super::table::{Entry, State, Table};
use super::{Verdict, is_trivial, verdict_alone};
use crate::ids::{BaselineId, IdMap, TaskId};
use crate::record::{BaselineEvidence, RunEvidence};

/// Which sweep a summary is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepInfo {
    /// Identity of the sweep.
    pub id: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of the grid, hexadecimal.
    pub grid_sha256: String,
    /// What the bits depend on.
    pub numeric_level: String,
    /// False when runs are limited by seconds.
    pub reproducible: bool,
}

/// When a cell has been tried enough (`certificate.min_certified`, `min_share`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Fewest certified runs.
    pub min_certified: u64,
    /// Smallest share of certified runs among the recorded ones.
    pub min_share: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_certified: 5,
            min_share: 0.5,
        }
    }
}

/// Position of a cell in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct CellKey(pub u32);

/// What the summary says about a cell before any run.
#[derive(Clone, Debug, PartialEq)]
pub struct CellInfo {
    /// Name and value of each field, in the order to show them.
    pub description: Vec<(String, Value)>,
    /// Assumptions of the theorem that do not hold here.
    pub assumptions_broken: Vec<String>,
    /// Remarks that break nothing.
    pub notes: Vec<String>,
    /// The classical model beside which the runs stand.
    pub baseline: BaselineId,
}

/// Who asked for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FoundBy {
    /// Listed by the grid.
    Grid,
    /// Added by the adaptive search.
    Search,
}

/// One recorded run.
#[derive(Clone, Copy, Debug)]
pub struct RecordedRun<'a> {
    /// The cell it belongs to.
    pub cell: CellKey,
    /// Its identity.
    pub task: TaskId,
    /// Its seed.
    pub seed: u64,
    /// Its start, by name.
    pub start: &'a str,
    /// Whether two seeds give two different runs from this start.
    pub random: bool,
    /// Who asked for it.
    pub found_by: FoundBy,
    /// What it left behind.
    pub evidence: &'a RunEvidence,
    /// SHA-256 of the evidence as it was recorded.
    pub digest: [u8; 32],
}

/// Whether something was news to the fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It counts now.
    New,
    /// It counted already, or something stronger does; nothing changed.
    Repeated,
}

/// Why something was refused; the fold is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A result for a cell that was never described.
    #[error("cell {} is not part of this sweep", cell.0)]
    UnknownCell {
        /// The cell.
        cell: CellKey,
    },
    /// A task is there with another result, cell, start or origin.
    #[error("task {task} has been folded before with another result")]
    Conflict {
        /// The task.
        task: TaskId,
    },
}

/// The facts of a run that its cell's summary shows.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) task: TaskId,
    pub(super) seed: u64,
    pub(super) stratum: u32,
    pub(super) found_by: FoundBy,
    pub(super) evidence: RunEvidence,
}

/// Runs of one start in one cell.
#[derive(Clone, Debug)]
pub(super) struct Stratum {
    pub(super) cell: u32,
    pub(super) start: Arc<str>,
    pub(super) random: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) info: CellInfo,
    pub(super) strata: Vec<u32>,
    pub(super) worst: Option<Arc<Standing>>,
    pub(super) worst_nontrivial: Option<Arc<Standing>>,
    pub(super) worst_uncertified: Option<Arc<Standing>>,
    pub(super) best: Option<Arc<Standing>>,
}

/// Folds a sweep's results; see the [module](super) for the definitions.
///
/// Memory: 64 bytes for each task beside the few runs shown for each cell.
#[derive(Clone, Debug)]
pub struct Fold {
    pub(super) sweep: SweepInfo,
    pub(super) rules: Rules,
    pub(super) planned: u64,
    pub(super) rest_cancelled: bool,
    pub(super) refuted: u64,
    pub(super) cells: BTreeMap<u32, Cell>,
    pub(super) strata: Vec<Stratum>,
    pub(super) starts: BTreeSet<Arc<str>>,
    pub(super) baselines: IdMap<BaselineId, BaselineSummary>,
    pub(super) table: Table,
}

impl Fold {
    /// A fold that has seen nothing.
    pub fn new(sweep: SweepInfo, rules: Rules) -> Self {
        Self {
            sweep,
            rules,
            planned: 0,
            rest_cancelled: false,
            refuted: 0,
            cells: BTreeMap::new(),
            strata: Vec::new(),
            starts: BTreeSet::new(),
            baselines: IdMap::default(),
            table: Table::default(),
        }
    }

    /// How many tasks the grid and the search have in all.
    pub fn planned(&mut self, tasks: u64) {
        self.planned = tasks;
    }

    /// Describes a cell. A second description of one cell changes its words, not its runs.
    pub fn cell(&mut self, key: CellKey, info: CellInfo) {
        match self.cells.entry(key.0) {
            std::collections::btree_map::Entry::Occupied(mut old) => old.get_mut().info = info,
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Cell {
                    info,
                    strata: Vec::new(),
                    worst: None,
                    worst_nontrivial: None,
                    worst_uncertified: None,
                    best: None,
                });
            }
        }
    }

    /// What was said of a cell, and its baseline if that is known.
    pub fn described(&self, key: CellKey) -> Option<(&CellInfo, Option<BaselineSummary>)> {
        let info = &self.cells.get(&key.0)?.info;
        Some((info, self.baselines.get(&info.baseline).copied()))
    }

    /// Folds a baseline in; it may come before or after its runs.
    ///
    /// # Errors
    /// `Conflict` when it is there with other numbers.
    pub fn add_baseline(
        &mut self,
        id: BaselineId,
        evidence: &BaselineEvidence,
    ) -> Result<Added, FoldError> {
        let new = BaselineSummary {
            value: Number(evidence.value),
            lower_bound: Number(evidence.lower_bound),
            status: evidence.status,
        };
        let bits = |b: &BaselineSummary| (b.value.0.to_bits(), b.lower_bound.0.to_bits(), b.status);
        match self.baselines.get(&id) {
            None => {
                self.baselines.insert(id, new);
                Ok(Added::New)
            }
            Some(old) if bits(old) == bits(&new) => Ok(Added::Repeated),
            Some(_) => Err(FoldError::Conflict { task: id.into() }),
        }
    }

    /// Folds a run in. A task that was failed or cancelled is recorded from now on.
    ///
    /// # Errors
    /// `UnknownCell`; `Conflict` when the task is there with another result.
    pub fn add_run(&mut self, run: &RecordedRun<'_>) -> Result<Added, FoldError> {
        let key = run.cell.0;
        if !self.cells.contains_key(&key) {
            return Err(FoldError::UnknownCell { cell: run.cell });
        }
        let stratum = self.stratum(key, run.start, run.random);
        let trivial = is_trivial(run.evidence);
        let verdict = verdict_alone(run.evidence.outcome, run.evidence.value);
        let new = Entry::recorded(
            run.task,
            &run.digest,
            verdict,
            run.evidence.value,
            stratum,
            trivial,
            run.found_by == FoundBy::Search,
        );
        match self.table.find(run.task) {
            None => self.table.push(new),
            Some(old) => match old.state {
                State::Recorded(_) if old.agrees(&new) => return Ok(Added::Repeated),
                State::Recorded(_) => return Err(FoldError::Conflict { task: run.task }),
                State::Failed | State::Cancelled => *old = new,
            },
        }
        self.refuted += u64::from(run.evidence.refuted);
        let cell = self.cells.get_mut(&key).expect("looked up above");
        cell.consider(run, stratum, verdict, trivial);
        Ok(Added::New)
    }

    /// Folds in that a task was given up.
    ///
    /// # Errors
    /// `UnknownCell`.
    pub fn add_failed(&mut self, cell: CellKey, task: TaskId) -> Result<Added, FoldError> {
        self.add_unrecorded(cell, task, State::Failed)
    }

    /// Folds in that one task was cancelled; see also [`Fold::cancel_rest`].
    ///
    /// # Errors
    /// `UnknownCell`.
    pub fn add_cancelled(&mut self, cell: CellKey, task: TaskId) -> Result<Added, FoldError> {
        self.add_unrecorded(cell, task, State::Cancelled)
    }

    /// Whether the tasks that are neither recorded nor failed count as
    /// cancelled: a cancelled sweep, whose rest needs no list.
    pub fn cancel_rest(&mut self, cancelled: bool) {
        self.rest_cancelled = cancelled;
    }

    /// Recorded is stronger than failed, failed than cancelled, in any order of arrival.
    fn add_unrecorded(
        &mut self,
        cell: CellKey,
        task: TaskId,
        state: State,
    ) -> Result<Added, FoldError> {
        if !self.cells.contains_key(&cell.0) {
            return Err(FoldError::UnknownCell { cell });
        }
        match self.table.find(task) {
            None => self.table.push(Entry::unrecorded(task, cell.0, state)),
            Some(old) if old.state == State::Cancelled && state == State::Failed => {
                old.state = state;
            }
            Some(_) => return Ok(Added::Repeated),
        }
        Ok(Added::New)
    }

    /// Whether anything has happened to a task: recorded, failed or cancelled.
    pub fn contains(&self, task: TaskId) -> bool {
        self.table.contains(task)
    }

    /// Heap bytes that the tasks take, without the few runs shown for each cell.
    pub fn bytes_of_tasks(&self) -> usize {
        self.table.bytes()
    }

    fn stratum(&mut self, cell: u32, start: &str, random: bool) -> u32 {
        let own = &self.cells[&cell].strata;
        let same = |id: &&u32| {
            let s = &self.strata[**id as usize];
            s.random == random && &*s.start == start
        };
        if let Some(id) = own.iter().find(same) {
            return *id;
        }
        let name = self.starts.get(start).cloned().unwrap_or_else(|| {
            let name: Arc<str> = start.into();
            self.starts.insert(Arc::clone(&name));
            name
        });
        let id = u32::try_from(self.strata.len()).expect("fewer than 2³² strata are recorded");
        self.strata.push(Stratum {
            cell,
            start: name,
            random,
        });
        let cell = self.cells.get_mut(&cell).expect("the caller looked it up");
        cell.strata.push(id);
        id
    }
}

impl Cell {
    /// Lets a run take the places it deserves.
    fn consider(&mut self, run: &RecordedRun<'_>, stratum: u32, verdict: Verdict, trivial: bool) {
        let mut shared: Option<Arc<Standing>> = None;
        let mut offer = |place: &mut Option<Arc<Standing>>, better: fn(f64, f64) -> bool| {
            let value = run.evidence.value;
            let takes = place.as_deref().is_none_or(|old| {
                let held = old.evidence.value;
                better(value, held) || !better(held, value) && run.task < old.task
            });
            if takes {
                let standing = shared.get_or_insert_with(|| {
                    Arc::new(Standing {
                        task: run.task,
                        seed: run.seed,
                        stratum,
                        found_by: run.found_by,
                        evidence: RunEvidence {
                            curve: Vec::new(),
                            ..run.evidence.clone()
                        },
                    })
                });
                *place = Some(Arc::clone(standing));
            }
        };
        if verdict.is_certified() {
            offer(&mut self.worst, |a, b| a > b);
            offer(&mut self.best, |a, b| a < b);
            if !trivial {
                offer(&mut self.worst_nontrivial, |a, b| a > b);
            }
        } else {
            // Any finite value is worse than one that is not; those are all alike.
            offer(&mut self.worst_uncertified, |a, b| {
                a.is_finite() && (!b.is_finite() || a > b)
            });
        }
    }
}
