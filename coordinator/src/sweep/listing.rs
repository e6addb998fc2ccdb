//! The tasks of a sweep one by one, as tables list them.

use std::collections::HashSet;
use std::sync::Arc;

use common::ids::{BaselineId, IdSet, TaskId};
use common::summary::{BaselineSummary, CellInfo, CellKey, FoundBy};

use super::{GridSweep, Place, PlannedRun, PlannedStart, SweepError};
use crate::workload::Workload;

/// A planned task, without its cell's specification.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it stands; those of a search follow the grid's.
    pub position: u64,
    /// Its identity.
    pub id: TaskId,
    /// Its cell; see [`GridSweep::cells`].
    pub cell: CellKey,
    /// The baseline that it stands beside.
    pub baseline: BaselineId,
    /// Key of its draws.
    pub seed: u64,
    /// Who asked for it.
    pub found_by: FoundBy,
    start: Arc<PlannedStart>,
}

/// A cell of a sweep.
#[derive(Clone, Debug)]
pub struct ListedCell {
    /// By which [`Listed::cell`] names it.
    pub key: CellKey,
    /// What the summary says about it before any run.
    pub info: CellInfo,
    /// Its baseline, if that is solved.
    pub baseline: Option<BaselineSummary>,
}

impl Listed {
    /// Its start, by name.
    pub fn start(&self) -> &str {
        &self.start.name
    }
}

impl GridSweep {
    /// The task at a position.
    ///
    /// # Errors
    /// When there is none, or its cell has no data.
    pub fn listed(&mut self, position: u64) -> Result<Listed, SweepError> {
        let mut walk = std::mem::take(&mut self.walk);
        let planned = self.plan(position, &mut walk);
        self.walk = walk;
        let PlannedRun { start, seed } = planned?;
        let (cell, start) = self.parts(start);
        Ok(Listed {
            position,
            id: cell.identity.task(&start.identity, seed),
            cell: cell.key,
            baseline: cell.baseline,
            seed,
            found_by: self.found_by(position),
            start: Arc::clone(start),
        })
    }

    /// The assumptions of the theorem that the cell of a task breaks.
    pub fn assumptions_broken(&mut self, position: u64) -> Vec<String> {
        let cell = self.listed(position).map(|task| task.cell).ok();
        let known = cell.and_then(|cell| self.fold.described(cell));
        known.map_or_else(Vec::new, |(info, _)| info.assumptions_broken.clone())
    }

    /// Meets every cell of the sweep; returns the baselines that its tasks stand beside.
    ///
    /// # Errors
    /// When a cell has no data.
    pub fn meet_cells(&mut self) -> Result<IdSet<BaselineId>, SweepError> {
        let grid = Arc::clone(&self.grid);
        let mut baselines = IdSet::default();
        let (mut met, mut last) = (HashSet::new(), None);
        for task in grid.tasks(0) {
            if last.replace(task.cell) != Some(task.cell) && met.insert(task.cell) {
                baselines.insert(self.listed(task.position)?.baseline);
            }
        }
        // Those of a search may lie elsewhere.
        for position in grid.len()..self.len() {
            baselines.insert(self.listed(position)?.baseline);
        }
        Ok(baselines)
    }

    /// The cells met so far, as the summary describes them and in its order.
    pub fn cells(&self) -> Vec<ListedCell> {
        let described = |key: CellKey| {
            let (info, baseline) = self.fold.described(key)?;
            Some(ListedCell {
                key,
                info: info.clone(),
                baseline,
            })
        };
        self.cell_order()
            .into_iter()
            .filter_map(described)
            .collect()
    }

    /// The cells met so far in the order of the grid, which is the summary's.
    pub(super) fn cell_order(&self) -> Vec<CellKey> {
        let mut order: Vec<(Place, CellKey)> = self
            .places
            .iter()
            .map(|(key, place)| (*place, *key))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, key)| key).collect()
    }
}
