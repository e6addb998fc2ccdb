//! What a sweep is to the scheduler: a number of tasks and a rule for each,
//! and somebody who takes the results.
//!
//! The scheduler asks for tasks in ascending order, once, and hands over each
//! result at least once and in any order. It knows nothing of grids, networks
//! or summaries.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use common::ids::{BaselineId, TaskId};
use common::protocol::{CellText, FailureKind};
use common::record::{BaselineEvidence, Evidence};

use crate::core::Opened;

/// A sweep's tasks and what its results are gathered into.
pub trait Workload: Any + Debug + Send {
    /// Number of tasks so far. Grows only by [`Workload::next_round`].
    fn len(&self) -> u64;

    /// Whether there is no task.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The task at a position below [`Workload::len`]; the same at every call.
    /// May be called for any position (a worker returning after a restart
    /// names one), but is called once for most, in ascending order.
    fn task(&mut self, position: u64) -> Planned;

    /// A baseline that runs of this sweep need.
    fn baseline_solved(&mut self, id: BaselineId, evidence: &BaselineEvidence);

    /// Whether θ of this result should be kept: it may be one that the summary
    /// names. Called before the result is recorded.
    fn wants_theta(&self, position: u64, id: &TaskId, evidence: &Evidence) -> bool;

    /// A recorded result. Repetitions must change nothing. Returns the tasks
    /// whose θ is no longer wanted.
    fn recorded(&mut self, position: u64, id: &TaskId, result: &Opened) -> Vec<TaskId>;

    /// The task failed for good, or the baseline that it needs did.
    fn set_aside(&mut self, position: u64, id: &TaskId, kind: FailureKind);

    /// A task that was set aside is tried again, or has a result after all.
    fn taken_up_again(&mut self, position: u64, id: &TaskId);

    /// Called when every task so far is recorded or set aside. An adaptive
    /// search decides here, from results in task order, and adds tasks;
    /// returns whether it did.
    fn next_round(&mut self) -> bool {
        false
    }

    /// For whoever put the workload in and wants it back as what it is.
    fn as_any(&self) -> &dyn Any;

    /// The same by value.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A task as a sweep plans it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its identity.
    pub id: TaskId,
    /// What is to be computed.
    pub work: PlannedWork,
}

/// What a planned task computes.
#[derive(Clone, Debug, PartialEq)]
pub enum PlannedWork {
    /// A run.
    Run {
        /// Everything but seed and start.
        cell: Arc<CellText>,
        /// Key of every random draw.
        seed: u64,
        /// The start as JSON.
        start: Arc<str>,
        /// The baseline it waits for.
        baseline: BaselineId,
    },
    /// Nothing, for a while.
    Noop {
        /// Comes back in the evidence.
        seed: u64,
        /// How long.
        microseconds: u64,
    },
}
