//! Tasks that fail: tried again elsewhere, set aside, taken up again.

use std::time::Duration;

use common::protocol::{FailureKind, HeldState, ReceiptStatus};
use coordinator::core::{Control, Done, Notice, SweepState};
use coordinator::testing::{FakeTask, FakeWorkload};

use crate::scene::{SWEEP, Scene, fake, held};

#[test]
fn a_failed_task_goes_to_another_worker() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    let b = s.join(2, 1, 1);
    s.fail(a, &lease, FailureKind::Crash);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    assert_eq!(s.leases(a), []);
    let second = s.lease(b);
    s.finish(b, &[second]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 1);
}

#[test]
fn a_lone_worker_gets_its_failed_task_again() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.fail(a, &lease, FailureKind::Crash);
    assert_eq!(s.lease(a).id.task, lease.id.task);
}

#[test]
fn a_poison_task_is_set_aside_with_its_errors_and_the_sweep_goes_on() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let workers = [s.join(1, 1, 1), s.join(2, 1, 1), s.join(3, 1, 1)];
    let poison = s.leases(workers[0]).remove(0).id.task;
    s.restart();
    s.sweep(FakeWorkload::noops(2));
    let workers = [s.join(1, 1, 1), s.join(2, 1, 1), s.join(3, 1, 1)];
    let mut failed_on = Vec::new();
    loop {
        let mut any = false;
        for worker in workers {
            for lease in s.leases(worker) {
                any = true;
                if lease.id.task == poison {
                    failed_on.push(worker);
                    s.fail(worker, &lease, FailureKind::OutOfMemory);
                } else {
                    s.finish(worker, &[lease]);
                }
            }
        }
        if !any {
            break;
        }
    }
    failed_on.sort();
    failed_on.dedup();
    assert_eq!(failed_on.len(), 3, "three distinct workers tried it");
    let (state, workload) = s.end_of(SWEEP);
    assert_eq!(state, SweepState::Finished);
    assert_eq!((workload.results.len(), workload.set_aside.len()), (1, 1));
    assert_eq!(s.store.failures[&(SWEEP, poison)].len(), 3);
}

#[test]
fn a_task_set_aside_stays_so_over_a_restart_and_failures_go_on_counting() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.fail(a, &lease, FailureKind::InvalidTask);
    let other = s.lease(a);
    s.fail(a, &other, FailureKind::Panic);
    s.restart();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let again = s.lease(a);
    assert_eq!(
        again.id.task, other.id.task,
        "the invalid one is not tried again"
    );
    s.fail(a, &again, FailureKind::Panic);
    let (state, workload) = s.end_of(SWEEP);
    assert_eq!((state, workload.set_aside.len()), (SweepState::Finished, 2));
}

#[test]
fn retry_runs_exactly_the_failed_tasks_again() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(3));
    let a = s.join(1, 1, 1);
    let first = s.lease(a);
    s.fail(a, &first, FailureKind::InvalidTask);
    let second = s.lease(a);
    assert_eq!(fake(&s.core, SWEEP).set_aside.len(), 1);
    s.control(1, Control::Retry(SWEEP, None));
    assert_eq!(s.answers[&1], Ok(Done { tasks: 1 }));
    s.finish(a, &[second]);
    let again = s.lease(a);
    assert_eq!(again.id.task, first.id.task);
    s.finish(a, &[again]);
    s.work_off(&[a]);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!((workload.results.len(), workload.set_aside.len()), (3, 0));
}

#[test]
fn missing_data_is_waited_for_before_the_next_try() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.fail(a, &lease, FailureKind::DataUnavailable);
    assert_eq!(s.leases(a), []);
    s.pass(Duration::from_millis(400));
    assert_eq!(s.leases(a), []);
    s.pass(Duration::from_millis(200));
    assert_eq!(s.lease(a).id.task, lease.id.task);
}

#[test]
fn a_silent_worker_fails_what_it_was_computing_and_nothing_else() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(10));
    let a = s.join(1, 1, 2);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 2);
    s.running(a, &leases[..1]);
    s.pass(Duration::from_secs(11));
    assert_eq!(s.store.failures.len(), 1);
    assert!(s.store.failures.contains_key(&(SWEEP, leases[0].id.task)));
}

