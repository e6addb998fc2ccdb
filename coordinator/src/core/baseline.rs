//! Baselines: tasks that runs wait for.
//!
//! The first run of a sweep that needs a baseline makes it a task of its own;
//! the runs that need it are parked with it until it is solved, and carry it
//! along in their leases. A baseline that is set aside takes its runs with it,
//! until it is taken up again.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::ids::{BaselineId, IdMap, IdSet, TaskId};
use common::planted::{Bug, planted};
use common::protocol::{FailureKind, Place, SolvedBaseline, SweepNumber};
use common::record::Evidence;

use super::Core;
use super::journal::Opened;
use super::ledger::Key;
use super::sweep::{Ahead, Failed, Need, NeedState, Parked};
use super::task::{Kind, State, Task};
use crate::workload::Planned;

impl Core {
    pub(super) fn meet_baseline(
        &mut self,
        number: SweepNumber,
        id: BaselineId,
        results: &IdMap<TaskId, Opened>,
        set_aside: &IdSet<TaskId>,
    ) {
        let task = TaskId::from(id);
        if let Some(opened) = results.get(&task) {
            self.solve(number, id, opened);
            return;
        }
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let Some(need) = sweep.needs.get_mut(&id) else {
            return;
        };
        if !matches!(need.state, NeedState::Asked) {
            return;
        }
        if set_aside.contains(&task) {
            let kind = sweep
                .histories
                .remove(&task)
                .and_then(|past| Some(past.last()?.kind));
            self.baseline_failed(number, id, kind.unwrap_or(FailureKind::Crash));
            return;
        }
        need.state = NeedState::Missing;
        if !need.parked.is_empty() {
            self.start_baseline(number, id);
        }
    }

