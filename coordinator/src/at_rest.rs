//! Sweeps as a store has them, without a scheduler: what `verify`, `diff`, `status` and
//! `explain` read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use common::grid::Grid;
use common::ids::{BaselineId, IdSet, TaskId};
use common::protocol::FailureKind;
use common::record::Evidence;
use common::summary::Summary;

use crate::cli::code;
use crate::core::{Known, Lookup, Opened, SweepState};
use crate::run::{Failure, host_name, store_failure};
use crate::store::{Address, AnyStore, Identity, Store, StoredSweep};
use crate::sweep::{DataTable, GridSweep, KeepMinima, sweep_id};
use crate::workload::{PlannedWork, Workload};

/// Tasks that are looked up at a time.
const PAGE: usize = 2_000;

/// A store and the sweep of a grid in it.
#[derive(Debug)]
pub struct AtRest {
    /// The store.
    pub store: AnyStore,
    /// The sweep.
    pub stored: StoredSweep,
}

impl AtRest {
    /// Opens a store and finds the sweep of a grid.
    ///
    /// # Errors
    /// When there is no store, no such sweep, or a coordinator has the store.
    pub async fn open(address: &Address, grid: &Grid) -> Result<Self, Failure> {
        let store = open_store(address).await?;
        let id = sweep_id(grid);
        let sweeps = store.sweeps().await.map_err(|e| store_failure(&e))?;
        let Some(stored) = sweeps.into_iter().find(|s| s.text.id == id) else {
            let message = format!("the store {address} has no sweep of this grid");
            return Err((code::BAD_INPUT, message));
        };
        Ok(Self { store, stored })
    }

    /// What is recorded of some tasks.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what nobody can have written.
    pub async fn lookup(&self, tasks: Vec<TaskId>) -> Result<Known, Failure> {
        let lookup = Lookup {
            sweep: self.stored.number,
            tasks,
        };
        self.store
            .lookup(lookup)
            .await
            .map_err(|e| store_failure(&e))
    }
}

/// The tasks of a sweep that are set aside, as its store has them.
///
/// A run fails with its baseline. That follows from the baseline's mark: the run has none of its
/// own.
#[derive(Debug, Default)]
pub struct Aside(IdSet<TaskId>);

impl Aside {
    /// Takes note of what a lookup found; a task that has a result by now is not set aside.
    pub fn note(&mut self, known: &Known) {
        let recorded: IdSet<TaskId> = known.results.iter().map(|(task, _)| *task).collect();
        let marked = known.set_aside.iter();
        self.0
            .extend(marked.filter(|task| !recorded.contains(task)));
    }

    /// Takes note of one task that is set aside and has no result.
    pub fn insert(&mut self, task: TaskId) {
        self.0.insert(task);
    }

    /// Whether a task is set aside itself.
    pub fn has(&self, task: &TaskId) -> bool {
        self.0.contains(task)
    }

    /// Whether a run that has no result has failed: it or its baseline is set aside.
    pub fn has_failed(&self, run: &TaskId, baseline: &BaselineId) -> bool {
        self.has(run) || self.has(&TaskId::from(*baseline))
    }
}

/// What a grid plans, task by task.
#[derive(Debug, Default)]
pub struct Plan {
    /// The first position of each task.
    pub runs: HashMap<TaskId, u64>,
    /// The tasks in the order of the grid, equal ones once.
    pub order: Vec<(u64, TaskId, BaselineId)>,
    /// Baselines that the runs need.
    pub baselines: HashSet<BaselineId>,
    /// Tasks that are equal to earlier ones.
    pub duplicates: u64,
}

impl Plan {
    /// Walks all tasks of a grid.
    pub fn of(workload: &mut GridSweep) -> Self {
        let mut plan = Self::default();
        for position in 0..workload.len() {
            let planned = workload.task(position);
            let PlannedWork::Run { baseline, .. } = planned.work else {
                continue;
            };
            plan.baselines.insert(baseline);
            if plan.runs.contains_key(&planned.id) {
                plan.duplicates += 1;
                continue;
            }
            plan.runs.insert(planned.id, position);
            plan.order.push((position, planned.id, baseline));
        }
        plan
    }
}

/// A sweep with its grid.
#[derive(Debug)]
pub struct Kept {
    /// What is stored of it.
    pub stored: StoredSweep,
    /// Its grid.
    pub grid: Arc<Grid>,
    /// Its data.
    pub data: DataTable,
}

