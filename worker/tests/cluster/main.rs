//! The real worker with real slots, against a coordinator that does what the
//! test says, over real gRPC.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod coordinator;
mod process;

use std::time::Duration;

use common::canon::{CellIdentity, StartIdentity, baseline_id};
use common::decode::{decode_cell, decode_start};
use common::ids::{CellId, TaskId, to_hex};
use common::pb::{decode_evidence, encode_evidence};
use common::protocol::{
    Attempt, CellText, FailureKind, HeldState, Lease, LeaseId, Outcome, Place, Report,
    SolvedBaseline, SweepNumber, Work, WorkerMessage,
};
use common::record::{self, Evidence};
use coordinator::{Coordinator, Session};
use engine::task::{Cell, Threads};
use process::{Slot, Worker};
use sha2::{Digest, Sha256};

const DATA: &str = "a,b,y\n1,0,2\n2,1,1\n3,1,5\n4,3,3\n5,2,8\n6,5,4\n";

/// A cell with what a test needs to know of it, computed here and now.
struct Known {
    cell: Cell,
    identity: CellIdentity,
    text: std::sync::Arc<CellText>,
    solved: std::sync::Arc<SolvedBaseline>,
}

fn known(json: &str) -> Known {
    let spec = decode_cell(json).unwrap();
    let cell = Cell::new(spec, |_| Some(DATA.as_bytes())).unwrap();
    let identity = CellIdentity::new(cell.spec(), cell.data_identity()).unwrap();
    let baseline = baseline_id(cell.spec(), cell.data_identity());
    let text = CellText {
        id: identity.id(),
        json: json.to_owned(),
    };
    let solved = SolvedBaseline {
        id: baseline,
        evidence: cell.baseline(),
    };
    Known {
        cell,
        identity,
        text: text.into(),
        solved: solved.into(),
    }
}

impl Known {
    fn task(&self, seed: u64) -> TaskId {
        let start = StartIdentity::new(&decode_start("\"standard\"").unwrap()).unwrap();
        self.identity.task(&start, seed)
    }

    fn run(&self, seed: u64) -> Work {
        Work::Run {
            cell: self.text.clone(),
            seed,
            start: "\"standard\"".into(),
            baseline: self.solved.clone(),
        }
    }

    /// The evidence of a run as the engine gives it without any worker.
    fn alone(&self, seed: u64) -> bytes::Bytes {
        let start = decode_start("\"standard\"").unwrap();
        let baseline = &self.solved.evidence;
        let mut run = self
            .cell
            .run(&start, seed, baseline, |_| None, Threads::ONE)
            .unwrap();
        encode_evidence(&Evidence::Run(Box::new(run.to_end().evidence)))
    }
}

fn lease(task: TaskId, attempt: u64, work: Work) -> Lease {
    Lease {
        id: LeaseId {
            task,
            attempt: Attempt(attempt),
        },
        place: Place {
            sweep: SweepNumber(1),
            position: attempt,
            baseline: false,
        },
        work,
        checkpoint: None,
    }
}

fn noop(byte: u8, attempt: u64, wait: Duration) -> Lease {
    let microseconds = wait.as_micros() as u64;
    lease(
        TaskId([byte; 32]),
        attempt,
        Work::Noop {
            seed: u64::from(byte),
            microseconds,
        },
    )
}

