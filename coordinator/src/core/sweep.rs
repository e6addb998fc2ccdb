//! One sweep: how far its walk is, what waits, what is done.
//!
//! A position goes through these places, and is in exactly one of them:
//! not walked yet → being looked up → ahead → (parked with its baseline) →
//! live → recorded or set aside. A position whose task is the same as an
//! earlier one's ends as a duplicate instead. `invariants` checks the sum.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use common::ids::{BaselineId, IdMap, TaskId};
use common::protocol::{CellText, FailureKind, Place, SolvedBaseline, SweepNumber};

use super::event::{Checkpoint, NewSweep, TakeUp};
use super::journal::{SweepState, Ticket};
use super::ledger::{Key, Ledger};
use super::retry::PastFailure;
use super::task::{Kind, TaskIdx};
use crate::workload::{Planned, PlannedWork, Workload};

#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) number: SweepNumber,
    pub(super) priority: i32,
    pub(super) state: SweepState,
    pub(super) workload: Box<dyn Workload>,
    pub(super) take_up: TakeUp,
    /// Positions below have been walked.
    pub(super) walked: u64,
    /// Positions whose task came alive before the walk met them: a worker
    /// brought it along from an earlier epoch.
    pub(super) adopted: BTreeSet<u64>,
    /// Lookups on their way, and the positions in them.
    pub(super) n_lookups: usize,
    pub(super) n_in_lookup: u64,
    /// Positions to be looked up once more: recorded by another sweep since.
    pub(super) again: Vec<Ahead>,
    pub(super) baselines_again: Vec<BaselineId>,
    /// Looked up and not known.
    pub(super) ahead: VecDeque<Ahead>,
    /// Live tasks that can be leased: baselines first, then by position.
    pub(super) ready: BTreeSet<Ready>,
    /// Recorded runs.
    pub(super) recorded: Ledger,
    pub(super) failed: BTreeMap<TaskId, Failed>,
    pub(super) needs: IdMap<BaselineId, Need>,
    /// Fresh positions parked with baselines.
    pub(super) n_parked: u64,
    /// Failures and checkpoints of an earlier epoch, until the task is live.
    pub(super) histories: IdMap<TaskId, Vec<PastFailure>>,
    pub(super) checkpoints: IdMap<TaskId, Checkpoint>,
    /// Live runs.
    pub(super) live: u64,
    pub(super) live_baselines: u64,
    /// Live tasks in a worker's hands.
    pub(super) leased: u64,
    pub(super) duplicates: u64,
    /// The last ticket with a record of this sweep.
    pub(super) last_ticket: Ticket,
    /// The ticket of the sweep's end.
    pub(super) ending: Option<Ticket>,
}

/// A position that has been looked up, or is being.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    pub(super) position: u64,
    pub(super) planned: Planned,
}

/// An entry of the ready set; the order is the order of leasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ready {
    /// Runs come after baselines.
    run: bool,
    position: u64,
    pub(super) task: TaskIdx,
}

impl Ready {
    pub(super) fn new(place: Place, task: TaskIdx) -> Self {
        Self {
            run: !place.baseline,
            position: place.position,
            task,
        }
    }
}

/// A task that is not tried again by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) place: Place,
    pub(super) kind: FailureKind,
    /// The run itself was not tried: this baseline failed.
    pub(super) because_of: Option<BaselineId>,
}

/// A baseline that runs of the sweep need.
#[derive(Debug)]
pub(super) struct Need {
    /// Position of a run that needs it.
    pub(super) position: u64,
    pub(super) state: NeedState,
    pub(super) parked: Vec<Parked>,
}

#[derive(Clone, Debug)]
pub(super) enum NeedState {
    /// The store is being asked.
    Asked,
    /// Not in the store, nobody waits for it yet.
    Missing,
    /// A live task.
    Live,
    /// Durable; the mark is that of its evidence.
    Solved {
        solved: Arc<SolvedBaseline>,
        mark: u64,
    },
    Failed,
}

/// A run that waits for a baseline.
#[derive(Clone, Debug)]
pub(super) enum Parked {
    Fresh(Ahead),
    /// A live task in the state `Waiting`; checked against the identity when
    /// it is woken, since it may have ended meanwhile.
    Live(TaskIdx, TaskId),
}

