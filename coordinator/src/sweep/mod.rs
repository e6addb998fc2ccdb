//! A sweep of a grid: its plan as a rule, its results as a fold.
//!
//! [`GridSweep`] is the [`Workload`] of a grid. Its n-th task is made when the
//! scheduler asks for it; a cell is described once, when its first task is.
//! Cells get their numbers as they are met, which after a restart need not be
//! the order of the grid; the summary puts them into that order.
//!
//! After the grid's tasks come those that `search` adds, in rounds: see
//! [`search`]. Their positions follow the grid's.

mod data;
mod kept;
mod listing;
mod search;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::canon::{
    CellIdentity, DataIdentity, StartIdentity, TheorySizes, assumptions_broken, baseline_id,
    describe, notes,
};
use common::grid::{CellIndex, Cursor, Grid, GridTask};
use common::ids::{BaselineId, CellId, IdMap, TaskId, to_hex};
use common::math::NUMERIC_LEVEL;
use common::protocol::{CellText, FailureKind};
use common::record::{BaselineEvidence, Evidence, RunEvidence};
use common::spec::{CellSpec, Start, TaskSpec};
use common::summary::{
    Added, CellInfo, CellKey, Fold, FoundBy, RecordedRun, Summary, SweepInfo, Verdict,
    VerdictCounts, settle,
};
use sha2::{Digest, Sha256};

pub use data::{Contents, DataTable};
pub use kept::KeepMinima;
use kept::Kept;
pub use listing::{Listed, ListedCell};
pub use search::CANDIDATES;
use search::{CellView, SearchRun, WorstSearch};

use crate::core::Opened;
use crate::workload::{Planned, PlannedWork, Workload};

/// A grid being carried out.
#[derive(Debug)]
pub struct GridSweep {
    grid: Arc<Grid>,
    data: DataTable,
    fold: Fold,
    cells: HashMap<CellIndex, Arc<SweepCell>>,
    /// Cells by identity: two places of a grid may describe one.
    keys: IdMap<CellId, CellKey>,
    /// For each key the first place in the grid.
    places: BTreeMap<CellKey, Place>,
    starts: Vec<(Start, Arc<PlannedStart>)>,
    /// The cell that was asked for last: mostly that of the next task, too.
    last: Option<(CellIndex, Arc<SweepCell>)>,
    /// Where the walk is.
    walk: Cursor,
    kept: Kept,
    search: Option<WorstSearch>,
    counts: Counts,
}

/// What is known so far, for displays.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Recorded runs by verdict.
    pub verdicts: VerdictCounts,
    /// Largest excess of a certified run of the cells inside the assumptions.
    pub worst_excess: Option<f64>,
    /// Violations in the cells inside the assumptions.
    pub violations_inside: u64,
}

/// What is recorded of a sweep at a moment.
#[derive(Debug)]
pub struct Recorded {
    fold: Fold,
    planned: u64,
    order: Vec<CellKey>,
    cells: Vec<CellId>,
    /// The search will decide anew.
    stale: bool,
}

impl Recorded {
    /// Its summary, and the identities of the summary's cells.
    pub fn summary(self) -> (Summary, Vec<CellId>) {
        let mut summary = self.fold.finish_of(self.planned);
        summary.sweep.partial |= self.stale;
        arrange(&mut summary, &self.order);
        (summary, self.cells)
    }
}

/// Puts the cells of a summary into the order of the grid. They come in the order of the keys,
/// which count from 0.
fn arrange(summary: &mut Summary, order: &[CellKey]) {
    let cells = std::mem::take(&mut summary.cells);
    let mut cells: Vec<_> = cells.into_iter().map(Some).collect();
    let in_order = order.iter();
    summary.cells = in_order
        .filter_map(|key| cells.get_mut(key.0 as usize).and_then(Option::take))
        .collect();
}

/// Where a cell stands in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    cell: CellIndex,
    /// One of its tasks.
    position: u64,
}

#[derive(Debug)]
struct SweepCell {
    text: Arc<CellText>,
    identity: CellIdentity,
    baseline: BaselineId,
    key: CellKey,
    inside: bool,
}