/// Opens a store that no coordinator has.
///
/// # Errors
/// When there is none, or a coordinator has it.
pub async fn open_store(address: &Address) -> Result<AnyStore, Failure> {
    if let Address::Directory(folder) = address
        && !folder.join("store.sqlite3").exists()
    {
        let message = format!("{} holds no store", folder.display());
        return Err((code::BAD_INPUT, message));
    }
    let identity = Identity {
        host: host_name(),
        listen: None,
        at_rest: true,
        program_version: env!("SWEEP_VERSION").to_owned(),
    };
    AnyStore::open(address, &identity)
        .await
        .map_err(|e| store_failure(&e))
}

/// The summary of what a store at rest holds of a grid.
///
/// # Errors
/// When there is no store, no such sweep, or a coordinator has the store.
pub async fn of_grid(
    grid: Arc<Grid>,
    data: DataTable,
    address: &Address,
) -> Result<(Summary, StoredSweep), Failure> {
    let AtRest { store, stored } = AtRest::open(address, &grid).await?;
    let kept = Kept {
        stored: stored.clone(),
        grid,
        data,
    };
    let found = summary(&store, kept).await?;
    store.close().await.map_err(|e| store_failure(&e))?;
    Ok((found, stored))
}

/// The summary of what is recorded of a sweep.
///
/// # Errors
/// When the store cannot be read.
pub async fn summary<S: Store>(store: &S, kept: Kept) -> Result<Summary, Failure> {
    let Kept { stored, grid, data } = kept;
    let mut workload = GridSweep::new(grid, data, KeepMinima::None);
    let duplicates = replay(store, &stored, &mut workload).await?;
    if stored.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
    Ok(workload.summary(duplicates))
}

/// Gathers everything that is recorded of a sweep into its workload, the rounds
/// of a search included; returns how many tasks are equal to earlier ones.
///
/// # Errors
/// When the store cannot be read.
pub async fn replay<S: Store>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
) -> Result<u64, Failure> {
    let mut seen = HashSet::new();
    let mut duplicates = 0;
    let (mut position, mut missing) = (0, 0);
    let mut aside = Aside::default();
    loop {
        let mut page: Vec<Asked> = Vec::new();
        while position < workload.len() {
            let planned = workload.task(position);
            position += 1;
            if !seen.insert(planned.id) {
                duplicates += 1;
                continue;
            }
            let PlannedWork::Run { baseline, .. } = planned.work else {
                continue;
            };
            page.push(Asked::Run(position - 1, planned.id, baseline));
            if seen.insert(baseline.into()) {
                page.push(Asked::Baseline(baseline));
            }
            if page.len() >= PAGE {
                let page = std::mem::take(&mut page);
                missing += fold_page(store, stored, workload, page, &mut aside).await?;
            }
        }
        missing += fold_page(store, stored, workload, page, &mut aside).await?;
        // A search decides its next round when everything before is settled, here as there.
        if missing > 0 || !workload.next_round() {
            break;
        }
    }
    Ok(duplicates)
}

/// A task that the store is asked for.
enum Asked {
    /// At a position, beside a baseline.
    Run(u64, TaskId, BaselineId),
    Baseline(BaselineId),
}

impl Asked {
    fn id(&self) -> TaskId {
        match self {
            Self::Run(_, id, _) => *id,
            Self::Baseline(id) => (*id).into(),
        }
    }
}

/// Folds in what the store has of some tasks; `aside` are those set aside that were met so far.
/// Returns how many are neither recorded nor failed.
async fn fold_page<S: Store>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
    page: Vec<Asked>,
    aside: &mut Aside,
) -> Result<u64, Failure> {
    let lookup = Lookup {
        sweep: stored.number,
        tasks: page.iter().map(Asked::id).collect(),
    };
    let known = store.lookup(lookup).await.map_err(|e| store_failure(&e))?;
    aside.note(&known);
    let results: HashMap<TaskId, Opened> = known.results.into_iter().collect();
    let mut missing = 0;
    for asked in page {
        let result = results.get(&asked.id());
        match (asked, result) {
            (Asked::Baseline(id), Some(result)) => {
                if let Evidence::Baseline(evidence) = &result.evidence {
                    workload.baseline_solved(id, evidence);
                }
            }
            (Asked::Run(position, id, _), Some(result)) => {
                workload.recorded(position, &id, result);
            }
            (Asked::Run(position, id, baseline), None) if aside.has_failed(&id, &baseline) => {
                workload.set_aside(position, &id, FailureKind::Crash);
            }
            (Asked::Baseline(id), None) if aside.has(&id.into()) => {}
            (_, None) => missing += 1,
        }
    }
    Ok(missing)
}
