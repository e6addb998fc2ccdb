//! Requests: sweeps come, are paused, resumed, cancelled, retried; the
//! coordinator stops.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::ids::{BaselineId, TaskId};
use common::planted::{Bug, planted};
use common::protocol::{LeaseId, SweepNumber};

use super::event::{Control, Denied, Done, Effect, NewSweep, TakeUp};
use super::journal::{Record, SweepState};
use super::sweep::{Ahead, NeedState, Sweep};
use super::task::{State, TaskIdx};
use super::{Core, Lifecycle, Stop};

impl Core {
    pub(super) fn on_sweep(&mut self, new: NewSweep) {
        // The driver numbers sweeps from the store, so a number that is taken
        // is the same sweep submitted twice: it goes on as it is.
        let Entry::Vacant(place) = self.sweeps.entry(new.number) else {
            return;
        };
        let sweep = place.insert(Sweep::new(new));
        if sweep.take_up != TakeUp::Nothing {
            // It was over; from now on a restart carries it on.
            self.journal.push(Record::Sweep {
                sweep: sweep.number,
                state: sweep.state,
                priority: sweep.priority,
            });
            sweep.last_ticket = self.journal.next();
        }
    }

    pub(super) fn on_control(&mut self, request: u64, control: Control) {
        let result = match control {
            Control::Pause(sweep) => self.set_state(sweep, SweepState::Paused, None),
            Control::Resume(sweep) => self.set_state(sweep, SweepState::Running, None),
            Control::Prioritise(sweep, priority) => {
                match self.sweeps.get(&sweep).map(|sweep| sweep.state) {
                    Some(state) => self.set_state(sweep, state, Some(priority)),
                    None => Err(Denied::NotActive(sweep)),
                }
            }
            Control::Cancel(sweep) => self.cancel(sweep),
            Control::Retry(sweep, tasks) => self.retry(sweep, tasks),
            Control::Stop {
                reason,
                finished,
                waits,
            } => {
                self.stop(reason, finished, waits);
                Ok(Done { tasks: 0 })
            }
        };
        match result {
            Ok(done) if !self.journal.records.is_empty() => {
                self.answer_when_durable(request, done);
            }
            result => self.effects.push(Effect::Answer { request, result }),
        }
    }

    fn set_state(
        &mut self,
        number: SweepNumber,
        state: SweepState,
        priority: Option<i32>,
    ) -> Result<Done, Denied> {
        let sweep = self
            .sweeps
            .get_mut(&number)
            .ok_or(Denied::NotActive(number))?;
        match sweep.state {
            SweepState::Running | SweepState::Paused => {}
            SweepState::Cancelled => return Err(Denied::Cancelled(number)),
            SweepState::Finished => return Err(Denied::NotActive(number)),
        }
        sweep.state = state;
        sweep.priority = priority.unwrap_or(sweep.priority);
        let priority = sweep.priority;
        self.journal.push(Record::Sweep {
            sweep: number,
            state,
            priority,
        });
        sweep.last_ticket = self.journal.next();
        Ok(Done { tasks: 0 })
    }

