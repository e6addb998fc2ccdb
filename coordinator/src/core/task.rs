//! Tasks that somebody is concerned with at the moment.
//!
//! A task lives here from its first lease (or, for a baseline, from the moment
//! that a run waits for it) until its result is durable or it is set aside.
//! What is only planned is a position in its sweep; what is recorded is a key
//! there. So the number of live tasks follows the number of workers, not the
//! size of the sweep.

use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BaselineId, IdMap, TaskId};
use common::protocol::{Attempt, CellText, Place, SweepNumber};
use common::record::Evidence;

use super::journal::{Opened, Ticket};
use super::retry::PastFailure;
use super::time::Timestamp;
use super::worker::WorkerNumber;

/// Position of a live task; reused after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskIdx(pub(super) u32);

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) kind: Kind,
    /// Where it stands, in every sweep that wants it; never empty.
    pub(super) owners: Vec<Place>,
    pub(super) state: State,
    pub(super) failures: Vec<PastFailure>,
    pub(super) checkpoint: Option<(Bytes, u64)>,
    /// A returning worker brought it, perhaps before the store was asked about it: nobody here
    /// may know that it had been set aside.
    pub(super) revived: bool,
    /// Its result, found in the store after it had become live; counts if the attempt fails.
    pub(super) stored: Option<Opened>,
}

/// What a task computes.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Run {
        cell: Arc<CellText>,
        seed: u64,
        start: Arc<str>,
        baseline: BaselineId,
    },
    Baseline {
        cell: Arc<CellText>,
    },
    Noop {
        seed: u64,
        microseconds: u64,
    },
}

impl Kind {
    /// Whether evidence is of the kind that the task asks for.
    pub(super) fn matches(&self, evidence: &Evidence) -> bool {
        match (self, evidence) {
            (Self::Run { .. }, Evidence::Run(_))
            | (Self::Baseline { .. }, Evidence::Baseline(_)) => true,
            (Self::Noop { seed, .. }, Evidence::Noop { seed: found }) => seed == found,
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// In the ready set of each of its sweeps.
    Ready,
    /// In the core's set of delayed tasks.
    Delayed { until: Timestamp },
    /// A run whose baseline is not solved; parked with it.
    Waiting,
    /// Somebody computes it.
    Leased(Grant),
    /// Its result is on its way to the store.
    Recording { ticket: Ticket, record: u32 },
}

/// The current lease of a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) worker: WorkerNumber,
    pub(super) attempt: Attempt,
    /// Its place in the worker's list.
    pub(super) position: u32,
    /// The worker has said that it is computing it.
    pub(super) running: bool,
    /// It has been asked back.
    pub(super) recalled: bool,
}

impl Task {
    /// The current lease, if it is this attempt of this worker.
    pub(super) fn grant(&self, worker: WorkerNumber, attempt: Attempt) -> Option<&Grant> {
        match &self.state {
            State::Leased(grant) if grant.worker == worker && grant.attempt == attempt => {
                Some(grant)
            }
            _ => None,
        }
    }

    /// Where it stands in a sweep.
    pub(super) fn place_in(&self, sweep: SweepNumber) -> Option<Place> {
        self.owners
            .iter()
            .find(|place| place.sweep == sweep)
            .copied()
    }
}

/// All live tasks.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    free: Vec<TaskIdx>,
    by_id: IdMap<TaskId, TaskIdx>,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: &TaskId) -> Option<TaskIdx> {
        self.by_id.get(id).copied()
    }

    /// Adds a task; there must be none of its identity.
    pub(super) fn insert(&mut self, task: Task) -> TaskIdx {
        let idx = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            TaskIdx((self.slots.len() - 1) as u32)
        });
        self.by_id.insert(task.id, idx);
        self.slots[idx.0 as usize] = Some(task);
        idx
    }

    pub(super) fn remove(&mut self, idx: TaskIdx) -> Task {
        let task = self.slots[idx.0 as usize]
            .take()
            .expect("a live task is removed once");
        self.by_id.remove(&task.id);
        self.free.push(idx);
        task
    }

    pub(super) fn get(&self, idx: TaskIdx) -> Option<&Task> {
        self.slots.get(idx.0 as usize).and_then(Option::as_ref)
    }

    /// All of them in the order of their positions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskIdx, &Task)> {
        let indexed = self.slots.iter().enumerate();
        indexed.filter_map(|(i, task)| Some((TaskIdx(i as u32), task.as_ref()?)))
    }
}

impl std::ops::Index<TaskIdx> for Tasks {
    type Output = Task;

    fn index(&self, idx: TaskIdx) -> &Task {
        self.slots[idx.0 as usize]
            .as_ref()
            .expect("indices of live tasks only are kept")
    }
}

impl std::ops::IndexMut<TaskIdx> for Tasks {
    fn index_mut(&mut self, idx: TaskIdx) -> &mut Task {
        self.slots[idx.0 as usize]
            .as_mut()
            .expect("indices of live tasks only are kept")
    }
}
