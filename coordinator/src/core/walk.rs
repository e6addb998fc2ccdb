//! The walk over a sweep's plan: from positions to tasks that can be leased.
//!
//! The plan is asked for a chunk of tasks at a time, and the store for what it
//! knows of them: results are taken as they are, the others go ahead to be
//! leased. The walk stays a few chunks before the workers, so nothing here
//! grows with the number of planned tasks.
//!
//! Baselines are met on the way; see `baseline`.

use std::collections::BTreeSet;

use common::ids::{BaselineId, IdMap, IdSet, TaskId};
use common::planted::{Bug, planted};
use common::protocol::{FailureKind, Place, SweepNumber};

use super::Core;
use super::event::{Effect, Notice};
use super::journal::{Known, Lookup, Opened, Record, Ticket};
use super::ledger::Key;
use super::sweep::{Ahead, Failed, Need, NeedState, Parked, Ready, Sweep};
use super::task::{State, Task, TaskIdx};
use super::time::Timestamp;
use crate::workload::PlannedWork;

/// Most tasks of one lookup.
const CHUNK: u64 = 1024;
/// Lookups of one sweep on their way: while one is answered, the next waits
/// at the store.
const LOOKUPS: usize = 2;

/// A lookup that has not been answered.
#[derive(Debug)]
pub(super) struct PendingLookup {
    pub(super) sweep: SweepNumber,
    pub(super) runs: Vec<Ahead>,
    pub(super) baselines: Vec<BaselineId>,
    /// When to ask again, after a failure.
    pub(super) again: Option<Timestamp>,
    pub(super) failures: u32,
}

impl PendingLookup {
    fn lookup(&self) -> Lookup {
        let runs = self.runs.iter().map(|run| run.planned.id);
        let baselines = self.baselines.iter().map(|id| TaskId::from(*id));
        Lookup {
            sweep: self.sweep,
            tasks: runs.chain(baselines).collect(),
        }
    }
}

/// What became of the next position ahead.
pub(super) enum Met {
    /// There is none that can be looked at now.
    Nothing,
    /// It needs no lease, or not yet.
    Settled,
    /// It is a live task now, in no queue.
    Live(TaskIdx),
}

impl Core {
    /// Asks for the next tasks of every running sweep, as far as the workers
    /// can soon use them.
    pub(super) fn walk_ahead(&mut self) {
        let windows: u64 = self
            .workers
            .values()
            .map(|worker| u64::from(worker.window))
            .sum();
        // Two lookups on their way keep store and scheduler busy at a time.
        let target = (2 * windows + 256).clamp(2 * CHUNK, 32 * CHUNK);
        let running: Vec<SweepNumber> = self
            .sweeps
            .values()
            .filter(|sweep| sweep.is_active())
            .map(|sweep| sweep.number)
            .collect();
        for number in running {
            while let Some(pending) = self.next_chunk(number, target) {
                let lookup = pending.lookup();
                self.last_lookup += 1;
                let ticket = Ticket(self.last_lookup);
                if let Some(sweep) = self.sweeps.get_mut(&number) {
                    sweep.n_lookups += 1;
                    sweep.n_in_lookup += pending.runs.len() as u64;
                }
                self.lookups.insert(ticket, pending);
                self.effects.push(Effect::Lookup { ticket, lookup });
            }
        }
    }

