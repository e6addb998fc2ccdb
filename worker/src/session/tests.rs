//! The session alone: what it answers to leases, recalls, slots and a Drain.

use std::sync::Arc;
use std::time::Duration;

use common::ids::{CellId, TaskId, WorkerId};
use common::pb::encode_evidence;
use common::protocol::{
    Attempt, CellText, CoordinatorMessage, HandBack, Lease, LeaseId, Outcome, PROTOCOL, Place,
    Profile, Report, SweepNumber, TaskResult, Welcome, Work, WorkerMessage,
};
use common::record::{Evidence, Telemetry};

use super::{Config, Effect, Event, Session, SlotNumber, Timestamp};

/// A welcome session with ready slots, and the effects of its last step.
struct Scene {
    session: Session,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Scene {
    fn new(slots: u32, grace: Duration) -> Self {
        let config = Config {
            worker: WorkerId([1; 16]),
            profile: Profile {
                name: "w".into(),
                host: "here".into(),
                program_version: "0".into(),
                numerics_version: 1,
                numeric_levels: vec!["fma64-1".into()],
                slots,
                threads_per_slot: 1,
                memory_per_slot: None,
            },
            seed: 1,
            grace,
        };
        let mut scene = Self {
            session: Session::new(config, Timestamp(0)),
            now: Timestamp(0),
            effects: Vec::new(),
        };
        scene.step(Event::Tick);
        scene.step(Event::Connected);
        scene.hear(CoordinatorMessage::Welcome(Welcome {
            protocol: PROTOCOL,
            epoch: 1,
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            drop: Vec::new(),
            numeric_level: "fma64-1".into(),
        }));
        for slot in 0..slots {
            scene.step(Event::SlotReady(SlotNumber(slot)));
        }
        scene
    }

    fn step(&mut self, event: Event) {
        self.effects.clear();
        self.session.step(self.now, event, &mut self.effects);
        self.session
            .check_invariants()
            .expect("the invariants hold after every step");
    }

    fn hear(&mut self, message: CoordinatorMessage) {
        self.step(Event::Message(message));
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        self.step(Event::Tick);
    }

    fn answer(&mut self, slot: u32, lease: &Lease, outcome: Outcome) {
        let lease = lease.id;
        self.step(Event::SlotReports {
            slot: SlotNumber(slot),
            reports: vec![Report { lease, outcome }],
        });
    }

    /// Tasks that slots were given in the last step, by their first byte.
    fn assigned(&self) -> Vec<(u32, Vec<u8>)> {
        let assigned = self.effects.iter().filter_map(|effect| match effect {
            Effect::Assign { slot, leases } => {
                let tasks = leases.iter().map(|lease| lease.id.task.0[0]).collect();
                Some((slot.0, tasks))
            }
            _ => None,
        });
        assigned.collect()
    }

    /// Tasks that slots were asked to stop in the last step.
    fn stopped(&self) -> Vec<(u32, Vec<u8>)> {
        let stopped = self.effects.iter().filter_map(|effect| match effect {
            Effect::Stop { slot, leases } => {
                let tasks = leases.iter().map(|lease| lease.task.0[0]).collect();
                Some((slot.0, tasks))
            }
            _ => None,
        });
        stopped.collect()
    }

    /// Messages with reports of the last step, as the tasks of each.
    fn reported(&self) -> Vec<Vec<u8>> {
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send(WorkerMessage::Reports(reports)) => {
                Some(reports.iter().map(|r| r.lease.task.0[0]).collect())
            }
            _ => None,
        });
        sent.collect()
    }
}

fn noop(task: u8) -> Lease {
    Lease {
        id: LeaseId {
            task: TaskId([task; 32]),
            attempt: Attempt(u64::from(task)),
        },
        place: Place {
            sweep: SweepNumber(1),
            position: u64::from(task),
            baseline: false,
        },
        work: Work::Noop {
            seed: 0,
            microseconds: 0,
        },
        checkpoint: None,
    }
}

fn with_checkpoint(task: u8, bytes: usize) -> Lease {
    Lease {
        checkpoint: Some(vec![0; bytes].into()),
        ..noop(task)
    }
}

fn done(seconds: f64) -> Outcome {
    Outcome::Result(TaskResult {
        evidence: encode_evidence(&Evidence::Noop { seed: 0 }),
        telemetry: Telemetry {
            seconds,
            ..Telemetry::default()
        },
        theta: Vec::new(),
    })
}

fn handed_back(bytes: Option<usize>) -> Outcome {
    Outcome::HandBack(HandBack {
        checkpoint: bytes.map(|bytes| vec![0; bytes].into()),
        evaluations: 0,
    })
}

/// A scene in which tasks are known to take this long.
fn paced(slots: u32, seconds: f64) -> Scene {
    let mut scene = Scene::new(slots, Duration::from_secs(25));
    scene.hear(CoordinatorMessage::Leases(vec![noop(0)]));
    scene.answer(0, &noop(0), done(seconds));
    scene
}