#[test]
fn a_worker_that_fails_at_everything_is_sent_away_while_there_is_another() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(100));
    let bad = s.join(1, 1, 1);
    let mut failures = 0;
    let good = s.join(2, 1, 1);
    for _ in 0..20 {
        for lease in s.leases(bad) {
            s.fail(bad, &lease, FailureKind::Crash);
            failures += 1;
        }
        let leases = s.leases(good);
        s.finish(good, &leases);
    }
    assert_eq!(failures, 8);
    assert_eq!(s.drains(bad), [(true, None)], "for good");
    assert!(
        s.notices
            .iter()
            .any(|notice| matches!(notice, Notice::WorkerDistrusted { .. }))
    );
    s.work_off(&[good]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 100);
}

#[test]
fn a_result_that_comes_after_all_ends_the_set_aside() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.pass(Duration::from_secs(11));
    let b = s.join(2, 1, 1);
    let second = s.lease(b);
    assert_eq!(second.id.task, lease.id.task);
    s.fail(b, &second, FailureKind::InvalidTask);
    assert_eq!(fake(&s.core, SWEEP).set_aside.len(), 1);
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    s.work_off(&[a, b]);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!((workload.results.len(), workload.set_aside.len()), (2, 0));
    assert!(s.store.set_aside.is_empty());
}

/// Found by the property in `properties`: the position was counted twice.
#[test]
fn a_task_that_is_brought_along_set_aside_and_then_has_a_result_is_counted_once() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(5));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.restart();
    s.sweep(FakeWorkload::noops(5));
    // The walk has not met the position that the worker brings along.
    let a = s.rejoin(1, 1, 0, vec![held(&lease, HeldState::Running)]);
    s.fail(a, &lease, FailureKind::InvalidTask);
    s.finish(a, &[lease]);
    let b = s.join(2, 5, 5);
    s.work_off(&[b]);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!((workload.results.len(), workload.set_aside.len()), (5, 0));
}

fn runs(count: u32) -> FakeWorkload {
    let run = |number| FakeTask {
        number,
        baseline: Some(0),
    };
    FakeWorkload::new((0..count).map(run).collect(), Vec::new())
}

#[test]
fn runs_wait_for_their_baseline_and_carry_it() {
    use common::protocol::Work;
    let mut s = Scene::new();
    s.sweep(runs(3));
    let a = s.join(1, 4, 8);
    let baseline = s.lease(a);
    assert!(baseline.place.baseline);
    assert!(matches!(baseline.work, Work::Baseline { .. }));
    s.finish(a, &[baseline]);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 3);
    assert!(
        leases
            .iter()
            .all(|lease| matches!(lease.work, Work::Run { .. }))
    );
    s.finish(a, &leases);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!((workload.results.len(), workload.baselines.len()), (3, 1));
    assert_eq!(workload.contradictions, 0);
}

#[test]
fn a_baseline_set_aside_takes_its_runs_along_until_it_is_retried() {
    let mut s = Scene::new();
    let mut list: Vec<_> = (0..3)
        .map(|number| FakeTask {
            number,
            baseline: Some(0),
        })
        .collect();
    list.push(FakeTask {
        number: 9,
        baseline: None,
    });
    s.sweep(FakeWorkload::new(list, Vec::new()));
    let a = s.join(1, 1, 1);
    let baseline = s.lease(a);
    assert!(baseline.place.baseline);
    s.fail(a, &baseline, FailureKind::InvalidTask);
    assert_eq!(s.status(SWEEP).failed, 3);
    let rest = s.lease(a);
    s.control(1, Control::Retry(SWEEP, None));
    assert_eq!(s.answers[&1], Ok(Done { tasks: 1 }));
    s.finish(a, &[rest]);
    s.work_off(&[a]);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!((workload.results.len(), workload.set_aside.len()), (4, 0));
}

#[test]
fn a_baseline_that_failed_blocks_its_runs_after_a_restart_too() {
    let mut s = Scene::new();
    s.sweep(runs(3));
    let a = s.join(1, 1, 1);
    let baseline = s.lease(a);
    s.fail(a, &baseline, FailureKind::InvalidTask);
    assert_eq!(s.end_of(SWEEP).1.set_aside.len(), 3);
    s.restart();
    s.sweep(runs(3));
    assert_eq!(s.end_of(SWEEP).1.set_aside.len(), 3);
}
