//! Which tasks of a grid lie in which cell: walked once a sweep, kept as numbers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use common::grid::CellIndex;
use common::ids::{BaselineId, CellId, TaskId};
use common::protocol::SweepNumber;
use common::summary::CellSummary;
use tokio::sync::OnceCell;

use super::reply::Refusal;
use crate::store::AnyStore;
use crate::sweep::{GridSweep, KeepMinima};
use crate::sweeps::Sweeps;
use crate::workload::{PlannedWork, Workload};

/// Tasks of a grid that is walked: 8 bytes each are kept.
const TASKS: u64 = 20_000_000;
/// Cells that are shown before any of their tasks is met.
const CELLS: usize = 20_000;
/// Sweeps whose plans are kept.
const SWEEPS: usize = 8;

/// A cell as the grid plans it.
#[derive(Clone, Debug)]
pub(super) struct PlannedCell {
    pub(super) baseline: BaselineId,
    /// Positions of its tasks; of equal ones the first.
    pub(super) positions: Vec<u64>,
}

/// A planned task of a cell.
#[derive(Clone, Debug)]
pub(super) struct PlannedTask {
    pub(super) position: u64,
    pub(super) id: TaskId,
    pub(super) seed: u64,
    pub(super) start: String,
}

/// The tasks of a grid by cell.
#[derive(Debug)]
pub(super) struct Plan {
    cells: Vec<PlannedCell>,
    /// Where a cell is among them.
    places: HashMap<CellId, u32>,
    /// All of them as they are before any run, in the order of the grid; none if they are too many.
    empty: Vec<(CellId, CellSummary)>,
    workload: Mutex<GridSweep>,
}

impl Plan {
    fn of(mut workload: GridSweep) -> Self {
        let mut cells: Vec<PlannedCell> = Vec::new();
        let mut places: HashMap<CellId, u32> = HashMap::new();
        let mut known: HashMap<CellIndex, u32> = HashMap::new();
        let mut starts: Vec<common::spec::Start> = Vec::new();
        let mut seen: HashSet<(u32, u32, u64)> = HashSet::new();
        let grid = Arc::clone(workload.grid());
        for task in grid.tasks(0) {
            let place = known.get(&task.cell).copied();
            let place = match place {
                Some(place) => place,
                None => {
                    let PlannedWork::Run { cell, baseline, .. } = workload.task(task.position).work
                    else {
                        continue;
                    };
                    let place = *places.entry(cell.id).or_insert_with(|| {
                        let positions = Vec::new();
                        cells.push(PlannedCell {
                            baseline,
                            positions,
                        });
                        cells.len() as u32 - 1
                    });
                    known.insert(task.cell, place);
                    place
                }
            };
            let start = starts.iter().position(|s| *s == task.spec.start);
            let start = start.unwrap_or_else(|| {
                starts.push(task.spec.start.clone());
                starts.len() - 1
            });
            // In one cell, tasks are equal if seed and start are.
            if seen.insert((place, start as u32, task.spec.seed)) {
                cells[place as usize].positions.push(task.position);
            }
        }
        drop(seen);
        let empty = if cells.len() <= CELLS {
            let (summary, ids) = workload.so_far(0).summary();
            ids.into_iter().zip(summary.cells).collect()
        } else {
            Vec::new()
        };
        Self {
            cells,
            places,
            empty,
            workload: Mutex::new(workload),
        }
    }

    /// Puts the cells of which no task was met yet among those of a summary: all in the order of
    /// the grid.
    pub(super) fn complete(
        &self,
        cells: Vec<CellSummary>,
        ids: Vec<CellId>,
    ) -> (Vec<CellSummary>, Vec<CellId>) {
        if cells.len() >= self.empty.len() {
            return (cells, ids);
        }
        let mut met: HashMap<CellId, CellSummary> = ids.into_iter().zip(cells).collect();
        let all = self.empty.iter().map(|(id, empty)| {
            let own = met.remove(id).unwrap_or_else(|| empty.clone());
            (own, *id)
        });
        all.unzip()
    }

    pub(super) fn cell(&self, id: &CellId) -> Option<&PlannedCell> {
        self.cells.get(*self.places.get(id)? as usize)
    }

    /// The tasks at some positions.
    pub(super) fn tasks(&self, positions: &[u64]) -> Vec<PlannedTask> {
        let mut workload = self.workload.lock().unwrap_or_else(PoisonError::into_inner);
        let task = |position: &u64| {
            let planned = workload.task_at(*position)?;
            Some(PlannedTask {
                position: *position,
                id: workload.task(*position).id,
                seed: planned.spec.seed,
                start: planned.spec.start.to_string(),
            })
        };
        positions.iter().filter_map(task).collect()
    }
}

type Slot = Arc<OnceCell<Arc<Plan>>>;

/// The plans that were asked for last.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Vec<(SweepNumber, Slot)>>);

impl Plans {
    fn slot(&self, number: SweepNumber) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = slots.iter().find(|(n, _)| *n == number) {
            return Arc::clone(slot);
        }
        if slots.len() >= SWEEPS {
            slots.remove(0);
        }
        let slot = Slot::default();
        slots.push((number, Arc::clone(&slot)));
        slot
    }

    /// The plan of a sweep.
    pub(super) async fn of(
        &self,
        sweeps: &Sweeps<AnyStore>,
        number: SweepNumber,
    ) -> Result<Arc<Plan>, Refusal> {
        let slot = self.slot(number);
        let plan = slot.get_or_try_init(|| async {
            let kept = sweeps.kept(number).await.map_err(Refusal::unavailable)?;
            let kept =
                kept.ok_or_else(|| Refusal::nothing(format!("there is no sweep {number}")))?;
            if kept.grid.len() > TASKS {
                let words = "the grid has too many tasks for its runs to be listed here";
                return Err(Refusal::unavailable(words));
            }
            let workload = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
            let walked = tokio::task::spawn_blocking(move || Plan::of(workload)).await;
            walked.map(Arc::new).map_err(Refusal::unavailable)
        });
        plan.await.cloned()
    }
}