/// What a place of the plan adds to its cell, which is the last one that was asked for.
struct PlannedRun {
    /// Number of its start.
    start: usize,
    seed: u64,
}

#[derive(Debug)]
struct PlannedStart {
    identity: StartIdentity,
    json: Arc<str>,
    name: String,
    random: bool,
}

/// Why a grid cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A place of the grid that has no identity or no data.
    #[error("{0}")]
    Cell(String),
}

/// The identity of a sweep: what its grid says and the numeric level.
pub fn sweep_id(grid: &Grid) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sweep/1");
    hash.update(grid.sha256());
    hash.update(NUMERIC_LEVEL.as_bytes());
    to_hex(&hash.finalize())
}

impl GridSweep {
    /// A sweep of which nothing is known yet.
    pub fn new(grid: Arc<Grid>, data: DataTable, keep: KeepMinima) -> Self {
        let info = SweepInfo {
            id: sweep_id(&grid),
            name: grid.name().to_owned(),
            grid_sha256: to_hex(&grid.sha256()),
            numeric_level: NUMERIC_LEVEL.to_owned(),
            reproducible: grid.is_reproducible(),
        };
        let fold = Fold::new(info, grid.rules());
        let search = grid.search().map(WorstSearch::new);
        Self {
            grid,
            search,
            data,
            fold,
            cells: HashMap::new(),
            keys: IdMap::default(),
            places: BTreeMap::new(),
            starts: Vec::new(),
            last: None,
            walk: Cursor::default(),
            kept: Kept::new(keep),
            counts: Counts::default(),
        }
    }