#[test]
fn empty_slots_share_what_there_is_whatever_the_pace() {
    // At 1 ms a slot would be given ten at a time.
    let mut scene = paced(3, 1e-3);
    scene.hear(CoordinatorMessage::Leases(vec![noop(1), noop(2), noop(3)]));
    let one_each = [(0, vec![1]), (1, vec![2]), (2, vec![3])];
    assert_eq!(scene.assigned(), one_each);
    for _ in 0..10 {
        scene.pass(Duration::from_millis(100));
        assert_eq!(scene.stopped(), [], "nobody sits on what another could do");
    }
}

#[test]
fn tiny_tasks_still_travel_many_at_a_time() {
    let mut scene = paced(2, 1e-4);
    scene.hear(CoordinatorMessage::Leases((1..=250).map(noop).collect()));
    let given: Vec<usize> = scene.assigned().iter().map(|(_, l)| l.len()).collect();
    assert_eq!(given, [100, 100]);
}

#[test]
fn baselines_do_not_teach_the_pace_of_runs() {
    let baseline = Lease {
        place: Place {
            baseline: true,
            ..noop(0).place
        },
        work: Work::Baseline {
            cell: Arc::new(CellText {
                id: CellId([9; 32]),
                json: String::new(),
            }),
        },
        ..noop(0)
    };
    let mut scene = Scene::new(1, Duration::from_secs(25));
    scene.hear(CoordinatorMessage::Leases(vec![baseline.clone()]));
    scene.step(Event::CellReady(CellId([9; 32])));
    assert_eq!(scene.assigned(), [(0, vec![0])]);
    scene.answer(0, &baseline, done(1e-4));
    scene.hear(CoordinatorMessage::Leases(vec![noop(1), noop(2)]));
    assert_eq!(scene.assigned(), [(0, vec![1])], "the other one waits here");
}

#[test]
fn a_task_that_sits_in_a_slot_goes_to_the_idle_one_and_stays_there() {
    let mut scene = paced(2, 1e-3);
    scene.hear(CoordinatorMessage::Leases(vec![noop(1), noop(2), noop(3)]));
    assert_eq!(scene.assigned(), [(0, vec![1, 2]), (1, vec![3])]);
    scene.answer(1, &noop(3), done(1e-3));
    scene.pass(Duration::from_millis(60));
    assert_eq!(scene.stopped(), [(0, vec![2])]);
    scene.answer(0, &noop(2), handed_back(None));
    assert_eq!(scene.assigned(), [(1, vec![2])]);
    scene.pass(Duration::from_millis(60));
    assert_eq!(scene.stopped(), []);
}

#[test]
fn a_recall_takes_back_what_a_slot_has_and_has_not_begun() {
    let mut scene = paced(1, 1e-3);
    scene.hear(CoordinatorMessage::Leases(vec![noop(1), noop(2)]));
    assert_eq!(scene.assigned(), [(0, vec![1, 2])]);
    let both = vec![noop(1).id, noop(2).id];
    scene.hear(CoordinatorMessage::Recall(both.clone()));
    assert_eq!(scene.stopped(), [(0, vec![2])], "the first one has begun");
    scene.hear(CoordinatorMessage::Recall(both));
    assert_eq!(scene.stopped(), [], "once");
    scene.answer(0, &noop(2), handed_back(None));
    assert_eq!(scene.reported(), [vec![2]]);
}

#[test]
fn large_checkpoints_go_to_a_slot_and_to_the_coordinator_one_by_one() {
    const LARGE: usize = 3 << 20;
    let mut scene = paced(1, 1e-3);
    let leases: Vec<Lease> = (1..=3).map(|task| with_checkpoint(task, LARGE)).collect();
    scene.hear(CoordinatorMessage::Leases(leases.clone()));
    assert_eq!(scene.assigned(), [(0, vec![1])]);
    scene.pass(Duration::ZERO);
    assert_eq!(scene.assigned(), [(0, vec![2])]);
    scene.pass(Duration::ZERO);
    assert_eq!(scene.assigned(), [(0, vec![3])]);
    let report = |lease: &Lease| Report {
        lease: lease.id,
        outcome: handed_back(Some(LARGE)),
    };
    scene.step(Event::SlotReports {
        slot: SlotNumber(0),
        reports: leases.iter().map(report).collect(),
    });
    assert_eq!(scene.reported(), [[1], [2], [3]]);
}

fn drain(waits: Option<Duration>) -> CoordinatorMessage {
    CoordinatorMessage::Drain {
        reason: "interrupted".into(),
        finished: false,
        waits,
    }
}

/// Seconds after a Drain when what runs is stopped.
fn stopped_after(grace: Duration, waits: Option<Duration>) -> u32 {
    let mut scene = Scene::new(1, grace);
    scene.hear(CoordinatorMessage::Leases(vec![noop(1)]));
    scene.hear(drain(waits));
    for second in 0..100 {
        if !scene.stopped().is_empty() {
            return second;
        }
        scene.pass(Duration::from_secs(1));
    }
    panic!("nothing was stopped");
}

#[test]
fn running_tasks_are_handed_back_while_the_coordinator_is_still_there() {
    let seconds = Duration::from_secs;
    let waits = Some(seconds(30));
    assert_eq!(stopped_after(seconds(60), waits), 23);
    assert_eq!(stopped_after(seconds(86_400), waits), 23);
    assert_eq!(stopped_after(seconds(25), waits), 20, "its own is shorter");
    assert_eq!(stopped_after(seconds(60), None), 55, "it stays there");
}
