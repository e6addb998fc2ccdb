//! A sweep of a grid: its plan as a rule, its results as a fold.
//!
//! [`GridSweep`] is the [`Workload`] of a grid. Its n-th task is made when the
//! scheduler asks for it; a cell is described once, when its first task is.
//! Cells get their numbers as they are met, which after a restart need not be
//! the order of the grid; the summary puts them into that order.

mod data;
mod kept;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::canon::{
    CellIdentity, DataIdentity, StartIdentity, TheorySizes, assumptions_broken, baseline_id,
    describe, notes,
};
use common::grid::{CellIndex, Grid, GridTask};
use common::ids::{BaselineId, CellId, IdMap, TaskId, to_hex};
use common::math::NUMERIC_LEVEL;
use common::pb::encode_evidence;
use common::protocol::{CellText, FailureKind};
use common::record::{BaselineEvidence, Evidence, RunEvidence};
use common::spec::Start;
use common::summary::{
    Added, CellInfo, CellKey, Fold, FoundBy, RecordedRun, Summary, SweepInfo, Verdict, settle,
};
use sha2::{Digest, Sha256};

pub use data::{Contents, DataTable};
pub use kept::KeepMinima;
use kept::Kept;

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
    places: BTreeMap<CellKey, CellIndex>,
    starts: Vec<(Start, Arc<PlannedStart>)>,
    kept: Kept,
    counts: Counts,
}

/// What is known so far, for displays.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Recorded runs by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Largest excess of a certified run of the cells inside the assumptions.
    pub worst_excess: Option<f64>,
}

#[derive(Debug)]
struct SweepCell {
    text: Arc<CellText>,
    identity: CellIdentity,
    baseline: BaselineId,
    key: CellKey,
    inside: bool,
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
        Self {
            grid,
            data,
            fold,
            cells: HashMap::new(),
            keys: IdMap::default(),
            places: BTreeMap::new(),
            starts: Vec::new(),
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

    /// What is known so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Tasks whose θ is kept.
    pub fn kept(&self) -> Vec<(u64, TaskId)> {
        self.kept.tasks()
    }

    /// The specification of a planned task, as `minima/TASK.json` has it.
    pub fn task_at(&self, position: u64) -> Option<GridTask> {
        self.grid.task(position)
    }

    /// The summary of what is recorded. `duplicates` of the planned tasks are
    /// equal to earlier ones and run once with them.
    pub fn summary(&self, duplicates: u64) -> Summary {
        let mut fold = self.fold.clone();
        fold.planned(self.grid.len() - duplicates);
        let mut summary = fold.finish();
        let mut order: Vec<(CellIndex, usize)> = self
            .places
            .values()
            .enumerate()
            .map(|(number, place)| (*place, number))
            .collect();
        order.sort_unstable();
        let mut cells: Vec<_> = summary.cells.into_iter().map(Some).collect();
        summary.cells = order
            .iter()
            .filter_map(|(_, number)| cells.get_mut(*number).and_then(Option::take))
            .collect();
        summary
    }

    /// Counts the tasks as cancelled that have no result.
    pub fn cancel_rest(&mut self) {
        self.fold.cancel_rest(true);
    }

    /// A task of the plan with all that its run needs.
    ///
    /// # Errors
    /// When its cell has no data; a grid whose data were checked has none such.
    fn plan(
        &mut self,
        position: u64,
    ) -> Result<(GridTask, Arc<SweepCell>, Arc<PlannedStart>), SweepError> {
        let lost = || SweepError::Cell(format!("the grid has no task {position}"));
        let task = self.grid.task(position).ok_or_else(lost)?;
        let cell = self.cell(&task)?;
        let start = self.start(&task.spec.start)?;
        Ok((task, cell, start))
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
        let place = self.places.entry(key).or_insert(task.cell);
        *place = (*place).min(task.cell);
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
        }
        self.cells.insert(task.cell, Arc::clone(&cell));
        Ok(cell)
    }

    fn start(&mut self, start: &Start) -> Result<Arc<PlannedStart>, SweepError> {
        if let Some((_, planned)) = self.starts.iter().find(|(known, _)| known == start) {
            return Ok(Arc::clone(planned));
        }
        let failed = |e: &dyn std::fmt::Display| SweepError::Cell(e.to_string());
        let planned = Arc::new(PlannedStart {
            identity: StartIdentity::new(start).map_err(|e| failed(&e))?,
            json: serde_json::to_string(start).map_err(|e| failed(&e))?.into(),
            name: start.to_string(),
            random: start.is_random(),
        });
        self.starts.push((start.clone(), Arc::clone(&planned)));
        Ok(planned)
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
        let Ok((task, cell, start)) = self.plan(position) else {
            return Vec::new();
        };
        let added = self.fold.add_run(&RecordedRun {
            cell: cell.key,
            task: *id,
            seed: task.spec.seed,
            start: &start.name,
            random: start.random,
            found_by: FoundBy::Grid,
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
        *self.counts.verdicts.entry(settled.verdict).or_default() += 1;
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

impl Workload for GridSweep {
    fn len(&self) -> u64 {
        self.grid.len()
    }

    fn task(&mut self, position: u64) -> Planned {
        match self.plan(position) {
            Ok((task, cell, start)) => Planned {
                id: cell.identity.task(&start.identity, task.spec.seed),
                work: PlannedWork::Run {
                    cell: Arc::clone(&cell.text),
                    seed: task.spec.seed,
                    start: Arc::clone(&start.json),
                    baseline: cell.baseline,
                },
            },
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
        let Some(cell) = self
            .grid
            .task(position)
            .and_then(|t| self.cells.get(&t.cell).cloned())
        else {
            return false;
        };
        let baseline = self.baseline_value(&cell).unwrap_or(f64::NAN);
        let verdict = settle(run.outcome, run.value, baseline).verdict;
        self.kept.wants(cell.key, *id, run, verdict)
    }

    fn recorded(&mut self, position: u64, id: &TaskId, evidence: &Evidence) -> Vec<TaskId> {
        let digest = Sha256::digest(encode_evidence(evidence)).into();
        match evidence {
            Evidence::Run(run) => self.record_run(position, id, run, digest),
            Evidence::Baseline(_) | Evidence::Noop { .. } => Vec::new(),
        }
    }

    fn set_aside(&mut self, position: u64, id: &TaskId, kind: FailureKind) {
        let Ok((_, cell, _)) = self.plan(position) else {
            return;
        };
        if let Err(error) = self.fold.add_failed(cell.key, *id) {
            tracing::error!(task = %id, ?kind, %error, "a failure was not folded");
        }
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