    /// The grid.
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }

    /// Contents of the files that the grid names.
    pub fn contents(&self) -> &Contents {
        self.data.contents()
    }

    /// Cells met so far that break an assumption of the theorem.
    pub fn cells_outside(&self) -> usize {
        let outside = self.cells.values().filter(|cell| !cell.inside);
        let keys: std::collections::BTreeSet<CellKey> = outside.map(|cell| cell.key).collect();
        keys.len()
    }

    /// What is known so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Tasks whose θ is kept.
    pub fn kept(&self) -> Vec<(u64, TaskId)> {
        self.kept.tasks()
    }

    /// The specification of a planned task, as `minima/TASK.json` has it.
    /// Positions from the grid's length on are the search's.
    pub fn task_at(&self, position: u64) -> Option<GridTask> {
        let Some(run) = self.search_run(position) else {
            return self.grid.task(position);
        };
        let place = self.places.get(&run.cell)?;
        let spec = TaskSpec {
            cell: self.grid.task(place.position)?.spec.cell,
            seed: run.seed(),
            start: run.start(),
        };
        Some(GridTask {
            position,
            cell: place.cell,
            spec,
        })
    }

    /// Who planned the task at a position.
    pub fn found_by(&self, position: u64) -> FoundBy {
        if position < self.grid.len() {
            FoundBy::Grid
        } else {
            FoundBy::Search
        }
    }

    /// How many runs the search adds in the end, as far as is known.
    pub fn searched(&self) -> u64 {
        self.search.as_ref().map_or(0, WorstSearch::total)
    }

    /// Whether a task that had been set aside got a result after the search
    /// had decided without it: the same command, given again, decides anew.
    pub fn is_search_stale(&self) -> bool {
        self.search.as_ref().is_some_and(WorstSearch::is_stale)
    }

    /// The search's run at a position.
    fn search_run(&self, position: u64) -> Option<&SearchRun> {
        let number = position.checked_sub(self.grid.len())?;
        let plan = self.search.as_ref()?.plan();
        plan.get(usize::try_from(number).ok()?)
    }

    /// The summary of what is recorded. `duplicates` of the planned tasks are
    /// equal to earlier ones and run once with them.
    pub fn summary(&self, duplicates: u64) -> Summary {
        let planned = self.grid.len() - duplicates + self.searched();
        let mut summary = self.fold.finish_of(planned);
        summary.sweep.partial |= self.is_search_stale();
        arrange(&mut summary, &self.cell_order());
        summary
    }

    /// A copy of what is recorded, to be summarised elsewhere: the copy is
    /// quick, the summary is not.
    pub fn so_far(&self, duplicates: u64) -> Recorded {
        let ids: HashMap<CellKey, CellId> = self.keys.iter().map(|(id, key)| (*key, *id)).collect();
        let order = self.cell_order();
        Recorded {
            fold: self.fold.clone(),
            planned: self.grid.len() - duplicates + self.searched(),
            cells: order
                .iter()
                .filter_map(|key| ids.get(key).copied())
                .collect(),
            order,
            stale: self.is_search_stale(),
        }
    }

    /// Counts the tasks as cancelled that have no result.
    pub fn cancel_rest(&mut self) {
        self.fold.cancel_rest(true);
    }

    /// A task of the plan with all that its run needs.
    ///
    /// # Errors
    /// When its cell has no data; a grid whose data were checked has none such.
    fn plan(&mut self, position: u64, cursor: &mut Cursor) -> Result<PlannedRun, SweepError> {
        let lost = || SweepError::Cell(format!("the sweep has no task {position}"));
        let Some(spot) = self.grid.spot_from(position, cursor) else {
            let task = self.task_at(position).ok_or_else(lost)?;
            self.last = Some((task.cell, self.cell(&task)?));
            let start = self.start(&task.spec.start)?;
            let seed = task.spec.seed;
            return Ok(PlannedRun { start, seed });
        };
        let (index, seed) = (spot.cell, spot.seed);
        let known = (self.starts.iter()).position(|(start, _)| start == spot.start);
        let start = match known {
            Some(start) => start,
            None => {
                let start = spot.start.clone();
                self.start(&start)?
            }
        };
        if self.last.as_ref().is_none_or(|(last, _)| *last != index) {
            let cell = match self.cells.get(&index) {
                Some(cell) => Arc::clone(cell),
                None => {
                    let task = self.grid.task(position).ok_or_else(lost)?;
                    self.cell(&task)?
                }
            };
            self.last = Some((index, cell));
        }
        // Where nothing is drawn from it, equal tasks have equal seeds.
        let (cell, planned) = self.parts(start);
        let seed = if cell.identity.reads_seed(&planned.identity) {
            seed
        } else {
            0
        };
        Ok(PlannedRun { start, seed })
    }

    /// The last cell that was asked for, and a start by number.
    fn parts(&self, start: usize) -> (&Arc<SweepCell>, &Arc<PlannedStart>) {
        let (_, cell) = self.last.as_ref().expect("a plan has asked for a cell");
        (cell, &self.starts[start].1)
    }

    /// The cell of a planned task that has been met.
    fn cell_at(&self, position: u64) -> Option<&Arc<SweepCell>> {
        let index = match self.search_run(position) {
            Some(run) => self.places.get(&run.cell)?.cell,
            None => self.grid.spot(position)?.cell,
        };
        self.cells.get(&index)
    }

    fn cell(&mut self, task: &GridTask) -> Result<Arc<SweepCell>, SweepError> {
        if let Some(cell) = self.cells.get(&task.cell) {
            return Ok(Arc::clone(cell));
        }
        let spec = &task.spec.cell;
        let facts = self.data.facts(spec).map_err(SweepError::Cell)?;
        let data = DataIdentity {
            arrays: facts.arrays,
            image: facts.image,
        };
        let failed = |e: &dyn std::fmt::Display| SweepError::Cell(e.to_string());
        let identity = CellIdentity::new(spec, &data).map_err(|e| failed(&e))?;
        let sizes = TheorySizes {
            phi: facts.phi,
            outputs: facts.outputs,
            z: facts.z,
            masked: facts.masked,
        };
        let broken = assumptions_broken(spec, &sizes);
        let next = CellKey(u32::try_from(self.keys.len()).map_err(|e| failed(&e))?);
        let key = *self.keys.entry(identity.id()).or_insert(next);
        let new = Place {
            cell: task.cell,
            position: task.position,
        };
        let place = self.places.entry(key).or_insert(new);
        *place = (*place).min(new);
        let baseline = baseline_id(spec, &data);
        let cell = Arc::new(SweepCell {
            text: Arc::new(CellText {
                id: identity.id(),
                json: serde_json::to_string(spec).map_err(|e| failed(&e))?,
            }),
            baseline,
            key,
            inside: broken.is_empty(),
            identity,
        });
        if key == next {
            let info = CellInfo {
                description: describe(spec),
                assumptions_broken: broken,
                notes: notes(spec, &sizes),
                baseline,
            };
            self.fold.cell(key, info);
            if let Some(search) = self.search.as_mut().filter(|_| is_searchable(spec)) {
                search.cell(key);
            }
        }
        self.cells.insert(task.cell, Arc::clone(&cell));
        Ok(cell)
    }

    /// The number of a start.
    fn start(&mut self, start: &Start) -> Result<usize, SweepError> {
        if let Some(number) = self.starts.iter().position(|(known, _)| known == start) {
            return Ok(number);
        }
        let failed = |e: &dyn std::fmt::Display| SweepError::Cell(e.to_string());
        let planned = Arc::new(PlannedStart {
            identity: StartIdentity::new(start).map_err(|e| failed(&e))?,
            json: serde_json::to_string(start).map_err(|e| failed(&e))?.into(),
            name: start.to_string(),
            random: start.is_random(),
        });
        self.starts.push((start.clone(), planned));
        Ok(self.starts.len() - 1)
    }

    /// The value of the baseline of a cell, if it is solved.
    fn baseline_value(&self, cell: &SweepCell) -> Option<f64> {
        self.kept.baseline(&cell.baseline)
    }

    fn record_run(
        &mut self,
        position: u64,
        id: &TaskId,
        run: &RunEvidence,
        digest: [u8; 32],
    ) -> Vec<TaskId> {
        let Ok(PlannedRun { start, seed }) = self.plan(position, &mut Cursor::default()) else {
            return Vec::new();
        };
        let (cell, start) = self.parts(start);
        let (cell, start) = (Arc::clone(cell), Arc::clone(start));
        let added = self.fold.add_run(&RecordedRun {
            cell: cell.key,
            task: *id,
            seed,
            start: &start.name,
            random: start.random,
            found_by: self.found_by(position),
            evidence: run,
            digest,
        });
        match added {
            Ok(Added::New) => {}
            Ok(Added::Repeated) => return Vec::new(),
            Err(error) => {
                tracing::error!(task = %id, %error, "a result was not folded");
                return Vec::new();
            }
        }
        let baseline = self.baseline_value(&cell);
        let settled = settle(run.outcome, run.value, baseline.unwrap_or(f64::NAN));
        self.tell_search(position, id, cell.key, run);
        *self.counts.verdicts.get_mut(settled.verdict) += 1;
        if settled.verdict == Verdict::Violation && cell.inside {
            self.counts.violations_inside += 1;
        }
        if settled.verdict.is_certified()
            && cell.inside
            && let Some(baseline) = baseline
        {
            let excess = run.value - baseline;
            let worst = self.counts.worst_excess.get_or_insert(excess);
            *worst = worst.max(excess);
        }
        self.kept
            .recorded(cell.key, position, *id, run, settled.verdict)
    }
}