    fn next_chunk(&mut self, number: SweepNumber, target: u64) -> Option<PendingLookup> {
        let max_parked = self.config.max_parked as u64;
        let sweep = self.sweeps.get_mut(&number)?;
        if sweep.n_lookups >= LOOKUPS {
            return None;
        }
        let mut runs = std::mem::take(&mut sweep.again);
        let mut baselines = std::mem::take(&mut sweep.baselines_again);
        // Recorded or dropped positions leave no trace in the chunk, so go on
        // until there is something to ask.
        while sweep.walked < sweep.workload.len()
            && (runs.len() as u64) < CHUNK
            && sweep.ahead.len() as u64 + sweep.n_in_lookup + (runs.len() as u64) < target
            && sweep.n_parked < max_parked
        {
            let position = sweep.walked;
            sweep.walked += 1;
            let planned = sweep.workload.task(position);
            // One that a returning worker brought along and failed at since is asked for all the
            // same: the store may have its result.
            if !sweep.failed.contains_key(&planned.id) && sweep.adopted.remove(&position) {
                continue;
            }
            if sweep.recorded.contains(&Key::from(&planned.id)) {
                sweep.duplicates += 1;
                continue;
            }
            if let PlannedWork::Run { baseline, .. } = &planned.work {
                sweep.needs.entry(*baseline).or_insert_with(|| {
                    baselines.push(*baseline);
                    Need {
                        position,
                        state: NeedState::Asked,
                        parked: Vec::new(),
                    }
                });
            }
            runs.push(Ahead { position, planned });
        }
        if runs.is_empty() && baselines.is_empty() {
            return None;
        }
        Some(PendingLookup {
            sweep: number,
            runs,
            baselines,
            again: None,
            failures: 0,
        })
    }

    pub(super) fn on_found(&mut self, ticket: Ticket, mut known: Known) {
        // An answer to a question that was withdrawn, or a second answer.
        let Some(pending) = self.lookups.remove(&ticket) else {
            return;
        };
        let number = pending.sweep;
        // Set aside in the store, and yet at work or recorded: a worker that returned before the
        // answer brought it along, or another sweep has it. So it is not given up.
        let results: IdMap<TaskId, Opened> = known.results.into_iter().collect();
        let at_work: IdSet<TaskId> = known
            .set_aside
            .iter()
            .filter(|id| results.contains_key(*id) || self.goes_on(number, id))
            .filter(|_| !planted(Bug::LeavesResultBesideFailure))
            .copied()
            .collect();
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        sweep.n_lookups -= 1;
        sweep.n_in_lookup -= pending.runs.len() as u64;
        if !sweep.is_active() {
            return;
        }
        let (again, set_aside): (Vec<TaskId>, Vec<TaskId>) = (known.set_aside.iter())
            .partition(|id| sweep.take_up.takes(id) || at_work.contains(id));
        if !again.is_empty() {
            known.failures.retain(|(id, _)| !again.contains(id));
            self.journal.push(Record::TakenUpAgain {
                sweep: number,
                tasks: again,
            });
            sweep.last_ticket = self.journal.next();
        }
        for (id, failure) in known.failures {
            // Equal tasks of a plan are asked for, and answered, more than once.
            let history = sweep.histories.entry(id).or_default();
            let is_new = history.iter().all(|past| past.attempt != failure.attempt);
            if is_new || planted(Bug::ReadsFailuresTwice) {
                history.push(failure);
            }
        }
        for (id, state, evaluations) in known.checkpoints {
            sweep.checkpoints.insert(id, (state, evaluations));
        }
        let set_aside: IdSet<TaskId> = set_aside.into_iter().collect();
        for (id, opened) in &results {
            // Given up before the store was asked, while its result was there.
            self.settle_failed(id, opened);
            if let Some(idx) = self.tasks.find(id) {
                self.tasks[idx].stored = Some(opened.clone());
            }
        }
        for baseline in pending.baselines {
            self.meet_baseline(number, baseline, &results, &set_aside);
        }
        for run in pending.runs {
            self.meet_looked_up(number, run, &results, &set_aside);
        }
    }

    /// Whether some sweep computes a task or has its result, and this sweep has not given it up.
    fn goes_on(&self, number: SweepNumber, id: &TaskId) -> bool {
        let key = Key::from(id);
        let baseline = BaselineId(id.0);
        let need = |sweep: &Sweep| sweep.needs.get(&baseline).map(|need| need.state.clone());
        let given_up = self.sweeps.get(&number).is_some_and(|sweep| {
            sweep.failed.contains_key(id) || matches!(need(sweep), Some(NeedState::Failed))
        });
        let has_result = |sweep: &Sweep| {
            sweep.recorded.contains(&key) || matches!(need(sweep), Some(NeedState::Solved { .. }))
        };
        !given_up && (self.tasks.find(id).is_some() || self.sweeps.values().any(has_result))
    }

