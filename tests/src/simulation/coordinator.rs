//! The coordinator's process: the real scheduler, and the execution of its
//! effects one after another.

use std::time::Duration;

use common::protocol::SweepNumber;
use coordinator::core::{
    Config, Control, Core, Effect, Event, NewSweep, SessionId, SweepState, Timestamp,
};
use coordinator::testing::FakeWorkload;

use super::network::{LinkId, Side};
use super::scenario::Scenario;
use super::world::{What, World};

#[derive(Debug, Default)]
pub(super) struct SimCoordinator {
    pub(super) core: Option<Core>,
    /// Number of the process.
    pub(super) life: u32,
    pub(super) frozen_until: u64,
    requests: u64,
}

/// Settings of every simulated scheduler.
pub(super) fn config() -> Config {
    Config {
        lease: Duration::from_secs(4),
        heartbeat: Duration::from_millis(800),
        grace: Duration::from_millis(1500),
        max_parked: 30,
        ..Config::default()
    }
}

/// The sweeps of a scenario as new workloads.
pub(super) fn workloads(scenario: &Scenario) -> Vec<(SweepNumber, FakeWorkload)> {
    scenario
        .sweeps
        .iter()
        .enumerate()
        .map(|(i, rounds)| {
            let first = rounds.first().cloned().unwrap_or_default();
            let later = rounds.iter().skip(1).cloned().collect();
            (SweepNumber(i as u32 + 1), FakeWorkload::new(first, later))
        })
        .collect()
}

impl World {
    pub(super) fn coordinator_starts(&mut self) -> Result<(), String> {
        // The epoch is the life: claimed durably before anything else.
        self.coordinator.life += 1;
        let life = self.coordinator.life;
        self.store.open();
        self.check.begins(life);
        self.coordinator.core = Some(Core::new(config(), life, Timestamp(self.now)));
        self.coordinator.frozen_until = 0;
        for (number, workload) in workloads(&self.scenario) {
            let stored = self.store.durable.sweeps.get(&number).copied();
            let (state, priority) = stored.unwrap_or((SweepState::Running, 0));
            if matches!(state, SweepState::Running | SweepState::Paused) {
                let paused = state == SweepState::Paused;
                let workload = Box::new(workload);
                let new = NewSweep {
                    number,
                    priority,
                    paused,
                    take_up: coordinator::core::TakeUp::Nothing,
                    workload,
                };
                self.step_coordinator(Event::Sweep(new))?;
            }
        }
        self.after(Duration::from_millis(50), What::CoordinatorTicks { life });
        Ok(())
    }

    pub(super) fn coordinator_ticks(&mut self, life: u32) -> Result<(), String> {
        if life != self.coordinator.life || self.coordinator.core.is_none() {
            return Ok(());
        }
        if self.fault(self.scenario.faults.freezes) {
            self.stats.freezes += 1;
            let lasts = self.wait(10, 15_000).as_micros() as u64;
            self.coordinator.frozen_until = self.now + lasts;
        }
        self.after(Duration::from_millis(50), What::CoordinatorTicks { life });
        if self.fault(self.scenario.faults.controls) {
            self.somebody_wants_something()?;
        } else if self.now >= self.trouble_ends() {
            self.resume_all()?;
        }
        self.step_coordinator(Event::Tick)
    }

    fn somebody_wants_something(&mut self) -> Result<(), String> {
        self.stats.controls += 1;
        let sweep = SweepNumber(1 + self.dice.below(self.scenario.sweeps.len() as u64) as u32);
        let control = match self.dice.below(60) {
            0 => Control::Cancel(sweep),
            1..12 => Control::Pause(sweep),
            12..36 => Control::Resume(sweep),
            36..48 => Control::Prioritise(sweep, self.dice.below(3) as i32),
            _ => Control::Retry(sweep, None),
        };
        self.control(control)
    }

    /// When the trouble is over nobody leaves a sweep paused.
    fn resume_all(&mut self) -> Result<(), String> {
        let paused: Vec<SweepNumber> = self
            .coordinator
            .core
            .iter()
            .flat_map(|core| core.status().sweeps)
            .filter(|sweep| sweep.state == SweepState::Paused)
            .map(|sweep| sweep.number)
            .collect();
        for sweep in paused {
            self.control(Control::Resume(sweep))?;
        }
        Ok(())
    }

    fn control(&mut self, control: Control) -> Result<(), String> {
        self.coordinator.requests += 1;
        let request = self.coordinator.requests;
        self.step_coordinator(Event::Control { request, control })
    }

    pub(super) fn coordinator_hears(&mut self, life: u32, event: Event) -> Result<(), String> {
        if life == self.coordinator.life {
            self.step_coordinator(event)
        } else {
            Ok(())
        }
    }

    /// One step of the scheduler, and its effects, unless it dies among them.
    pub(super) fn step_coordinator(&mut self, event: Event) -> Result<(), String> {
        let Some(core) = &mut self.coordinator.core else {
            return Ok(());
        };
        let mut effects = Vec::new();
        core.step(Timestamp(self.now), event, &mut effects);
        core.check_invariants()?;
        for effect in effects {
            if self.fault(self.scenario.faults.coordinator_dies) {
                self.coordinator_dies();
                return Ok(());
            }
            self.coordinator_does(effect)?;
        }
        if self.fault(self.scenario.faults.coordinator_dies) {
            self.coordinator_dies();
        }
        Ok(())
    }

    fn coordinator_dies(&mut self) {
        self.stats.coordinator_deaths += 1;
        self.coordinator.core = None;
        let committed = self.dice.coin();
        self.store.interrupted(committed);
        let open: Vec<LinkId> = self.links.keys().copied().collect();
        for link in open {
            self.cut(link, Some(Side::Coordinator));
        }
        let wait = self.wait(1, 8000);
        self.after(wait, What::CoordinatorStarts);
    }

    fn coordinator_does(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Send { session, message } => {
                self.check.is_sent(&message, &self.store)?;
                self.send_to_worker(LinkId(session.0), message);
            }
            Effect::Refuse { session, refusal } => {
                return Err(format!(
                    "an honest worker was refused ({session:?}): {refusal}"
                ));
            }
            Effect::Close { session, .. } => self.coordinator_closes(session),
            Effect::Persist { ticket, records } => self.store_persists(ticket, records),
            Effect::Lookup { ticket, lookup } => self.store_looks_up(ticket, &lookup),
            Effect::SweepEnded {
                sweep,
                state,
                workload,
                ..
            } => {
                let workload = workload.into_any().downcast::<FakeWorkload>();
                let workload = workload.map_err(|_| "a workload of another kind came back")?;
                self.check
                    .sweep_ended(sweep, state, &workload, &self.store)?;
            }
            Effect::Answer { .. } | Effect::Notice(_) => {}
        }
        Ok(())
    }

    fn coordinator_closes(&mut self, session: SessionId) {
        let link = LinkId(session.0);
        self.cut(link, Some(Side::Coordinator));
    }
}