impl GridSweep {
    /// A new result is the search's to learn from.
    fn tell_search(&mut self, position: u64, id: &TaskId, cell: CellKey, run: &RunEvidence) {
        if self.search.is_none() {
            return;
        }
        let Some(task) = self.task_at(position) else {
            return;
        };
        let by = self.search_run(position).copied();
        // Whether it violates is no matter here: the value says how bad it is.
        let verdict = settle(run.outcome, run.value, f64::NAN).verdict;
        let minimum = verdict.is_certified().then_some(run.value);
        if let Some(search) = &mut self.search {
            search.recorded(cell, *id, &task.spec, by.as_ref(), minimum);
        }
    }

    /// The cells in the order of the grid, as the search decides on them.
    fn views(&self) -> Vec<CellView> {
        let mut places: Vec<(Place, CellKey)> =
            self.places.iter().map(|(key, at)| (*at, *key)).collect();
        places.sort_unstable();
        let view = |(place, key): (Place, CellKey)| {
            let cell = self.cells.get(&place.cell)?;
            Some(CellView {
                key,
                inside: cell.inside,
                baseline: self.baseline_value(cell),
            })
        };
        places.into_iter().filter_map(view).collect()
    }

    /// The identity of a run that a search considers; `None` if it was planned before.
    fn identify(&mut self, run: &SearchRun) -> Option<TaskId> {
        let place = *self.places.get(&run.cell)?;
        let cell = Arc::clone(self.cells.get(&place.cell)?);
        let start = self.start(&run.start()).ok()?;
        let id = (cell.identity).task(&self.starts[start].1.identity, run.seed());
        (!self.fold.contains(id)).then_some(id)
    }
}