impl Sweep {
    pub(super) fn new(new: NewSweep) -> Self {
        Self {
            number: new.number,
            priority: new.priority,
            state: if new.paused {
                SweepState::Paused
            } else {
                SweepState::Running
            },
            workload: new.workload,
            take_up: new.take_up,
            walked: 0,
            adopted: BTreeSet::new(),
            n_lookups: 0,
            n_in_lookup: 0,
            again: Vec::new(),
            baselines_again: Vec::new(),
            ahead: VecDeque::new(),
            ready: BTreeSet::new(),
            recorded: Ledger::default(),
            failed: BTreeMap::new(),
            needs: IdMap::default(),
            n_parked: 0,
            histories: IdMap::default(),
            checkpoints: IdMap::default(),
            live: 0,
            live_baselines: 0,
            leased: 0,
            duplicates: 0,
            last_ticket: Ticket(0),
            ending: None,
        }
    }

    /// Neither cancelled nor finished.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, SweepState::Running | SweepState::Paused)
    }

    /// Whether tasks may be leased now, as far as is known.
    pub(super) fn has_work(&self) -> bool {
        self.state == SweepState::Running && !(self.ready.is_empty() && self.ahead.is_empty())
    }

    /// Tasks that are not leased yet, as far as is known.
    pub(super) fn remaining(&self) -> u64 {
        let walk = self.workload.len().saturating_sub(self.walked);
        walk.saturating_add(self.n_in_lookup)
            .saturating_add(self.ahead.len() as u64)
            .saturating_add(self.n_parked)
            .saturating_add(self.ready.len() as u64)
    }

    /// Whether every position has come to its end.
    pub(super) fn is_exhausted(&self) -> bool {
        self.walked == self.workload.len()
            && self.n_lookups == 0
            && self.again.is_empty()
            && self.baselines_again.is_empty()
            && self.ahead.is_empty()
            && self.n_parked == 0
            && self.live == 0
            && self.live_baselines == 0
    }

    /// Whether the task is recorded or set aside here.
    pub(super) fn has_outcome(&self, id: &TaskId, place: Place) -> bool {
        if self.failed.contains_key(id) {
            return true;
        }
        if place.baseline {
            let need = self.needs.get(&BaselineId(id.0));
            need.is_some_and(|need| matches!(need.state, NeedState::Solved { .. }))
        } else {
            self.recorded.contains(&Key::from(id))
        }
    }

    /// What the task at a place computes, and the baseline that it is, if the
    /// plan has this task there.
    pub(super) fn kind_at(
        &mut self,
        id: &TaskId,
        place: Place,
    ) -> Option<(Kind, Option<BaselineId>)> {
        if place.position >= self.workload.len() {
            return None;
        }
        let planned = self.workload.task(place.position);
        if place.baseline {
            match planned.work {
                PlannedWork::Run { cell, baseline, .. } if TaskId::from(baseline) == *id => {
                    Some((Kind::Baseline { cell }, Some(baseline)))
                }
                _ => None,
            }
        } else {
            (planned.id == *id).then(|| (planned.work.into(), None))
        }
    }

    /// Notes that the baseline has a live task.
    pub(super) fn need_is_live(&mut self, id: BaselineId, position: u64) {
        let fresh = || Need {
            position,
            state: NeedState::Missing,
            parked: Vec::new(),
        };
        self.needs.entry(id).or_insert_with(fresh).state = NeedState::Live;
    }

    /// The solved baseline, if it is.
    pub(super) fn solved(&self, id: &BaselineId) -> Option<&Arc<SolvedBaseline>> {
        match &self.needs.get(id)?.state {
            NeedState::Solved { solved, .. } => Some(solved),
            _ => None,
        }
    }

    /// The cell of a run that needs this baseline.
    pub(super) fn cell_of_need(&mut self, id: &BaselineId) -> Option<(u64, Arc<CellText>)> {
        let position = self.needs.get(id)?.position;
        match self.workload.task(position).work {
            PlannedWork::Run { cell, .. } => Some((position, cell)),
            PlannedWork::Noop { .. } => None,
        }
    }

    pub(super) fn place(&self, position: u64) -> Place {
        Place {
            sweep: self.number,
            position,
            baseline: false,
        }
    }
}

impl From<PlannedWork> for Kind {
    fn from(work: PlannedWork) -> Self {
        match work {
            PlannedWork::Run {
                cell,
                seed,
                start,
                baseline,
            } => Self::Run {
                cell,
                seed,
                start,
                baseline,
            },
            PlannedWork::Noop { seed, microseconds } => Self::Noop { seed, microseconds },
        }
    }
}
