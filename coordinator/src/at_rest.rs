//! A sweep in a store that no coordinator runs on: what `verify` and `diff` read.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use common::grid::Grid;
use common::ids::{BaselineId, TaskId};

use crate::cli::code;
use crate::core::Lookup;
use crate::run::{Failure, host_name, store_failure};
use crate::store::{Identity, SqliteStore, Store, StoredSweep};
use crate::sweep::{GridSweep, sweep_id};
use crate::workload::{PlannedWork, Workload};

/// A store and the sweep of a grid in it.
#[derive(Debug)]
pub struct AtRest {
    /// The store.
    pub store: SqliteStore,
    /// The sweep.
    pub stored: StoredSweep,
}

impl AtRest {
    /// Opens the store of a folder and finds the sweep of a grid.
    ///
    /// # Errors
    /// When there is no store, no such sweep, or a coordinator has the store.
    pub async fn open(folder: &Path, grid: &Grid) -> Result<Self, Failure> {
        if !folder.join("store.sqlite3").exists() {
            let message = format!("{} holds no store", folder.display());
            return Err((code::BAD_INPUT, message));
        }
        let identity = Identity {
            host: host_name(),
            listen: None,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let store = SqliteStore::open(folder, &identity).map_err(|e| store_failure(&e))?;
        let id = sweep_id(grid);
        let sweeps = store.sweeps().await.map_err(|e| store_failure(&e))?;
        let Some(stored) = sweeps.into_iter().find(|s| s.text.id == id) else {
            let message = format!("the store {} has no sweep of this grid", folder.display());
            return Err((code::BAD_INPUT, message));
        };
        Ok(Self { store, stored })
    }

    /// What is recorded of some tasks.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what nobody can have written.
    pub async fn lookup(&self, tasks: Vec<TaskId>) -> Result<crate::core::Known, Failure> {
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