/// Whether a search has anything to vary: runs that take no step only certify given points.
fn is_searchable(cell: &CellSpec) -> bool {
    cell.budget.evaluations > 0
}

impl Workload for GridSweep {
    fn len(&self) -> u64 {
        let added = self.search.as_ref().map_or(0, |s| s.plan().len());
        self.grid.len() + added as u64
    }

    fn task(&mut self, position: u64) -> Planned {
        // Taken out while it is used with the rest.
        let mut walk = std::mem::take(&mut self.walk);
        let planned = self.plan(position, &mut walk);
        self.walk = walk;
        match planned {
            Ok(PlannedRun { start, seed }) => {
                let (cell, start) = self.parts(start);
                Planned {
                    id: cell.identity.task(&start.identity, seed),
                    work: PlannedWork::Run {
                        cell: Arc::clone(&cell.text),
                        seed,
                        start: Arc::clone(&start.json),
                        baseline: cell.baseline,
                    },
                }
            }
            // Every cell's data were checked before the sweep began; a grid
            // that changed under us has no honest task here.
            Err(error) => unreachable!("position {position}: {error}"),
        }
    }

    fn baseline_solved(&mut self, id: BaselineId, evidence: &BaselineEvidence) {
        self.kept.baseline_solved(id, evidence.value);
        if let Err(error) = self.fold.add_baseline(id, evidence) {
            tracing::error!(baseline = %id, %error, "a baseline was not folded");
        }
    }

    fn wants_theta(&self, position: u64, id: &TaskId, evidence: &Evidence) -> bool {
        let Evidence::Run(run) = evidence else {
            return false;
        };
        let Some(cell) = self.cell_at(position) else {
            return false;
        };
        let baseline = self.baseline_value(cell).unwrap_or(f64::NAN);
        let verdict = settle(run.outcome, run.value, baseline).verdict;
        self.kept.wants(cell.key, *id, run, verdict)
    }

    fn recorded(&mut self, position: u64, id: &TaskId, result: &Opened) -> Vec<TaskId> {
        match &result.evidence {
            Evidence::Run(run) => self.record_run(position, id, run, result.digest),
            Evidence::Baseline(_) | Evidence::Noop { .. } => Vec::new(),
        }
    }

    fn set_aside(&mut self, position: u64, id: &TaskId, kind: FailureKind) {
        if self.plan(position, &mut Cursor::default()).is_err() {
            return;
        }
        let Some((_, cell)) = self.last.clone() else {
            return;
        };
        match self.fold.add_failed(cell.key, *id) {
            Ok(Added::New) => {}
            Ok(Added::Repeated) => return,
            Err(error) => {
                tracing::error!(task = %id, ?kind, %error, "a failure was not folded");
                return;
            }
        }
        let by = self.search_run(position).copied();
        let task = self.search.as_ref().and_then(|_| self.task_at(position));
        if let (Some(search), Some(task)) = (&mut self.search, task) {
            search.set_aside(cell.key, *id, &task.spec.start, by.as_ref());
        }
    }

    fn next_round(&mut self) -> bool {
        // Taken out while it asks the sweep for identities.
        let Some(mut search) = self.search.take() else {
            return false;
        };
        let views = self.views();
        let more = search.decide(&views, |run| self.identify(run));
        self.search = Some(search);
        more
    }

    fn taken_up_again(&mut self, _: u64, _: &TaskId) {
        // The fold lets a result take the place of a failure; until then the
        // task still counts as failed.
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