fn small() -> Known {
    known(r#"{"data": "linnerud", "depth": 1, "width": 2, "activation": "tanh"}"#)
}

fn evidence(report: &Report) -> &bytes::Bytes {
    match &report.outcome {
        Outcome::Result(result) => &result.evidence,
        other => panic!("{} ended with {other:?}", report.lease),
    }
}

fn failure(report: &Report) -> FailureKind {
    match &report.outcome {
        Outcome::Failure(failure) => failure.kind,
        other => panic!("{} ended with {other:?}", report.lease),
    }
}

#[tokio::test]
async fn baselines_and_runs_come_back_with_the_bits_the_engine_gives_alone() {
    let known = small();
    let mut coordinator = Coordinator::start("secret").await;
    let worker = Worker::start(
        &coordinator.url,
        "secret",
        &["--slots", "2", "--threads", "2"],
    );
    let (mut session, hello) = coordinator.session().await;
    assert_eq!(
        (hello.profile.slots, hello.profile.threads_per_slot),
        (2, 2)
    );
    assert!(hello.held.is_empty());
    let solve = Work::Baseline {
        cell: known.text.clone(),
    };
    let mut leases = vec![lease(TaskId::from(known.solved.id), 1, solve)];
    leases.extend((0..4).map(|seed| lease(known.task(seed), 2 + seed, known.run(seed))));
    session.lease(leases).await;
    let reports = session.reports(5).await;
    let solved = decode_evidence(evidence(&reports[0])).unwrap();
    assert_eq!(
        solved,
        Evidence::Baseline(Box::new(known.solved.evidence.clone()))
    );
    for (seed, report) in (0..).zip(&reports[1..]) {
        assert_eq!(*evidence(report), known.alone(seed), "seed {seed}");
        let Evidence::Run(run) = decode_evidence(evidence(report)).unwrap() else {
            panic!()
        };
        assert_eq!(
            run.outcome,
            record::Outcome::CertifiedMinimum,
            "seed {seed}"
        );
        let Outcome::Result(result) = &report.outcome else {
            panic!()
        };
        assert_eq!(result.theta.len() as u64, run.parameters);
        assert!(result.telemetry.seconds > 0.0 && result.telemetry.peak_memory > 0);
    }
    // Nothing more to do: the worker ends by itself, and well.
    session.drain(true).await;
    assert_eq!(worker.ended().await, Some(0));
}

#[tokio::test]
async fn a_worker_with_the_wrong_token_gives_up_with_the_exit_code_of_bad_input() {
    let coordinator = Coordinator::start("secret").await;
    let worker = Worker::start(&coordinator.url, "guess", &["--slots", "1"]);
    assert_eq!(worker.ended().await, Some(2));
}

#[tokio::test]
async fn a_killed_slot_costs_its_task_an_attempt_and_nothing_else() {
    let mut coordinator = Coordinator::start("").await;
    let worker = Worker::start(&coordinator.url, "", &["--slots", "1"]);
    let (mut session, _) = coordinator.session().await;
    session
        .lease(vec![noop(1, 1, Duration::from_secs(3600))])
        .await;
    session.until_running(TaskId([1; 32])).await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 1);
    process::kill(slots[0]);
    let report = session.reports(1).await.remove(0);
    assert_eq!(report.lease.task, TaskId([1; 32]));
    assert!(
        matches!(
            failure(&report),
            FailureKind::Crash | FailureKind::OutOfMemory
        ),
        "{report:?}"
    );
    // The same worker, the same session, another process.
    session.lease(vec![noop(2, 2, Duration::ZERO)]).await;
    evidence(&session.reports(1).await[0]);
    assert_ne!(worker.slots(), slots, "the slot was killed and replaced");
    assert!(coordinator.no_other_session());
}

#[tokio::test]
async fn a_task_that_is_not_what_its_lease_says_is_refused_by_kind() {
    let known = small();
    let mut coordinator = Coordinator::start("").await;
    let _worker = Worker::start(&coordinator.url, "", &["--slots", "1"]);
    let (mut session, _) = coordinator.session().await;
    let text = |id, json: &str| {
        CellText {
            id,
            json: json.to_owned(),
        }
        .into()
    };
    let json = known.text.json.clone();
    let cases = [
        (known.task(7), known.run(8), FailureKind::IdentityMismatch),
        (
            TaskId([1; 32]),
            Work::Baseline {
                cell: text(known.identity.id(), &json),
            },
            FailureKind::IdentityMismatch,
        ),
        (
            TaskId([2; 32]),
            Work::Baseline {
                cell: text(CellId([5; 32]), &json),
            },
            FailureKind::IdentityMismatch,
        ),
        (
            TaskId([3; 32]),
            Work::Baseline {
                cell: text(CellId([6; 32]), r#"{"data": "no such", "depth": 1}"#),
            },
            FailureKind::InvalidTask,
        ),
    ];
    for (attempt, (task, work, kind)) in (1..).zip(cases) {
        session.lease(vec![lease(task, attempt, work)]).await;
        assert_eq!(
            failure(&session.reports(1).await[0]),
            kind,
            "case {attempt}"
        );
    }
}

#[tokio::test]
async fn files_come_by_hash_and_only_with_that_hash() {
    let hash: [u8; 32] = Sha256::digest(DATA).into();
    let cell = |sha256: &str, width: u32| {
        format!(
            r#"{{"data": {{"file": "d.csv", "sha256": "{sha256}"}}, "depth": 1, "width": {width},
                "activation": "tanh"}}"#
        )
    };
    let good = known(&cell(&to_hex(&hash), 1));
    // Another cell: equal data under another hash would be the same one.
    let missing = known(&cell(&"ab".repeat(32), 2));
    let mut coordinator = Coordinator::start("").await;
    coordinator.serve_blob(hash, DATA.as_bytes());
    let _worker = Worker::start(&coordinator.url, "", &["--slots", "1"]);
    let (mut session, _) = coordinator.session().await;
    session
        .lease(vec![lease(good.task(0), 1, good.run(0))])
        .await;
    assert_eq!(*evidence(&session.reports(1).await[0]), good.alone(0));
    session
        .lease(vec![lease(missing.task(0), 2, missing.run(0))])
        .await;
    assert_eq!(
        failure(&session.reports(1).await[0]),
        FailureKind::DataUnavailable
    );
}