    /// The state of a baseline after making sure that somebody cares for it.
    pub(super) fn need(&mut self, number: SweepNumber, id: BaselineId, position: u64) -> NeedState {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return NeedState::Failed;
        };
        let fresh = || Need {
            position,
            state: NeedState::Missing,
            parked: Vec::new(),
        };
        let need = sweep.needs.entry(id).or_insert_with(fresh);
        if matches!(need.state, NeedState::Missing) {
            self.start_baseline(number, id);
        }
        let need = self
            .sweeps
            .get(&number)
            .and_then(|sweep| sweep.needs.get(&id));
        need.map_or(NeedState::Failed, |need| need.state.clone())
    }

    /// Makes a missing baseline a live task, or finds it solved in another
    /// sweep.
    fn start_baseline(&mut self, number: SweepNumber, id: BaselineId) {
        let elsewhere = self
            .sweeps
            .values()
            .find_map(|other| match &other.needs.get(&id)?.state {
                NeedState::Solved { solved, mark } => Some((solved.clone(), *mark)),
                _ => None,
            });
        if let Some((solved, mark)) = elsewhere {
            self.set_solved(number, id, solved, mark);
            return;
        }
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let Some((position, cell)) = sweep.cell_of_need(&id) else {
            return;
        };
        let place = Place {
            sweep: number,
            position,
            baseline: true,
        };
        sweep.need_is_live(id, position);
        sweep.live_baselines += 1;
        if let Some(idx) = self.tasks.find(&TaskId::from(id)) {
            Self::add_owner(sweep, &mut self.tasks[idx], idx, place);
            return;
        }
        let task = Task {
            id: id.into(),
            kind: Kind::Baseline { cell },
            owners: vec![place],
            state: State::Waiting,
            failures: sweep
                .histories
                .remove(&TaskId::from(id))
                .unwrap_or_default(),
            checkpoint: None,
            revived: false,
            stored: None,
        };
        let idx = self.tasks.insert(task);
        self.requeue(idx);
    }

    /// Lets a run wait for its baseline.
    pub(super) fn park(&mut self, number: SweepNumber, id: BaselineId, parked: Parked) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        if matches!(parked, Parked::Fresh(_)) {
            sweep.n_parked += 1;
        }
        if let Some(need) = sweep.needs.get_mut(&id) {
            need.parked.push(parked);
        }
    }

    /// A baseline's evidence is there and durable.
    pub(super) fn solve(&mut self, number: SweepNumber, id: BaselineId, opened: &Opened) {
        if let Evidence::Baseline(evidence) = &opened.evidence {
            let evidence = evidence.as_ref().clone();
            let solved = Arc::new(SolvedBaseline { id, evidence });
            self.set_solved(number, id, solved, opened.mark());
        }
    }

    fn set_solved(
        &mut self,
        number: SweepNumber,
        id: BaselineId,
        solved: Arc<SolvedBaseline>,
        mark: u64,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let Some(need) = sweep.needs.get_mut(&id) else {
            return;
        };
        sweep.workload.baseline_solved(id, &solved.evidence);
        need.state = NeedState::Solved { solved, mark };
        if planted(Bug::LosesParkedRuns) {
            return;
        }
        for (position, planned) in self.wake(number, id).into_iter().rev() {
            if let Some(sweep) = self.sweeps.get_mut(&number) {
                sweep.ahead.push_front(Ahead { position, planned });
            }
        }
        self.unblock(number, id);
    }

    /// Empties a baseline's waiting list: live tasks become ready, fresh
    /// positions are returned in the order they came.
    fn wake(&mut self, number: SweepNumber, id: BaselineId) -> Vec<(u64, Planned)> {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return Vec::new();
        };
        let Some(need) = sweep.needs.get_mut(&id) else {
            return Vec::new();
        };
        let mut fresh = Vec::new();
        let mut live = Vec::new();
        for parked in std::mem::take(&mut need.parked) {
            match parked {
                Parked::Fresh(run) => fresh.push((run.position, run.planned)),
                Parked::Live(idx, task) => live.push((idx, task)),
            }
        }
        sweep.n_parked -= fresh.len() as u64;
        for (idx, task) in live {
            let waits = self
                .tasks
                .get(idx)
                .is_some_and(|found| found.id == task && matches!(found.state, State::Waiting));
            if waits {
                self.requeue(idx);
            }
        }
        fresh
    }

    /// A baseline is set aside: so are the runs that need it.
    pub(super) fn baseline_failed(
        &mut self,
        number: SweepNumber,
        id: BaselineId,
        kind: FailureKind,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let Some(need) = sweep.needs.get_mut(&id) else {
            return;
        };
        need.state = NeedState::Failed;
        let place = Place {
            sweep: number,
            position: need.position,
            baseline: true,
        };
        sweep.failed.insert(
            id.into(),
            Failed {
                place,
                kind,
                because_of: None,
            },
        );
        if planted(Bug::LosesParkedRunsOfFailedBaseline) {
            return;
        }
        for (position, planned) in self.wake(number, id) {
            self.blocked(number, position, &planned.id, id);
        }
    }

    /// A run whose baseline failed. Nothing is recorded: it follows from the
    /// baseline's own record.
    pub(super) fn blocked(
        &mut self,
        number: SweepNumber,
        position: u64,
        id: &TaskId,
        baseline: BaselineId,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        if sweep.failed.contains_key(id) || sweep.recorded.contains(&Key::from(id)) {
            sweep.duplicates += 1;
            return;
        }
        let kind = sweep
            .failed
            .get(&TaskId::from(baseline))
            .map(|failed| failed.kind);
        let kind = kind.unwrap_or(FailureKind::Crash);
        let place = sweep.place(position);
        sweep.failed.insert(
            *id,
            Failed {
                place,
                kind,
                because_of: Some(baseline),
            },
        );
        sweep.workload.set_aside(position, id, kind);
    }

    /// Takes up again the runs that a failed baseline had blocked.
    pub(super) fn unblock(&mut self, number: SweepNumber, baseline: BaselineId) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        sweep.failed.remove(&TaskId::from(baseline));
        if planted(Bug::KeepsRunsBlocked) {
            return;
        }
        let blocked: BTreeMap<u64, TaskId> = sweep
            .failed
            .iter()
            .filter(|(_, failed)| failed.because_of == Some(baseline))
            .map(|(id, failed)| (failed.place.position, *id))
            .collect();
        for (position, id) in blocked.into_iter().rev() {
            sweep.failed.remove(&id);
            sweep.workload.taken_up_again(position, &id);
            let planned = sweep.workload.task(position);
            sweep.ahead.push_front(Ahead { position, planned });
        }
    }
}