    fn meet_looked_up(
        &mut self,
        number: SweepNumber,
        run: Ahead,
        results: &IdMap<TaskId, Opened>,
        set_aside: &IdSet<TaskId>,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let id = run.planned.id;
        if sweep.adopted.remove(&run.position) && !planted(Bug::IgnoresAdoption) {
            return;
        }
        if sweep.recorded.contains(&Key::from(&id)) || sweep.failed.contains_key(&id) {
            sweep.duplicates += 1;
            return;
        }
        if self.tasks.find(&id).is_none() {
            if let Some(opened) = results.get(&id)
                && !planted(Bug::IgnoresFoundResults)
            {
                self.take_recorded(number, run.position, &id, opened);
                if let PlannedWork::Run { baseline, .. } = run.planned.work {
                    // The summary needs it even if no run does any more.
                    self.need(number, baseline, run.position);
                }
                return;
            }
            if set_aside.contains(&id) {
                let kind = sweep
                    .histories
                    .remove(&id)
                    .and_then(|past| Some(past.last()?.kind));
                let kind = kind.unwrap_or(FailureKind::Crash);
                let place = sweep.place(run.position);
                sweep.failed.insert(
                    id,
                    Failed {
                        place,
                        kind,
                        because_of: None,
                    },
                );
                sweep.workload.set_aside(run.position, &id, kind);
                return;
            }
        }
        if let Some(sweep) = self.sweeps.get_mut(&number) {
            sweep.ahead.push_back(run);
        }
    }

