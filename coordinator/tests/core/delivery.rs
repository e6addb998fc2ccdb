//! At least once on the wire, exactly once in the store.

use std::time::Duration;

use common::protocol::{HeldState, Outcome, ReceiptStatus, Report, SweepNumber};
use common::record::Evidence;
use coordinator::core::{CloseReason, Notice, SweepState};
use coordinator::testing::FakeWorkload;

use crate::scene::{SWEEP, Scene, held, result_of, result_with};

#[test]
fn a_sweep_of_three_tasks_runs_to_its_end() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(3));
    let a = s.join(1, 1, 2);
    s.work_off(&[a]);
    let (state, workload) = s.end_of(SWEEP);
    assert_eq!(state, SweepState::Finished);
    assert_eq!((workload.results.len(), s.store.results.len()), (3, 3));
    assert_eq!(s.store.sweeps[&SWEEP].0, SweepState::Finished);
}

#[test]
fn a_sweep_without_tasks_ends_at_once() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(0));
    assert_eq!(s.end_of(SWEEP).0, SweepState::Finished);
}

#[test]
fn a_receipt_leaves_after_the_commit() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.store_silent = true;
    s.finish(a, &[lease]);
    assert_eq!(s.receipts(a), []);
    assert_eq!(
        s.status(SWEEP).recorded,
        0,
        "gathered after the commit, too"
    );
    s.store_speaks();
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
}

#[test]
fn a_repeated_report_is_a_duplicate_and_changes_nothing() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.finish(a, std::slice::from_ref(&lease));
    s.finish(a, std::slice::from_ref(&lease));
    assert_eq!(
        s.statuses(a),
        [ReceiptStatus::Recorded, ReceiptStatus::Duplicate]
    );
    assert_eq!(s.status(SWEEP).recorded, 1);
    assert_eq!(s.store.conflicts.len(), 0);
}

#[test]
fn a_report_repeated_before_the_commit_is_acknowledged_after_it() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.store_silent = true;
    s.reports(a, vec![result_of(&lease), result_of(&lease)]);
    s.finish(a, &[lease]);
    assert_eq!(s.receipts(a), []);
    s.store_speaks();
    use ReceiptStatus::{Duplicate, Recorded};
    assert_eq!(s.statuses(a), [Recorded, Duplicate, Duplicate]);
}

#[test]
fn a_second_result_with_other_bits_raises_an_alarm_and_the_first_one_counts() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.finish(a, std::slice::from_ref(&lease));
    let first = s.store.results[&lease.id.task].clone();
    s.reports(a, vec![result_with(&lease, Evidence::Noop { seed: 99 })]);
    assert_eq!(
        s.statuses(a),
        [ReceiptStatus::Recorded, ReceiptStatus::Conflict]
    );
    assert_eq!(s.store.results[&lease.id.task], first);
    assert!(
        s.store
            .conflicts
            .contains(&(lease.id.task, lease.id.attempt))
    );
    assert!(
        s.notices
            .iter()
            .any(|notice| matches!(notice, Notice::Conflict { .. }))
    );
}

#[test]
fn evidence_of_another_kind_is_refused_and_the_task_tried_again() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.reports(a, vec![result_with(&lease, Evidence::Noop { seed: 12345 })]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Refused]);
    let again = s.lease(a);
    assert_eq!(again.id.task, lease.id.task);
    assert!(again.id.attempt > lease.id.attempt);
}

#[test]
fn a_report_about_a_task_that_was_never_leased_is_unknown() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let mut lease = s.lease(a);
    lease.id.task.0[5] ^= 1;
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Unknown]);
    assert_eq!(s.store.results.len(), 0);
}

#[test]
fn an_attempt_that_was_never_granted_is_unknown() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let mut lease = s.lease(a);
    lease.id.attempt.0 += 1;
    s.finish(a, std::slice::from_ref(&lease));
    lease.id.attempt.0 = u64::MAX;
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Unknown; 2]);
    assert_eq!(s.store.results.len(), 0);
}