#[test]
fn a_run_that_is_interrupted_and_continued_elsewhere_ends_with_the_same_bits() {
    // Gradient descent takes all the evaluations that it may.
    let known = known(
        r#"{"data": "diabetes", "depth": 2, "width": 4, "activation": "tanh", "optimizer": "gd",
            "polish": false, "budget": {"evaluations": 60000}}"#,
    );
    let mut first = Slot::start(&["--threads", "1"]);
    let mut run = lease(known.task(0), 2, known.run(0));
    let mut wait = Duration::ZERO;
    // Stopped before its first evaluation, it gets a little more time.
    let evaluations = loop {
        // The answer of the first task leaves when the run has begun.
        first.assign(vec![noop(1, 1, Duration::ZERO), run.clone()]);
        evidence(&first.report());
        std::thread::sleep(wait);
        first.stop(run.id);
        let report = first.report();
        let Outcome::HandBack(back) = report.outcome else {
            panic!("not handed back: {report:?}")
        };
        assert!(back.checkpoint.is_some());
        run.checkpoint = back.checkpoint;
        if back.evaluations > 0 {
            break back.evaluations;
        }
        wait += Duration::from_millis(1);
    };
    assert!(evaluations < 60_000, "the interruption came in the middle");

    let mut second = Slot::start(&["--threads", "2"]);
    second.assign(vec![run]);
    assert_eq!(*evidence(&second.report()), known.alone(0));
}

/// It comes from another worker: one of another build, one whose memory is broken.
#[test]
fn a_checkpoint_that_makes_no_sense_costs_time_and_nothing_else() {
    let known = small();
    let start = decode_start("\"standard\"").unwrap();
    let baseline = &known.solved.evidence;
    let mut over = known
        .cell
        .run(&start, 0, baseline, |_| None, Threads::ONE)
        .unwrap();
    while let engine::run::Progress::Paused = over.advance(&mut || false) {}
    let mut slot = Slot::start(&[]);
    // The second one has the right form: it panics when it is continued.
    for (attempt, checkpoint) in (1..).zip([b"nonsense".to_vec(), over.checkpoint()]) {
        let mut run = lease(known.task(0), attempt, known.run(0));
        run.checkpoint = Some(checkpoint.into());
        slot.assign(vec![run]);
        assert_eq!(*evidence(&slot.report()), known.alone(0), "case {attempt}");
    }
}

#[test]
fn a_slot_gives_back_what_has_not_begun_while_it_computes() {
    let mut slot = Slot::start(&[]);
    let (long, next) = (
        noop(1, 1, Duration::from_secs(3600)),
        noop(2, 2, Duration::ZERO),
    );
    let renamed = LeaseId {
        attempt: Attempt(9),
        ..long.id
    };
    slot.assign(vec![long, next.clone()]);
    slot.stop(next.id);
    let report = slot.report();
    assert_eq!(report.lease, next.id);
    assert!(matches!(report.outcome, Outcome::HandBack(_)), "{report:?}");
    // A lease is stopped under whatever number it has got since.
    slot.stop(renamed);
    assert!(matches!(slot.report().outcome, Outcome::HandBack(_)));
}

#[tokio::test]
async fn a_worker_that_is_told_to_leave_hands_back_what_it_has_and_ends_well() {
    let mut coordinator = Coordinator::start("").await;
    let worker = Worker::start(&coordinator.url, "", &["--slots", "1", "--grace", "4.5"]);
    let (mut session, _) = coordinator.session().await;
    let long = Duration::from_secs(3600);
    session
        .lease(vec![noop(1, 1, long), noop(2, 2, long)])
        .await;
    session.until_running(TaskId([1; 32])).await;
    worker.terminate();
    for report in session.reports(2).await {
        assert!(matches!(report.outcome, Outcome::HandBack(_)), "{report:?}");
    }
    assert_eq!(worker.ended().await, Some(0));
}

#[tokio::test]
async fn a_report_is_repeated_in_the_next_session_until_it_is_acknowledged() {
    let mut coordinator = Coordinator::start("").await;
    let _worker = Worker::start(&coordinator.url, "", &["--slots", "1"]);
    let (mut session, first) = coordinator.session().await;
    session.lease(vec![noop(1, 1, Duration::ZERO)]).await;
    let report = session.reports_unacknowledged(1).await.remove(0);
    drop(session);
    let (mut session, hello) = coordinator.session().await;
    assert_eq!(hello.worker, first.worker, "the same worker comes back");
    let held: Vec<_> = hello
        .held
        .iter()
        .map(|held| (held.lease, held.state))
        .collect();
    assert_eq!(held, [(report.lease, HeldState::Finished)]);
    let repeated = session.reports(1).await.remove(0);
    assert_eq!(evidence(&repeated), evidence(&report));
}