    /// Gathers a durable result into a sweep.
    pub(super) fn take_recorded(
        &mut self,
        number: SweepNumber,
        position: u64,
        id: &TaskId,
        opened: &Opened,
    ) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        sweep.recorded.enter(Key::from(id), opened.mark());
        sweep.histories.remove(id);
        sweep.checkpoints.remove(id);
        let released = sweep.workload.recorded(position, id, opened);
        if !released.is_empty() {
            self.journal.push(Record::ReleaseTheta {
                sweep: number,
                tasks: released,
            });
        }
    }

    /// Looks at the next position ahead.
    pub(super) fn meet_next(&mut self, number: SweepNumber) -> Met {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return Met::Nothing;
        };
        if sweep.n_parked >= self.config.max_parked as u64 {
            return Met::Nothing;
        }
        let Some(run) = sweep.ahead.pop_front() else {
            return Met::Nothing;
        };
        self.meet(number, run).map_or(Met::Settled, Met::Live)
    }

    /// Settles the positions at the front that need no worker: no worker may
    /// be there, and the sweep be over all the same.
    pub(super) fn settle_ahead(&mut self) {
        let numbers: Vec<SweepNumber> = self.sweeps.keys().copied().collect();
        for number in numbers {
            while self.front_needs_no_worker(number) {
                self.meet_next(number);
            }
        }
    }

    fn front_needs_no_worker(&self, number: SweepNumber) -> bool {
        let Some(sweep) = self.sweeps.get(&number) else {
            return false;
        };
        let Some(run) = sweep.ahead.front() else {
            return false;
        };
        if sweep.n_parked >= self.config.max_parked as u64 {
            return false;
        }
        let (id, key) = (&run.planned.id, Key::from(&run.planned.id));
        let blocked = match &run.planned.work {
            PlannedWork::Run { baseline, .. } => {
                let need = sweep.needs.get(baseline);
                need.is_some_and(|need| matches!(need.state, NeedState::Failed))
            }
            PlannedWork::Noop { .. } => false,
        };
        blocked
            || sweep.adopted.contains(&run.position)
            || sweep.failed.contains_key(id)
            || self.tasks.find(id).is_some()
            || self
                .sweeps
                .values()
                .any(|sweep| sweep.recorded.contains(&key))
    }

    /// Makes a position a live task in no queue, unless it is none, waits for
    /// its baseline, or is another's already.
    fn meet(&mut self, number: SweepNumber, run: Ahead) -> Option<TaskIdx> {
        let id = run.planned.id;
        let key = Key::from(&id);
        let sweep = self.sweeps.get_mut(&number)?;
        if sweep.adopted.remove(&run.position) && !planted(Bug::IgnoresAdoption) {
            return None;
        }
        if sweep.recorded.contains(&key) || sweep.failed.contains_key(&id) {
            sweep.duplicates += 1;
            return None;
        }
        let baseline = match &run.planned.work {
            PlannedWork::Run { baseline, .. } => Some(*baseline),
            PlannedWork::Noop { .. } => None,
        };
        if let Some(idx) = self.tasks.find(&id) {
            if let Some(baseline) = baseline {
                self.need(number, baseline, run.position);
            }
            self.share(number, idx, run.position);
            return None;
        }
        let others = self.sweeps.values().filter(|other| other.number != number);
        if others
            .into_iter()
            .any(|other| other.recorded.contains(&key))
        {
            // Recorded since it was looked up; the store has the evidence.
            if let Some(sweep) = self.sweeps.get_mut(&number) {
                sweep.again.push(run);
            }
            return None;
        }
        if let Some(baseline) = baseline {
            match self.need(number, baseline, run.position) {
                NeedState::Solved { .. } => {}
                NeedState::Failed => {
                    self.blocked(number, run.position, &id, baseline);
                    return None;
                }
                NeedState::Asked | NeedState::Missing | NeedState::Live => {
                    self.park(number, baseline, Parked::Fresh(run));
                    return None;
                }
            }
        }
        let sweep = self.sweeps.get_mut(&number)?;
        sweep.live += 1;
        let task = Task {
            id,
            kind: run.planned.work.into(),
            owners: vec![sweep.place(run.position)],
            state: State::Waiting,
            failures: sweep.histories.remove(&id).unwrap_or_default(),
            checkpoint: sweep.checkpoints.remove(&id),
            revived: false,
            stored: None,
        };
        Some(self.tasks.insert(task))
    }

    /// A position whose task is live already, for this sweep or another one.
    fn share(&mut self, number: SweepNumber, idx: TaskIdx, position: u64) {
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return;
        };
        let task = &mut self.tasks[idx];
        if task.place_in(number).is_some() {
            sweep.duplicates += 1;
            return;
        }
        let place = sweep.place(position);
        sweep.live += 1;
        Self::add_owner(sweep, task, idx, place);
    }

    pub(super) fn add_owner(sweep: &mut Sweep, task: &mut Task, idx: TaskIdx, place: Place) {
        task.owners.push(place);
        match task.state {
            State::Ready => {
                sweep.ready.insert(Ready::new(place, idx));
            }
            State::Leased(_) => sweep.leased += 1,
            State::Delayed { .. } | State::Waiting | State::Recording { .. } => {}
        }
    }

    pub(super) fn on_lookup_failed(&mut self, ticket: Ticket, error: String) {
        let pause = self.config.store_retry;
        let Some(pending) = self.lookups.get_mut(&ticket) else {
            return;
        };
        pending.failures += 1;
        let doublings = pending.failures.saturating_sub(1).min(4);
        pending.again = Some(self.now.after(pause * (1 << doublings)));
        self.notice(Notice::StoreFailing { error });
    }

    /// Asks once more what could not be answered.
    pub(super) fn repeat_lookups(&mut self) {
        let due: BTreeSet<Ticket> = self
            .lookups
            .iter()
            .filter(|(_, pending)| pending.again.is_some_and(|again| again <= self.now))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in due {
            if planted(Bug::ForgetsFailedLookups) {
                continue;
            }
            if let Some(pending) = self.lookups.get_mut(&ticket) {
                pending.again = None;
                let lookup = pending.lookup();
                self.effects.push(Effect::Lookup { ticket, lookup });
            }
        }
    }
}