#[test]
fn a_malformed_report_is_answered_and_counts_as_a_failed_attempt() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    for _ in 0..3 {
        assert_eq!(s.status(SWEEP).failed, 0);
        let lease = s.lease(a);
        let outcome = Outcome::Malformed {
            detail: "field `x` is missing".into(),
        };
        s.reports(
            a,
            vec![Report {
                lease: lease.id,
                outcome,
            }],
        );
    }
    let receipts = s.receipts(a);
    assert_eq!(receipts.len(), 3);
    assert!(
        receipts
            .iter()
            .all(|receipt| receipt.detail == "field `x` is missing")
    );
    assert_eq!(
        s.end_of(SWEEP).1.set_aside.len(),
        1,
        "set aside after the third"
    );
}

#[test]
fn no_attempt_number_is_granted_twice_over_restarts() {
    let mut s = Scene::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        s.sweep(FakeWorkload::noops(4));
        let a = s.join(1, 2, 2);
        for lease in s.leases(a) {
            assert!(seen.insert(lease.id.attempt));
        }
        s.restart();
    }
    assert_eq!(seen.len(), 6);
}

#[test]
fn a_second_hello_ends_the_session() {
    let mut s = Scene::new();
    let a = s.join(1, 1, 1);
    let hello = Scene::hello(1, 1, Vec::new());
    s.step(coordinator::core::Event::Hello { session: a, hello });
    assert_eq!(s.closed, [(a, CloseReason::SecondHello)]);
}

#[test]
fn messages_of_a_closed_session_are_ignored() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.disconnect(a);
    s.finish(a, std::slice::from_ref(&lease));
    assert_eq!(s.store.results.len(), 0);
    // The worker repeats it in its next session.
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
}

#[test]
fn equal_tasks_of_one_sweep_run_once() {
    use coordinator::testing::FakeTask;
    let task = |number| FakeTask {
        number,
        baseline: None,
    };
    let list = [1, 2, 1, 3, 2, 1].map(task).to_vec();
    let mut s = Scene::new();
    s.sweep(FakeWorkload::new(list, Vec::new()));
    let a = s.join(1, 1, 1);
    let mut leased = 0;
    loop {
        let leases = s.leases(a);
        if leases.is_empty() {
            break;
        }
        leased += leases.len();
        s.finish(a, &leases);
    }
    assert_eq!(leased, 3);
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!(workload.results.len(), 3);
}

#[test]
fn overlapping_sweeps_share_a_task_while_it_runs_and_after() {
    let mut s = Scene::new();
    let second = SweepNumber(2);
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let first = s.lease(a);
    s.sweep_as(second, 0, FakeWorkload::noops(3));
    s.finish(a, std::slice::from_ref(&first));
    let mut leased = vec![first.id.task];
    loop {
        let leases = s.leases(a);
        if leases.is_empty() {
            break;
        }
        leased.extend(leases.iter().map(|lease| lease.id.task));
        s.finish(a, &leases);
    }
    leased.sort();
    leased.dedup();
    assert_eq!(leased.len(), 3, "each of the three tasks was leased once");
    assert_eq!(s.end_of(SWEEP).1.results.len(), 2);
    assert_eq!(s.end_of(second).1.results.len(), 3);
}

#[test]
fn a_finished_sweep_that_is_extended_computes_only_what_is_new() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(3));
    let a = s.join(1, 1, 1);
    s.work_off(&[a]);
    s.end_of(SWEEP);
    s.restart();
    let second = SweepNumber(2);
    s.sweep_as(second, 0, FakeWorkload::noops(5));
    let a = s.join(1, 9, 9);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 2);
    s.finish(a, &leases);
    assert_eq!(s.end_of(second).1.results.len(), 5);
}

#[test]
fn theta_is_kept_while_a_sweep_wants_it() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(20));
    let a = s.join(1, 1, 1);
    s.work_off(&[a]);
    s.pass(Duration::from_millis(100));
    let largest = s.store.results.keys().next_back().copied().unwrap();
    let kept: Vec<_> = s.store.theta.keys().copied().collect();
    assert_eq!(kept, [largest]);
}
