//! A worker's process: the real session, and slots that compute with dice.

use std::collections::VecDeque;
use std::time::Duration;

use common::ids::WorkerId;
use common::pb::encode_evidence;
use common::protocol::{
    FailureKind, HandBack, Lease, LeaseId, Outcome, Profile, Report, TaskFailure, TaskResult, Work,
};
use common::record::Telemetry;
use coordinator::testing::compute;
use worker::session::{Config, Effect, Event, Session, SlotNumber, Timestamp};

use super::network::{LinkId, Side};
use super::world::{What, World, report};

#[derive(Debug)]
pub(super) struct SimWorker {
    n_slots: u32,
    /// Number of the process.
    pub(super) life: u32,
    pub(super) session: Option<Session>,
    pub(super) link: Option<LinkId>,
    pub(super) frozen_until: u64,
    slots: Vec<SimSlot>,
}

#[derive(Debug, Default)]
struct SimSlot {
    life: u32,
    /// The first one is being computed.
    tasks: VecDeque<Lease>,
    /// The first one has been asked to stop.
    stopping: bool,
}

impl SimWorker {
    pub(super) fn new(n_slots: u32) -> Self {
        Self {
            n_slots,
            life: 0,
            session: None,
            link: None,
            frozen_until: 0,
            slots: Vec::new(),
        }
    }
}

impl World {
    pub(super) fn worker_starts(&mut self, worker: usize) {
        let seed = self.dice.word();
        let this = &mut self.workers[worker];
        this.life += 1;
        this.frozen_until = 0;
        this.link = None;
        this.slots = (0..this.n_slots).map(|_| SimSlot::default()).collect();
        let mut id = [0; 16];
        id[0] = worker as u8;
        id[8..12].copy_from_slice(&this.life.to_le_bytes());
        let profile = Profile {
            name: format!("worker {worker}.{}", this.life),
            host: "simulated".into(),
            program_version: "0".into(),
            numerics_version: 1,
            numeric_levels: vec!["fma64-1".into()],
            slots: this.n_slots,
            threads_per_slot: 1,
            memory_per_slot: None,
        };
        let grace = Duration::from_secs(3);
        let config = Config {
            worker: WorkerId(id),
            profile,
            seed,
            grace,
        };
        this.session = Some(Session::new(config, Timestamp(self.now)));
        let life = this.life;
        self.after(Duration::from_millis(1), What::WorkerTicks { worker, life });
    }

    pub(super) fn worker_ticks(&mut self, worker: usize, life: u32) -> Result<(), String> {
        if self.workers[worker].life != life || self.workers[worker].session.is_none() {
            return Ok(());
        }
        if self.fault(self.scenario.faults.freezes) {
            self.stats.freezes += 1;
            let lasts = self.wait(10, 15_000).as_micros() as u64;
            self.workers[worker].frozen_until = self.now + lasts;
        }
        self.after(
            Duration::from_millis(20),
            What::WorkerTicks { worker, life },
        );
        if self.fault(self.scenario.faults.leaves) {
            self.stats.leaves += 1;
            let grace = self.wait(0, 6000);
            self.step_worker(worker, Event::Leave { grace })?;
        }
        self.step_worker(worker, Event::Tick)
    }

    pub(super) fn worker_hears(
        &mut self,
        worker: usize,
        life: u32,
        event: Event,
    ) -> Result<(), String> {
        if self.workers[worker].life == life {
            self.step_worker(worker, event)
        } else {
            Ok(())
        }
    }

    /// One step of the session, and its effects, unless it dies among them.
    pub(super) fn step_worker(&mut self, worker: usize, event: Event) -> Result<(), String> {
        let Some(session) = &mut self.workers[worker].session else {
            return Ok(());
        };
        let mut effects = Vec::new();
        session.step(Timestamp(self.now), event, &mut effects);
        session.check_invariants()?;
        for effect in effects {
            if self.fault(self.scenario.faults.worker_dies) {
                self.stats.worker_deaths += 1;
                self.worker_ends(worker);
                return Ok(());
            }
            self.worker_does(worker, effect);
        }
        Ok(())
    }

    /// The process is gone; another one comes in its place.
    fn worker_ends(&mut self, worker: usize) {
        self.workers[worker].session = None;
        if let Some(link) = self.workers[worker].link.take() {
            self.cut(link, Some(Side::Worker));
        }
        let wait = self.wait(100, 10_000);
        self.after(wait, What::WorkerStarts { worker });
    }

    fn worker_does(&mut self, worker: usize, effect: Effect) {
        let life = self.workers[worker].life;
        match effect {
            Effect::Connect => {
                let wait = self.latency() * 2;
                self.after(wait, What::Dialled { worker, life });
            }
            Effect::Send(message) => {
                self.check.is_reported(&message);
                if let Some(link) = self.workers[worker].link {
                    self.send_to_coordinator(link, message);
                }
            }
            Effect::Disconnect => {
                if let Some(link) = self.workers[worker].link.take() {
                    self.cut(link, Some(Side::Worker));
                }
            }
            Effect::Prepare(cell) => {
                let event = if self.fault(self.scenario.faults.cell_fails) {
                    Event::CellFailed {
                        cell: cell.id,
                        message: "simulated".into(),
                    }
                } else {
                    Event::CellReady(cell.id)
                };
                let wait = self.wait(0, 30);
                self.after(
                    wait,
                    What::WorkerHears {
                        worker,
                        life,
                        event,
                    },
                );
            }
            Effect::StartSlot(number) => {
                let slot = &mut self.workers[worker].slots[number.0 as usize];
                slot.life += 1;
                slot.tasks.clear();
                slot.stopping = false;
                let wait = self.wait(1, 50);
                let event = Event::SlotReady(number);
                self.after(
                    wait,
                    What::WorkerHears {
                        worker,
                        life,
                        event,
                    },
                );
            }
            Effect::Assign { slot, leases } => self.assign(worker, slot, leases),
            Effect::Stop { slot, leases } => self.stop(worker, slot, &leases),
            Effect::Exit(_) => self.worker_ends(worker),
        }
    }

