//! Random sequences of events keep the invariants, and every task ends once.
//!
//! The workers here are worse than any real one: they report on leases they
//! never had, forget what they hold, and contradict themselves. `Scene::step`
//! checks the invariants after every event.

use std::time::Duration;

use common::protocol::{FailureKind, HeldState, Lease, SweepNumber};
use coordinator::core::{Config, Control, Event, SessionId, SweepState};
use coordinator::testing::{FakeTask, FakeWorkload};
use proptest::prelude::*;

use crate::scene::{Scene, held, result_with};

#[derive(Clone, Debug)]
enum Action {
    /// Comes, or comes back, with some of the leases that were ever granted.
    Join {
        worker: u8,
        slots: u32,
        window: u32,
        held: Vec<(usize, u8)>,
    },
    Credit {
        session: usize,
        window: u32,
    },
    Running {
        session: usize,
        lease: usize,
    },
    Finish {
        session: usize,
        lease: usize,
    },
    Contradict {
        session: usize,
        lease: usize,
    },
    Fail {
        session: usize,
        lease: usize,
        kind: usize,
    },
    HandBack {
        session: usize,
        lease: usize,
        checkpoint: bool,
    },
    Draining {
        session: usize,
    },
    Disconnect {
        session: usize,
    },
    Pass {
        millis: u64,
    },
    Silence,
    Speak,
    Break {
        broken: bool,
    },
    Control {
        sweep: u32,
        what: u8,
    },
    Restart,
}

fn any_action() -> impl Strategy<Value = Action> {
    let n = 0..1000_usize;
    let held = prop::collection::vec((n.clone(), 0..3_u8), 0..6);
    prop_oneof![
        4 => (0..4_u8, 1..4_u32, 0..9_u32, held)
            .prop_map(|(worker, slots, window, held)| Action::Join { worker, slots, window, held }),
        2 => (n.clone(), 0..12_u32)
            .prop_map(|(session, window)| Action::Credit { session, window }),
        2 => (n.clone(), n.clone())
            .prop_map(|(session, lease)| Action::Running { session, lease }),
        12 => (n.clone(), n.clone())
            .prop_map(|(session, lease)| Action::Finish { session, lease }),
        1 => (n.clone(), n.clone())
            .prop_map(|(session, lease)| Action::Contradict { session, lease }),
        4 => (n.clone(), n.clone(), 0..6_usize)
            .prop_map(|(session, lease, kind)| Action::Fail { session, lease, kind }),
        2 => (n.clone(), n.clone(), any::<bool>()).prop_map(|(session, lease, checkpoint)| {
            Action::HandBack { session, lease, checkpoint }
        }),
        1 => n.clone().prop_map(|session| Action::Draining { session }),
        2 => n.prop_map(|session| Action::Disconnect { session }),
        3 => (1..6000_u64).prop_map(|millis| Action::Pass { millis }),
        1 => Just(Action::Silence),
        2 => Just(Action::Speak),
        1 => any::<bool>().prop_map(|broken| Action::Break { broken }),
        2 => (1..3_u32, 0..6_u8).prop_map(|(sweep, what)| Action::Control { sweep, what }),
        1 => Just(Action::Restart),
    ]
}

fn any_tasks() -> impl Strategy<Value = Vec<FakeTask>> {
    let task = (0..14_u32, prop::option::of(0..3_u32))
        .prop_map(|(number, baseline)| FakeTask { number, baseline });
    prop::collection::vec(task, 0..25)
}

struct World {
    scene: Scene,
    plans: [Vec<FakeTask>; 2],
    rounds: Vec<Vec<FakeTask>>,
    sessions: Vec<(u8, SessionId)>,
    /// Everything that was ever granted.
    granted: Vec<Lease>,
    contradicted: bool,
    requests: u64,
}

impl World {
    fn new(plans: [Vec<FakeTask>; 2], rounds: Vec<Vec<FakeTask>>) -> Self {
        let config = Config {
            max_parked: 5,
            grace: Duration::from_millis(300),
            ..Config::default()
        };
        let scene = Scene::with(config);
        let (sessions, granted) = (Vec::new(), Vec::new());
        let mut world = Self {
            scene,
            plans,
            rounds,
            sessions,
            granted,
            contradicted: false,
            requests: 0,
        };
        world.submit();
        world
    }

    /// Submits the sweeps that the store does not hold as over.
    fn submit(&mut self) {
        for (i, plan) in self.plans.iter().enumerate() {
            let number = SweepNumber(i as u32 + 1);
            let over = self.scene.store.sweeps.get(&number);
            let over = over
                .is_some_and(|(s, _)| matches!(s, SweepState::Cancelled | SweepState::Finished));
            if !over {
                let workload = FakeWorkload::new(plan.clone(), self.rounds.clone());
                self.scene.sweep_as(number, i as i32, workload);
            }
        }
    }

    fn session(&self, n: usize) -> Option<SessionId> {
        (!self.sessions.is_empty()).then(|| self.sessions[n % self.sessions.len()].1)
    }

    fn collect(&mut self) {
        for (_, session) in self.sessions.clone() {
            self.granted.extend(self.scene.leases(session));
        }
    }