    /// Gives a sweep up. What other sweeps want too goes on for them; what is
    /// on its way to the store is still recorded.
    fn cancel(&mut self, number: SweepNumber) -> Result<Done, Denied> {
        self.set_state(number, SweepState::Cancelled, None)?;
        let Some(sweep) = self.sweeps.get_mut(&number) else {
            return Err(Denied::NotActive(number));
        };
        sweep.ahead.clear();
        sweep.again.clear();
        sweep.baselines_again.clear();
        sweep.adopted.clear();
        sweep.n_parked = 0;
        for need in sweep.needs.values_mut() {
            need.parked.clear();
        }
        let owned: Vec<TaskIdx> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.place_in(number).is_some())
            .map(|(idx, _)| idx)
            .collect();
        let mut dropped = 0;
        for idx in owned {
            dropped += u64::from(self.disown(number, idx));
        }
        Ok(Done { tasks: dropped })
    }

    /// Takes a sweep out of a task's owners, and ends a task that has no other.
    /// Returns whether it ended.
    fn disown(&mut self, number: SweepNumber, idx: TaskIdx) -> bool {
        if matches!(self.tasks[idx].state, State::Recording { .. }) {
            return false;
        }
        let task = &self.tasks[idx];
        let alone = task.owners.iter().all(|place| place.sweep == number);
        if alone {
            if let Some(grant) = self.end_lease(idx) {
                let lease = LeaseId {
                    task: self.tasks[idx].id,
                    attempt: grant.attempt,
                };
                self.revoke(grant.worker, lease);
            }
            self.unqueue(idx);
        } else if matches!(self.tasks[idx].state, State::Ready) {
            // Out of every ready set; back into the others' below.
            self.unqueue(idx);
        }
        let leased = matches!(self.tasks[idx].state, State::Leased(_));
        let task = &mut self.tasks[idx];
        let (mine, others): (Vec<_>, Vec<_>) = std::mem::take(&mut task.owners)
            .into_iter()
            .partition(|place| place.sweep == number);
        task.owners = others;
        if let Some(sweep) = self.sweeps.get_mut(&number) {
            for place in mine {
                if place.baseline {
                    sweep.live_baselines -= 1;
                } else if !planted(Bug::CancelForgetsLiveTasks) {
                    sweep.live -= 1;
                }
                sweep.leased -= u64::from(leased);
            }
        }
        if alone {
            self.tasks.remove(idx);
        } else if matches!(self.tasks[idx].state, State::Waiting) {
            // It may have been parked with the cancelled sweep's baseline: let
            // it be looked at for the others.
            self.requeue(idx);
        }
        alone
    }

    /// Tries set-aside tasks again: these, or all. A run that was blocked by
    /// its baseline is tried by trying the baseline.
    fn retry(&mut self, number: SweepNumber, tasks: Option<Vec<TaskId>>) -> Result<Done, Denied> {
        let sweep = self
            .sweeps
            .get_mut(&number)
            .ok_or(Denied::NotActive(number))?;
        if !sweep.is_active() {
            return Err(Denied::NotActive(number));
        }
        let wanted: BTreeSet<TaskId> = match tasks {
            None => sweep.failed.keys().copied().collect(),
            Some(tasks) => tasks.into_iter().collect(),
        };
        let mut runs: BTreeMap<u64, TaskId> = BTreeMap::new();
        let mut baselines: BTreeSet<BaselineId> = BTreeSet::new();
        for id in wanted {
            match sweep.failed.get(&id) {
                None => {}
                Some(failed) if failed.place.baseline => {
                    baselines.insert(BaselineId(id.0));
                }
                Some(failed) => match failed.because_of {
                    Some(baseline) => {
                        baselines.insert(baseline);
                    }
                    None => {
                        runs.insert(failed.place.position, id);
                    }
                },
            }
        }
        let forgotten: Vec<TaskId> = baselines
            .iter()
            .map(|id| TaskId::from(*id))
            .chain(runs.values().copied())
            .collect();
        let tasks = forgotten.len() as u64;
        if forgotten.is_empty() {
            return Ok(Done { tasks });
        }
        for id in &forgotten {
            sweep.histories.remove(id);
        }
        for (position, id) in runs.into_iter().rev() {
            sweep.failed.remove(&id);
            sweep.workload.taken_up_again(position, &id);
            let planned = sweep.workload.task(position);
            sweep.ahead.push_front(Ahead { position, planned });
        }
        self.journal.push(Record::TakenUpAgain {
            sweep: number,
            tasks: forgotten,
        });
        sweep.last_ticket = self.journal.next();
        for id in baselines {
            if let Some(need) = sweep.needs.get_mut(&id) {
                need.state = NeedState::Missing;
            }
        }
        // The blocked runs go back to the walk, which makes their baselines
        // live again.
        let missing: Vec<BaselineId> = self.missing_baselines(number);
        for id in missing {
            self.unblock(number, id);
        }
        Ok(Done { tasks })
    }

    fn missing_baselines(&self, number: SweepNumber) -> Vec<BaselineId> {
        let Some(sweep) = self.sweeps.get(&number) else {
            return Vec::new();
        };
        sweep
            .failed
            .keys()
            .map(|id| BaselineId(id.0))
            .filter(|id| {
                let need = sweep.needs.get(id);
                need.is_some_and(|need| matches!(need.state, NeedState::Missing))
            })
            .collect()
    }

    fn stop(&mut self, reason: String, finished: bool, waits: Option<Duration>) {
        self.lifecycle = Lifecycle::Stopping;
        let until = waits.map(|waits| self.now.after(waits));
        let stop = self.stop.insert(Stop {
            reason,
            finished,
            until,
        });
        for session in self.sessions.keys() {
            let message = stop.drain(self.now);
            self.effects.push(Effect::Send {
                session: *session,
                message,
            });
        }
    }
}