    fn assign(&mut self, worker: usize, number: SlotNumber, leases: Vec<Lease>) {
        let slot = &mut self.workers[worker].slots[number.0 as usize];
        let idle = slot.tasks.is_empty();
        slot.tasks.extend(leases);
        if idle {
            self.slot_begins(worker, number.0 as usize);
        }
    }

    fn stop(&mut self, worker: usize, number: SlotNumber, leases: &[LeaseId]) {
        let index = number.0 as usize;
        let life = self.workers[worker].life;
        let slot = &mut self.workers[worker].slots[index];
        let named = |lease: &Lease| leases.iter().any(|stopped| stopped.task == lease.id.task);
        let mut answers = Vec::new();
        let mut kept = VecDeque::new();
        for (position, lease) in std::mem::take(&mut slot.tasks).into_iter().enumerate() {
            if position > 0 && named(&lease) {
                answers.push(report(lease.id, Outcome::HandBack(HandBack::default())));
            } else {
                slot.stopping |= position == 0 && named(&lease);
                kept.push_back(lease);
            }
        }
        slot.tasks = kept;
        let (slot_life, stopping) = (slot.life, slot.stopping);
        if !answers.is_empty() {
            self.slot_answers(worker, number, answers);
        }
        if stopping {
            let wait = self.wait(0, 20);
            self.after(
                wait,
                What::SlotEnds {
                    worker,
                    life,
                    slot: index,
                    slot_life,
                },
            );
        }
    }

    fn slot_begins(&mut self, worker: usize, slot: usize) {
        if self.workers[worker].slots[slot].tasks.is_empty() {
            return;
        }
        self.stats.executions += 1;
        let (low, high) = self.scenario.task;
        let lasts = self.dice.duration(low, high);
        let life = self.workers[worker].life;
        let slot_life = self.workers[worker].slots[slot].life;
        self.after(
            lasts,
            What::SlotEnds {
                worker,
                life,
                slot,
                slot_life,
            },
        );
    }

    pub(super) fn slot_ends(&mut self, worker: usize, life: u32, slot: usize, slot_life: u32) {
        let this = &self.workers[worker];
        if this.life != life || this.session.is_none() || this.slots[slot].life != slot_life {
            return;
        }
        if this.slots[slot].tasks.is_empty() {
            return;
        }
        let number = SlotNumber(slot as u32);
        if self.fault(self.scenario.faults.slot_dies) {
            self.stats.slot_deaths += 1;
            let slot = &mut self.workers[worker].slots[slot];
            slot.life += 1;
            slot.tasks.clear();
            let kind = FailureKind::Crash;
            let event = Event::SlotDied {
                slot: number,
                kind,
                message: "simulated".into(),
            };
            self.after(
                Duration::from_micros(50),
                What::WorkerHears {
                    worker,
                    life,
                    event,
                },
            );
            return;
        }
        let fails = self.fault(self.scenario.faults.task_fails);
        let kind = FailureKind::ALL[self.dice.below(6) as usize];
        let this = &mut self.workers[worker].slots[slot];
        let Some(lease) = this.tasks.pop_front() else {
            return;
        };
        let stopping = std::mem::take(&mut this.stopping);
        let outcome = if self.is_poison(&lease.work) {
            self.stats.task_failures += 1;
            failure(FailureKind::Panic)
        } else if fails {
            self.stats.task_failures += 1;
            failure(kind)
        } else if stopping {
            let checkpoint = Some(b"half way".to_vec().into());
            Outcome::HandBack(HandBack {
                checkpoint,
                evaluations: 1,
            })
        } else {
            let evidence = compute(&lease.id.task, &lease.work);
            let telemetry = Telemetry {
                seconds: self.mean_seconds(),
                ..Telemetry::default()
            };
            let evidence = encode_evidence(&evidence);
            Outcome::Result(TaskResult {
                evidence,
                telemetry,
                theta: vec![1.0],
            })
        };
        self.slot_answers(worker, number, vec![report(lease.id, outcome)]);
        self.slot_begins(worker, slot);
    }

    fn slot_answers(&mut self, worker: usize, slot: SlotNumber, reports: Vec<Report>) {
        let life = self.workers[worker].life;
        let event = Event::SlotReports { slot, reports };
        self.after(
            Duration::from_micros(30),
            What::WorkerHears {
                worker,
                life,
                event,
            },
        );
    }

    fn mean_seconds(&self) -> f64 {
        let (low, high) = self.scenario.task;
        (low + high).as_secs_f64() / 4.0
    }

    fn is_poison(&self, work: &Work) -> bool {
        let seed = match work {
            Work::Run { seed, .. } | Work::Noop { seed, .. } => *seed,
            Work::Baseline { .. } => return false,
        };
        let poison = u64::from(self.scenario.poison);
        poison > 0 && seed > 0 && seed.is_multiple_of(poison)
    }
}

fn failure(kind: FailureKind) -> Outcome {
    let message = "simulated".to_owned();
    Outcome::Failure(TaskFailure {
        kind,
        message,
        telemetry: Telemetry::default(),
    })
}