/// Killed while there is no coordinator, a worker leaves its results to the next one.
#[tokio::test]
async fn what_was_finished_without_a_coordinator_is_delivered_by_the_next_worker() {
    let spool = tempfile::tempdir().unwrap();
    let options = ["--slots", "1", "--spool", spool.path().to_str().unwrap()];
    let spooled = || {
        let files = std::fs::read_dir(spool.path()).unwrap();
        files
            .filter(|f| f.as_ref().unwrap().path().extension() == Some("report".as_ref()))
            .count()
    };
    let mut coordinator = Coordinator::start("").await;
    let worker = Worker::start(&coordinator.url, "", &options);
    let (mut session, first) = coordinator.session().await;
    let task = noop(1, 1, Duration::from_millis(300));
    session.lease(vec![task.clone()]).await;
    session.until_running(task.id.task).await;
    drop((session, coordinator));
    while spooled() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut coordinator = Coordinator::start("").await;
    let second = Worker::start(&coordinator.url, "", &options);
    assert_eq!(second.ended().await, Some(2), "the spool is in use");
    process::kill(worker.pid());
    assert_eq!(worker.ended().await, None, "killed, not ended");

    let _next = Worker::start(&coordinator.url, "", &options);
    let (mut session, hello) = coordinator.session().await;
    assert_ne!(hello.worker, first.worker, "another worker");
    let held: Vec<_> = hello
        .held
        .iter()
        .map(|h| (h.lease, h.place, h.state))
        .collect();
    assert_eq!(held, [(task.id, task.place, HeldState::Finished)]);
    let report = session.reports(1).await.remove(0);
    assert_eq!(
        decode_evidence(evidence(&report)).unwrap(),
        Evidence::Noop { seed: 1 }
    );
    while spooled() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_local_worker_and_its_slots_end_with_its_standard_input() {
    let mut coordinator = Coordinator::start("by line").await;
    let mut worker = Worker::local(&coordinator.url, "by line", &["--slots", "2"]);
    let (mut session, _) = coordinator.session().await;
    let long = Duration::from_secs(3600);
    session
        .lease(vec![noop(1, 1, long), noop(2, 2, long)])
        .await;
    session.until_running(TaskId([1; 32])).await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 2);
    worker.close_input();
    worker.ended().await;
    for slot in slots {
        process::gone(slot).await;
    }
}

#[tokio::test]
async fn slots_do_not_outlive_a_worker_that_is_killed() {
    let mut coordinator = Coordinator::start("").await;
    let worker = Worker::start(&coordinator.url, "", &["--slots", "1"]);
    let (mut session, _) = coordinator.session().await;
    session
        .lease(vec![noop(1, 1, Duration::from_secs(3600))])
        .await;
    session.until_running(TaskId([1; 32])).await;
    let slots = worker.slots();
    assert_eq!(slots.len(), 1);
    process::kill(worker.pid());
    assert_eq!(worker.ended().await, None, "killed, not ended");
    process::gone(slots[0]).await;
}

#[tokio::test]
async fn tiny_tasks_come_back_each_once() {
    const TASKS: usize = 2000;
    let mut coordinator = Coordinator::start("").await;
    let _worker = Worker::start(&coordinator.url, "", &["--slots", "2"]);
    let (mut session, _) = coordinator.session().await;
    let task = |i: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(i as u64).to_le_bytes());
        TaskId(id)
    };
    let work = |i: usize| Work::Noop {
        seed: i as u64,
        microseconds: 0,
    };
    session
        .lease(
            (0..TASKS)
                .map(|i| lease(task(i), i as u64, work(i)))
                .collect(),
        )
        .await;
    let reports = session.reports(TASKS).await;
    for (i, report) in reports.iter().enumerate() {
        assert_eq!(report.lease.attempt, Attempt(i as u64));
        assert_eq!(
            decode_evidence(evidence(report)).unwrap(),
            Evidence::Noop { seed: i as u64 }
        );
    }
}

impl Session {
    /// Waits until the worker says that it computes a task.
    async fn until_running(&mut self, task: TaskId) {
        loop {
            if let WorkerMessage::Heartbeat(beat) = self.next().await
                && beat.running.iter().any(|lease| lease.task == task)
            {
                return;
            }
        }
    }
}