    fn join(&mut self, worker: u8, slots: u32, window: u32, brought: &[(usize, u8)]) {
        let states = [HeldState::Queued, HeldState::Running, HeldState::Finished];
        let mut back = Vec::new();
        for (n, state) in brought {
            if !self.granted.is_empty() {
                let lease = &self.granted[n % self.granted.len()];
                back.push(held(lease, states[usize::from(*state)]));
            }
        }
        let session = self.scene.rejoin(worker, slots, window, back);
        self.sessions.push((worker, session));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Join {
                worker,
                slots,
                window,
                held,
            } => {
                self.join(worker, slots, window, &held);
            }
            Action::Credit { session, window } => {
                if let Some(session) = self.session(session) {
                    self.scene.step(Event::Credit { session, window });
                }
            }
            Action::Disconnect { session } => {
                if let Some(session) = self.session(session) {
                    self.scene.disconnect(session);
                }
            }
            Action::Draining { session } => {
                if let Some(session) = self.session(session) {
                    self.scene.step(Event::Draining { session });
                }
            }
            Action::Running { session, lease } => self.on_lease(session, lease, |s, at, lease| {
                s.running(at, &[lease]);
            }),
            Action::Finish { session, lease } => self.on_lease(session, lease, |s, at, lease| {
                s.finish(at, &[lease]);
            }),
            Action::Contradict { session, lease } => {
                self.contradicted = true;
                self.on_lease(session, lease, |s, at, lease| {
                    let mut evidence = coordinator::testing::compute(&lease.id.task, &lease.work);
                    if let common::record::Evidence::Run(run) = &mut evidence {
                        run.value += 1.0;
                    }
                    s.reports(at, vec![result_with(&lease, evidence)]);
                });
            }
            Action::Fail {
                session,
                lease,
                kind,
            } => {
                self.on_lease(session, lease, |s, at, lease| {
                    s.fail(at, &lease, FailureKind::ALL[kind]);
                });
            }
            Action::HandBack {
                session,
                lease,
                checkpoint,
            } => {
                self.on_lease(session, lease, |s, at, lease| {
                    s.hand_back(at, lease.id, checkpoint.then_some(b"state"));
                });
            }
            Action::Pass { millis } => self.scene.pass(Duration::from_millis(millis)),
            Action::Silence => self.scene.store_silent = true,
            Action::Speak => self.scene.store_speaks(),
            Action::Break { broken } => self.scene.store_broken = broken,
            Action::Control { sweep, what } => self.control(sweep, what),
            Action::Restart => {
                self.scene.restart();
                self.sessions.clear();
                self.submit();
            }
        }
        self.collect();
    }

    fn control(&mut self, sweep: u32, what: u8) {
        let sweep = SweepNumber(sweep);
        self.requests += 1;
        let control = match what {
            0 => Control::Pause(sweep),
            1 | 2 => Control::Resume(sweep),
            3 => Control::Prioritise(sweep, i32::from(what)),
            // Cancelling is rare, so that most cases come to an end.
            4 if self.requests.is_multiple_of(7) => Control::Cancel(sweep),
            _ => Control::Retry(sweep, None),
        };
        self.scene.control(self.requests, control);
    }

    fn on_lease(
        &mut self,
        session: usize,
        lease: usize,
        act: impl FnOnce(&mut Scene, SessionId, Lease),
    ) {
        if let Some(session) = self.session(session)
            && !self.granted.is_empty()
        {
            let lease = self.granted[lease % self.granted.len()].clone();
            act(&mut self.scene, session, lease);
        }
    }

    /// Everything heals; honest workers do what is left.
    fn conclude(&mut self) {
        self.scene.store_broken = false;
        self.scene.store_speaks();
        for sweep in [1, 2] {
            self.control(sweep, 1);
        }
        self.scene.pass(Duration::from_secs(30));
        let honest = [self.scene.join(100, 3, 6), self.scene.join(101, 1, 2)];
        for _ in 0..60 {
            self.scene.pass_with(Duration::from_millis(1000), &honest);
            self.scene.work_off(&honest);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_every_task_ends_once(
        first in any_tasks(),
        second in any_tasks(),
        round in any_tasks(),
        actions in prop::collection::vec(any_action(), 1..120),
    ) {
        let mut world = World::new([first, second], vec![round]);
        for action in actions {
            world.act(action);
        }
        world.conclude();
        prop_assert!(world.scene.core.is_quiet(), "something is still going on");
        let status = world.scene.core.status();
        prop_assert!(status.sweeps.is_empty(), "{:?}", status.sweeps);
        for (number, (state, workload)) in &world.scene.ended {
            if *state == SweepState::Finished {
                let ended = workload.results.len() + workload.set_aside.len();
                prop_assert_eq!(ended, workload.distinct(), "sweep {}", number);
                if !world.contradicted {
                    prop_assert_eq!(workload.contradictions, 0);
                }
                for (task, bytes) in &workload.results {
                    prop_assert_eq!(bytes, &world.scene.store.results[task].bytes);
                }
            }
        }
        if !world.contradicted {
            prop_assert!(world.scene.store.conflicts.is_empty());
        }
    }
}
